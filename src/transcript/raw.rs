//! The raw files beside a transcript: the bytes of lines that are no message.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::protocol::Sender;
use crate::tap::{Line, raw_name};

/// How much is read at once while looking for the beginning of a line.
const BLOCK: u64 = 64 * 1024;

/// The raw files in the directory of a transcript.
pub(super) struct RawFiles {
    /// None when there can't be any.
    beside: Option<PathBuf>,
    /// The longest line that is read.
    limit: usize,
    /// The file asked for last, since the next question is mostly for the same.
    last: Option<(Sender, u32, Option<RawFile>)>,
}

struct RawFile {
    file: File,
    size: u64,
}

/// Lines of a raw file.
#[derive(Debug, Default)]
pub(super) struct Piece {
    off: u64,
    bytes: Vec<u8>,
    next: usize,
    /// Set instead of bytes for a line that is too long: its length with and without its newline.
    oversized: Option<(u64, u64)>,
}

/// One line of a [`Piece`].
pub(super) struct PieceLine {
    pub(super) off: u64,
    pub(super) len: u64,
    text: PieceText,
}

enum PieceText {
    At(usize, usize),
    Oversized(u64),
}

impl RawFiles {
    pub(super) fn none() -> RawFiles {
        RawFiles { beside: None, limit: 0, last: None }
    }

    pub(super) fn beside(transcript: &Path, limit: usize) -> RawFiles {
        let beside = transcript.parent().map(Path::to_path_buf);
        RawFiles { beside, limit, last: None }
    }

    /// The lines that end in these bytes; None where they are not there.
    ///
    /// Mostly that is one line. But a recording may note what was written at once, and a write may hold two lines,
    /// or half of one: the half is handed out with the bytes that complete it.
    pub(super) fn piece(&mut self, dir: Sender, conn: u32, off: u64, len: u64) -> Option<Piece> {
        let limit = self.limit as u64;
        let raw = self.file(dir, conn)?;
        let end = off.checked_add(len).filter(|end| *end <= raw.size && len > 0)?;
        let start = raw.line_start(off, limit)?;
        let ends_line = raw.read(end - 1, 1)? == b"\n";
        if end - start > limit + 1 {
            let len = end - start;
            let oversized = Some((len, len - u64::from(ends_line)));
            return Some(Piece { off: start, oversized, ..Piece::default() });
        }
        let mut bytes = raw.read(start, end - start)?;
        if !ends_line && end < raw.size {
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            bytes.truncate(whole);
        }
        Some(Piece { off: start, bytes, ..Piece::default() })
    }

    fn file(&mut self, dir: Sender, conn: u32) -> Option<&RawFile> {
        let beside = self.beside.as_ref()?;
        if !self.last.as_ref().is_some_and(|last| (last.0, last.1) == (dir, conn)) {
            self.last = Some((dir, conn, RawFile::open(&beside.join(raw_name(dir, conn)))));
        }
        self.last.as_ref()?.2.as_ref()
    }
}

impl RawFile {
    fn open(path: &Path) -> Option<RawFile> {
        // Asked before opening: opening a named pipe would wait for a writer.
        let size = std::fs::metadata(path).ok().filter(|found| found.is_file())?.len();
        Some(RawFile { file: File::open(path).ok()?, size })
    }

    fn read(&self, off: u64, len: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        self.file.read_exact_at(&mut bytes, off).ok()?;
        Some(bytes)
    }

    /// Where the line begins that holds this position, looking back no further than it takes to be too long.
    fn line_start(&self, off: u64, limit: u64) -> Option<u64> {
        let mut start = off;
        // One byte first: nearly always that is the newline before.
        let mut block = 1;
        while start > 0 && off - start <= limit {
            let from = start.saturating_sub(block);
            let before = self.read(from, start - from)?;
            if let Some(at) = before.iter().rposition(|byte| *byte == b'\n') {
                return Some(from + at as u64 + 1);
            }
            start = from;
            block = BLOCK;
        }
        Some(start)
    }
}

impl Piece {
    /// Its next line.
    pub(super) fn advance(&mut self) -> Option<PieceLine> {
        if let Some((len, text_len)) = self.oversized.take() {
            return Some(PieceLine { off: self.off, len, text: PieceText::Oversized(text_len) });
        }
        let rest = self.bytes.get(self.next..).filter(|rest| !rest.is_empty())?;
        let text = rest.iter().position(|byte| *byte == b'\n');
        let len = text.map_or(rest.len(), |text| text + 1);
        let off = self.off + self.next as u64;
        let text = PieceText::At(self.next, self.next + text.unwrap_or(len));
        self.next += len;
        Some(PieceLine { off, len: len as u64, text })
    }

    /// The text of that line of this piece.
    pub(super) fn text(&self, line: &PieceLine) -> Line<'_> {
        match line.text {
            PieceText::At(start, end) => Line::Whole(self.bytes.get(start..end).unwrap_or_default()),
            PieceText::Oversized(len) => Line::Oversized { len },
        }
    }
}
