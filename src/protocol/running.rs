//! What happens while a turn runs: tokens, steers, interrupts, errors, the first text.

use serde_json::Value;

use super::connection::Asked;
use super::content::KEPT;
use super::frame::{Answer, Call, RequestId};
use super::starting::image_count;
use super::wire::{
    DiffNotice, ErrorNotice, SteerErrorData, Subject, TurnError, TurnParams, TurnResult, UsageNotice, read,
    some, text,
};
use super::{Now, Observer, bounded, errors};
use crate::fact::vocabulary::{Error, TurnSteered, TurnUsage};
use crate::fact::{Kind, Point, Text};

impl Observer {
    /// The whole diff of a turn so far; only its last one counts.
    pub(super) fn diff_updated(&mut self, notice: &DiffNotice<'_>) {
        let turn = text(&notice.turn_id);
        let turn = self.aliases.get(turn).map_or(turn, String::as_str).to_owned();
        let kept = self.captures(Kind::Output);
        if let Some(open) = self.turns.get_mut(&turn) {
            open.lines = Some(changed_lines(text(&notice.diff)));
            open.said.diff = some(&notice.diff).filter(|_| kept).map(|diff| bounded(diff, KEPT).to_owned());
        }
    }

    pub(super) fn tokens_used(&mut self, now: Now, notice: &UsageNotice<'_>) {
        let Some(usage) = &notice.token_usage else { return self.count("missing_context") };
        let (Some(thread), Some(turn)) = (some(&notice.thread_id), some(&notice.turn_id)) else {
            return self.count("missing_context");
        };
        let (total, last) = (usage.total.unwrap_or_default(), usage.last.unwrap_or_default());
        let state = self.thread(thread, now);
        // A replay of history, or a compaction, repeats a total; its `last` is not to be counted again.
        let repeated = state.total == Some(total);
        state.total = Some(total);
        state.in_use = Some(last.total_tokens);
        let turn = self.aliases.get(turn).map_or(turn, String::as_str).to_owned();
        let Some(open) = self.turns.get_mut(&turn).filter(|_| !repeated) else {
            return self.count("usage_not_counted");
        };
        open.usage.get_or_insert_default().add(last);
        open.context_window = usage.model_context_window;
        open.sampled = true;
        let place = (open.trace, open.span);
        let fact = TurnUsage {
            thread_id: thread.into(),
            turn_id: turn.as_str().into(),
            input: last.input_tokens,
            cached: last.cached_input_tokens,
            cache_write: last.cache_write_input_tokens,
            output: last.output_tokens,
            reasoning: last.reasoning_output_tokens,
            total: last.total_tokens,
            context_window: usage.model_context_window,
        };
        fact.emit(&self.envelope(now, Some(place)), self.capture);
    }

