//! A meter provider of our own, whose collections become records.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};

use super::clock::Seen;
use super::export::Exporter;
use super::health::{Health, observe};
use super::instruments::{Instruments, Shared};
use super::layer::MetricsLayer;
use super::table::TokenNames;
use crate::fact::vocabulary::ConnectionStart;
use crate::otel::{Header, Resource, Signal, Sink};

/// Between two checkpoints: what a crash may cost.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// As good as never: a replay collects when the transcript's time says so.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Whether values go on from the start or begin anew with each collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Temporality {
    /// From the start.
    #[default]
    Cumulative,
    /// Anew with each collection.
    Delta,
    /// Counters and histograms anew, everything else from the start.
    LowMemory,
}

/// How metrics are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Between two records.
    pub interval: Duration,
    /// Whether values begin anew.
    pub temporality: Temporality,
    /// The names of token metrics.
    pub tokens: TokenNames,
    /// Whether the last measurement of each series goes along with its trace.
    pub exemplars: bool,
}

impl Default for Settings {
    /// Every 60 s, cumulative, the newer names, with exemplars.
    fn default() -> Self {
        Settings {
            interval: Duration::from_secs(60),
            temporality: Temporality::default(),
            tokens: TokenNames::default(),
            exemplars: true,
        }
    }
}

/// What the records belong to, and how they are asked for.
pub(super) struct Head {
    sink: Arc<dyn Sink>,
    resource: Mutex<Resource>,
    provider: SdkMeterProvider,
    due: Arc<AtomicUsize>,
    seen: Option<Arc<Seen>>,
}

impl Head {
    // A server says who it is when a client connects; what follows belongs to it.
    pub fn learn(&self, start: &ConnectionStart<'_>) {
        let mut resource = self.resource.lock().unwrap_or_else(PoisonError::into_inner);
        if resource.learn_from(start) {
            self.sink.set_header(Signal::Metrics, &Header::new(&resource, Signal::Metrics).0);
        }
    }

    pub fn seen(&self, time: u64) {
        let Some(seen) = self.seen.as_ref().filter(|_| time != 0) else { return };
        if seen.is_due(time) {
            self.flush();
        }
        seen.see(time);
    }

    pub fn flush(&self) {
        self.due.fetch_add(1, Ordering::AcqRel);
        // It fails when the provider was shut down, and then everything is exported.
        let _ = self.provider.force_flush();
        self.due.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Metrics on their way into a [`Sink`].
///
/// A thread of the SDK collects; dropping the last clone collects once more, [`stop`](Metrics::stop) says when.
#[derive(Clone)]
pub struct Metrics {
    head: Arc<Head>,
    shared: Arc<Shared>,
    meter: Meter,
    settings: Settings,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics of a running process.
    pub fn start(sink: Arc<dyn Sink>, resource: Resource, settings: Settings) -> Metrics {
        Metrics::with(sink, resource, settings, None)
    }

    /// Metrics of a recorded session: their times are those of the facts, and the same facts give the same records.
    pub fn replaying(sink: Arc<dyn Sink>, resource: Resource, settings: Settings) -> Metrics {
        Metrics::with(sink, resource, settings, Some(Arc::new(Seen::new(settings.interval))))
    }

    fn with(sink: Arc<dyn Sink>, resource: Resource, settings: Settings, seen: Option<Arc<Seen>>) -> Metrics {
        sink.set_header(Signal::Metrics, &Header::new(&resource, Signal::Metrics).0);
        let (shared, due) = (Arc::<Shared>::default(), Arc::<AtomicUsize>::default());
        let temporality = match settings.temporality {
            Temporality::Cumulative => opentelemetry_sdk::metrics::Temporality::Cumulative,
            Temporality::Delta => opentelemetry_sdk::metrics::Temporality::Delta,
            Temporality::LowMemory => opentelemetry_sdk::metrics::Temporality::LowMemory,
        };
        let cumulative = settings.temporality == Temporality::Cumulative;
        let interval = match (&seen, cumulative) {
            (Some(_), _) => NEVER,
            (None, true) => settings.interval.min(TICK),
            (None, false) => settings.interval,
        };
        let exporter = Exporter {
            sink: Arc::clone(&sink),
            shared: Arc::clone(&shared),
            seen: seen.clone(),
            temporality,
            interval: seen.is_none().then_some(settings.interval),
            due: Arc::clone(&due),
            state: Mutex::default(),
        };
        // The resource of the records is in their header.
        let provider = SdkMeterProvider::builder()
            .with_resource(opentelemetry_sdk::Resource::builder_empty().build())
            .with_reader(PeriodicReader::builder(exporter).with_interval(interval).build())
            .build();
        let scope = InstrumentationScope::builder("factline").with_version(env!("CARGO_PKG_VERSION")).build();
        let meter = provider.meter_with_scope(scope);
        let head = Head { sink, resource: Mutex::new(resource), provider, due, seen };
        Metrics { head: Arc::new(head), shared, meter, settings }
    }

    /// A layer that measures facts.
    pub fn layer(&self) -> MetricsLayer {
        let shared = Some(Arc::clone(&self.shared));
        let instruments =
            Instruments::new(&self.meter, self.settings.tokens, shared, self.settings.exemplars);
        MetricsLayer::of(Arc::clone(&self.head), instruments)
    }

    /// Adds how the pipeline is (`factline.*`), read whenever metrics are collected.
    pub fn observe(&self, read: impl Fn() -> Health + Send + Sync + 'static) {
        observe(&self.meter, read);
    }

    /// Makes a record of what was measured up to now.
    pub fn flush(&self) {
        self.head.flush();
    }

    /// The same for the last time, and the thread ends.
    pub fn stop(&self) {
        self.head.due.fetch_add(1, Ordering::AcqRel);
        // It fails when it was stopped before.
        let _ = self.head.provider.shutdown();
    }
}
