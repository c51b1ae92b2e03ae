//! Spans that are open: what is needed to finish them, also after a crash.

use super::encode::{self, Key as AttributeKey, LINK_ATTRIBUTE, LOG_ATTRIBUTE, SPAN_ATTRIBUTE};
use super::known::{Known, named};
use super::message::{self, Messages};
use super::out::Out;
use super::record::{Name, Visited};
use super::sink::{Accepted, Signal};
use crate::fact::{Capture, Lasting, Link};
use crate::outbox::{Key, Lane, Queue, Record, Transaction};

/// A span that began and has not ended.
#[derive(Debug)]
pub(super) struct OpenSpan {
    pub known: &'static Known,
    /// What is written of it, where that is not everything.
    pub only: Option<Signal>,
    pub trace: u128,
    pub span: u64,
    pub parent: u64,
    pub remote: bool,
    pub time: u64,
    pub ids: u64,
    name: Name,
    links: Vec<Link>,
    /// Attributes of the start, tagged as a span's.
    pub attributes: Out,
    /// Where those end that the record at the end repeats.
    keys_end: usize,
    /// Whether there is content or environment in it.
    pub content: bool,
    messages: Messages,
    pub ended: bool,
}

/// How a span ended.
#[derive(Debug)]
pub(super) struct Ending<'b> {
    pub time: u64,
    pub observed: u64,
    /// Its start, if known better; else 0.
    pub start: u64,
    /// Its parent, if known better; else 0.
    pub parent: u64,
    pub failed: bool,
    /// Attributes of the end, tagged as a span's.
    pub attributes: &'b [u8],
    /// What happened in it, as fields of a span.
    pub points: &'b [u8],
    pub uid: u64,
}

impl<'b> Ending<'b> {
    /// Nobody saw it end.
    pub fn unobserved(time: u64, observed: u64, attributes: &'b [u8], uid: u64) -> Self {
        Ending { time, observed, start: 0, parent: 0, failed: false, attributes, points: &[], uid }
    }
}

impl OpenSpan {
    pub fn new(known: &'static Known, only: Option<Signal>, visited: Visited<'_>) -> Self {
        let keys_end = visited.keys_end.unwrap_or(visited.out.len());
        visited.out.extend_from_slice(&known.constant);
        let name = visited.name();
        OpenSpan {
            known,
            only,
            trace: visited.trace,
            span: visited.span,
            parent: visited.parent,
            remote: visited.remote,
            time: visited.time,
            ids: visited.ids,
            name,
            links: visited.links,
            attributes: std::mem::take(visited.out),
            keys_end,
            content: visited.content,
            messages: visited.messages,
            ended: false,
        }
    }

