//! Hosts on the OpenTelemetry SDK: facts through its providers say what the durable way says, and an application's
//! own telemetry is as durable as facts are.
#![cfg(all(feature = "sdk", feature = "cli"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/exported.rs"]
mod exported;
#[path = "support/recorded.rs"]
mod recorded;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use exported::{Exported, processor, provider, sorted};
use factline::config::Config;
use factline::fact::Capture;
use factline::otel::{self, DerivedIds, Ratio, Sampled, Spans, TurnSampler, sdk_layer_with};
use factline::protocol::{Observer, Sender};
use factline::replay::replay;
use factline::telemetry::Telemetry;
use factline::transcript::Transcript;
use opentelemetry::Context;
use opentelemetry::logs::{LogRecord as _, Logger as _, LoggerProvider as _};
use opentelemetry::trace::{Span as _, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, LogsData};
use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

/// A recorded session through the SDK, and what was warned of.
fn through_sdk(
    path: &Path,
    spans: impl FnOnce(Exported) -> Spans,
) -> (Vec<LogRecord>, Vec<Span>, Vec<String>) {
    let (exported, warnings) = (Exported::default(), Arc::new(Mutex::new(Vec::new())));
    let logs = SdkLoggerProvider::builder().with_log_processor(exported.clone()).build();
    let told = Arc::clone(&warnings);
    let warn = move |warning: &str| told.lock().unwrap().push(warning.to_owned());
    let layer = sdk_layer_with(&logs, spans(exported.clone()), warn);
    let filter = tracing_subscriber::EnvFilter::new("trace");
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
    // A host's span around it all must not show anywhere.
    let host = SdkTracerProvider::builder().build();
    let around = Context::new().with_span(host.tracer("host").start("of the host"));
    let _around = around.attach();
    tracing::subscriber::with_default(subscriber, || {
        replay(&mut Transcript::open(path).unwrap(), Capture::NONE, |_| true).unwrap();
    });
    let (logs, spans) = std::mem::take(&mut *exported.0.lock().unwrap());
    let warnings = warnings.lock().unwrap().clone();
    (logs, spans, warnings)
}

#[test]
fn every_recorded_session_says_the_same_through_the_sdk_as_through_the_outbox() {
    let mut spans_seen = 0;
    for (name, path) in recorded::sessions() {
        let durable = recorded::otlp(&path, Capture::NONE, "trace");
        let expected = sorted(durable.logs.lock().unwrap().clone(), durable.spans.lock().unwrap().clone());
        for way in [provider as fn(Exported) -> Spans, processor] {
            let (logs, spans, warnings) = through_sdk(&path, way);
            assert_eq!(warnings, Vec::<String>::new(), "{name}");
            let got = sorted(logs, spans);
            for (expected, got) in [(&expected.0, &got.0), (&expected.1, &got.1)] {
                let different = expected.iter().zip(got).find(|(expected, got)| expected != got);
                assert!(different.is_none(), "{name}: {different:#?}");
                assert_eq!(expected.len(), got.len(), "{name}");
            }
            spans_seen += got.1.len();
        }
    }
    assert!(spans_seen > 1000);
}

#[test]
fn a_provider_that_draws_ids_at_random_is_warned_of_once() {
    let random = |exported| (&SdkTracerProvider::builder().with_span_processor(exported).build()).into();
    let (_, spans, warnings) = through_sdk(&recorded::session("04-commands"), random);
    assert!(spans.len() > 20);
    assert!(warnings.len() == 1 && warnings[0].contains("DerivedIds"), "{warnings:?}");
}

#[test]
fn a_sampler_by_ratio_of_the_sdk_is_warned_of() {
    let by_ratio = |exported: Exported| {
        let builder = SdkTracerProvider::builder().with_id_generator(DerivedIds::default());
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.5)));
        (&builder.with_sampler(sampler).with_span_processor(exported).build()).into()
    };
    let (_, _, warnings) = through_sdk(&recorded::session("01-hello"), by_ratio);
    assert!(warnings.len() == 1 && warnings[0].contains("TurnSampler"), "{warnings:?}");
}

