//! Destinations that are not there, not meant, or not wanted.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/cli.rs"]
mod cli;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/collector.rs"]
mod collector;

use std::ffi::OsStr;
use std::net::TcpListener;

use cli::{Ran, Surroundings, spans};
use collector::{Collector, Reply};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

fn replay(around: &Surroundings, variables: &[(&str, &str)], more: &[&str]) -> Ran {
    let session = around.session();
    let arguments = ["replay"].iter().chain(more).map(OsStr::new).chain([session.as_os_str()]);
    around.run_with(variables, arguments)
}

/// How many log records and spans a collector was given.
fn taken(collector: &Collector) -> (usize, usize) {
    let (mut logs, mut spans) = (0, 0);
    for request in collector.requests() {
        if request.path.ends_with("/v1/logs") {
            let request = ExportLogsServiceRequest::decode(&request.body[..]).unwrap();
            logs += request
                .resource_logs
                .iter()
                .flat_map(|it| &it.scope_logs)
                .flat_map(|it| &it.log_records)
                .count();
        } else if request.path.ends_with("/v1/metrics") {
            ExportMetricsServiceRequest::decode(&request.body[..]).unwrap();
        } else {
            let request = ExportTraceServiceRequest::decode(&request.body[..]).unwrap();
            spans +=
                request.resource_spans.iter().flat_map(|it| &it.scope_spans).flat_map(|it| &it.spans).count();
        }
    }
    (logs, spans)
}

fn waiting(around: &Surroundings) -> u64 {
    let status = around.run(["outbox", "status", "--json"]).json();
    let lanes = status["lanes"].as_array().unwrap();
    let queues = lanes.iter().flat_map(|lane| lane["queues"].as_array().unwrap());
    queues.map(|queue| queue["waiting"].as_u64().unwrap()).sum()
}

#[test]
fn records_wait_for_a_collector_that_is_away_and_are_flushed_when_it_is_back() {
    let around = Surroundings::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}");
    let away = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())];
    let ran = replay(&around, &away, &["--timeout", "2"]);
    ran.must(
        1,
        &[
            "not everything is delivered",
            "onnection refused",
            "outbox flush",
            &around.outbox().display().to_string(),
        ],
    );
    assert_eq!(waiting(&around), 92, "49 log records, 42 spans, and the metrics");
    let status = around.run(["outbox", "status"]);
    status.must(0, &[]);
    assert!(status.stdout.contains("outbox flush") && status.stdout.contains("(ended)"), "{}", status.stdout);

    // On a busy machine the time may be up before anybody was asked, and then there is no reason to give yet.
    let flush = (0..20)
        .map(|_| around.run_with(&away, ["outbox", "flush", "--timeout", "1"]))
        .find(|ran| ran.stderr.contains("onnection refused"));
    flush.unwrap().must(1, &["0 records delivered", "more is waiting"]);
    assert_eq!(waiting(&around), 92, "49 log records, 42 spans, and the metrics");

    let collector = Collector::on(TcpListener::bind(address).unwrap(), |_, _| Reply::ok());
    let flush = around.run_with(&away, ["outbox", "flush"]);
    flush.must(0, &["92 records delivered, 0 refused"]);
    assert_eq!(taken(&collector), (49, 42));
    assert_eq!(waiting(&around), 0);
    around.run_with(&away, ["outbox", "flush", "--json"]).must(0, &[]);
    assert_eq!(taken(&collector), (49, 42));
}

#[test]
fn what_a_collector_refuses_is_said_and_the_rest_is_delivered() {
    let around = Surroundings::new();
    // One log record says so.
    let bad = |body: &[u8]| body.windows(7).any(|some| some == b"aborted");
    let collector = Collector::start(move |_, request| {
        if request.path == "/v1/logs" && bad(&request.body) { Reply::status(400) } else { Reply::ok() }
    });
    let ran = replay(&around, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url(""))], &[]);
    ran.must(1, &["records refused for good: 1 (", "400", "91 records delivered"]);
    let ran = replay(
        &around,
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url("")), ("OTEL_LOGS_EXPORTER", "none")],
        &[],
    );
    ran.must(0, &["43 records delivered", "/v1/traces"]);
}

#[test]
fn an_endpoint_that_is_no_url_is_an_error_before_anything_is_read() {
    let around = Surroundings::new();
    for (value, said) in
        [("nonsense", "no URL"), ("localhost:4318", "http:// is missing"), ("ftp://x", "http or https")]
    {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", value)];
        replay(&around, &variables, &[]).must(1, &["OTEL_EXPORTER_OTLP_ENDPOINT", said, "for example"]);
        around.run_with(&variables, ["outbox", "flush"]).must(1, &["OTEL_EXPORTER_OTLP_ENDPOINT", said]);
        // Files need no endpoint, and a tap runs its command whatever is wrong with telemetry.
        replay(&around, &variables, &["--otlp-file", "out"]).must(0, &[]);
        around.run_with(&variables, ["tap", "--", "true"]).must(0, &[]);
    }
    assert!(!around.outbox().exists());
}

#[test]
fn a_disabled_sdk_sends_nothing_and_says_so() {
    let around = Surroundings::new();
    let collector = Collector::start(|_, _| Reply::ok());
    let url = collector.url("");
    let variables = [("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())];
    replay(&around, &variables, &[])
        .must(0, &["no telemetry is sent", "OTEL_SDK_DISABLED", "0 records delivered to nobody"]);
    around.run_with(&variables, ["tap", "--", "true"]).must(0, &[]);
    assert_eq!(collector.requests().len(), 0);
    assert!(!around.files().exists());
}

#[test]
fn an_exporter_of_none_switches_off_its_signal_only() {
    let around = Surroundings::new();
    replay(&around, &[("OTEL_TRACES_EXPORTER", "none")], &[]).must(0, &["50 records delivered"]);
    assert!(!around.files().join("traces.jsonl").exists());
    let other = Surroundings::new();
    replay(&other, &[("OTEL_LOGS_EXPORTER", "none")], &[]).must(0, &["43 records delivered"]);
    assert_eq!(spans(&other.files().join("traces.jsonl")).len(), 42);
    assert!(!other.files().join("logs.jsonl").exists());
}
