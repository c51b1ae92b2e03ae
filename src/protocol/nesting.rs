//! Where a subagent's turn hangs in its trace.

use tracing::Span;

use super::Observer;
use crate::fact::vocabulary::TurnEnd;
use crate::fact::{End, Ends};

/// A subagent's turn that ended before the call that spawned it named its thread.
#[derive(Debug)]
pub(super) struct Waiting {
    pub thread: String,
    pub caused_by: String,
    pub started: u64,
    pub open: Span,
    pub end: End,
    pub fact: TurnEnd<'static>,
}

impl Observer {
    // A subagent's turn nests below the latest call that spawned or woke it and began before it. A call that
    // spawns names its thread only when it completes, so the end may have to wait for it.
    pub(super) fn end_below_call(&mut self, mut waiting: Waiting, may_wait: bool) {
        let root = self.place_of_turn(&waiting.caused_by);
        let call = self.wakes.get(&waiting.thread).and_then(|calls| {
            let before = calls.iter().filter(|call| call.started <= waiting.started);
            before.max_by_key(|call| call.started).or_else(|| calls.iter().min_by_key(|call| call.started))
        });
        match (call, root) {
            (Some(call), _) => waiting.end.parent = call.span,
            (None, _) if may_wait && self.spawning() => {
                if self.waiting.len() < 1024 {
                    return self.waiting.push(waiting);
                }
            }
            (None, Some((_, span))) => waiting.end.parent = span,
            (None, None) => {}
        }
        waiting.fact.end(&waiting.open, &waiting.end, self.capture);
    }

    /// Ends the turns that waited for a call to name their thread.
    pub(super) fn end_waiting(&mut self, may_wait: bool) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.end_below_call(waiting, may_wait);
        }
    }
}
