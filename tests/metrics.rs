//! Metrics say what the transcript says, with the table's names and dimensions, and survive what logs and spans survive.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

#[path = "support/cli.rs"]
mod cli;
#[path = "metrics/live.rs"]
mod live;
#[path = "support/program.rs"]
mod program;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/recorded.rs"]
mod recorded;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use cli::Surroundings;
use factline::fact::Capture;
use factline::fact::vocabulary::{ToolEnd, ToolStart, TurnProfile, TurnStart};
use factline::host::Facts;
use factline::metrics::{
    ATTRIBUTES, Instrument, Kind, Metrics, MetricsLayer, OTHER, Settings, TABLE, Temporality, TokenNames,
    When, catalogue,
};
use factline::otel::Resource;
use factline::replay::replay;
use factline::transcript::Transcript;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{Exemplar, Metric};
use recorded::{Memory, sessions, text};
use tracing_subscriber::layer::SubscriberExt as _;

/// One data point.
#[derive(Debug, Clone)]
struct Point {
    attributes: Vec<KeyValue>,
    /// A sum's or gauge's value, or a histogram's sum.
    value: f64,
    /// Of a histogram.
    count: u64,
    start: u64,
    time: u64,
    exemplars: Vec<Exemplar>,
}

impl Point {
    fn text(&self, key: &str) -> String {
        text(&self.attributes, key).unwrap_or_default()
    }
}

fn points(metrics: &[Metric], name: &str) -> Vec<Point> {
    let number = |value: Option<Number>| match value.unwrap() {
        Number::AsInt(value) => value as f64,
        Number::AsDouble(value) => value,
    };
    let Some(metric) = metrics.iter().find(|metric| metric.name == name) else { return Vec::new() };
    match metric.data.clone().unwrap() {
        Data::Sum(sum) => sum.data_points,
        Data::Gauge(gauge) => gauge.data_points,
        Data::Histogram(histogram) => {
            let point = |point: opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint| Point {
                attributes: point.attributes,
                value: point.sum.unwrap(),
                count: point.count,
                start: point.start_time_unix_nano,
                time: point.time_unix_nano,
                exemplars: point.exemplars,
            };
            return histogram.data_points.into_iter().map(point).collect();
        }
        _ => panic!("{name} is of no kind that is used"),
    }
    .into_iter()
    .map(|point| Point {
        attributes: point.attributes,
        value: number(point.value),
        count: 1,
        start: point.start_time_unix_nano,
        time: point.time_unix_nano,
        exemplars: point.exemplars,
    })
    .collect()
}

fn sum(metrics: &[Metric], name: &str) -> u64 {
    points(metrics, name).iter().map(|point| point.value as u64).sum()
}

fn by(metrics: &[Metric], name: &str, key: &str) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for point in points(metrics, name) {
        *all.entry(point.text(key)).or_default() += point.value as u64;
    }
    all
}

/// Runs something under the layer of metrics of a recorded process; what they come to at the end.
fn measured(settings: Settings, run: impl FnOnce(&Metrics)) -> Vec<Vec<Metric>> {
    let memory = Arc::new(Memory::default());
    let sink: Arc<dyn factline::otel::Sink> = Arc::clone(&memory) as Arc<dyn factline::otel::Sink>;
    let metrics = Metrics::replaying(sink, Resource::new("codex-app-server"), settings);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(metrics.layer()), || run(&metrics));
    metrics.stop();
    memory.collections.lock().unwrap().clone()
}

fn session(path: &Path, capture: Capture, settings: Settings) -> Vec<Vec<Metric>> {
    measured(settings, |_| {
        replay(&mut Transcript::open(path).unwrap(), capture, |_| true).unwrap();
    })
}

fn last(path: &Path) -> Vec<Metric> {
    session(path, Capture::NONE, Settings::default()).pop().unwrap_or_default()
}

