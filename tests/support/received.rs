//! OTLP as it arrived: every record with all that was said about it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prost::Message as _;

/// A record with its resource and scope.
#[derive(Clone, Debug, PartialEq)]
pub struct Of<T> {
    pub resource: Option<Resource>,
    pub scope: Option<InstrumentationScope>,
    pub schemas: [String; 2],
    pub record: T,
}

#[derive(Clone, Debug, Default)]
pub struct Received {
    pub logs: Vec<Of<LogRecord>>,
    pub spans: Vec<Of<Span>>,
    /// Each request of metrics.
    pub metrics: Vec<ExportMetricsServiceRequest>,
}

impl Received {
    fn logs(&mut self, request: ExportLogsServiceRequest) {
        for logs in request.resource_logs {
            for scope in logs.scope_logs {
                self.logs.extend(scope.log_records.into_iter().map(|record| Of {
                    resource: logs.resource.clone(),
                    scope: scope.scope.clone(),
                    schemas: [logs.schema_url.clone(), scope.schema_url.clone()],
                    record,
                }));
            }
        }
    }

    fn spans(&mut self, request: ExportTraceServiceRequest) {
        for spans in request.resource_spans {
            for scope in spans.scope_spans {
                self.spans.extend(scope.spans.into_iter().map(|record| Of {
                    resource: spans.resource.clone(),
                    scope: scope.scope.clone(),
                    schemas: [spans.schema_url.clone(), scope.schema_url.clone()],
                    record,
                }));
            }
        }
    }

    /// What `dir/logs.jsonl` and `dir/traces.jsonl` hold, a line that is still being written aside.
    pub fn from_files(dir: &Path) -> Received {
        let mut all = Received::default();
        let text = |name| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        let (logs, traces) = (text("logs.jsonl"), text("traces.jsonl"));
        for line in logs.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            all.logs(serde_json::from_str(line).unwrap());
        }
        for line in traces.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            all.spans(serde_json::from_str(line).unwrap());
        }
        all
    }

    /// Adds what a request over HTTP brought.
    pub fn add_request(&mut self, path: &str, body: &[u8]) {
        match path {
            "/v1/logs" => self.logs(ExportLogsServiceRequest::decode(body).unwrap()),
            "/v1/metrics" => self.metrics.push(ExportMetricsServiceRequest::decode(body).unwrap()),
            "/v1/traces" => self.spans(ExportTraceServiceRequest::decode(body).unwrap()),
            other => panic!("a request to {other}"),
        }
    }

    pub fn add(&mut self, other: Received) {
        self.logs.extend(other.logs);
        self.spans.extend(other.spans);
        self.metrics.extend(other.metrics);
    }

    /// Takes empty values for absent ones: the collector's model of the data does not know the difference.
    pub fn empty_is_absent(&mut self) {
        for of in &mut self.logs {
            of.record.body.take_if(|body| body.value.is_none());
        }
        for of in &mut self.spans {
            of.record.status.take_if(|status| *status == Status::default());
        }
    }

    /// Each record once: delivery is at least once, and a record that came again is the same to the last byte.
    pub fn once(mut self) -> Received {
        let mut seen = std::collections::BTreeSet::new();
        self.logs.retain(|of| seen.insert(of.record.encode_to_vec()));
        self.spans.retain(|of| seen.insert(of.record.encode_to_vec()));
        self
    }

    pub fn counts(&self) -> (usize, usize) {
        (self.logs.len(), self.spans.len())
    }

    /// Takes an attribute off every resource; returns its different values.
    pub fn without_resource_attribute(&mut self, key: &str) -> Vec<String> {
        let logs = self.logs.iter_mut().map(|of| &mut of.resource);
        let resources = logs.chain(self.spans.iter_mut().map(|of| &mut of.resource));
        let mut values: Vec<String> = Vec::new();
        for resource in resources.flatten() {
            values.extend(text(&resource.attributes, key));
            resource.attributes.retain(|attribute| attribute.key != key);
        }
        values.sort();
        values.dedup();
        values
    }
}

/// The attribute of this name, as text.
pub fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(value) => value.to_string(),
        Value::IntValue(value) => value.to_string(),
        other => format!("{other:?}"),
    })
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The attributes, without those that depend on the clock of whoever watched, and on how many it watched
/// before.
fn lasting(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let fleeting = |key: &str| {
        ["_s", "_at", "_at_ms"].iter().any(|end| key.ends_with(end))
            || ["codex.connection.id", "log.record.uid"].contains(&key)
    };
    let kept = attributes.iter().filter(|attribute| !fleeting(&attribute.key));
    kept.map(|it| (it.key.clone(), text(attributes, &it.key).unwrap_or_default())).collect()
}

/// Every log record and span: its name, its place in the tree, its outcome and its attributes.
pub fn facts(received: &Received) -> Vec<String> {
    let logs = received.logs.iter().map(|of| {
        let it = &of.record;
        let of_turn = text(&it.attributes, "codex.turn.id").is_some();
        let place = if of_turn { (hex(&it.trace_id), hex(&it.span_id)) } else { Default::default() };
        format!("{} {:?} {place:?} {:?}", it.event_name, it.severity_number, lasting(&it.attributes))
    });
    let spans = received.spans.iter().map(|of| {
        let it = &of.record;
        // A connection is nobody's but the watcher's.
        let ids = [&it.trace_id, &it.span_id, &it.parent_span_id].map(|id| hex(id));
        let place = if it.name == "initialize" { Default::default() } else { ids };
        let status = it.status.as_ref().map(|status| status.code);
        let links: Vec<_> = it.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect();
        format!("{} {place:?} {status:?} {links:?} {:?}", it.name, lasting(&it.attributes))
    });
    logs.chain(spans).collect()
}

pub fn assert_same<T: Debug>(what: &str, left: &[T], right: &[T]) {
    if let Some(difference) = difference(left, right) {
        panic!("{what}: {difference}");
    }
}

/// Unless both hold the same, as often, in whatever order: what only one of them has.
pub fn difference<T: Debug>(left: &[T], right: &[T]) -> Option<String> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    left.iter().for_each(|it| *counts.entry(format!("{it:?}")).or_default() += 1);
    right.iter().for_each(|it| *counts.entry(format!("{it:?}")).or_default() -= 1);
    let only =
        |sign: i64| counts.iter().filter(move |(_, count)| *count * sign > 0).map(|(it, _)| it.as_str());
    let (one, other) = (only(1).next().unwrap_or_default(), only(-1).next().unwrap_or_default());
    if one.is_empty() && other.is_empty() {
        return None;
    }
    // They are long, and sorted, so that the first of each are about the same: where they part is what
    // matters.
    let equal = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    let part = |it: &str| {
        let bytes = it.as_bytes();
        let part = &bytes[equal.saturating_sub(300).min(bytes.len())..(equal + 300).min(bytes.len())];
        String::from_utf8_lossy(part).into_owned()
    };
    Some(format!(
        "{} only left, {} only right\nleft  ...{}...\nright ...{}...",
        only(1).count(),
        only(-1).count(),
        part(one),
        part(other)
    ))
}