    /// What the table says of it.
    pub fn lasting(&self) -> Option<&'static Lasting> {
        self.known.entry.lasting.as_ref()
    }

    /// Names it among everything that lasts. Layers of one signal each have the same span open, each its own.
    pub fn key(&self) -> Key {
        let mut key = [0; 24];
        let (trace, span) = key.split_at_mut(16);
        let own = if self.only == Some(Signal::Logs) { !self.trace } else { self.trace };
        trace.copy_from_slice(&own.to_be_bytes());
        span.copy_from_slice(&self.span.to_be_bytes());
        Key(key)
    }

    /// Its name, in two pieces.
    fn name(&self) -> [&[u8]; 2] {
        match &self.name {
            Name::Fixed(name) => [name.as_bytes(), &[]],
            Name::Shows(before, at) => {
                [before.as_bytes(), self.attributes.get(at.clone()).unwrap_or_default()]
            }
            Name::Restored(name) => [name.as_bytes(), &[]],
        }
    }

    /// Attributes that the record at the end repeats.
    pub fn keys(&self) -> &[u8] {
        self.attributes.get(..self.keys_end).unwrap_or_default()
    }

    /// Writes the finished span as an OTLP `Span` into `out`.
    pub fn finish<'o>(&self, end: &Ending<'_>, out: &'o mut Out) -> &'o [u8] {
        encode::begin_record(out);
        encode::id(out, 0x0a, self.trace.to_be_bytes());
        encode::id(out, 0x12, self.span.to_be_bytes());
        let parent = if end.parent != 0 { end.parent } else { self.parent };
        if parent != 0 {
            encode::id(out, 0x22, parent.to_be_bytes());
        }
        let [before, shown] = self.name();
        out.push(0x2a);
        encode::varint(out, (before.len() + shown.len()) as u64);
        out.extend_from_slice(before);
        out.extend_from_slice(shown);
        let kind = self.lasting().map_or(1, |lasting| lasting.kind);
        out.extend([0x30, kind]);
        let start = if end.start != 0 { end.start } else { self.time };
        encode::fixed64(out, 0x39, start);
        encode::fixed64(out, 0x41, end.time.max(start));
        for attributes in [&self.attributes[..], end.attributes] {
            match self.messages {
                Messages::Logs => message::only(out, attributes, |key| !message::is_message(key)),
                Messages::Both | Messages::Spans => out.extend_from_slice(attributes),
            }
        }
        out.extend_from_slice(end.points);
        for link in &self.links {
            let mut inner = Out::new();
            encode::id(&mut inner, 0x0a, link.trace.to_be_bytes());
            encode::id(&mut inner, 0x12, link.span.to_be_bytes());
            encode::text(&mut inner, LINK_ATTRIBUTE, "codex.link.relation", link.relation.as_str());
            encode::fixed32(&mut inner, 0x35, 0x101);
            encode::bytes(out, 0x6a, &inner);
        }
        if end.failed {
            encode::bytes(out, 0x7a, &[0x18, 2]);
        }
        // Flags have a tag of two bytes; they say that it is sampled and whether the parent is remote.
        out.push(0x85);
        encode::fixed32(out, 0x01, if self.remote && end.parent == 0 { 0x301 } else { 0x101 });
        encode::complete_record(out)
    }

    /// Writes a log record about the span into `out`; `said` are attributes of the span.
    pub fn log<'o>(&self, log: &Log, said: [&[u8]; 2], out: &'o mut Out) -> &'o [u8] {
        encode::begin_record(out);
        said.into_iter().for_each(|attributes| match self.content {
            true => message::from_span(out, attributes, self.messages),
            false => encode::retag(out, attributes, LOG_ATTRIBUTE),
        });
        log.complete((self.trace, self.span), out)
    }

    /// What is stored so that it can be finished after a crash.
    ///
    /// Layout, little-endian: what it is for (1 all signals, 2 logs alone, 3 spans alone), length and bytes of the
    /// entry's name (u8), trace (u128), span, parent, time, ids (u64), flags (u8: 1 remote, 2 content, 4 and 8 where
    /// messages go), then as u32 length and bytes: name, links as text, and attributes; last the length of the repeated ones (u32).
    pub fn store(&self, out: &mut Out) {
        out.clear();
        out.push(match self.only {
            // Metrics keep nothing here.
            None | Some(Signal::Metrics) => 1,
            Some(Signal::Logs) => 2,
            Some(Signal::Traces) => 3,
        });
        out.push(self.known.entry.name.len() as u8);
        out.extend_from_slice(self.known.entry.name.as_bytes());
        out.extend(self.trace.to_le_bytes());
        for number in [self.span, self.parent, self.time, self.ids] {
            out.extend(number.to_le_bytes());
        }
        out.push(u8::from(self.remote) | u8::from(self.content) << 1 | self.messages.code() << 2);
        let links: Vec<String> = self
            .links
            .iter()
            .map(|link| format!("{:032x}-{:016x}-{}", link.trace, link.span, link.relation.as_str()))
            .collect();
        let [before, shown] = self.name();
        for part in [[before, shown], [links.join(",").as_bytes(), &[]], [&self.attributes, &[]]] {
            out.extend(((part[0].len() + part[1].len()) as u32).to_le_bytes());
            part.into_iter().for_each(|piece| out.extend_from_slice(piece));
        }
        out.extend((self.keys_end as u32).to_le_bytes());
    }

    /// Reads what [`store`](OpenSpan::store) wrote; `None` if it is something else.
    pub fn restore(bytes: &[u8]) -> Option<OpenSpan> {
        let mut rest = Parts(bytes);
        let only = match rest.take(1)? {
            [1] => None,
            [2] => Some(Signal::Logs),
            [3] => Some(Signal::Traces),
            _ => return None,
        };
        let length = usize::from(*rest.take(1)?.first()?);
        let known = named(std::str::from_utf8(rest.take(length)?).ok()?)?;
        known.entry.lasting.as_ref()?;
        let trace = u128::from_le_bytes(rest.take(16)?.try_into().ok()?);
        let (span, parent, time, ids) = (rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?);
        let flags = *rest.take(1)?.first()?;
        let name = Name::Restored(String::from_utf8(rest.sized()?.to_vec()).ok()?);
        let links = crate::fact::parse_links(std::str::from_utf8(rest.sized()?).ok()?);
        let mut attributes = Out::new();
        attributes.extend_from_slice(rest.sized()?);
        let keys_end = rest.u32()? as usize;
        Some(OpenSpan {
            known,
            only,
            trace,
            span,
            parent,
            remote: flags & 1 != 0,
            time,
            ids,
            name,
            links,
            attributes,
            keys_end,
            content: flags & 2 != 0,
            messages: Messages::from_code(flags >> 2 & 3),
            ended: false,
        })
    }

    /// Takes out what may not leave any more. The attributes that a record at the end repeats are identifiers.
    fn withdraw(&mut self, capture: Capture) {
        if !self.content {
            return;
        }
        let fields = self.known.entry.fields;
        let class = |key: &str| fields.iter().find(|field| field.key == key).map(|field| field.class);
        let mut kept = Out::new();
        message::only(&mut kept, &self.attributes, |key| class(key).is_none_or(|it| capture.allows(it)));
        self.attributes = kept;
        self.content = !capture.is_none();
    }

    /// Attributes that say nobody saw it end.
    pub fn unobserved(&self) -> Out {
        let mut out = Out::new();
        let fields = self.lasting().map_or(&[][..], |lasting| lasting.end_fields);
        if let Some(status) = fields.first() {
            let observed = fields.iter().find(|field| field.name == "end_observed");
            let value = if observed.is_some() { "interrupted" } else { "unobserved" };
            encode::text(&mut out, SPAN_ATTRIBUTE, status.key, value);
            if let Some(field) = observed {
                AttributeKey::new(field.key).flag(&mut out, SPAN_ATTRIBUTE, false);
            }
        }
        out
    }
}