#[test]
fn every_recorded_session_is_counted_as_its_transcript_says() {
    let mut turns = 0;
    for (name, path) in sessions() {
        let (metrics, said) = (last(&path), raw::Session::read(&path));
        let tokens = |name: &str| sum(&metrics, &format!("gen_ai.client.inference.usage.{name}"));
        let counted = raw::Tokens {
            input: tokens("input_tokens"),
            cached: tokens("cache_read.input_tokens"),
            cache_write: tokens("cache_write.input_tokens"),
            output: tokens("output_tokens"),
            reasoning: tokens("reasoning.output_tokens"),
        };
        assert_eq!(counted, said.tokens(), "{name}: tokens");
        assert_eq!(by(&metrics, "codex.turns", "codex.turn.status"), said.turns_by_status(), "{name}: turns");
        assert_eq!(sum(&metrics, "codex.tool.executions"), said.tools.len() as u64, "{name}: tools");
        assert_eq!(sum(&metrics, "codex.approvals"), said.approvals, "{name}: approvals");
        assert_eq!(sum(&metrics, "codex.errors"), said.errors, "{name}: errors");
        assert_eq!(by(&metrics, "codex.turn.steers", "codex.steer.result"), said.steers, "{name}: steers");
        let running: f64 = points(&metrics, "codex.turn.active").iter().map(|point| point.value).sum();
        assert_eq!(running, 0.0, "{name}: nothing runs any more");
        turns += said.turns.len();
    }
    assert!(turns > 150, "the sessions were not read: {turns}");
}

#[test]
fn durations_are_those_of_the_spans() {
    for (name, path) in sessions() {
        let metrics = last(&path);
        let otlp = recorded::otlp(&path, Capture::NONE, "info");
        let spans = otlp.spans.lock().unwrap();
        for (metric, operation) in [
            ("gen_ai.invoke_agent.duration", "invoke_agent"),
            ("gen_ai.execute_tool.duration", "execute_tool"),
        ] {
            let of = spans
                .iter()
                .filter(|span| text(&span.attributes, "gen_ai.operation.name").as_deref() == Some(operation));
            let lengths: Vec<f64> =
                of.map(|span| (span.end_time_unix_nano - span.start_time_unix_nano) as f64 / 1e9).collect();
            let points = points(&metrics, metric);
            let count: u64 = points.iter().map(|point| point.count).sum();
            let seconds: f64 = points.iter().map(|point| point.value).sum();
            assert_eq!(count, lengths.len() as u64, "{name}: {metric}");
            assert!((seconds - lengths.iter().sum::<f64>()).abs() < 1e-6, "{name}: {metric}");
        }
    }
}

#[test]
fn every_point_that_is_counted_is_a_log_record() {
    let (mut errors, mut skills) = (BTreeMap::new(), BTreeMap::new());
    let (mut errors_counted, mut skills_counted) = (BTreeMap::new(), BTreeMap::new());
    let add = |to: &mut BTreeMap<String, u64>, of: BTreeMap<String, u64>| {
        of.into_iter().for_each(|(key, count)| *to.entry(key).or_default() += count);
    };
    for (_, path) in sessions() {
        let otlp = recorded::otlp(&path, Capture::NONE, "info");
        let logs = otlp.logs.lock().unwrap();
        for (event, key, to) in [
            ("codex.error", "error.type", &mut errors),
            ("codex.skill.invoked", "gen_ai.skill.name", &mut skills),
        ] {
            for record in logs.iter().filter(|record| record.event_name == event) {
                *to.entry(text(&record.attributes, key).unwrap()).or_default() += 1;
            }
        }
        let metrics = last(&path);
        add(&mut errors_counted, by(&metrics, "codex.errors", "error.type"));
        add(&mut skills_counted, by(&metrics, "codex.skill.invocations", "gen_ai.skill.name"));
    }
    assert!(errors.len() > 2 && !skills.is_empty(), "{errors:?} {skills:?}");
    assert_eq!(errors_counted, errors);
    assert_eq!(skills_counted, skills);
}

