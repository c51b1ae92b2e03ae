//! Reading frames from a file that may be damaged anywhere.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::frame::{BadHeader, FILE_HEADER, FRAME_HEADER, FileHeader, MAGIC, Meta, Seal};
use super::place;

/// Enough that a segment is read with few system calls, little enough to be kept per reader.
const WINDOW: usize = 256 << 10;

/// What stands at a place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Frame {
        at: u64,
        meta: Meta,
        len: usize,
    },
    /// Bytes that are no frame, up to the next good one or the end.
    Damage {
        at: u64,
        len: u64,
    },
    End,
}

pub(crate) struct Scan {
    file: File,
    seal: Seal,
    pub(crate) header: FileHeader,
    /// Where the next look begins.
    pub(crate) at: u64,
    /// Where what may be looked at ends.
    pub(crate) end: u64,
    base: u64,
    window: Vec<u8>,
}

impl Scan {
    /// Opens a file up to its present length.
    ///
    /// Errors: what the system says; `Unsupported` for a newer format; `InvalidData` when both copies of
    /// the header are damaged.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::of(place::open_read(path)?, path)
    }

    /// The same for a file that is open already; `path` is only for the words of an error.
    pub(crate) fn of(file: File, path: &Path) -> io::Result<Self> {
        let end = file.metadata()?.len();
        let mut head = [0; FILE_HEADER];
        let mut got = 0;
        while got < FILE_HEADER {
            match file.read_at(&mut head[got..], got as u64)? {
                0 => break,
                n => got += n,
            }
        }
        let header = FileHeader::decode(&head).map_err(|bad| match bad {
            BadHeader::Newer(version) => io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{}: format {version} is newer than this program; update it", path.display()),
            ),
            BadHeader::Damaged => io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: both copies of the file header are damaged", path.display()),
            ),
        })?;
        let seal = header.seal();
        Ok(Self { file, seal, header, at: FILE_HEADER as u64, end, base: 0, window: Vec::new() })
    }

    /// Up to `want` bytes at `at`; fewer only at the end.
    fn view(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let want = want.min(self.end.saturating_sub(at) as usize);
        let inside = at >= self.base && at + want as u64 <= self.base + self.window.len() as u64;
        if !inside {
            let size = want.max(WINDOW).min(self.end.saturating_sub(at) as usize);
            self.window.resize(size, 0);
            let mut got = 0;
            while got < size {
                match self.file.read_at(&mut self.window[got..], at + got as u64) {
                    Ok(0) => break,
                    Ok(n) => got += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => {
                        self.window.clear();
                        return Err(e);
                    }
                }
            }
            self.window.truncate(got);
            self.base = at;
        }
        let from = at.saturating_sub(self.base) as usize;
        let to = (from + want).min(self.window.len());
        Ok(self.window.get(from..to).unwrap_or_default())
    }

    /// The payload of a frame that `next` found.
    pub(crate) fn payload(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        self.view(at + FRAME_HEADER as u64, len)
    }

    /// A good frame at `at`, or how many bytes its trustworthy header claims, or nothing.
    fn frame_at(&mut self, at: u64) -> io::Result<Result<(Meta, usize), Option<u64>>> {
        let seal = self.seal;
        let Some((meta, len)) = seal.open(at, self.view(at, FRAME_HEADER)?) else { return Ok(Err(None)) };
        let whole = FRAME_HEADER + len;
        let bytes = self.view(at, whole)?;
        if bytes.len() == whole && Seal::holds(bytes, &bytes[FRAME_HEADER..]) {
            return Ok(Ok((meta, len)));
        }
        Ok(Err(Some((whole as u64).min(self.end - at))))
    }

    /// The next frame, or damage, from `self.at` on.
    pub(crate) fn next(&mut self) -> io::Result<Found> {
        let at = self.at;
        if at >= self.end {
            return Ok(Found::End);
        }
        let claimed = match self.frame_at(at)? {
            Ok((meta, len)) => {
                self.at = at + (FRAME_HEADER + len) as u64;
                return Ok(Found::Frame { at, meta, len });
            }
            Err(claimed) => claimed,
        };
        self.at = match claimed {
            Some(len) => at + len,
            None => self.search(at + 1)?,
        };
        Ok(Found::Damage { at, len: self.at - at })
    }

    /// Where the next frame with a good header begins, at or after `at`.
    fn search(&mut self, mut at: u64) -> io::Result<u64> {
        while at < self.end {
            let bytes = self.view(at, WINDOW)?;
            if bytes.len() < FRAME_HEADER {
                return Ok(self.end);
            }
            let seal = self.seal;
            let bytes = self.view(at, WINDOW)?;
            let last = bytes.len() - FRAME_HEADER;
            let is_frame =
                |&i: &usize| bytes[i] == MAGIC[0] && seal.open(at + i as u64, &bytes[i..]).is_some();
            let hit = (0..=last).find(is_frame);
            match hit {
                Some(i) => return Ok(at + i as u64),
                None => at += last as u64 + 1,
            }
        }
        Ok(self.end)
    }

    pub(crate) fn seal(&self) -> Seal {
        self.seal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::frame::{Purpose, kind};

    /// What a scan finds after `hurt` changed a file of `n` frames with payloads of 100 bytes.
    fn found(n: u64, hurt: impl FnOnce(&mut Vec<u8>)) -> Vec<Found> {
        let header = FileHeader::new(1, 0);
        let mut bytes = header.encode(Purpose::Segment).to_vec();
        for sequence in 1..=n {
            let meta = Meta { kind: kind::RECORD, flags: 0, sequence, time_ns: 0 };
            header.seal().push(&mut bytes, 0, meta, &[sequence as u8; 100]);
        }
        hurt(&mut bytes);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), bytes).unwrap();
        let mut scan = Scan::open(&dir.path().join("x")).unwrap();
        std::iter::from_fn(|| Some(scan.next().unwrap()).filter(|f| *f != Found::End)).collect()
    }

    fn frame(n: u64) -> Found {
        let meta = Meta { kind: kind::RECORD, flags: 0, sequence: n, time_ns: 0 };
        Found::Frame { at: 128 + (n - 1) * 136, meta, len: 100 }
    }

    #[test]
    fn it_goes_on_at_the_next_good_frame() {
        let at = 128 + 136;
        let damage = |len| [frame(1), Found::Damage { at: at as u64, len }, frame(3)];
        assert_eq!(found(3, |_| ()), [frame(1), frame(2), frame(3)]);
        assert_eq!(found(3, |b| b[at + 50] ^= 1), damage(136), "a payload: its header says where it ends");
        assert_eq!(found(3, |b| b[at + 9] ^= 1), damage(136), "a header: searched for");
        assert_eq!(found(3, |b| drop(b.drain(at..at + 136))).len(), 2, "what moved is no frame any more");
        assert_eq!(found(3, |b| b.truncate(at + 7)), [frame(1), Found::Damage { at: at as u64, len: 7 }]);
    }

    #[test]
    fn a_hole_larger_than_the_window_is_crossed() {
        let n = 6 * WINDOW as u64 / 136;
        let (from, to) = (128 + 136 * 10, 128 + 136 * (n as usize - 10));
        let all = found(n, |b| b[from..to].fill(MAGIC[0]));
        assert_eq!(all[10], Found::Damage { at: from as u64, len: (to - from) as u64 });
        assert_eq!((all.len(), all[11]), (21, frame(n - 9)));
    }
}
