//! Stored records as OTLP JSON lines: the same content, readable by whoever reads OTLP.
#![cfg(feature = "deliver")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/memory.rs"]
mod memory;

use std::time::{Duration, Instant};

use factline::config::{Config, Signal};
use factline::deliver::{Deliverer, Route, json_line, request::request};
use memory::{Memory, attribute, frame, header_of, names};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message;
use serde_json::json;

fn value_of(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// Every kind of value, and of nothing.
fn every_attribute() -> Vec<KeyValue> {
    let list = |values| Value::ArrayValue(ArrayValue { values });
    vec![
        attribute("text", Some(Value::StringValue("a\"\n\u{1b}é".into()))),
        attribute("text.empty", Some(Value::StringValue(String::new()))),
        attribute("false", Some(Value::BoolValue(false))),
        attribute("zero", Some(Value::IntValue(0))),
        attribute("int.min", Some(Value::IntValue(i64::MIN))),
        attribute("double", Some(Value::DoubleValue(0.1))),
        attribute("double.zero", Some(Value::DoubleValue(0.0))),
        attribute("bytes", Some(Value::BytesValue(vec![0, 255]))),
        attribute("bytes.empty", Some(Value::BytesValue(vec![]))),
        attribute(
            "list",
            Some(list(vec![value_of(Value::IntValue(1)), value_of(Value::StringValue("2".into()))])),
        ),
        attribute("list.empty", Some(list(vec![]))),
        attribute("list.of.nothing", Some(list(vec![AnyValue { value: None }]))),
        attribute("map", Some(Value::KvlistValue(KeyValueList { values: vec![attribute("k", None)] }))),
        attribute("map.empty", Some(Value::KvlistValue(KeyValueList { values: vec![] }))),
        attribute("nothing", None),
        KeyValue { key: "no value".into(), value: None, ..Default::default() },
    ]
}

fn resource() -> Option<Resource> {
    Some(Resource { attributes: every_attribute(), ..Default::default() })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: "factline".into(), version: "1".into(), ..Default::default() })
}

fn logs_header() -> Vec<u8> {
    let schema_url = "https://opentelemetry.io/schemas/1.40.0".to_owned();
    header_of(
        &ResourceLogs { resource: resource(), schema_url: schema_url.clone(), ..Default::default() },
        &ScopeLogs { scope: scope(), schema_url, ..Default::default() },
    )
}

fn full_log() -> LogRecord {
    LogRecord {
        time_unix_nano: u64::MAX,
        observed_time_unix_nano: 1,
        severity_number: 9,
        severity_text: "INFO".into(),
        body: Some(value_of(Value::StringValue(String::new()))),
        attributes: every_attribute(),
        dropped_attributes_count: 3,
        flags: 0x101,
        trace_id: vec![0xAB; 16],
        span_id: vec![1; 8],
        event_name: "codex.turn.completed".into(),
    }
}

fn full_span() -> Span {
    let attributes = every_attribute();
    Span {
        trace_id: vec![0xAB; 16],
        span_id: vec![1; 8],
        parent_span_id: vec![2; 8],
        trace_state: "a=b".into(),
        flags: 0x301,
        name: "execute_tool".into(),
        kind: 1,
        start_time_unix_nano: 5,
        end_time_unix_nano: 6,
        attributes: attributes.clone(),
        events: vec![Event {
            time_unix_nano: 5,
            name: "e".into(),
            attributes: attributes.clone(),
            ..Default::default()
        }],
        links: vec![Link { trace_id: vec![3; 16], span_id: vec![4; 8], attributes, ..Default::default() }],
        status: Some(Status { code: 2, message: "no".into() }),
        ..Default::default()
    }
}

#[test]
fn log_records_read_back_as_they_were() {
    for record in [LogRecord::default(), full_log()] {
        let frames = [frame(&record), frame(&record)].concat();
        let line = json_line(Signal::Logs, &logs_header(), &frames).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let read: ExportLogsServiceRequest = serde_json::from_slice(&line).unwrap();
        let stored =
            ExportLogsServiceRequest::decode(&request(&logs_header(), &frames).unwrap()[..]).unwrap();
        assert_eq!(read, stored);
    }
}

