//! Turns: what they run with, what they use, and the event at their end.

use std::sync::Arc;

use super::state::{Config, Kind, Thread, Tokens, Turn, label, owned};
use super::{Context, Reducer};
use crate::analytics::event::{self, CriticalPath, Label};
use crate::fact::vocabulary::{Error, TurnConfigured, TurnEnd, TurnQueued, TurnStart, TurnUsage};
use crate::fact::{End, Envelope, Text, ids};

/// Turns of one thread that are remembered at once; more than one only where items outlive theirs.
const TURNS: usize = 64;

impl Reducer {
    pub(super) fn turn_started(&mut self, fact: &TurnStart<'static>) {
        self.decide_task(&fact.thread_id);
        let Some(thread) = self.threads.get_mut(&*fact.thread_id) else {
            return self.count("missing_context");
        };
        thread.recent = true;
        if thread.turn(&fact.turn_id).is_some() {
            return self.count("repeated");
        }
        let kind = match fact.kind.as_deref() {
            Some("review") => Kind::Review,
            Some("compaction") => Kind::Compaction,
            Some("user_shell") => Kind::UserShell,
            _ if fact.inner_id.is_some() => Kind::Review,
            _ => Kind::Regular,
        };
        let by_request = fact.request_id.is_some();
        let is_child = thread.subagent_source.is_some();
        let goal = thread.goal.as_ref().is_some_and(|goal| &*goal.status == "active");
        let by_goal = kind == Kind::Regular && !by_request && !is_child && goal;
        let trigger = label(&fact.trigger).or_else(|| by_goal.then(|| Label::from("goal")));
        let turn = Turn {
            id: (&*fact.turn_id).into(),
            kind,
            root: fact.root_id.as_deref().map(Box::from),
            trigger,
            connection: fact.connection_id.filter(|_| by_request),
            by_request,
            first: kind == Kind::Regular && !thread.had_turn,
            started_at: fact.started_at,
            images: fact.image_count.unwrap_or(0),
            ..Turn::default()
        };
        thread.had_turn |= kind == Kind::Regular;
        thread.turns.push(turn);
        if thread.turns.len() > TURNS {
            thread.turns.remove(0);
            self.count("forgotten");
        }
    }

    pub(super) fn turn_configured(&mut self, fact: &TurnConfigured<'static>) {
        let Some(thread) = self.threads.get_mut(&*fact.thread_id) else {
            return self.count("missing_context");
        };
        let of_thread = Arc::clone(&thread.config);
        let Some(turn) = thread.running(&fact.turn_id) else { return self.count("missing_context") };
        let config = Config::of_turn(fact).filled(&of_thread);
        turn.workspace_kind = label(&fact.workspace_kind);
        turn.source = fact.source.as_deref().map(Box::from);
        turn.plugins = fact.active_plugins.0.iter().map(|id| id.to_string()).collect();
        turn.config = Some(config.clone());
        // What a turn was given holds for those that follow, and for the threads that it spawns.
        if config != *of_thread {
            thread.config = Arc::new(config);
        }
    }

    // `turn/start` on a busy thread goes into the turn that runs, which takes over connection and images.
    pub(super) fn turn_queued(&mut self, fact: &TurnQueued<'static>) {
        let turn = self.threads.get_mut(&*fact.thread_id).and_then(|it| it.running(fact.turn_id.as_deref()?));
        let Some(turn) = turn else { return self.count("missing_context") };
        turn.samplings += u64::from(turn.open_tools == 0);
        turn.images = fact.image_count.unwrap_or(turn.images);
        turn.connection = fact.connection_id.or(turn.connection);
        if let Some(source) = fact.source.as_deref() {
            turn.source = Some(source.into());
        }
    }

