//! The reducer: facts in, events out. It reads no clock and no file, and the same facts give the same events.
//!
//! It joins what connections, threads, turns, items and approvals say. A subagent's thread becomes known only
//! when the call that spawned it completes, so what its turns say until then is held back, and follows.
//!
//! State is bounded by [`Limits`]. When there are too many threads, one without a running turn goes: of those,
//! one that was not used since eviction last passed it, in the order in which they came. A thread that is gone
//! has no more events, each counted under `missing_context`; it never has a wrong one.

mod capability;
mod host;
mod review;
mod state;
mod thread;
mod tool;
mod turn;
mod window;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::analytics::event::{Client, Event, Label, Runtime};
use crate::fact::vocabulary::{ApprovalRequested, ConnectionStart};
use crate::fact::{End, Envelope, Fact, Text};
use state::{Connection, Thread, label};
use window::{Window, identity};

/// How much the reducer remembers, and what it leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Whether all events are made of a server that is logged in with an API key. The server itself then sends
    /// only those that tell of a plugin.
    pub with_api_key: bool,
    /// Connections, the ended ones included.
    pub connections: usize,
    /// Threads.
    pub threads: usize,
    /// Threads that facts speak of before anything says whose they are.
    pub unknown_threads: usize,
    /// Facts held back for each of them.
    pub held: usize,
    /// Facts that are recognised when they come again.
    pub window: usize,
    /// Approvals that wait.
    pub approvals: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            with_api_key: false,
            connections: 4096,
            threads: 65_536,
            unknown_threads: 256,
            held: 1024,
            window: 65_536,
            approvals: 4096,
        }
    }
}

