//! The program itself: its end waits for no network, and a slow backend loses nothing.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::bad_network::BlackHole;
use super::collector::{Collector, Reply};
use super::program::{corpus, factline, run};
use super::received::{Received, assert_same};

fn transcript(session: &str) -> std::path::PathBuf {
    corpus().into_iter().find(|(name, _)| name == session).unwrap().1
}

/// Runs the server's side of a recorded session behind a tap; returns how long the tap outlived its server.
fn tapped(dir: &Path, endpoint: &str, protocol: &str) -> Duration {
    let session = transcript("04-commands");
    let script = "cat \"$1\"; date +%s%N > \"$2\"";
    let ended = dir.join("ended");
    let output = factline(dir)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .args(["tap", "--", "sh", "-c", script, "sh"])
        .args([&session.with_file_name("server.raw"), &ended])
        .stdin(Stdio::from(std::fs::File::open(session.with_file_name("client.raw")).unwrap()))
        .output()
        .unwrap();
    let now = SystemTime::now();
    assert!(output.status.success(), "{output:?}");
    let ns = std::fs::read_to_string(&ended).unwrap().trim().parse().unwrap();
    now.duration_since(SystemTime::UNIX_EPOCH + Duration::from_nanos(ns)).unwrap()
}

#[test]
fn a_tap_ends_within_300_ms_of_its_server_in_front_of_a_black_hole_and_the_rest_goes_later() {
    let hole = BlackHole::new();
    for protocol in super::PROTOCOLS {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = format!("http://{}", hole.address);
        // The least of a few: others may want the processor, and that is not waiting.
        let took: Vec<Duration> = (0..5).map(|_| tapped(dir.path(), &endpoint, protocol)).collect();
        assert!(took.iter().min().unwrap() < &Duration::from_millis(300), "{protocol} {took:?}");
        assert!(took.iter().max().unwrap() < &Duration::from_secs(5), "{protocol} {took:?}");
        let collector = Collector::start(|_, _| Reply::ok());
        let flushed = run(factline(dir.path())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url(""))
            .args(["outbox", "flush", "--json"]));
        let said: Value = serde_json::from_slice(&flushed.stdout).unwrap();
        assert_eq!((&said["complete"], &said["lost"]), (&true.into(), &0.into()), "{said}");
        let mut got = Received::default();
        for request in collector.requests() {
            got.add_request(&request.path, &request.body);
        }
        assert_eq!(got.logs.len() as u64 + got.spans.len() as u64, said["delivered"].as_u64().unwrap());
        assert!(got.logs.len() >= 5 && got.spans.len() >= 5, "{:?}", got.counts());
    }
}

/// One event per line, in any order.
fn events(text: &str) -> Vec<Value> {
    let mut all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    all.sort_by_key(Value::to_string);
    all
}

#[test]
fn a_backend_and_a_collector_that_take_four_tenths_of_a_second_get_all_of_the_session_that_lost_three_quarters()
 {
    let dir = tempfile::tempdir().unwrap();
    let session = transcript("30-slow-analytics");
    let expected = dir.path().join("events.jsonl");
    let replay = || {
        let mut command = factline(dir.path());
        command.arg("replay").arg(&session);
        command
    };
    run(replay().arg("--analytics-file").arg(&expected));
    run(replay().arg("--otlp-file").arg(dir.path().join("otlp")));
    let expected = events(&std::fs::read_to_string(expected).unwrap());
    let sent = Received::from_files(&dir.path().join("otlp"));
    assert!(
        expected.len() >= 164,
        "the original's client made as many, and delivered 38: {}",
        expected.len()
    );
    let slow = || {
        Collector::start(|_, _| {
            std::thread::park_timeout(Duration::from_millis(400));
            Reply::ok()
        })
    };
    let (backend, collector) = (slow(), slow());
    let output = run(replay()
        .env("FACTLINE_ANALYTICS_URL", backend.url(""))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url(""))
        .arg("--json"));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["waiting"], false, "{said}");
    let mut got = Vec::new();
    for request in backend.requests() {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        got.extend(body["events"].as_array().unwrap().clone());
    }
    got.sort_by_key(Value::to_string);
    assert_same("events", &got, &expected);
    let mut telemetry = Received::default();
    for request in collector.requests() {
        telemetry.add_request(&request.path, &request.body);
    }
    telemetry.without_resource_attribute("service.instance.id");
    assert_same("log records", &telemetry.logs, &sent.logs);
    assert_same("spans", &telemetry.spans, &sent.spans);
}
