//! Layers with the filters that the user wants for each destination.

use tracing_subscriber::{Layer, Registry};

use super::filter::{self, BadFilter};
use crate::analytics::{self, AnalyticsLayer};
use crate::config::Sources;
use crate::metrics::{self, MetricsLayer};
use crate::otel::{self, Resource, Signal, Sink};
use crate::telemetry::Shape;

pub(super) type Layers = Vec<Box<dyn Layer<Registry> + Send + Sync>>;

const LOGS: [&str; 2] = ["FACTLINE_LOGS_FILTER", "FACTLINE_FILTER"];
const TRACES: [&str; 2] = ["FACTLINE_TRACES_FILTER", "FACTLINE_FILTER"];
const METRICS: &str = "FACTLINE_METRICS_FILTER";
const ANALYTICS: &str = "FACTLINE_ANALYTICS_FILTER";

/// Says whether all filters can be read.
pub(super) fn check(sources: &Sources<'_>) -> Result<(), BadFilter> {
    filter::of(sources, &LOGS)?;
    filter::of(sources, &TRACES)?;
    filter::of(sources, &[METRICS])?;
    filter::of(sources, &[ANALYTICS]).map(|_| ())
}

/// One layer where logs and spans have the same filter, else one for each.
pub(super) fn telemetry(
    sources: &Sources<'_>,
    shape: Shape,
    sink: impl Sink + Clone,
    resource: Resource,
) -> Result<Layers, BadFilter> {
    let text = |names: &[&str]| sources.text(names).map(|(_, text)| text.value);
    if text(&LOGS) == text(&TRACES) {
        let layer = shape.of_layer(otel::layer(sink, resource)).with_filter(filter::of(sources, &LOGS)?);
        return Ok(vec![layer.boxed()]);
    }
    let of = |signal: Signal, names: &[&str]| {
        let layer = shape.of_layer(otel::layer_of(signal, sink.clone(), resource.clone()));
        Ok(layer.with_filter(filter::of(sources, names)?).boxed())
    };
    Ok(vec![of(Signal::Logs, &LOGS)?, of(Signal::Traces, &TRACES)?])
}

/// The layer of metrics; without a filter of its own it sees what it measures, whatever becomes logs and spans.
pub(super) fn metrics(sources: &Sources<'_>, layer: Option<MetricsLayer>) -> Result<Layers, BadFilter> {
    let Some(layer) = layer else { return Ok(Vec::new()) };
    Ok(vec![match sources.text(&[METRICS]) {
        Some(_) => layer.with_filter(filter::of(sources, &[METRICS])?).boxed(),
        None => layer.with_filter(metrics::only_used()).boxed(),
    }])
}

/// The layer of analytics events; without a filter of its own it sees what it needs.
pub(super) fn events(sources: &Sources<'_>, layer: Option<AnalyticsLayer>) -> Result<Layers, BadFilter> {
    let Some(layer) = layer else { return Ok(Vec::new()) };
    Ok(vec![match sources.text(&[ANALYTICS]) {
        Some(_) => layer.with_filter(filter::of(sources, &[ANALYTICS])?).boxed(),
        None => layer.with_filter(analytics::only_facts()).boxed(),
    }])
}