/// A fact that waits for its thread.
#[derive(Debug)]
enum Held {
    Said(Box<(Envelope, Fact<'static>)>),
    Ended(Box<(Envelope, Fact<'static>, End, Fact<'static>)>),
}

/// Client, server and lineage of a thread, as most events carry them.
struct Context {
    session: String,
    client: Arc<Client>,
    runtime: Arc<Runtime>,
    source: Option<Label>,
    subagent_source: Option<Label>,
    parent: Option<String>,
}

/// Turns facts into events.
#[derive(Debug, Default)]
pub struct Reducer {
    limits: Limits,
    connections: HashMap<u64, Connection>,
    connection_order: VecDeque<u64>,
    threads: HashMap<Arc<str>, Thread>,
    thread_order: VecDeque<Arc<str>>,
    forgotten: bool,
    unknown: HashMap<Arc<str>, Vec<Held>>,
    unknown_order: VecDeque<Arc<str>>,
    approvals: HashMap<(u64, String), (Envelope, ApprovalRequested<'static>)>,
    approval_order: VecDeque<(u64, String)>,
    /// Default effort of each model that the server listed.
    efforts: HashMap<Label, Label>,
    labels: HashSet<Label>,
    used: HashSet<u64>,
    /// Messages to agents that may yet turn out to be tasks: agent's thread, and the event.
    undecided: Vec<(Box<str>, Box<str>, Event)>,
    seen: Window,
    counts: BTreeMap<&'static str, u64>,
    out: Vec<Event>,
}

impl Reducer {
    /// A reducer that remembers as much as `limits` say.
    pub fn new(limits: Limits) -> Self {
        Reducer { limits, ..Reducer::default() }
    }

    /// Everything that gave no event though it might have, by reason: `missing_context` (nothing is known of
    /// its thread or connection), `api_key` (see
    /// [`Limits::with_api_key`]), `repeated`, `forgotten` (beyond the limits), `item_without_turn`,
    /// `turn_not_running` (a part of a turn's event that came after its end or without it), `malformed` (a host's
    /// fact whose values break its rules), and `held` (waits for its thread to become known).
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let held = self.unknown.values().map(|held| held.len() as u64).sum();
        let mut counts = self.counts.clone();
        if held > 0 {
            counts.insert("held", held);
        }
        counts
    }

    /// Threads that are remembered now.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A fact about a point in time, or the beginning of what lasts.
    pub fn reduce(&mut self, envelope: &Envelope, fact: &Fact<'static>) -> Vec<Event> {
        let Some(thread) = relevant(fact) else { return Vec::new() };
        if !self.is_new(&[envelope.time, envelope.observed, envelope.span], &[], fact) {
            self.count("repeated");
            return Vec::new();
        }
        if !thread.is_empty() && waits(fact) && !self.threads.contains_key(thread) {
            self.hold(thread, Held::Said(Box::new((envelope.clone(), fact.clone()))));
        } else {
            self.said(envelope, fact);
        }
        self.take(thread)
    }

    /// The end of what `start` began.
    pub fn finish(
        &mut self,
        begun: &Envelope,
        start: &Fact<'static>,
        end: &End,
        fact: &Fact<'static>,
    ) -> Vec<Event> {
        let (thread, ids) = match start {
            Fact::TurnStart(start) => (&start.thread_id, ["turn", &start.turn_id, ""]),
            Fact::ToolStart(start) => (&start.thread_id, ["tool", &start.turn_id, &start.call_id]),
            Fact::CompactionStart(start) => {
                (&start.thread_id, ["compaction", &start.turn_id, &start.item_id])
            }
            Fact::HookStart(start) => {
                (&start.thread_id, ["hook", start.turn_id.as_deref().unwrap_or(""), &start.event])
            }
            _ => return Vec::new(),
        };
        if !self.is_new(&[begun.time, begun.span, end.time, end.observed], &ids, fact) {
            self.count("repeated");
            return Vec::new();
        }
        if self.threads.contains_key(&**thread) {
            self.ended(begun, start, end, fact);
        } else {
            let held = Held::Ended(Box::new((begun.clone(), start.clone(), end.clone(), fact.clone())));
            self.hold(thread, held);
        }
        self.take(thread)
    }

    fn take(&mut self, thread: &str) -> Vec<Event> {
        if self.out.is_empty() {
            return Vec::new();
        }
        let mut events = std::mem::take(&mut self.out);
        let of_thread = self.threads.get(thread).map(|thread| thread.connection);
        let connection = of_thread.or(self.connection_order.back().copied());
        let state = connection.and_then(|id| self.connections.get(&id));
        if state.is_some_and(|connection| connection.api_key) && !self.limits.with_api_key {
            let all = events.len();
            events.retain(Event::is_sent_with_api_key);
            *self.counts.entry("api_key").or_default() += (all - events.len()) as u64;
        }
        events
    }

    fn is_new(&mut self, numbers: &[u64], ids: &[&str], fact: &Fact<'_>) -> bool {
        self.seen.is_new(identity(numbers, ids, fact), self.limits.window.max(1))
    }

    fn said(&mut self, envelope: &Envelope, fact: &Fact<'static>) {
        match fact {
            Fact::ConnectionStart(fact) => self.connected(fact),
            Fact::ThreadInitialized(fact) => self.thread_initialized(envelope, fact),
            Fact::ThreadArchived(fact) => self.thread_archived(envelope, fact),
            Fact::TurnStart(fact) => self.turn_started(fact),
            Fact::TurnConfigured(fact) => self.turn_configured(fact),
            Fact::TurnQueued(fact) => self.turn_queued(fact),
            Fact::TurnUsage(fact) => self.tokens_used(envelope, fact),
            Fact::TurnSteered(fact) => self.turn_steered(envelope, fact),
            Fact::Error(fact) => self.error_reported(fact),
            Fact::ToolStart(fact) => self.tool_started(fact),
            Fact::CompactionStart(fact) => self.compaction_started(fact),
            Fact::ApprovalRequested(fact) => self.approval_requested(envelope, fact),
            Fact::ApprovalResolved(fact) => self.approval_resolved(envelope, fact),
            Fact::GuardianReviewed(fact) => self.guardian_reviewed(fact),
            Fact::GoalChanged(fact) => self.goal_changed(envelope, fact),
            Fact::AccountChanged(fact) => {
                if let Some(connection) = self.connections.get_mut(&fact.connection_id) {
                    connection.api_key = fact.auth_mode.as_deref() == Some("apikey");
                }
            }
            Fact::ModelListed(fact) => self.model_listed(fact),
            Fact::ModelUnknown(fact) => self.model_unknown(fact),
            Fact::VoiceStarted(fact) => self.voice_started(fact),
            Fact::ToolElicited(fact) => self.tool_elicited(fact),
            Fact::SkillInvoked(fact) => self.skill_invoked(fact),
            Fact::AppMentioned(fact) => self.app_mentioned(fact),
            Fact::AppUsed(fact) => self.app_used(fact),
            Fact::PluginUsed(fact) => self.plugin_used(fact),
            Fact::PluginStateChanged(fact) => self.plugin_changed(fact),
            Fact::PluginInstallFailed(fact) => self.plugin_install_failed(fact),
            Fact::ImportCompleted(fact) => self.imported(fact),
            Fact::ImportFailed(fact) => self.import_failed(fact),
            Fact::TurnProfile(fact) => self.turn_profiled(fact),
            Fact::TurnCodexError(fact) => self.turn_failed(fact),
            Fact::ImagePreparation(fact) => self.image_prepared(fact),
            Fact::ControlToolCall(fact) => self.control_tool_called(fact),
            Fact::GuardianV2Classification(fact) => self.guardian_v2_classified(envelope, fact),
            Fact::GuardianV2FastDecision(fact) => self.guardian_v2_decided(envelope, fact),
            Fact::ThreadHintStatus(fact) => self.thread_hinted(envelope, fact),
            Fact::PluginInstallRequested(fact) => self.plugin_install_requested(fact),
            Fact::PluginMeasurement(fact) => self.plugin_measured(fact),
            Fact::ArtifactOperation(fact) => self.artifact_operated(envelope, fact),
            Fact::Notification(fact) => {
                self.control_tool(fact.method == "turn/plan/updated", &fact.thread_id, &fact.turn_id)
            }
            Fact::Request(fact) => {
                self.control_tool(fact.method == "item/tool/requestUserInput", &fact.thread_id, &fact.turn_id)
            }
            _ => {}
        }
    }

    fn ended(&mut self, begun: &Envelope, start: &Fact<'static>, end: &End, fact: &Fact<'static>) {
        match (start, fact) {
            (Fact::TurnStart(start), Fact::TurnEnd(fact)) => self.turn_ended(begun, start, end, fact),
            (Fact::ToolStart(start), Fact::ToolEnd(fact)) => self.tool_ended(begun, start, end, fact),
            (Fact::CompactionStart(start), Fact::CompactionEnd(fact)) => {
                self.compaction_ended(begun, start, end, fact)
            }
            (Fact::HookStart(start), Fact::HookEnd(fact)) => self.hook_ended(start, fact),
            _ => {}
        }
    }

    fn connected(&mut self, fact: &ConnectionStart<'_>) {
        if self.connections.insert(fact.connection_id, Connection::of(fact)).is_none() {
            self.connection_order.push_back(fact.connection_id);
        }
        if self.connection_order.len() > self.limits.connections
            && let Some(old) = self.connection_order.pop_front()
        {
            self.connections.remove(&old);
            self.count("forgotten");
        }
    }

    fn hold(&mut self, thread: &str, held: Held) {
        if !self.unknown.contains_key(thread) {
            let id: Arc<str> = thread.into();
            self.unknown_order.push_back(Arc::clone(&id));
            self.unknown.insert(id, Vec::new());
            if self.unknown_order.len() > self.limits.unknown_threads
                && let Some(old) = self.unknown_order.pop_front()
            {
                self.give_up(&old);
            }
        }
        let most = self.limits.held;
        match self.unknown.get_mut(thread) {
            Some(list) if list.len() < most => list.push(held),
            // A part of what a turn said would make a wrong event of it.
            Some(_) => {
                self.unknown_order.retain(|id| **id != *thread);
                self.give_up(thread);
                self.count("missing_context");
            }
            None => self.count("missing_context"),
        }
    }

    fn give_up(&mut self, thread: &str) {
        let held = self.unknown.remove(thread).map_or(0, |held| held.len());
        *self.counts.entry("missing_context").or_default() += held as u64;
    }

    // What was said of a thread before it was known. Of one that is new that is all there is; of one that was
    // resumed it is a part of something that nobody observed from its beginning.
    fn release(&mut self, thread: &str, is_new: bool) {
        if !self.unknown.contains_key(thread) {
            return;
        }
        self.unknown_order.retain(|id| **id != *thread);
        for held in self.unknown.remove(thread).unwrap_or_default() {
            match held {
                Held::Said(held)
                    if is_new || matches!(held.1, Fact::ModelUnknown(_) | Fact::VoiceStarted(_)) =>
                {
                    self.said(&held.0, &held.1);
                }
                Held::Ended(held) if is_new => self.ended(&held.0, &held.1, &held.2, &held.3),
                Held::Said(..) | Held::Ended(..) => self.count("missing_context"),
            }
        }
    }

    // The context of an event; `connection` is that of a turn that was asked for over it.
    fn context(&mut self, thread: &str, connection: Option<u64>) -> Option<Context> {
        let context = self.context_of(thread, connection);
        if context.is_none() {
            self.count("missing_context");
        }
        context
    }

    fn context_of(&self, id: &str, connection: Option<u64>) -> Option<Context> {
        let thread = self.threads.get(id)?;
        let connection = self.connections.get(&connection.unwrap_or(thread.connection))?;
        Some(Context {
            session: thread.session.as_deref().unwrap_or(id).to_owned(),
            client: client_of(connection, thread.originator.as_ref()),
            runtime: Arc::clone(&connection.runtime),
            source: thread.source.clone(),
            subagent_source: thread.subagent_source.clone(),
            parent: thread.parent.as_deref().map(str::to_owned),
        })
    }

    // Words that most threads share are kept once.
    fn shared(&mut self, text: &Option<Text<'_>>) -> Option<Label> {
        let text = text.as_deref()?;
        if let Some(known) = self.labels.get(text) {
            return Some(Arc::clone(known));
        }
        let new = Label::from(text);
        if self.labels.len() < 4096 {
            self.labels.insert(Arc::clone(&new));
        }
        Some(new)
    }

    fn product(&self, thread: &Option<Text<'_>>, said: &Option<Text<'_>>) -> Option<Label> {
        let known = thread.as_deref().and_then(|id| self.threads.get(id));
        known.and_then(|thread| thread.originator.clone()).or_else(|| label(said))
    }
}

fn client_of(connection: &Connection, originator: Option<&Label>) -> Arc<Client> {
    match originator {
        Some(name) if connection.client.product_client_id.as_ref() != Some(name) => {
            Arc::new(Client { product_client_id: Some(Arc::clone(name)), ..(*connection.client).clone() })
        }
        _ => Arc::clone(&connection.client),
    }
}

// The thread a fact is about, empty for none; `None` for facts that no event needs.
fn relevant<'b>(fact: &'b Fact<'_>) -> Option<&'b str> {
    let some = |id: &'b Option<Text<'_>>| Some(id.as_deref().unwrap_or(""));
    match fact {
        Fact::ThreadInitialized(fact) => Some(&fact.thread_id),
        Fact::ThreadArchived(fact) => Some(&fact.thread_id),
        Fact::TurnStart(fact) => Some(&fact.thread_id),
        Fact::TurnConfigured(fact) => Some(&fact.thread_id),
        Fact::TurnQueued(fact) => Some(&fact.thread_id),
        Fact::TurnUsage(fact) => Some(&fact.thread_id),
        Fact::TurnSteered(fact) => Some(&fact.thread_id),
        Fact::ToolStart(fact) => Some(&fact.thread_id),
        Fact::CompactionStart(fact) => Some(&fact.thread_id),
        Fact::HookStart(fact) => Some(&fact.thread_id),
        Fact::GuardianReviewed(fact) => Some(&fact.thread_id),
        Fact::GoalChanged(fact) => Some(&fact.thread_id),
        Fact::ModelUnknown(fact) => Some(&fact.thread_id),
        Fact::VoiceStarted(fact) => Some(&fact.thread_id),
        Fact::TurnProfile(fact) => Some(&fact.thread_id),
        Fact::TurnCodexError(fact) => Some(&fact.thread_id),
        Fact::ImagePreparation(fact) => Some(&fact.thread_id),
        Fact::ControlToolCall(fact) => Some(&fact.thread_id),
        Fact::GuardianV2Classification(fact) => Some(&fact.thread_id),
        Fact::GuardianV2FastDecision(fact) => Some(&fact.thread_id),
        Fact::ThreadHintStatus(fact) => Some(&fact.thread_id),
        Fact::PluginInstallRequested(fact) => Some(&fact.thread_id),
        Fact::PluginMeasurement(fact) => Some(&fact.thread_id),
        Fact::ArtifactOperation(fact) => Some(&fact.thread_id),
        Fact::Error(fact) => some(&fact.thread_id),
        Fact::ApprovalRequested(fact) => some(&fact.thread_id),
        Fact::ApprovalResolved(fact) => some(&fact.thread_id),
        Fact::ToolElicited(fact) => some(&fact.thread_id),
        Fact::SkillInvoked(fact) => some(&fact.thread_id),
        Fact::AppMentioned(fact) => some(&fact.thread_id),
        Fact::AppUsed(fact) => some(&fact.thread_id),
        Fact::PluginUsed(fact) => some(&fact.thread_id),
        Fact::Notification(fact) if fact.method == "turn/plan/updated" => some(&fact.thread_id),
        Fact::Request(fact) if fact.method == "item/tool/requestUserInput" => some(&fact.thread_id),
        Fact::ConnectionStart(_)
        | Fact::AccountChanged(_)
        | Fact::ModelListed(_)
        | Fact::PluginStateChanged(_)
        | Fact::PluginInstallFailed(_)
        | Fact::ImportCompleted(_)
        | Fact::ImportFailed(_) => Some(""),
        _ => None,
    }
}

// Whether a fact waits until its thread is known. The others make a thread known, or say nothing without one.
fn waits(fact: &Fact<'_>) -> bool {
    !matches!(
        fact,
        Fact::ThreadInitialized(_)
            | Fact::ThreadArchived(_)
            | Fact::TurnSteered(_)
            | Fact::TurnQueued(_)
            | Fact::GoalChanged(_)
            | Fact::SkillInvoked(_)
            | Fact::AppMentioned(_)
            | Fact::PluginUsed(_)
    )
}
