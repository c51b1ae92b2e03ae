//! Where finished records go.

use crate::outbox::{Key, Outbox, Queue, Record, Transaction};

/// A signal of OpenTelemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Log records.
    Logs,
    /// Spans.
    Traces,
    /// Metrics: a record is all of one collection.
    Metrics,
}

/// What a layer hands over at once: all of it is kept, or none.
#[derive(Debug)]
pub struct Accepted<'a> {
    /// Something that lasts began: its key, its time in ns, and what is needed to close it after a crash.
    pub begin: Option<(Key, u64, &'a [u8])>,
    /// Something that lasts ended.
    pub end: Option<Key>,
    /// There is content or environment in it: where space runs out, it goes first.
    pub content: bool,
    /// Finished records with their time in ns.
    pub records: &'a [(Signal, u64, &'a [u8])],
}

/// Takes finished OTLP records; must not wait for a network, and must not emit through `tracing`.
pub trait Sink: Send + Sync + 'static {
    /// What the records that follow belong to (see [`Header`](super::Header)).
    fn set_header(&self, signal: Signal, header: &[u8]);
    /// Keeps what is handed over, or counts it as lost.
    fn accept(&self, accepted: Accepted<'_>);
    /// Keeps what an operator should know, where somebody looks for it; nothing is said through `tracing`.
    fn warn(&self, _warning: &str) {}
}

/// The outbox as a sink: each signal goes to the queues of its destinations.
#[derive(Clone)]
pub struct OutboxSink {
    outbox: Outbox,
    logs: Vec<Queue>,
    traces: Vec<Queue>,
    metrics: Vec<Queue>,
}

impl OutboxSink {
    /// Writes logs and spans to these queues of `outbox`.
    pub fn new(outbox: Outbox, logs: Vec<Queue>, traces: Vec<Queue>) -> Self {
        OutboxSink { outbox, logs, traces, metrics: Vec::new() }
    }

    /// The same, metrics to these.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Vec<Queue>) -> Self {
        self.metrics = metrics;
        self
    }

    fn queues(&self, signal: Signal) -> &[Queue] {
        match signal {
            Signal::Logs => &self.logs,
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
        }
    }
}

impl Sink for OutboxSink {
    fn set_header(&self, signal: Signal, header: &[u8]) {
        for queue in self.queues(signal) {
            self.outbox.set_header(*queue, header);
        }
    }

    fn accept(&self, accepted: Accepted<'_>) {
        let Accepted { begin, end, content, records } = accepted;
        // What is refused is counted by the outbox; there is nobody here to tell.
        let append = |records: &[Record<'_>]| {
            let _ = self.outbox.append(Transaction { begin, end, records });
        };
        // Each signal to one queue is the usual case, and needs no list, which would cost an allocation.
        if let [one] = records
            && let [queue] = self.queues(one.0)
        {
            return append(&[record(one, *queue, content)]);
        }
        if let [one, two] = records
            && let ([first], [second]) = (self.queues(one.0), self.queues(two.0))
        {
            return append(&[record(one, *first, content), record(two, *second, content)]);
        }
        let mut all = Vec::with_capacity(records.len());
        for one in records {
            all.extend(self.queues(one.0).iter().map(|queue| record(one, *queue, content)));
        }
        append(&all);
    }

    fn warn(&self, warning: &str) {
        self.outbox.warn(warning);
    }
}

/// One signal of what a layer writes; the others are somebody else's.
pub(super) struct Only<S>(pub Signal, pub S);

impl<S: Sink> Sink for Only<S> {
    fn set_header(&self, signal: Signal, header: &[u8]) {
        if signal == self.0 {
            self.1.set_header(signal, header);
        }
    }

    fn accept(&self, accepted: Accepted<'_>) {
        let own: Vec<_> = accepted.records.iter().filter(|(signal, ..)| *signal == self.0).copied().collect();
        if accepted.begin.is_some() || accepted.end.is_some() || !own.is_empty() {
            self.1.accept(Accepted { records: &own, ..accepted });
        }
    }

    fn warn(&self, warning: &str) {
        self.1.warn(warning);
    }
}

fn record<'a>(&(_, time_ns, payload): &(Signal, u64, &'a [u8]), queue: Queue, content: bool) -> Record<'a> {
    Record { queue, time_ns, content, payload }
}

impl<S: Sink> Sink for std::sync::Arc<S> {
    fn set_header(&self, signal: Signal, header: &[u8]) {
        (**self).set_header(signal, header);
    }
    fn accept(&self, accepted: Accepted<'_>) {
        (**self).accept(accepted);
    }
    fn warn(&self, warning: &str) {
        (**self).warn(warning);
    }
}