/// What a log record says besides its attributes.
#[derive(Debug)]
pub(super) struct Log {
    pub event: &'static str,
    pub time: u64,
    pub observed: u64,
    pub severity: u8,
    pub uid: u64,
}

/// The fields behind the attributes of a record that belongs to a span, but for its event's name: written in one
/// piece, the values put in their places.
const BEHIND: [u8; 91] = *b"\x32\x24\x0a\x0elog.record.uid\x12\x12\x0a\x10----------------\
    \x09--------\x10-\x45\x01\0\0\0\x4a\x10----------------\x52\x08--------\x59--------";

impl Log {
    /// Completes an OTLP `LogRecord` that has its attributes; a trace of 0 is none, and so is a span.
    pub fn complete<'o>(&self, (trace, span): (u128, u64), out: &'o mut Out) -> &'o [u8] {
        let at = out.len();
        out.chunk(|behind: &mut [u8; BEHIND.len()]| {
            *behind = BEHIND;
            behind[22..38].copy_from_slice(&encode::hex(self.uid));
            behind[39..47].copy_from_slice(&self.time.to_le_bytes());
            behind[48] = self.severity;
            behind[56..72].copy_from_slice(&trace.to_be_bytes());
            behind[74..82].copy_from_slice(&span.to_be_bytes());
            behind[83..].copy_from_slice(&self.observed.to_le_bytes());
            BEHIND.len()
        });
        if trace == 0 || span == 0 {
            let without = if trace == 0 { 49 } else { 72 };
            out.remove(at + without..at + 82);
        }
        encode::bytes(out, 0x62, self.event.as_bytes());
        encode::complete_record(out)
    }
}

