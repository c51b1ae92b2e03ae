//! Threads: started, resumed, forked, closed, archived.

use serde_json::Value;
use serde_json::value::RawValue;

use super::connection::Asked;
use super::frame::Call;
use super::starting::{Config, Starting};
use super::wire::{
    SettingsNotice, Subject, ThreadResult, Tokens, TurnParams, VoiceNotice, WarningNotice, label, names,
    network_access, owned, read, some, text,
};
use super::{Now, Observer, bounded};
use crate::fact::ids::{self, SpanKind};
use crate::fact::vocabulary::{ModelUnknown, ThreadArchived, ThreadClosed, ThreadInitialized, VoiceStarted};
use crate::fact::{Kind, Link, Point, Relation, Text};

/// What later facts of a thread need to know of it.
#[derive(Debug, Default, Clone)]
pub(super) struct Thread {
    pub connection: u64,
    pub parent: Option<String>,
    pub model: Option<String>,
    pub provider: Option<String>,
    pub agent: Option<String>,
    pub originator: Option<String>,
    pub approval_policy: Option<String>,
    pub approvals_reviewer: Option<String>,
    pub sandbox_mode: Option<String>,
    pub network_access: Option<bool>,
    pub effort: Option<String>,
    pub service_tier: Option<String>,
    pub summary: Option<String>,
    pub collaboration_mode: Option<String>,
    pub personality: Option<String>,
    /// Plugins switched off for it.
    pub disabled_plugins: Vec<String>,
    /// Hash of the repository it works in.
    pub repository_hash: Option<String>,
    /// The turn that is running.
    pub active: Option<String>,
    /// Turns observed so far.
    pub turns: u64,
    /// Trace and span of the last turn.
    pub last_turn: Option<(u128, u64)>,
    /// Where the next turn goes on from, after a fork or resume.
    pub origin: Option<Link>,
    /// Last total the thread reported.
    pub total: Option<Tokens>,
    /// Tokens in use after the last model call.
    pub in_use: Option<u64>,
    /// Turns that `review/start` answered and that have not started, with what they review.
    pub reviews: Vec<(String, Option<String>)>,
    /// `turn/start` requests whose turn has not started.
    pub starting: Vec<Starting>,
    /// Prompts that wait.
    pub queue: Vec<super::queue::Queued>,
    /// A compaction was asked for.
    pub compaction_asked: bool,
    /// Turns asked for other than with `turn/start`: what, and when, ns since 1970.
    pub asked_alone: Vec<(&'static str, u64)>,
    /// When it was last heard of, ns since 1970.
    pub heard: u64,
    /// Where it works, as far as that may leave.
    pub place: Place,
}

/// Where a thread works.
#[derive(Debug, Default, Clone)]
pub(super) struct Place {
    pub cwd: Option<String>,
    pub repository: Option<String>,
    pub branch: Option<String>,
    pub revision: Option<String>,
}

impl Thread {
    /// What a turn is started with holds for the turns after it too. A client that did not ask for the experimental
    /// part of the protocol is told of no change (`thread/settings/updated`).
    pub fn hold(&mut self, asked: &Config) {
        let members = [
            (&asked.model, &mut self.model),
            (&asked.effort, &mut self.effort),
            (&asked.summary, &mut self.summary),
            (&asked.service_tier, &mut self.service_tier),
            (&asked.personality, &mut self.personality),
            (&asked.approval_policy, &mut self.approval_policy),
            (&asked.approvals_reviewer, &mut self.approvals_reviewer),
            (&asked.collaboration_mode, &mut self.collaboration_mode),
        ];
        for (said, held) in members {
            if said.is_some() {
                held.clone_from(said);
            }
        }
        if let Some(disabled) = &asked.disabled_plugins {
            self.disabled_plugins.clone_from(disabled);
        }
        if asked.sandbox_mode.is_some() {
            self.sandbox_mode.clone_from(&asked.sandbox_mode);
            self.network_access = asked.network_access;
        }
    }
}

impl Observer {
    pub(super) fn thread(&mut self, id: &str, now: Now) -> &mut Thread {
        if !self.threads.contains_key(id) {
            self.forget_threads();
            self.threads.insert(id.to_owned(), Thread::default());
        }
        let thread = self.threads.entry(id.to_owned()).or_default();
        thread.heard = now.observed;
        thread
    }

