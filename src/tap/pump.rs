//! One direction of the relay: read, copy to the queue, write.

use std::io::PipeReader;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use super::queue::Queue;
use super::{CHUNK_BYTES, Sender};

/// What both pumps share.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) queue: Arc<Queue>,
    /// The number of the connection in it.
    pub(super) conn: u32,
    /// Its other end is closed when the child has ended.
    pub(super) child_ended: Arc<PipeReader>,
}

/// Why a pump stopped.
#[derive(PartialEq, Eq)]
enum Stopped {
    SourceEnded,
    SinkGone,
    ChildEnded,
}

/// Our stdin into the child's. Calls `at_end` at the end of ours, before the child can learn of it.
pub(super) fn client(line: &Line, child: OwnedFd, at_end: impl FnOnce()) {
    // What comes after the child's end is for nobody.
    let stopped = pump(line, Sender::Client, rustix::stdio::stdin(), child.as_fd(), |_| 0);
    if stopped == Stopped::SourceEnded {
        at_end();
    }
    line.queue.close(line.conn, Sender::Client);
    drop(child);
    if stopped == Stopped::SinkGone {
        close_stdin();
    }
}

/// The child's stdout into ours.
pub(super) fn server(line: &Line, child: OwnedFd) {
    // What the child left in the pipe is still its word; what others write from then on is not, and may never end.
    let left = |from: BorrowedFd<'_>| rustix::io::ioctl_fionread(from).unwrap_or(0);
    pump(line, Sender::Server, child.as_fd(), rustix::stdio::stdout(), left);
    line.queue.close(line.conn, Sender::Server);
    drop(child);
    close_stdout();
}

/// Relays until one side is gone or the child has ended; then what `left` says is left.
fn pump(
    line: &Line,
    dir: Sender,
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    left: impl Fn(BorrowedFd<'_>) -> u64,
) -> Stopped {
    let watch_sink = tells_when_reader_is_gone(to, line.child_ended.as_fd());
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut remaining = None;
    loop {
        if remaining.is_none() {
            match wait(from, to, line.child_ended.as_fd(), watch_sink) {
                Some(Stopped::ChildEnded) => remaining = Some(left(from)),
                Some(stopped) => return stopped,
                None => {}
            }
        }
        let want = remaining
            .map_or(CHUNK_BYTES, |left| usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES));
        if want == 0 {
            return Stopped::ChildEnded;
        }
        let space = buffer.get_mut(..want).unwrap_or_default();
        let read = match rustix::io::read(from, space) {
            Ok(0) => return Stopped::SourceEnded,
            Ok(read) => read,
            Err(Errno::INTR | Errno::AGAIN) => continue,
            // A terminal that hung up, a directory as stdin: there is nothing more to come.
            Err(_) => return Stopped::SourceEnded,
        };
        remaining = remaining.map(|left| left.saturating_sub(read as u64));
        let bytes = buffer.get(..read).unwrap_or_default();
        // Before the write: the answer must not be observed before the question.
        let wake = line.queue.push(line.conn, dir, bytes);
        let written = write_all(to, bytes);
        if wake {
            line.queue.wake();
        }
        if written.is_err() {
            return Stopped::SinkGone;
        }
    }
}

/// Waits until there is something to read, or a reason to stop.
fn wait(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    ended: BorrowedFd<'_>,
    watch_sink: bool,
) -> Option<Stopped> {
    // An error or a hang-up is always reported, whatever is asked for.
    let asked = [(from, PollFlags::IN), (ended, PollFlags::empty()), (to, PollFlags::empty())];
    let mut fds = asked.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags));
    let watched = if watch_sink { fds.as_mut_slice() } else { fds.get_mut(..2).unwrap_or_default() };
    while let Err(Errno::INTR | Errno::AGAIN) = poll(watched, None) {}
    let [_, ended, to] = &fds;
    let gone = PollFlags::ERR | PollFlags::HUP;
    if to.revents().intersects(gone) {
        return Some(Stopped::SinkGone);
    }
    ended.revents().intersects(gone).then_some(Stopped::ChildEnded)
}

/// Whether a descriptor says for good that its reader has gone, before anything is written to it.
///
/// So do sockets and nameless pipes (those are on the same device as one of ours). A named pipe may get another
/// reader, and of anything else (a terminal, a device) an odd answer must not end the relay.
fn tells_when_reader_is_gone(to: BorrowedFd<'_>, pipe: BorrowedFd<'_>) -> bool {
    let (Ok(to), Ok(pipe)) = (fstat(to), fstat(pipe)) else {
        return false;
    };
    match FileType::from_raw_mode(to.st_mode) {
        FileType::Socket => true,
        FileType::Fifo => to.st_dev == pipe.st_dev,
        _ => false,
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Whoever gave us the descriptor made it non-blocking; it is not ours to change.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Closes our stdin for whoever writes to it: a pipe nobody writes to takes its place, because the number must not
/// become free for another file.
fn close_stdin() {
    if let Ok((reader, _)) = std::io::pipe() {
        let _ = rustix::stdio::dup2_stdin(reader);
    }
}

/// Closes our stdout for whoever reads it, likewise.
fn close_stdout() {
    if let Ok((_, writer)) = std::io::pipe() {
        let _ = rustix::stdio::dup2_stdout(writer);
    }
}
