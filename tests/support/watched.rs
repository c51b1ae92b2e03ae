//! A tap in front of a server that writes down what it said, and what a collector wrote down.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use factline::outbox::status;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::collector::Request;
use crate::ledger::read_by_python;
use crate::program::{factline, run, until};
use crate::received::{Received, text};

/// Nobody listens there.
pub const AWAY: &str = "http://127.0.0.1:1";

/// A server that says so many turns and writes down those that it said. They are called after it.
pub fn server(dir: &Path, name: u64, turns: u64) -> PathBuf {
    let path = dir.join(format!("server-{name}.sh"));
    let turn = format!("01a201f3-{name:04x}-7000-8000-%012x");
    let line = |method: &str, more: &str| {
        format!(
            r#"{{"method":"turn/{method}","params":{{"threadId":"01a201f3-{name:04x}-7603-bce4-c97c0b12c695","turn":{{"id":"{turn}"{more}}}}},"emittedAtMs":%d}}\n"#
        )
    };
    let script = format!(
        "exec 3>>'{}'\nn=0\nwhile [ $n -lt {turns} ]; do\n\
         printf '{}' $n $((1795329039590 + n * 10))\n\
         printf '{}' $n $((1795329039595 + n * 10)) || break\n\
         echo $n >&3\nn=$((n+1))\ndone\ncat > /dev/null\n",
        claims(dir, name).display(),
        line("started", ""),
        line("completed", r#","status":"completed","durationMs":5"#),
    );
    std::fs::write(&path, script).unwrap();
    path
}

pub fn claims(dir: &Path, name: u64) -> PathBuf {
    dir.join(format!("claimed-{name}"))
}

/// Turns that the server said, by its own account.
pub fn claimed(dir: &Path, name: u64) -> u64 {
    std::fs::read_to_string(claims(dir, name)).map_or(0, |text| text.lines().count() as u64)
}

pub struct Tap {
    pub process: Child,
    pub lines: Arc<AtomicU64>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn tap(dir: &Path, endpoint: &str, server: &Path) -> Tap {
    tap_with(dir, endpoint, server, Duration::from_millis(700))
}

/// One that waits so long for an answer.
pub fn tap_with(dir: &Path, endpoint: &str, server: &Path, timeout: Duration) -> Tap {
    let mut command = factline(dir);
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", timeout.as_millis().to_string())
        .env("FACTLINE_LOG", dir.join("tap.log"))
        .args(["tap", "--", "sh"])
        .arg(server)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut output = BufReader::new(process.stdout.take().unwrap());
    let lines = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&lines);
    std::thread::spawn(move || {
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            counted.fetch_add(1, Ordering::Release);
            line.clear();
        }
    });
    Tap { process, lines }
}

impl Tap {
    pub fn until_said(&self, lines: u64) {
        until("the server's lines", || {
            let now = self.lines.load(Ordering::Acquire);
            if now >= lines { Ok(()) } else { Err(format!("{now} of {lines}")) }
        });
    }

    /// Waits until the observer has come to the end: it may be behind, and an end waits only a little for it.
    pub fn until_observed(&self, dir: &Path, turns: u64) {
        until("the observer", || {
            let lanes = status(&dir.join("outbox")).map_err(|error| error.to_string())?;
            let queues = lanes.iter().flat_map(|lane| &lane.queues).filter(|queue| queue.name == "traces");
            let seen: u64 = queues.map(|queue| queue.delivered + queue.waiting.records).sum();
            if seen >= turns { Ok(()) } else { Err(format!("{seen} of {turns}")) }
        });
    }

    pub fn leave(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

/// The turn that a span is of.
pub fn turn(span: &Span) -> Option<String> {
    text(&span.attributes, "codex.turn.id").filter(|_| span.name.starts_with("invoke_agent"))
}

/// What a collector acknowledged, and what it took at all.
pub fn delivered(requests: &[Request], acknowledged: impl Fn(usize) -> bool) -> (Received, Received) {
    let (mut sure, mut all) = (Received::default(), Received::default());
    for (number, request) in requests.iter().enumerate() {
        all.add_request(&request.path, &request.body);
        if acknowledged(number) {
            sure.add_request(&request.path, &request.body);
        }
    }
    (sure, all)
}

/// Spans by their ids; each as often as it came, and always the same. How many came more than once.
pub fn once(all: &Received) -> (BTreeMap<Vec<u8>, Span>, usize) {
    let (mut spans, mut twice) = (BTreeMap::new(), 0);
    for of in &all.spans {
        let id = [&of.record.trace_id[..], &of.record.span_id].concat();
        if let Some(before) = spans.insert(id, of.record.clone()) {
            twice += 1;
            assert_eq!(before, of.record, "mangled: a duplicate that is another");
        }
    }
    let mut logs = BTreeMap::new();
    for of in &all.logs {
        let uid = text(&of.record.attributes, "log.record.uid").unwrap();
        if let Some(before) = logs.insert(uid, of.record.clone()) {
            twice += 1;
            assert_eq!(before, of.record, "mangled: a duplicate that is another");
        }
    }
    (spans, twice)
}

/// Finished spans that lie in the outbox, by the second reader.
pub fn accepted(dir: &Path) -> Option<Vec<Span>> {
    let outbox = dir.join("outbox");
    if !outbox.join("lanes").exists() {
        // Killed before it had begun.
        return Some(Vec::new());
    }
    let on_disk = read_by_python(&outbox)?;
    let records = on_disk.iter().filter(|it| it.queue == "traces" && it.kind == "record");
    Some(records.map(|it| Span::decode_length_delimited(&it.payload[1..]).expect("mangled")).collect())
}

/// Phantoms are turns that no server said. A server may not have come to write its last one down.
pub fn assert_no_phantoms(dir: &Path, spans: &BTreeMap<Vec<u8>, Span>, servers: std::ops::Range<u64>) {
    let known: BTreeMap<u64, u64> = servers.map(|name| (name, claimed(dir, name))).collect();
    for turn in spans.values().filter_map(turn) {
        let part = |range| u64::from_str_radix(turn.get(range).unwrap(), 16).unwrap();
        let (name, number) = (part(9..13), part(24..36));
        assert!(known.get(&name).is_some_and(|said| number <= *said), "phantom: {turn}");
    }
}

pub fn flush(dir: &Path, endpoint: &str) {
    run(factline(dir).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).args(["outbox", "flush"]));
}
