//! The one format of everything in an outbox: a file header, then frames. All numbers little-endian.
//!
//! **File header**, 128 bytes: the same 64 bytes twice, so that no single damaged sector or bit takes the
//! salt, and with it the whole file.
//!
//! | offset | size | content |
//! |---|---|---|
//! | 0 | 8 | `FACTLINE` |
//! | 8 | 2 | format version, 1 |
//! | 10 | 2 | size of the whole header, 128 |
//! | 12 | 4 | purpose: 1 segment, 2 ring, 3 names, 4 dead letters |
//! | 16 | 8 | salt, random per file |
//! | 24 | 8 | first sequence: frames of *earlier* segments count only below it |
//! | 32 | 8 | when the file was made, unix ns |
//! | 40 | 8 | latest record time of the queue before this file, unix ns |
//! | 48 | 12 | zero |
//! | 60 | 4 | CRC-32C of bytes 0..60 |
//!
//! The first twelve bytes and the CRC stay where they are in all versions; a file of a newer version is
//! refused untouched.
//!
//! **Frame**, 36 bytes and a payload:
//!
//! | offset | size | content |
//! |---|---|---|
//! | 0 | 4 | magic `F5 9C C1 FE` (never valid UTF-8) |
//! | 4 | 4 | length n of the payload, at most 64 MiB |
//! | 8 | 8 | sequence |
//! | 16 | 8 | time, unix ns |
//! | 24 | 1 | kind |
//! | 25 | 1 | flags: 1 = carries content |
//! | 26 | 2 | zero |
//! | 28 | 4 | check: CRC-32C of the salt (8 bytes), the frame's offset in the file (u64) and bytes 4..28 |
//! | 32 | 4 | sum: CRC-32C of the payload, exclusive or the check; of kind 6 see `bundle` |
//! | 36 | n | payload |
//!
//! The check lets a reader trust the length although the payload is damaged, and makes the search for the
//! next good frame cheap. Both sums depend on the salt and on the place: bytes inside a payload that look
//! like a frame, and a block that was copied from elsewhere in the file, are no frames. The payload's part
//! of the sum stands alone, so that emitters compute it outside their lock, when the place is not known yet.
//!
//! Sequences count the records of one queue of one lane, from 1, without gaps: a gap is a loss, of exactly
//! so many records.
//!
//! | kind | payload |
//! |---|---|
//! | 1 header | what the records of this segment belong to; the first frame of a segment, written twice |
//! | 2 record | opaque |
//! | 3 lost | reason u8, count u64: the records up to this sequence that were never written |
//! | 4 begin | key (24 bytes), opaque |
//! | 5 end | key (24 bytes) |
//! | 6 transaction | see `bundle` |
//! | 7 names | names of the queues, by index, separated by newlines |
//! | 8 dead | length of header u32, header, length of reason u32, reason, record |

use crc32c::{crc32c, crc32c_append};

use super::bundle;

pub(crate) const MAGIC: [u8; 4] = [0xF5, 0x9C, 0xC1, 0xFE];
pub(crate) const FRAME_HEADER: usize = 36;
pub(crate) const FILE_HEADER: usize = 128;
pub(crate) const MAX_PAYLOAD: usize = 64 << 20;
const VERSION: u16 = 1;
const COPY: usize = FILE_HEADER / 2;

pub(crate) mod kind {
    pub(crate) const HEADER: u8 = 1;
    pub(crate) const RECORD: u8 = 2;
    pub(crate) const LOST: u8 = 3;
    pub(crate) const BEGIN: u8 = 4;
    pub(crate) const END: u8 = 5;
    pub(crate) const TRANSACTION: u8 = 6;
    pub(crate) const NAMES: u8 = 7;
    pub(crate) const DEAD: u8 = 8;
}

pub(crate) const FLAG_CONTENT: u8 = 1;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Segment = 1,
    Ring = 2,
    Names = 3,
    Dead = 4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) salt: u64,
    pub(crate) first_sequence: u64,
    pub(crate) created_ns: u64,
    pub(crate) last_time_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged,
    Newer(u16),
}

