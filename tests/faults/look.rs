//! `factline outbox` on what a crash left, on damage, and beside processes that work in it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use serde_json::Value;

use crate::collector::{Collector, Reply};
use crate::emitter::{Emitter, Id, Log, id_of};
use crate::ledger::take;
use crate::program::factline;

fn outbox(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = factline(dir);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    command.arg("outbox").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap())
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The queue of that name in what `status --json` says.
fn queue(dir: &Path, name: &str) -> Value {
    let status = json(&outbox(dir, &["status", "--json"]));
    let queues = status["queues"].as_array().unwrap();
    queues.iter().find(|queue| queue["name"] == name).cloned().unwrap_or_default()
}

fn record(line: &str) -> Id {
    let request: ExportLogsServiceRequest = serde_json::from_str(line).unwrap();
    id_of(&request.resource_logs[0].scope_logs[0].log_records[0])
}

fn killed(log: &Log, dir: &Path, records: u64) {
    let emitter = Emitter { segment_bytes: 8 << 10, ..Emitter::default() };
    let mut running = log.emit(&dir.join("outbox"), &emitter);
    log.until("records", |said| said.accepted.get(&running.writer).is_some_and(|n| *n >= records));
    running.kill();
}

#[test]
fn what_a_killed_process_left_is_shown_as_it_would_be_delivered() {
    let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
    killed(&log, dir.path(), 300);
    let (code, text) = said(&outbox(dir.path(), &["show", "--queue", "logs"]));
    let shown: Vec<Id> = text.lines().map(record).collect();
    let waiting = queue(dir.path(), "logs")["waiting"].as_u64().unwrap();
    assert_eq!((code, shown.len() as u64), (Some(0), waiting));
    assert!(waiting >= 300);
    let (code, text) = said(&outbox(dir.path(), &["show", "--json"]));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines.len()), (Some(0), shown.len()));
    for (at, line) in lines.iter().enumerate() {
        assert_eq!((&line["queue"], line["sequence"].as_u64()), (&"logs".into(), Some(at as u64 + 1)));
        assert_eq!(record(&line["record"].to_string()), shown[at]);
        assert_eq!(line["time_ns"].as_u64(), Some(1 + shown[at].1));
        assert_eq!(line["content"].as_bool(), Some(shown[at].1.is_multiple_of(5)));
    }
    assert_eq!(said(&outbox(dir.path(), &["show", "--queue", "traces"])), (Some(0), String::new()));
    let (code, text) = said(&outbox(dir.path(), &["check"]));
    assert_eq!(code, Some(0), "{text}");
    // Looking changed nothing.
    assert_eq!(take(&dir.path().join("outbox")).records, shown);
    assert_eq!(said(&outbox(dir.path(), &["show"])), (Some(0), String::new()));
}

