//! Recorded sessions: what `factline tap --record` writes and `factline replay` reads.
//!
//! One JSON object per line; members that are not listed are ignored.
//!
//! ```text
//! {"t_us":..,"conn":1,"open":"stdio"}                                       a connection begins
//! {"t_us":..,"dir":"client","conn":1,"off":0,"len":151,"msg":{..}}          a message
//! {"t_us":..,"dir":"client","conn":1,"off":151,"len":16,"msg":null,"unparsed":".."}
//! {"t_us":..,"conn":1,"end":"client_closed"}                                it ends
//! ```
//!
//! - `t_us`: when it was read, in microseconds since the Unix epoch.
//! - `dir`: who sent it, `client` or `server`. `conn`: the connection, from 1.
//! - `off`, `len`: position and length in bytes, newline included, in the raw file of that direction and connection
//!   beside the transcript (`client.raw`; `client.2.raw` for connection 2). Optional.
//! - `msg`: the message as it was sent. `null` where the line was no JSON object, or too long: then its bytes are
//!   read from the raw file, if that is there. A WebSocket message is a line, with carriage returns for the line
//!   feeds within it.
//! - `open`: `stdio`, `websocket` or `unix`. `end`: `client_closed`, `server_exited` or `killed`.
//!
//! Reading holds one line of at most [`tap::LINE_LIMIT`](LINE_LIMIT) and its envelope, whatever the file holds.

mod envelope;
mod lines;
mod raw;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::protocol::{Ended, Sender, Transport};
use crate::tap::{LINE_LIMIT, Line};
use envelope::{Kind, Message};
use lines::{Next, Reader};
use raw::{Piece, PieceLine, RawFiles};

/// What the members around a message of the limit may take, in bytes.
const ENVELOPE_BYTES: usize = 64 * 1024;

/// One line of a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When, in microseconds since the Unix epoch. What is unreadable has the time of the entry before it.
    pub t_us: u64,
    /// The connection, from 1. What is unreadable has that of the entry before it, or 0.
    pub conn: u32,
    /// What happened.
    pub what: What<'a>,
}

/// What an [`Entry`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// A connection begins.
    Open {
        /// How it came.
        transport: Transport,
    },
    /// Somebody sent a line.
    Message {
        /// Who.
        dir: Sender,
        /// Its position in that direction, in bytes.
        off: Option<u64>,
        /// Its length in bytes, with its newline.
        len: Option<u64>,
        /// Its text: the JSON of `msg` as it was written, or the bytes in the raw file, without the newline.
        /// None where neither is there.
        line: Option<Line<'a>>,
    },
    /// A connection has ended.
    End {
        /// Why.
        end: Ended,
    },
    /// This line of the transcript can't be used.
    Unreadable {
        /// Which, from 1.
        line_number: u64,
        /// Why, without any of its content.
        reason: &'static str,
    },
}

/// The transcript can't be read.
#[derive(Debug)]
pub struct TranscriptError {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for TranscriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match self.source.kind() {
            io::ErrorKind::NotFound => {
                write!(f, "can't read the transcript {path:?}: no such file; check the path")
            }
            io::ErrorKind::IsADirectory => write!(
                f,
                "can't read the transcript {path:?}: it is a directory; give the file in it, {:?}",
                path.join("transcript.jsonl")
            ),
            io::ErrorKind::PermissionDenied => write!(
                f,
                "can't read the transcript {path:?}: permission denied; this user must be allowed to read it"
            ),
            _ => {
                write!(f, "can't read the transcript {path:?}: {}; check the file and its disk", self.source)
            }
        }
    }
}

