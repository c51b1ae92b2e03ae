//! The real program in surroundings of its own: no variable of the machine reaches it, nothing of it stays.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The session of the demo, which is in the published crate as well.
pub const SESSION: &str = include_str!("../../src/cli/demo/session.jsonl");

pub struct Surroundings {
    pub dir: TempDir,
}

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Surroundings {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        Surroundings { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn outbox(&self) -> PathBuf {
        self.path("state/factline/outbox")
    }

    /// Where telemetry goes when nobody says where.
    pub fn files(&self) -> PathBuf {
        self.path("state/factline/otlp")
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn session(&self) -> PathBuf {
        self.write("session.jsonl", SESSION)
    }

    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_factline"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("XDG_STATE_HOME", self.path("state"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        ran(self.command(arguments).output().unwrap())
    }

    pub fn run_with<A: AsRef<OsStr>>(
        &self,
        variables: &[(&str, &str)],
        arguments: impl IntoIterator<Item = A>,
    ) -> Ran {
        ran(self.command(arguments).envs(variables.iter().copied()).output().unwrap())
    }
}

impl Ran {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails unless it ended so, and said each of these on standard error.
    #[track_caller]
    pub fn must(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in said {
            assert!(self.stderr.contains(word), "{word:?} is missing in {}", self.stderr);
        }
        assert!(!self.stderr.contains("a fault in factline"), "{}", self.stderr);
    }
}

pub fn ran(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs it with this on its standard input.
pub fn fed(mut command: Command, input: &[u8]) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that stops reading early is not this side's failure.
    let _ = stdin.write_all(input);
    drop(stdin);
    ran(child.wait_with_output().unwrap())
}

/// Every span in a file of OTLP JSON lines.
pub fn spans(path: &Path) -> Vec<Value> {
    records(path, "resourceSpans", "scopeSpans", "spans")
}

/// Every log record in a file of OTLP JSON lines.
pub fn logs(path: &Path) -> Vec<Value> {
    records(path, "resourceLogs", "scopeLogs", "logRecords")
}

fn records(path: &Path, resources: &str, scopes: &str, records: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let each = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    lines
        .flat_map(|line| each(&line, resources))
        .flat_map(|resource| each(&resource, scopes))
        .flat_map(|scope| each(&scope, records))
        .collect()
}

/// Ids of spans, in order.
pub fn span_ids(path: &Path) -> Vec<String> {
    let mut ids: Vec<String> =
        spans(path).iter().map(|span| span["spanId"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// Every file below a directory.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found
}