#[test]
fn names_units_and_dimensions_are_the_tables_and_none_is_an_id() {
    // From Codex's own export, codex-rs/otel/src/metrics/names.rs: the same name with another shape would spoil both.
    let theirs = [
        "codex.thread.started",
        "codex.turn.token_usage",
        "codex.turn.e2e_duration_ms",
        "codex.turn.ttft.duration_ms",
        "codex.tool.call",
        "codex.tool.call.duration_ms",
        "codex.api_request",
        "codex.api_request.duration_ms",
        "codex.hooks.run",
        "codex.hooks.run.duration_ms",
    ];
    let prefixes = [
        "codex.sse_event",
        "codex.websocket.",
        "codex.guardian.review",
        "codex.plugins.startup_sync",
        "codex.thread.skills.",
    ];
    let known: BTreeSet<&str> = ATTRIBUTES.iter().map(|(key, _)| *key).collect();
    for of in TABLE {
        assert!(!theirs.contains(&of.name), "{}", of.name);
        assert!(!prefixes.iter().any(|prefix| of.name.starts_with(prefix)), "{}", of.name);
        assert!(of.attributes.iter().all(|key| known.contains(key)), "{}", of.name);
        assert!(!of.attributes.iter().any(|key| key.ends_with(".id") && *key != "codex.rate_limit.id"));
    }
    let mut seen = BTreeSet::new();
    for (name, path) in sessions() {
        let ids = raw::Session::read(&path).ids;
        for metric in last(&path) {
            let of = TABLE.iter().find(|of| of.name == metric.name).unwrap();
            assert_eq!((of.unit, of.doc), (&*metric.unit, &*metric.description));
            if let (Kind::Histogram(bounds), Some(Data::Histogram(histogram))) = (of.kind, &metric.data) {
                assert!(histogram.data_points.iter().all(|point| point.explicit_bounds == bounds));
            }
            for point in points(std::slice::from_ref(&metric), of.name) {
                assert!(point.start <= point.time && point.start > 0, "{name}: {}", of.name);
                for attribute in &point.attributes {
                    assert!(
                        of.attributes.contains(&&*attribute.key),
                        "{name}: {} {}",
                        of.name,
                        attribute.key
                    );
                    let value = point.text(&attribute.key);
                    assert!(!ids.contains(&value), "{name}: {} is an id", attribute.key);
                }
            }
            seen.insert(of.name);
        }
    }
    let always = TABLE.iter().filter(|of| matches!(of.when, When::Always | When::LatestTokens));
    for of in always {
        assert!(seen.contains(of.name), "{} is in no session", of.name);
    }
}

#[test]
fn what_may_be_captured_changes_nothing_in_metrics() {
    for (name, path) in sessions() {
        let private = session(&path, Capture::all(), Settings::default());
        assert_eq!(private, session(&path, Capture::NONE, Settings::default()), "{name}");
    }
}

fn call(facts: &Facts, tool: &str, server: &str) {
    let start = ToolStart {
        thread_id: "thread".into(),
        turn_id: "turn".into(),
        call_id: "call".into(),
        tool: tool.into(),
        mcp_server: Some(server.into()),
        item_type: "mcpToolCall".into(),
        ..ToolStart::default()
    };
    facts.begin(&start).end(&ToolEnd { status: "completed".into(), ..ToolEnd::default() });
}

#[test]
fn many_tools_end_in_other_and_many_series_in_the_overflow_and_none_is_lost() {
    let metrics = measured(Settings::default(), |_| {
        let facts = Facts::new();
        for number in 0..4000 {
            call(&facts, &format!("tool{}", number % 100), &format!("server{}", number / 100));
        }
    })
    .pop()
    .unwrap();
    let points = points(&metrics, "codex.tool.executions");
    assert_eq!(sum(&metrics, "codex.tool.executions"), 4000);
    let tools: BTreeSet<String> = points.iter().map(|point| point.text("gen_ai.tool.name")).collect();
    assert!(tools.contains("tool0") && tools.contains(OTHER) && !tools.contains("tool99"));
    assert!(tools.len() <= 66, "64, the others, and the overflow's none: {}", tools.len());
    assert!(points.len() <= 2001, "{}", points.len());
    let overflow = |point: &&Point| point.attributes.iter().any(|it| it.key == "otel.metric.overflow");
    assert_eq!(points.iter().filter(overflow).count(), 1);
}

