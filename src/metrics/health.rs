//! How the pipeline itself is: read when metrics are collected, never pushed.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::table::Instrument;

/// The numbers of a running pipeline.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    /// Records accepted.
    pub accepted: u64,
    /// Accepted records that are in segments.
    pub written: u64,
    /// Transactions refused, and so never accepted.
    pub refused: u64,
    /// Accepted records that will not be delivered, by reason.
    pub lost: Vec<(&'static str, u64)>,
    /// Bytes used of the ring, and how many it has.
    pub ring: (u64, u64),
    /// Each queue.
    pub queues: Vec<QueueHealth>,
}

/// The numbers of one queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueHealth {
    /// Its name.
    pub name: String,
    /// Records that its destination took.
    pub delivered: u64,
    /// Requests that failed and are sent again.
    pub retried: u64,
    /// Records that wait.
    pub records: u64,
    /// Bytes of them on disk.
    pub bytes: u64,
}

type Read = Arc<dyn Fn() -> Health + Send + Sync>;
type Points = Vec<(u64, Vec<KeyValue>)>;

/// Makes the instruments of `factline.*` and reads them with `read`, which must not wait for anything.
pub(super) fn observe(meter: &Meter, read: impl Fn() -> Health + Send + Sync + 'static) {
    let read: Read = Arc::new(read);
    let one = |value: u64| vec![(value, Vec::new())];
    counter(meter, Instrument::Accepted, &read, move |health| one(health.accepted));
    counter(meter, Instrument::Written, &read, move |health| one(health.written));
    counter(meter, Instrument::Refused, &read, move |health| one(health.refused));
    counter(meter, Instrument::Delivered, &read, |health| of_queues(health, |queue| queue.delivered));
    counter(meter, Instrument::Retried, &read, |health| of_queues(health, |queue| queue.retried));
    counter(meter, Instrument::Lost, &read, |health| {
        let point = |(reason, count): &(&'static str, u64)| {
            (*count, vec![KeyValue::new("factline.loss.reason", *reason)])
        };
        health.lost.iter().map(point).collect()
    });
    gauge(meter, Instrument::QueueRecords, &read, |health| floats(of_queues(health, |queue| queue.records)));
    gauge(meter, Instrument::QueueBytes, &read, |health| floats(of_queues(health, |queue| queue.bytes)));
    gauge(meter, Instrument::RingUtilization, &read, |health| {
        let (used, capacity) = health.ring;
        match capacity {
            0 => Vec::new(),
            _ => vec![(used as f64 / capacity as f64, Vec::new())],
        }
    });
}

fn of_queues(health: &Health, value: impl Fn(&QueueHealth) -> u64) -> Points {
    let point =
        |queue: &QueueHealth| (value(queue), vec![KeyValue::new("factline.queue", queue.name.clone())]);
    health.queues.iter().map(point).collect()
}

fn floats(points: Points) -> Vec<(f64, Vec<KeyValue>)> {
    points.into_iter().map(|(value, attributes)| (value as f64, attributes)).collect()
}

fn counter(
    meter: &Meter,
    instrument: Instrument,
    read: &Read,
    points: impl Fn(&Health) -> Points + Send + Sync + 'static,
) {
    let (of, read) = (instrument.described(), Arc::clone(read));
    let _ = meter
        .u64_observable_counter(of.name)
        .with_unit(of.unit)
        .with_description(of.doc)
        .with_callback(move |observer| {
            points(&read()).iter().for_each(|(value, attributes)| observer.observe(*value, attributes));
        })
        .build();
}

fn gauge(
    meter: &Meter,
    instrument: Instrument,
    read: &Read,
    points: impl Fn(&Health) -> Vec<(f64, Vec<KeyValue>)> + Send + Sync + 'static,
) {
    let (of, read) = (instrument.described(), Arc::clone(read));
    let _ = meter
        .f64_observable_gauge(of.name)
        .with_unit(of.unit)
        .with_description(of.doc)
        .with_callback(move |observer| {
            points(&read()).iter().for_each(|(value, attributes)| observer.observe(*value, attributes));
        })
        .build();
}