    pub(super) fn tokens_used(&mut self, envelope: &Envelope, fact: &TurnUsage<'static>) {
        self.decide_sent(&fact.thread_id);
        let turn = self.threads.get_mut(&*fact.thread_id).and_then(|thread| thread.running(&fact.turn_id));
        let Some(turn) = turn else { return self.count("missing_context") };
        // The context window is full: the server then says that all of it is used, and no longer by what.
        if fact.input == 0 && fact.output == 0 && fact.total > 0 {
            turn.tokens = Tokens { total: turn.tokens.total, ..Tokens::default() };
        }
        let sum = |all: &mut u64, more: u64| *all = all.saturating_add(more);
        sum(&mut turn.tokens.input, fact.input);
        sum(&mut turn.tokens.cached, fact.cached);
        sum(&mut turn.tokens.cache_write, fact.cache_write);
        sum(&mut turn.tokens.output, fact.output);
        sum(&mut turn.tokens.reasoning, fact.reasoning);
        sum(&mut turn.tokens.total, fact.total);
        // A compaction's own request is not one of the turn's.
        if !turn.compacting && (fact.input > 0 || fact.output > 0) {
            turn.samplings += 1;
            turn.sampled = envelope.time;
        }
    }

    pub(super) fn error_reported(&mut self, fact: &Error<'static>) {
        let (Some(thread), Some(turn)) = (fact.thread_id.as_deref(), fact.turn_id.as_deref()) else { return };
        let turn = self.threads.get_mut(thread).and_then(|thread| thread.running(turn));
        if let Some(turn) = turn.filter(|_| fact.will_retry == Some(true)) {
            turn.retries += 1;
            turn.samplings += 1;
        }
    }

    /// A tool that shows otherwise than as an item.
    pub(super) fn control_tool(
        &mut self,
        is: bool,
        thread: &Option<Text<'static>>,
        turn: &Option<Text<'static>>,
    ) {
        let (true, Some(thread), Some(turn)) = (is, thread.as_deref(), turn.as_deref()) else { return };
        if let Some(turn) = self.threads.get_mut(thread).and_then(|thread| thread.running(turn)) {
            turn.calls.control_seen += 1;
        }
    }

    pub(super) fn turn_ended(
        &mut self,
        begun: &Envelope,
        start: &TurnStart<'static>,
        end: &End,
        fact: &TurnEnd<'static>,
    ) {
        self.decide_sent(&start.thread_id);
        // A server that was killed told nobody; nor did one whose thread went away.
        let lost = matches!(fact.end_reason.as_deref(), Some("killed" | "thread_closed"));
        let Some(thread) = self.threads.get_mut(&*start.thread_id) else {
            return self.count("missing_context");
        };
        let Some(at) = thread.turns.iter().rposition(|turn| *turn.id == *start.turn_id && !turn.ended) else {
            return self.count("missing_context");
        };
        let turn = &mut thread.turns[at];
        turn.ended = true;
        turn.lost = lost;
        // A turn whose prompt never reached the agent was none.
        let regular = turn.kind == Kind::Regular && !(turn.blocked && turn.samplings == 0);
        let connection = turn.connection;
        let context = (regular && !lost).then(|| self.context(&start.thread_id, connection)).flatten();
        let Some(thread) = self.threads.get_mut(&*start.thread_id) else { return };
        let mut events = Vec::new();
        if let (Some(context), Some(turn)) = (context, thread.turns.get(at)) {
            events.push(turn_event(thread, turn, context, begun, start, end, fact).into());
            let (added, removed) = (fact.lines_added.unwrap_or(0), fact.lines_removed.unwrap_or(0));
            if added > 0 || removed > 0 {
                let event = event::AcceptedLines {
                    event_type: "codex.accepted_line_fingerprints",
                    turn_id: start.turn_id.to_string(),
                    thread_id: start.thread_id.to_string(),
                    product_surface: "codex",
                    model_slug: thread.model(&start.turn_id),
                    completed_at: (end.time / 1_000_000_000) as i64,
                    repo_hash: owned(&fact.repository_hash),
                    accepted_added_lines: added,
                    accepted_deleted_lines: removed,
                    line_fingerprints: [],
                };
                events.push(event.into());
            }
        }
        thread.forget_turns();
        self.out.extend(events);
    }
}

