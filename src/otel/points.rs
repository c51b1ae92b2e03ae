//! Points in time on the span that they happened in, for back ends that keep no logs.
//!
//! What is recorded while a span is open goes out with it. A crash loses it there, and nowhere else: the same fact is
//! a log record of its own, which is durable at once. What comes after the end of its span is only a log record.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::encode;
use super::out::Out;

/// Tag of an event in a span (`Span.events`, field 11).
const EVENT: u8 = 0x5a;
/// Tag of `Span.dropped_events_count`, field 12.
const DROPPED: u8 = 0x60;
/// Tag of an attribute in an event (`Span.Event.attributes`, field 3).
const ATTRIBUTE: u8 = 0x1a;
/// Bytes of events that one span may hold.
const BYTES: usize = 256 * 1024;

type Key = (u128, u64);

/// The points of every span that is open.
#[derive(Debug)]
pub(super) struct Points {
    most: usize,
    open: Mutex<HashMap<Key, Of>>,
}

#[derive(Debug, Default)]
struct Of {
    events: Out,
    count: usize,
    dropped: u64,
    content: bool,
}

impl Points {
    /// At most so many on a span; the others are counted.
    pub fn new(most: usize) -> Self {
        Points { most, open: Mutex::default() }
    }

    /// A span began.
    pub fn open(&self, key: Key) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Of::default());
    }

    /// Something happened in a span; `attributes` may have any tag, and `content` be in them.
    pub fn add(&self, key: Key, name: &str, time: u64, attributes: &[u8], content: bool) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of) = open.get_mut(&key) else { return };
        if of.count >= self.most || of.events.len() + attributes.len() > BYTES {
            of.dropped += 1;
            return;
        }
        let mut event = Out::new();
        encode::fixed64(&mut event, 0x09, time);
        encode::bytes(&mut event, 0x12, name.as_bytes());
        encode::retag(&mut event, attributes, ATTRIBUTE);
        encode::bytes(&mut of.events, EVENT, &event);
        of.count += 1;
        of.content |= content;
    }

    /// A span ended: its events, and how many there was no room for, as fields of a `Span`; and whether there is
    /// content in them.
    pub fn take(&self, key: Key) -> (Out, bool) {
        let taken = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        let Some(mut of) = taken else { return Default::default() };
        if of.dropped > 0 {
            of.events.push(DROPPED);
            encode::varint(&mut of.events, of.dropped);
        }
        (of.events, of.content)
    }
}
