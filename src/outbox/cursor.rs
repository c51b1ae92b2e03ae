//! How far a queue is delivered, and what was lost: two slots of 256 bytes in one file, written in turn.
//!
//! A slot: `FLCURSOR`, turn u64, segment u64, offset u64, sequence u64, delivered u64, seven lost counts u64
//! (the order of `Loss::ALL`), zeros, CRC-32C of bytes 0..252 at 252. Both slots are written when the file
//! is made and only overwritten later, so a full disk never keeps a loss from being recorded.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crc32c::crc32c;

use super::frame::{u32_at, u64_at};
use super::place;
use super::record::{Loss, Lost};

pub(crate) const SLOT: usize = 256;

/// `sequence` = `delivered` + `lost`, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// Everything up to here is settled.
    pub(crate) sequence: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: Lost,
}

pub(crate) struct CursorFile {
    file: File,
    turn: u64,
}

impl CursorFile {
    /// Opens or makes it; a cursor only if a slot is good.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<Cursor>)> {
        let file = place::open_or_create(path)?;
        let mut bytes = [0; 2 * SLOT];
        let got = read_some(&file, &mut bytes)?;
        if got < bytes.len() {
            file.write_all_at(&bytes[got..], got as u64)?;
        }
        let best = newest(&bytes);
        let turn = best.map_or(0, |(turn, _)| turn);
        Ok((Self { file, turn }, best.map(|(_, cursor)| cursor)))
    }

    /// Reads one without touching it.
    pub(crate) fn peek(path: &Path) -> io::Result<Option<Cursor>> {
        let mut bytes = [0; 2 * SLOT];
        match place::open_read(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => read_some(&file?, &mut bytes)?,
        };
        Ok(newest(&bytes).map(|(_, cursor)| cursor))
    }

    /// Where slots are that were written and do not hold.
    pub(crate) fn damaged_slots(path: &Path) -> io::Result<Vec<u64>> {
        let mut bytes = [0; 2 * SLOT];
        let got = match place::open_read(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => read_some(&file?, &mut bytes)?,
        };
        let slots = bytes.chunks_exact(SLOT).zip([0, SLOT as u64]);
        let hurt = |slot: &[u8]| newest(slot).is_none() && slot.iter().any(|byte| *byte != 0);
        Ok(slots.filter(|(slot, at)| hurt(slot) && *at < got as u64).map(|(_, at)| at).collect())
    }

    pub(crate) fn publish(&mut self, cursor: &Cursor) -> io::Result<()> {
        let turn = self.turn + 1;
        let mut s = [0; SLOT];
        s[..8].copy_from_slice(b"FLCURSOR");
        let numbers = [turn, cursor.segment, cursor.offset, cursor.sequence, cursor.delivered];
        for (to, n) in s[8..].chunks_exact_mut(8).zip(numbers.into_iter().chain(cursor.lost.0)) {
            to.copy_from_slice(&n.to_le_bytes());
        }
        let sum = crc32c(&s[..SLOT - 4]);
        s[SLOT - 4..].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all_at(&s, (turn % 2) * SLOT as u64)?;
        self.turn = turn;
        Ok(())
    }

    /// Makes the file again if somebody removed it; says whether that was so.
    pub(crate) fn restore(&mut self, path: &Path, cursor: &Cursor) -> io::Result<bool> {
        if place::is_same(&self.file, path) {
            return Ok(false);
        }
        let (mut made, _) = Self::open(path)?;
        made.turn = made.turn.max(self.turn);
        made.publish(cursor)?;
        made.sync()?;
        *self = made;
        Ok(true)
    }

    /// Makes what was published survive power loss; needed before anything is deleted on its account.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn read_some(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(&mut bytes[got..], got as u64)? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}

fn newest(bytes: &[u8]) -> Option<(u64, Cursor)> {
    let slots = bytes.chunks_exact(SLOT).filter(|s| s[..8] == *b"FLCURSOR");
    let good = slots.filter(|s| crc32c(&s[..SLOT - 4]) == u32_at(s, SLOT - 4));
    good.map(|s| {
        let mut lost = Lost::default();
        for (i, reason) in Loss::ALL.into_iter().enumerate() {
            lost.add(reason, u64_at(s, 48 + 8 * i));
        }
        let cursor = Cursor {
            segment: u64_at(s, 16),
            offset: u64_at(s, 24),
            sequence: u64_at(s, 32),
            delivered: u64_at(s, 40),
            lost,
        };
        (u64_at(s, 8), cursor)
    })
    .max_by_key(|(turn, _)| *turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_hurt_or_half_written_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let at = |n| Cursor { segment: n, sequence: 2 * n, delivered: 2 * n, ..Cursor::default() };
        let (mut file, none) = CursorFile::open(&path).unwrap();
        assert_eq!(none, None);
        for n in 1..=5 {
            file.publish(&at(n)).unwrap();
            assert_eq!(CursorFile::peek(&path).unwrap(), Some(at(n)));
        }
        let bytes = std::fs::read(&path).unwrap();
        for byte in 0..2 * SLOT {
            let mut hurt = bytes.clone();
            hurt[byte] ^= 1;
            std::fs::write(&path, &hurt).unwrap();
            // The fifth is in the second slot.
            let expected = if byte < SLOT { 5 } else { 4 };
            assert_eq!(CursorFile::peek(&path).unwrap(), Some(at(expected)), "byte {byte}");
        }
    }

    #[test]
    fn a_removed_file_is_made_again_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let cursor = Cursor { sequence: 3, delivered: 3, ..Cursor::default() };
        let (mut file, _) = CursorFile::open(&path).unwrap();
        file.publish(&cursor).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(file.restore(&path, &cursor).unwrap());
        assert_eq!(CursorFile::peek(&path).unwrap(), Some(cursor));
        assert!(!file.restore(&path, &cursor).unwrap());
    }
}
