//! One direction of the relay: read, copy to the queue, write. What comes in large pieces is not even read, where
//! both ends are pipes: its pages move on, and only the queue gets a copy.

use std::io::PipeReader;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use super::pages::Pages;
use super::queue::Queue;
use super::{CHUNK_BYTES, Sender};

/// From here on a piece is large: moving pages saves more than the further calls to the system cost. Small ones are
/// copied also because each that is moved takes as much of the other pipe's room as a whole page.
const LARGE_BYTES: usize = CHUNK_BYTES / 4;

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
    let mut pages = Pages::between(from, to);
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut passed, mut remaining) = (0, None);
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
        let result = match &mut pages {
            Some(pages) if passed >= LARGE_BYTES => move_pages(line, dir, pages, (from, to), want),
            _ => copy(line, dir, (from, to), buffer.get_mut(..want).unwrap_or_default()),
        };
        passed = match result {
            Ok(0) => return Stopped::SourceEnded,
            Ok(bytes) => bytes,
            Err(Failed::Source(Errno::INTR | Errno::AGAIN)) => continue,
            // Without memory for a copy of pages, perhaps; nothing has moved yet.
            Err(Failed::Source(_)) if pages.take().is_some() => continue,
            // A terminal that hung up, a directory as stdin: there is nothing more to come.
            Err(Failed::Source(_)) => return Stopped::SourceEnded,
            Err(Failed::Sink) => return Stopped::SinkGone,
        };
        remaining = remaining.map(|left| left.saturating_sub(passed as u64));
    }
}

/// What failed of a piece; of a source's, nothing has passed.
enum Failed {
    Source(Errno),
    Sink,
}

/// From one descriptor to the other.
type Way<'fd> = (BorrowedFd<'fd>, BorrowedFd<'fd>);

/// Passes one piece on through `space`; returns its length, 0 at the end.
fn copy(line: &Line, dir: Sender, (from, to): Way<'_>, space: &mut [u8]) -> Result<usize, Failed> {
    let read = rustix::io::read(from, &mut *space).map_err(Failed::Source)?;
    let bytes = space.get(..read).unwrap_or_default();
    // Before the write: the answer must not be observed before the question.
    let wake = line.queue.push(line.conn, dir, bytes);
    let written = write_all(to, bytes);
    if wake {
        line.queue.wake();
    }
    written.map(|()| read).map_err(|_| Failed::Sink)
}

/// The same without reading it, where the queue has no room for it, or into no more than the queue's own copy.
fn move_pages(
    line: &Line,
    dir: Sender,
    pages: &mut Pages,
    (from, to): Way<'_>,
    want: usize,
) -> Result<usize, Failed> {
    if !line.queue.has_room(want) {
        let moved = advance((from, to), want)?;
        // Nobody has seen whether it ends a line.
        line.queue.skip(line.conn, dir, moved as u64, false);
        return Ok(moved);
    }
    let copy = pages.copy(from, want).map_err(Failed::Source)?;
    let shown = copy.len();
    let wake = shown > 0 && line.queue.push(line.conn, dir, copy);
    let mut moved = 0;
    let result = loop {
        match advance((from, to), shown - moved) {
            Ok(0) => break Ok(moved),
            Ok(more) => moved += more,
            Err(failed) => break Err(failed),
        }
    };
    if wake {
        line.queue.wake();
    }
    result
}

/// Moves at most `most` bytes, at least one of them; 0 at the end, and where there is nothing to move.
fn advance((from, to): Way<'_>, most: usize) -> Result<usize, Failed> {
    loop {
        match Pages::advance(from, to, most) {
            Ok(moved) => return Ok(moved),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for_room(to),
            Err(_) => return Err(Failed::Sink),
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
            Err(Errno::AGAIN) => wait_for_room(to),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whoever gave us the descriptor made it non-blocking; it is not ours to change.
fn wait_for_room(to: BorrowedFd<'_>) {
    let _ = poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None);
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write, pipe};
    use std::thread;

    use super::super::Transport;
    use super::super::queue::{Item, What};
    use super::*;

    /// Relays `bytes` from one pipe to another; what came out, and what the queue got of it, bytes and losses.
    fn relayed(bytes: &[u8], room: usize, nonblocking: bool) -> (Vec<u8>, Vec<u8>, u64) {
        let (from, mut ours) = pipe().unwrap();
        let (mut theirs, to) = pipe().unwrap();
        if nonblocking {
            for end in [from.as_fd(), to.as_fd()] {
                rustix::io::ioctl_fionbio(end, true).unwrap();
            }
        }
        let (child_ended, _child) = pipe().unwrap();
        let queue = Arc::new(Queue::new(room));
        let conn = queue.open(Transport::Stdio).unwrap();
        let line = Line { queue: queue.clone(), conn, child_ended: Arc::new(child_ended) };
        let mut out = Vec::new();
        thread::scope(|scope| {
            scope.spawn(move || {
                // Small ones first, then such as fill the pipe, then small ones again.
                let mut sizes = [10, 200, 70_000, 65_536, 300_000, 3, 100].into_iter().cycle();
                let mut rest = bytes;
                while !rest.is_empty() {
                    let (piece, more) = rest.split_at(sizes.next().unwrap().min(rest.len()));
                    ours.write_all(piece).unwrap();
                    rest = more;
                }
            });
            scope.spawn(move || {
                let stopped = pump(&line, Sender::Client, from.as_fd(), to.as_fd(), |_| 0);
                assert!(stopped == Stopped::SourceEnded);
                drop(to);
            });
            theirs.read_to_end(&mut out).unwrap();
        });
        queue.close(conn, Sender::Client);
        let (mut seen, mut lost) = (Vec::new(), 0);
        while let Some(Item { what, .. }) = queue.next_now() {
            match what {
                What::Bytes { bytes, .. } => seen.extend(bytes),
                What::Lost { lost: more, .. } => lost += more.bytes,
                _ => {}
            }
        }
        (out, seen, lost)
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
    }

    #[test]
    fn pieces_of_any_size_pass_unchanged_and_are_observed() {
        let bytes = noise(5_000_000);
        for nonblocking in [false, true] {
            let (out, seen, lost) = relayed(&bytes, 64 << 20, nonblocking);
            assert!(out == bytes && seen == bytes && lost == 0);
        }
    }

    #[test]
    fn what_the_queue_has_no_room_for_passes_all_the_same_and_is_counted() {
        let bytes = noise(5_000_000);
        let (out, seen, lost) = relayed(&bytes, 1 << 20, false);
        assert!(out == bytes);
        assert!(lost > 0 && seen.len() <= 1 << 20);
        assert_eq!(seen.len() as u64 + lost, bytes.len() as u64);
    }
}