impl FileHeader {
    pub(crate) fn new(first_sequence: u64, last_time_ns: u64) -> Self {
        Self {
            salt: super::place::random(),
            first_sequence,
            created_ns: super::place::now_ns(),
            last_time_ns,
        }
    }

    pub(crate) fn encode(&self, purpose: Purpose) -> [u8; FILE_HEADER] {
        let mut copy = [0; COPY];
        copy[..8].copy_from_slice(b"FACTLINE");
        copy[8..10].copy_from_slice(&VERSION.to_le_bytes());
        copy[10..12].copy_from_slice(&(FILE_HEADER as u16).to_le_bytes());
        copy[12..16].copy_from_slice(&(purpose as u32).to_le_bytes());
        copy[16..24].copy_from_slice(&self.salt.to_le_bytes());
        copy[24..32].copy_from_slice(&self.first_sequence.to_le_bytes());
        copy[32..40].copy_from_slice(&self.created_ns.to_le_bytes());
        copy[40..48].copy_from_slice(&self.last_time_ns.to_le_bytes());
        let sum = crc32c(&copy[..60]);
        copy[60..].copy_from_slice(&sum.to_le_bytes());
        let mut both = [0; FILE_HEADER];
        both[..COPY].copy_from_slice(&copy);
        both[COPY..].copy_from_slice(&copy);
        both
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        for copy in bytes.chunks_exact(COPY).take(2) {
            if copy[..8] != *b"FACTLINE" || crc32c(&copy[..60]) != u32_at(copy, 60) {
                continue;
            }
            // A version that is older than this one gets its own arm here: its files are read and delivered, and
            // new files are of this one. There was none, and 0 is what nobody wrote.
            match u16::from_le_bytes([copy[8], copy[9]]) {
                0 => continue,
                VERSION => {}
                newer => return Err(BadHeader::Newer(newer)),
            }
            return Ok(Self {
                salt: u64_at(copy, 16),
                first_sequence: u64_at(copy, 24),
                created_ns: u64_at(copy, 32),
                last_time_ns: u64_at(copy, 40),
            });
        }
        Err(BadHeader::Damaged)
    }

    pub(crate) fn seal(&self) -> Seal {
        Seal(crc32c(&self.salt.to_le_bytes()))
    }
}

/// What a frame says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) sequence: u64,
    pub(crate) time_ns: u64,
}

/// The part of a frame's sum that its payload makes. `None`: a bundle that does not hold.
pub(crate) fn sum_of(kind: u8, payload: &[u8]) -> Option<u32> {
    if kind == kind::TRANSACTION { bundle::verify(payload) } else { Some(crc32c(payload)) }
}

/// Bytes that are summed in whole words: of those before and behind, each one costs as much as a word.
#[repr(align(8))]
pub(crate) struct Aligned<const N: usize>(pub(crate) [u8; N]);

/// The state of the checksum after a file's salt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seal(u32);

impl Seal {
    fn check(self, at: u64, header: &[u8]) -> u32 {
        let mut bytes = Aligned([0; 32]);
        bytes.0[..8].copy_from_slice(&at.to_le_bytes());
        bytes.0[8..].copy_from_slice(&header[4..28]);
        crc32c_append(self.0, &bytes.0)
    }