#[test]
fn damage_is_told_with_file_and_offset_and_the_rest_is_shown_and_delivered() {
    let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
    killed(&log, dir.path(), 400);
    let lanes = dir.path().join("outbox/lanes");
    let lane = std::fs::read_dir(&lanes).unwrap().next().unwrap().unwrap().path();
    // What is drained stays in the ring until it is overwritten, and would heal the damage.
    let before = said(&outbox(dir.path(), &["show"])).1;
    let path = lane.join("logs/00000000000000000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x40;
    std::fs::write(&path, &bytes).unwrap();
    std::fs::remove_file(lane.join("ring")).unwrap();
    let output = outbox(dir.path(), &["check", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found = json(&output);
    let damage = &found["damage"][0];
    assert_eq!(damage["file"], path.display().to_string());
    let (offset, size) = (damage["offset"].as_u64().unwrap(), damage["bytes"].as_u64().unwrap());
    assert!((offset..offset + size).contains(&(at as u64)) && size < 500, "{damage} does not hold {at}");
    assert_eq!(found["damage"].as_array().unwrap().len(), 1);
    let (code, text) = said(&outbox(dir.path(), &["check"]));
    assert!(code == Some(1) && text.contains(&format!("{size} bytes damaged at {offset}")), "{text}");
    let lines = |text: &str| text.lines().map(record).collect::<BTreeSet<_>>();
    let (all, left) = (lines(&before), lines(&said(&outbox(dir.path(), &["show"])).1));
    let gone: Vec<_> = all.difference(&left).collect();
    // The one that was hit, and what lay only in the ring.
    assert!(left.is_subset(&all) && gone.iter().filter(|id| id.1 < 100).count() <= 1, "{gone:?}");
    let taken = take(&dir.path().join("outbox"));
    assert_eq!((taken.records.into_iter().collect::<BTreeSet<_>>(), taken.lost), (left, 1));
}

#[test]
fn everything_can_be_looked_at_while_processes_work_and_purge_leaves_them_alone() {
    let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
    killed(&log, dir.path(), 100);
    let emitter = Emitter { settle: true, pace: Duration::from_millis(2), ..Emitter::default() };
    let mut running = log.emit(&dir.path().join("outbox"), &emitter);
    log.until("records", |said| said.accepted.get(&running.writer).is_some_and(|n| *n > 50));
    for _ in 0..3 {
        for arguments in [&["show"][..], &["show", "--dead"], &["check"], &["status"]] {
            let (code, text) = said(&outbox(dir.path(), arguments));
            assert_eq!(code, Some(0), "{arguments:?}: {text}");
        }
    }
    let refused = outbox(dir.path(), &["purge"]);
    assert_eq!(refused.status.code(), Some(2), "without a terminal it does not ask");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes"));
    let status = json(&outbox(dir.path(), &["status", "--json"]));
    let ended = status["lanes"].as_array().unwrap().iter().find(|lane| lane["running"] == false);
    let left = ended.unwrap()["queues"][0]["waiting"].as_u64().unwrap();
    let purged = json(&outbox(dir.path(), &["purge", "--yes", "--json"]));
    let records = purged["records"]["logs"].as_u64().unwrap();
    assert!(records >= 100 && records == left, "{purged} of {left}");
    let lane = log.told(running.writer, "lane");
    assert_eq!((&purged["running"][0], purged["processes"].as_array().unwrap().len()), (&lane, 1));
    running.kill();
    let after = queue(dir.path(), "logs");
    assert_eq!(after["lost"]["purged"].as_u64(), Some(records), "{after}");
    let taken = take(&dir.path().join("outbox"));
    log.said(&[running.writer], |said| {
        let accepted = said.accepted[&running.writer];
        let own = taken.delivered + taken.lost - records;
        assert!((accepted..=accepted + 1).contains(&own), "{own} of {accepted}");
    });
}

#[test]
fn what_a_destination_refused_is_shown_with_its_reason_and_purged_alone() {
    let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
    let (status, errors) =
        log.emit(&dir.path().join("outbox"), &Emitter { count: 3, ..Emitter::default() }).wait();
    assert!(status.success(), "{errors}");
    let collector = Collector::start(|_, _| Reply::status(400));
    let mut flush = factline(dir.path());
    // One of them holds content, which goes nowhere once no kind is on.
    flush.env("FACTLINE_CAPTURE", "all");
    flush.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url("")).args(["outbox", "flush"]);
    assert_eq!(flush.stdin(Stdio::null()).output().unwrap().status.code(), Some(1));
    let logs = queue(dir.path(), "logs");
    assert_eq!(
        (&logs["lost"], &logs["dead_letters"]),
        (&serde_json::json!({"rejected": 3}), &3.into()),
        "{logs}"
    );
    let error = logs["last_error"]["text"].as_str().unwrap();
    assert!(error.contains("400") && error.contains("/v1/logs"), "{error}");
    let numbers = ["accepted", "written", "delivered", "retried"].map(|of| logs[of].as_u64());
    assert_eq!(numbers, [Some(3), Some(3), Some(0), Some(0)], "what is refused is not sent again");
    assert!(queue(dir.path(), "traces")["last_error"].is_null(), "nothing is wrong with it");
    let (code, text) = said(&outbox(dir.path(), &["show", "--dead", "--json"]));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines.len() as u64), (Some(0), 3));
    for line in &lines {
        assert!(line["reason"].as_str().unwrap().contains("400"), "{line}");
        record(&line["record"].to_string());
    }
    let text = said(&outbox(dir.path(), &["status"])).1;
    assert!(text.contains("rejected 3") && text.contains("last error, "), "{text}");
    let purged = json(&outbox(dir.path(), &["purge", "--dead", "--yes", "--json"]));
    assert_eq!(purged["dead_letters"].as_u64(), Some(3), "{purged}");
    assert_eq!(said(&outbox(dir.path(), &["show", "--dead"])).1, "");
    assert_eq!(queue(dir.path(), "logs")["lost"]["rejected"], 3, "still counted");
}