    // A tenth at once, so that the search for the oldest is rare.
    fn forget_threads(&mut self) {
        if self.threads.len() < self.limits.threads {
            return;
        }
        let mut idle: Vec<(u64, String)> = self
            .threads
            .iter()
            .filter(|(_, thread)| thread.active.is_none())
            .map(|(id, thread)| (thread.heard, id.clone()))
            .collect();
        idle.sort_unstable();
        for (_, id) in idle.into_iter().take(self.limits.threads / 10 + 1) {
            self.threads.remove(&id);
            self.wakes.remove(&id);
            self.count("forgotten");
        }
    }

    pub(super) fn thread_answered(&mut self, connection: u64, now: Now, asked: &Asked, result: &RawValue) {
        let result: ThreadResult<'_> = read(Some(result));
        let Some(thread) = result.thread else { return self.count("missing_context") };
        let Some(id) = some(&thread.id) else { return self.count("missing_context") };
        let mode = match asked.method {
            "thread/start" => "new",
            "thread/resume" => "resumed",
            _ => "forked",
        };
        let request: TurnParams<'_> = asked.read();
        let subagent = subagent_source(&thread.source);
        let sandbox_mode = label(&result.sandbox);
        let network_access = network_access(&result.sandbox, sandbox_mode.as_deref());
        let approval_policy = label(&result.approval_policy);
        let model = some(&result.model).map(|model| bounded(model, 128));
        let provider = some(&result.model_provider).map(|provider| bounded(provider, 128));
        let agent = some(&thread.agent_role).map_or("codex", |role| bounded(role, 128));
        let git = thread.git_info.unwrap_or_default();
        let turns = thread.turns.unwrap_or_default();
        let cwd = some(&result.cwd).filter(|_| self.files);
        let checkout = cwd.and_then(|cwd| super::local::checkout(cwd.as_ref()));
        let remote = checkout.as_ref().and_then(|it| it.remote.clone());
        let remote = remote.or_else(|| some(&git.origin_url).map(str::to_owned));
        let fact = ThreadInitialized {
            thread_id: id.into(),
            session_id: some(&thread.session_id).map(Text::from),
            connection_id: Some(connection),
            mode: mode.into(),
            model: model.map(Text::from),
            provider: provider.map(Text::from),
            agent: Some(agent.into()),
            ephemeral: thread.ephemeral,
            source: some(&thread.thread_source).map(|source| bounded(source, 128).into()),
            subagent_source: subagent.map(Text::from),
            parent_id: some(&thread.parent_thread_id).map(Text::from),
            forked_from_id: some(&thread.forked_from_id).map(Text::from),
            fork_turn_id: some(&request.last_turn_id).map(Text::from),
            worktree: cwd.map(|_| checkout.is_some_and(|checkout| checkout.linked)),
            created_at: thread.created_at,
            originator: some(&thread.originator).map(|name| bounded(name, 128).into()),
            approval_policy: approval_policy.as_deref().map(Text::from),
            approvals_reviewer: some(&result.approvals_reviewer).map(Text::from),
            sandbox_mode: sandbox_mode.as_deref().map(Text::from),
            network_access,
            reasoning_effort: some(&result.reasoning_effort).map(Text::from),
            service_tier: some(&result.service_tier).map(Text::from),
            agent_version: some(&thread.cli_version).map(Text::from),
            turn_count: (!turns.is_empty()).then_some(turns.len() as u64),
            cwd: some(&result.cwd).map(Text::from),
            repository: some(&git.origin_url).map(Text::from),
            branch: some(&git.branch).map(Text::from),
            revision: some(&git.sha).map(Text::from),
            instructions: self.instructions(&request).map(Text::from),
        };
        fact.emit(&self.envelope(now, None), self.capture);

        let relation = if mode == "forked" { Relation::ForkedFrom } else { Relation::ResumedFrom };
        let last = some(&request.last_turn_id).map(|turn| (turn, turn)).or_else(|| {
            let turn = turns.last()?;
            let turn_id = some(&turn.id)?;
            Some((turn_id, some(&turn.root_turn_id).unwrap_or(turn_id)))
        });
        let source = some(&thread.forked_from_id).filter(|_| mode == "forked");
        let origin = (mode != "new").then_some(()).and_then(|()| match last {
            Some((turn, root)) => Some(self.place_of_turn(turn).unwrap_or_else(|| {
                let trace = ids::trace_id(root, id, turn);
                (trace, ids::span_id(trace, SpanKind::Turn, turn, ""))
            })),
            None => self.threads.get(source.unwrap_or(id))?.last_turn,
        });
        let (model, provider, agent) =
            (model.map(str::to_owned), provider.map(str::to_owned), agent.to_owned());
        let of = |kind, text: Option<&str>| text.filter(|_| self.captures(kind)).map(str::to_owned);
        let place = Place {
            cwd: of(Kind::Paths, some(&result.cwd)),
            repository: of(Kind::Repository, some(&git.origin_url)),
            branch: of(Kind::Repository, some(&git.branch)),
            revision: of(Kind::Repository, some(&git.sha)),
        };
        let state = self.thread(id, now);
        state.place = place;
        // The answer does not repeat these.
        let config = request.config.unwrap_or_default();
        let personality = owned(&request.personality).or_else(|| owned(&config.personality));
        state.personality = personality.or(state.personality.take());
        state.summary = owned(&config.summary).or(state.summary.take());
        state.disabled_plugins = names(&result.disabled_plugin_ids).unwrap_or_default();
        state.repository_hash = remote.as_deref().map(super::hash::repository);
        state.connection = connection;
        state.parent = some(&thread.parent_thread_id).map(str::to_owned);
        state.model = model;
        state.provider = provider;
        state.agent = Some(agent);
        state.originator = some(&thread.originator).map(str::to_owned);
        state.approval_policy = approval_policy;
        state.approvals_reviewer = some(&result.approvals_reviewer).map(str::to_owned);
        state.sandbox_mode = sandbox_mode;
        state.network_access = network_access;
        state.effort = some(&result.reasoning_effort).map(str::to_owned);
        state.service_tier = some(&result.service_tier).map(str::to_owned);
        state.origin = origin.map(|(trace, span)| Link { trace, span, relation });
    }

