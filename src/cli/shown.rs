//! What passed on its way out, kept to be shown: spans as a trace viewer gets them, and the approvals beside them.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::ScopeLogs;
use opentelemetry_proto::tonic::trace::v1::{self as otlp, ScopeSpans, status::StatusCode};
use prost::Message as _;

use crate::otel::{Accepted, Signal, Sink};

/// What a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    /// A turn, or a review, of an agent.
    Turn,
    /// A call of a tool.
    Tool,
    /// A client's connection.
    Connection,
    /// A hook, a compaction.
    #[default]
    Other,
}

/// A finished span.
#[derive(Debug, Clone, Default)]
pub(super) struct Span {
    pub trace: u128,
    pub span: u64,
    /// 0 for a root.
    pub parent: u64,
    pub kind: Kind,
    pub name: String,
    pub start: u64,
    pub end: u64,
    pub thread: String,
    pub turn: String,
    pub call: String,
    pub agent: String,
    pub tool: String,
    pub client: String,
    /// Turns of its thread before it.
    pub index: Option<i64>,
    pub status: String,
    pub error: Option<String>,
    pub input: Option<i64>,
    pub output: Option<i64>,
}

/// How a question for approval was answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Approval {
    pub turn: String,
    pub call: String,
    pub decision: String,
    pub resolution: String,
    pub wait_s: Option<f64>,
}

/// Everything that was kept.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub spans: Vec<Span>,
    pub approvals: Vec<Approval>,
}

/// Keeps what the sinks that it watches are given. Clones keep together.
#[derive(Debug, Clone, Default)]
pub(super) struct Keeper(Arc<Mutex<Shown>>);

#[derive(Clone)]
pub(super) struct Watched<S> {
    sink: S,
    keeper: Keeper,
}

impl Keeper {
    /// `sink`, with what is written to it kept.
    pub fn watch<S: Sink>(&self, sink: S) -> Watched<S> {
        Watched { sink, keeper: self.clone() }
    }

    /// What was kept up to now.
    pub fn take(&self) -> Shown {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    // The record is one entry of `ScopeSpans.spans` or `ScopeLogs.log_records`, and so a whole one of them.
    fn keep(&self, signal: Signal, record: &[u8]) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match signal {
            Signal::Traces => {
                let spans = ScopeSpans::decode(record).map(|scope| scope.spans).unwrap_or_default();
                shown.spans.extend(spans.iter().map(Span::from));
            }
            Signal::Metrics => {}
            Signal::Logs => {
                let logs = ScopeLogs::decode(record).map(|scope| scope.log_records).unwrap_or_default();
                let resolved = logs.iter().filter(|log| log.event_name == "codex.approval.resolved");
                shown.approvals.extend(resolved.map(|log| Approval {
                    turn: text(&log.attributes, "codex.turn.id"),
                    call: text(&log.attributes, "gen_ai.tool.call.id"),
                    decision: text(&log.attributes, "codex.approval.decision"),
                    resolution: text(&log.attributes, "codex.approval.resolution"),
                    wait_s: match value(&log.attributes, "codex.approval.duration_s") {
                        Some(Value::DoubleValue(seconds)) => Some(*seconds),
                        _ => None,
                    },
                }));
            }
        }
    }
}

impl<S: Sink> Sink for Watched<S> {
    fn set_header(&self, signal: Signal, header: &[u8]) {
        self.sink.set_header(signal, header);
    }

    fn accept(&self, accepted: Accepted<'_>) {
        for (signal, _, record) in accepted.records {
            self.keeper.keep(*signal, record);
        }
        self.sink.accept(accepted);
    }
}

impl From<&otlp::Span> for Span {
    fn from(span: &otlp::Span) -> Span {
        let of = &span.attributes;
        let kind = match text(of, "gen_ai.operation.name").as_str() {
            "invoke_agent" => Kind::Turn,
            "execute_tool" => Kind::Tool,
            _ if value(of, "rpc.system.name").is_some() => Kind::Connection,
            _ => Kind::Other,
        };
        let statuses =
            ["codex.turn.status", "codex.item.status", "codex.compaction.status", "codex.hook.status"];
        let error = text(of, "error.type");
        let failed = span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
        Span {
            trace: span.trace_id.iter().fold(0, |id, byte| id << 8 | u128::from(*byte)),
            span: id(&span.span_id),
            parent: id(&span.parent_span_id),
            kind,
            name: span.name.clone(),
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano.max(span.start_time_unix_nano),
            thread: text(of, "gen_ai.conversation.id"),
            turn: text(of, "codex.turn.id"),
            call: text(of, "gen_ai.tool.call.id"),
            agent: text(of, "gen_ai.agent.name"),
            tool: text(of, "gen_ai.tool.name"),
            client: [text(of, "user_agent.name"), text(of, "user_agent.version")].join(" ").trim().to_owned(),
            index: number(of, "codex.turn.index"),
            status: statuses
                .iter()
                .map(|key| text(of, key))
                .find(|status| !status.is_empty())
                .unwrap_or_default(),
            error: (failed || !error.is_empty()).then_some(error),
            input: number(of, "gen_ai.usage.input_tokens"),
            output: number(of, "gen_ai.usage.output_tokens"),
        }
    }
}

fn id(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |id, byte| id << 8 | u64::from(*byte))
}

fn value<'v>(attributes: &'v [KeyValue], key: &str) -> Option<&'v Value> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref().and_then(|AnyValue { value }| value.as_ref())
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    match value(attributes, key) {
        Some(Value::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

fn number(attributes: &[KeyValue], key: &str) -> Option<i64> {
    match value(attributes, key) {
        Some(Value::IntValue(number)) => Some(*number),
        _ => None,
    }
}
