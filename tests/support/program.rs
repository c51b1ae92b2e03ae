//! Programs that tests start: waited for by what they print, and never left behind.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What a test waits for is there within a second or so; this is for machines that do much else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The path in `variable`, or a word about how to get there.
pub fn named_by(variable: &str, part: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    match &path {
        Some(path) => assert!(path.is_file(), "{variable} names {}, which is no file", path.display()),
        None => println!("skipped: set {variable} to {part}"),
    }
    path
}

/// Asks again and again, until there is an answer or the time is over.
pub fn until<T>(what: &str, ask: impl FnMut() -> Result<T, String>) -> T {
    until_within(PATIENCE, what, ask)
}

/// The same for what takes its time.
pub fn until_within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + patience;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(instead) => assert!(Instant::now() < end, "{what}: {instead}"),
        }
        // Leaves the processor to those who are waited for.
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Whether so many others want the processor that times say nothing.
pub fn busy() -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    load > std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)
}

/// Ports on loopback that nobody listened on a moment ago, all different.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

#[derive(Default)]
struct Said {
    text: String,
    ended: bool,
}

/// A running program; its end is the end of this value at the latest.
pub struct Program {
    child: Child,
    said: Arc<(Mutex<Said>, Condvar)>,
}

impl Program {
    /// Starts it and waits until its standard error has a line with `ready` in it.
    pub fn start(command: &mut Command, ready: &str) -> Result<Program, String> {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new((Mutex::new(Said::default()), Condvar::new()));
        let (theirs, mut errors) = (Arc::clone(&said), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while errors.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                theirs.0.lock().unwrap().text += &String::from_utf8_lossy(&line);
                theirs.1.notify_all();
                line.clear();
            }
            theirs.0.lock().unwrap().ended = true;
            theirs.1.notify_all();
        });
        let program = Program { child, said };
        let (lock, changed) = &*program.said;
        let waiting = |said: &mut Said| !said.ended && !said.text.contains(ready);
        let (said, _) = changed.wait_timeout_while(lock.lock().unwrap(), PATIENCE, waiting).unwrap();
        let text = said.text.clone();
        drop(said);
        if text.contains(ready) { Ok(program) } else { Err(format!("it never said {ready:?}:\n{text}")) }
    }

    /// The same for a program that is told which ports to use: somebody else may have taken one meanwhile.
    pub fn on_free_ports<const N: usize>(
        ready: &str,
        command: impl Fn([u16; N]) -> Command,
    ) -> (Program, [u16; N]) {
        let mut last = String::new();
        for _ in 0..3 {
            let ports = free_ports();
            match Program::start(&mut command(ports), ready) {
                Ok(program) => return (program, ports),
                Err(instead) => last = instead,
            }
        }
        panic!("{last}");
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn said(&self) -> String {
        self.said.0.lock().unwrap().text.clone()
    }

    /// Asks it to end, and waits until it did.
    pub fn end(self) -> (ExitStatus, String) {
        self.end_by(Signal::TERM)
    }

    pub fn end_by(mut self, how: Signal) -> (ExitStatus, String) {
        signal(&self.child, how);
        let (lock, changed) = &*self.said;
        let running = |said: &mut Said| !said.ended;
        let (said, late) = changed.wait_timeout_while(lock.lock().unwrap(), PATIENCE, running).unwrap();
        assert!(!late.timed_out(), "it does not end:\n{}", said.text);
        drop(said);
        let status = self.child.wait().unwrap();
        (status, self.said())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The factline program with an outbox in `dir`, and nothing that the machine's environment says.
pub fn factline(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_factline"));
    for (name, _) in std::env::vars_os() {
        if ["OTEL_", "FACTLINE_", "TRACEPARENT"].iter().any(|known| name.to_string_lossy().starts_with(known))
        {
            command.env_remove(name);
        }
    }
    command.env("FACTLINE_OUTBOX_DIR", dir.join("outbox")).env("FACTLINE_FILES_DIR", dir.join("files"));
    command
}

/// Runs it to its end, which has to be a good one.
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    output
}

/// The transcripts of all recorded sessions, with their names.
pub fn corpus() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let named = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), path.join("transcript.jsonl"))
    };
    let mut all: Vec<_> = std::fs::read_dir(root).unwrap().map(named).collect();
    all.retain(|(_, path)| path.exists());
    all.sort();
    assert!(all.len() >= 27, "only {} recorded sessions", all.len());
    all
}

/// The body of an answer to `GET path`.
pub fn get(port: u16, path: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // HTTP/1.0, so that the body comes in one piece and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no HTTP: {answer}"))?;
    if head.split(' ').nth(1) == Some("200") { Ok(body.to_owned()) } else { Err(format!("{head}\n{body}")) }
}
