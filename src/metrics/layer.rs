//! The layer: facts that `tracing` shows become measurements.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::metrics::Meter;
use tracing::{Event, Metadata, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::layer::Context;

use super::exemplar::Place;
use super::instruments::Instruments;
use super::provider::Head;
use super::state::{Lasting, Open, State, Turn};
use super::table::{Instrument, TokenNames};
use crate::fact::vocabulary::{
    ApprovalResolved, CompactionEnd, ConnectionStart, Error, Fact, RateLimitReported, SkillInvoked,
    ThreadInitialized, ToolEnd, TurnEnd, TurnProfile, TurnStart, TurnSteered, TurnUsage,
};
use crate::fact::{self, End, Envelope};

/// The facts that are measured.
const USED: &[&str] = &[
    "codex.thread.initialized",
    "codex.thread.closed",
    "codex.turn.configured",
    "codex.turn.usage",
    "codex.turn.steered",
    "codex.turn.profile",
    "codex.approval.resolved",
    "codex.error",
    "codex.skill.invoked",
    "codex.rate_limit.reported",
    "codex.connection",
    "codex.turn",
    "codex.tool",
    "codex.compaction",
];

/// Measures facts on the instruments of a meter.
///
/// It looks at the facts in its table only; whatever else the process emits passes by.
pub struct MetricsLayer {
    instruments: Instruments,
    state: Mutex<State>,
    head: Option<Arc<Head>>,
}

impl fmt::Debug for MetricsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsLayer").finish_non_exhaustive()
    }
}

/// A filter that lets those facts through that are measured, `DEBUG` ones (usage, configuration) among them.
pub fn only_used() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    filter_fn(is_used)
}

fn is_used(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("factline::") && USED.contains(&metadata.name())
}

impl MetricsLayer {
    /// A layer over a meter of the host's own provider, which decides about views, temporality and export. The
    /// SDK for Rust records no exemplars (0.33); with [`Metrics`](super::Metrics) there are some.
    pub fn over(meter: &Meter, tokens: TokenNames) -> Self {
        MetricsLayer {
            instruments: Instruments::new(meter, tokens, None, false),
            state: Mutex::default(),
            head: None,
        }
    }

