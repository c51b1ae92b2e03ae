//! Turns: asked for, started, steered, interrupted, ended, or never seen to end.

use std::collections::HashSet;

use tracing::Span;

use super::content::{KEPT, Said};
use super::nesting::Waiting;
use super::running::error_kind;
use super::starting::{Config, Starting};
use super::wire::{Tokens, TurnNotice, some, text};
use super::{Ended, Now, Observer, Thread, bounded, errors, seconds};
use crate::fact::ids::{self, SpanKind};
use crate::fact::vocabulary::{ReviewCompleted, TurnConfigured, TurnEnd, TurnStart};
use crate::fact::{End, Ends, Envelope, Link, Point, Relation, Starts, Text};

/// A turn that is open.
#[derive(Debug)]
pub(super) struct Turn {
    pub thread: String,
    pub trace: u128,
    pub span: u64,
    pub connection: u64,
    pub open: Span,
    pub started: u64,
    /// The turn in another thread that caused it, of a subagent's turn.
    pub caused_by: Option<String>,
    /// Its `turn/started` id and what is reviewed, of a review.
    pub review: Option<(String, Option<String>)>,
    pub usage: Option<Tokens>,
    pub context_window: Option<u64>,
    pub steers: u64,
    pub tools: u64,
    /// Hashes of the items that completed.
    pub done: HashSet<u64>,
    pub sampled: bool,
    pub interrupt_at_ms: Option<u64>,
    pub lines: Option<(u64, u64)>,
    pub first_token: Option<u64>,
    pub said: Said,
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
        // What was asked for later is not what starts now, but may have gone into it.
        let first = |starting: &Starting| alone.is_none_or(|(_, at)| starting.at < at);
        let own = |starting: &Starting| starting.turn.as_deref() == Some(own_id);
        let undecided = |starting: &Starting| starting.turn.is_none() && first(starting);
        let asked = state
            .starting
            .iter()
            .position(|starting| own(starting) && first(starting))
            .or_else(|| {
                (review.is_none() && root == own_id).then(|| state.starting.iter().position(undecided))?
            })
            .map(|at| state.starting.remove(at));
        let joined = state.starting.iter().position(own).map(|at| state.starting.remove(at));
        let alone = alone.filter(|_| asked.is_none()).map(|_| state.asked_alone.remove(0).0);
        // A command of the user joins the turn that runs.
        state.asked_alone.retain(|(what, _)| *what == "compaction");
        let kind = if review.is_some() { "review" } else { alone.unwrap_or("regular") };
        let unasked = asked.is_none() && kind == "regular" && root == own_id;
        let queued = (unasked && !state.queue.is_empty()).then(|| state.queue.remove(0).starting);
        let asked = asked.or(queued);
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
        let told = asked.is_some();
        let asked = asked.unwrap_or_default();
        state.hold(&asked.config);
        let of = state.clone();
        let by_request = asked.request.is_some();
        let start = TurnStart {
            thread_id: thread_id.into(),
            turn_id: id.into(),
            agent: agent.into(),
            inner_id: review.as_ref().map(|_| own_id.into()),
            root_id: Some(root.into()),
            connection_id: Some(if told { asked.connection } else { of.connection }),
            request_id: asked.request.as_deref().map(Text::from),
            parent_thread_id: of.parent.as_deref().map(Text::from),
            model: of.model.as_deref().map(Text::from),
            submission_type: told.then(|| if by_request { "default" } else { "queued" }.into()),
            queue_s: told.then(|| seconds(now.observed.saturating_sub(asked.at))),
            trigger: asked.trigger.as_deref().map(Text::from),
            kind: Some(kind.into()),
            index: Some(index),
            started_at: turn.started_at,
            image_count: told.then_some(asked.images),
            prompt: asked.prompt.as_deref().map(Text::from),
            cwd: of.place.cwd.as_deref().map(Text::from),
            repository: of.place.repository.as_deref().map(Text::from),
            branch: of.place.branch.as_deref().map(Text::from),
            revision: of.place.revision.as_deref().map(Text::from),
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
                said: Said::default(),
            },
        );
        self.without_token += 1;
        self.used(now, thread_id, id, &asked.uses);
        if let Some(joined) = joined {
            self.turn_joined(now, thread_id, id, &joined);
        }
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
                .map(|it| bounded(it, KEPT).to_owned().into()),
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
        fact.answer = turn.said.answer(&fact.status).map(Text::from);
        fact.reasoned = turn.said.reasoned().map(Text::from);
        fact.diff = turn.said.diff.map(Text::from);
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
                findings: turn.said.findings.map(Text::from),
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
}

fn configured<'a>(of: &'a Thread, asked: &'a Config, thread: &'a str, turn: &'a str) -> TurnConfigured<'a> {
    let text = |held: &'a Option<String>| held.as_deref().map(Text::from);
    TurnConfigured {
        thread_id: thread.into(),
        turn_id: turn.into(),
        model: text(&of.model),
        provider: text(&of.provider),
        reasoning_effort: text(&of.effort),
        reasoning_summary: text(&of.summary),
        service_tier: text(&asked.tier_of_turn).or_else(|| text(&of.service_tier)),
        approval_policy: text(&of.approval_policy),
        approvals_reviewer: text(&of.approvals_reviewer),
        sandbox_mode: text(&of.sandbox_mode),
        network_access: of.network_access,
        collaboration_mode: text(&of.collaboration_mode),
        personality: text(&of.personality),
        workspace_kind: asked.workspace_kind.as_deref().map(Text::from),
        source: asked.source.as_deref().map(Text::from),
        ..TurnConfigured::default()
    }
}