    /// A subagent's thread, known by the call that spawned it; it has no `thread/start` of its own.
    pub(super) fn subagent_appeared(
        &mut self,
        id: &str,
        parent: &str,
        model: Option<&str>,
        effort: Option<&str>,
        now: Now,
    ) {
        if self.threads.get(id).is_some_and(|thread| thread.parent.is_some() || thread.model.is_some()) {
            return;
        }
        let of_parent = self.threads.get(parent).cloned().unwrap_or_default();
        let model = model.filter(|model| !model.is_empty()).map(str::to_owned).or(of_parent.model.clone());
        // The id is a UUIDv7: its first 48 bits are the millisecond in which the thread was made.
        let created = ids::uuid(id).map(|uuid| (uuid >> 80) as i64 / 1_000);
        let fact = ThreadInitialized {
            thread_id: id.into(),
            mode: "new".into(),
            model: model.as_deref().map(Text::from),
            provider: of_parent.provider.as_deref().map(Text::from),
            source: Some("subagent".into()),
            subagent_source: Some("thread_spawn".into()),
            parent_id: Some(parent.into()),
            reasoning_effort: effort.map(|effort| bounded(effort, 64).to_owned().into()),
            connection_id: Some(of_parent.connection),
            created_at: created,
            originator: of_parent.originator.as_deref().map(Text::from),
            ..ThreadInitialized::default()
        };
        fact.emit(&self.envelope(now, None), self.capture);
        let state = self.thread(id, now);
        let (turns, active, last_turn, total) =
            (state.turns, state.active.take(), state.last_turn, state.total);
        *state = Thread {
            parent: Some(parent.to_owned()),
            model,
            effort: effort.map(|effort| bounded(effort, 64).to_owned()),
            agent: Some("subagent".to_owned()),
            turns,
            active,
            last_turn,
            total,
            origin: None,
            reviews: Vec::new(),
            starting: Vec::new(),
            queue: Vec::new(),
            compaction_asked: false,
            asked_alone: Vec::new(),
            heard: now.observed,
            ..of_parent
        };
    }