#[test]
fn one_queue_is_purged_to_the_last_byte_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let away = Collector::start(|_, _| Reply::status(503));
    let path = dir.path().join("session.jsonl");
    std::fs::write(&path, include_str!("../../src/cli/demo/session.jsonl")).unwrap();
    let mut replay = factline(dir.path());
    replay.env("OTEL_EXPORTER_OTLP_ENDPOINT", away.url("")).arg("replay").arg(&path);
    let told = replay.stdin(Stdio::null()).output().unwrap();
    let waiting = |name: &str| queue(dir.path(), name)["waiting"].as_u64().unwrap();
    let (logs, traces) = (waiting("logs"), waiting("traces"));
    assert!(logs > 0 && traces > 0, "{told:?}");
    let error = queue(dir.path(), "logs")["last_error"]["text"].as_str().unwrap().to_owned();
    assert!(error.contains("503"), "{error}");
    let retried = |name: &str| queue(dir.path(), name)["retried"].as_u64().unwrap();
    // Whatever was answered was refused for now, but for requests whose answer came after the end.
    let asked = away.requests().iter().filter(|request| request.path == "/v1/logs").count() as u64;
    let tried = retried("logs");
    assert!((1..=asked).contains(&tried), "{tried} retried, {asked} asked");
    assert!(said(&outbox(dir.path(), &["status"])).1.contains(&format!("{tried} requests retried")));
    let holds = || {
        let found =
            Command::new("grep").args(["-rlaF", "execute_tool"]).arg(dir.path().join("outbox")).output();
        String::from_utf8(found.unwrap().stdout).unwrap()
    };
    assert!(holds().contains("traces"));
    let purged = json(&outbox(dir.path(), &["purge", "--queue", "traces", "--yes", "--json"]));
    assert_eq!(purged["records"]["traces"].as_u64(), Some(traces), "{purged}");
    assert_eq!((waiting("logs"), waiting("traces")), (logs, 0));
    assert_eq!(queue(dir.path(), "traces")["lost"]["purged"].as_u64(), Some(traces));
    assert!(!holds().contains("/traces/") && !holds().contains("/ring"), "{}", holds());
    let collector = Collector::start(|_, _| Reply::ok());
    let mut flush = factline(dir.path());
    flush.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url("")).args(["outbox", "flush"]);
    crate::program::run(&mut flush);
    assert_eq!(queue(dir.path(), "logs")["delivered"].as_u64(), Some(logs));
    assert_eq!(retried("logs"), tried, "what earlier processes counted stays");
    assert!(collector.requests().iter().all(|request| request.path != "/v1/traces"));
}

