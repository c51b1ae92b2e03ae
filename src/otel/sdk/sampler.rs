//! Sampling of turns by their trace ids.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

use crate::otel::Ratio;

/// A sampler that keeps whole turns: all spans of a trace, or those that failed.
///
/// The trace id alone decides (see [`Ratio`]), so that every process decides the same for a turn and what it caused.
/// Log records, and with them usage, are no spans and pass by; a span with an `error.type` is always kept.
///
/// For a host's other spans wrap it: `Sampler::ParentBased(Box::new(TurnSampler::new(0.1)))` follows their parents.
#[derive(Clone, Debug)]
pub struct TurnSampler {
    ratio: Ratio,
}

impl TurnSampler {
    /// Keeps this share of turns, from 0 to 1; what lies outside is 0 or 1, and no number is 1.
    pub fn new(share: f64) -> Self {
        Self { ratio: Ratio::new(share) }
    }
}

impl ShouldSample for TurnSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        _: &str,
        _: &SpanKind,
        attributes: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let failed = attributes.iter().any(|attribute| attribute.key.as_str() == "error.type");
        let kept = failed || self.ratio.keeps(u128::from_be_bytes(trace_id.to_bytes()));
        let trace_state =
            parent.map(|context| context.span().span_context().trace_state().clone()).unwrap_or_default();
        SamplingResult {
            decision: if kept { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop },
            attributes: Vec::new(),
            trace_state,
        }
    }
}
