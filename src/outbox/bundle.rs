//! A whole transaction as one payload: what makes it all or nothing.
//!
//! The items' payloads, one after the other, then a table with 32 bytes per item, then the number of items
//! (u64). An entry: sequence u64, time u64, payload length u32, CRC-32C of the queue's header u32, queue u16
//! (65535: the starts), kind u8, flags u8, CRC-32C of the payload u32. The table comes last because sequences
//! are only known under the lock, when the payloads have been summed already.
//!
//! The sum in the frame of a bundle covers the table and the number only: the table has a sum of every
//! payload. So each payload is summed once, by who appends it, and the segment gets that same sum: bytes
//! that change in between are found by whoever reads them there.

use crc32c::{crc32c, crc32c_append};

use super::frame::{Aligned, FLAG_CONTENT, kind, u32_at, u64_at};
use super::record::{MAX_RECORD, MAX_TRANSACTION, Record, Refused, Transaction};

pub(crate) const ENTRY: usize = 32;
const COUNT: usize = 8;
/// The index that means `starts` instead of a queue.
pub(crate) const STARTS: u16 = u16::MAX;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) queue: u16,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) sequence: u64,
    pub(crate) time_ns: u64,
    /// Says under which header the record was accepted, so that a recovery never puts it under another.
    pub(crate) tag: u32,
    /// CRC-32C of the payload.
    pub(crate) crc: u32,
    /// In two pieces (a key, and what belongs to it), so that nothing has to be joined before it is copied.
    pub(crate) payload: [&'a [u8]; 2],
}

impl<'a> Item<'a> {
    pub(crate) fn header(queue: u16, bytes: &'a [u8]) -> Self {
        let tag = crc32c(bytes);
        Self { queue, kind: kind::HEADER, tag, crc: tag, payload: [bytes, &[]], ..NOTHING }
    }

    /// The sequence and the tag are still to be given.
    pub(crate) fn record(record: &Record<'a>, queues: usize) -> Result<Self, Refused> {
        let Record { queue, time_ns, content, payload } = *record;
        if usize::from(queue.0) >= queues {
            return Err(Refused::UnknownQueue(queue));
        }
        if payload.len() > MAX_RECORD {
            return Err(Refused::TooLarge(payload.len()));
        }
        let flags = if content { FLAG_CONTENT } else { 0 };
        let (queue, crc, payload) = (queue.0, crc32c(payload), [payload, &[]]);
        Ok(Self { queue, kind: kind::RECORD, flags, time_ns, crc, payload, ..NOTHING })
    }

    pub(crate) fn len(&self) -> usize {
        self.payload[0].len() + self.payload[1].len()
    }

    /// With the number of items behind it.
    fn entry(&self, count: usize) -> Aligned<{ ENTRY + COUNT }> {
        let mut aligned = Aligned([0; ENTRY + COUNT]);
        let e = &mut aligned.0;
        e[..8].copy_from_slice(&self.sequence.to_le_bytes());
        e[8..16].copy_from_slice(&self.time_ns.to_le_bytes());
        e[16..20].copy_from_slice(&(self.len() as u32).to_le_bytes());
        e[20..24].copy_from_slice(&self.tag.to_le_bytes());
        e[24..26].copy_from_slice(&self.queue.to_le_bytes());
        e[26] = self.kind;
        e[27] = self.flags;
        e[28..32].copy_from_slice(&self.crc.to_le_bytes());
        e[ENTRY..].copy_from_slice(&(count as u64).to_le_bytes());
        aligned
    }
}

const NOTHING: Item<'static> =
    Item { queue: STARTS, kind: 0, flags: 0, sequence: 0, time_ns: 0, tag: 0, crc: 0, payload: [&[], &[]] };

/// The end of what lasts with its record of a log and its span: what is this short costs no allocation, which for an
/// emitter would be as much as the copy into the ring.
const FEW: usize = 3;

/// The items of one transaction.
pub(crate) struct Items<'a> {
    few: [Item<'a>; FEW],
    many: Vec<Item<'a>>,
    len: usize,
}

