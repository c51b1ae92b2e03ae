//! For hosts: emitting facts from an agent's or app server's own code.
//!
//! [`Facts`] takes the protocol's messages as they pass, and facts that the protocol does not carry. It needs no
//! runtime, works from any thread, and never fails: without a subscriber that wants facts it costs next to nothing.
//!
//! ```
//! use factline::fact::vocabulary::{SkillInvoked, TurnEnd, TurnStart};
//! use factline::host::Facts;
//!
//! let facts = Facts::new();
//! facts.track_skill_invoked(&SkillInvoked {
//!     thread_id: Some("thread".into()),
//!     turn_id: Some("turn".into()),
//!     skill_name: "review".into(),
//!     ..SkillInvoked::default()
//! });
//!
//! let turn = facts.begin(&TurnStart {
//!     thread_id: "thread".into(),
//!     turn_id: "turn".into(),
//!     agent: "codex".into(),
//!     ..TurnStart::default()
//! });
//! turn.end(&TurnEnd { status: "completed".into(), ..TurnEnd::default() });
//! ```

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tracing::Span;
use tracing::level_filters::LevelFilter;

use crate::fact::ids::{self, SpanKind};
use crate::fact::vocabulary::{
    AppMentioned, AppUsed, ApprovalRequested, ApprovalResolved, ArtifactOperation, CompactionEnd,
    CompactionStart, ControlToolCall, Error, GoalChanged, GuardianReviewed, GuardianV2Classification,
    GuardianV2FastDecision, HookEnd, HookStart, ImagePreparation, ImportCompleted, PluginInstallFailed,
    PluginInstallRequested, PluginMeasurement, PluginStateChanged, PluginUsed, ReviewCompleted, SkillInvoked,
    ThreadArchived, ThreadClosed, ThreadHintStatus, ThreadInitialized, TurnCodexError, TurnConfigured,
    TurnProfile, TurnQueued, TurnSteered, TurnUsage,
};
use crate::fact::{Capture, End, Ends, Envelope, Point, Starts, Subject};
use crate::protocol::{Ended, Observer, Sender, Transport};

/// Emits a host's facts through `tracing`. Clones share what was observed.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    observer: Arc<Mutex<Observer>>,
    capture: Capture,
}

impl Facts {
    /// Facts without anything private.
    pub fn new() -> Self {
        Facts::default()
    }

    /// Facts with the kinds of content and environment that `capture` switches on.
    pub fn with_capture(capture: Capture) -> Self {
        Facts { observer: Arc::new(Mutex::new(Observer::new(capture))), capture }
    }

    /// Facts with an observer of the host's making: other limits, a parent for turns.
    pub fn with_observer(observer: Observer, capture: Capture) -> Self {
        Facts { observer: Arc::new(Mutex::new(observer)), capture }
    }

    fn observer(&self) -> MutexGuard<'_, Observer> {
        // A panic in a subscriber leaves the observer as good as it was between two messages.
        self.observer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection began.
    pub fn track_connection_opened(&self, connection: u64, transport: Transport) {
        self.observer().open(connection, transport, now_us());
    }

    /// A connection ended.
    pub fn track_connection_closed(&self, connection: u64, ended: Ended) {
        self.observer().end(connection, now_us(), ended);
    }

    /// Nothing more will come: what is open ends as interrupted.
    pub fn track_shutdown(&self) {
        self.observer().finish(Ended::ServerExited);
    }

    /// A message of the protocol as it stands on the wire, without its line end. Initialize, requests, responses,
    /// errors and notifications, in either direction, become the facts that they mean.
    pub fn track_line(&self, connection: u64, sender: Sender, line: &[u8]) {
        if LevelFilter::current() != LevelFilter::OFF {
            self.observer().message(connection, sender, now_us(), line);
        }
    }