impl Thread {
    /// Drops turns that ended and have nothing open.
    pub(super) fn forget_turns(&mut self) {
        self.turns.retain(|turn| !turn.ended || turn.open_tools > 0 || turn.compacting);
        if self.turns.is_empty() {
            self.turns = Vec::new();
        }
    }
}

impl Turn {
    // Requests to the model that no update of tokens told of: one that failed, one that was broken off.
    fn samplings(&self, status: &str, interrupted: Option<u64>) -> u64 {
        let stopped = interrupted.or(self.interrupted);
        let unfinished = match status {
            "failed" => true,
            // What an interrupted request used is told after it was interrupted, if it is told at all.
            "interrupted" => self.sampled == 0 || stopped.is_none_or(|at| self.sampled < at),
            _ => false,
        };
        self.samplings + u64::from(unfinished)
    }
}

// What the protocol calls `priority` is `fast` in events.
fn service_tier(tier: Option<Label>) -> Label {
    match tier {
        None => Label::from("default"),
        Some(tier) if &*tier == "priority" => Label::from("fast"),
        Some(tier) => tier,
    }
}

fn turn_event(
    thread: &Thread,
    turn: &Turn,
    context: Context,
    begun: &Envelope,
    start: &TurnStart<'static>,
    end: &End,
    fact: &TurnEnd<'static>,
) -> event::Turn {
    let Context { session, client, runtime, source, subagent_source, parent } = context;
    let config = turn.config.clone().unwrap_or_default().filled(&thread.config);
    let unknown_model = thread.unknown_model.is_some() && thread.unknown_model == config.model;
    let tokens = (fact.status != "interrupted").then_some(turn.tokens);
    let count = |of: fn(Tokens) -> u64| tokens.map(of);
    let interrupt = fact.interrupt_requested_at_ms.map(|ms| ms.saturating_mul(1_000_000));
    let began = if end.start != 0 { end.start } else { begun.time };
    let observed_ms = || (end.time / 1_000_000).saturating_sub(began / 1_000_000);
    let duration = fact.duration_s.map(|s| (s * 1e3).round() as u64);
    let end_observed = fact.end_observed != Some(false);
    let (profile, error) = (turn.profile.as_deref(), turn.error.as_deref());
    // The id is a UUIDv7, which holds the millisecond in which it was made.
    let of_id = || ids::uuid(&turn.id).map(|id| (id >> 80) as i64 / 1_000);
    event::Turn {
        critical_path: CriticalPath {
            critical_path_status: "disabled",
            critical_path_duration_ms: None,
            critical_path_inference_ms: None,
            critical_path_sampling_ms: None,
            critical_path_compaction_ms: None,
            critical_path_auto_review_ms: None,
            critical_path_auto_review_overhead_ms: None,
            critical_path_user_wait_ms: None,
            critical_path_tools_ms: None,
            critical_path_overhead_ms: None,
            critical_path_unknown_ms: None,
        },
        thread_id: start.thread_id.to_string(),
        session_id: session,
        turn_id: start.turn_id.to_string(),
        active_plugin_ids_at_turn_start: turn.plugins.clone(),
        voice_session_id: thread.voice.as_deref().map(str::to_owned),
        root_turn_id: turn.root.as_deref().map(str::to_owned),
        turn_trigger: turn.trigger.clone(),
        codex_turn_source: turn.source.as_deref().map(str::to_owned),
        submission_type: None,
        app_server_client: client,
        runtime,
        ephemeral: thread.ephemeral,
        thread_source: source,
        initialization_mode: thread.mode,
        subagent_source,
        parent_thread_id: parent,
        model: config.model,
        model_provider: config.provider,
        sandbox_policy: config.sandbox.as_deref().map(sandbox_policy),
        reasoning_effort: config.effort.filter(|_| !(unknown_model && thread.subagent_source.is_some())),
        reasoning_summary: config
            .summary
            .filter(|summary| &**summary != "none")
            .or_else(|| unknown_model.then(|| Label::from("auto"))),
        service_tier: Some(service_tier(config.service_tier)),
        approval_policy: config.approval_policy,
        approvals_reviewer: config.approvals_reviewer,
        guardian_v2_enabled: None,
        multi_agent_version: None,
        sandbox_network_access: config.network,
        collaboration_mode: Some(config.collaboration_mode.unwrap_or_else(|| Label::from("default"))),
        personality: config.personality.filter(|personality| &**personality != "none"),
        workspace_kind: turn.workspace_kind.clone(),
        num_input_images: turn.images,
        image_preparations: (turn.images == 0 || !turn.prepared.is_empty()).then(|| turn.prepared.clone()),
        is_first_turn: turn.first,
        status: Label::from(&*fact.status),
        explicit_client_interrupt_requested_at_ms: fact.interrupt_requested_at_ms,
        turn_error: fact.error_info.as_deref().and_then(|info| serde_json::from_str(info).ok()),
        codex_error_kind: error.map(|it| it.error_kind.to_string()).or_else(|| owned(&fact.error_kind)),
        codex_error_http_status_code: error.and_then(|it| it.http_status).or(fact.http_status),
        usage_limit_window_minutes: error.and_then(|it| it.usage_limit_window_minutes),
        steer_count: turn.steers,
        // The stream shows some of the calls that a host tells.
        total_tool_call_count: turn.calls.total + turn.calls.control_seen.max(turn.calls.control_told),
        shell_command_count: turn.calls.command,
        file_change_count: turn.calls.file_change,
        mcp_tool_call_count: turn.calls.mcp,
        dynamic_tool_call_count: turn.calls.dynamic,
        subagent_tool_call_count: turn.calls.subagent,
        web_search_count: turn.calls.web_search,
        image_generation_count: turn.calls.image,
        input_tokens: count(|it| it.input),
        cached_input_tokens: count(|it| it.cached),
        cache_write_input_tokens: count(|it| it.cache_write),
        output_tokens: count(|it| it.output),
        reasoning_output_tokens: count(|it| it.reasoning),
        total_tokens: count(|it| it.total),
        before_first_sampling_ms: profile.map(|it| it.before_first_sampling_ms),
        sampling_ms: profile.map(|it| it.sampling_ms),
        compaction_ms: profile.map(|it| it.compaction_ms),
        between_sampling_overhead_ms: profile.map(|it| it.between_sampling_overhead_ms),
        tool_blocking_ms: profile.map(|it| it.tool_blocking_ms),
        after_last_sampling_ms: profile.map(|it| it.after_last_sampling_ms),
        sampling_request_count: profile
            .map_or_else(|| turn.samplings(&fact.status, interrupt), |it| it.sampling_request_count),
        sampling_retry_count: profile.map_or(turn.retries, |it| it.sampling_retry_count),
        tools_change_count: profile.map(|it| it.tools_change_count),
        duration_ms: duration.or_else(|| (!end_observed).then(observed_ms)),
        started_at: turn.started_at.or(fact.began_at).or_else(of_id),
        completed_at: fact.completed_at.or(Some((end.time / 1_000_000_000) as i64)),
    }
}

fn sandbox_policy(mode: &str) -> Label {
    match mode {
        "dangerFullAccess" | "danger-full-access" => "full_access".into(),
        "readOnly" | "read-only" => "read_only".into(),
        "workspaceWrite" | "workspace-write" => "workspace_write".into(),
        "externalSandbox" | "external-sandbox" => "external_sandbox".into(),
        other => other.into(),
    }
}
