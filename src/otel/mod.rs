//! Facts as OpenTelemetry: a layer that writes log records and spans as OTLP protobuf.
//!
//! The bytes are final: a stored record is one entry of `ScopeLogs.log_records` or `ScopeSpans.spans`, tag and
//! length included, so that a batch is a header and records one after the other (see [`Header`]).

#[cfg(feature = "sdk")]
mod durable;
mod encode;
mod known;
mod layer;
mod message;
mod open;
mod out;
mod points;
mod ratio;
mod record;
mod resource;
mod sampled;
#[cfg(feature = "sdk")]
mod sdk;
mod sink;
mod uid;
mod unseen;
mod without;

#[cfg(feature = "sdk")]
pub use durable::{DurableLogs, DurableSpans};

pub use layer::{OtelLayer, only_facts};
pub use message::Messages;
pub use open::recover;
pub use ratio::Ratio;
pub use resource::{Header, Resource};
pub use sampled::Sampled;
#[cfg(feature = "sdk")]
pub use sdk::{DerivedIds, Spans, TurnSampler, sdk_layer, sdk_layer_with};
pub use sink::{Accepted, OutboxSink, Signal, Sink};
pub use unseen::unseen;
pub use without::WITHOUT_CONTENT;

/// A layer that writes facts to `sink`: the outbox, or whatever else takes finished OTLP records.
pub fn layer(sink: impl Sink, resource: Resource) -> OtelLayer {
    OtelLayer::new(sink, resource)
}

/// A layer for one signal alone, so that each can have its own filter: put both beside each other, over the same
/// sink and the same resource.
pub fn layer_of(signal: Signal, sink: impl Sink, resource: Resource) -> OtelLayer {
    OtelLayer::of(signal, sink, resource)
}

/// Trace and span of the host's current span: what a turn without a carrier of its own belongs to.
///
/// Looks at the current `tracing` span through tracing-opentelemetry, else at the current OpenTelemetry
/// context. Give it to [`Observer::with_host_parent`](crate::protocol::Observer::with_host_parent).
pub fn current_span() -> Option<(u128, u64)> {
    use opentelemetry::trace::TraceContextExt as _;
    let through_tracing = tracing::dispatcher::get_default(|dispatch| {
        let id = dispatch.current_span().id().cloned()?;
        tracing_opentelemetry::get_otel_context(&id, dispatch)
    });
    let context = through_tracing.unwrap_or_else(opentelemetry::Context::current);
    let span = context.span().span_context().clone();
    span.is_valid().then(|| {
        (u128::from_be_bytes(span.trace_id().to_bytes()), u64::from_be_bytes(span.span_id().to_bytes()))
    })
}