    /// The same for a message as a value: a `serde_json::Value`, or the host's own protocol types.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn track_message(
        &self,
        connection: u64,
        sender: Sender,
        message: &impl Serialize,
    ) -> Result<(), serde_json::Error> {
        if LevelFilter::current() == LevelFilter::OFF {
            return Ok(());
        }
        self.track_line(connection, sender, &serde_json::to_vec(message)?);
        Ok(())
    }

    /// `initialize` with its parameters was sent by a client. The fact is emitted when it is answered.
    ///
    /// # Errors
    /// The parameters cannot be written as JSON.
    pub fn track_initialize(
        &self,
        connection: u64,
        request: impl Serialize,
        params: &impl Serialize,
    ) -> Result<(), serde_json::Error> {
        self.track_request(connection, Sender::Client, request, "initialize", params)
    }

    /// A request was sent; `request` is its id.
    ///
    /// # Errors
    /// Id or parameters cannot be written as JSON.
    pub fn track_request(
        &self,
        connection: u64,
        sender: Sender,
        request: impl Serialize,
        method: &str,
        params: &impl Serialize,
    ) -> Result<(), serde_json::Error> {
        #[derive(Serialize)]
        struct Message<'a, I, P> {
            id: I,
            method: &'a str,
            params: &'a P,
        }
        self.track_message(connection, sender, &Message { id: request, method, params })
    }

    /// A request was answered; `sender` is who answers.
    ///
    /// # Errors
    /// Id or result cannot be written as JSON.
    pub fn track_response(
        &self,
        connection: u64,
        sender: Sender,
        request: impl Serialize,
        result: &impl Serialize,
    ) -> Result<(), serde_json::Error> {
        #[derive(Serialize)]
        struct Message<'a, I, R> {
            id: I,
            result: &'a R,
        }
        self.track_message(connection, sender, &Message { id: request, result })
    }

    /// A request was answered with an error `{code, message, data}`.
    ///
    /// # Errors
    /// Id or error cannot be written as JSON.
    pub fn track_error_response(
        &self,
        connection: u64,
        sender: Sender,
        request: impl Serialize,
        error: &impl Serialize,
    ) -> Result<(), serde_json::Error> {
        #[derive(Serialize)]
        struct Message<'a, I, E> {
            id: I,
            error: &'a E,
        }
        self.track_message(connection, sender, &Message { id: request, error })
    }

    /// A notification was sent.
    ///
    /// # Errors
    /// The parameters cannot be written as JSON.
    pub fn track_notification(
        &self,
        connection: u64,
        sender: Sender,
        method: &str,
        params: &impl Serialize,
    ) -> Result<(), serde_json::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Message<'a, P> {
            method: &'a str,
            params: &'a P,
            emitted_at_ms: u64,
        }
        let emitted_at_ms = now_us() / 1_000;
        self.track_message(connection, sender, &Message { method, params, emitted_at_ms })
    }

    /// Any fact about a point in time.
    pub fn track(&self, fact: &impl Point) {
        fact.emit_with(|| Cow::Owned(self.envelope(fact.subject())), self.capture);
    }

    /// Something that lasts began. It ends with [`Open::end`]; dropped without, it ends as interrupted.
    pub fn begin<S: Starts>(&self, start: &S) -> Open {
        let span = start.start_with(
            || {
                let subject = start.subject();
                let around = self.envelope(Subject { item: None, ..subject });
                let (kind, item) = match (subject.item, S::ENTRY.name) {
                    (_, "codex.connection") => (SpanKind::Connection, ""),
                    (Some(item), "codex.hook") => (SpanKind::Hook, item),
                    (Some(item), _) => (SpanKind::Item, item),
                    (None, _) => (SpanKind::Turn, ""),
                };
                let turn = subject.turn.unwrap_or_default();
                let outside = if kind == SpanKind::Turn { self.observer().host_parent() } else { None };
                let trace = match (outside, around.trace) {
                    (Some((trace, _)), _) => trace,
                    (None, 0) => ids::hash_trace(&["host", S::ENTRY.name, &around.time.to_string()]),
                    (None, trace) => trace,
                };
                let span = ids::span_id(trace, kind, turn, item);
                let parent = match kind {
                    SpanKind::Turn => outside.map_or(0, |(_, span)| span),
                    _ => around.span,
                };
                if kind == SpanKind::Turn {
                    self.observer().remember_turn(turn, subject.thread.unwrap_or_default(), trace, span);
                }
                Cow::Owned(Envelope { trace, span, parent, ..around })
            },
            self.capture,
        );
        Open { span, capture: self.capture }
    }

    // What is known of the turn, else what follows from its id.
    fn envelope(&self, subject: Subject<'_>) -> Envelope {
        let time = now_us().saturating_mul(1_000);
        let (trace, span) = match subject.turn {
            Some(turn) => self.observer().place_of_turn(turn).unwrap_or_else(|| {
                let trace = ids::trace_id(turn, subject.thread.unwrap_or_default(), turn);
                (trace, ids::span_id(trace, SpanKind::Turn, turn, ""))
            }),
            None => (0, 0),
        };
        Envelope { time, observed: time, trace, span, ..Envelope::default() }
    }
}

/// Something that lasts and has not ended.
#[derive(Debug)]
#[must_use = "dropped, it ends as interrupted"]
pub struct Open {
    span: Span,
    capture: Capture,
}

impl Open {
    /// It ended now.
    pub fn end(self, fact: &impl Ends) {
        let time = now_us().saturating_mul(1_000);
        self.end_at(fact, &End { time, observed: time, ..End::default() });
    }

