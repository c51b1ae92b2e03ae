//! What was accepted and what was received, kept by those who appended and received it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;

/// A worker process, and the number of its record.
pub type Id = (u64, u64);

#[derive(Default)]
struct Record {
    accepted: bool,
    delivered: u32,
    refused: u32,
}

#[derive(Default)]
struct State {
    records: HashMap<Id, Record>,
    /// Of each worker: the first number that may not have been appended.
    claimed: HashMap<u64, u64>,
    mangled: u64,
    phantoms: u64,
}

/// Shared by whoever knows something.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<State>>);

/// The body of a record; nothing in it can change without being noticed.
pub fn body((worker, number): Id) -> String {
    let seed = worker.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number;
    let filler = (0..seed % 300).map(|i| char::from(b'a' + ((seed >> (i % 50)) % 26) as u8));
    format!("{worker} {number} {}", filler.collect::<String>())
}

fn id_of(record: &LogRecord) -> Option<Id> {
    let Some(AnyValue { value: Some(Value::StringValue(text)) }) = &record.body else { return None };
    let mut words = text.split(' ');
    let id = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (*text == body(id)).then_some(id)
}

impl Ledger {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker says that it was told so.
    pub fn accepted(&self, id: Id) {
        let mut state = self.state();
        state.records.entry(id).or_default().accepted = true;
        let claimed = state.claimed.entry(id.0).or_default();
        // The one after it may be in the outbox already.
        *claimed = (*claimed).max(id.1 + 2);
    }

    /// A worker begins.
    pub fn begins(&self, worker: u64) {
        self.state().claimed.insert(worker, 1);
    }

    /// The collector said that it took these; the last `refused` of them it did not.
    pub fn received(&self, records: &[LogRecord], refused: usize) {
        let taken = records.len().saturating_sub(refused);
        let mut state = self.state();
        for (at, record) in records.iter().enumerate() {
            let Some(id) = id_of(record) else {
                state.mangled += 1;
                continue;
            };
            let known = state.records.entry(id).or_default();
            if at < taken {
                known.delivered += 1;
            } else {
                known.refused += 1;
            }
        }
    }

    pub fn line(&self) -> String {
        let state = self.state();
        let of = |what: fn(&Record) -> bool| state.records.values().filter(|it| what(it)).count();
        let (accepted, delivered) = (of(|it| it.accepted), of(|it| it.delivered > 0));
        format!("{accepted} accepted, {delivered} delivered")
    }

    /// How it comes out, with what the outbox counted as lost and what waits in it.
    pub fn identity(&self, lost: Lost, waiting: u64) -> Identity {
        let mut state = self.state();
        let claimed = state.claimed.clone();
        let mut of = Identity { lost, waiting, mangled: state.mangled, ..Identity::default() };
        for ((worker, number), it) in &state.records {
            of.accepted += u64::from(it.accepted);
            of.delivered += u64::from(it.delivered > 0);
            of.refused += u64::from(it.refused > 0 && it.delivered == 0);
            of.missing += u64::from(it.accepted && it.delivered == 0 && it.refused == 0);
            of.again += u64::from((it.delivered + it.refused).saturating_sub(1));
            of.phantoms += u64::from(claimed.get(worker).is_none_or(|end| number >= end));
        }
        state.phantoms = of.phantoms;
        of
    }
}

/// Lost by the outbox's own account.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lost {
    /// As the collector refused them.
    pub rejected: u64,
    /// For any other reason.
    pub otherwise: u64,
}

/// The account.
#[derive(Debug, Default)]
pub struct Identity {
    accepted: u64,
    delivered: u64,
    refused: u64,
    missing: u64,
    again: u64,
    phantoms: u64,
    mangled: u64,
    lost: Lost,
    waiting: u64,
}

impl Identity {
    /// Missing without being counted.
    fn silent(&self) -> u64 {
        self.missing.saturating_sub(self.lost.otherwise + self.waiting)
    }

    pub fn holds(&self) -> bool {
        let refused = self.lost.rejected >= self.refused;
        self.silent() == 0 && self.phantoms == 0 && self.mangled == 0 && self.waiting == 0 && refused
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { accepted, delivered, refused, missing, again, phantoms, mangled, waiting, .. } = self;
        write!(
            f,
            "{accepted} accepted, {delivered} delivered ({again} times again), {refused} refused by the collector, \
             {missing} missing of which {} are counted as lost, {waiting} waiting\n\
             silent loss {}, phantoms {phantoms}, mangled {mangled}: {}",
            self.lost.otherwise,
            self.silent(),
            if self.holds() { "it holds" } else { "IT DOES NOT HOLD" }
        )
    }
}
