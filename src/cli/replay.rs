//! `factline replay`: recorded sessions become the same telemetry as live ones.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing_subscriber::layer::SubscriberExt as _;

use serde_json::Value;

use super::filter::BadFilter;
use super::layers::{self, Layers};
use super::shown::Keeper;
use super::stdin::Stdin;
use super::terminal::{self, Look};
use super::tree::Tree;
use super::{Common, FAILED, OK, PARTLY, listing, waterfall};
use crate::analytics::{AnalyticsLayer, Families, Limits, Lines};
use crate::config::Sources;
use crate::fact::Capture;
use crate::jsonl::{JsonLines, Written, private_file};
use crate::metrics::{Metrics, Settings};
use crate::otel::{self, Resource, Sink};
use crate::replay::{Replayed, replay};
use crate::telemetry::{self, Shape, Telemetry};
use crate::transcript::Transcript;

#[derive(clap::Args)]
#[command(after_help = "\
A transcript is what `factline tap --record` writes. With --otlp-file or --analytics-file there is no network and no
outbox, and the same transcript gives the same bytes each time; without them, records go where the OTEL_* variables say.

Examples:
  factline replay --otlp-file out session.jsonl    # logs.jsonl, traces.jsonl and metrics.jsonl in out
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 factline replay session.jsonl
  factline replay --show --otlp-file out session.jsonl    # and a waterfall in the terminal
  factline replay --analytics-file events.jsonl session.jsonl    # one analytics event a line
  factline replay --otlp-file out - < session.jsonl")]
pub(super) struct Arguments {
    /// Write logs.jsonl, traces.jsonl and metrics.jsonl into this directory, and send nothing
    #[arg(long, value_name = "DIR")]
    otlp_file: Option<PathBuf>,

    /// Write the analytics events that the server's own client sends, one a line, into this file; send nothing
    #[arg(long, value_name = "FILE")]
    analytics_file: Option<PathBuf>,

    /// Also print a waterfall of turns, tools and subagents
    #[arg(long)]
    show: bool,

    /// Say what came of it as JSON, with --show also the turns
    #[arg(long)]
    json: bool,

    /// Leave the rest to the outbox when delivery has not moved for this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,

    /// Recorded sessions; `-` is standard input
    #[arg(required = true, value_name = "TRANSCRIPT")]
    transcripts: Vec<PathBuf>,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> u8 {
    let stopped = stop_on_signals();
    let sources = match common.sources() {
        Ok(sources) => sources,
        Err(error) => return failed(&error.to_string()),
    };
    if let Err(error) = layers::check(&sources) {
        return failed(&error.to_string());
    }
    let keeper = arguments.show.then(Keeper::default);
    let output = match Output::open(common, arguments) {
        Ok(output) => output,
        Err(error) => return failed(&error),
    };
    let mut progress = terminal::Progress::new();
    let mut sum = Sum::default();
    for path in &arguments.transcripts {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        // The layers are made for each transcript: one recorded process knows nothing of another.
        let resource = output.resource();
        let measures = output.metrics(resource.clone());
        let (Ok(mut all), Ok(events), Ok(measured)) = (
            output.layers(&sources, keeper.as_ref(), resource),
            layers::events(&sources, output.events()),
            layers::metrics(&sources, measures.as_ref().map(Metrics::layer)),
        ) else {
            break;
        };
        all.extend(events);
        all.extend(measured);
        let subscriber = tracing_subscriber::registry().with(all);
        let outcome = tracing::subscriber::with_default(subscriber, || {
            let opened = match path.as_os_str() == "-" {
                true => Ok(Transcript::from_reader(path, Box::new(Stdin::new(Arc::clone(&stopped))))),
                false => Transcript::open(path),
            };
            opened.and_then(|mut transcript| {
                replay(&mut transcript, output.capture, |messages| {
                    progress.tell(|| format!("{}: {messages} messages", path.display()));
                    !stopped.load(Ordering::Relaxed)
                })
            })
        });
        progress.end();
        if let Some(metrics) = measures {
            metrics.stop();
        }
        match outcome {
            Ok(replayed) => sum.add(path, &replayed),
            Err(error) => {
                terminal::error(&error.to_string());
                sum.failed += 1;
            }
        }
    }
    let tree = keeper.map(|keeper| Tree::new(keeper.take()));
    if let Some(tree) = tree.as_ref().filter(|_| !arguments.json) {
        terminal::print(&waterfall::text(tree, Look::of_stdout()));
    }
    output.finish(arguments, &mut sum, tree.as_ref(), &stopped)
}

#[derive(Default, serde::Serialize)]
struct Sum {
    transcripts: u64,
    messages: u64,
    unreadable: u64,
    failed: u64,
    logs: Option<u64>,
    spans: Option<u64>,
    collections: Option<u64>,
    delivered: Option<u64>,
    waiting: Option<bool>,
    #[serde(skip)]
    undelivered: bool,
}

impl Sum {
    fn add(&mut self, path: &Path, replayed: &Replayed) {
        self.transcripts += 1;
        self.messages += replayed.messages;
        self.unreadable += replayed.unreadable;
        if replayed.unreadable > 0 {
            terminal::warn(&format!(
                "{}: {} of its lines could not be read, the first is line {} ({}); the others were replayed",
                path.display(),
                replayed.unreadable,
                replayed.first_unreadable,
                replayed.first_reason
            ));
        }
    }
}

type EventFile = Lines<BufWriter<File>>;

/// Where a replay's telemetry goes.
#[derive(Default)]
struct Output {
    files: Option<(Arc<JsonLines>, PathBuf)>,
    events: Option<(Arc<EventFile>, PathBuf)>,
    delivery: Option<Telemetry>,
    capture: Capture,
    shape: Shape,
}

impl Output {
    fn open(common: &Common, arguments: &Arguments) -> Result<Output, String> {
        let into_files = arguments.otlp_file.is_some() || arguments.analytics_file.is_some();
        let config = match common.config(!into_files) {
            Ok(config) => Some(config),
            // Into files goes what nobody configured, and then nothing private.
            Err(_) if into_files && common.capture.is_none() => None,
            Err(error) => return Err(error),
        };
        let capture = config.as_ref().map(telemetry::capture).transpose()?.unwrap_or_default();
        let mut output = Output {
            capture,
            shape: config.as_ref().map(Shape::of).unwrap_or_default(),
            ..Output::default()
        };
        if let Some(dir) = &arguments.otlp_file {
            let files = JsonLines::create(dir).map_err(|error| unwritable(dir, "--otlp-file", &error))?;
            output.files = Some((Arc::new(files), dir.clone()));
        }
        if let Some(path) = &arguments.analytics_file {
            let file = private_file(path).map_err(|error| unwritable(path, "--analytics-file", &error))?;
            output.events = Some((Arc::new(Lines::new(BufWriter::new(file))), path.clone()));
        }
        if let Some(config) = config.filter(|_| !into_files) {
            output.delivery = Some(Telemetry::start(&config).map_err(|error| error.to_string())?);
        }
        Ok(output)
    }