#[test]
fn values_begin_anew_where_delta_is_asked_for_and_come_to_the_same() {
    let run = |temporality| {
        measured(Settings { temporality, ..Settings::default() }, |metrics| {
            let facts = Facts::new();
            call(&facts, "one", "server");
            metrics.flush();
            call(&facts, "one", "server");
            call(&facts, "two", "server");
        })
    };
    let counts = |all: &[Vec<Metric>]| -> Vec<u64> {
        all.iter().map(|metrics| sum(metrics, "codex.tool.executions")).collect()
    };
    let (cumulative, delta) = (run(Temporality::Cumulative), run(Temporality::Delta));
    assert_eq!(counts(&cumulative), [1, 3]);
    assert_eq!(counts(&delta), [1, 2]);
    let times = |metrics: &[Metric]| {
        let points = points(metrics, "codex.tool.executions");
        (points[0].start, points[0].time)
    };
    assert_eq!(times(&cumulative[0]).0, times(&cumulative[1]).0, "one start");
    assert_eq!(times(&delta[0]).1, times(&delta[1]).0, "the second begins where the first ends");
}

#[test]
fn exemplars_lead_from_a_bucket_to_the_turns_trace() {
    let (_, path) = sessions().into_iter().find(|(name, _)| name == "04-commands").unwrap();
    let traces: BTreeSet<String> =
        raw::Session::read(&path).turns.keys().map(|turn| turn.replace('-', "")).collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let metrics = last(&path);
    for name in
        ["gen_ai.invoke_agent.duration", "gen_ai.execute_tool.duration", "codex.turns", "codex.approvals"]
    {
        for point in points(&metrics, name) {
            let exemplar = &point.exemplars[0];
            assert!(traces.contains(&hex(&exemplar.trace_id)), "{name}: {}", hex(&exemplar.trace_id));
            assert_eq!(exemplar.span_id.len(), 8, "{name}");
            assert!(exemplar.value.is_some() && exemplar.time_unix_nano > 0);
        }
    }
    let none = session(&path, Capture::NONE, Settings { exemplars: false, ..Settings::default() });
    let named = |name: &str| points(&none[0], name);
    assert!(named("codex.turns").iter().all(|point| point.exemplars.is_empty()));
}

#[test]
fn tokens_have_the_names_that_were_asked_for() {
    let (_, path) = sessions().into_iter().find(|(name, _)| name == "01-hello").unwrap();
    let said = raw::Session::read(&path).tokens();
    for (tokens, latest, old) in [
        (TokenNames::Latest, true, false),
        (TokenNames::Old, false, true),
        (TokenNames::Both, true, true),
        (TokenNames::None, false, false),
    ] {
        let metrics = session(&path, Capture::NONE, Settings { tokens, ..Settings::default() }).remove(0);
        let counters = sum(&metrics, "gen_ai.client.inference.usage.input_tokens");
        assert_eq!(counters, if latest { said.input } else { 0 }, "{tokens:?}");
        let histogram = by(&metrics, "gen_ai.client.token.usage", "gen_ai.token.type");
        let expected = BTreeMap::from([("input".to_owned(), said.input), ("output".to_owned(), said.output)]);
        assert_eq!(histogram, if old { expected } else { BTreeMap::new() }, "{tokens:?}");
    }
}