    /// The header of a frame at offset `at`, for a payload of `len` bytes whose part of the sum is `sum`.
    pub(crate) fn header(self, at: u64, meta: Meta, len: usize, sum: u32) -> [u8; FRAME_HEADER] {
        let mut h = [0; FRAME_HEADER];
        h[..4].copy_from_slice(&MAGIC);
        h[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        h[8..16].copy_from_slice(&meta.sequence.to_le_bytes());
        h[16..24].copy_from_slice(&meta.time_ns.to_le_bytes());
        h[24] = meta.kind;
        h[25] = meta.flags;
        let check = self.check(at, &h);
        h[28..32].copy_from_slice(&check.to_le_bytes());
        h[32..36].copy_from_slice(&(sum ^ check).to_le_bytes());
        h
    }

    /// Adds a frame to `out`, the first byte of which is at offset `base` of the file.
    pub(crate) fn push(self, out: &mut Vec<u8>, base: u64, meta: Meta, payload: &[u8]) {
        let at = base + out.len() as u64;
        out.extend_from_slice(&self.header(at, meta, payload.len(), crc32c(payload)));
        out.extend_from_slice(payload);
    }

    /// Meta and payload length, if the header is one that this file's writer made for offset `at`.
    pub(crate) fn open(self, at: u64, h: &[u8]) -> Option<(Meta, usize)> {
        let h = h.get(..FRAME_HEADER)?;
        if h[..4] != MAGIC || self.check(at, h) != u32_at(h, 28) {
            return None;
        }
        let len = u32_at(h, 4) as usize;
        let meta = Meta { kind: h[24], flags: h[25], sequence: u64_at(h, 8), time_ns: u64_at(h, 16) };
        (len <= MAX_PAYLOAD).then_some((meta, len))
    }

    /// Whether the payload is the one that the header was made for.
    pub(crate) fn holds(header: &[u8], payload: &[u8]) -> bool {
        let Some(header) = header.get(..FRAME_HEADER) else { return false };
        sum_of(header[24], payload).is_some_and(|sum| sum ^ u32_at(header, 28) == u32_at(header, 32))
    }
}

/// The number at `at`; 0 where the bytes end before it.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The number at `at`; 0 where the bytes end before it.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: Meta = Meta { kind: kind::RECORD, flags: FLAG_CONTENT, sequence: 7, time_ns: 1 << 60 };

    fn sealed(seal: Seal, at: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        seal.push(&mut bytes, at, META, b"a payload");
        bytes
    }

    fn is_good(seal: Seal, at: u64, bytes: &[u8]) -> bool {
        seal.open(at, bytes).is_some_and(|(_, len)| {
            bytes.get(FRAME_HEADER..FRAME_HEADER + len).is_some_and(|payload| Seal::holds(bytes, payload))
        })
    }

    #[test]
    fn a_frame_comes_back_at_its_place_in_its_file_and_nowhere_else() {
        let seal = FileHeader::new(1, 0).seal();
        let bytes = sealed(seal, 4096);
        assert_eq!(seal.open(4096, &bytes), Some((META, 9)));
        assert!(is_good(seal, 4096, &bytes));
        for at in (0..70_000).filter(|&at| at != 4096) {
            assert_eq!(seal.open(at, &bytes), None, "{at}");
        }
        assert_eq!(FileHeader::new(1, 0).seal().open(4096, &bytes), None);
        assert!((0..bytes.len()).all(|len| !is_good(seal, 4096, &bytes[..len])));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let seal = FileHeader::new(1, 0).seal();
        let bytes = sealed(seal, 128);
        for bit in 0..bytes.len() * 8 {
            let mut hurt = bytes.clone();
            hurt[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_good(seal, 128, &hurt), "bit {bit}");
        }
    }

    #[test]
    fn a_file_header_survives_in_either_copy_and_a_newer_version_is_told() {
        let header = FileHeader::new(3, 4);
        let bytes = header.encode(Purpose::Segment);
        for at in 0..FILE_HEADER {
            let mut hurt = bytes;
            hurt[at] ^= 0x80;
            assert_eq!(FileHeader::decode(&hurt), Ok(header));
            hurt[(at + COPY) % FILE_HEADER] ^= 1;
            assert_eq!(FileHeader::decode(&hurt), Err(BadHeader::Damaged));
        }
        let mut newer = bytes;
        newer[8] = 2;
        let sum = crc32c(&newer[..60]).to_le_bytes();
        newer[60..64].copy_from_slice(&sum);
        assert_eq!(FileHeader::decode(&newer), Err(BadHeader::Newer(2)));
        let mut never = bytes;
        never[8] = 0;
        let sum = crc32c(&never[..60]).to_le_bytes();
        never[60..64].copy_from_slice(&sum);
        assert_eq!(FileHeader::decode(&never), Ok(header), "the other copy counts");
        never.copy_within(..COPY, COPY);
        assert_eq!(FileHeader::decode(&never), Err(BadHeader::Damaged));
    }
}
