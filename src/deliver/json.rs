//! Stored records as OTLP JSON, one `Export*ServiceRequest` object on a line (OTLP specification, "JSON
//! Protobuf Encoding"; OpenTelemetry protocol file exporter).
//!
//! The types of `opentelemetry-proto` write every default (`"flags":0`, `"parentSpanId":""`), which makes a
//! line nearly three times its protobuf; [`prune`] leaves out what every reader takes for a default anyway.
//! Members are in the order of the protocol's definition: the same input gives the same bytes.

use std::fmt;
use std::ops::Range;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use prost::Message;
use serde::Serialize;

use super::prune::prune;
use super::request::request;
use super::source::Batch;
use crate::config::Signal;

/// The collector's `otlpjsonfile` receiver cuts longer lines in pieces, none of which it can read
/// (`max_log_size` of its file consumer, 1 MiB unless configured).
const LINE_LIMIT: usize = (1 << 20) - 1;

/// Stored bytes that are no OTLP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndecodableRecord(String);

impl fmt::Display for UndecodableRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stored record cannot be decoded: {}", self.0)
    }
}

impl std::error::Error for UndecodableRecord {}

/// One line of OTLP JSON with its newline, for `frames` behind the stored `header` (see [`super::request`]).
///
/// # Errors
/// The bytes are no OTLP of this signal.
pub fn json_line(signal: Signal, header: &[u8], frames: &[u8]) -> Result<Vec<u8>, UndecodableRecord> {
    let request = request(header, frames).map_err(undecodable)?;
    let json = match signal {
        Signal::Logs => {
            let mut request = ExportLogsServiceRequest::decode(&request[..]).map_err(undecodable)?;
            name_unusual_doubles_in_logs(&mut request);
            to_json(&request)
        }
        Signal::Traces => {
            let mut request = ExportTraceServiceRequest::decode(&request[..]).map_err(undecodable)?;
            name_unusual_doubles_in_spans(&mut request);
            to_json(&request)
        }
        Signal::Metrics => to_json(&ExportMetricsServiceRequest::decode(&request[..]).map_err(undecodable)?),
    }?;
    let mut line = prune(&json);
    line.push(b'\n');
    Ok(line)
}

/// The lines for some records of a batch: one, or as many as it takes to keep each below what the collector
/// reads. A single record that is longer gets its long line all the same.
pub(crate) fn json_lines(
    signal: Signal,
    batch: &Batch,
    range: Range<usize>,
    out: &mut Vec<u8>,
) -> Result<(), UndecodableRecord> {
    let line = json_line(signal, &batch.header, batch.frames(range.clone()))?;
    if line.len() <= LINE_LIMIT || range.len() <= 1 {
        out.extend_from_slice(&line);
        return Ok(());
    }
    let middle = range.start + range.len() / 2;
    json_lines(signal, batch, range.start..middle, out)?;
    json_lines(signal, batch, middle..range.end, out)
}

fn undecodable(error: impl fmt::Display) -> UndecodableRecord {
    UndecodableRecord(error.to_string())
}

fn to_json(request: &impl Serialize) -> Result<Vec<u8>, UndecodableRecord> {
    serde_json::to_vec(request).map_err(undecodable)
}

fn name_unusual_doubles_in_logs(request: &mut ExportLogsServiceRequest) {
    for logs in &mut request.resource_logs {
        logs.resource.iter_mut().for_each(|resource| attributes(&mut resource.attributes));
        for scope in &mut logs.scope_logs {
            scope.scope.iter_mut().for_each(|scope| attributes(&mut scope.attributes));
            for record in &mut scope.log_records {
                attributes(&mut record.attributes);
                record.body.iter_mut().for_each(name_unusual_double);
            }
        }
    }
}

fn name_unusual_doubles_in_spans(request: &mut ExportTraceServiceRequest) {
    for spans in &mut request.resource_spans {
        spans.resource.iter_mut().for_each(|resource| attributes(&mut resource.attributes));
        for scope in &mut spans.scope_spans {
            scope.scope.iter_mut().for_each(|scope| attributes(&mut scope.attributes));
            for span in &mut scope.spans {
                attributes(&mut span.attributes);
                span.events.iter_mut().for_each(|event| attributes(&mut event.attributes));
                span.links.iter_mut().for_each(|link| attributes(&mut link.attributes));
            }
        }
    }
}

fn attributes(attributes: &mut [KeyValue]) {
    attributes.iter_mut().filter_map(|attribute| attribute.value.as_mut()).for_each(name_unusual_double);
}

/// JSON has no number for NaN and the infinities. `serde_json` writes null, which loses them; the protobuf
/// mapping wants `"doubleValue":"NaN"`, which the types of `opentelemetry-proto` refuse together with the
/// whole line. As strings they reach every reader.
fn name_unusual_double(value: &mut AnyValue) {
    match &mut value.value {
        Some(any_value::Value::DoubleValue(double)) if !double.is_finite() => {
            let name = if double.is_nan() {
                "NaN"
            } else if *double > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            value.value = Some(any_value::Value::StringValue(name.to_owned()));
        }
        Some(any_value::Value::ArrayValue(list)) => list.values.iter_mut().for_each(name_unusual_double),
        Some(any_value::Value::KvlistValue(list)) => attributes(&mut list.values),
        _ => {}
    }
}
