//! Keeping the whole directory below `max_bytes`.

use std::io;
use std::sync::Weak;
use std::time::{Duration, Instant};

use super::lane::LaneInner;
use super::place;
use super::queue::lock;
use super::settings::{Settings, WhenFull};
use super::store::Store;

/// Other processes write too; so often their bytes are counted again.
const COUNT_AGAIN: Duration = Duration::from_secs(1);

/// Makes space for what the store is about to write.
///
/// Errors: `StorageFull` when nothing may be dropped (`WhenFull::Block`).
pub(crate) fn make_space(
    settings: &Settings,
    store: &mut Store,
    adopted: &[Weak<LaneInner>],
) -> io::Result<()> {
    let pending = store.pending_bytes();
    let (known, at) = store.usage;
    let stale = at.is_none_or(|at| at.elapsed() > COUNT_AGAIN);
    let used = if stale || known + pending > settings.max_bytes {
        let used = place::usage(&settings.dir);
        store.usage = (used, Some(Instant::now()));
        used
    } else {
        known
    };
    let Some(mut excess) = (used + pending).checked_sub(settings.max_bytes).filter(|&n| n > 0) else {
        store.usage.0 += pending;
        return Ok(());
    };
    if settings.when_full == WhenFull::Block {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "the outbox reached max_bytes"));
    }
    while excess > 0 {
        let freed = match shed_own(store)? {
            0 => shed_adopted(adopted)?,
            n => n,
        };
        if freed == 0 {
            // What is being written can't be deleted: close it, so that next time it can.
            seal(store);
            break;
        }
        excess = excess.saturating_sub(freed);
    }
    store.usage.1 = None;
    Ok(())
}

/// Drops one segment: with content before without, then the oldest. Returns its size; 0: there is none.
fn shed_own(store: &Store) -> io::Result<u64> {
    let candidates = store.tails.iter().filter_map(|t| {
        let state = lock(&t.shared.state);
        let first = state.segments.front().filter(|_| state.segments.len() > 1)?;
        Some(((!first.content, std::cmp::Reverse(first.age())), t))
    });
    match candidates.min_by_key(|(order, _)| *order) {
        Some((_, tail)) => lock(&tail.shared.state).shed(),
        None => Ok(0),
    }
}

fn shed_adopted(adopted: &[Weak<LaneInner>]) -> io::Result<u64> {
    for lane in adopted.iter().filter_map(Weak::upgrade) {
        let freed = shed_own(&lock(&lane.store))?;
        if freed > 0 {
            return Ok(freed);
        }
    }
    Ok(0)
}

fn seal(store: &mut Store) {
    for tail in &mut store.tails {
        let single = {
            let state = lock(&tail.shared.state);
            state.segments.len() == 1 && state.last_sequence >= state.segments[0].first_sequence
        };
        if single && tail.first_pending().is_none_or(|n| n <= tail.first_segment()) {
            tail.begin_segment(tail.last_sequence + 1);
        }
    }
}
