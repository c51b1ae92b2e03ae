//! Turns, from recorded sessions and from OTLP JSON lines. Both are read as spans, so that both are counted alike.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use prost::Message as _;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::fact::Capture;
use crate::otel::{self, Accepted, Resource, Signal, Sink};
use crate::replay::replay;
use crate::transcript::Transcript;

/// A line of OTLP that is longer is not read. The largest that factline writes is about 1 MiB.
const LINE_LIMIT: u64 = 64 << 20;

/// A turn that ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Turn {
    /// Start, ns since 1970.
    pub start: u64,
    pub end: u64,
    pub thread: String,
    pub model: String,
    pub client: String,
    pub status: String,
    pub input: u64,
    pub cached: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
    connection: Option<(String, i64)>,
}

/// Turns by trace and span: one that is there twice is one.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turns: BTreeMap<(Vec<u8>, Vec<u8>), Turn>,
    /// Names of clients by process and connection.
    clients: HashMap<(String, i64), String>,
}

#[derive(Debug, Default)]
struct Unreadable {
    count: u64,
    first: u64,
    why: String,
}

impl Unreadable {
    fn add(&mut self, line: u64, why: &str) {
        if self.count == 0 {
            (self.first, self.why) = (line, why.to_owned());
        }
        self.count += 1;
    }

    fn said(&self, path: &Path) -> Option<String> {
        let Unreadable { count, first, why } = self;
        (*count > 0).then(|| {
            format!(
                "{}: {count} of its lines could not be read, the first is line {first} ({why}); the others were \
                 counted",
                path.display()
            )
        })
    }
}

impl Turns {
    /// Reads a file or a directory. What could not be read of it is said; everything else is counted.
    pub fn read(&mut self, path: &Path) -> Result<Option<String>, String> {
        if !path.is_dir() {
            return self.read_file(path);
        }
        let transcript = path.join("transcript.jsonl");
        if transcript.is_file() {
            return self.read_file(&transcript);
        }
        let files = files(path).map_err(|error| error.to_string())?;
        if files.is_empty() {
            return Err("no traces*.jsonl and no transcript.jsonl is there".to_owned());
        }
        let mut bad = Vec::new();
        for file in files {
            bad.extend(self.read_otlp(&file)?);
        }
        Ok((!bad.is_empty()).then(|| bad.join("; ")))
    }

    /// Every turn, with its client.
    pub fn finish(self) -> Vec<Turn> {
        let Turns { turns, clients } = self;
        let named = |mut turn: Turn| {
            if let Some(client) = turn.connection.as_ref().and_then(|key| clients.get(key)) {
                turn.client.clone_from(client);
            }
            turn
        };
        turns.into_values().map(named).collect()
    }

    fn read_file(&mut self, path: &Path) -> Result<Option<String>, String> {
        let mut first = Vec::new();
        let file = File::open(path).map_err(|error| error.to_string())?;
        BufReader::new(file).take(4096).read_until(b'\n', &mut first).map_err(|error| error.to_string())?;
        let start = String::from_utf8_lossy(&first);
        match start.contains("\"resourceSpans\"") || start.contains("\"resourceLogs\"") {
            true => self.read_otlp(path),
            false => self.read_transcript(path),
        }
    }

