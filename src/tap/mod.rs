//! The tap: a child process behind a relay that changes nothing and reads along.
//!
//! ```text
//!   our stdin  ──pump──▶ child's stdin          signals sent to us ──▶ child
//!   our stdout ◀──pump── child's stdout         child's exit       ──▶ our exit
//!                 │ copies
//!                 ▼
//!            bounded queue ──▶ observer thread: lines ──▶ Observer
//! ```
//!
//! What the relay promises:
//!
//! - **Bytes pass unchanged**, in both directions, whatever they are, with back-pressure: at most one read
//!   (64 KiB) and one pipe lie between the two sides.
//! - **Nothing waits for the observer.** A pump copies what passes into a queue bounded by bytes and goes on.
//!   What finds the queue full is not observed, and counted ([`Observer::missed`]). An observer that panics or
//!   never returns costs the observation, not the relay; leaving waits for it at most [`OBSERVER_GRACE`].
//! - **Closed ends travel on.** Ended of our stdin closes the child's; the child closing its stdin closes our read
//!   side; the child closing its stdout closes ours; our reader going away closes the child's pipe.
//! - **The child lives as it would without us**: same arguments, environment, directory, umask, process group and
//!   stderr; ignored signals stay ignored; no descriptor of ours leaks into it.
//! - **We leave when it leaves**, once what it wrote is relayed. A grandchild that keeps the pipe open does not
//!   hold us, as it would not hold whoever waits for the child itself.
//!
//! What it can't hide: the child sees pipes where it may have seen a terminal, and a signal that some process sends
//! to the whole process group reaches the child twice, because nobody can tell it from one sent to us alone.

mod life;
mod lines;
mod pages;
mod pump;
mod queue;
mod record;
mod run;
mod signals;
mod socket;
mod start;
mod watch;

pub use record::{RecordError, Recorder, Recording, raw_name};
pub use run::run;
pub use socket::{Address, AddressError, ListenError, Listener, Sockets, serve};
pub use start::StartError;

use std::ffi::OsString;
use std::time::Duration;

use crate::protocol::{Ended, Sender, Transport};

/// Where a sender's direction stands in an array of two.
fn index(sender: Sender) -> usize {
    match sender {
        Sender::Client => 0,
        Sender::Server => 1,
    }
}

/// The longest line that is handed out whole, in bytes: longer ones are [`Line::Oversized`].
pub const LINE_LIMIT: usize = 16 * 1024 * 1024;

/// As much as a pipe holds: more is never read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What the unfinished lines of all connections may hold together, in bytes.
const HELD_BYTES: usize = 64 * 1024 * 1024;

/// What may wait for a slow observer by default, in bytes.
pub const BACKLOG_BYTES: usize = 64 * 1024 * 1024;

/// How long the end waits for the observer to finish what it has.
///
/// Short, because a host that stops its server expects it gone, and a slow disk must not look like a hung server.
pub const OBSERVER_GRACE: Duration = Duration::from_millis(250);

/// The bytes of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// All of it, without the newline. The last line of a stream may have had none.
    Whole(&'a [u8]),
    /// It was longer than the limit; its bytes were relayed and not kept.
    Oversized {
        /// Its length in bytes, without the newline.
        len: u64,
    },
}

/// One line, and where and when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// On which connection, from 1.
    pub conn: u32,
    /// Who sent it.
    pub dir: Sender,
    /// When its last byte was read, in microseconds since the Unix epoch.
    pub t_us: u64,
    /// Where it begins, in bytes from the beginning of this direction.
    pub off: u64,
    /// Its length in bytes, with the newline if it had one.
    pub len: u64,
    /// What it says.
    pub line: Line<'a>,
}

/// Who reads along on all connections. Called on a thread of its own, in the order in which the relay read.
///
/// Every byte of a direction is in exactly one [`Seen`] or one [`missed`](Observer::missed).
pub trait Observer: Send {
    /// A connection begins. Does nothing unless overridden.
    fn open(&mut self, conn: u32, transport: Transport, t_us: u64) {
        let _ = (conn, transport, t_us);
    }

