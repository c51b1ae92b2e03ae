//! What delivery costs and how fast it is, beside the SDK with opentelemetry-otlp.
//!
//! `cargo bench --bench deliver`. Both sides run the whole way from the emitting `tracing` macro to a sink that only
//! counts: ours through the layer, an outbox on disk with its defaults, and delivery; the peer through
//! opentelemetry-appender-tracing or tracing-opentelemetry and a batch processor (queue 65,536, batch 4,096, 100 ms),
//! whose emitter is held back so that it loses nothing. The payloads are those of `emit`: ten attributes of texts and
//! numbers. Every measurement is a process of its own; the sides take turns, and the medians of the rounds are
//! compared. CPU is that of the measured process alone. Each count of the sink is held against what was emitted.
//!
//! `FACTLINE_BENCH_ROUNDS` (5), `FACTLINE_BENCH_RECORDS` (500,000), `FACTLINE_BENCH_BACKLOG` (1,000,000: how many
//! records wait when delivery starts; ten million need 4 GB of disk).

// The lint knows tests, not benches.
#![allow(clippy::expect_used, clippy::panic)]

#[path = "support/payload.rs"]
mod payload;
#[path = "support/sink.rs"]
mod sink;
#[path = "support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use factline::config::Config;
use factline::otel::only_facts;
use factline::telemetry::Telemetry;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{BatchLogProcessor, LogBatch, SdkLoggerProvider};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider, SpanData};
use sink::Sink;
use support::{median, ratio, setting};
use tracing_subscriber::prelude::*;

const QUEUE: usize = 65_536;
const BATCH: usize = 4_096;
const PATIENCE: Duration = Duration::from_secs(300);

/// What is compared, with the bars of CPU and of rate; none where it is only shown.
const COMPARED: [(&str, &str, Option<f64>, Option<f64>); 4] = [
    ("log", "http", Some(0.12), Some(5.0)),
    ("log", "grpc", Some(0.15), None),
    ("span", "http", Some(0.12), Some(5.0)),
    ("span", "grpc", Some(0.15), None),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match words[..] {
        ["sink", protocol] => sink::run(protocol),
        ["measure", side, signal, protocol, port, records] => {
            let records = records.parse().expect("a number");
            match side {
                "ours" => ours(signal, protocol, port, records),
                _ => peer(signal, protocol, port, records),
            }
        }
        ["fill", dir, records] => fill(dir, records.parse().expect("a number")),
        ["drain", dir, port] => drain(dir, port),
        _ => compare(),
    }
}

fn compare() {
    let rounds = setting("FACTLINE_BENCH_ROUNDS", 5);
    let records = setting("FACTLINE_BENCH_RECORDS", 500_000) as u64;
    println!("emission to the sink, {records} records, medians of {rounds} rounds");
    println!(
        "{:<12} {:>7} {:>7} {:>6} {:>5}   {:>9} {:>9} {:>6} {:>5}   {:>5} {:>5}",
        "CPU s/M, then records/s",
        "ours",
        "peer",
        "ratio",
        "bar",
        "ours",
        "peer",
        "times",
        "bar",
        "MB",
        "peer"
    );
    let shown = |bar: Option<f64>| bar.map_or(String::from("-"), |bar| bar.to_string());
    for (signal, protocol, cpu_bar, rate_bar) in COMPARED {
        let one = |side| measured(protocol, records, &["measure", side, signal, protocol], Some(records));
        let all: Vec<_> = (0..rounds).map(|_| (one("ours"), one("peer"))).collect();
        let of = |figure: fn(&(Measured, Measured)) -> f64| median(all.iter().map(figure).collect());
        let (cpu, rate) = (of(|(ours, peer)| ours.cpu / peer.cpu), of(|(ours, peer)| peer.wall / ours.wall));
        println!(
            "{signal:<4} over {protocol:<12} {:>7.2} {:>7.2} {cpu:>6.3} {:>5}   {:>9.0} {:>9.0} {rate:>6.1} {:>5}   {:>5.0} {:>5.0}",
            of(|(ours, _)| ours.cpu),
            of(|(_, peer)| peer.cpu),
            shown(cpu_bar),
            records as f64 / of(|(ours, _)| ours.wall),
            records as f64 / of(|(_, peer)| peer.wall),
            shown(rate_bar),
            of(|(ours, _)| ours.rss_mb),
            of(|(_, peer)| peer.rss_mb),
        );
        ratio(&format!("deliver_{signal}_cpu_{protocol}"), cpu);
        ratio(&format!("deliver_{signal}_rate_{protocol}"), rate);
    }
    backlog(rounds);
}

