//! The observer's thread: from the queue, through the splitters, to the observer, which may fail as it likes.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use super::lines::Splitter;
use super::queue::{Item, Queue};
use super::{Observed, Observer, Sender};

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

fn hand_out(queue: &Queue, observer: &mut dyn Observer, line_limit: usize) {
    let mut splitters = [Sender::Client, Sender::Server].map(|dir| Splitter::new(dir, line_limit));
    loop {
        let item = queue.next_now().unwrap_or_else(|| {
            observer.idle();
            queue.next()
        });
        let handed = match item {
            Item::Bytes { dir, t_us, bytes } => {
                let splitter = &mut splitters[super::index(dir)];
                observer.bytes(dir, splitter.position(), &bytes);
                splitter.feed(t_us, &bytes, observer)
            }
            Item::Lost { dir, lost } => {
                splitters[super::index(dir)].lost(lost, observer);
                0
            }
            Item::Closed { dir } => splitters[super::index(dir)].close(observer),
            Item::Ended { t_us, end } => {
                observer.end(t_us, end);
                return;
            }
        };
        if handed > 0 {
            queue.handed(handed);
        }
    }
}