impl<'a> Items<'a> {
    /// Sequences and tags are still to be given.
    pub(crate) fn of(t: &'a Transaction<'a>, queues: usize) -> Result<Self, Refused> {
        let mut items = Self { few: [NOTHING; FEW], many: Vec::new(), len: 0 };
        let mut sum = 0;
        if let Some((key, time_ns, payload)) = &t.begin {
            let (time_ns, payload) = (*time_ns, [&key.0[..], *payload]);
            sum += payload[1].len();
            if payload[1].len() > MAX_RECORD {
                return Err(Refused::TooLarge(payload[1].len()));
            }
            let crc = crc32c_append(crc32c(payload[0]), payload[1]);
            items.push(Item { kind: kind::BEGIN, time_ns, crc, payload, ..NOTHING });
        }
        for r in t.records {
            items.push(Item::record(r, queues)?);
            sum += r.payload.len();
        }
        if let Some(key) = &t.end {
            items.push(Item { kind: kind::END, crc: crc32c(&key.0), payload: [&key.0, &[]], ..NOTHING });
        }
        if sum > MAX_TRANSACTION {
            return Err(Refused::TooLarge(sum));
        }
        Ok(items)
    }

    fn push(&mut self, item: Item<'a>) {
        match self.few.get_mut(self.len) {
            Some(place) if self.many.is_empty() => *place = item,
            _ => {
                if self.many.is_empty() {
                    self.many.extend_from_slice(&self.few);
                }
                self.many.push(item);
            }
        }
        self.len += 1;
    }
}

impl<'a> std::ops::Deref for Items<'a> {
    type Target = [Item<'a>];
    fn deref(&self) -> &[Item<'a>] {
        if self.many.is_empty() { &self.few[..self.len] } else { &self.many }
    }
}

impl<'a> std::ops::DerefMut for Items<'a> {
    fn deref_mut(&mut self) -> &mut [Item<'a>] {
        if self.many.is_empty() { &mut self.few[..self.len] } else { &mut self.many }
    }
}

pub(crate) fn encoded_len(items: &[Item<'_>]) -> usize {
    items.iter().map(|i| i.len() + ENTRY).sum::<usize>() + COUNT
}

/// Writes the bundle of at least one item into `out`, which is exactly `encoded_len` long; returns its part of the frame's sum.
pub(crate) fn encode(items: &[Item<'_>], out: &mut [u8]) -> u32 {
    let mut at = 0;
    for item in items {
        for piece in item.payload {
            // Most items have one piece; a copy of nothing would be a call all the same.
            if !piece.is_empty() {
                out[at..at + piece.len()].copy_from_slice(piece);
                at += piece.len();
            }
        }
    }
    let Some((last, others)) = items.split_last() else { return 0 };
    let mut sum = 0;
    for item in others {
        let entry = item.entry(0);
        out[at..at + ENTRY].copy_from_slice(&entry.0[..ENTRY]);
        sum = crc32c_append(sum, &entry.0[..ENTRY]);
        at += ENTRY;
    }
    let entry = last.entry(items.len());
    out[at..at + ENTRY + COUNT].copy_from_slice(&entry.0);
    crc32c_append(sum, &entry.0)
}

/// A bundle's part of the frame's sum; `None` when a payload is not the one that the table was made for.
pub(crate) fn verify(bytes: &[u8]) -> Option<u32> {
    let end = bytes.len().checked_sub(COUNT)?;
    let count = u64_at(bytes, end) as usize;
    let table = end.checked_sub(count.checked_mul(ENTRY)?)?;
    let (mut items, mut len) = (0, 0);
    for item in decode(bytes) {
        if crc32c(item.payload[0]) != item.crc {
            return None;
        }
        items += 1;
        len += item.len();
    }
    (items == count && len == table).then(|| crc32c(&bytes[table..]))
}

/// The items of a bundle; an iterator that ends early where lengths don't fit.
pub(crate) fn decode(bytes: &[u8]) -> impl Iterator<Item = Item<'_>> {
    let count = bytes.len().checked_sub(COUNT).map_or(0, |at| u64_at(bytes, at)) as usize;
    let table_at = bytes.len().checked_sub(COUNT).and_then(|end| end.checked_sub(count.checked_mul(ENTRY)?));
    let (payloads, table) = bytes.split_at(table_at.unwrap_or(0));
    let count = if table_at.is_some() { count } else { 0 };
    let mut at = 0;
    table.chunks_exact(ENTRY).take(count).map_while(move |e| {
        let end = at + u32_at(e, 16) as usize;
        let payload = payloads.get(at..end)?;
        at = end;
        Some(Item {
            queue: u16::from_le_bytes([e[24], e[25]]),
            kind: e[26],
            flags: e[27],
            sequence: u64_at(e, 0),
            time_ns: u64_at(e, 8),
            tag: u32_at(e, 20),
            crc: u32_at(e, 28),
            payload: [payload, &[]],
        })
    })
}