    /// What the client changed of a thread's settings holds for the turns to come.
    pub(super) fn settings_updated(&mut self, now: Now, notice: &SettingsNotice<'_>) {
        let (Some(id), Some(settings)) = (some(&notice.thread_id), &notice.thread_settings) else {
            return self.count("missing_context");
        };
        let state = self.thread(id, now);
        state.model = owned(&settings.model).or(state.model.take());
        state.provider = owned(&settings.model_provider).or(state.provider.take());
        state.service_tier = owned(&settings.service_tier);
        state.effort = owned(&settings.effort);
        state.summary = owned(&settings.summary);
        state.personality = owned(&settings.personality);
        state.collaboration_mode = label(&settings.collaboration_mode);
        state.approval_policy = label(&settings.approval_policy).or(state.approval_policy.take());
        state.approvals_reviewer = owned(&settings.approvals_reviewer).or(state.approvals_reviewer.take());
        if let Some(mode) = label(&settings.sandbox_policy) {
            state.network_access = network_access(&settings.sandbox_policy, Some(&mode));
            state.sandbox_mode = Some(mode);
        }
        if let Some(disabled) = names(&settings.disabled_plugin_ids) {
            state.disabled_plugins = disabled;
        }
    }

    pub(super) fn voice_started(&mut self, now: Now, notice: &VoiceNotice<'_>) {
        let Some(id) = some(&notice.thread_id) else { return self.count("missing_context") };
        let session = some(&notice.realtime_session_id).map(|session| bounded(session, 128).into());
        let fact = VoiceStarted { thread_id: id.into(), voice_session_id: session };
        fact.emit(&self.envelope(now, None), self.capture);
    }

    /// Only one warning says something that later facts need: the server does not know the model.
    pub(super) fn warned(&mut self, now: Now, notice: &WarningNotice<'_>) {
        let message = text(&notice.message);
        let Some(rest) = message.strip_prefix("Model metadata for ") else { return };
        let (Some(id), Some((model, _))) = (some(&notice.thread_id), rest.split_once(" not found")) else {
            return;
        };
        let model = bounded(model.trim_matches('`'), 128);
        let fact = ModelUnknown { thread_id: id.into(), model: Some(model.into()) };
        fact.emit(&self.envelope(now, None), self.capture);
    }

    pub(super) fn thread_closed(&mut self, now: Now, call: &Call<'_>, reason: &'static str) {
        let subject: Subject<'_> = read(call.params);
        let Some(id) = some(&subject.thread_id) else { return self.count("missing_context") };
        let turns = self.threads.get(id).map(|thread| thread.turns);
        let fact = ThreadClosed { thread_id: id.into(), reason: reason.into(), turn_count: turns };
        fact.emit(&self.envelope(now, None), self.capture);
        self.close_thread_turns(now, id);
        self.threads.remove(id);
        self.wakes.remove(id);
    }

    pub(super) fn thread_archived(&mut self, now: Now, call: &Call<'_>, action: &'static str) {
        let subject: Subject<'_> = read(call.params);
        let Some(_) = some(&subject.thread_id) else { return self.count("missing_context") };
        let fact = ThreadArchived { thread_id: text(&subject.thread_id).into(), action: action.into() };
        fact.emit(&self.envelope(now, None), self.capture);
    }
}

// `source` is a word, or `{"subAgent": KIND}` where KIND is a word or an object with one member.
fn subagent_source(source: &Option<Value>) -> Option<String> {
    let kind = source.as_ref()?.get("subAgent")?;
    match kind {
        Value::String(text) => Some(text.clone()),
        Value::Object(map) => map.keys().next().cloned(),
        _ => None,
    }
}