    pub(super) fn steer_answered(
        &mut self,
        connection: u64,
        now: Now,
        asked: &Asked,
        id: &RequestId,
        answer: &Answer<'_>,
    ) {
        let params: TurnParams<'_> = asked.read();
        let result: TurnResult<'_> = match answer {
            Answer::Result(result) => read(Some(result)),
            Answer::Error(_) => TurnResult::default(),
        };
        let error = match answer {
            Answer::Error(failure) => Some(steer_rejection(failure)),
            Answer::Result(_) => None,
        };
        let thread = some(&params.thread_id).or(asked.thread.as_deref()).unwrap_or_default();
        let running = self.threads.get(thread).and_then(|state| state.active.clone());
        let turn = some(&result.turn_id).map(str::to_owned).or(running);
        let turn = turn.map(|turn| self.aliases.get(&turn).cloned().unwrap_or(turn));
        if error.is_none()
            && let Some(open) = turn.as_deref().and_then(|turn| self.turns.get_mut(turn))
        {
            open.steers += 1;
        }
        let place = turn.as_deref().and_then(|turn| self.place_of_turn(turn));
        let fact = TurnSteered {
            thread_id: thread.into(),
            turn_id: turn.as_deref().map(Text::from),
            expected_turn_id: some(&params.expected_turn_id).map(Text::from),
            request_id: Some(id.to_string().into()),
            connection_id: Some(connection),
            result: if error.is_some() { "rejected" } else { "accepted" }.into(),
            error_type: error.map(Text::from),
            image_count: Some(image_count(params.input.as_deref().unwrap_or_default())),
            source: params
                .responsesapi_client_metadata
                .as_ref()
                .and_then(|it| some(&it.source))
                .map(Text::from),
            input: self.input(params.input.as_deref().unwrap_or_default()).map(Text::from),
        };
        fact.emit(&self.envelope(now, place), self.capture);
    }

    pub(super) fn interrupt_answered(&mut self, asked: &Asked) {
        let params: TurnParams<'_> = asked.read();
        let Some(turn) = some(&params.turn_id) else { return };
        let turn = self.aliases.get(turn).map_or(turn, String::as_str).to_owned();
        if let Some(open) = self.turns.get_mut(&turn) {
            let at = asked.at / 1_000_000;
            open.interrupt_at_ms = Some(open.interrupt_at_ms.map_or(at, |before| before.min(at)));
        }
    }

    pub(super) fn error_reported(&mut self, now: Now, notice: &ErrorNotice<'_>) {
        let error = notice.error.as_ref();
        let (kind, status) = error.map_or(("_OTHER".to_owned(), None), error_kind);
        let turn = some(&notice.turn_id);
        let place = turn.and_then(|turn| self.place_of_turn(turn));
        let fact = Error {
            thread_id: some(&notice.thread_id).map(Text::from),
            turn_id: turn.map(Text::from),
            error_type: kind.into(),
            http_status: status,
            will_retry: notice.will_retry,
            message: error.and_then(|error| some(&error.message)).map(|it| bounded(it, KEPT).into()),
        };
        fact.emit(&self.envelope(now, place), self.capture);
        if notice.will_retry == Some(false)
            && let Some(turn) = turn
        {
            let turn = turn.to_owned();
            let kind = error.and_then(errors::kind);
            self.fail_compactions(now, &turn, kind, status);
        }
    }

    /// A piece of text: only the first of a turn says anything, the time until it came.
    pub(super) fn delta(&mut self, now: Now, method: &str, call: &Call<'_>) {
        if self.without_token == 0 || method != "item/agentMessage/delta" {
            return;
        }
        let subject: Subject<'_> = read(call.params);
        let turn = text(&subject.turn_id);
        let turn = self.aliases.get(turn).map_or(turn, String::as_str).to_owned();
        if let Some(open) = self.turns.get_mut(&turn)
            && open.first_token.is_none()
        {
            open.first_token = Some(now.time);
            self.without_token -= 1;
        }
    }
}

// Lines that a diff adds and removes: the marked ones inside its hunks.
pub(super) fn changed_lines(diff: &str) -> (u64, u64) {
    let (mut added, mut removed, mut inside) = (0, 0, false);
    for line in diff.lines() {
        match line.as_bytes().first() {
            _ if line.starts_with("diff --git ") => inside = false,
            Some(b'@') if line.starts_with("@@") => inside = true,
            Some(b'+') if inside => added += 1,
            Some(b'-') if inside => removed += 1,
            _ => {}
        }
    }
    (added, removed)
}

/// The kind of an error in snake case, and the HTTP status that it names.
pub(super) fn error_kind(error: &TurnError<'_>) -> (String, Option<u64>) {
    let snake = |name: &str| {
        let mut out = String::with_capacity(name.len() + 8);
        for letter in bounded(name, 64).chars() {
            if letter.is_ascii_uppercase() {
                out.push('_');
            }
            out.push(letter.to_ascii_lowercase());
        }
        out
    };
    match &error.codex_error_info {
        Some(Value::String(kind)) if kind == "other" => ("_OTHER".to_owned(), None),
        Some(Value::String(kind)) => (snake(kind), None),
        Some(Value::Object(map)) => match map.iter().next() {
            Some((kind, inner)) => (snake(kind), inner.get("httpStatusCode").and_then(Value::as_u64)),
            None => ("_OTHER".to_owned(), None),
        },
        _ => ("_OTHER".to_owned(), None),
    }
}

// The errors of `turn/steer` differ only in their text or data.
fn steer_rejection(failure: &super::Failure<'_>) -> &'static str {
    let data: SteerErrorData<'_> = read(failure.data);
    if text(&data.input_error_code) == "input_too_large" {
        return "input_too_large";
    }
    let steerable = data.codex_error_info.as_ref().and_then(|info| info.get("activeTurnNotSteerable"));
    match steerable.and_then(|it| it.get("turnKind")).and_then(Value::as_str) {
        Some("review") => return "non_steerable_review",
        Some("compact") => return "non_steerable_compact",
        _ => {}
    }
    match &*failure.message {
        "no active turn to steer" => "no_active_turn",
        "input must not be empty" => "empty_input",
        message if message.starts_with("expected active turn id") => "expected_turn_mismatch",
        _ => "_OTHER",
    }
}