    fn read_transcript(&mut self, path: &Path) -> Result<Option<String>, String> {
        let kept = Arc::new(Kept::default());
        let layer = otel::layer(Arc::clone(&kept), Resource::new("codex-app-server"));
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(otel::only_facts()));
        let replayed = tracing::subscriber::with_default(subscriber, || {
            let mut transcript = Transcript::open(path)?;
            replay(&mut transcript, Capture::NONE, |_| true)
        });
        // Connections are counted from 1 in each transcript.
        let process = path.display().to_string();
        for span in kept.spans.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.span(&process, &span);
        }
        let replayed = replayed.map_err(|error| error.to_string())?;
        let bad = Unreadable {
            count: replayed.unreadable,
            first: replayed.first_unreadable,
            why: replayed.first_reason.to_owned(),
        };
        Ok(bad.said(path))
    }

    fn read_otlp(&mut self, path: &Path) -> Result<Option<String>, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let (mut from, mut line, mut number) = (BufReader::new(file), Vec::new(), 0);
        let mut bad = Unreadable::default();
        loop {
            line.clear();
            let read = (&mut from).take(LINE_LIMIT).read_until(b'\n', &mut line);
            if read.map_err(|error| error.to_string())? == 0 {
                return Ok(bad.said(path));
            }
            number += 1;
            if line.len() as u64 == LINE_LIMIT && !line.ends_with(b"\n") {
                bad.add(number, "too long");
                from.skip_until(b'\n').map_err(|error| error.to_string())?;
                continue;
            }
            // A line without its end is one that is being written.
            if !line.ends_with(b"\n") && serde_json::from_slice::<serde::de::IgnoredAny>(&line).is_err() {
                continue;
            }
            if !self.line(&line) {
                bad.add(number, "no OTLP");
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> bool {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            resource_spans: Option<serde::de::IgnoredAny>,
            resource_logs: Option<serde::de::IgnoredAny>,
            resource_metrics: Option<serde::de::IgnoredAny>,
        }
        let Ok(kind) = serde_json::from_slice::<Kind>(line) else { return false };
        if kind.resource_spans.is_some() {
            let Ok(request) = serde_json::from_slice::<ExportTraceServiceRequest>(line) else { return false };
            for resource in request.resource_spans {
                let process = process(&resource.resource);
                for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
                    self.span(&process, span);
                }
            }
            return true;
        }
        if kind.resource_logs.is_some() {
            let Ok(request) = serde_json::from_slice::<ExportLogsServiceRequest>(line) else { return false };
            for resource in request.resource_logs {
                let process = process(&resource.resource);
                // A connection that is open has no span yet.
                let records = resource.scope_logs.iter().flat_map(|scope| &scope.log_records);
                for record in records.filter(|record| record.event_name == "codex.client.initialized") {
                    self.client(&process, &record.attributes);
                }
            }
            return true;
        }
        kind.resource_metrics.is_some()
    }

    fn client(&mut self, process: &str, attributes: &[KeyValue]) {
        if let (Some(connection), Some(name)) =
            (integer(attributes, "codex.connection.id"), text(attributes, "user_agent.name"))
        {
            self.clients.insert((process.to_owned(), connection), name);
        }
    }

    fn span(&mut self, process: &str, span: &Span) {
        let of = &span.attributes;
        if text(of, "rpc.system.name").is_some() {
            return self.client(process, of);
        }
        if text(of, "gen_ai.operation.name").as_deref() != Some("invoke_agent") {
            return;
        }
        let number = |key: &str| integer(of, key).and_then(|it| u64::try_from(it).ok()).unwrap_or(0);
        let turn = Turn {
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano,
            thread: text(of, "gen_ai.conversation.id").unwrap_or_default(),
            model: text(of, "gen_ai.request.model").unwrap_or_default(),
            client: String::new(),
            status: text(of, "codex.turn.status").unwrap_or_default(),
            input: number("gen_ai.usage.input_tokens"),
            cached: number("gen_ai.usage.cache_read.input_tokens"),
            cache_write: number("gen_ai.usage.cache_write.input_tokens"),
            output: number("gen_ai.usage.output_tokens"),
            reasoning: number("gen_ai.usage.reasoning.output_tokens"),
            connection: integer(of, "codex.connection.id").map(|id| (process.to_owned(), id)),
        };
        let key = (span.trace_id.clone(), span.span_id.clone());
        // The one that knows more: a process that died may have closed it before another saw its end.
        match self.turns.get(&key) {
            Some(known) if (known.input, known.output, known.end) >= (turn.input, turn.output, turn.end) => {}
            _ => {
                self.turns.insert(key, turn);
            }
        }
    }
}

/// Keeps spans and drops everything else.
#[derive(Default)]
struct Kept {
    spans: Mutex<Vec<Span>>,
}

impl Sink for Kept {
    fn set_header(&self, _: Signal, _: &[u8]) {}

    fn accept(&self, accepted: Accepted<'_>) {
        let spans = accepted.records.iter().filter(|(signal, _, _)| *signal == Signal::Traces);
        let mut kept = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, _, record) in spans {
            kept.extend(ScopeSpans::decode(*record).map(|scope| scope.spans).unwrap_or_default());
        }
    }
}

// `traces.jsonl`, `traces.1.jsonl` and so on, and the logs beside them.
fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let of = |signal: &str| name == format!("{signal}.jsonl") || name.starts_with(&format!("{signal}."));
        if name.ends_with(".jsonl") && (of("traces") || of("logs")) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn process(resource: &Option<opentelemetry_proto::tonic::resource::v1::Resource>) -> String {
    let attributes = resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
    text(attributes, "service.instance.id").unwrap_or_default()
}

fn value<'v>(attributes: &'v [KeyValue], key: &str) -> Option<&'v Value> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref().and_then(|AnyValue { value }| value.as_ref())
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    match value(attributes, key)? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

fn integer(attributes: &[KeyValue], key: &str) -> Option<i64> {
    match value(attributes, key)? {
        Value::IntValue(number) => Some(*number),
        _ => None,
    }
}