struct Measured {
    /// Seconds until the sink had everything.
    wall: f64,
    /// CPU seconds per million records.
    cpu: f64,
    rss_mb: f64,
}

/// One measurement in a fresh process, with a fresh sink whose count is held against `records`.
fn measured(protocol: &str, records: u64, arguments: &[&str], told: Option<u64>) -> Measured {
    let sink = Sink::start(protocol);
    let own = std::env::current_exe().expect("the bench's own path");
    let mut command = Command::new(own);
    command.args(arguments).arg(sink.port.to_string());
    if let Some(records) = told {
        command.arg(records.to_string());
    }
    let output = command.output().expect("a process");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    assert_eq!(sink.end(), records, "{arguments:?}: delivered is not what was emitted; {said}");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    Measured { wall: numbers[0], cpu: numbers[1] * 1e6 / records as f64, rss_mb: numbers[2] }
}

/// What this process cost since `began`: wall, CPU seconds, and the most memory it ever had.
fn report(began: Instant, cpu: f64) {
    println!("{} {} {}", began.elapsed().as_secs_f64(), cpu_seconds() - cpu, peak_mb());
}

/// User and system time of all threads, as the kernel accounts it, in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = behind_name.split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// An outbox directory that goes with its owner.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let root = std::env::var_os("FACTLINE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Self(root.join(format!("factline-bench-{}", std::process::id())))
    }

    fn name(&self) -> &str {
        self.0.to_str().expect("a path")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn telemetry(dir: &str, protocol: &str, port: &str) -> Telemetry {
    let vars = |name: &str| match name {
        "FACTLINE_OUTBOX_DIR" => Some(dir.to_owned()),
        "FACTLINE_FILES_DIR" => Some(format!("{dir}-files")),
        // A backlog of ten million is larger than the usual bound.
        "FACTLINE_OUTBOX_MAX_BYTES" => Some("16GiB".to_owned()),
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(format!("http://127.0.0.1:{port}")),
        "OTEL_EXPORTER_OTLP_PROTOCOL" if protocol == "grpc" => Some("grpc".to_owned()),
        _ => None,
    };
    let (config, warnings) = Config::from_env(vars).expect("a configuration");
    assert_eq!(warnings, []);
    Telemetry::start(&config).expect("telemetry")
}

fn emit_facts(signal: &str, records: u64) {
    (0..records).for_each(|number| match signal {
        "log" => payload::log_fact(number),
        _ => payload::span_fact(number),
    });
}

fn ours(signal: &str, protocol: &str, port: &str, records: u64) {
    let place = Place::new();
    let telemetry = telemetry(place.name(), protocol, port);
    tracing_subscriber::registry().with(telemetry.layer().with_filter(only_facts())).init();
    let (began, cpu) = (Instant::now(), cpu_seconds());
    emit_facts(signal, records);
    let flushed = telemetry.flush(Instant::now() + PATIENCE);
    report(began, cpu);
    assert!(flushed.is_complete(), "{flushed:?}");
    telemetry.stop().expect("an end");
}

/// Leaves records that nobody took.
fn fill(dir: &str, records: u64) {
    // Nobody listens on port 1.
    let telemetry = telemetry(dir, "http", "1");
    tracing_subscriber::registry().with(telemetry.layer().with_filter(only_facts())).init();
    emit_facts("log", records);
    telemetry.stop().expect("an end");
}

fn drain(dir: &str, port: &str) {
    let telemetry = telemetry(dir, "http", port);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    assert_eq!(telemetry.adopt().expect("the lane"), 1);
    let flushed = telemetry.flush(Instant::now() + PATIENCE);
    report(began, cpu);
    assert!(flushed.is_complete(), "{flushed:?}");
    telemetry.stop().expect("an end");
}

fn backlog(rounds: usize) {
    let records = setting("FACTLINE_BENCH_BACKLOG", 1_000_000);
    let own = std::env::current_exe().expect("the bench's own path");
    let all: Vec<Measured> = (0..rounds)
        .map(|_| {
            let place = Place::new();
            let filled = Command::new(&own).args(["fill", place.name(), &records.to_string()]).status();
            assert!(filled.expect("a process").success());
            measured("http", records as u64, &["drain", place.name()], None)
        })
        .collect();
    let rate = records as f64 / median(all.iter().map(|it| it.wall).collect());
    let rss = all.iter().map(|it| it.rss_mb).fold(0.0, f64::max);
    let cpu = median(all.iter().map(|it| it.cpu).collect());
    println!(
        "a backlog of {records} log records over http: {rate:.0}/s (bar 300,000), {cpu:.2} CPU s/M, {rss:.0} MB (bar 100)"
    );
    ratio("drain_rate", rate);
    ratio("drain_rss_mb", rss);
}

/// Counts what an exporter took, so that its emitter can be held back.
#[derive(Debug)]
struct Counted<E>(E, Arc<AtomicU64>);

impl opentelemetry_sdk::logs::LogExporter for Counted<LogExporter> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let records = batch.iter().count() as u64;
        let result = self.0.export(batch).await;
        self.1.fetch_add(records, Ordering::SeqCst);
        result
    }

    fn set_resource(&mut self, resource: &opentelemetry_sdk::Resource) {
        self.0.set_resource(resource);
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Counted<SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let records = batch.len() as u64;
        let result = self.0.export(batch).await;
        self.1.fetch_add(records, Ordering::SeqCst);
        result
    }

    fn set_resource(&mut self, resource: &opentelemetry_sdk::Resource) {
        self.0.set_resource(resource);
    }
}

