//! Writing again what a file no longer keeps safe: its `fdatasync` failed, or somebody removed it.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::sync::atomic::Ordering;

use super::{Tail, Written};
use crate::outbox::frame::{kind, sum_of};
use crate::outbox::place;
use crate::outbox::queue::lock;
use crate::outbox::scan::{Found, Scan};

impl Tail {
    /// After a failed `fdatasync` the kernel may have dropped the pages and forgotten the error: the same
    /// descriptor is never synced again. What was not safe yet is read back (the cache still has it, and the
    /// sums tell if not) and written to new segments; the old ones end where they were safe.
    pub(crate) fn distrust(&mut self, number: u64) {
        let Some(at) = self.files.iter().position(|f| f.number == number) else { return };
        let doubtful = self.files.split_off(at);
        self.rewrite(&doubtful, |old| (old.synced, 0));
        for old in &doubtful {
            // Best effort: readers go by the next segment's first sequence in any case.
            let _ = old.file.set_len(old.synced);
            lock(&self.shared.state).retract(old.number, old.synced);
        }
    }

    /// Makes the directory, the cursor and the segments that are being written again, if somebody removed
    /// them; says whether that was so. A removed file that is still open has all its bytes; what was in
    /// others is lost, which readers count when they come to it.
    pub(crate) fn restore(&mut self) -> io::Result<bool> {
        let mut gone = !self.dir.is_dir();
        if gone {
            place::private_dir(&self.dir).map_err(io::Error::other)?;
            self.dir_changed = true;
        }
        gone |= lock(&self.shared.state).restore_cursor()?;
        // A segment that readers are done with was deleted by us, and is no loss.
        let kept: Vec<u64> = lock(&self.shared.state).segments.iter().map(|s| s.number).collect();
        let is_gone = |f: &Written| {
            (f.len == 0 || kept.contains(&f.number))
                && !place::is_same(&f.file, &self.dir.join(place::segment_name(f.number)))
        };
        let Some(at) = self.files.iter().position(is_gone) else { return Ok(gone) };
        // Those behind it as well, or their sequences would come before those of the new ones.
        let removed = self.files.split_off(at);
        let settled = lock(&self.shared.state).cursor.sequence;
        self.rewrite(&removed, |_| (0, settled));
        if self.chunks.is_empty() {
            // Nothing to write again, but somewhere it must stand how far the sequences have come.
            self.begin_segment(self.last_sequence + 1);
        }
        for old in &removed {
            lock(&self.shared.state).segments.retain(|s| s.number != old.number);
            let _ = fs::remove_file(self.dir.join(place::segment_name(old.number)));
        }
        Ok(true)
    }

    /// Puts the frames of `files` into new segments, before what waits to be written: those from the offset
    /// on, and behind the sequence, that `from` says. A file that can't be read ends there; the sequences
    /// tell what is missing.
    fn rewrite(&mut self, files: &VecDeque<Written>, from: impl Fn(&Written) -> (u64, u64)) {
        let current = self.header.clone();
        let later = std::mem::take(&mut self.chunks);
        for old in files {
            let Ok(mut scan) = old.file.try_clone().and_then(|file| Scan::of(file, &self.dir)) else {
                continue;
            };
            scan.end = old.len;
            let (offset, sequence) = from(old);
            let mut begun = false;
            while let Ok(found) = scan.next() {
                let Found::Frame { at, meta, len } = found else {
                    if found == Found::End {
                        break;
                    }
                    continue;
                };
                let Ok(payload) = scan.payload(at, len) else { break };
                if meta.kind == kind::HEADER {
                    self.header = payload.into();
                } else if at >= offset && meta.sequence > sequence {
                    let (payload, sum) = (payload.to_vec(), sum_of(meta.kind, payload));
                    if !begun {
                        self.begin_segment(meta.sequence);
                        begun = true;
                    }
                    self.push_again(meta, [&payload, &[]], sum.unwrap_or_default());
                }
            }
        }
        // What waited behind goes behind again, under a salt and a number of its own.
        let rewritten = std::mem::replace(&mut self.chunks, later);
        let again: u64 = rewritten.iter().map(|c| c.records).sum();
        self.tally.written.fetch_sub(again, Ordering::Relaxed);
        self.header = current;
        self.replant();
        for chunk in rewritten.into_iter().rev() {
            self.chunks.push_front(chunk);
        }
        if self.chunks.is_empty() {
            self.plan = None;
        }
    }
}
