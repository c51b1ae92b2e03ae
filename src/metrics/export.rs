//! What a collection becomes: a record, or for the time between two of them a checkpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;

use super::clock::Seen;
use super::encode::encode;
use super::instruments::Shared;
use super::recover::key;
use crate::otel::{Accepted, Signal, Sink};
use crate::outbox::Key;

/// Takes the SDK's collections.
///
/// Each interval one becomes a record. Between two records a collection is kept as what has begun and not ended:
/// after a crash the next start makes a record of the last one, so that at most [`TICK`](super::provider::TICK) of
/// measurements is lost. Series that begin anew with each collection can't be kept so; they lose up to an interval.
pub(super) struct Exporter {
    pub sink: Arc<dyn Sink>,
    pub shared: Arc<Shared>,
    pub seen: Option<Arc<Seen>>,
    pub temporality: opentelemetry_sdk::metrics::Temporality,
    /// How often a record is due; `None` where only a flush makes one.
    pub interval: Option<Duration>,
    /// How many wait for a record: meanwhile each collection becomes one, whatever the time. One that was under way
    /// when somebody asked is not the one that was asked for.
    pub due: Arc<AtomicUsize>,
    pub state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    key: Key,
    exported: Instant,
    /// There is a checkpoint since the last record.
    begun: bool,
}

impl Default for State {
    fn default() -> Self {
        State { key: key(), exported: Instant::now(), begun: false }
    }
}

impl Exporter {
    fn take(&self, collected: &ResourceMetrics) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.shared.changed.swap(false, Ordering::AcqRel);
        let ripe = self.interval.is_some_and(|interval| state.exported.elapsed() >= interval);
        let due = self.due.load(Ordering::Acquire) > 0 || ripe || !self.checkpoints();
        if !due && !changed {
            return;
        }
        let metrics = encode(collected, &self.shared.exemplars, self.seen.as_deref());
        if metrics.is_empty() {
            return;
        }
        let time = match &self.seen {
            Some(seen) => seen.times().2,
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64),
        };
        if due {
            let end = std::mem::take(&mut state.begun).then_some(state.key);
            self.sink.accept(Accepted {
                begin: None,
                end,
                content: false,
                records: &[(Signal::Metrics, time, &metrics)],
            });
            state.exported = Instant::now();
            self.shared.exemplars.clear();
            if let Some(seen) = &self.seen {
                seen.was_collected();
            }
        } else {
            state.begun = true;
            let begin = Some((state.key, time, metrics.as_slice()));
            self.sink.accept(Accepted { begin, end: None, content: false, records: &[] });
        }
    }

    fn checkpoints(&self) -> bool {
        self.seen.is_none() && self.temporality == opentelemetry_sdk::metrics::Temporality::Cumulative
    }
}

impl PushMetricExporter for Exporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.take(metrics);
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> opentelemetry_sdk::metrics::Temporality {
        self.temporality
    }
}