/// Emits as fast as the queue takes it without dropping anything.
fn held_back(records: u64, exported: &AtomicU64, emit: impl Fn(u64)) {
    for number in 0..records {
        while number - exported.load(Ordering::SeqCst) > (QUEUE - BATCH) as u64 {
            std::thread::sleep(Duration::from_micros(200));
        }
        emit(number);
    }
}

fn peer(signal: &str, protocol: &str, port: &str, records: u64) {
    // Its client asks the process for one, since ours names its own. A second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // tonic's channel lives on a runtime, which runs until the process ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    let _inside = (protocol == "grpc").then(|| {
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle.enter()
    });
    let exported = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&exported);
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    // What its own client says would be exported as well.
    let payload = tracing_subscriber::filter::filter_fn(|event| event.target().ends_with("payload"));
    let (began, cpu);
    if signal == "log" {
        let exporter = match protocol {
            "grpc" => LogExporter::builder().with_tonic().with_endpoint(url("")).build(),
            _ => LogExporter::builder().with_http().with_endpoint(url("/v1/logs")).build(),
        };
        let batches = opentelemetry_sdk::logs::BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(Duration::from_millis(100));
        let processor = BatchLogProcessor::builder(Counted(exporter.expect("an exporter"), count))
            .with_batch_config(batches.build())
            .build();
        let provider = SdkLoggerProvider::builder().with_log_processor(processor).build();
        tracing_subscriber::registry()
            .with(OpenTelemetryTracingBridge::new(&provider).with_filter(payload))
            .init();
        (began, cpu) = (Instant::now(), cpu_seconds());
        held_back(records, &exported, payload::log_event);
        provider.shutdown().expect("an end");
    } else {
        let exporter = match protocol {
            "grpc" => SpanExporter::builder().with_tonic().with_endpoint(url("")).build(),
            _ => SpanExporter::builder().with_http().with_endpoint(url("/v1/traces")).build(),
        };
        let batches = opentelemetry_sdk::trace::BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(Duration::from_millis(100));
        let processor = BatchSpanProcessor::builder(Counted(exporter.expect("an exporter"), count))
            .with_batch_config(batches.build())
            .build();
        let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("bench"));
        tracing_subscriber::registry().with(layer.with_filter(payload)).init();
        (began, cpu) = (Instant::now(), cpu_seconds());
        held_back(records, &exported, payload::span_event);
        provider.shutdown().expect("an end");
    }
    report(began, cpu);
}
