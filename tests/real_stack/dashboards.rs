//! Every PromQL query of every panel is put to the real Prometheus, behind the whole way from factline over an agent,
//! Kafka and a gateway, and has an answer.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::parts::{Collector, Kafka, Prometheus, collector_program, local, otel_config, sessions};
use crate::program::{factline, run, until};
use crate::recent::recent;

pub const DASHBOARDS: [&str; 3] = ["overview.json", "thread.json", "pipeline.json"];

/// A query of a panel.
#[derive(Debug)]
pub struct Query {
    pub panel: String,
    /// Type of its data source.
    pub of: String,
    pub text: String,
    pub instant: bool,
}

pub fn queries() -> Vec<Query> {
    let mut all = Vec::new();
    for name in DASHBOARDS {
        let text = std::fs::read_to_string(otel_config("grafana/dashboards").join(name)).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let text = target.get("expr").or(target.get("query")).and_then(Value::as_str);
                all.push(Query {
                    panel: format!("{name}, {}", panel["title"].as_str().unwrap()),
                    of: target["datasource"]["type"].as_str().unwrap().to_owned(),
                    text: text.unwrap().to_owned(),
                    instant: target["instant"] == true,
                });
            }
        }
    }
    all
}

/// What Grafana puts in place of its variables.
fn filled(text: &str) -> String {
    text.replace("$__rate_interval", "2m").replace("$__range", "1h").replace("$__auto", "1m")
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The values of an answer that are numbers.
fn numbers(answer: &Value) -> Vec<f64> {
    let series = answer["data"]["result"].as_array().into_iter().flatten();
    let samples = series.flat_map(|series| {
        let one = series.get("value").cloned().into_iter();
        one.chain(series["values"].as_array().cloned().into_iter().flatten())
    });
    let values = samples.filter_map(|sample| sample[1].as_str()?.parse::<f64>().ok());
    values.filter(|value| value.is_finite()).collect()
}

#[test]
fn every_query_of_every_panel_has_an_answer() {
    let (Some(program), Some(prometheus)) = (collector_program(), Prometheus::program()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(kafka) = Kafka::start(&dir.path().join("kafka"), 2) else { return };
    let prometheus_dir = dir.path().join("prometheus");
    let prometheus = Prometheus::start(&prometheus, &prometheus_dir);
    let end = Collector::into_files(&program, &dir.path().join("end"));
    let broker = ("KAFKA", local(kafka.port));
    let files = ["agent.yaml", "agent-to-kafka.yaml"];
    let agent = Collector::start(&program, &files, &dir.path().join("agent"), std::slice::from_ref(&broker));
    let mut settings = end.as_back_end();
    settings.retain(|(name, _)| *name != "METRICS_OTLP");
    settings.extend([
        broker,
        ("METRICS_OTLP", format!("http://{}/api/v1/otlp", local(prometheus.port))),
        ("METRICS_FLUSH", "500ms".to_owned()),
        ("SAMPLING_AFTER_TURN", "1s".to_owned()),
        ("SAMPLING_WAIT", "2s".to_owned()),
    ]);
    let files = ["gateway.yaml", "gateway-from-kafka.yaml", "gateway-sampling.yaml"];
    let gateway = Collector::start(&program, &files, &dir.path().join("gateway"), &settings);
    prometheus.scrape(&prometheus_dir, &[&agent, &gateway]);

    let began = seconds();
    let sessions = recent(&sessions(), &dir.path().join("recent"));
    // One process for each, as it is live.
    for session in &sessions {
        run(factline(dir.path())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", local(agent.http)))
            .arg("replay")
            .arg(session));
    }

    tap_a_session(dir.path(), agent.http);

    let mut asked = 0;
    for query in queries().iter().filter(|query| query.of == "prometheus") {
        let text = filled(&query.text);
        until(&format!("{}: {text}", query.panel), || {
            let now = seconds().to_string();
            let answer = if query.instant {
                prometheus.ask("/api/v1/query", &[("query", &text), ("time", &now)])?
            } else {
                let start = (began - 3600).to_string();
                let range = [("query", &*text), ("start", &start), ("end", &now), ("step", "15")];
                prometheus.ask("/api/v1/query_range", &range)?
            };
            // A series that never moves tells nothing either; some rightly stay at zero.
            if numbers(&answer).is_empty() { Err(answer.to_string()) } else { Ok(()) }
        });
        asked += 1;
    }
    assert!(asked > 40, "only {asked} queries");
    println!("{asked} queries answered");
    assert_names_exist(&prometheus);
    assert_true(&prometheus);
}

/// What a live process tells of itself, a replay does not: a tap around a program that says what a server said.
fn tap_a_session(dir: &Path, port: u16) {
    let session = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/04-commands");
    let endpoint = format!("http://{}", local(port));
    let server = format!("cat '{}'; cat >/dev/null", session.join("server.raw").display());
    let status = factline(dir)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
        .env("OTEL_METRIC_EXPORT_INTERVAL", "100")
        .args(["tap", "--", "sh", "-c", &server])
        .stdin(std::fs::File::open(session.join("client.raw")).unwrap())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    // Its end does not wait for the network.
    run(factline(dir).env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).args(["outbox", "flush"]));
}

/// Each name in a query is one of a metric or of a label: `or vector(0)` would hide one that nothing is called by.
fn assert_names_exist(prometheus: &Prometheus) {
    let list = |path: &str| {
        let answer = prometheus.ask(path, &[]).unwrap();
        let names = answer["data"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
        names.collect::<BTreeSet<String>>()
    };
    let (metrics, labels) = (list("/api/v1/label/__name__/values"), list("/api/v1/labels"));
    // There only where something was lost.
    let rightly_absent = ["factline_records_lost_total", "factline_loss_reason"];
    let ours = ["codex_", "gen_ai_", "factline_", "otelcol_", "traces_"];
    for query in queries().iter().filter(|query| query.of == "prometheus") {
        let words = query.text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
        // What ends so is a part of a pattern.
        let names = words.filter(|word| ours.iter().any(|it| word.starts_with(it)) && !word.ends_with('_'));
        for name in names {
            let there = metrics.contains(name) || labels.contains(name) || rightly_absent.contains(&name);
            assert!(there, "{}: nothing is called {name}", query.panel);
        }
    }
}

/// The sums are those of what was sent: nothing is counted twice on the way.
fn assert_true(prometheus: &Prometheus) {
    let value = |query: &str| {
        let answer = prometheus.ask("/api/v1/query", &[("query", query)]).unwrap();
        numbers(&answer).iter().sum::<f64>()
    };
    let whole = "last_over_time(codex_turns_total[1h])";
    let turns = value(&format!("sum({whole})"));
    let spans = value("sum(traces_span_metrics_calls_total{span_name=~\"invoke_agent.*\"})");
    assert!(turns > 50.0 && spans >= turns, "{turns} turns and {spans} spans of turns");
    let exemplars =
        [("query", "gen_ai_invoke_agent_duration_seconds_bucket"), ("start", "0"), ("end", "4102444800")];
    let answer = prometheus.ask("/api/v1/query_exemplars", &exemplars).unwrap();
    let traced =
        answer["data"].as_array().unwrap().iter().flat_map(|series| series["exemplars"].as_array().unwrap());
    let ids: BTreeSet<&str> = traced.filter_map(|it| it["labels"]["trace_id"].as_str()).collect();
    assert!(ids.len() > 5 && ids.iter().all(|id| id.len() == 32), "{ids:?}");
    println!("{turns} turns, {spans} spans of turns, {} traces as examples", ids.len());
}
