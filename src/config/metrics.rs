//! What was said about metrics.

use std::time::Duration;

use super::Setting;
use super::env::Env;

/// How metrics are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Between two collections (`OTEL_METRIC_EXPORT_INTERVAL`).
    pub interval: Setting<Duration>,
    /// Whether values begin anew (`OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`).
    pub temporality: Setting<Temporality>,
    /// The names of token metrics (`FACTLINE_METRICS_TOKENS`).
    pub tokens: Setting<TokenNames>,
    /// Whether measurements are kept with their trace (`OTEL_METRICS_EXEMPLAR_FILTER`).
    pub exemplars: Setting<bool>,
}

/// Whether values go on from the start or begin anew with each collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// From the start.
    Cumulative,
    /// Anew with each collection.
    Delta,
    /// Counters and histograms anew, everything else from the start.
    LowMemory,
}

/// Under which names tokens are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenNames {
    /// `gen_ai.client.inference.usage.*`.
    Latest,
    /// `gen_ai.client.token.usage`, as in semantic conventions 1.41.
    Old,
    /// Both.
    Both,
    /// Not at all.
    None,
}

impl Env<'_> {
    pub(super) fn metrics(&mut self) -> MetricsConfig {
        const TEMPORALITY: [(&str, Temporality); 3] = [
            ("cumulative", Temporality::Cumulative),
            ("delta", Temporality::Delta),
            ("lowmemory", Temporality::LowMemory),
        ];
        const TOKENS: [(&str, TokenNames); 4] = [
            ("latest", TokenNames::Latest),
            ("1.41", TokenNames::Old),
            ("both", TokenNames::Both),
            ("none", TokenNames::None),
        ];
        // A measurement without a trace is no exemplar here, so that the first two are one.
        const EXEMPLARS: [(&str, bool); 3] =
            [("trace_based", true), ("always_on", true), ("always_off", false)];
        MetricsConfig {
            interval: self.duration("OTEL_METRIC_EXPORT_INTERVAL", Duration::from_secs(60)),
            temporality: self.choice(
                "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
                &TEMPORALITY,
                Temporality::Cumulative,
            ),
            tokens: self.choice("FACTLINE_METRICS_TOKENS", &TOKENS, TokenNames::Latest),
            exemplars: self.choice("OTEL_METRICS_EXEMPLAR_FILTER", &EXEMPLARS, true),
        }
    }
}
