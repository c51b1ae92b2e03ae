//! Turns: asked for, started, steered, interrupted, ended, or never seen to end.

use std::collections::HashSet;

use serde_json::Value;
use serde_json::value::RawValue;
use tracing::Span;

use super::connection::Asked;
use super::frame::{Answer, Call, RequestId};
use super::wire::{
    DiffNotice, ErrorNotice, Input, SteerErrorData, Subject, Tokens, TurnError, TurnNotice, TurnParams,
    TurnResult, UsageNotice, label, read, some, text,
};
use super::{Ended, Now, Observer, bounded, errors, seconds};
use crate::fact::ids::{self, SpanKind};
use crate::fact::vocabulary::{
    Error, ReviewCompleted, TurnConfigured, TurnEnd, TurnQueued, TurnStart, TurnSteered, TurnUsage,
};
use crate::fact::{Class, End, Ends, Envelope, Kind, Link, Point, Relation, Starts, Text};

/// A turn that is open.
#[derive(Debug)]
pub(super) struct Turn {
    pub thread: String,
    pub trace: u128,
    pub span: u64,
    connection: u64,
    open: Span,
    started: u64,
    /// The turn in another thread that caused it, of a subagent's turn.
    caused_by: Option<String>,
    /// Its `turn/started` id and what is reviewed, of a review.
    review: Option<(String, Option<String>)>,
    usage: Option<Tokens>,
    context_window: Option<u64>,
    steers: u64,
    pub tools: u64,
    /// Hashes of the items that completed.
    pub done: HashSet<u64>,
    pub sampled: bool,
    interrupt_at_ms: Option<u64>,
    lines: Option<(u64, u64)>,
    first_token: Option<u64>,
}

/// What is remembered of a turn that ended.
#[derive(Debug, Clone)]
pub(super) struct Finished {
    pub thread: String,
    pub trace: u128,
    pub span: u64,
    /// When it ended, ns since 1970.
    pub time: u64,
}

/// A `turn/start` whose turn has not started.
#[derive(Debug, Default, Clone)]
pub(super) struct Starting {
    request: Option<String>,
    connection: u64,
    at: u64,
    turn: Option<String>,
    trigger: Option<String>,
    images: u64,
    prompt: Option<String>,
    carrier: Option<(u128, u64, u8)>,
    config: Config,
    uses: Vec<super::known::Use>,
}

#[derive(Debug, Default, Clone)]
struct Config {
    model: Option<String>,
    effort: Option<String>,
    summary: Option<String>,
    service_tier: Option<String>,
    personality: Option<String>,
    approval_policy: Option<String>,
    approvals_reviewer: Option<String>,
    sandbox_mode: Option<String>,
    collaboration_mode: Option<String>,
    workspace_kind: Option<String>,
    source: Option<String>,
}

/// A subagent's turn that ended before the call that spawned it named its thread.
#[derive(Debug)]
pub(super) struct Waiting {
    thread: String,
    caused_by: String,
    started: u64,
    open: Span,
    end: End,
    fact: TurnEnd<'static>,
}

impl Observer {
    /// Trace and span of a turn, open or ended, by either of its ids.
    pub(crate) fn place_of_turn(&self, turn: &str) -> Option<(u128, u64)> {
        let turn = self.aliases.get(turn).map_or(turn, String::as_str);
        let open = self.turns.get(turn).map(|turn| (turn.trace, turn.span));
        open.or_else(|| self.finished.get(turn).map(|turn| (turn.trace, turn.span)))
    }

    /// In a host: the span that a turn which begins now belongs to.
    pub(crate) fn host_parent(&self) -> Option<(u128, u64)> {
        self.parent_of_host.and_then(|current| current())
    }

    /// In a host: a turn that its own code tells of, for the facts that name it later.
    pub(crate) fn remember_turn(&mut self, turn: &str, thread: &str, trace: u128, span: u64) {
        let time = self.last_ns;
        self.finish_turn(turn, Finished { thread: thread.to_owned(), trace, span, time });
    }

