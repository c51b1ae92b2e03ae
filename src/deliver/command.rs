//! What a program of the user prints: a token, headers.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// No credential is longer; what prints more is the wrong program.
pub(super) const LENGTH_LIMIT: u64 = 64 << 10;
/// A command may have to ask a server. What it takes, delivery waits.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// How often to look whether a command that closed its output has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What `command`, the `what` of a destination, prints. Errors don't repeat its arguments and output, which may be credentials.
pub(super) fn run(what: &str, command: &[String], limit: Duration) -> Result<Vec<u8>, String> {
    let (program, arguments) = command.split_first().ok_or_else(|| format!("the {what} command is empty"))?;
    let deadline = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(arguments)
        .env_remove("FACTLINE_ANALYTICS_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // It would write between the lines of whoever runs us.
        .stderr(Stdio::null())
        // So that all of it can be ended when it takes too long.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("the {what} command {program:?} cannot be started: {error}"))?;
    let Some(stdout) = child.stdout.take() else { return Err(format!("the {what} command has no output")) };
    let (send, receive) = channel();
    let reading = std::thread::Builder::new().name("factline-command".to_owned()).spawn(move || {
        let mut text = Vec::new();
        let read = stdout.take(LENGTH_LIMIT + 1).read_to_end(&mut text);
        // The receiver is gone when the time is up.
        let _ = send.send(read.map(|_| text));
    });
    let text = match reading {
        Ok(_) => receive.recv_timeout(limit),
        Err(_) => Err(RecvTimeoutError::Disconnected),
    };
    let whole = matches!(&text, Ok(Ok(text)) if text.len() as u64 <= LENGTH_LIMIT);
    let ended = if whole { wait(&mut child, deadline) } else { None };
    if ended.is_none() {
        end(&mut child);
    }
    match (text, ended) {
        (Ok(Ok(text)), Some(status)) if status.success() => Ok(text),
        (Ok(Ok(_)), Some(status)) => Err(format!("the {what} command {program:?} failed: {status}")),
        (Ok(Ok(_)), None) if !whole => {
            Err(format!("the output of the {what} command {program:?} is longer than {LENGTH_LIMIT} bytes"))
        }
        (Ok(Err(error)), _) => Err(format!("the output of the {what} command {program:?}: {error}")),
        _ => Err(format!("the {what} command {program:?} did not end within {} s", limit.as_secs_f32())),
    }
}

fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
            _ => return None,
        }
    }
}

fn end(child: &mut Child) {
    let group = rustix::process::Pid::from_child(child);
    // It may just have ended by itself.
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<Vec<u8>, String> {
        run("token", &["sh", "-c", script].map(str::to_owned), limit)
    }

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn a_command_prints_what_it_likes_into_our_pipe() {
        assert_eq!(sh("echo ' abc '", LONG).unwrap(), b" abc \n");
    }

    #[test]
    fn a_command_that_fails_hangs_or_floods_is_ended_and_says_so_without_its_words() {
        for (script, limit, words) in [
            ("echo s3cret; exit 3", LONG, "failed: exit status: 3"),
            ("exec sleep 60", Duration::from_millis(50), "did not end"),
            ("sleep 60 & sleep 60", Duration::from_millis(50), "did not end"),
            ("exec >&-; sleep 60", Duration::from_millis(50), "did not end"),
            ("while :; do echo s3cret; done", LONG, "longer than 65536"),
        ] {
            let started = Instant::now();
            let error = sh(script, limit).unwrap_err();
            assert!(error.contains(words) && !error.contains("s3cret"), "{script}: {error}");
            assert!(started.elapsed() < LONG, "{script}");
        }
        let error = run("token", &["/nowhere/s".to_owned(), "s3cret".to_owned()], LONG).unwrap_err();
        assert!(error.contains("cannot be started") && !error.contains("s3cret"), "{error}");
    }
}
