//! Hooks of the user: each run is a span.

use tracing::Span;

use super::wire::{HookNotice, HookRun, some, text};
use super::{Now, Observer, bounded};
use crate::fact::ids::{self, SpanKind};
use crate::fact::vocabulary::{HookEnd, HookStart};
use crate::fact::{End, Ends, Envelope, Starts, Text};

/// A hook that runs.
#[derive(Debug)]
pub(super) struct OpenHook {
    span: Span,
    turn: String,
    started: u64,
}

impl Observer {
    pub(super) fn hook_started(&mut self, now: Now, notice: &HookNotice<'_>) {
        let Some(run) = &notice.run else { return self.count("missing_context") };
        let thread = text(&notice.thread_id);
        let turn = text(&notice.turn_id);
        let turn = self.aliases.get(turn).map_or(turn, String::as_str).to_owned();
        let name = hook_key(thread, &turn, run);
        if self.hooks.contains_key(&name) {
            return self.count("repeated");
        }
        if self.catalogue.runs.len() > 16_384 {
            self.catalogue.runs.clear();
            self.count("forgotten");
        }
        let runs = self.catalogue.runs.entry(name.clone()).or_default();
        let occurrence = *runs;
        *runs += 1;
        let (trace, parent) = self.place_of_turn(&turn).unwrap_or_else(|| {
            // Hooks of a thread run before its first turn, and may outlive the last.
            let trace = ids::trace_id(&turn, thread, &turn);
            (trace, 0)
        });
        let span = ids::span_id(trace, SpanKind::Hook, &turn, &format!("{}#{occurrence}", text(&run.id)));
        let envelope = Envelope { trace, span, parent, ..self.envelope(now, None) };
        let start = HookStart {
            thread_id: thread.into(),
            turn_id: Some(turn.as_str()).filter(|turn| !turn.is_empty()).map(Text::from),
            event: bounded(text(&run.event_name), 64).into(),
            occurrence,
            handler_type: some(&run.handler_type).map(|it| bounded(it, 64).into()),
            execution_mode: some(&run.execution_mode).map(|it| bounded(it, 64).into()),
            scope: some(&run.scope).map(|it| bounded(it, 64).into()),
            source: some(&run.source).map(|it| bounded(it, 64).into()),
            path: some(&run.source_path).map(Text::from),
        };
        let span = start.start(&envelope, self.capture);
        if self.hooks.len() < 4096 {
            self.hooks.insert(name, OpenHook { span, turn, started: now.time });
        } else {
            self.count("forgotten");
        }
    }

    pub(super) fn hook_completed(&mut self, now: Now, notice: &HookNotice<'_>) {
        let Some(run) = &notice.run else { return self.count("missing_context") };
        let turn = text(&notice.turn_id);
        let turn = self.aliases.get(turn).map_or(turn, String::as_str).to_owned();
        let key = hook_key(text(&notice.thread_id), &turn, run);
        if !self.hooks.contains_key(&key) {
            self.hook_started(now, notice);
        }
        let Some(open) = self.hooks.remove(&key) else { return };
        let failed = matches!(text(&run.status), "failed");
        // Its times are whole seconds; the length is exact.
        let began = run.duration_ms.map(|ms| now.time.saturating_sub(ms.saturating_mul(1_000_000)));
        let fact = HookEnd {
            status: bounded(text(&run.status), 64).into(),
            end_observed: None,
            error_type: failed.then(|| "failed".into()),
            duration_s: run.duration_ms.map(|ms| ms as f64 / 1e3),
        };
        let parent = self.place_of_turn(&turn).map_or(0, |(_, span)| span);
        let end = End { time: now.time, observed: now.observed, start: began.unwrap_or(0), parent };
        fact.end(&open.span, &end, self.capture);
    }

    /// Hooks whose turn is over and that nobody saw end.
    pub(super) fn close_hooks(&mut self, now: Now) {
        let over = |hook: &OpenHook| !self.turns.contains_key(&hook.turn);
        let mut keys: Vec<_> = self
            .hooks
            .iter()
            .filter(|(_, hook)| over(hook))
            .map(|(key, hook)| (hook.started, key.clone()))
            .collect();
        keys.sort_unstable();
        for (_, key) in keys {
            let Some(hook) = self.hooks.remove(&key) else { continue };
            let end = End { time: now.time.max(hook.started), observed: now.observed, ..End::default() };
            let fact =
                HookEnd { status: "interrupted".into(), end_observed: Some(false), ..HookEnd::default() };
            fact.end(&hook.span, &end, self.capture);
        }
    }
}

// The run's id is the hook's, the same each time; it holds a path, so it is only ever hashed.
fn hook_key(thread: &str, turn: &str, run: &HookRun<'_>) -> String {
    format!("{thread}/{turn}/{}", text(&run.id))
}