    fn thread_of_turn(&self, turn: &str) -> Option<&str> {
        let open = self.turns.get(turn).map(|turn| turn.thread.as_str());
        open.or_else(|| self.finished.get(turn).map(|turn| turn.thread.as_str()))
    }

    pub(super) fn turn_requested(&mut self, connection: u64, now: Now, asked: &Asked, id: &RequestId) {
        let params: TurnParams<'_> = asked.read();
        let Some(thread) = some(&params.thread_id).map(str::to_owned) else { return };
        let input = params.input.as_deref().unwrap_or_default();
        let own = |word: &Option<super::wire::Word<'_>>| some(word).map(|text| bounded(text, 128).to_owned());
        let prompt = self
            .capture
            .allows(Class::Content(Kind::Prompts))
            .then(|| message("user", input.iter().filter_map(|part| some(&part.text))));
        let starting = Starting {
            request: Some(id.to_string()),
            connection,
            at: now.observed,
            turn: None,
            trigger: own(&params.turn_trigger),
            images: image_count(input),
            prompt,
            carrier: asked.traceparent,
            config: Config {
                model: own(&params.model),
                effort: own(&params.effort),
                summary: own(&params.summary),
                service_tier: own(&params.service_tier),
                personality: own(&params.personality),
                approval_policy: label(&params.approval_policy),
                approvals_reviewer: own(&params.approvals_reviewer),
                sandbox_mode: label(&params.sandbox_policy),
                collaboration_mode: label(&params.collaboration_mode),
                workspace_kind: params
                    .responsesapi_client_metadata
                    .as_ref()
                    .and_then(|it| own(&it.workspace_kind)),
                source: params.responsesapi_client_metadata.as_ref().and_then(|it| own(&it.source)),
            },
            uses: self.uses(input),
        };
        let state = self.thread(&thread, now);
        // Requests that are never answered must not pile up.
        if state.starting.len() >= 64 {
            state.starting.remove(0);
        }
        state.starting.push(starting);
    }

    pub(super) fn turn_answered(
        &mut self,
        connection: u64,
        now: Now,
        asked: &Asked,
        id: &RequestId,
        answer: &Answer<'_>,
    ) {
        let Some(thread) = asked.thread.as_deref() else { return };
        let request = id.to_string();
        let known = |starting: &Starting| {
            starting.connection == connection && starting.request.as_deref() == Some(&request)
        };
        let Some(state) = self.threads.get_mut(thread) else { return };
        let at = state.starting.iter().position(known);
        let Answer::Result(result) = answer else {
            if let Some(at) = at {
                state.starting.remove(at);
            }
            return;
        };
        let result: TurnResult<'_> = read(Some(result));
        let turn = result.turn.unwrap_or_default();
        let Some(turn_id) = some(&turn.id) else { return };
        let Some(at) = at else {
            // Its turn started before the answer came.
            return;
        };
        if self.turns.contains_key(turn_id) {
            // The thread was busy: the prompt went into the turn that runs.
            let Some(starting) = self.threads.get_mut(thread).map(|state| state.starting.remove(at)) else {
                return;
            };
            let fact = TurnQueued {
                thread_id: thread.into(),
                turn_id: Some(turn_id.into()),
                request_id: Some(request.into()),
                connection_id: Some(connection),
                submission_type: "queued".into(),
                wait_s: Some(seconds(now.observed.saturating_sub(starting.at))),
                image_count: Some(starting.images),
                source: starting.config.source.as_deref().map(Text::from),
            };
            let place = self.place_of_turn(turn_id);
            fact.emit(&self.envelope(now, place), self.capture);
            self.used(now, thread, turn_id, &starting.uses);
            return;
        }
        if let Some(starting) = self.threads.get_mut(thread).and_then(|state| state.starting.get_mut(at)) {
            starting.turn = Some(turn_id.to_owned());
        }
        // A client that does not want `turn/started` still has turns.
        if self.connections.get(&connection).is_some_and(|it| it.opted_out_of_turn_started) {
            let notice = TurnNotice {
                thread_id: Some(super::wire::Word(thread.into())),
                turn: Some(turn),
                ..TurnNotice::default()
            };
            self.turn_started(connection, now, &notice);
        }
    }

