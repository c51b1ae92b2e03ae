//! The observer's thread: from the queue, through the splitters, to the observer, which may fail as it likes.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use super::lines::Splitter;
use super::queue::{Item, Queue, What};
use super::{HELD_BYTES, Observed, Observer, Sender};

/// Starts the observation.
pub(super) fn start(
    queue: Arc<Queue>,
    observer: impl Observer + 'static,
    line_limit: usize,
) -> io::Result<()> {
    thread::Builder::new().name("tap-observer".into()).spawn(move || watch(&queue, observer, line_limit))?;
    Ok(())
}

fn watch(queue: &Queue, mut observer: impl Observer, line_limit: usize) {
    // Its state is not looked at again after a panic, so nothing broken can be seen.
    let watched = catch_unwind(AssertUnwindSafe(|| hand_out(queue, &mut observer, line_limit)));
    // Dropping may flush, or panic; both belong to the observation.
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(observer)));
    let fine = watched.is_ok() && dropped.is_ok();
    queue.observer_gone(if fine { Observed::Finished } else { Observed::Panicked });
}

/// The lines of all connections.
struct Lines {
    open: BTreeMap<u32, [Splitter; 2]>,
    limit: usize,
    /// What all unfinished lines hold together.
    held: usize,
}

impl Lines {
    /// Works with one splitter, keeping account of what it holds.
    fn with<T: Default>(&mut self, conn: u32, dir: Sender, work: impl FnOnce(&mut Splitter) -> T) -> T {
        let Some(ways) = self.open.get_mut(&conn) else { return T::default() };
        let splitter = &mut ways[super::index(dir)];
        self.held -= splitter.held();
        // Many connections together may hold no more than may wait for the observer; what comes and ends at once
        // is not held.
        let room = HELD_BYTES.saturating_sub(self.held).max(super::CHUNK_BYTES);
        splitter.limit(self.limit.min(room));
        let done = work(splitter);
        self.held += splitter.held();
        done
    }

    fn forget(&mut self, conn: u32) {
        let ways = self.open.remove(&conn);
        self.held -= ways.iter().flatten().map(Splitter::held).sum::<usize>();
    }
}

fn hand_out(queue: &Queue, observer: &mut dyn Observer, line_limit: usize) {
    let mut lines = Lines { open: BTreeMap::new(), limit: line_limit, held: 0 };
    loop {
        let next = queue.next_now().map_or_else(
            || {
                observer.idle();
                queue.next()
            },
            Ok,
        );
        let Item { conn, what } = match next {
            Ok(item) => item,
            Err(end) => return observer.finish(end),
        };
        let handed = match what {
            What::Opened { t_us, transport } => {
                let ways = [Sender::Client, Sender::Server].map(|dir| Splitter::new(conn, dir, line_limit));
                lines.open.insert(conn, ways);
                observer.open(conn, transport, t_us);
                0
            }
            What::Bytes { dir, t_us, bytes } => lines.with(conn, dir, |splitter| {
                observer.bytes(conn, dir, splitter.position(), &bytes);
                splitter.feed(t_us, &bytes, observer)
            }),
            What::Lost { dir, lost } => {
                lines.with(conn, dir, |splitter| splitter.lost(lost, observer));
                0
            }
            What::Closed { dir } => lines.with(conn, dir, |splitter| splitter.close(observer)),
            What::Ended { t_us, end } => {
                lines.forget(conn);
                observer.end(conn, t_us, end);
                0
            }
        };
        if handed > 0 {
            queue.handed(handed);
        }
    }
}
