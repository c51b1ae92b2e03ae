//! What the emitting thread pays for one fact, up to "accepted", beside the SDK's batch processors.
//!
//! `cargo bench --bench emit`; `--bench emit_mimalloc` gives both sides that allocator. Every measurement is a
//! process of its own with one global subscriber, as programs have it; ours and the peer's take turns, and the
//! medians of the rounds are compared (`FACTLINE_BENCH_ROUNDS`, usually five).
//!
//! Ours is the whole way of a fact: the vocabulary's struct, `tracing`, the filter, the layer, an outbox on disk
//! with its defaults (below `FACTLINE_BENCH_DIR`, usually the system's directory for temporary files). The peer is
//! opentelemetry-appender-tracing or tracing-opentelemetry with a batch processor of the SDK, with its defaults
//! and an exporter that does nothing. Both have the same ten attributes, names and values.

// The lint knows tests, not benches.
#![allow(clippy::expect_used)]

#[path = "support/payload.rs"]
mod payload;
#[path = "support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use factline::otel::{self, OutboxSink, Resource, only_facts};
use factline::outbox::{Accept, Outbox, Settings};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, SdkLoggerProvider};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use support::{median, ratio, setting};
use tracing_subscriber::prelude::*;

const BURST: u64 = 9_000;
const BURSTS: u64 = 10;
const FULL: u64 = 1_000_000;
const SPANS: u64 = 300_000;

/// What is compared, and the bar it has to stay below; none where it is only shown.
const COMPARED: [(&str, Option<f64>); 5] = [
    ("log_burst", Some(0.20)),
    ("log_1thread", Some(0.28)),
    ("log_2threads", Some(0.55)),
    ("span_burst", None),
    ("span_1thread", Some(0.40)),
];

/// What `append` promises when it has returned, by policy.
const POLICIES: [(&str, u64, &str); 3] = [
    ("ring", 9_000, "in the mapped ring: survives the process; power loss after sync_interval (100 ms)"),
    ("write", 3_000, "in a segment, write(2) returned: the same, also where no file can be mapped"),
    ("sync", 300, "in a segment, fdatasync returned: survives power loss"),
];

/// The main function of both benches; `allocator` is said in names and headings.
pub fn run(allocator: &str) {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "measure") {
        let (side, what) = (&arguments[at + 1], &arguments[at + 2]);
        let measured = measure(side, what);
        println!("{} {} {}", measured.ns, measured.cpu, measured.dropped);
        return;
    }
    let rounds = setting("FACTLINE_BENCH_ROUNDS", 5);
    let suffix = if allocator == "system" { String::new() } else { format!("_{allocator}") };
    println!(
        "emission, ns per event of the emitting thread, {allocator} allocator, medians of {rounds} rounds"
    );
    println!(
        "{:<14} {:>8} {:>8} {:>7} {:>6}   {:>8} {:>8} {:>7}   {:>7} {:>7}",
        "wall, then CPU", "ours", "peer", "ratio", "bar", "ours", "peer", "ratio", "dropped", "peer, %"
    );
    let mut dropped = 0;
    for (what, bar) in COMPARED {
        let mut all = Vec::new();
        for _ in 0..rounds {
            all.push((in_a_process("ours", what), in_a_process("peer", what)));
        }
        dropped += all.iter().map(|(ours, _)| ours.dropped as u64).sum::<u64>();
        let of = |figure: fn(&(Measured, Measured)) -> f64| median(all.iter().map(figure).collect());
        let value = of(|(ours, peer)| ours.ns / peer.ns);
        println!(
            "{what:<14} {:>8.0} {:>8.0} {value:>7.3} {:>6}   {:>8.0} {:>8.0} {:>7.3}   {dropped:>7} {:>7.1}",
            of(|(ours, _)| ours.ns),
            of(|(_, peer)| peer.ns),
            bar.map_or(String::from("-"), |bar| format!("{bar:.2}")),
            of(|(ours, _)| ours.cpu),
            of(|(_, peer)| peer.cpu),
            of(|(ours, peer)| ours.cpu / peer.cpu),
            of(|(_, peer)| peer.dropped * 100.0)
        );
        ratio(&format!("emit_{what}{suffix}"), value);
    }
    ratio(&format!("dropped{suffix}"), dropped as f64);
    println!("policies, ns per record of some 330 bytes, one thread");
    for (policy, _, promise) in POLICIES {
        let ns = median((0..rounds).map(|_| in_a_process(policy, "policy").ns).collect());
        println!("{policy:<14} {ns:>8.0}  {promise}");
    }
}

#[allow(dead_code)] // The other bench has a main function of its own.
fn main() {
    run("system");
}

struct Measured {
    /// Wall time per event of the emitting thread.
    ns: f64,
    /// Of which it was on a processor: where others want the processors as well, the steadier figure.
    cpu: f64,
    /// Records of ours, a share of the peer's.
    dropped: f64,
}