    pub(super) fn of(head: Arc<Head>, instruments: Instruments) -> Self {
        MetricsLayer { instruments, state: Mutex::default(), head: Some(head) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self, observed: u64) {
        if let Some(head) = &self.head {
            head.seen(observed);
        }
    }

    fn point(&self, envelope: &Envelope, fact: &Fact<'_>) {
        let place = Place { time: envelope.time, trace: envelope.trace, span: envelope.span };
        match fact {
            Fact::ThreadInitialized(fact) => self.thread(fact, place),
            Fact::ThreadClosed(fact) => self.state().forget_thread(&fact.thread_id),
            Fact::TurnConfigured(fact) => {
                self.state().configure(&fact.turn_id, fact.model.as_deref(), fact.provider.as_deref());
            }
            Fact::TurnUsage(fact) => self.tokens(fact, place),
            Fact::TurnSteered(fact) => self.steered(fact, place),
            Fact::TurnProfile(fact) => self.profiled(fact, place),
            Fact::ApprovalResolved(fact) => self.approved(fact, place),
            Fact::Error(fact) => self.failed(fact, place),
            Fact::SkillInvoked(fact) => self.used_skill(fact, place),
            Fact::RateLimitReported(fact) => self.limited(fact, place),
            _ => {}
        }
    }

    fn thread(&self, fact: &ThreadInitialized<'_>, place: Place) {
        let mut state = self.state();
        state.serve(&fact.thread_id, fact.provider.as_deref());
        let client = state.client(fact.connection_id);
        drop(state);
        let dimensions = [
            ("codex.thread.initialization_mode", Some(&*fact.mode)),
            ("codex.thread.source", fact.source.as_deref()),
            ("codex.subagent.source", fact.subagent_source.as_deref()),
            ("user_agent.name", client.as_deref()),
        ];
        self.instruments.record(Instrument::Threads, 1.0, &dimensions, place);
    }

    fn tokens(&self, fact: &TurnUsage<'_>, place: Place) {
        let state = self.state();
        let turn = state.turn(&fact.turn_id).cloned().unwrap_or_default();
        let provider = turn.provider.or_else(|| state.provider(&fact.thread_id));
        drop(state);
        let dimensions = [
            ("gen_ai.operation.name", Some("chat")),
            ("gen_ai.provider.name", Some(provider.as_deref().unwrap_or(super::OTHER))),
            ("gen_ai.request.model", turn.model.as_deref()),
            // The stream does not tell text from images.
            ("gen_ai.token.modality", Some("unknown")),
        ];
        let parts = [
            (Instrument::InputTokens, fact.input),
            (Instrument::OutputTokens, fact.output),
            (Instrument::CacheReadTokens, fact.cached),
            (Instrument::CacheWriteTokens, fact.cache_write),
            (Instrument::ReasoningTokens, fact.reasoning),
        ];
        for (instrument, tokens) in parts {
            self.instruments.record(instrument, tokens as f64, &dimensions, place);
        }
        let [operation, provider, model, _] = dimensions;
        for (kind, tokens) in [("input", fact.input), ("output", fact.output)] {
            let dimensions = [operation, provider, model, ("gen_ai.token.type", Some(kind))];
            self.instruments.record(Instrument::OldTokens, tokens as f64, &dimensions, place);
        }
    }

    fn steered(&self, fact: &TurnSteered<'_>, place: Place) {
        let dimensions =
            [("codex.steer.result", Some(&*fact.result)), ("error.type", fact.error_type.as_deref())];
        self.instruments.record(Instrument::Steers, 1.0, &dimensions, place);
    }

    fn approved(&self, fact: &ApprovalResolved<'_>, place: Place) {
        let dimensions = [
            ("codex.approval.subject", Some(&*fact.subject)),
            ("codex.approval.decision", Some(&*fact.decision)),
            ("codex.approval.resolution", Some(&*fact.resolution)),
            ("codex.approval.source", Some(&*fact.source)),
        ];
        self.instruments.record(Instrument::Approvals, 1.0, &dimensions, place);
        if let Some(wait) = fact.wait_s {
            self.instruments.record(Instrument::ApprovalWait, wait, &dimensions, place);
        }
    }

    fn profiled(&self, fact: &TurnProfile<'_>, place: Place) {
        let agent = self.state().turn(&fact.turn_id).map(|turn| turn.agent.clone());
        let agent = ("gen_ai.agent.name", agent.as_deref());
        let calls = fact.sampling_request_count as f64;
        self.instruments.record(Instrument::InferenceCalls, calls, &[agent], place);
        let phases = [
            ("before_first_sampling", fact.before_first_sampling_ms),
            ("sampling", fact.sampling_ms),
            ("compaction", fact.compaction_ms),
            ("between_sampling", fact.between_sampling_overhead_ms),
            ("tool_blocking", fact.tool_blocking_ms),
            ("after_last_sampling", fact.after_last_sampling_ms),
        ];
        for (phase, ms) in phases {
            let dimensions = [("codex.turn.phase", Some(phase)), agent];
            self.instruments.record(Instrument::PhaseDuration, ms as f64 / 1e3, &dimensions, place);
        }
    }

    fn failed(&self, fact: &Error<'_>, place: Place) {
        let again = fact.will_retry.map(|again| if again { "true" } else { "false" });
        let dimensions = [("error.type", Some(&*fact.error_type)), ("codex.error.will_retry", again)];
        self.instruments.record(Instrument::Errors, 1.0, &dimensions, place);
    }

    fn used_skill(&self, fact: &SkillInvoked<'_>, place: Place) {
        let dimensions = [
            ("gen_ai.skill.name", Some(&*fact.skill_name)),
            ("codex.skill.invocation_type", fact.invocation_type.as_deref()),
            ("codex.skill.scope", fact.scope.as_deref()),
        ];
        self.instruments.record(Instrument::Skills, 1.0, &dimensions, place);
    }

    fn limited(&self, fact: &RateLimitReported<'_>, place: Place) {
        let dimensions = [
            ("codex.rate_limit.id", fact.limit_id.as_deref()),
            ("codex.rate_limit.window", Some(&*fact.window)),
        ];
        if let Some(percent) = fact.used_percent {
            self.instruments.record(Instrument::RateLimitUtilization, percent / 100.0, &dimensions, place);
        }
        if let Some(at) = fact.resets_at {
            self.instruments.record(Instrument::RateLimitReset, at as f64, &dimensions, place);
        }
    }

    fn began(&self, id: u64, metadata: &'static Metadata<'static>, envelope: &Envelope, fact: Fact<'_>) {
        let mut state = self.state();
        let what = match fact {
            Fact::TurnStart(fact) => Lasting::Turn(turn(&state, &fact)),
            Fact::ToolStart(fact) => Lasting::Tool {
                name: fact.tool.into_owned(),
                kind: fact.tool_type.map(|kind| kind.into_owned()),
                agent: fact.agent.map(|agent| agent.into_owned()),
                server: fact.mcp_server.map(|server| server.into_owned()),
            },
            Fact::CompactionStart(fact) => {
                Lasting::Compaction { trigger: fact.trigger.into_owned(), phase: fact.phase.into_owned() }
            }
            Fact::ConnectionStart(fact) => {
                state.connect(fact.connection_id, fact.client_name.as_deref());
                self.learn(&fact);
                Lasting::Connection(fact.connection_id)
            }
            _ => return,
        };
        let start = Place { time: envelope.time, trace: envelope.trace, span: envelope.span };
        let mut active = None;
        if let Lasting::Turn(turn) = &what {
            state.begin_turn(turn);
            active = Some(turn.agent.clone());
        }
        state.open.insert(id, Open { what, start, metadata });
        drop(state);
        if let Some(agent) = active {
            self.active(1.0, &agent);
        }
    }

    fn learn(&self, start: &ConnectionStart<'_>) {
        if let Some(head) = &self.head {
            head.learn(start);
        }
    }

    fn active(&self, change: f64, agent: &str) {
        let dimensions = [("gen_ai.agent.name", Some(agent))];
        self.instruments.record(Instrument::ActiveTurns, change, &dimensions, Place::default());
    }

    fn ended(&self, open: Open, end: &End, fact: Option<&Fact<'_>>) {
        let start = if end.start != 0 { end.start } else { open.start.time };
        let seconds = end.time.saturating_sub(start) as f64 / 1e9;
        let place = Place { time: end.time, ..open.start };
        match (&open.what, fact) {
            (Lasting::Turn(turn), Some(Fact::TurnEnd(fact))) => self.turn_ended(turn, fact, seconds, place),
            (Lasting::Turn(turn), _) => {
                let fact = TurnEnd { status: "interrupted".into(), ..TurnEnd::default() };
                self.turn_ended(turn, &fact, seconds, place);
            }
            (Lasting::Tool { .. }, Some(Fact::ToolEnd(fact))) => {
                self.tool_ended(&open.what, fact, seconds, place);
            }
            (Lasting::Tool { .. }, _) => {
                let fact = ToolEnd { status: "interrupted".into(), ..ToolEnd::default() };
                self.tool_ended(&open.what, &fact, seconds, place);
            }
            (Lasting::Compaction { trigger, phase }, fact) => {
                let unknown = CompactionEnd { status: "interrupted".into(), ..CompactionEnd::default() };
                let fact = match fact {
                    Some(Fact::CompactionEnd(fact)) => fact,
                    _ => &unknown,
                };
                let dimensions = [
                    ("codex.compaction.trigger", Some(&**trigger)),
                    ("codex.compaction.phase", Some(&**phase)),
                    ("codex.compaction.status", Some(&*fact.status)),
                    ("error.type", fact.error_type.as_deref()),
                ];
                self.instruments.record(Instrument::Compactions, 1.0, &dimensions, place);
            }
            (Lasting::Connection(connection), _) => self.state().disconnect(*connection),
        }
    }

    fn turn_ended(&self, started: &Turn, fact: &TurnEnd<'_>, seconds: f64, place: Place) {
        self.state().end_turn(&started.id);
        let dimensions = [
            ("gen_ai.agent.name", Some(&*started.agent)),
            ("gen_ai.request.model", started.model.as_deref()),
            ("codex.turn.status", Some(&*fact.status)),
            ("codex.turn.kind", started.kind.as_deref()),
            ("user_agent.name", started.client.as_deref()),
            ("error.type", fact.error_type.as_deref()),
        ];
        self.instruments.record(Instrument::Turns, 1.0, &dimensions, place);
        self.instruments.record(Instrument::TurnDuration, seconds, &dimensions, place);
        if let Some(first) = fact.first_token_s {
            self.instruments.record(Instrument::TurnFirstToken, first, &dimensions, place);
        }
        self.active(-1.0, &started.agent);
    }

    fn tool_ended(&self, started: &Lasting, fact: &ToolEnd<'_>, seconds: f64, place: Place) {
        let Lasting::Tool { name, kind, agent, server } = started else { return };
        let dimensions = [
            ("gen_ai.tool.name", Some(&**name)),
            ("gen_ai.tool.type", kind.as_deref()),
            ("gen_ai.agent.name", agent.as_deref()),
            ("codex.mcp.server.name", server.as_deref()),
            ("codex.item.status", Some(&*fact.status)),
            ("error.type", fact.error_type.as_deref()),
        ];
        self.instruments.record(Instrument::Tools, 1.0, &dimensions, place);
        self.instruments.record(Instrument::ToolDuration, seconds, &dimensions, place);
    }
}

fn turn(state: &State, fact: &TurnStart<'_>) -> Turn {
    Turn {
        id: fact.turn_id.clone().into_owned(),
        agent: fact.agent.clone().into_owned(),
        model: fact.model.as_deref().map(str::to_owned),
        provider: state.provider(&fact.thread_id),
        kind: fact.kind.as_deref().map(str::to_owned),
        client: state.client(fact.connection_id),
    }
}

impl<S: Subscriber> Layer<S> for MetricsLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !is_used(event.metadata()) {
            return;
        }
        if let Some((envelope, fact)) = fact::event(event) {
            self.seen(envelope.observed);
            self.point(&envelope, &fact);
        }
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, _: Context<'_, S>) {
        if !is_used(attributes.metadata()) {
            return;
        }
        if let Some((envelope, fact)) = fact::span_start(attributes) {
            self.seen(envelope.observed);
            self.began(id.into_u64(), attributes.metadata(), &envelope, fact);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        let metadata = self.state().open.get(&id.into_u64()).map(|open| open.metadata);
        let Some((end, fact)) = metadata.and_then(|metadata| fact::span_end(metadata, values)) else {
            return;
        };
        self.seen(end.observed);
        let open = self.state().open.remove(&id.into_u64());
        if let Some(open) = open {
            self.ended(open, &end, Some(&fact));
        }
    }

    // A host dropped it without saying how it ended.
    fn on_close(&self, id: span::Id, _: Context<'_, S>) {
        let open = self.state().open.remove(&id.into_u64());
        if let Some(open) = open {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
            let end = End { time: now.max(open.start.time), observed: now, ..End::default() };
            self.ended(open, &end, None);
        }
    }
}
