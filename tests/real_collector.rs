//! The real OpenTelemetry Collector takes what factline sends, and passes on every field of it.
//!
//! FACTLINE_COLLECTOR=$(.ci/parts collector) cargo test --test real_collector -- --nocapture
#![cfg(feature = "cli")]
// The exemption of tests does not reach their own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/program.rs"]
mod program;
#[path = "support/received.rs"]
mod received;

use std::path::{Path, PathBuf};
use std::process::Command;

use certificates::{Authority, Pair};
use program::{Program, corpus, factline, named_by, run, until};
use received::{Received, assert_same};

const READY: &str = "Everything is ready";

fn collector() -> Option<PathBuf> {
    named_by("FACTLINE_COLLECTOR", "an otelcol binary (`.ci/parts collector` builds one)")
}

fn configurations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("otel-config/collector")
}

/// Who a collector is, and whose certificates its clients have to show.
struct Identity {
    authority: Authority,
    server: Pair,
    client: Pair,
}

impl Identity {
    fn new(dir: &Path) -> Self {
        let authority = Authority::new(dir, "ca");
        let (server, client) = (authority.server("server", "localhost", 2100), authority.client("client"));
        Self { authority, server, client }
    }
}

/// Starts it with `files.yaml`; it writes into `dir/out` and reads `dir/in`. Returns its ports for HTTP and gRPC.
fn agent(program: &Path, dir: &Path, tls: Option<&Identity>) -> (Program, [u16; 2]) {
    for name in ["in", "out"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    Program::on_free_ports(READY, |[http, grpc]: [u16; 2]| {
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(configurations().join("files.yaml"))
            .env("OTLP_HTTP", format!("127.0.0.1:{http}"))
            .env("OTLP_GRPC", format!("127.0.0.1:{grpc}"))
            .env("OTLP_FILES", dir.join("in"))
            .env("FILES_OUT", dir.join("out"));
        for (protocol, tls) in ["http", "grpc"].into_iter().zip([tls; 2]) {
            let Some(Identity { authority, server, .. }) = tls else { continue };
            for (what, file) in [
                ("cert_file", &server.certificate),
                ("key_file", &server.key),
                ("client_ca_file", &authority.file),
            ] {
                let key = format!("receivers.otlp.protocols.{protocol}.tls.{what}");
                command.arg(format!("--set={key}={}", file.display()));
            }
        }
        command
    })
}

/// What `replay --otlp-file` makes of every recorded session, in a directory for each below `dir`.
fn replayed_into_files(dir: &Path) -> Received {
    let mut all = Received::default();
    for (session, transcript) in corpus() {
        let files = dir.join(&session);
        run(factline(dir).args(["replay", "--otlp-file"]).arg(&files).arg(transcript));
        all.add(Received::from_files(&files));
    }
    let (logs, spans) = all.counts();
    assert!(logs > 600 && spans > 400, "the sessions make only {logs} log records and {spans} spans");
    all
}

/// Waits until the collector wrote as much as `sent`, and holds every field against it.
fn assert_passed_on(agent: Program, out: &Path, sent: &Received, instances: bool) {
    until("the collector writes what it was given", || {
        let counts = Received::from_files(out).counts();
        let (logs, spans) = sent.counts();
        if counts.0 >= logs && counts.1 >= spans {
            Ok(())
        } else {
            Err(format!("{counts:?} of {:?}", (logs, spans)))
        }
    });
    // At its end it writes what it still holds: nothing may come in excess either.
    let (status, said) = agent.end();
    assert!(status.success(), "{status}\n{said}");
    // Where nobody wrote files it says that there are none to read.
    let bad = |line: &&str| line.contains("\terror\t") || line.contains("\twarn\t");
    let bad: Vec<_> = said.lines().filter(bad).filter(|line| !line.contains("no files match")).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let mut got = Received::from_files(out);
    got.empty_is_absent();
    let told = got.without_resource_attribute("service.instance.id");
    assert_eq!(told.is_empty(), !instances, "service.instance.id belongs to live telemetry only: {told:?}");
    assert_eq!(got.counts(), sent.counts());
    assert_same("log records, left sent, right passed on", &sent.logs, &got.logs);
    assert_same("spans, left sent, right passed on", &sent.spans, &got.spans);
}

/// Replays every session over `protocol`, with TLS on both sides or in plain text, into a collector of its own.
fn replayed_over(program: &Path, protocol: &str, encrypted: bool, sent: &Received) {
    let dir = tempfile::tempdir().unwrap();
    let identity = encrypted.then(|| Identity::new(dir.path()));
    let (agent, [http, grpc]) = agent(program, dir.path(), identity.as_ref());
    let port = if protocol == "grpc" { grpc } else { http };
    for (session, transcript) in corpus() {
        let mut command = factline(dir.path());
        command.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        match &identity {
            None => command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}")),
            Some(Identity { authority, client, .. }) => command
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://localhost:{port}"))
                .env("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority.file)
                .env("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &client.certificate)
                .env("OTEL_EXPORTER_OTLP_CLIENT_KEY", &client.key),
        };
        let output = run(command.args(["replay", "--json"]).arg(transcript));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["waiting"], false, "{protocol} {session}: {said}");
    }
    assert_passed_on(agent, &dir.path().join("out"), sent, true);
    let output = run(factline(dir.path()).args(["outbox", "status", "--json"]));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["lanes"], serde_json::json!([]), "{status}");
    let tls = if encrypted { "with certificates of both sides" } else { "in plain text" };
    println!("{:?} log records and spans over {protocol} {tls}", sent.counts());
}