    pub(super) fn review_answered(&mut self, asked: &Asked, result: &RawValue) {
        let params: TurnParams<'_> = asked.read();
        let result: TurnResult<'_> = read(Some(result));
        let turn = result.turn.unwrap_or_default();
        let (Some(thread), Some(turn)) = (some(&params.thread_id), some(&turn.id)) else { return };
        let target = params.target.and_then(|target| some(&target.kind).map(|it| bounded(it, 64).to_owned()));
        if let Some(state) = self.threads.get_mut(thread)
            && state.reviews.len() < 64
        {
            state.reviews.push((turn.to_owned(), target));
        }
    }

    pub(super) fn turn_started(&mut self, connection: u64, now: Now, notice: &TurnNotice<'_>) {
        let Some(turn) = &notice.turn else { return self.count("missing_context") };
        let (Some(own_id), Some(thread_id)) = (some(&turn.id), some(&notice.thread_id)) else {
            return self.count("missing_context");
        };
        let root = some(&turn.root_turn_id).unwrap_or(own_id);
        let known = |id: &str| self.turns.contains_key(id) || self.finished.contains_key(id);
        if known(own_id) || self.aliases.contains_key(own_id) {
            return self.count("repeated");
        }
        let of_thread = self.thread_of_turn(root).map(str::to_owned);
        let process = self.process;
        let host = self.parent_of_host;
        let root_place = self.place_of_turn(root);
        let state = self.thread(thread_id, now);
        if state.connection == 0 {
            state.connection = connection;
        }
        let reviewed = state.reviews.iter().position(|(outer, _)| outer == root && root != own_id);
        let review = reviewed.map(|at| state.reviews.remove(at));
        let target = review.as_ref().and_then(|(_, target)| target.clone());
        let id = if review.is_some() { root } else { own_id };
        let alone = state.asked_alone.first().copied().filter(|_| review.is_none() && root == own_id);
        let asked = state
            .starting
            .iter()
            .position(|starting| starting.turn.as_deref() == Some(own_id))
            .or_else(|| {
                // One that was asked for later can't be the one that starts now.
                let undecided = |starting: &Starting| {
                    starting.turn.is_none() && alone.is_none_or(|(_, at)| starting.at < at)
                };
                (review.is_none() && root == own_id).then(|| state.starting.iter().position(undecided))?
            })
            .map(|at| state.starting.remove(at));
        let alone = alone.filter(|_| asked.is_none()).map(|_| state.asked_alone.remove(0).0);
        let kind = if review.is_some() { "review" } else { alone.unwrap_or("regular") };
        let caused_by = (root != own_id && review.is_none())
            .then_some(of_thread)
            .flatten()
            .filter(|other| other != thread_id)
            .map(|_| root.to_owned());

        let carrier = asked.as_ref().and_then(|asked| asked.carrier).map(|(trace, span, _)| (trace, span));
        let outside = carrier.or_else(|| caused_by.is_none().then(|| host?())?);
        let trace = match (outside, root_place) {
            (Some((trace, _)), _) => trace,
            (None, Some((trace, _))) => trace,
            (None, None) => ids::trace_id(root, thread_id, own_id),
        };
        let span = ids::span_id(trace, SpanKind::Turn, id, "");
        let mut links = Vec::new();
        let origin = state.origin.take();
        links.extend(origin);
        // After a resume the turn before and the one it goes on from are mostly the same: one link says it.
        if let Some((trace, span)) = state.last_turn
            && origin.is_none_or(|origin| (origin.trace, origin.span) != (trace, span))
        {
            links.push(Link { trace, span, relation: Relation::PreviousTurn });
        }
        if outside.is_none() && caused_by.is_none() {
            links.extend(process);
        }
        let agent = match (&review, &state.agent) {
            (Some(_), _) => "review".to_owned(),
            (None, Some(agent)) => agent.clone(),
            (None, None) => "codex".to_owned(),
        };
        let index = state.turns;
        state.turns += 1;
        state.active = Some(id.to_owned());
        state.last_turn = Some((trace, span));
        let of = state.clone();
        let asked = asked.unwrap_or_default();
        let by_request = asked.request.is_some();
        let start = TurnStart {
            thread_id: thread_id.into(),
            turn_id: id.into(),
            agent: agent.into(),
            inner_id: review.as_ref().map(|_| own_id.into()),
            root_id: Some(root.into()),
            connection_id: Some(if by_request { asked.connection } else { of.connection }),
            request_id: asked.request.as_deref().map(Text::from),
            parent_thread_id: of.parent.as_deref().map(Text::from),
            model: asked.config.model.as_deref().or(of.model.as_deref()).map(Text::from),
            submission_type: by_request.then(|| "default".into()),
            queue_s: by_request.then(|| seconds(now.observed.saturating_sub(asked.at))),
            trigger: asked.trigger.as_deref().map(Text::from),
            kind: Some(kind.into()),
            index: Some(index),
            started_at: turn.started_at,
            image_count: by_request.then_some(asked.images),
            prompt: asked.prompt.as_deref().map(Text::from),
        };
        let envelope = Envelope {
            trace,
            span,
            parent: outside.map_or(0, |(_, span)| span),
            remote: carrier.is_some(),
            links,
            ..self.envelope(now, None)
        };
        let open = start.start(&envelope, self.capture);
        if review.is_none() {
            let plugins = self.catalogue.active_plugins(&of.disabled_plugins);
            let mut config = configured(&of, &asked.config, thread_id, id);
            config.active_plugins = plugins.iter().map(String::as_str).collect();
            config.emit(&self.envelope(now, Some((trace, span))), self.capture);
        }
        if review.is_some() {
            self.aliases.insert(own_id.to_owned(), id.to_owned());
        }
        self.turns.insert(
            id.to_owned(),
            Turn {
                thread: thread_id.to_owned(),
                trace,
                span,
                connection,
                open,
                started: now.time,
                caused_by,
                review: review.map(|_| (own_id.to_owned(), target)),
                usage: None,
                context_window: None,
                steers: 0,
                tools: 0,
                done: HashSet::new(),
                sampled: false,
                interrupt_at_ms: None,
                lines: None,
                first_token: None,
            },
        );
        self.without_token += 1;
        self.used(now, thread_id, id, &asked.uses);
    }

