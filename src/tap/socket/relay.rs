//! One connection: the bytes of both sides, passed on unchanged, on one thread.
//!
//! Nothing is read from a side before what it sent last has left on the other: back-pressure passes through, and at
//! most one read lies between the two. One thread serves both directions, so what it reads along with is in the
//! order in which it passed.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};

use super::head::{self, HEAD_BYTES, Head};
use super::reading::Reading;
use super::stream::Stream;
use crate::protocol::Sender;
use crate::tap::CHUNK_BYTES;

/// What a client's first request has to say before it is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Whatever it says: only users that the system lets in can connect, or others are meant to.
    Open,
    /// It was addressed to this machine as such: a browser can be made to connect by any page, by a name that leads
    /// here for a moment.
    Local,
    /// And it comes from no page of elsewhere: the server listens where no browser could reach it, and need not know
    /// that it has to ask.
    LocalPages,
}

/// Why a connection is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Both sides have ended, or one is gone.
    Ended,
    /// We were told to end.
    Stopped,
    /// The client was not let in.
    Refused,
}

const REFUSAL: &[u8] = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// One direction.
struct Way {
    from: Sender,
    buffer: Vec<u8>,
    /// What of the buffer waits to be written.
    waiting: std::ops::Range<usize>,
    /// The source has more to say.
    reads: bool,
    /// The sink was told that nothing more comes, or is gone.
    done: bool,
    /// What waits is the beginning of a request that is not whole yet.
    held: bool,
}

impl Way {
    fn new(from: Sender, held: bool) -> Way {
        Way { from, buffer: vec![0; CHUNK_BYTES], waiting: 0..0, reads: true, done: false, held }
    }

    fn wants_read(&self) -> bool {
        self.reads && (self.waiting.is_empty() || self.held && self.waiting.end < self.buffer.len())
    }

    fn wants_write(&self) -> bool {
        !self.waiting.is_empty() && !self.held
    }
}

/// Relays until both sides have ended, one is gone, or `stop` is closed.
pub(super) fn relay(
    client: &Stream,
    server: &Stream,
    door: Door,
    stop: BorrowedFd<'_>,
    reading: &mut Reading,
) -> Over {
    let mut ways = [Way::new(Sender::Client, true), Way::new(Sender::Server, false)];
    loop {
        let [up, down] = &ways;
        let flags = |reads: &Way, writes: &Way| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, reads.wants_read());
            flags.set(PollFlags::OUT, writes.wants_write());
            flags
        };
        let of_client = flags(up, down);
        let of_server = flags(down, up);
        // One that nothing is wanted from would still report its end, again and again.
        let mut fds = vec![PollFd::from_borrowed_fd(stop, PollFlags::empty())];
        for (stream, flags) in [(client, of_client), (server, of_server)] {
            if !flags.is_empty() {
                fds.push(PollFd::from_borrowed_fd(stream.as_fd(), flags));
            }
        }
        while let Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) = poll(&mut fds, None) {}
        if fds.first().is_some_and(|stop| !stop.revents().is_empty()) {
            return Over::Stopped;
        }
        for (way, source, sink) in both(&mut ways, client, server) {
            match way.step(source, sink, door, reading) {
                Ok(()) => {}
                Err(Over::Refused) => {
                    // Whether it gets to read it is its own business.
                    let _ = client.write(REFUSAL);
                    return Over::Refused;
                }
                Err(over) => return over,
            }
        }
        if ways.iter().all(|way| way.done) {
            return Over::Ended;
        }
    }
}

fn both<'a>(
    ways: &'a mut [Way; 2],
    client: &'a Stream,
    server: &'a Stream,
) -> [(&'a mut Way, &'a Stream, &'a Stream); 2] {
    let [up, down] = ways;
    [(up, client, server), (down, server, client)]
}

impl Way {
    /// Reads and writes what goes without waiting.
    fn step(
        &mut self,
        source: &Stream,
        sink: &Stream,
        door: Door,
        reading: &mut Reading,
    ) -> Result<(), Over> {
        if self.wants_read() {
            let space = self.buffer.get_mut(self.waiting.end..).unwrap_or_default();
            match source.read(space) {
                Ok(0) => {
                    self.reads = false;
                    self.let_through(reading);
                    reading.closed(self.from);
                }
                Ok(read) => {
                    self.waiting.end += read;
                    if self.held {
                        self.judge(door, reading)?;
                    } else {
                        reading.read(self.from, self.buffer.get(self.waiting.clone()).unwrap_or_default());
                    }
                }
                Err(error) if later(&error) => {}
                Err(_) => {
                    reading.closed(self.from);
                    return Err(Over::Ended);
                }
            }
        }
        while self.wants_write() {
            match sink.write(self.buffer.get(self.waiting.clone()).unwrap_or_default()) {
                Ok(written) => self.waiting.start += written,
                Err(error) if later(&error) => break,
                // What the other direction still has to say is not lost with it.
                Err(_) => {
                    (self.reads, self.done, self.waiting) = (false, true, 0..0);
                    reading.gone(opposite(self.from));
                }
            }
        }
        reading.passed_on();
        if self.waiting.is_empty() {
            self.waiting = 0..0;
            if !self.reads && !self.done {
                sink.close_write();
                self.done = true;
            }
        }
        Ok(())
    }

    /// Decides about the first request, when it is whole or none.
    fn judge(&mut self, door: Door, reading: &mut Reading) -> Result<(), Over> {
        let request = match head::request(self.buffer.get(self.waiting.clone()).unwrap_or_default()) {
            Head::Unfinished if self.waiting.end < HEAD_BYTES.min(self.buffer.len()) => return Ok(()),
            Head::Unfinished | Head::NotHttp => None,
            Head::Whole(_, request) => Some(request),
        };
        let refused = request.is_some_and(|request| match door {
            Door::Open => false,
            Door::Local => !request.local_host,
            Door::LocalPages => !request.local_host || request.foreign_origin,
        });
        if refused {
            return Err(Over::Refused);
        }
        self.let_through(reading);
        Ok(())
    }

    fn let_through(&mut self, reading: &mut Reading) {
        if std::mem::replace(&mut self.held, false) && !self.waiting.is_empty() {
            reading.read(self.from, self.buffer.get(self.waiting.clone()).unwrap_or_default());
        }
    }
}

fn opposite(sender: Sender) -> Sender {
    match sender {
        Sender::Client => Sender::Server,
        Sender::Server => Sender::Client,
    }
}

fn later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
