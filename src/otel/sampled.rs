//! A share of the turns, for what is written into the outbox.

use super::encode::{fields, read_varint};
use super::ratio::Ratio;
use super::sink::{Accepted, Signal, Sink};

/// A sink that passes on the spans of a share of all traces, and those that failed; log records, and with them usage,
/// all of them. What is left out was never accepted, and is not counted.
#[derive(Clone, Debug)]
pub struct Sampled<S> {
    sink: S,
    ratio: Ratio,
}

impl<S: Sink> Sampled<S> {
    /// Keeps this share of the turns that `sink` would get.
    pub fn new(sink: S, ratio: Ratio) -> Self {
        Self { sink, ratio }
    }
}

impl<S: Sink> Sink for Sampled<S> {
    fn set_header(&self, signal: Signal, header: &[u8]) {
        self.sink.set_header(signal, header);
    }

    fn accept(&self, accepted: Accepted<'_>) {
        let kept = |(signal, _, record): &&(Signal, u64, &[u8])| {
            *signal != Signal::Traces
                || stands(record).is_none_or(|(trace, failed)| failed || self.ratio.keeps(trace))
        };
        if self.ratio.is_all() || accepted.records.iter().all(|record| kept(&record)) {
            return self.sink.accept(accepted);
        }
        let records: Vec<_> = accepted.records.iter().filter(kept).copied().collect();
        self.sink.accept(Accepted { records: &records, ..accepted });
    }
}

/// Trace id of an encoded span, and whether its status is an error.
fn stands(record: &[u8]) -> Option<(u128, bool)> {
    // Tag and length of the record itself.
    let (_, rest) = read_varint(record.get(1..)?)?;
    let (mut trace, mut failed) = (None, false);
    for field in fields(rest) {
        let field = field?;
        match (field.number, field.content) {
            (TRACE_ID, Some(content)) => trace = Some(u128::from_be_bytes(content.try_into().ok()?)),
            (STATUS, Some(content)) => failed = content.ends_with(&ERROR),
            _ => {}
        }
    }
    Some((trace?, failed))
}

// Fields of `Span`, and `code` of its status as the layer writes it: field 3, STATUS_CODE_ERROR.
const TRACE_ID: u64 = 1;
const STATUS: u64 = 15;
const ERROR: [u8; 2] = [0x18, 2];
