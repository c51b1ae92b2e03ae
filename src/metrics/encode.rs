//! One collection as bytes: the metrics as they stand in a request, one after the other.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as Measured;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar as OtlpExemplar, HistogramDataPoint, Metric, NumberDataPoint,
};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use prost::Message as _;

use super::clock::Seen;
use super::exemplar::{Exemplars, Series};
use super::table::TABLE;

/// Tag of `ScopeMetrics.metrics`, field 2.
const METRICS: u8 = 0x12;

/// Encodes a collection. In the order of the table, and series in the order of their dimensions, so that equal
/// collections give equal bytes.
pub(super) fn encode(collected: &ResourceMetrics, exemplars: &Exemplars, seen: Option<&Seen>) -> Vec<u8> {
    let request = ExportMetricsServiceRequest::from(collected);
    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    let mut metrics: Vec<(usize, Metric)> = scopes
        .flat_map(|scope| scope.metrics)
        .filter_map(|metric| Some((TABLE.iter().position(|of| of.name == metric.name)?, metric)))
        .collect();
    metrics.sort_by_key(|(place, _)| *place);
    for (place, metric) in &mut metrics {
        let Some(of) = TABLE.get(*place) else { continue };
        complete(metric, of.name, exemplars, seen);
    }
    frames(metrics.iter().map(|(_, metric)| metric))
}

/// Metrics as entries of a scope.
pub(super) fn frames<'m>(metrics: impl Iterator<Item = &'m Metric>) -> Vec<u8> {
    let mut out = Vec::new();
    for metric in metrics {
        out.push(METRICS);
        out.extend_from_slice(&metric.encode_length_delimited_to_vec());
    }
    out
}

fn complete(metric: &mut Metric, name: &'static str, exemplars: &Exemplars, seen: Option<&Seen>) {
    match &mut metric.data {
        Some(Data::Sum(sum)) => {
            let delta = sum.aggregation_temporality == AggregationTemporality::Delta as i32;
            let only_grows = sum.is_monotonic;
            numbers(&mut sum.data_points, delta, seen);
            for point in sum.data_points.iter_mut().filter(|_| only_grows) {
                point.exemplars = exemplar(exemplars, name, series(&point.attributes), true);
            }
        }
        Some(Data::Gauge(gauge)) => numbers(&mut gauge.data_points, false, seen),
        Some(Data::Histogram(histogram)) => {
            let delta = histogram.aggregation_temporality == AggregationTemporality::Delta as i32;
            for point in &mut histogram.data_points {
                distribution(point, delta, seen);
                point.exemplars = exemplar(exemplars, name, series(&point.attributes), false);
            }
            histogram.data_points.sort_by_cached_key(|point| series(&point.attributes));
        }
        _ => {}
    }
}

fn numbers(points: &mut [NumberDataPoint], delta: bool, seen: Option<&Seen>) {
    for point in points.iter_mut() {
        point.attributes.sort_by(|one, other| one.key.cmp(&other.key));
        if let Some(seen) = seen {
            let (first, collected, last) = seen.times();
            point.start_time_unix_nano = if delta { collected } else { first };
            point.time_unix_nano = last;
        }
    }
    points.sort_by_cached_key(|point| series(&point.attributes));
}

fn distribution(point: &mut HistogramDataPoint, delta: bool, seen: Option<&Seen>) {
    point.attributes.sort_by(|one, other| one.key.cmp(&other.key));
    if let Some(seen) = seen {
        let (first, collected, last) = seen.times();
        point.start_time_unix_nano = if delta { collected } else { first };
        point.time_unix_nano = last;
    }
}

fn exemplar(exemplars: &Exemplars, name: &'static str, series: Series, whole: bool) -> Vec<OtlpExemplar> {
    let Some(kept) = exemplars.of(name, series) else { return Vec::new() };
    let value = if whole { Measured::AsInt(kept.value as i64) } else { Measured::AsDouble(kept.value) };
    let span = if kept.place.span == 0 { Vec::new() } else { kept.place.span.to_be_bytes().to_vec() };
    vec![OtlpExemplar {
        time_unix_nano: kept.place.time,
        trace_id: kept.place.trace.to_be_bytes().to_vec(),
        span_id: span,
        value: Some(value),
        ..OtlpExemplar::default()
    }]
}

// The order in which a series was recorded: that of the keys.
fn series(attributes: &[KeyValue]) -> Series {
    let mut series: Series = attributes
        .iter()
        .map(|KeyValue { key, value, .. }| {
            let text = match value {
                Some(AnyValue { value: Some(Value::StringValue(text)) }) => text.clone(),
                Some(AnyValue { value: Some(other) }) => format!("{other:?}"),
                _ => String::new(),
            };
            (key.clone(), text)
        })
        .collect();
    series.sort();
    series
}
