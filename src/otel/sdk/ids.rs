//! Ids that are derived, for spans that an SDK makes.

use std::cell::Cell;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

thread_local! {
    /// What the span that is being started is called.
    static WANTED: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// An id generator that gives facts their derived ids, and asks another for everything else.
///
/// ```
/// let tracers = opentelemetry_sdk::trace::SdkTracerProvider::builder()
///     .with_id_generator(factline::otel::DerivedIds::default())
///     .build();
/// ```
#[derive(Clone, Debug)]
pub struct DerivedIds<G = RandomIdGenerator> {
    others: G,
}

impl Default for DerivedIds {
    fn default() -> Self {
        Self { others: RandomIdGenerator::default() }
    }
}

impl<G: IdGenerator> DerivedIds<G> {
    /// Around the generator that makes all other ids.
    pub fn around(others: G) -> Self {
        Self { others }
    }
}

impl<G: IdGenerator> IdGenerator for DerivedIds<G> {
    fn new_trace_id(&self) -> TraceId {
        WANTED.get().map_or_else(|| self.others.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        WANTED.get().map_or_else(|| self.others.new_span_id(), |(_, span)| span)
    }
}

/// Starts a span that is to have these ids.
pub(super) fn with<T>(wanted: (TraceId, SpanId), start: impl FnOnce() -> T) -> T {
    struct Unset;
    impl Drop for Unset {
        fn drop(&mut self) {
            WANTED.set(None);
        }
    }
    WANTED.set(Some(wanted));
    let _unset = Unset;
    start()
}
