//! A tap as a process of its own: the test program starts itself again in the role of the tap, so that real pipes,
//! signals and exit codes are tested, with observers that no command line offers.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use factline::protocol::{Ended, Sender};
use factline::tap::{self, BACKLOG_BYTES, LINE_LIMIT, Line, Observer, Recorder, Seen, Tap};
use tempfile::TempDir;

/// What the test framework prints before lies before this.
const MARKER: &[u8] = b"\x01the tap begins\n";

/// How to start a tap.
pub struct Setup {
    pub observer: &'static str,
    pub line_limit: usize,
    pub backlog: usize,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { observer: "log", line_limit: LINE_LIMIT, backlog: BACKLOG_BYTES }
    }
}

/// A tap that runs.
pub struct Running {
    pub process: Child,
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    pub dir: TempDir,
}

/// How it ended.
#[derive(Debug)]
pub struct Left {
    pub code: Option<i32>,
    /// `Exit` in its debug form, or the error.
    pub exit: String,
    /// What the observer saw.
    pub log: Vec<String>,
}

pub fn sh(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(String::from).to_vec()
}

pub fn start(setup: &Setup, command: &[String]) -> Running {
    let mut program = Command::new(std::env::current_exe().unwrap());
    hears_signals(&mut program);
    start_in(program, setup, command)
}

/// Whoever runs the tests may ignore signals (`nohup`, a job in the background) or block them (a runner with
/// threads of its own), and a process inherits both: the tap is started as from a terminal.
#[allow(unsafe_code)]
pub fn hears_signals(program: &mut Command) {
    let heard = || {
        // SAFETY: both only change this process, between fork and exec, and may be called there.
        unsafe {
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1] {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { program.pre_exec(heard) };
}

/// Starts it by way of another program, whose command this is.
pub fn start_in(mut program: Command, setup: &Setup, command: &[String]) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let mut process = program
        .args(["tap_process::role", "--exact", "--nocapture", "--test-threads=1"])
        // Printing one takes longer than the relay waits for its observer.
        .env("RUST_BACKTRACE", "0")
        .env("TAP_ROLE", dir.path())
        .env("TAP_COMMAND", serde_json::to_string(command).unwrap())
        .env("TAP_OBSERVER", setup.observer)
        .env("TAP_LINE_LIMIT", setup.line_limit.to_string())
        .env("TAP_BACKLOG", setup.backlog.to_string())
        .env("OUT", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(dir.path().join("stderr")).unwrap())
        .spawn()
        .unwrap();
    let mut stdout = process.stdout.take().unwrap();
    let mut before = Vec::new();
    while !before.ends_with(MARKER) {
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap();
        before.extend(byte);
    }
    Running { stdin: process.stdin.take(), stdout: Some(stdout), process, dir }
}

impl Running {
    pub fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            self.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        String::from_utf8(line).unwrap().trim_end().into()
    }

    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stdout.as_mut().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.process), signal).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn wait(&mut self) -> Left {
        let code = self.process.wait().unwrap().code();
        let text = |name| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        Left { code, exit: text("exit"), log: text("log").lines().map(String::from).collect() }
    }

    pub fn finish(&mut self) -> Left {
        self.stdin = None;
        self.wait()
    }
}

/// Waits for it without ever sleeping longer than the scheduler wants.
pub fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

/// In the role of the tap; as a test of its own it does nothing.
#[test]
fn role() {
    let Some(dir) = std::env::var_os("TAP_ROLE").map(PathBuf::from) else { return };
    let number = |name| std::env::var(name).unwrap().parse().unwrap();
    let command: Vec<String> = serde_json::from_str(&std::env::var("TAP_COMMAND").unwrap()).unwrap();
    let tap = Tap {
        command: command.into_iter().map(Into::into).collect(),
        hidden: Vec::new(),
        line_limit: number("TAP_LINE_LIMIT"),
        backlog_bytes: number("TAP_BACKLOG"),
    };
    rustix::io::write(rustix::stdio::stdout(), MARKER).unwrap();
    let ended = match std::env::var("TAP_OBSERVER").unwrap().as_str() {
        "record" => {
            std::fs::create_dir(dir.join("rec")).unwrap();
            let recorder = Recorder::create(&dir.join("rec/transcript.jsonl")).unwrap();
            let recording = recorder.recording().clone();
            let ended = tap::run(tap, recorder);
            std::fs::write(dir.join("log"), recording.error().unwrap_or_default()).unwrap();
            ended
        }
        mode => tap::run(tap, Log::new(&dir, mode)),
    };
    let (code, text) = match ended {
        Ok(exit) => (exit.code, format!("{exit:?} {}", memory_peak())),
        Err(error) => (error.exit_code(), error.to_string()),
    };
    std::fs::write(dir.join("exit"), text).unwrap();
    std::process::exit(code.into());
}

fn memory_peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_string()
}

/// Writes down what it sees, and misbehaves as told.
struct Log {
    dir: PathBuf,
    mode: String,
    text: String,
}

impl Log {
    fn new(dir: &Path, mode: &str) -> Log {
        Log { dir: dir.into(), mode: mode.into(), text: String::new() }
    }
}

impl Observer for Log {
    fn line(&mut self, seen: Seen<'_>) {
        match self.mode.as_str() {
            "panic" => panic!("as told"),
            "block" => loop {
                std::thread::park();
            },
            // Until the test opens the other end, once.
            "gate" => {
                self.mode.clear();
                std::fs::write(self.dir.join("at the gate"), "").unwrap();
                drop(std::fs::OpenOptions::new().read(true).custom_flags(0).open(self.dir.join("gate")));
            }
            _ => {}
        }
        let line = match seen.line {
            Line::Whole(text) => format!("whole {}", text.escape_ascii()),
            Line::Oversized { len } => format!("oversized {len}"),
        };
        self.text += &format!("{} {} {} {line}\n", seen.dir.as_str(), seen.off, seen.len);
    }

    fn missed(&mut self, _: u32, dir: Sender, chunks: u64, bytes: u64) {
        self.text += &format!("{} missed {chunks} {bytes}\n", dir.as_str());
    }

    fn end(&mut self, _: u32, _: u64, end: Ended) {
        self.text += &format!("end {}\n", end.as_str());
        std::fs::write(self.dir.join("log"), &self.text).unwrap();
    }
}
