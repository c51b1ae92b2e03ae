//! `factline outbox` on directories that earlier programs left.
//!
//! `tests/support/outbox-format-1-otlp` was made by the program of the day on which it was added, and stays as it
//! is:
//! `FACTLINE_OUTBOX_RING_BYTES=65536 OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1 factline --outbox DIR replay
//! src/cli/demo/session.jsonl`. `outbox-format-1` is what a killed process left (`outbox_python::child`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::collector::{Collector, Reply};
use crate::program::factline;

/// What the fixture holds.
const LEFT: [(&str, u64); 3] = [("logs", 49), ("metrics", 1), ("traces", 42)];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// A copy of a fixture as the outbox of a new home, and the lane in it.
fn left(fixture: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(fixture);
    copy(&from, &dir.path().join("outbox"));
    let lane = fs::read_dir(dir.path().join("outbox/lanes")).unwrap().next().unwrap().unwrap().path();
    (dir, lane)
}

fn outbox(dir: &Path, url: &str, arguments: &[&str]) -> Output {
    let mut command = factline(dir);
    // Their times are of the day on which they were made.
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", url).env("FACTLINE_OUTBOX_MAX_AGE", "3650d");
    command.arg("outbox").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn look(dir: &Path, code: i32, arguments: &[&str]) -> String {
    let output = outbox(dir, "http://127.0.0.1:1", arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The numbers of a queue over all processes.
fn sum(dir: &Path, name: &str) -> Value {
    let status: Value = serde_json::from_str(&look(dir, 0, &["status", "--json"])).unwrap();
    status["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == name).cloned().unwrap()
}

#[test]
fn every_command_works_on_what_an_earlier_program_left() {
    let (dir, _) = left("outbox-format-1-otlp");
    for (name, records) in LEFT {
        let sum = sum(dir.path(), name);
        for of in ["accepted", "written", "waiting"] {
            assert_eq!(sum[of], records, "{of}: {sum}");
        }
        assert!(sum["bytes"].as_u64() > Some(0) && sum["last_error"]["text"].is_string(), "{sum}");
        let shown = look(dir.path(), 0, &["show", "--queue", name]);
        assert_eq!(shown.lines().count() as u64, records);
        shown.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap()));
    }
    look(dir.path(), 0, &["check"]);
    let collector = Collector::start(|_, _| Reply::ok());
    let flushed = outbox(dir.path(), &collector.url(""), &["flush"]);
    assert_eq!(flushed.status.code(), Some(0), "{flushed:?}");
    for (name, records) in LEFT {
        let sum = sum(dir.path(), name);
        assert_eq!(
            (&sum["delivered"], &sum["waiting"], &sum["lost"]),
            (&records.into(), &0.into(), &json!({}))
        );
        assert!(collector.requests().iter().any(|request| request.path.ends_with(name)), "{name}");
    }
    let (dir, _) = left("outbox-format-1-otlp");
    let purged: Value = serde_json::from_str(&look(dir.path(), 0, &["purge", "--yes", "--json"])).unwrap();
    assert_eq!(purged["records"], json!({"logs": 49, "metrics": 1, "traces": 42}));
    assert_eq!(sum(dir.path(), "logs")["lost"], json!({"purged": 49}));
}

#[test]
fn damage_in_what_an_earlier_program_left_costs_the_frame_it_hit() {
    let (dir, lane) = left("outbox-format-1-otlp");
    let file = lane.join("logs/00000000000000000002.seg");
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x10;
    fs::write(&file, bytes).unwrap();
    // Else the ring heals it.
    fs::remove_file(lane.join("ring")).unwrap();
    assert!(look(dir.path(), 1, &["check"]).contains("damaged at"));
    assert_eq!(look(dir.path(), 0, &["show", "--queue", "logs"]).lines().count(), 48);
    let collector = Collector::start(|_, _| Reply::ok());
    outbox(dir.path(), &collector.url(""), &["flush"]);
    let logs = sum(dir.path(), "logs");
    assert_eq!((&logs["delivered"], &logs["lost"]), (&48.into(), &json!({"damaged": 1})), "{logs}");
}

#[test]
fn what_a_killed_earlier_program_left_in_the_ring_is_counted_checked_and_purged() {
    let (dir, lane) = left("outbox-format-1");
    // All of it is in the ring.
    for queue in ["a", "b.c-d"] {
        for segment in fs::read_dir(lane.join(queue)).unwrap().map(|entry| entry.unwrap().path()) {
            fs::remove_file(segment).unwrap();
        }
        let (sum, records) = (sum(dir.path(), queue), if queue == "a" { 300 } else { 100 });
        assert_eq!(
            (&sum["accepted"], &sum["written"], &sum["waiting"]),
            (&records.into(), &0.into(), &records.into())
        );
    }
    let status = look(dir.path(), 0, &["status"]);
    assert!(status.contains("a: 300 accepted, 0 written, 300 waiting"), "{status}");
    look(dir.path(), 0, &["check"]);
    look(dir.path(), 3, &["show"]);
    let purged: Value = serde_json::from_str(&look(dir.path(), 0, &["purge", "--yes", "--json"])).unwrap();
    assert_eq!(purged["records"], json!({"a": 300, "b.c-d": 100}));
}