#[test]
fn a_host_tells_how_the_time_of_a_turn_was_spent() {
    let metrics = measured(Settings::default(), |_| {
        let facts = Facts::new();
        let start = TurnStart {
            thread_id: "thread".into(),
            turn_id: "turn".into(),
            agent: "codex".into(),
            ..TurnStart::default()
        };
        let turn = facts.begin(&start);
        facts.track_turn_profile(&TurnProfile {
            thread_id: "thread".into(),
            turn_id: "turn".into(),
            sampling_ms: 1500,
            sampling_request_count: 3,
            ..TurnProfile::default()
        });
        drop(turn);
    })
    .pop()
    .unwrap();
    let calls = &points(&metrics, "gen_ai.invoke_agent.inference_calls")[0];
    assert_eq!((calls.value, calls.text("gen_ai.agent.name").as_str()), (3.0, "codex"));
    let phases = points(&metrics, "codex.turn.phase.duration");
    let sampling = phases.iter().find(|point| point.text("codex.turn.phase") == "sampling").unwrap();
    assert_eq!((phases.len(), sampling.value), (6, 1.5));
    let turns = by(&metrics, "codex.turns", "codex.turn.status");
    assert_eq!(turns, BTreeMap::from([("interrupted".to_owned(), 1)]), "it was dropped without an end");
}

/// A host's own exporter.
#[derive(Clone, Default)]
struct Theirs(Arc<Mutex<Vec<ExportMetricsServiceRequest>>>);

impl opentelemetry_sdk::metrics::exporter::PushMetricExporter for Theirs {
    async fn export(
        &self,
        metrics: &opentelemetry_sdk::metrics::data::ResourceMetrics,
    ) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.lock().unwrap().push(metrics.into());
        Ok(())
    }
    fn force_flush(&self) -> opentelemetry_sdk::error::OTelSdkResult {
        Ok(())
    }
    fn shutdown_with_timeout(&self, _: std::time::Duration) -> opentelemetry_sdk::error::OTelSdkResult {
        Ok(())
    }
    fn temporality(&self) -> opentelemetry_sdk::metrics::Temporality {
        opentelemetry_sdk::metrics::Temporality::Cumulative
    }
}

#[test]
fn a_host_with_a_provider_of_its_own_gets_the_same_numbers() {
    use opentelemetry::metrics::MeterProvider as _;
    let theirs = Theirs::default();
    let provider = opentelemetry_sdk::metrics::SdkMeterProvider::builder()
        .with_periodic_exporter(theirs.clone())
        .build();
    let (_, path) = sessions().into_iter().find(|(name, _)| name == "04-commands").unwrap();
    let layer = MetricsLayer::over(&provider.meter("host"), TokenNames::Latest);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        replay(&mut Transcript::open(&path).unwrap(), Capture::NONE, |_| true).unwrap();
    });
    provider.force_flush().unwrap();
    let request = theirs.0.lock().unwrap().pop().unwrap();
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    let ours = last(&path);
    for of in Instrument::ALL.iter().map(|instrument| instrument.described()) {
        assert_eq!(sum(metrics, of.name), sum(&ours, of.name), "{}", of.name);
    }
}

#[test]
fn a_replay_into_files_gives_the_same_bytes_and_nothing_of_the_pipeline() {
    let around = Surroundings::new();
    let session = around.session();
    let read = |dir: &str| {
        around
            .run(["replay", "--otlp-file", dir, session.to_str().unwrap()])
            .must(0, &["collections of metrics"]);
        std::fs::read_to_string(around.path(dir).join("metrics.jsonl")).unwrap()
    };
    let (one, two) = (read("one"), read("two"));
    assert_eq!(one, two);
    assert!(one.contains("gen_ai.invoke_agent.duration") && !one.contains("factline.records"));
    let request: ExportMetricsServiceRequest = serde_json::from_str(one.lines().next().unwrap()).unwrap();
    let resource = request.resource_metrics[0].resource.as_ref().unwrap();
    assert_eq!(text(&resource.attributes, "service.name").unwrap(), "codex-app-server");
}

#[test]
fn the_page_of_metrics_is_that_of_the_table() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    assert_eq!(
        std::fs::read_to_string(page).unwrap(),
        catalogue(),
        "cargo run --example metrics > docs/metrics.md"
    );
}
