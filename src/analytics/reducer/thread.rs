//! Threads: how they begin, are archived, steered, given goals, compacted, and forgotten.

use std::sync::Arc;

use super::state::{Config, Goal, Kind, Thread, owned};
use super::{Context, Reducer};
use crate::analytics::event::{self, Client};
use crate::fact::vocabulary::{
    CompactionEnd, CompactionStart, GoalChanged, ModelListed, ModelUnknown, ThreadArchived,
    ThreadInitialized, TurnSteered, VoiceStarted,
};
use crate::fact::{End, Envelope};

impl Reducer {
    pub(super) fn thread_initialized(&mut self, envelope: &Envelope, fact: &ThreadInitialized<'static>) {
        let id = &*fact.thread_id;
        // One that no client asked for is the server's own: a review's or guardian's, which only a host can tell.
        let own = fact.connection_id.is_none() && fact.parent_id.is_some();
        let spawned = fact.mode == "new"
            && fact.subagent_source.as_deref().is_some_and(|source| source == "thread_spawn" || own);
        let parent =
            fact.parent_id.as_deref().filter(|_| spawned).and_then(|parent| self.threads.get(parent));
        // A spawned thread fills in what is not known of it yet, and takes no more.
        if spawned && self.threads.contains_key(id) {
            return;
        }
        // Its lineage would be a guess if its parent was forgotten.
        if spawned && parent.is_none() && self.forgotten {
            return self.count("missing_context");
        }
        let said = Config::of_thread(fact);
        let (config, of_parent) = match parent {
            Some(parent) => (
                parent.config.inherited(said.model.clone(), said.effort.clone()),
                Some((
                    parent.session.clone(),
                    parent.connection,
                    parent.ephemeral,
                    parent.originator.clone(),
                )),
            ),
            None => (said, None),
        };
        let (session, of_parent_connection, ephemeral, originator) = of_parent.unwrap_or_default();
        let session = match (fact.session_id.as_deref(), parent.is_some()) {
            (Some(session), _) => Some(session.into()),
            (None, true) => session.or_else(|| fact.parent_id.as_deref().map(Box::from)),
            (None, false) => None,
        };
        let connection = match (spawned, fact.connection_id) {
            (true, _) if of_parent_connection != 0 => of_parent_connection,
            (_, connection) => connection.unwrap_or(0),
        };
        let Some(known) = self.connections.get(&connection) else {
            return self.count("missing_context");
        };
        let (client, runtime) = (Arc::clone(&known.client), Arc::clone(&known.runtime));
        let mode = match &*fact.mode {
            "resumed" => "resumed",
            "forked" => "forked",
            _ => "new",
        };
        let config = self.share_config(config, fact.parent_id.as_deref(), id);
        let thread = Thread {
            connection,
            originator: self.shared(&fact.originator).or(originator),
            session: session.filter(|session| **session != *id),
            parent: fact.parent_id.as_deref().map(Box::from),
            source: self.shared(&fact.source),
            subagent_source: self.shared(&fact.subagent_source),
            mode,
            ephemeral: fact.ephemeral.or(ephemeral),
            config,
            unknown_model: None,
            voice: None,
            goal: None,
            had_turn: mode != "new",
            recent: true,
            turns: Vec::new(),
        };
        // In a subagent's thread the server itself is the client.
        let of = super::client_of(
            self.connections.get(&connection).unwrap_or(&super::Connection {
                client,
                runtime: Arc::clone(&runtime),
                api_key: false,
            }),
            thread.originator.as_ref(),
        );
        let client = if spawned {
            Arc::new(Client { rpc_transport: "in_process", experimental_api_enabled: None, ..(*of).clone() })
        } else {
            of
        };
        let event = event::ThreadInitialized {
            thread_id: id.to_owned(),
            session_id: thread.session.as_deref().unwrap_or(id).to_owned(),
            app_server_client: client,
            runtime,
            model: thread.config.model.clone(),
            ephemeral: thread.ephemeral,
            is_worktree: fact.worktree,
            thread_source: thread.source.clone(),
            initialization_mode: mode,
            subagent_source: thread.subagent_source.clone(),
            parent_thread_id: owned(&fact.parent_id),
            forked_from_thread_id: owned(&fact.forked_from_id),
            created_at: fact.created_at.unwrap_or((envelope.time / 1_000_000_000) as i64).max(0),
        };
        // The server makes no thread event where it does not know the client; an observer does not either.
        if !spawned || event.app_server_client.client_name.is_some() {
            self.out.push(event.into());
        }
        self.insert(id, thread);
        self.release(id, mode != "resumed");
    }

    // Most threads of a client run with the same settings, and children with their parent's.
    fn share_config(&self, config: Config, parent: Option<&str>, id: &str) -> Arc<Config> {
        let near = parent.into_iter().chain([id]).filter_map(|id| self.threads.get(id));
        let last = self.thread_order.back().and_then(|id| self.threads.get(id));
        let same = near.chain(last).map(|thread| &thread.config).find(|known| ***known == config);
        same.map_or_else(|| Arc::new(config), Arc::clone)
    }

