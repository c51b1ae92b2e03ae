//! Signals sent to us, passed on to the child.
//!
//! The child is in our process group, so what the terminal sends (Ctrl-C, Ctrl-\, a new window size) has reached it
//! already, and must not reach it twice: many programs take the second Ctrl-C for "now!". The rule is who made the
//! signal: the kernel made it for the whole group, a process sent it to us. One exception: a terminal that goes away
//! tells only the session's leader, which may be us.
//!
//! Signals that are ignored when we start stay ignored, here and in the child (`nohup`, `&` in a script): they are
//! not caught, because catching one would make it the default in the child. Stopping and continuing (Ctrl-Z, `fg`)
//! is the business of the shell and is left alone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use rustix::process::Signal;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

use super::life::Life;

const PASSED_ON: [i32; 7] = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// The caught signals, waiting for a child.
pub(super) struct Signals {
    caught: SignalsInfo<WithOrigin>,
    leads_session: bool,
}

impl Signals {
    /// From here on the signals wait for [`pass_on`](Signals::pass_on).
    pub(super) fn catch() -> io::Result<Signals> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        if ignored & bit(SIGCHLD) != 0 {
            // Or the kernel would throw the child's exit code away.
            signal_hook::flag::register(SIGCHLD, Arc::new(AtomicBool::new(false)))?;
        }
        let caught = PASSED_ON.into_iter().filter(|signal| ignored & bit(*signal) == 0);
        Ok(Signals { caught: SignalsInfo::new(caught)?, leads_session: leads_session(&status) })
    }

    /// Passes them on to the child for as long as the process lives.
    pub(super) fn pass_on(mut self, life: Arc<Life>) -> io::Result<()> {
        thread::Builder::new().name("tap-signals".into()).spawn(move || {
            for origin in &mut self.caught {
                let Some(signal) = Signal::from_named_raw(origin.signal) else { continue };
                let ends_us = matches!(origin.signal, SIGTERM | SIGHUP | SIGINT | SIGQUIT);
                life.signal(signal, sent_to_us_alone(&origin, self.leads_session), ends_us);
            }
        })?;
        Ok(())
    }
}

fn sent_to_us_alone(origin: &Origin, leads_session: bool) -> bool {
    match origin.signal {
        // No terminal makes these.
        SIGTERM | SIGUSR1 | SIGUSR2 => true,
        SIGHUP if leads_session => true,
        _ => match origin.cause {
            Cause::Kernel => false,
            Cause::Sent(_) => true,
            // Some systems don't say; then only a process has a number.
            _ => origin.process.is_some_and(|process| process.pid > 0),
        },
    }
}

/// Read from the kernel's text: in a container whose session began outside, the call `getsid` answers 0, which is no
/// process number, and the types of its bindings can't say so.
#[cfg(target_os = "linux")]
fn leads_session(status: &str) -> bool {
    // One number per namespace, ours is the last.
    let ours = |name| line(status, name).and_then(|numbers| numbers.split_whitespace().last());
    ours("NSsid:").is_some_and(|session| ours("NSpid:") == Some(session))
}

#[cfg(not(target_os = "linux"))]
fn leads_session(_: &str) -> bool {
    rustix::process::getsid(None).is_ok_and(|session| session == rustix::process::getpid())
}

/// The signals ignored at our start, as the kernel's bit set. Where it doesn't tell (outside Linux): none.
fn ignored(status: &str) -> u64 {
    line(status, "SigIgn:").and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

fn line<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))
}

fn bit(signal: i32) -> u64 {
    u32::try_from(signal - 1).ok().and_then(|shift| 1u64.checked_shl(shift)).unwrap_or(0)
}