    /// It ended at another time, or began at another, or has another parent than was said.
    pub fn end_at(self, fact: &impl Ends, end: &End) {
        fact.end(&self.span, end, self.capture);
    }
}

macro_rules! tracked {
    ($( $(#[doc = $doc:literal])+ $method:ident($Fact:ident); )*) => {
        impl Facts {
            $( $(#[doc = $doc])+
            pub fn $method(&self, fact: &$Fact<'_>) {
                self.track(fact);
            } )*
        }
    };
}

tracked! {
    /// A thread was started, resumed or forked.
    track_thread_initialized(ThreadInitialized);
    /// A subagent's thread was made: `source` is `subagent`, `parent_id` its parent.
    track_subagent_thread_started(ThreadInitialized);
    /// A thread was closed.
    track_thread_closed(ThreadClosed);
    /// A thread was archived or taken out of the archive.
    track_thread_archived(ThreadArchived);
    /// A prompt waits for a running turn.
    track_turn_queued(TurnQueued);
    /// The configuration that a turn runs with was resolved.
    track_turn_resolved_config(TurnConfigured);
    /// A turn used tokens.
    track_turn_token_usage(TurnUsage);
    /// A turn was steered.
    track_turn_steered(TurnSteered);
    /// An approval is wanted.
    track_approval_requested(ApprovalRequested);
    /// An approval was answered.
    track_approval_resolved(ApprovalResolved);
    /// A review ended.
    track_review(ReviewCompleted);
    /// The guardian decided.
    track_guardian_review(GuardianReviewed);
    /// A goal was set, changed or cleared.
    track_goal(GoalChanged);
    /// A skill was used.
    track_skill_invoked(SkillInvoked);
    /// An app was named.
    track_app_mentioned(AppMentioned);
    /// An app was used.
    track_app_used(AppUsed);
    /// A plugin was used.
    track_plugin_used(PluginUsed);
    /// A plugin was installed, uninstalled, enabled or disabled.
    track_plugin_state_changed(PluginStateChanged);
    /// A plugin could not be installed.
    track_plugin_install_failed(PluginInstallFailed);
    /// Another agent's configuration was imported.
    track_import_completed(ImportCompleted);
    /// A turn met an error.
    track_error(Error);
    /// How a turn's time was spent; told before the turn ends.
    track_turn_profile(TurnProfile);
    /// The error of a turn by its own name; told before the turn ends.
    track_turn_codex_error(TurnCodexError);
    /// An image was made ready for the model; told before the turn ends.
    track_image_preparation(ImagePreparation);
    /// A call of a tool that is no item ended.
    track_control_tool_call(ControlToolCall);
    /// A guardian of the second version classified an action.
    track_guardian_v2_classification(GuardianV2Classification);
    /// A guardian of the second version decided at once.
    track_guardian_v2_fast_decision(GuardianV2FastDecision);
    /// Hints for a thread were looked for.
    track_thread_hint_status(ThreadHintStatus);
    /// The model suggested plugins.
    track_plugin_install_requested(PluginInstallRequested);
    /// A plugin's script reported a number.
    track_plugin_measurement(PluginMeasurement);
    /// A plugin began to work on an artifact.
    track_artifact_operation(ArtifactOperation);
}

macro_rules! plugin_states {
    ($( $method:ident($state:literal); )*) => {
        impl Facts {
            $(
                #[doc = concat!("A plugin was ", $state, "; sets the state of `fact`.")]
                pub fn $method(&self, fact: &PluginStateChanged<'_>) {
                    self.track(&PluginStateChanged { state: $state.into(), ..fact.clone() });
                }
            )*
        }
    };
}

plugin_states! {
    track_plugin_installed("installed");
    track_plugin_uninstalled("uninstalled");
    track_plugin_enabled("enabled");
    track_plugin_disabled("disabled");
}

impl Facts {
    /// A hook ran: both ends of it at once, `took` ns before now and now.
    pub fn track_hook_run(&self, start: &HookStart<'_>, end: &HookEnd<'_>, took: u64) {
        self.track_lasting(start, end, took);
    }

    /// A compaction took place: both ends of it at once, `took` ns before now and now.
    pub fn track_compaction(&self, start: &CompactionStart<'_>, end: &CompactionEnd<'_>, took: u64) {
        self.track_lasting(start, end, took);
    }

    fn track_lasting(&self, start: &impl Starts, end: &impl Ends, took: u64) {
        let time = now_us().saturating_mul(1_000);
        let ended = End { time, observed: time, start: time.saturating_sub(took), parent: 0 };
        self.begin(start).end_at(end, &ended);
    }
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
