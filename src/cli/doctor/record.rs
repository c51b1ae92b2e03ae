//! One record, span or metric that says what it is.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::config::{Config, Signal};
use crate::deliver::Batch;
use crate::otel::{self, Header, Resource};

/// What it is called wherever it is shown.
pub(super) const NAME: &str = "factline.probe";

/// A batch of one, as the outbox would have it.
pub(super) fn batch(config: &Config, signal: Signal) -> Batch {
    let mut resource = Resource::new(&config.service_name.value);
    for (key, value) in &config.resource_attributes.value {
        resource.set(key, value);
    }
    // Resource and scope are encoded alike for all signals.
    let header = Header::new(&resource, otel::Signal::Logs).0;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let body = record(signal, now);
    let mut bytes = vec![0x12];
    prost::encoding::encode_varint(body.len() as u64, &mut bytes);
    bytes.extend_from_slice(&body);
    Batch { header: header.into(), ends: vec![bytes.len()], bytes }
}

fn record(signal: Signal, now: u64) -> Vec<u8> {
    let value = |text: &str| Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
    let said = "factline doctor asks whether this arrives";
    let attributes = vec![KeyValue {
        key: "factline.probe.purpose".to_owned(),
        value: value(said),
        ..KeyValue::default()
    }];
    match signal {
        Signal::Logs => LogRecord {
            time_unix_nano: now,
            observed_time_unix_nano: now,
            severity_number: 9,
            severity_text: "INFO".to_owned(),
            body: value(said),
            attributes,
            event_name: NAME.to_owned(),
            ..LogRecord::default()
        }
        .encode_to_vec(),
        Signal::Traces => Span {
            // Of the time, which is all that has to differ from one probe to the next.
            trace_id: (u128::from(now) << 64 | u128::from(now.rotate_left(17) | 1)).to_be_bytes().to_vec(),
            span_id: (now | 1).to_be_bytes().to_vec(),
            name: NAME.to_owned(),
            kind: 1,
            start_time_unix_nano: now.saturating_sub(1_000_000),
            end_time_unix_nano: now,
            attributes,
            flags: 0x101,
            ..Span::default()
        }
        .encode_to_vec(),
        Signal::Metrics => Metric {
            name: NAME.to_owned(),
            description: said.to_owned(),
            unit: "1".to_owned(),
            data: Some(Data::Gauge(Gauge {
                data_points: vec![NumberDataPoint {
                    time_unix_nano: now,
                    value: Some(number_data_point::Value::AsInt(1)),
                    ..NumberDataPoint::default()
                }],
            })),
            ..Metric::default()
        }
        .encode_to_vec(),
    }
}
