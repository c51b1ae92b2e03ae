//! OTLP values as those of the SDK.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::logs::{AnyValue as LogValue, Severity};
use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Proto;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as ProtoKeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as ProtoKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::fact::ENTRIES;

/// Span flag that says that the parent (or what a link leads to) is remote; OTLP `SpanFlags`.
const IS_REMOTE: u32 = 0x200;

/// The SDK wants names for ever; all of ours are in the table.
pub(super) fn event_name(name: &str) -> Option<&'static str> {
    ENTRIES
        .iter()
        .flat_map(|entry| {
            let lasting = entry.lasting.as_ref();
            [
                Some(entry.name),
                lasting.and_then(|lasting| lasting.start_event),
                lasting.and_then(|lasting| lasting.end_event),
            ]
        })
        .flatten()
        .find(|known| *known == name)
}

pub(super) fn time(ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(ns)
}

pub(super) fn trace_id(bytes: &[u8]) -> TraceId {
    bytes.try_into().map_or(TraceId::INVALID, TraceId::from_bytes)
}

pub(super) fn span_id(bytes: &[u8]) -> SpanId {
    bytes.try_into().map_or(SpanId::INVALID, SpanId::from_bytes)
}

/// The severities that facts have.
pub(super) fn severity(number: i32) -> Option<Severity> {
    Some(match number {
        1 => Severity::Trace,
        5 => Severity::Debug,
        9 => Severity::Info,
        13 => Severity::Warn,
        17 => Severity::Error,
        _ => return None,
    })
}

pub(super) fn log_value(value: AnyValue) -> Option<LogValue> {
    Some(match value.value? {
        Proto::StringValue(text) => LogValue::String(text.into()),
        Proto::BoolValue(flag) => LogValue::Boolean(flag),
        Proto::IntValue(number) => LogValue::Int(number),
        Proto::DoubleValue(number) => LogValue::Double(number),
        Proto::BytesValue(bytes) => LogValue::Bytes(Box::new(bytes)),
        Proto::ArrayValue(list) => {
            LogValue::ListAny(Box::new(list.values.into_iter().filter_map(log_value).collect()))
        }
        Proto::KvlistValue(list) => LogValue::Map(Box::new(
            list.values
                .into_iter()
                .filter_map(|pair| Some((pair.key.into(), log_value(pair.value?)?)))
                .collect(),
        )),
        _ => return None,
    })
}

/// Attributes of spans are flat: of lists the SDK knows those of one kind, and facts have lists of texts.
fn span_value(value: AnyValue) -> Option<Value> {
    Some(match value.value? {
        Proto::StringValue(text) => Value::String(text.into()),
        Proto::BoolValue(flag) => Value::Bool(flag),
        Proto::IntValue(number) => Value::I64(number),
        Proto::DoubleValue(number) => Value::F64(number),
        Proto::ArrayValue(list) => {
            let texts = list.values.into_iter().filter_map(|value| match value.value? {
                Proto::StringValue(text) => Some(StringValue::from(text)),
                _ => None,
            });
            Value::Array(Array::String(texts.collect()))
        }
        _ => return None,
    })
}

fn attributes(of: Vec<ProtoKeyValue>) -> Vec<KeyValue> {
    of.into_iter().filter_map(|pair| Some(KeyValue::new(pair.key, span_value(pair.value?)?))).collect()
}

fn kind(kind: i32) -> SpanKind {
    match ProtoKind::try_from(kind) {
        Ok(ProtoKind::Server) => SpanKind::Server,
        Ok(ProtoKind::Client) => SpanKind::Client,
        Ok(ProtoKind::Producer) => SpanKind::Producer,
        Ok(ProtoKind::Consumer) => SpanKind::Consumer,
        _ => SpanKind::Internal,
    }
}

fn context(trace: &[u8], span: &[u8], flags: u32) -> SpanContext {
    let remote = flags & IS_REMOTE != 0;
    SpanContext::new(
        trace_id(trace),
        span_id(span),
        TraceFlags::new(flags as u8),
        remote,
        TraceState::default(),
    )
}

/// A finished span.
pub(super) fn span_data(span: Span, instrumentation_scope: InstrumentationScope) -> SpanData {
    let mut links = SpanLinks::default();
    links.links.extend(span.links.into_iter().map(|link| {
        let to = context(&link.trace_id, &link.span_id, link.flags);
        Link::new(to, attributes(link.attributes), link.dropped_attributes_count)
    }));
    links.dropped_count = span.dropped_links_count;
    let mut events = SpanEvents::default();
    events.events.extend(span.events.into_iter().map(|event| {
        let at = time(event.time_unix_nano);
        Event::new(event.name, at, attributes(event.attributes), event.dropped_attributes_count)
    }));
    events.dropped_count = span.dropped_events_count;
    let status = match span.status {
        Some(status) if status.code == StatusCode::Error as i32 => Status::error(status.message),
        Some(status) if status.code == StatusCode::Ok as i32 => Status::Ok,
        _ => Status::Unset,
    };
    SpanData {
        span_context: context(&span.trace_id, &span.span_id, span.flags & !IS_REMOTE),
        parent_span_id: span_id(&span.parent_span_id),
        parent_span_is_remote: span.flags & IS_REMOTE != 0,
        span_kind: kind(span.kind),
        name: span.name.into(),
        start_time: time(span.start_time_unix_nano),
        end_time: time(span.end_time_unix_nano),
        attributes: attributes(span.attributes),
        dropped_attributes_count: span.dropped_attributes_count,
        events,
        links,
        status,
        instrumentation_scope,
    }
}