/// What [`OpenSpan::store`] wrote, without content; none if there is none in it.
pub(super) fn without_content(stored: &[u8]) -> Option<Vec<u8>> {
    let mut open = OpenSpan::restore(stored).filter(|open| open.content)?;
    open.withdraw(Capture::NONE);
    let mut out = Out::new();
    open.store(&mut out);
    Some(out.into_vec())
}

struct Parts<'b>(&'b [u8]);

impl<'b> Parts<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn sized(&mut self) -> Option<&'b [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }
}

/// Finishes what a dead process left open in its lane, as interrupted at the last time it saw anything.
/// Returns how many there were. What was captured when they began and is not allowed by `capture` any more is taken
/// out.
///
/// # Errors
/// The lane could not be written.
pub fn recover(lane: &Lane, logs: &[Queue], traces: &[Queue], capture: Capture) -> std::io::Result<usize> {
    let unfinished = lane.unfinished();
    let count = unfinished.len();
    for left in unfinished {
        let Some(mut open) = OpenSpan::restore(&left.payload) else {
            lane.finish(Transaction { begin: None, end: Some(left.key), records: &[] })?;
            continue;
        };
        open.withdraw(capture);
        let attributes = open.unobserved();
        let time = left.last_seen_ns.max(open.time);
        let uid = super::uid::uid("end", open.ids, time, 0);
        let end = Ending::unobserved(time, time, &attributes, uid);
        let (mut span, mut log) = (Out::new(), Out::new());
        with_records(&open, &end, &mut span, &mut log, |accepted| {
            let queues = |signal: &Signal| match (signal, open.only) {
                (signal, Some(only)) if *signal != only => &[],
                (Signal::Logs, _) => logs,
                (Signal::Traces, _) => traces,
                (Signal::Metrics, _) => &[],
            };
            let records: Vec<Record<'_>> = accepted
                .records
                .iter()
                .flat_map(|(signal, time_ns, payload)| {
                    let (time_ns, content) = (*time_ns, accepted.content);
                    let record = move |queue: &Queue| Record { queue: *queue, time_ns, content, payload };
                    queues(signal).iter().map(record)
                })
                .collect();
            lane.finish(Transaction { begin: None, end: accepted.end, records: &records })
        })?;
    }
    Ok(count)
}

/// The records that the end of a span makes: the span, and where the table says so a log record.
pub(super) fn with_records<R>(
    open: &OpenSpan,
    end: &Ending<'_>,
    span_buffer: &mut Out,
    log_buffer: &mut Out,
    hand_over: impl FnOnce(Accepted<'_>) -> R,
) -> R {
    let span = open.finish(end, span_buffer);
    let event = open.lasting().and_then(|lasting| lasting.end_event);
    let Some(event) = event else {
        let records = [(Signal::Traces, end.time, span)];
        let content = open.content;
        return hand_over(Accepted { begin: None, end: Some(open.key()), content, records: &records });
    };
    let log = Log {
        event,
        time: end.time,
        observed: end.observed,
        severity: if end.failed { 13 } else { 9 },
        uid: end.uid,
    };
    let log = open.log(&log, [open.keys(), end.attributes], log_buffer);
    let records = [(Signal::Logs, end.time, log), (Signal::Traces, end.time, span)];
    hand_over(Accepted { begin: None, end: Some(open.key()), content: open.content, records: &records })
}
