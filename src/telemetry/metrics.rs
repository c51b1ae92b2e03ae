//! Metrics of a running pipeline: what facts measure, and the pipeline's own numbers.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Telemetry, queue_name};
use crate::config::{Config, MetricsConfig, Signal, Temporality, TokenNames};
use crate::deliver::Deliverer;
use crate::metrics::{self, Health, Metrics, MetricsLayer, QueueHealth, Settings};
use crate::otel;
use crate::otel::{Header, Resource};
use crate::outbox::{Lane, Loss, Outbox};

/// What measures, until the end.
pub(super) struct Measuring {
    settings: Settings,
    running: Mutex<Vec<Metrics>>,
}

impl Measuring {
    pub fn new(config: &Config) -> Self {
        Measuring { settings: settings(&config.metrics), running: Mutex::default() }
    }

    fn keep(&self, metrics: &Metrics) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push(metrics.clone());
    }

    /// The last collection becomes a record.
    pub fn stop(&self) {
        for metrics in std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner)) {
            metrics.stop();
        }
    }
}

/// What the configuration says about metrics.
pub(super) fn settings(config: &MetricsConfig) -> Settings {
    Settings {
        interval: config.interval.value,
        temporality: match config.temporality.value {
            Temporality::Cumulative => metrics::Temporality::Cumulative,
            Temporality::Delta => metrics::Temporality::Delta,
            Temporality::LowMemory => metrics::Temporality::LowMemory,
        },
        tokens: match config.tokens.value {
            TokenNames::Latest => metrics::TokenNames::Latest,
            TokenNames::Old => metrics::TokenNames::Old,
            TokenNames::Both => metrics::TokenNames::Both,
            TokenNames::None => metrics::TokenNames::None,
        },
        exemplars: config.exemplars.value,
    }
}

impl Telemetry {
    /// A layer that measures facts, with the pipeline's own numbers beside it; none where metrics go nowhere. Filter it
    /// with [`metrics::only_used`]. One for each process: a second one would count everything again.
    pub fn metrics_layer(&self) -> Option<MetricsLayer> {
        self.outbox.queue(queue_name(Signal::Metrics))?;
        let metrics = Metrics::start(Arc::new(self.sink()), self.own.clone(), self.measuring.settings);
        let (outbox, deliverer) = (self.outbox.clone(), Arc::downgrade(&self.deliverer));
        let adopted = Arc::downgrade(&self.adopted);
        metrics.observe(move || health(&outbox, &deliverer, &adopted));
        self.measuring.keep(&metrics);
        Some(metrics.layer())
    }

    /// Metrics of a recorded process, with its times; none where metrics go nowhere.
    pub fn replayed_metrics(&self, resource: Resource) -> Option<Metrics> {
        self.outbox.queue(queue_name(Signal::Metrics))?;
        Some(Metrics::replaying(Arc::new(self.sink()), resource, self.measuring.settings))
    }

    pub(super) fn recover_metrics(&self, lane: &Lane) -> io::Result<()> {
        let queue = lane.queue(queue_name(Signal::Metrics));
        if let Some(queue) = queue
            && lane.header(queue).is_none()
        {
            lane.set_header(queue, &Header::new(&self.resource, otel::Signal::Metrics).0)?;
        }
        metrics::recover(lane, queue).map(drop)
    }
}

fn health(outbox: &Outbox, deliverer: &Weak<Deliverer>, adopted: &Weak<Mutex<Vec<Lane>>>) -> Health {
    let counters = outbox.counters();
    let mut queues = BTreeMap::<String, QueueHealth>::new();
    let mut lanes = vec![outbox.own()];
    if let Some(adopted) = adopted.upgrade() {
        lanes.extend(adopted.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
    }
    for lane in lanes {
        for name in lane.queues() {
            let Some(waiting) = lane.backlog(&name) else { continue };
            let queue = queues.entry(name).or_default();
            queue.records += waiting.records;
            queue.bytes += waiting.bytes;
        }
    }
    for route in deliverer.upgrade().map(|deliverer| deliverer.report()).unwrap_or_default() {
        // A route of an adopted lane is called `QUEUE of LANE`.
        let name = route.queue.split(' ').next().unwrap_or_default();
        let queue = queues.entry(name.to_owned()).or_default();
        queue.delivered += route.delivered;
        queue.retried += route.retried;
    }
    let named = |(name, queue): (String, QueueHealth)| QueueHealth { name, ..queue };
    Health {
        accepted: counters.accepted,
        written: counters.written,
        refused: counters.refused,
        lost: Loss::ALL.iter().map(|reason| (reason.name(), counters.lost.by(*reason))).collect(),
        ring: outbox.ring(),
        queues: queues.into_iter().map(named).collect(),
    }
}