#[test]
fn spans_read_back_as_they_were() {
    let header = header_of(
        &ResourceSpans { resource: resource(), ..Default::default() },
        &ScopeSpans { scope: scope(), ..Default::default() },
    );
    for span in [Span::default(), Span { status: Some(Status::default()), ..Span::default() }, full_span()] {
        let line = json_line(Signal::Traces, &header, &frame(&span)).unwrap();
        let read: ExportTraceServiceRequest = serde_json::from_slice(&line).unwrap();
        let stored =
            ExportTraceServiceRequest::decode(&request(&header, &frame(&span)).unwrap()[..]).unwrap();
        assert_eq!(read, stored);
    }
}

#[test]
fn metrics_read_back_as_they_were() {
    let header = header_of(
        &ResourceMetrics { resource: resource(), ..Default::default() },
        &ScopeMetrics { scope: scope(), ..Default::default() },
    );
    let point =
        |value| NumberDataPoint { value: Some(value), attributes: every_attribute(), ..Default::default() };
    let data_points =
        vec![point(number_data_point::Value::AsInt(0)), point(number_data_point::Value::AsDouble(0.5))];
    let sum = Sum { data_points, aggregation_temporality: 2, is_monotonic: true };
    let histogram = HistogramDataPoint {
        count: 0,
        sum: Some(0.0),
        bucket_counts: vec![0, 7],
        explicit_bounds: vec![0.0],
        ..Default::default()
    };
    let histogram = Histogram { data_points: vec![histogram], aggregation_temporality: 1 };
    for data in [metric::Data::Sum(sum), metric::Data::Histogram(histogram)] {
        let metric = Metric { name: "m".into(), data: Some(data), ..Default::default() };
        let line = json_line(Signal::Metrics, &header, &frame(&metric)).unwrap();
        let read: ExportMetricsServiceRequest = serde_json::from_slice(&line).unwrap();
        let stored =
            ExportMetricsServiceRequest::decode(&request(&header, &frame(&metric)).unwrap()[..]).unwrap();
        assert_eq!(read, stored);
    }
}

#[test]
fn a_line_has_the_form_of_the_specification_and_no_noise() {
    let header = header_of(
        &ResourceSpans::default(),
        &ScopeSpans {
            scope: Some(InstrumentationScope { name: "s".into(), ..Default::default() }),
            ..Default::default()
        },
    );
    let span = Span {
        trace_id: vec![0xAB; 16],
        span_id: vec![1; 8],
        name: "n".into(),
        kind: 1,
        start_time_unix_nano: 1_790_000_000_000_000_000,
        end_time_unix_nano: 1_790_000_000_000_000_001,
        attributes: vec![
            attribute("i", Some(Value::IntValue(9_007_199_254_740_993))),
            attribute("l", Some(Value::ArrayValue(ArrayValue::default()))),
        ],
        ..Default::default()
    };
    let line = json_line(Signal::Traces, &header, &frame(&span)).unwrap();
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&line).unwrap(),
        json!({ "resourceSpans": [{ "scopeSpans": [{ "scope": { "name": "s" }, "spans": [{
            "traceId": "abababababababababababababababab",
            "spanId": "0101010101010101",
            "name": "n",
            "kind": 1,
            "startTimeUnixNano": "1790000000000000000",
            "endTimeUnixNano": "1790000000000000001",
            "attributes": [
                { "key": "i", "value": { "intValue": "9007199254740993" } },
                { "key": "l", "value": { "arrayValue": { "values": [] } } },
            ],
        }] }] }] })
    );
}

#[test]
fn numbers_that_json_does_not_have_keep_their_names() {
    for (double, name) in [(f64::NAN, "NaN"), (f64::INFINITY, "Infinity"), (f64::NEG_INFINITY, "-Infinity")] {
        let list = ArrayValue { values: vec![value_of(Value::DoubleValue(double))] };
        let record = LogRecord { body: Some(value_of(Value::ArrayValue(list))), ..Default::default() };
        let line = json_line(Signal::Logs, &logs_header(), &frame(&record)).unwrap();
        let read: ExportLogsServiceRequest = serde_json::from_slice(&line).unwrap();
        let body = read.resource_logs[0].scope_logs[0].log_records[0].body.clone().unwrap();
        let Some(Value::ArrayValue(list)) = body.value else { panic!("{body:?}") };
        assert_eq!(list.values[0], value_of(Value::StringValue(name.into())));
    }
}

