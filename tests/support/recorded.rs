//! Recorded sessions, and what factline makes of them: facts as a subscriber sees them, and OTLP.
#![allow(dead_code, unreachable_pub, missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use factline::fact::{self, Capture, End, Envelope, Fact};
use factline::otel::{self, Accepted, Signal, Sink};
use factline::replay::replay;
use factline::transcript::Transcript;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ScopeMetrics};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use prost::Message as _;
use tracing::Subscriber;
use tracing::span;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// Every recorded session with a stream, by name.
pub fn sessions() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut all: Vec<_> = std::fs::read_dir(root)
        .expect("recorded sessions")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.join("transcript.jsonl").exists())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path.join("transcript.jsonl")))
        .collect();
    all.sort();
    assert!(all.len() >= 27, "recorded sessions are missing");
    all
}

pub fn session(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name).join("transcript.jsonl")
}

/// One fact as a layer saw it.
#[derive(Debug, Clone, PartialEq)]
pub enum Saw {
    Point(Envelope, Fact<'static>),
    Start(Envelope, Fact<'static>),
    /// With the envelope of its start.
    End(Envelope, End, Fact<'static>),
}

/// Keeps every fact that it is shown.
#[derive(Clone, Default)]
pub struct Facts(pub Arc<Mutex<Vec<Saw>>>);

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Facts {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if let Some((envelope, fact)) = fact::event(event) {
            self.0.lock().unwrap().push(Saw::Point(envelope, fact));
        }
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some((envelope, fact)) = fact::span_start(attributes) {
            context.span(id).unwrap().extensions_mut().insert(envelope.clone());
            self.0.lock().unwrap().push(Saw::Start(envelope, fact));
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        if let Some((end, fact)) = fact::span_end(span.metadata(), values) {
            let envelope = span.extensions().get::<Envelope>().unwrap().clone();
            self.0.lock().unwrap().push(Saw::End(envelope, end, fact));
        }
    }
}

/// The facts of a recorded session.
pub fn facts(path: &Path) -> Vec<Saw> {
    let kept = Facts::default();
    let subscriber = tracing_subscriber::registry().with(kept.clone());
    tracing::subscriber::with_default(subscriber, || {
        replay(&mut Transcript::open(path).unwrap(), Capture::NONE, |_| true).unwrap();
    });
    Arc::try_unwrap(kept.0)
        .map(|kept| kept.into_inner().unwrap())
        .unwrap_or_else(|kept| kept.lock().unwrap().clone())
}

/// Finished records, decoded with OpenTelemetry's own types.
#[derive(Debug, Default)]
pub struct Memory {
    pub logs: Mutex<Vec<LogRecord>>,
    pub spans: Mutex<Vec<Span>>,
    /// Each record of metrics is a collection.
    pub collections: Mutex<Vec<Vec<Metric>>>,
    pub headers: Mutex<Vec<(Signal, Vec<u8>)>>,
    /// Keys of what began and has not ended.
    pub open: Mutex<std::collections::HashMap<[u8; 24], Vec<u8>>>,
}

impl Sink for Memory {
    fn set_header(&self, signal: Signal, header: &[u8]) {
        self.headers.lock().unwrap().push((signal, header.to_vec()));
    }

    fn accept(&self, accepted: Accepted<'_>) {
        let mut open = self.open.lock().unwrap();
        if let Some((key, _, stored)) = accepted.begin {
            assert!(open.insert(key.0, stored.to_vec()).is_none(), "the same span began twice");
        }
        if let Some(key) = accepted.end {
            assert!(open.remove(&key.0).is_some(), "a span ended that never began");
        }
        for (signal, _, record) in accepted.records {
            match signal {
                Signal::Logs => {
                    self.logs.lock().unwrap().extend(ScopeLogs::decode(*record).unwrap().log_records);
                }
                Signal::Traces => {
                    self.spans.lock().unwrap().extend(ScopeSpans::decode(*record).unwrap().spans)
                }
                Signal::Metrics => {
                    let metrics = ScopeMetrics::decode(*record).unwrap().metrics;
                    self.collections.lock().unwrap().push(metrics);
                }
            }
        }
    }
}

/// The OTLP of a recorded session.
pub fn otlp(path: &Path, capture: Capture, filter: &str) -> Arc<Memory> {
    let memory = Arc::new(Memory::default());
    let layer = otel::layer(Arc::clone(&memory), otel::Resource::new("codex-app-server"));
    let filter = tracing_subscriber::EnvFilter::new(filter);
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
    tracing::subscriber::with_default(subscriber, || {
        replay(&mut Transcript::open(path).unwrap(), capture, |_| true).unwrap();
    });
    memory
}

/// An attribute as text.
pub fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    match value(attributes, key)? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// An attribute as a whole number.
pub fn int(attributes: &[KeyValue], key: &str) -> Option<i64> {
    match value(attributes, key)? {
        Value::IntValue(number) => Some(number),
        _ => None,
    }
}

/// An attribute.
pub fn value(attributes: &[KeyValue], key: &str) -> Option<Value> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value
}