#[test]
fn sampling_keeps_whole_turns_and_every_failure_and_all_logs() {
    let path = recorded::session("16-concurrent");
    let (all_logs, all_spans, _) = through_sdk(&path, provider);
    let sampled = |exported: Exported| {
        let builder = SdkTracerProvider::builder().with_id_generator(DerivedIds::default());
        (&builder.with_sampler(TurnSampler::new(0.5)).with_span_processor(exported).build()).into()
    };
    let (logs, spans, warnings) = through_sdk(&path, sampled);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(logs.len(), all_logs.len());
    let of = |spans: &[Span], trace: &[u8]| spans.iter().filter(|span| span.trace_id == trace).count();
    let failed = |span: &&Span| recorded::text(&span.attributes, "error.type").is_some();
    let (mut whole, mut dropped) = (0, 0);
    for span in &all_spans {
        let (before, after) = (of(&all_spans, &span.trace_id), of(&spans, &span.trace_id));
        let failures = all_spans.iter().filter(|it| it.trace_id == span.trace_id).filter(failed).count();
        assert!(after == before || after == failures, "{after} of {before} spans, {failures} failed");
        whole += usize::from(after == before);
        dropped += usize::from(after < before);
    }
    assert!(whole > 10 && dropped > 10, "{whole} {dropped}");
}

#[test]
fn the_outbox_gets_the_same_share_of_turns() {
    let path = recorded::session("16-concurrent");
    let memory = Arc::new(recorded::Memory::default());
    let sampled = Sampled::new(Arc::clone(&memory), Ratio::new(0.5));
    let layer = otel::layer(sampled, otel::Resource::new("codex-app-server"));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        replay(&mut Transcript::open(&path).unwrap(), Capture::NONE, |_| true).unwrap();
    });
    let through_sdk = through_sdk(&path, |exported| {
        let builder = SdkTracerProvider::builder().with_id_generator(DerivedIds::default());
        (&builder.with_sampler(TurnSampler::new(0.5)).with_span_processor(exported).build()).into()
    });
    let expected = sorted(through_sdk.0, through_sdk.1);
    let got = sorted(memory.logs.lock().unwrap().clone(), memory.spans.lock().unwrap().clone());
    assert_eq!(expected.0.len(), got.0.len());
    assert!(got.1.len() > 20 && expected.1 == got.1, "{} {}", expected.1.len(), got.1.len());
}