#[test]
fn a_lane_of_a_newer_version_is_told_and_left_as_it_is() {
    let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
    killed(&log, dir.path(), 400);
    let lanes = dir.path().join("outbox/lanes");
    let lane = std::fs::read_dir(&lanes).unwrap().next().unwrap().unwrap().path();
    for file in ["names", "ring", "logs/00000000000000000001.seg"] {
        let path = lane.join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        for copy in [0, 64] {
            bytes[copy + 8] = 99;
            let sum = crc32c::crc32c(&bytes[copy..copy + 60]).to_le_bytes();
            bytes[copy + 60..copy + 64].copy_from_slice(&sum);
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    let before = std::fs::read(lane.join("logs/00000000000000000001.seg")).unwrap();
    for arguments in [&["show"][..], &["check"]] {
        let output = outbox(dir.path(), arguments);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(3) && words.contains("newer"), "{arguments:?}: {output:?}");
    }
    let partly = outbox(dir.path(), &["purge", "--queue", "logs", "--yes"]);
    assert_eq!(partly.status.code(), Some(3), "{partly:?}");
    assert_eq!(std::fs::read(lane.join("logs/00000000000000000001.seg")).unwrap(), before);
}

#[test]
fn content_is_purged_and_the_facts_stay_but_not_where_a_process_works() {
    let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
    killed(&log, dir.path(), 300);
    let shown = || -> Vec<Value> {
        let (code, text) = said(&outbox(dir.path(), &["show", "--json"]));
        assert_eq!(code, Some(0));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let before = shown();
    let status = json(&outbox(dir.path(), &["status", "--json"]));
    let lane = &status["lanes"][0]["name"];
    let marked = before.iter().filter(|line| line["content"] == true).count();
    assert!(marked > 50, "{marked}");
    let mut running =
        log.emit(&dir.path().join("outbox"), &Emitter { count: 50, linger: true, ..Emitter::default() });
    log.until("records", |said| said.accepted.get(&running.writer).is_some_and(|n| *n == 50));
    let refused = outbox(dir.path(), &["purge", "--content"]);
    assert_eq!(refused.status.code(), Some(2), "without a terminal it does not ask");
    let purged = outbox(dir.path(), &["purge", "--content", "--yes", "--json"]);
    let (id, words) = (running.child.id(), String::from_utf8_lossy(&purged.stderr).into_owned());
    assert_eq!(purged.status.code(), Some(1), "{words}");
    assert!(words.contains(&format!("process {id} (")) && words.contains("stays until"), "{words}");
    let theirs = log.told(running.writer, "lane");
    let expected = serde_json::json!({
        "lanes": [{"lane": lane, "changed": {"logs": marked}, "lost": {}, "open": 0, "dead_letters": 0}],
        "running": [{"lane": theirs, "process": id}],
        "unreadable": [],
    });
    assert_eq!(json(&purged), expected);
    let after = shown();
    for (line, was) in after.iter().zip(&before) {
        assert_eq!((&line["sequence"], &line["record"]), (&was["sequence"], &was["record"]));
        assert_eq!(line["content"], false);
    }
    let left = after[before.len()..].iter().filter(|line| line["content"] == true).count();
    assert_eq!(left, 10, "of the process that works");
    running.kill();
    let purged = outbox(dir.path(), &["purge", "--content", "--yes"]);
    let words = String::from_utf8_lossy(&purged.stderr).into_owned();
    assert_eq!(purged.status.code(), Some(0), "{words}");
    assert!(
        words.contains("content taken out of 10 waiting records (logs 10), 0 open and 0 refused ones"),
        "{words}"
    );
    assert!(shown().iter().all(|line| line["content"] == false));
    let again = outbox(dir.path(), &["purge", "--content", "--yes"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("there is no content"), "{again:?}");
    let (code, text) = said(&outbox(dir.path(), &["check"]));
    assert_eq!(code, Some(0), "{text}");
    let taken = take(&dir.path().join("outbox"));
    assert_eq!((taken.records.len(), taken.lost), (before.len() + 50, 0));
}

#[test]
fn what_was_said_is_gone_from_what_waits_and_its_turns_and_tools_are_delivered() {
    const SAID: &str = "Please list the files.";
    let dir = tempfile::tempdir().unwrap();
    let away = Collector::start(|_, _| Reply::status(503));
    let path = dir.path().join("session.jsonl");
    let session = include_str!("../../src/cli/demo/session.jsonl");
    std::fs::write(&path, session).unwrap();
    let mut replay = factline(dir.path());
    replay.env("OTEL_EXPORTER_OTLP_ENDPOINT", away.url("")).env("FACTLINE_CAPTURE", "all");
    replay.arg("replay").arg(&path).stdin(Stdio::null()).output().unwrap();
    let holds = || {
        let mut grep = Command::new("grep");
        !grep.args(["-rlaF", SAID]).arg(dir.path().join("outbox")).output().unwrap().stdout.is_empty()
    };
    assert!(holds() && session.contains(SAID));
    let waiting = |name: &str| queue(dir.path(), name)["waiting"].as_u64().unwrap();
    let before = (waiting("logs"), waiting("traces"));
    let purged = json(&outbox(dir.path(), &["purge", "--content", "--yes", "--json"]));
    assert!(purged["lanes"][0]["changed"]["traces"].as_u64().unwrap() > 5, "{purged}");
    assert!(!holds());
    assert_eq!((waiting("logs"), waiting("traces")), before);
    let collector = Collector::start(|_, _| Reply::ok());
    let mut flush = factline(dir.path());
    // Still on, so that nothing else takes content out.
    flush.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url("")).env("FACTLINE_CAPTURE", "all");
    crate::program::run(flush.args(["outbox", "flush"]));
    assert_eq!(queue(dir.path(), "logs")["delivered"].as_u64(), Some(before.0));
    assert_eq!(queue(dir.path(), "traces")["delivered"].as_u64(), Some(before.1));
    let sent: Vec<u8> = collector.requests().into_iter().flat_map(|request| request.body).collect();
    let sends = |words: &str| sent.windows(words.len()).any(|some| some == words.as_bytes());
    assert!(sends("execute_tool") && sends("codex.turn.completed") && !sends(SAID));
}