    pub(super) fn turn_completed(&mut self, connection: u64, now: Now, notice: &TurnNotice<'_>) {
        let Some(turn) = &notice.turn else { return self.count("missing_context") };
        let Some(id) = some(&turn.id) else { return self.count("missing_context") };
        let id = self.aliases.get(id).cloned().unwrap_or_else(|| id.to_owned());
        if self.finished.contains_key(&id) {
            return self.count("repeated");
        }
        if !self.turns.contains_key(&id) {
            if !self.connections.get(&connection).is_some_and(|it| it.opted_out_of_turn_started) {
                return self.count("missing_context");
            }
            self.turn_started(connection, now, notice);
        }
        let error = turn.error.as_ref();
        let failed = text(&turn.status) == "failed";
        let kind = error.map(error_kind);
        let mut fact = TurnEnd {
            status: if turn.status.is_some() {
                text(&turn.status).to_owned().into()
            } else {
                "completed".into()
            },
            duration_s: turn.duration_ms.map(|ms| ms as f64 / 1e3),
            completed_at: turn.completed_at,
            began_at: turn.started_at,
            error_info: error.and_then(errors::info).map(Text::from),
            error_kind: error.and_then(errors::kind).map(Text::from),
            message: error
                .and_then(|error| some(&error.message))
                .map(|it| bounded(it, 4096).to_owned().into()),
            ..TurnEnd::default()
        };
        if failed {
            let (kind, status) = kind.unwrap_or(("_OTHER".to_owned(), None));
            fact.error_type = Some(kind.into());
            fact.http_status = status;
        }
        let start = turn.duration_ms.map(|ms| now.time.saturating_sub(ms.saturating_mul(1_000_000)));
        self.close_turn(now, &id, fact, start);
    }

