//! The thread that drains and syncs. It sleeps without a timer while there is nothing to do.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::gate::Core;
use super::queue::lock;

/// How long records gather before they are written together.
const GATHER: Duration = Duration::from_millis(4);
/// How long to leave a disk alone that refused.
const BACK_OFF: Duration = Duration::from_millis(50);

pub(crate) fn run(core: &Arc<Core>) {
    while await_work(core) {
        let drained = core.drain();
        let due = lock(&core.gate).unsynced_since.is_some_and(|t| t.elapsed() >= core.settings.sync_interval);
        let synced = if due { core.sync() } else { Ok(()) };
        if drained.and(synced).is_err() {
            core.pause(BACK_OFF);
        }
    }
}

/// False: closed.
fn await_work(core: &Core) -> bool {
    let mut gate = lock(&core.gate);
    loop {
        if gate.closed {
            return false;
        }
        if gate.has_work() {
            if !gate.is_half_full() {
                (gate, _) = core.work.wait_timeout(gate, GATHER).unwrap_or_else(PoisonError::into_inner);
            }
            return !gate.closed;
        }
        gate.idle = true;
        gate = match gate.unsynced_since {
            None => core.work.wait(gate).unwrap_or_else(PoisonError::into_inner),
            Some(since) => {
                let Some(left) = (since + core.settings.sync_interval).checked_duration_since(Instant::now())
                else {
                    gate.idle = false;
                    return true;
                };
                if left.is_zero() {
                    gate.idle = false;
                    return true;
                }
                core.work.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        gate.idle = false;
    }
}