    fn insert(&mut self, id: &str, thread: Thread) {
        if let Some(known) = self.threads.get_mut(id) {
            // Loaded again: its turns go on, and what only the stream tells stays.
            let before = std::mem::replace(known, thread);
            known.turns = before.turns;
            known.goal = before.goal;
            known.voice = before.voice;
            known.unknown_model = before.unknown_model;
            if let Some(summary) = &before.config.summary
                && known.config.summary.is_none()
            {
                known.config =
                    Arc::new(Config { summary: Some(Arc::clone(summary)), ..(*known.config).clone() });
            }
            return;
        }
        while self.threads.len() >= self.limits.threads.max(1) && self.evict() {}
        let id: Arc<str> = id.into();
        self.thread_order.push_back(Arc::clone(&id));
        self.threads.insert(id, thread);
    }

    // One thread goes; false if each has a turn that runs.
    fn evict(&mut self) -> bool {
        // Twice around is enough: the first time takes the mark off.
        for _ in 0..self.thread_order.len().saturating_mul(2) {
            let Some(id) = self.thread_order.pop_front() else { return false };
            let Some(thread) = self.threads.get_mut(&id) else { continue };
            if !thread.turns.is_empty() || std::mem::take(&mut thread.recent) {
                self.thread_order.push_back(id);
                continue;
            }
            self.threads.remove(&id);
            self.forgotten = true;
            self.count("forgotten");
            return true;
        }
        false
    }

    pub(super) fn thread_archived(&mut self, envelope: &Envelope, fact: &ThreadArchived<'static>) {
        let context = self.context_of(&fact.thread_id, None);
        // Without context the event has fewer members, which is right only if the thread was never known.
        if context.is_none() && self.forgotten {
            return self.count("missing_context");
        }
        // Feature labels are no source; `automation` is one.
        let plain =
            |source: &event::Label| matches!(&**source, "user" | "subagent" | "automation" | "system");
        let event = event::ThreadArchive {
            thread_id: fact.thread_id.to_string(),
            action: if fact.action == "archived" { "archived" } else { "unarchived" },
            occurred_at_ms: envelope.time / 1_000_000,
            app_server_client: context.as_ref().map(|it| Arc::clone(&it.client)),
            runtime: context.as_ref().map(|it| Arc::clone(&it.runtime)),
            thread_source: context.as_ref().and_then(|it| it.source.clone()).filter(plain),
            parent_thread_id: context.and_then(|it| it.parent),
        };
        self.out.push(event.into());
    }

    pub(super) fn turn_steered(&mut self, envelope: &Envelope, fact: &TurnSteered<'static>) {
        let accepted = fact.result == "accepted";
        // A steer of an unknown thread makes no event in the server either.
        let Some(context) = self.context(&fact.thread_id, fact.connection_id) else { return };
        if accepted
            && let Some(turn) =
                fact.turn_id.as_deref().and_then(|id| self.threads.get_mut(&*fact.thread_id)?.running(id))
        {
            turn.steers += 1;
            turn.samplings += u64::from(turn.open_tools == 0);
            if let Some(source) = fact.source.as_deref() {
                turn.source = Some(source.into());
            }
        }
        let reason = owned(&fact.error_type).filter(|reason| !accepted && reason != "_OTHER");
        let Context { session, client, runtime, source, subagent_source, parent } = context;
        let event = event::TurnSteer {
            thread_id: fact.thread_id.to_string(),
            session_id: session,
            expected_turn_id: owned(&fact.expected_turn_id),
            accepted_turn_id: owned(&fact.turn_id).filter(|_| accepted),
            app_server_client: client,
            runtime,
            thread_source: source,
            subagent_source,
            parent_thread_id: parent,
            num_input_images: fact.image_count.unwrap_or(0),
            result: if accepted { "accepted" } else { "rejected" },
            rejection_reason: reason,
            created_at: (envelope.time / 1_000_000_000) as i64,
        };
        self.out.push(event.into());
    }

    pub(super) fn model_listed(&mut self, fact: &ModelListed<'static>) {
        let model = self.shared(&Some(fact.model.clone()));
        let effort = self.shared(&fact.default_effort);
        if let (Some(model), Some(effort)) = (model, effort)
            && (self.efforts.len() < 1024 || self.efforts.contains_key(&model))
        {
            self.efforts.insert(model, effort);
        }
    }

    pub(super) fn model_unknown(&mut self, fact: &ModelUnknown<'static>) {
        let model = self.shared(&fact.model);
        if let Some(thread) = self.threads.get_mut(&*fact.thread_id) {
            thread.unknown_model = model.or_else(|| thread.config.model.clone());
        }
    }

    pub(super) fn voice_started(&mut self, fact: &VoiceStarted<'static>) {
        if let Some(thread) = self.threads.get_mut(&*fact.thread_id) {
            thread.voice = fact.voice_session_id.as_deref().map(Box::from);
        }
    }