    // Ends a turn's span, and what hangs on it.
    fn close_turn(&mut self, now: Now, id: &str, mut fact: TurnEnd<'static>, start: Option<u64>) {
        let Some(turn) = self.turns.remove(id) else { return };
        // A length that reaches back before 1970 says nothing.
        let start = start.filter(|start| *start > 0);
        let started = start.unwrap_or(turn.started);
        if turn.first_token.is_none() {
            self.without_token = self.without_token.saturating_sub(1);
        }
        if let Some(used) = turn.usage {
            fact.input = Some(used.input_tokens);
            fact.output = Some(used.output_tokens);
            fact.cached = Some(used.cached_input_tokens);
            fact.cache_write = Some(used.cache_write_input_tokens);
            fact.reasoning = Some(used.reasoning_output_tokens);
        }
        fact.context_window = turn.context_window;
        fact.steer_count = Some(turn.steers);
        fact.tool_count = Some(turn.tools);
        fact.interrupt_requested_at_ms = turn.interrupt_at_ms;
        fact.lines_added = turn.lines.map(|(added, _)| added);
        fact.lines_removed = turn.lines.map(|(_, removed)| removed);
        if turn.lines.is_some() {
            let hash = self.threads.get(&turn.thread).and_then(|thread| thread.repository_hash.clone());
            fact.repository_hash = hash.map(Text::from);
        }
        fact.first_token_s = turn.first_token.map(|at| seconds(at.saturating_sub(started)));
        let status = fact.status.clone();
        let error = fact.error_type.clone();
        let end =
            End { time: now.time.max(started), observed: now.observed, start: start.unwrap_or(0), parent: 0 };
        match &turn.caused_by {
            None => fact.end(&turn.open, &end, self.capture),
            Some(cause) => {
                let waiting = Waiting {
                    thread: turn.thread.clone(),
                    caused_by: cause.clone(),
                    started,
                    open: turn.open.clone(),
                    end,
                    fact,
                };
                self.end_below_call(waiting, true);
            }
        }
        if let Some((inner, target)) = turn.review {
            self.aliases.remove(&inner);
            let fact = ReviewCompleted {
                thread_id: turn.thread.as_str().into(),
                turn_id: id.into(),
                status,
                review_target: target.map(Text::from),
                duration_s: Some(seconds(now.time.saturating_sub(started))),
                error_type: error,
            };
            fact.emit(&self.envelope(now, Some((turn.trace, turn.span))), self.capture);
        }
        if let Some(state) = self.threads.get_mut(&turn.thread)
            && state.active.as_deref() == Some(id)
        {
            state.active = None;
        }
        self.end_compactions(now, id);
        self.finish_turn(
            id,
            Finished { thread: turn.thread, trace: turn.trace, span: turn.span, time: now.time },
        );
    }

    fn finish_turn(&mut self, id: &str, finished: Finished) {
        self.finished.insert(id.to_owned(), finished);
        self.finished_order.push_back(id.to_owned());
        if self.finished_order.len() > self.limits.turns
            && let Some(old) = self.finished_order.pop_front()
        {
            self.finished.remove(&old);
        }
    }