#[test]
fn what_is_replayed_over_every_protocol_arrives_field_by_field() {
    let Some(program) = collector() else { return };
    let dir = tempfile::tempdir().unwrap();
    let sent = replayed_into_files(dir.path());
    for protocol in ["http/protobuf", "http/json", "grpc"] {
        for encrypted in [false, true] {
            replayed_over(&program, protocol, encrypted, &sent);
        }
    }
}

#[test]
fn what_is_replayed_into_files_is_read_field_by_field() {
    let Some(program) = collector() else { return };
    let dir = tempfile::tempdir().unwrap();
    let sent = replayed_into_files(&dir.path().join("in"));
    let (agent, _) = agent(&program, dir.path(), None);
    assert_passed_on(agent, &dir.path().join("out"), &sent, false);
    println!("{:?} log records and spans through files", sent.counts());
}

#[test]
fn doctor_names_a_wrong_protocol_and_what_it_says_was_acknowledged_arrives() {
    let Some(program) = collector() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (agent, [http, grpc]) = agent(&program, dir.path(), None);
    let examined = |port: u16, protocol: &str| {
        let output = factline(dir.path())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}"))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .args(["doctor", "--json"])
            .output()
            .unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.success(), said["ok"] == true, "{said}");
        let checks = said["checks"].as_array().unwrap();
        let of = |step: &str| checks.iter().find(|it| it["step"] == step).map(|it| it["said"].to_string());
        (said["ok"] == true, of("protocol").unwrap(), of("clock"))
    };
    for (port, protocol) in [(http, "http/protobuf"), (http, "http/json"), (grpc, "grpc")] {
        let (ok, said, clock) = examined(port, protocol);
        assert!(ok, "{protocol}: {said}");
        assert_eq!(clock.is_some(), protocol != "grpc", "its HTTP answers have a date");
    }
    let (ok, said, _) = examined(grpc, "http/protobuf");
    assert!(!ok && said.contains("as a receiver for gRPC does"), "{said}");
    let (ok, said, _) = examined(http, "grpc");
    assert!(!ok && said.contains("it speaks HTTP/1"), "{said}");
    let (status, said) = agent.end();
    assert!(status.success(), "{status}\n{said}");
    let got = Received::from_files(&dir.path().join("out"));
    assert_eq!(got.counts(), (3, 3), "a log record and a span over each protocol");
}
