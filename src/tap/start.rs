//! Starting the child, and what to say when that fails.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The child could not be started.
#[derive(Debug)]
pub struct StartError {
    command: OsString,
    why: Why,
    source: Option<io::Error>,
}

#[derive(Debug, PartialEq, Eq)]
enum Why {
    NoCommand,
    NotFound,
    InterpreterNotFound,
    NotExecutable,
    NoProgram,
    Other,
    Ourselves,
}

impl StartError {
    /// The exit code that a shell would give: 127 when there is no such command, 126 when it can't be executed;
    /// 2 when none was given, 1 when the relay itself could not be set up.
    pub fn exit_code(&self) -> u8 {
        match self.why {
            Why::NotFound => 127,
            Why::InterpreterNotFound | Why::NotExecutable | Why::NoProgram | Why::Other => 126,
            Why::NoCommand => 2,
            Why::Ourselves => 1,
        }
    }

    /// The relay around that command could not be set up.
    pub(super) fn ourselves(command: &OsStr, source: io::Error) -> StartError {
        StartError { command: command.into(), why: Why::Ourselves, source: Some(source) }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quoted and escaped: it may hold anything, also what a terminal would obey.
        let command = &self.command;
        let reason = self.source.as_ref().map(|source| source.to_string()).unwrap_or_default();
        match self.why {
            Why::NoCommand => {
                write!(f, "no command to run: give it after `--`, as in `factline tap -- codex app-server`")
            }
            Why::NotFound if command.as_encoded_bytes().contains(&b'/') => {
                write!(f, "can't start {command:?}: no such file; check the path")
            }
            Why::NotFound => write!(
                f,
                "can't start {command:?}: not found in any directory of PATH; check the name, or give the full path"
            ),
            Why::InterpreterNotFound => write!(
                f,
                "can't start {command:?}: it is there, but the interpreter or loader that it asks for is not; \
                 check its first line, or whether it was built for this system"
            ),
            Why::NotExecutable => write!(
                f,
                "can't start {command:?}: permission denied; it must be a file that this user may execute (chmod +x)"
            ),
            Why::NoProgram => write!(
                f,
                "can't start {command:?}: this system can't execute it; a script needs a first line like #!/bin/sh"
            ),
            Why::Other => write!(f, "can't start {command:?}: {reason}; try it without factline"),
            Why::Ourselves => write!(
                f,
                "can't set up the relay around {command:?}: {reason}; check the limits on open files and processes"
            ),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// Starts the child with pipes for stdin and stdout, and without the `hidden` variables; all else is as we have it.
///
/// The standard library opens the pipes close-on-exec, lets the child inherit our signal mask, which is the one
/// that we were started with, and turns its own ignoring of SIGPIPE back into the default.
pub(super) fn start(command: &[OsString], hidden: &[String]) -> Result<Child, StartError> {
    let Some((program, args)) = command.split_first() else {
        return Err(StartError { command: OsString::new(), why: Why::NoCommand, source: None });
    };
    let mut child = without(program, hidden);
    let started = child.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    started.map_err(|source| failed(program, source))
}

/// Starts a child that its clients reach by other ways: its standard streams are ours.
pub(super) fn start_beside(command: &[OsString], hidden: &[String]) -> Result<Child, StartError> {
    let Some((program, args)) = command.split_first() else {
        return Err(StartError { command: OsString::new(), why: Why::NoCommand, source: None });
    };
    without(program, hidden).args(args).spawn().map_err(|source| failed(program, source))
}

fn without(program: &OsString, hidden: &[String]) -> Command {
    let mut command = Command::new(program);
    hidden.iter().for_each(|name| {
        command.env_remove(name);
    });
    command
}

fn failed(program: &OsString, source: io::Error) -> StartError {
    StartError { command: program.clone(), why: why(program, &source), source: Some(source) }
}

fn why(program: &OsStr, error: &io::Error) -> Why {
    let by_path = program.as_encoded_bytes().contains(&b'/');
    match error.kind() {
        io::ErrorKind::NotFound if by_path && Path::new(program).exists() => Why::InterpreterNotFound,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Why::NotFound,
        io::ErrorKind::PermissionDenied => Why::NotExecutable,
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => Why::NoProgram,
        _ => Why::Other,
    }
}