    // A subagent's turn nests below the latest call that spawned or woke it and began before it. A call that
    // spawns names its thread only when it completes, so the end may have to wait for it.
    fn end_below_call(&mut self, mut waiting: Waiting, may_wait: bool) {
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

    fn interrupt(&mut self, now: Now, ids: Vec<String>, reason: &'static str) {
        // Children first, so that a parent's last call is still open for them.
        for id in ids {
            let fact = TurnEnd {
                status: "interrupted".into(),
                end_observed: Some(false),
                end_reason: Some(reason.into()),
                ..TurnEnd::default()
            };
            self.close_turn(now, &id, fact, None);
        }
    }

    /// Ends the turns of a connection, or all, as interrupted at the last time anything was seen.
    pub(super) fn close_turns(&mut self, now: Now, connection: Option<u64>, ended: Ended) {
        let of = |turn: &Turn| connection.is_none_or(|it| turn.connection == it);
        let mut ids: Vec<(u64, String)> = self
            .turns
            .iter()
            .filter(|(_, turn)| of(turn))
            .map(|(id, turn)| (turn.started, id.clone()))
            .collect();
        ids.sort_unstable();
        let ids = ids.into_iter().rev().map(|(_, id)| id).collect();
        self.interrupt(now, ids, ended.as_str());
        self.close_items(now);
        self.end_waiting(false);
    }

    /// Ends the turns of a thread that is gone.
    pub(super) fn close_thread_turns(&mut self, now: Now, thread: &str) {
        let ids: Vec<String> =
            self.turns.iter().filter(|(_, turn)| turn.thread == thread).map(|(id, _)| id.clone()).collect();
        self.interrupt(now, ids, "thread_closed");
    }

    /// A turn that begins without `turn/start` was asked for.
    pub(super) fn turn_asked_alone(&mut self, asked: &Asked, what: &'static str) {
        let Some(state) = asked.thread.as_deref().and_then(|thread| self.threads.get_mut(thread)) else {
            return;
        };
        // A command of the user joins the turn that runs.
        if (what == "compaction" || state.active.is_none()) && state.asked_alone.len() < 64 {
            state.asked_alone.push((what, asked.at));
        }
    }

    pub(super) fn turn_refused_alone(&mut self, asked: &Asked, what: &'static str) {
        let Some(state) = asked.thread.as_deref().and_then(|thread| self.threads.get_mut(thread)) else {
            return;
        };
        state.asked_alone.retain(|(other, at)| *other != what || *at != asked.at);
    }

    /// The whole diff of a turn so far; only its last one counts.
    pub(super) fn diff_updated(&mut self, notice: &DiffNotice<'_>) {
        let turn = text(&notice.turn_id);
        let turn = self.aliases.get(turn).map_or(turn, String::as_str).to_owned();
        if let Some(open) = self.turns.get_mut(&turn) {
            open.lines = Some(changed_lines(text(&notice.diff)));
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
            message: error.and_then(|error| some(&error.message)).map(|it| bounded(it, 4096).into()),
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

fn configured<'a>(
    of: &'a super::Thread,
    asked: &'a Config,
    thread: &'a str,
    turn: &'a str,
) -> TurnConfigured<'a> {
    let either = |asked: &'a Option<String>, of: &'a Option<String>| {
        asked.as_deref().or(of.as_deref()).map(Text::from)
    };
    TurnConfigured {
        thread_id: thread.into(),
        turn_id: turn.into(),
        model: either(&asked.model, &of.model),
        provider: of.provider.as_deref().map(Text::from),
        reasoning_effort: either(&asked.effort, &of.effort),
        reasoning_summary: either(&asked.summary, &of.summary),
        service_tier: either(&asked.service_tier, &of.service_tier),
        approval_policy: either(&asked.approval_policy, &of.approval_policy),
        approvals_reviewer: either(&asked.approvals_reviewer, &of.approvals_reviewer),
        sandbox_mode: either(&asked.sandbox_mode, &of.sandbox_mode),
        network_access: of.network_access,
        collaboration_mode: either(&asked.collaboration_mode, &of.collaboration_mode),
        personality: either(&asked.personality, &of.personality),
        workspace_kind: asked.workspace_kind.as_deref().map(Text::from),
        source: asked.source.as_deref().map(Text::from),
        ..TurnConfigured::default()
    }
}

// Lines that a diff adds and removes: the marked ones inside its hunks.
fn changed_lines(diff: &str) -> (u64, u64) {
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

fn image_count(input: &[Input<'_>]) -> u64 {
    input.iter().filter(|part| matches!(text(&part.kind), "image" | "localImage")).count() as u64
}

// The JSON that the GenAI conventions prescribe for messages; cut at the text, so that it stays valid.
pub(super) fn message<'b>(role: &str, texts: impl Iterator<Item = &'b str>) -> String {
    let parts: Vec<Value> = texts
        .take(64)
        .map(|text| serde_json::json!({"type": "text", "content": bounded(text, 16_384)}))
        .collect();
    serde_json::json!([{"role": role, "parts": parts}]).to_string()
}

/// The kind of an error in snake case, and the HTTP status that it names.
fn error_kind(error: &TurnError<'_>) -> (String, Option<u64>) {
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