impl std::error::Error for TranscriptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A transcript being read.
pub struct Transcript {
    path: PathBuf,
    lines: Reader<Box<dyn Read + Send>>,
    raw: RawFiles,
    /// A part of a raw file that is being handed out line by line.
    piece: Piece,
    /// Whose that is.
    dir: Sender,
    t_us: u64,
    conn: u32,
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcript").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Transcript {
    /// Opens a transcript; `-` is the standard input, which has no raw files beside it.
    ///
    /// # Errors
    ///
    /// There is no such file, it is a directory, or may not be read.
    pub fn open(path: &Path) -> Result<Transcript, TranscriptError> {
        if path == Path::new("-") {
            return Ok(Transcript::from_reader(path, Box::new(io::stdin())));
        }
        let failed = |source| TranscriptError { path: path.into(), source };
        let file = File::open(path).map_err(failed)?;
        // A directory opens, and only fails when it is read.
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let raw = RawFiles::beside(path, LINE_LIMIT);
        Ok(Transcript::reading(path, Box::new(file), raw))
    }

    /// Reads a transcript from elsewhere, without raw files beside it; `name` is what errors call it.
    pub fn from_reader(name: &Path, from: Box<dyn Read + Send>) -> Transcript {
        Transcript::reading(name, from, RawFiles::none())
    }

    fn reading(path: &Path, from: Box<dyn Read + Send>, raw: RawFiles) -> Transcript {
        let lines = Reader::new(from, LINE_LIMIT + ENVELOPE_BYTES);
        Transcript {
            path: path.into(),
            lines,
            raw,
            piece: Piece::default(),
            dir: Sender::Client,
            t_us: 0,
            conn: 0,
        }
    }

    /// The next entry, in the order of the file; None at its end.
    ///
    /// # Errors
    ///
    /// The file can't be read on. What is merely wrong in it is [`What::Unreadable`].
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, TranscriptError> {
        // First what it is, without a borrow, then the borrow: it may not live in a loop that also goes on.
        let what =
            match self.advance().map_err(|source| TranscriptError { path: self.path.clone(), source })? {
                Step::End => return Ok(None),
                Step::Unreadable(reason) => What::Unreadable { line_number: self.lines.number(), reason },
                Step::Line(Kind::Open(transport)) => What::Open { transport },
                Step::Line(Kind::End(end)) => What::End { end },
                Step::Line(Kind::Message(Message { dir, off, len, text })) => {
                    let text = text.and_then(|text| self.lines.line().get(text));
                    What::Message { dir, off, len, line: text.map(within_limit) }
                }
                Step::Piece(line) => {
                    let (off, len) = (Some(line.off), Some(line.len));
                    What::Message { dir: self.dir, off, len, line: Some(self.piece.text(&line)) }
                }
            };
        Ok(Some(Entry { t_us: self.t_us, conn: self.conn, what }))
    }

    fn advance(&mut self) -> io::Result<Step> {
        loop {
            if let Some(line) = self.piece.advance() {
                return Ok(Step::Piece(line));
            }
            let complete = match self.lines.advance()? {
                Next::End => return Ok(Step::End),
                Next::Oversized => return Ok(Step::Unreadable("it is too long")),
                Next::Line { complete } => complete,
            };
            let line = self.lines.line();
            if line.trim_ascii().is_empty() {
                continue;
            }
            let envelope = match envelope::parse(line) {
                Ok(envelope) => envelope,
                Err(_) if !complete => return Ok(Step::Unreadable("it is the last line, and cut off")),
                Err(reason) => return Ok(Step::Unreadable(reason)),
            };
            (self.t_us, self.conn) = (envelope.t_us, envelope.conn);
            if let Kind::Message(Message { dir, off: Some(off), len: Some(len), text: None }) = envelope.kind
                && let Some(piece) = self.raw.piece(dir, envelope.conn, off, len)
            {
                (self.dir, self.piece) = (dir, piece);
                continue;
            }
            return Ok(Step::Line(envelope.kind));
        }
    }
}

/// What comes next; the texts lie in the current line or piece.
enum Step {
    Line(Kind),
    Piece(PieceLine),
    Unreadable(&'static str),
    End,
}

fn within_limit(text: &[u8]) -> Line<'_> {
    if text.len() > LINE_LIMIT { Line::Oversized { len: text.len() as u64 } } else { Line::Whole(text) }
}