    // One recorded process; files know nothing but the transcript.
    fn resource(&self) -> Resource {
        let recorded = || Resource::new("codex-app-server").with_capture(self.capture);
        self.delivery.as_ref().map_or_else(recorded, Telemetry::resource)
    }

    fn layers(
        &self,
        sources: &Sources<'_>,
        keeper: Option<&Keeper>,
        resource: Resource,
    ) -> Result<Layers, BadFilter> {
        let shape = self.shape;
        match (&self.files, &self.delivery, keeper) {
            (Some((files, _)), _, Some(keeper)) => {
                layers::telemetry(sources, shape, keeper.watch(Arc::clone(files)), resource)
            }
            (Some((files, _)), _, None) => layers::telemetry(sources, shape, Arc::clone(files), resource),
            (None, Some(telemetry), Some(keeper)) => {
                layers::telemetry(sources, shape, keeper.watch(telemetry.sink()), resource)
            }
            (None, Some(telemetry), None) => layers::telemetry(sources, shape, telemetry.sink(), resource),
            (None, None, Some(keeper)) => layers::telemetry(sources, shape, keeper.watch(Nowhere), resource),
            (None, None, None) => Ok(Layers::new()),
        }
    }

    fn metrics(&self, resource: Resource) -> Option<Metrics> {
        match (&self.files, &self.delivery) {
            (Some((files, _)), _) => {
                Some(Metrics::replaying(Arc::clone(files) as Arc<dyn Sink>, resource, Settings::default()))
            }
            (None, Some(telemetry)) => telemetry.replayed_metrics(resource),
            (None, None) => None,
        }
    }

    fn events(&self) -> Option<AnalyticsLayer> {
        match (&self.events, &self.delivery) {
            (Some((events, _)), _) => {
                Some(AnalyticsLayer::new(Arc::clone(events), Families::default(), Limits::default()))
            }
            (None, Some(telemetry)) => telemetry.analytics_layer(),
            (None, None) => None,
        }
    }