#[test]
fn bytes_that_are_no_otlp_are_an_error() {
    assert!(json_line(Signal::Logs, b"", b"").is_err());
    assert!(json_line(Signal::Logs, &logs_header(), b"\x12\xff").is_err());
    assert!(json_line(Signal::Traces, &[0; 4], b"\x12\x02\x0a\x7f").is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        header in prop::collection::vec(any_byte(), 0..40),
        frames in prop::collection::vec(any_byte(), 0..200),
    ) {
        for signal in [Signal::Logs, Signal::Traces, Signal::Metrics] {
            let _ = json_line(signal, &header, &frames);
        }
    }
}

fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![0_u8..=255, Just(0x0A), Just(0x12), 0_u8..8]
}

/// Delivers `queue` into files below `dir` and returns the lines.
fn deliver(dir: &std::path::Path, queue: &Memory) -> (Vec<u8>, Deliverer) {
    let vars =
        |name: &str| (name == "FACTLINE_FILES_DIR" || name == "HOME").then(|| dir.display().to_string());
    let destination = Config::from_env(vars).unwrap().0.destinations().remove(0);
    let route = Route::new("q", Box::new(queue.clone()), &destination).unwrap();
    let deliverer = Deliverer::start(vec![route]).unwrap();
    assert!(deliverer.flush(Instant::now() + Duration::from_secs(10)).is_complete());
    (std::fs::read(dir.join("logs.jsonl")).unwrap(), deliverer)
}

fn names_in(line: &[u8]) -> Vec<String> {
    names(&serde_json::from_slice::<ExportLogsServiceRequest>(line).unwrap().encode_to_vec())
}

#[test]
fn a_file_route_writes_what_is_in_the_queue_and_the_same_bytes_each_time() {
    let expected: Vec<String> = (0..300).map(|n| format!("event {n}")).collect();
    let write = || {
        let dir = tempfile::tempdir().unwrap();
        deliver(dir.path(), &Memory::of_logs(expected.clone())).0
    };
    let bytes = write();
    let written: Vec<String> = bytes.split_inclusive(|byte| *byte == b'\n').flat_map(names_in).collect();
    assert_eq!(written, expected);
    assert_eq!(bytes, write());
}

#[test]
fn lines_stay_short_enough_for_the_collector_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let long = "\u{1b}".repeat(3000);
    let queue = Memory::of_logs((0..500).map(|n| format!("{n} {long}")));
    let (bytes, _deliverer) = deliver(dir.path(), &queue);
    let lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(lines.len() > 4 && lines.iter().all(|line| line.len() < 1 << 20));
    assert_eq!(lines.iter().flat_map(|line| names_in(line)).count(), 500);
}

#[test]
fn a_record_that_is_no_otlp_is_put_aside_and_the_others_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Memory::of_logs((0..20).map(|n| n.to_string()));
    queue.push_raw(b"\x12\x02\xff\xff".to_vec());
    queue.push((20..40).map(|n| n.to_string()));
    let (bytes, deliverer) = deliver(dir.path(), &queue);
    assert_eq!(bytes.split_inclusive(|byte| *byte == b'\n').flat_map(names_in).count(), 40);
    let report = deliverer.report().remove(0);
    assert_eq!((report.delivered, report.lost), (40, [("rejected", 1)].into()));
    assert!(queue.with(|inside| inside.dead[0].1.contains("cannot be decoded")));
}

#[test]
fn a_directory_that_cannot_be_made_keeps_the_records_in_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let queue = Memory::of_logs(["a".to_owned()]);
    let vars =
        |name: &str| (name == "FACTLINE_FILES_DIR" || name == "HOME").then(|| blocked.display().to_string());
    let destination = Config::from_env(vars).unwrap().0.destinations().remove(0);
    let deliverer =
        Deliverer::start(vec![Route::new("q", Box::new(queue.clone()), &destination).unwrap()]).unwrap();
    let flush = deliverer.flush(Instant::now() + Duration::from_millis(100));
    assert!(flush.pending[0].last_error.is_some());
    assert_eq!(queue.with(|inside| inside.settled), 0);
}
