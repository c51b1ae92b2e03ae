//! The TraceQL and LogQL of every panel, put to the real Tempo and Loki, where somebody has them: they are in no
//! registry.
//!
//! FACTLINE_TEMPO=/path/to/tempo FACTLINE_LOKI=/path/to/loki cargo test --test real_stack stores -- --nocapture

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value;

use crate::dashboards::queries;
use crate::parts::{expected, local, otel_config, percent, sessions};
use crate::program::{Program, factline, get, named_by, run, until};
use crate::received::{Received, text};
use crate::recent::recent;

/// The thread with most spans of those that have something for every panel: tools, a failure, an approval.
fn thread(sent: &Received) -> String {
    let of = |record: &[KeyValue]| text(record, "gen_ai.conversation.id");
    let approved: BTreeSet<String> = sent
        .logs
        .iter()
        .filter(|log| log.record.event_name.starts_with("codex.approval."))
        .filter_map(|log| of(&log.record.attributes))
        .collect();
    let mut threads: BTreeMap<String, Vec<&Span>> = BTreeMap::new();
    for span in &sent.spans {
        threads.entry(of(&span.record.attributes).unwrap_or_default()).or_default().push(&span.record);
    }
    let failed = |spans: &[&Span]| spans.iter().any(|it| it.status.as_ref().is_some_and(|it| it.code == 2));
    let tools = |spans: &[&Span]| spans.iter().any(|it| it.name.starts_with("execute_tool"));
    let whole = threads.iter().filter(|(id, spans)| approved.contains(*id) && failed(spans) && tools(spans));
    whole.max_by_key(|(_, spans)| spans.len()).expect("a recorded thread that has it all").0.clone()
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
    thread(&expected(dir, &sessions))
}

/// Waits until every query of the store has an answer; returns how many there are. `ask` says how much was found.
fn ask_all(store: &str, thread: &str, ask: impl Fn(&str) -> Result<usize, String>) -> usize {
    let all = queries();
    let all: Vec<_> = all.iter().filter(|query| query.of == store).collect();
    for query in &all {
        let text = |thread: &str| query.text.replace("$thread", thread).replace("$__auto", "1m");
        until(&format!("{}: {}", query.panel, text(thread)), || match ask(&text(thread))? {
            0 => Err("nothing".to_owned()),
            _ => Ok(()),
        });
        if query.text.contains("$thread") {
            assert_eq!(ask(&text("no-such-thread")), Ok(0), "{} finds what is not there", query.panel);
        }
    }
    assert!(ask("{ nonsense").is_err(), "{store} takes what is no query");
    all.len()
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
    let ask = |text: &str| -> Result<usize, String> {
        let (start, end) = span_of_time();
        let path = format!("/api/search?q={}&start={start}&end={end}&limit=100", percent(text));
        let answer: Value = serde_json::from_str(&get(http, &path)?).map_err(|error| error.to_string())?;
        answer["traces"].as_array().map(Vec::len).ok_or_else(|| answer.to_string())
    };
    let asked = ask_all("tempo", &thread, ask);
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
    let ask = |text: &str| -> Result<usize, String> {
        let (start, end) = span_of_time();
        let path =
            format!("/loki/api/v1/query_range?query={}&start={start}&end={end}&step=60", percent(text));
        let answer: Value = serde_json::from_str(&get(http, &path)?).map_err(|error| error.to_string())?;
        answer["data"]["result"].as_array().map(Vec::len).ok_or_else(|| answer.to_string())
    };
    let asked = ask_all("loki", &thread, ask);
    println!("{asked} LogQL queries answered");
    assert!(asked >= 4);
}
