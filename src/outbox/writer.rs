//! The threads that drain and that sync: two, because `fdatasync` may take long, and a ring that nobody drains
//! meanwhile is drained by emitters. They sleep without a timer while there is nothing to do.

use std::sync::PoisonError;
use std::time::Duration;

use super::gate::Core;
use super::queue::lock;

/// How long records gather before they are written together: a burst is over before its drain wants the same cache
/// lines and locks. They are in the ring meanwhile; the time counts as part of the sync interval.
const GATHER: Duration = Duration::from_millis(20);
/// How long to leave a disk alone that refused.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Ring to segments, until the outbox is closed.
pub(crate) fn drain(core: &Core) {
    while await_work(core) {
        if core.drain().is_err() {
            core.pause(BACK_OFF);
        }
    }
}

/// False: closed.
fn await_work(core: &Core) -> bool {
    let mut gate = lock(&core.gate);
    while !gate.closed && !gate.has_work() {
        gate.idle = true;
        gate = core.work.wait(gate).unwrap_or_else(PoisonError::into_inner);
        gate.idle = false;
    }
    if !gate.closed && !gate.is_filling() {
        (gate, _) = core.work.wait_timeout(gate, GATHER).unwrap_or_else(PoisonError::into_inner);
    }
    !gate.closed
}

/// Syncs what was accepted `sync_interval` ago, until the outbox is closed.
pub(crate) fn sync(core: &Core) {
    while await_unsynced(core) {
        if core.sync().is_err() {
            core.pause(BACK_OFF);
        }
    }
}

/// False: closed.
fn await_unsynced(core: &Core) -> bool {
    // What was just written may have been in the ring for so long.
    let interval = core.settings.sync_interval.saturating_sub(GATHER);
    let mut gate = lock(&core.gate);
    while !gate.closed {
        gate = match gate.unsynced_since.map(|since| since.elapsed()) {
            None => core.unsynced.wait(gate).unwrap_or_else(PoisonError::into_inner),
            Some(waited) if waited >= interval => return true,
            Some(waited) => {
                let left = interval.saturating_sub(waited);
                core.unsynced.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
    false
}
