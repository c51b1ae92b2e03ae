//! The TraceQL and LogQL of every panel, put to the real Tempo and Loki, where somebody has them: they are in no
//! registry.
//!
//! FACTLINE_TEMPO=/path/to/tempo FACTLINE_LOKI=/path/to/loki cargo test --test real_stack stores -- --nocapture

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::dashboards::queries;
use crate::parts::{local, otel_config, percent, sessions};
use crate::program::{Program, corpus, factline, get, named_by, run, until};
use crate::received::{Received, text};
use crate::recent::recent;

/// The thread with most spans of the session with subagents.
fn thread(sent: &Received) -> String {
    let mut threads: Vec<String> =
        sent.spans.iter().filter_map(|of| text(&of.record.attributes, "gen_ai.conversation.id")).collect();
    threads.sort();
    threads.chunk_by(|one, other| one == other).max_by_key(|run| run.len()).unwrap()[0].clone()
}

fn span_of_time() -> (u64, u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    (now - 7200, now + 60)
}

/// Replays recent sessions to it; returns a thread of which something of every kind is known.
fn replayed(dir: &Path, logs: &str, traces: &str, endpoint: (&str, &str)) -> String {
    let sessions = recent(&sessions(), &dir.join("recent"));
    run(factline(dir)
        .env(endpoint.0, endpoint.1)
        .env("OTEL_LOGS_EXPORTER", logs)
        .env("OTEL_TRACES_EXPORTER", traces)
        .env("OTEL_METRICS_EXPORTER", "none")
        .arg("replay")
        .args(&sessions));
    let files = dir.join("commands");
    let commands = corpus().into_iter().find(|(name, _)| name == "04-commands").unwrap().1;
    run(factline(dir).args(["replay", "--otlp-file"]).arg(&files).arg(commands));
    thread(&Received::from_files(&files))
}

#[test]
fn every_traceql_query_of_every_panel_has_an_answer() {
    let Some(program) = named_by("FACTLINE_TEMPO", "a tempo binary") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (_tempo, [http, _, otlp, _]) =
        Program::on_free_ports("Tempo started", |[http, grpc, otlp, otlp_grpc]: [u16; 4]| {
            let mut command = Command::new(&program);
            command
                .arg(format!("-config.file={}", otel_config("tempo/tempo.yaml").display()))
                .arg("-config.expand-env=true")
                .env("TEMPO_PORT", http.to_string())
                .env("TEMPO_GRPC_PORT", grpc.to_string())
                .env("TEMPO_OTLP_HTTP", local(otlp))
                .env("TEMPO_OTLP_GRPC", local(otlp_grpc))
                .env("TEMPO_DATA", dir.path().join("tempo"));
            command
        });
    let endpoint = format!("http://{}", local(otlp));
    let thread = replayed(dir.path(), "none", "otlp", ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint));
    let mut asked = 0;
    for query in queries().iter().filter(|query| query.of == "tempo") {
        let text = query.text.replace("$thread", &thread);
        until(&format!("{}: {text}", query.panel), || {
            let (start, end) = span_of_time();
            let path = format!("/api/search?q={}&start={start}&end={end}&limit=100", percent(&text));
            let answer: Value =
                serde_json::from_str(&get(http, &path)?).map_err(|error| error.to_string())?;
            let found = answer["traces"].as_array().is_some_and(|traces| !traces.is_empty());
            if found { Ok(()) } else { Err(answer.to_string()) }
        });
        asked += 1;
    }
    println!("{asked} TraceQL queries answered");
    assert!(asked >= 4);
}

#[test]
fn every_logql_query_of_every_panel_has_an_answer() {
    let Some(program) = named_by("FACTLINE_LOKI", "a loki binary") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (_loki, [http, _]) = Program::on_free_ports("Loki started", |[http, grpc]: [u16; 2]| {
        let mut command = Command::new(&program);
        command
            .arg(format!("-config.file={}", otel_config("loki/loki.yaml").display()))
            .arg("-config.expand-env=true")
            .env("LOKI_PORT", http.to_string())
            .env("LOKI_GRPC_PORT", grpc.to_string())
            .env("LOKI_DATA", dir.path().join("loki"));
        command
    });
    until("loki takes records", || get(http, "/ready").map(|_| ()));
    let endpoint = format!("http://{}/otlp/v1/logs", local(http));
    let thread = replayed(dir.path(), "otlp", "none", ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &endpoint));
    let mut asked = 0;
    for query in queries().iter().filter(|query| query.of == "loki") {
        let text = query.text.replace("$thread", &thread).replace("$__auto", "1m");
        until(&format!("{}: {text}", query.panel), || {
            let (start, end) = span_of_time();
            let path =
                format!("/loki/api/v1/query_range?query={}&start={start}&end={end}&step=60", percent(&text));
            let answer: Value =
                serde_json::from_str(&get(http, &path)?).map_err(|error| error.to_string())?;
            let found = answer["data"]["result"].as_array().is_some_and(|streams| !streams.is_empty());
            if found { Ok(()) } else { Err(answer.to_string()) }
        });
        asked += 1;
    }
    println!("{asked} LogQL queries answered");
    assert!(asked >= 4);
}