    /// One line.
    fn line(&mut self, seen: Seen<'_>);

    /// Part of a direction was not observed, because the queue was full or nobody could read it: `chunks` reads
    /// were dropped, and `bytes` of the stream belong to no [`Seen`] (the dropped ones, and the rest of the lines
    /// that they cut).
    fn missed(&mut self, conn: u32, dir: Sender, chunks: u64, bytes: u64);

    /// The connection has ended; nothing of it follows.
    fn end(&mut self, conn: u32, t_us: u64, end: Ended);

    /// Bytes as they were read, before the lines that they complete, from position `off` of their direction.
    /// For who wants the stream itself. Does nothing unless overridden.
    fn bytes(&mut self, conn: u32, dir: Sender, off: u64, bytes: &[u8]) {
        let _ = (conn, dir, off, bytes);
    }

    /// All that was read has been handed out: a good moment to flush. Does nothing unless overridden.
    fn idle(&mut self) {}

    /// Everything has ended; nothing follows. Does nothing unless overridden.
    fn finish(&mut self, end: Ended) {
        let _ = end;
    }
}

/// Two observers of the same stream, the first first.
#[derive(Debug)]
pub struct Both<A, B>(pub A, pub B);

impl<A: Observer, B: Observer> Observer for Both<A, B> {
    fn open(&mut self, conn: u32, transport: Transport, t_us: u64) {
        self.0.open(conn, transport, t_us);
        self.1.open(conn, transport, t_us);
    }

    fn line(&mut self, seen: Seen<'_>) {
        self.0.line(seen);
        self.1.line(seen);
    }

    fn missed(&mut self, conn: u32, dir: Sender, chunks: u64, bytes: u64) {
        self.0.missed(conn, dir, chunks, bytes);
        self.1.missed(conn, dir, chunks, bytes);
    }

    fn end(&mut self, conn: u32, t_us: u64, end: Ended) {
        self.0.end(conn, t_us, end);
        self.1.end(conn, t_us, end);
    }

    fn bytes(&mut self, conn: u32, dir: Sender, off: u64, bytes: &[u8]) {
        self.0.bytes(conn, dir, off, bytes);
        self.1.bytes(conn, dir, off, bytes);
    }

    fn idle(&mut self) {
        self.0.idle();
        self.1.idle();
    }

    fn finish(&mut self, end: Ended) {
        self.0.finish(end);
        self.1.finish(end);
    }
}

/// An observer where it is there; without one, nothing is kept of what passes.
impl<O: Observer> Observer for Option<O> {
    fn open(&mut self, conn: u32, transport: Transport, t_us: u64) {
        if let Some(it) = self {
            it.open(conn, transport, t_us);
        }
    }

    fn line(&mut self, seen: Seen<'_>) {
        if let Some(it) = self {
            it.line(seen);
        }
    }

    fn missed(&mut self, conn: u32, dir: Sender, chunks: u64, bytes: u64) {
        if let Some(it) = self {
            it.missed(conn, dir, chunks, bytes);
        }
    }

    fn end(&mut self, conn: u32, t_us: u64, end: Ended) {
        if let Some(it) = self {
            it.end(conn, t_us, end);
        }
    }

    fn bytes(&mut self, conn: u32, dir: Sender, off: u64, bytes: &[u8]) {
        if let Some(it) = self {
            it.bytes(conn, dir, off, bytes);
        }
    }

    fn idle(&mut self) {
        if let Some(it) = self {
            it.idle();
        }
    }

    fn finish(&mut self, end: Ended) {
        if let Some(it) = self {
            it.finish(end);
        }
    }
}

/// What to run, and the bounds of the observation.
#[derive(Clone, Debug)]
pub struct Tap {
    /// The program and its arguments, passed on as they are; no shell is involved.
    pub command: Vec<OsString>,
    /// Variables of ours that the command does not get: our own credentials.
    pub hidden: Vec<String>,
    /// The longest line that is handed out whole, in bytes.
    pub line_limit: usize,
    /// What may wait for the observer, in bytes.
    pub backlog_bytes: usize,
}

impl Tap {
    /// That command with the default bounds, [`LINE_LIMIT`] and [`BACKLOG_BYTES`].
    pub fn new(command: Vec<OsString>) -> Tap {
        Tap { command, hidden: Vec::new(), line_limit: LINE_LIMIT, backlog_bytes: BACKLOG_BYTES }
    }
}

/// How the child ended, and how the observation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code to leave with: the child's own, 128 + n when signal n ended it.
    pub code: u8,
    /// The signal that ended the child.
    pub signal: Option<i32>,
    /// How far the observer came.
    pub observer: Observed,
    /// Bytes that were read and never handed to the observer as a line, for whatever reason.
    pub unobserved_bytes: u64,
}

/// How far the observer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It saw the end.
    Finished,
    /// It panicked; nothing was observed after that.
    Panicked,
    /// It was still busy when [`OBSERVER_GRACE`] had passed.
    Busy,
}
