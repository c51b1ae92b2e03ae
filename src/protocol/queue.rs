//! Prompts that wait in a thread's queue: the server starts a turn with the first whenever the thread is idle.

use serde_json::value::RawValue;

use super::connection::Asked;
use super::starting::Starting;
use super::wire::{QueueParams, QueueResult, read, some};
use super::{Now, Observer, bounded};

/// A prompt that waits.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    id: String,
    pub starting: Starting,
}

/// Prompts of one thread that are remembered.
const QUEUED: usize = 64;

impl Observer {
    /// A prompt was put into the queue, or one that waits there was changed.
    pub(super) fn prompt_queued(&mut self, connection: u64, now: Now, asked: &Asked, result: &RawValue) {
        let result: QueueResult<'_> = read(Some(result));
        let submission = result.queued_submission.unwrap_or_default();
        let (Some(thread), Some(id)) = (asked.thread.as_deref(), some(&submission.id)) else {
            return self.count("missing_context");
        };
        let starting =
            Starting { trigger: Some("queue".to_owned()), ..self.starting(connection, now, asked) };
        let state = self.thread(thread, now);
        if let Some(queued) = state.queue.iter_mut().find(|queued| queued.id == id) {
            queued.starting = Starting { at: queued.starting.at, ..starting };
        } else if state.queue.len() < QUEUED {
            state.queue.push(Queued { id: bounded(id, 128).to_owned(), starting });
        } else {
            self.count("forgotten");
        }
    }

    pub(super) fn prompt_withdrawn(&mut self, asked: &Asked) {
        let params: QueueParams<'_> = asked.read();
        let (Some(thread), Some(id)) = (asked.thread.as_deref(), some(&params.queued_submission_id)) else {
            return;
        };
        if let Some(state) = self.threads.get_mut(thread) {
            state.queue.retain(|queued| queued.id != id);
        }
    }

    pub(super) fn queue_reordered(&mut self, asked: &Asked) {
        let params: QueueParams<'_> = asked.read();
        let order = params.queued_submission_ids.unwrap_or_default();
        if let Some(state) = asked.thread.as_deref().and_then(|thread| self.threads.get_mut(thread)) {
            let place = |id: &str| order.iter().position(|word| &*word.0 == id).unwrap_or(usize::MAX);
            state.queue.sort_by_key(|queued| place(&queued.id));
        }
    }
}