    fn finish(self, arguments: &Arguments, sum: &mut Sum, tree: Option<&Tree>, stopped: &AtomicBool) -> u8 {
        let mut places = Vec::new();
        let mut broken = false;
        if let Some((files, dir)) = &self.files {
            match files.finish() {
                Ok(Written { logs, spans, collections }) => {
                    (sum.logs, sum.spans, sum.collections) = (Some(logs), Some(spans), Some(collections));
                    places.push(format!(
                        "{logs} log records, {spans} spans and {collections} collections of metrics are in {}",
                        dir.display()
                    ));
                }
                Err(error) => {
                    terminal::error(&unwritable(dir, "--otlp-file", &error));
                    broken = true;
                }
            }
        }
        if let Some((events, path)) = &self.events {
            match events.finish() {
                Ok(()) => places.push(format!("the analytics events are in {}", path.display())),
                Err(error) => {
                    terminal::error(&unwritable(path, "--analytics-file", &error));
                    broken = true;
                }
            }
        }
        if let Some(telemetry) = self.delivery {
            match delivered(&telemetry, arguments, sum, stopped) {
                Ok(place) => places.push(place),
                Err(error) => return failed(&error),
            }
        }
        if broken {
            return FAILED;
        }
        let place = places.join("; ");
        if arguments.json {
            let mut value = serde_json::to_value(&*sum).unwrap_or_default();
            if let (Some(tree), Value::Object(value)) = (tree, &mut value)
                && let Value::Object(shown) = listing::json(tree)
            {
                value.extend(shown);
            }
            terminal::print(&format!("{value}\n"));
        } else {
            terminal::tell(&format!("{} messages of {} transcripts: {place}", sum.messages, sum.transcripts));
        }
        if stopped.load(Ordering::Relaxed) {
            terminal::warn("interrupted; what was read up to then is kept");
            return FAILED;
        }
        match (sum.failed, sum.unreadable) {
            _ if sum.undelivered => FAILED,
            (0, 0) => OK,
            (0, _) => PARTLY,
            _ => FAILED,
        }
    }
}

fn delivered(
    telemetry: &Telemetry,
    arguments: &Arguments,
    sum: &mut Sum,
    stopped: &AtomicBool,
) -> Result<String, String> {
    let complete = deliver(telemetry, stopped, Duration::from_secs(arguments.timeout));
    // The end tries once more, and what it meets belongs to the report.
    telemetry.stop().map_err(|error| format!("the outbox could not be closed: {error}"))?;
    let report = telemetry.report();
    let delivered: u64 = report.iter().map(|route| route.delivered).sum();
    (sum.delivered, sum.waiting) = (Some(delivered), Some(!complete));
    if !complete {
        let last = report.iter().find_map(|route| route.last_error.clone());
        let why = last.map_or(String::new(), |error| format!(" ({error})"));
        terminal::warn(&format!(
            "not everything is delivered yet{why}; the rest waits in {}, `factline outbox flush` sends it",
            telemetry.outbox().dir().display()
        ));
    }
    let lost: u64 = report.iter().flat_map(|route| route.lost.values()).sum();
    if lost > 0 {
        let why = report.iter().find(|route| !route.lost.is_empty()).and_then(|it| it.last_error.as_deref());
        terminal::warn(&format!("records refused for good: {lost} ({})", why.unwrap_or("no reason given")));
    }
    sum.undelivered = !complete || lost > 0;
    let to: Vec<_> = report.iter().map(|route| route.destination.as_str()).collect();
    if to.is_empty() {
        terminal::warn("no telemetry is sent: OTEL_SDK_DISABLED or OTEL_*_EXPORTER says so");
    }
    let to = if to.is_empty() { "nobody".to_owned() } else { to.join(", ") };
    Ok(format!("{delivered} records delivered to {to}"))
}

// As long as something moves, and a while longer.
fn deliver(telemetry: &Telemetry, stopped: &AtomicBool, patience: Duration) -> bool {
    let mut progress = terminal::Progress::new();
    let mut last = (0, Instant::now());
    loop {
        if telemetry.flush(Instant::now() + Duration::from_millis(200)).is_complete() {
            return true;
        }
        let delivered: u64 = telemetry.report().iter().map(|route| route.delivered).sum();
        progress.tell(|| format!("{delivered} records delivered"));
        if delivered != last.0 {
            last = (delivered, Instant::now());
        }
        if stopped.load(Ordering::Relaxed) || last.1.elapsed() > patience {
            return false;
        }
    }
}

fn unwritable(path: &Path, flag: &str, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull => "free some space, or name another place with",
        _ => "name a place that this user may write with",
    };
    format!("cannot write into {}: {error}; {advice} {flag}", path.display())
}

/// For who only wants to see.
#[derive(Clone)]
struct Nowhere;

impl Sink for Nowhere {
    fn set_header(&self, _: otel::Signal, _: &[u8]) {}
    fn accept(&self, _: otel::Accepted<'_>) {}
}

fn failed(message: &str) -> u8 {
    terminal::error(message);
    FAILED
}

/// The first interrupt asks to stop and keep what there is; the second ends at once.
pub(super) fn stop_on_signals() -> Arc<AtomicBool> {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Without the hook the signal ends the process, which loses nothing that was accepted.
        let _ = signal_hook::flag::register_conditional_default(signal, Arc::clone(&stopped));
        let _ = signal_hook::flag::register(signal, Arc::clone(&stopped));
    }
    stopped
}
