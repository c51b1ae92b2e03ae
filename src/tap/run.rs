//! The life of a tap: start, relay, wait, leave.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::life::Life;
use super::pump::{self, Line};
use super::queue::Queue;
use super::signals::Signals;
use super::{Ended, Exit, OBSERVER_GRACE, Observer, StartError, Tap, Transport, start, watch};

/// Runs the command behind the relay until it has ended and what it wrote is relayed.
///
/// Uses the standard input and output of this process, and catches its signals for good: call it once, and leave
/// with [`Exit::code`] when it returns. Threads may still be blocked in a read, or in the observer.
///
/// # Errors
///
/// The command could not be started, or the relay could not be set up; then no child is running.
pub fn run(tap: Tap, observer: impl Observer + 'static) -> Result<Exit, StartError> {
    let name = tap.command.first().cloned().unwrap_or_default();
    let ourselves = |error| StartError::ourselves(&name, error);
    // Caught before there is a child, or a signal in between would end us and leave the child behind.
    let signals = Signals::catch().map_err(ourselves)?;
    let (child_ended, ends_pumps) = io::pipe().map_err(ourselves)?;
    let queue = Arc::new(Queue::new(tap.backlog_bytes));
    watch::start(Arc::clone(&queue), observer, tap.line_limit).map_err(ourselves)?;

    let mut child = start::start(&tap.command, &tap.hidden)?;
    let life = Arc::new(Life::of(&child));
    let client_closed = Arc::new(AtomicBool::new(false));
    // An observation without any room has none for the first connection either; nothing of number 0 is kept.
    let conn = queue.open(Transport::Stdio).unwrap_or_default();
    let line = Line { queue: Arc::clone(&queue), conn, child_ended: Arc::new(child_ended) };
    if let Err(error) =
        relay(&mut child, line, &life, &client_closed).and_then(|()| signals.pass_on(Arc::clone(&life)))
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(StartError::ourselves(OsStr::new(&name), error));
    }

    let status = life.wait_for(&mut child);
    let signal = status.and_then(|status| status.signal());
    let end = match signal {
        _ if client_closed.load(Ordering::Acquire) => Ended::ClientClosed,
        Some(_) => Ended::Killed,
        None => Ended::ServerExited,
    };
    drop(ends_pumps);
    life.wait_until_drained();
    queue.finish(end);
    let (observer, unobserved_bytes) = queue.wait_for_observer(OBSERVER_GRACE);
    Ok(Exit { code: exit_code(status), signal, observer, unobserved_bytes })
}

fn relay(child: &mut Child, line: Line, life: &Arc<Life>, client_closed: &Arc<AtomicBool>) -> io::Result<()> {
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("the pipes to the child are missing"));
    };
    let (life, client_closed, client_line) = (Arc::clone(life), Arc::clone(client_closed), line.clone());
    let spawn =
        |name: &str, work: Box<dyn FnOnce() + Send>| thread::Builder::new().name(name.into()).spawn(work);
    spawn(
        "tap-server",
        Box::new(move || {
            pump::server(&line, stdout.into());
            life.drained();
        }),
    )?;
    spawn(
        "tap-client",
        Box::new(move || {
            pump::client(&client_line, stdin.into(), || client_closed.store(true, Ordering::Release))
        }),
    )?;
    Ok(())
}

/// The child's own code, 128 + n for signal n, as a shell has it.
pub(super) fn exit_code(status: Option<ExitStatus>) -> u8 {
    // Without a status (somebody else has taken it) nothing is known, and that is no success.
    let code = status.map_or(Some(1), |status| status.code().or_else(|| status.signal().map(|n| 128 + n)));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