#[test]
fn a_turn_belongs_to_the_span_that_the_host_is_in() {
    let exported = Exported::default();
    let host = SdkTracerProvider::builder().build();
    let of_host = tracing_opentelemetry::layer().with_tracer(host.tracer("host"));
    let logs = SdkLoggerProvider::builder().with_log_processor(exported.clone()).build();
    let facts = sdk_layer_with(&logs, provider(exported.clone()), |warning| panic!("{warning}"));
    let subscriber =
        tracing_subscriber::registry()
            .with(of_host.with_filter(tracing_subscriber::filter::filter_fn(|it| {
                !it.target().starts_with("factline")
            })))
            .with(facts.with_filter(otel::only_facts()));
    let around = tracing::subscriber::with_default(subscriber, || {
        let facts = factline::host::Facts::with_observer(
            Observer::new(Capture::NONE).with_host_parent(otel::current_span),
            Capture::NONE,
        );
        let span = tracing::info_span!("request of the host");
        let _entered = span.enter();
        let around = otel::current_span().unwrap();
        for (sender, line) in [
            (
                Sender::Client,
                r#"{"id":1,"method":"initialize","params":{"clientInfo":{"name":"a","version":"1"}}}"#,
            ),
            (Sender::Server, r#"{"id":1,"result":{"userAgent":"codex/1"}}"#),
            (
                Sender::Server,
                r#"{"method":"turn/started","params":{"threadId":"t","turn":{"id":"01a201f3-bbc2-7210-93e3-c9061bfde670"}},"emittedAtMs":1000}"#,
            ),
            (
                Sender::Server,
                r#"{"method":"turn/completed","params":{"threadId":"t","turn":{"id":"01a201f3-bbc2-7210-93e3-c9061bfde670","status":"completed"}},"emittedAtMs":2000}"#,
            ),
        ] {
            facts.track_line(1, sender, line.as_bytes());
        }
        around
    });
    let spans = &exported.0.lock().unwrap().1;
    let turn = spans.iter().find(|span| span.name.starts_with("invoke_agent")).expect("a turn");
    assert_eq!(turn.trace_id, around.0.to_be_bytes());
    assert_eq!(turn.parent_span_id, around.1.to_be_bytes());
}

fn config(dir: &Path, collector: Option<&str>) -> Config {
    let vars = |name: &str| match name {
        "FACTLINE_OUTBOX_DIR" => Some(dir.join("outbox").display().to_string()),
        "FACTLINE_FILES_DIR" => Some(dir.join("files").display().to_string()),
        "OTEL_EXPORTER_OTLP_ENDPOINT" => collector.map(str::to_owned),
        _ => None,
    };
    Config::from_env(vars).unwrap().0
}

fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> Vec<T> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const EACH: usize = 500;

/// In the role of an application that dies with the collector away; as a test of its own it does nothing.
#[test]
fn role_of_an_application() {
    let Some(dir) = std::env::var_os("SDK_ROLE") else { return };
    // Nobody listens there.
    let config = config(Path::new(&dir), Some("http://127.0.0.1:9"));
    let telemetry = Telemetry::start_with_application(&config).unwrap();
    let resource = || Resource::builder_empty().with_service_name("shop").build();
    let logs = SdkLoggerProvider::builder()
        .with_resource(resource())
        .with_log_processor(telemetry.log_processor().unwrap())
        .build();
    let traces = SdkTracerProvider::builder()
        .with_resource(resource())
        .with_span_processor(telemetry.span_processor().unwrap())
        .build();
    std::thread::scope(|scope| {
        for scope_name in ["cart", "till"] {
            let (logger, tracer) = (logs.logger(scope_name), traces.tracer(scope_name));
            scope.spawn(move || {
                for n in 0..EACH {
                    let mut record = logger.create_log_record();
                    record.set_event_name("sold");
                    record.add_attribute("n", n as i64);
                    logger.emit(record);
                    tracer.start(format!("sale {n}")).end();
                }
            });
        }
    });
    std::process::abort();
}

#[test]
fn an_applications_own_telemetry_outlives_the_outage_and_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let died = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["role_of_an_application", "--exact"])
        .env("SDK_ROLE", dir.path())
        .output()
        .unwrap();
    assert!(died.status.code().is_none(), "{}", String::from_utf8_lossy(&died.stdout));

    let later = Telemetry::start(&config(dir.path(), None)).unwrap();
    assert_eq!(later.adopt().unwrap(), 1);
    assert!(later.flush(Instant::now() + Duration::from_secs(30)).is_complete());
    later.stop().unwrap();
    let mut sold = Vec::new();
    for data in lines::<LogsData>(&dir.path().join("files/logs.jsonl")) {
        for of in data.resource_logs {
            assert_eq!(recorded::text(&of.resource.unwrap().attributes, "service.name").unwrap(), "shop");
            for scope in of.scope_logs {
                let name = scope.scope.unwrap().name;
                sold.extend(
                    scope
                        .log_records
                        .iter()
                        .map(|it| (name.clone(), recorded::int(&it.attributes, "n").unwrap())),
                );
            }
        }
    }
    sold.sort();
    let expected = |name: &str| (0..EACH as i64).map(|n| (name.to_owned(), n)).collect::<Vec<_>>();
    assert_eq!(sold, [expected("cart"), expected("till")].concat());
    let traces = lines::<TracesData>(&dir.path().join("files/traces.jsonl"));
    let spans = traces.iter().flat_map(|it| &it.resource_spans).flat_map(|it| &it.scope_spans);
    assert_eq!(spans.map(|it| it.spans.len()).sum::<usize>(), 2 * EACH);
}