    pub(super) fn goal_changed(&mut self, envelope: &Envelope, fact: &GoalChanged<'static>) {
        let Some(thread) = self.threads.get_mut(&*fact.thread_id) else {
            return self.count("missing_context");
        };
        thread.recent = true;
        let before = thread.goal.take();
        if fact.action == "cleared" {
            let Some(goal) = before else { return };
            return self.goal_event(fact, "cleared", &goal);
        }
        let goal = Goal {
            status: snake(fact.status.as_deref().unwrap_or("active")).into(),
            created_at: fact.created_at,
            budget: fact.token_budget.is_some(),
            tokens: fact.tokens_used.unwrap_or(0),
            seconds: fact.time_used_s.unwrap_or(0),
        };
        thread.goal = Some(Box::new(goal.clone()));
        let kinds: &[&'static str] = match before {
            // Loading a thread tells its goal once more; only one made just now is new.
            None if is_fresh(envelope, fact) => &["created"],
            None => &[],
            Some(old) if old.created_at != goal.created_at => &["created"],
            Some(old) => {
                match (old.tokens != goal.tokens || old.seconds != goal.seconds, old.status != goal.status) {
                    (true, true) => &["usage_accounted", "status_changed"],
                    (true, false) => &["usage_accounted"],
                    (false, true) => &["status_changed"],
                    (false, false) => &[],
                }
            }
        };
        if kinds.iter().any(|kind| *kind != "usage_accounted") {
            self.control_tool(fact.turn_id.is_some(), &Some(fact.thread_id.clone()), &fact.turn_id);
        }
        for kind in kinds {
            self.goal_event(fact, kind, &goal);
        }
    }

    fn goal_event(&mut self, fact: &GoalChanged<'static>, kind: &'static str, goal: &Goal) {
        let Some(Context { session, client, runtime, source, subagent_source, parent }) =
            self.context(&fact.thread_id, None)
        else {
            return;
        };
        let accounted = kind == "usage_accounted";
        let event = event::Goal {
            thread_id: fact.thread_id.to_string(),
            session_id: session,
            turn_id: owned(&fact.turn_id),
            app_server_client: client,
            runtime,
            thread_source: source,
            subagent_source,
            parent_thread_id: parent,
            goal_id: None,
            event_kind: kind,
            goal_status: goal.status.to_string(),
            has_token_budget: goal.budget,
            cumulative_tokens_accounted: accounted.then_some(goal.tokens),
            cumulative_time_accounted_seconds: accounted.then_some(goal.seconds),
        };
        self.out.push(event.into());
    }

    pub(super) fn compaction_started(&mut self, fact: &CompactionStart<'static>) {
        if let Some(turn) =
            self.threads.get_mut(&*fact.thread_id).and_then(|thread| thread.running(&fact.turn_id))
        {
            turn.compacting = true;
            // A compaction asked for is all that its turn does.
            if fact.trigger == "manual" && !turn.by_request {
                turn.kind = Kind::Compaction;
            }
        }
    }

    pub(super) fn compaction_ended(
        &mut self,
        begun: &Envelope,
        start: &CompactionStart<'static>,
        end: &End,
        fact: &CompactionEnd<'static>,
    ) {
        let Some(thread) = self.threads.get_mut(&*start.thread_id) else { return };
        let voice = thread.voice.as_deref().map(str::to_owned);
        let mut lost = fact.end_observed == Some(false);
        if let Some(turn) = thread.turn(&start.turn_id) {
            turn.compacting = false;
            lost |= turn.lost;
        }
        thread.forget_turns();
        if lost {
            return;
        }
        let Some(Context { session, client, runtime, source, subagent_source, parent }) =
            self.context(&start.thread_id, None)
        else {
            return;
        };
        let manual = start.trigger == "manual";
        let event = event::Compaction {
            thread_id: start.thread_id.to_string(),
            session_id: session,
            turn_id: start.turn_id.to_string(),
            app_server_client: client,
            runtime,
            thread_source: source,
            subagent_source,
            parent_thread_id: parent,
            trigger: start.trigger.to_string(),
            reason: manual.then(|| "user_requested".into()),
            implementation: None,
            phase: start.phase.to_string(),
            strategy: None,
            status: fact.status.to_string(),
            voice_session_id: voice,
            codex_error_kind: owned(&fact.error_kind),
            codex_error_http_status_code: fact.http_status,
            usage_limit_window_minutes: None,
            active_context_tokens_before: start.tokens_before,
            active_context_tokens_after: fact.tokens_after.or(start.tokens_before),
            retained_image_count: None,
            compaction_summary_tokens: None,
            cached_input_tokens: None,
            cache_write_input_tokens: None,
            started_at: (begun.time / 1_000_000_000) as i64,
            completed_at: (end.time / 1_000_000_000) as i64,
            duration_ms: Some((end.time / 1_000_000).saturating_sub(begun.time / 1_000_000)),
        };
        self.out.push(event.into());
    }
}

fn is_fresh(envelope: &Envelope, fact: &GoalChanged<'_>) -> bool {
    let now = (envelope.time / 1_000_000_000) as i64;
    let unused = fact.tokens_used.unwrap_or(0) == 0 && fact.time_used_s.unwrap_or(0) == 0;
    unused && fact.created_at.is_none_or(|at| (now - at).abs() <= 2)
}

pub(super) fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
