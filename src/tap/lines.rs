//! Chunks of one direction into lines, within a memory bound, with every byte accounted for.

use std::io::BufRead;

use super::queue::Lost;
use super::{Line, Observer, Seen, Sender};

/// A buffer that a large line left behind is not kept beyond this.
const KEPT_CAPACITY: usize = 1024 * 1024;

/// Cuts one direction into lines. Holds at most one line of the limit.
pub(super) struct Splitter {
    conn: u32,
    dir: Sender,
    limit: usize,
    /// Where the current line begins.
    start: u64,
    /// How much of the current line has come, whether it is kept or not.
    len: u64,
    kept: Vec<u8>,
    oversized: bool,
    /// Set while a gap makes the rest of the current line worthless: what is lost so far.
    gap: Option<Lost>,
    t_us: u64,
}

impl Splitter {
    pub(super) fn new(conn: u32, dir: Sender, limit: usize) -> Splitter {
        Splitter {
            conn,
            dir,
            limit,
            start: 0,
            len: 0,
            kept: Vec::new(),
            oversized: false,
            gap: None,
            t_us: 0,
        }
    }

    /// Another limit from here on.
    pub(super) fn limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How much of an unfinished line is kept.
    pub(super) fn held(&self) -> usize {
        self.kept.len()
    }

    /// The position of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.start + self.len
    }

    /// Takes what was read; says how many bytes were handed out in lines.
    pub(super) fn feed(&mut self, t_us: u64, mut bytes: &[u8], to: &mut dyn Observer) -> u64 {
        self.t_us = t_us;
        let mut handed = 0;
        while !bytes.is_empty() {
            // The standard library's search for a byte is the fast one, and this is its public door. Reading a
            // slice can't fail.
            let mut rest = bytes;
            let len = rest.skip_until(b'\n').unwrap_or(bytes.len());
            let (head, tail) = bytes.split_at(len);
            bytes = tail;
            self.len += head.len() as u64;
            match head.strip_suffix(b"\n") {
                Some(body) => handed += self.finish(body, 1, to),
                None => self.keep(head),
            }
        }
        handed
    }

    /// A part of the stream was not observed. Lines begin again after the next newline.
    pub(super) fn lost(&mut self, lost: Lost, to: &mut dyn Observer) {
        let mut gap = self.gap.take().unwrap_or_default();
        gap.chunks += lost.chunks;
        gap.bytes += self.len + lost.bytes;
        gap.ends_line = lost.ends_line;
        self.start += self.len + lost.bytes;
        self.clear();
        if gap.ends_line {
            to.missed(self.conn, self.dir, gap.chunks, gap.bytes);
        } else {
            self.gap = Some(gap);
        }
    }

    /// The stream has ended; what came since the last newline is its last line.
    pub(super) fn close(&mut self, to: &mut dyn Observer) -> u64 {
        if self.len > 0 || self.gap.is_some() { self.finish(b"", 0, to) } else { 0 }
    }

    /// Completes the current line with its last part.
    fn finish(&mut self, body: &[u8], newline: u64, to: &mut dyn Observer) -> u64 {
        let (conn, dir, t_us, off, len) = (self.conn, self.dir, self.t_us, self.start, self.len);
        let handed = if let Some(gap) = self.gap.take() {
            to.missed(conn, dir, gap.chunks, gap.bytes + len);
            0
        } else {
            let at_once = self.kept.is_empty() && !self.oversized && body.len() <= self.limit;
            if !at_once {
                self.keep(body);
            }
            let line = match (at_once, self.oversized) {
                (true, _) => Line::Whole(body),
                (false, false) => Line::Whole(&self.kept),
                (false, true) => Line::Oversized { len: len - newline },
            };
            to.line(Seen { conn, dir, t_us, off, len, line });
            len
        };
        self.start += len;
        self.clear();
        handed
    }

    fn keep(&mut self, part: &[u8]) {
        if self.oversized || self.gap.is_some() {
            return;
        }
        if self.kept.len() + part.len() > self.limit {
            self.oversized = true;
            self.kept = Vec::new();
        } else {
            self.kept.extend_from_slice(part);
        }
    }

    fn clear(&mut self) {
        self.len = 0;
        self.oversized = false;
        self.kept.clear();
        self.kept.shrink_to(KEPT_CAPACITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::Ended;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Log {
        lines: Vec<(u64, u64, Option<Vec<u8>>)>,
        missed: Vec<(u64, u64)>,
    }

    impl Observer for Log {
        fn line(&mut self, seen: Seen<'_>) {
            let text = match seen.line {
                Line::Whole(text) => Some(text.to_vec()),
                Line::Oversized { len } => {
                    assert!(len == seen.len || len + 1 == seen.len);
                    None
                }
            };
            self.lines.push((seen.off, seen.len, text));
        }
        fn missed(&mut self, _: u32, _: Sender, chunks: u64, bytes: u64) {
            self.missed.push((chunks, bytes));
        }
        fn end(&mut self, _: u32, _: u64, _: Ended) {}
    }

    /// The same lines by the book: from the whole stream at once.
    fn by_the_book(stream: &[u8], limit: usize) -> Vec<(u64, u64, Option<Vec<u8>>)> {
        let mut off = 0;
        let mut lines = Vec::new();
        for line in stream.split_inclusive(|b| *b == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            lines.push((off, line.len() as u64, (text.len() <= limit).then(|| text.to_vec())));
            off += line.len() as u64;
        }
        lines
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(0), Just(0xff), Just(b'a')], 0..200)
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(stream in stream(), sizes in prop::collection::vec(1usize..40, 1..20),
                                             limit in 0usize..30) {
            let mut splitter = Splitter::new(1, Sender::Client, limit);
            let mut log = Log::default();
            let (mut rest, mut handed) = (&stream[..], 0);
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at((*size).min(rest.len()));
                handed += splitter.feed(1, head, &mut log);
                rest = tail;
            }
            handed += splitter.close(&mut log);
            prop_assert_eq!(handed, stream.len() as u64);
            prop_assert_eq!(log.lines, by_the_book(&stream, limit));
            prop_assert!(log.missed.is_empty());
        }

        #[test]
        fn with_gaps_every_byte_is_seen_or_missed_and_every_line_is_a_real_one(
            stream in stream(), chunks in prop::collection::vec((1usize..20, any::<bool>()), 1..40)) {
            let mut splitter = Splitter::new(1, Sender::Client, 10);
            let mut log = Log::default();
            let (mut rest, mut dropped) = (&stream[..], 0);
            for (size, lose) in chunks.iter().cycle() {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at((*size).min(rest.len()));
                if *lose {
                    dropped += 1;
                    let ends_line = head.ends_with(b"\n");
                    splitter.lost(Lost { chunks: 1, bytes: head.len() as u64, ends_line }, &mut log);
                } else {
                    splitter.feed(1, head, &mut log);
                }
                rest = tail;
            }
            splitter.close(&mut log);
            let seen: u64 = log.lines.iter().map(|line| line.1).sum();
            let missed: u64 = log.missed.iter().map(|missed| missed.1).sum();
            prop_assert_eq!(seen + missed, stream.len() as u64);
            prop_assert_eq!(log.missed.iter().map(|missed| missed.0).sum::<u64>(), dropped);
            let real = by_the_book(&stream, 10);
            for line in &log.lines {
                prop_assert!(real.contains(line), "{:?}", line);
            }
        }
    }
}