/// One measurement in a fresh process: what another one left in memory tells on nobody.
fn in_a_process(side: &str, what: &str) -> Measured {
    let own = std::env::current_exe().expect("the bench's own path");
    let output = Command::new(own).args(["measure", side, what]).output().expect("a process");
    assert!(output.status.success(), "{side} {what}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    Measured { ns: numbers[0], cpu: numbers[1], dropped: numbers[2] }
}

fn measure(side: &str, what: &str) -> Measured {
    match (side, what) {
        ("ours", _) => ours(what),
        ("peer", "log_burst" | "log_1thread" | "log_2threads") => peer_logs(what),
        ("peer", _) => peer_spans(what),
        _ => policy(side),
    }
}

/// Calls `emit` with the number of each event as `what` says; returns ns per event of an emitting thread, wall
/// and on the processor. `idle` lets everything come to rest before a burst.
fn timed(what: &str, idle: impl Fn(), emit: impl Fn(u64) + Sync) -> (f64, f64) {
    let loop_of = |events: u64| {
        let (began, ran) = (Instant::now(), on_cpu());
        (0..events).for_each(&emit);
        let wall = began.elapsed().as_nanos() as f64;
        (wall / events as f64, (on_cpu() - ran) / events as f64)
    };
    let total = if what.starts_with("span") { SPANS } else { FULL };
    let runs: Vec<(f64, f64)> = if what.ends_with("burst") {
        let one = |_| {
            idle();
            loop_of(BURST)
        };
        // The first one meets memory that was never touched.
        (0..BURSTS).map(one).skip(1).collect()
    } else {
        idle();
        let threads = if what.ends_with("2threads") { 2 } else { 1 };
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| loop_of(total / threads))).collect();
            running.into_iter().map(|thread| thread.join().expect("an emitter")).collect()
        })
    };
    (median(runs.iter().map(|run| run.0).collect()), median(runs.iter().map(|run| run.1).collect()))
}

/// How long this thread was on a processor, ns.
fn on_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0.0)
}

fn rest() {
    std::thread::sleep(Duration::from_millis(150));
}

/// An outbox directory that goes with its owner.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        let root = std::env::var_os("FACTLINE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Place(root.join(format!("factline-bench-{}", std::process::id())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn outbox(place: &Place, accept: Accept) -> Outbox {
    let mut settings = Settings::new(&place.0);
    settings.queues = vec!["logs".into(), "traces".into()];
    settings.accept = accept;
    Outbox::open(settings).expect("an outbox")
}

fn install(outbox: &Outbox) {
    let queue = |name| outbox.queue(name).into_iter().collect();
    let sink = OutboxSink::new(outbox.clone(), queue("logs"), queue("traces"));
    let layer = otel::layer(sink, Resource::new("bench")).with_filter(only_facts());
    tracing_subscriber::registry().with(layer).init();
}

fn ours(what: &str) -> Measured {
    let place = Place::new();
    let outbox = outbox(&place, Accept::Ring);
    install(&outbox);
    let emit = if what.starts_with("log") { payload::log_fact } else { payload::span_fact };
    let (ns, cpu) = timed(
        what,
        || {
            outbox.sync().expect("a sync");
            rest();
        },
        emit,
    );
    outbox.drain().expect("a drain");
    let counters = outbox.counters();
    let missing = counters.accepted - counters.written;
    let dropped = (counters.lost.total() + counters.refused + missing) as f64;
    outbox.close().expect("a close");
    Measured { ns, cpu, dropped }
}

fn policy(policy: &str) -> Measured {
    let (accept, events) = match policy {
        "ring" => (Accept::Ring, POLICIES[0].1),
        "write" => (Accept::Write, POLICIES[1].1),
        _ => (Accept::Sync, POLICIES[2].1),
    };
    let place = Place::new();
    let outbox = outbox(&place, accept);
    install(&outbox);
    let one = || {
        outbox.sync().expect("a sync");
        rest();
        let began = Instant::now();
        (0..events).for_each(payload::log_fact);
        began.elapsed().as_nanos() as f64 / events as f64
    };
    one();
    let ns = median((0..5).map(|_| one()).collect());
    outbox.close().expect("a close");
    Measured { ns, cpu: 0.0, dropped: 0.0 }
}

/// An exporter that counts and does nothing else.
#[derive(Debug, Clone, Default)]
struct Null(Arc<AtomicU64>);

impl LogExporter for Null {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.0.fetch_add(batch.iter().count() as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl SpanExporter for Null {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

fn emitted(what: &str) -> u64 {
    match what {
        _ if what.ends_with("burst") => BURSTS * BURST,
        _ if what.starts_with("span") => SPANS,
        _ => FULL,
    }
}

fn peer(what: &str, exported: &Null, flush: impl Fn(), emit: impl Fn(u64) + Sync) -> Measured {
    let (ns, cpu) = timed(
        what,
        || {
            flush();
            rest();
        },
        emit,
    );
    flush();
    let emitted = emitted(what) as f64;
    Measured { ns, cpu, dropped: (emitted - exported.0.load(Ordering::Relaxed) as f64) / emitted }
}

fn peer_logs(what: &str) -> Measured {
    let exported = Null::default();
    let provider = SdkLoggerProvider::builder().with_batch_exporter(exported.clone()).build();
    let bridge = OpenTelemetryTracingBridge::new(&provider);
    tracing_subscriber::registry().with(bridge).init();
    peer(what, &exported, || drop(provider.force_flush()), payload::log_event)
}

fn peer_spans(what: &str) -> Measured {
    let exported = Null::default();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exported.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("bench"));
    tracing_subscriber::registry().with(layer).init();
    peer(what, &exported, || drop(provider.force_flush()), payload::span_event)
}
