//! Calls of tools: each that completes is counted in its turn, and has an event.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::state::{Kind, Reviews, owned};
use super::{Context, Reducer};
use crate::analytics::event::{self, Event, Label, ToolBase};
use crate::fact::vocabulary::{ToolElicited, ToolEnd, ToolStart};
use crate::fact::{End, Envelope};

/// Messages to agents that wait for what they turn out to be.
const UNDECIDED: usize = 1024;

impl Reducer {
    pub(super) fn tool_started(&mut self, fact: &ToolStart<'static>) {
        let Some(thread) = self.threads.get_mut(&*fact.thread_id) else {
            return self.count("missing_context");
        };
        match thread.turn(&fact.turn_id) {
            Some(turn) => turn.open_tools += 1,
            None => self.count("item_without_turn"),
        }
    }

    pub(super) fn tool_elicited(&mut self, fact: &ToolElicited<'static>) {
        let (Some(thread), Some(turn)) = (fact.thread_id.as_deref(), fact.turn_id.as_deref()) else { return };
        let turn = self.threads.get_mut(thread).and_then(|thread| thread.running(turn));
        if let (Some(turn), Some(call)) = (turn, fact.call_id.as_deref())
            && turn.elicited.len() < 256
        {
            turn.elicited.push((call.into(), (&*fact.elicitation).into()));
        }
    }

    pub(super) fn tool_ended(
        &mut self,
        begun: &Envelope,
        start: &ToolStart<'static>,
        end: &End,
        fact: &ToolEnd<'static>,
    ) {
        let Some(thread) = self.threads.get_mut(&*start.thread_id) else {
            return self.count("missing_context");
        };
        thread.recent = true;
        let observed = fact.end_observed != Some(false);
        let Some(turn) = thread.turn(&start.turn_id) else {
            return self.count("item_without_turn");
        };
        turn.open_tools = turn.open_tools.saturating_sub(1);
        let activity = start.tool.strip_prefix("subagent.");
        // An item that completes after its turn has an event, and is not counted.
        if observed && !turn.ended {
            count(turn, start, activity);
        }
        let reviews = turn.reviews.iter().position(|(item, _)| **item == *start.call_id);
        let reviews = reviews.map(|at| turn.reviews.swap_remove(at).1).unwrap_or_default();
        let elicited = turn.elicited.iter().position(|(item, _)| **item == *start.call_id);
        let elicited = elicited.map(|at| turn.elicited.swap_remove(at).1.into_string());
        let own = Own {
            // A review's turn has no cause that its items would name.
            root: turn.root.as_deref().filter(|_| turn.kind != Kind::Review).map(str::to_owned),
            trigger: turn.trigger.clone(),
            connection: turn.connection,
            config: turn.config.as_ref().map(|config| (config.model.clone(), config.effort.clone())),
            voice: None,
            reviews,
            elicited,
            by_user: fact.source.as_deref() == Some("userShell") || turn.kind == Kind::UserShell,
        };
        let own = Own { voice: thread.voice.as_deref().map(str::to_owned), ..own };
        let fallback =
            (thread.config.model.clone(), thread.config.effort.clone(), thread.unknown_model.clone());
        thread.forget_turns();
        let status = match &*fact.status {
            "completed" => ("completed", None),
            "failed" | "errored" | "error" => ("failed", Some("tool_error")),
            "declined" => ("rejected", Some("approval_denied")),
            _ if start.item_type == "imageGeneration" || start.item_type == "webSearch" => {
                ("completed", None)
            }
            // One that is said to be running has not ended.
            _ => return,
        };
        if !observed {
            return;
        }
        let Some(context) = self.context(&start.thread_id, own.connection) else { return };
        let context_is_child = context.subagent_source.is_some();
        let mut base = base(begun, start, end, fact, context, &own, status);
        let event = match &*start.item_type {
            "commandExecution" => {
                let (model, effort) = self.effort(context_is_child, own.config.as_ref(), fallback);
                command(base, start, fact, model.filter(|_| !own.by_user), effort.filter(|_| !own.by_user))
            }
            "fileChange" => file_change(base, fact),
            "mcpToolCall" => mcp(base, start, fact, &own),
            "dynamicToolCall" => dynamic(base, start, fact),
            "webSearch" => {
                (base.terminal_status, base.failure_kind) = ("completed", None);
                web_search(base, fact)
            }
            "imageGeneration" => image(base, fact),
            "collabAgentToolCall" => {
                base.execution_duration_ms = base.duration_ms;
                collaboration(base, start, fact)
            }
            "subAgentActivity" => return self.activity(base, activity.unwrap_or(""), start, end, fact),
            _ => return,
        };
        self.out.push(event);
    }

    // What was set, else what the server's list says of the model, else what nearly all models have; nothing
    // for a model that the server knows nothing of.
    fn effort(
        &self,
        spawned: bool,
        of_turn: Option<&(Option<Label>, Option<Label>)>,
        (model, effort, unknown): (Option<Label>, Option<Label>, Option<Label>),
    ) -> (Option<Label>, Option<Label>) {
        let (model, effort) = match of_turn {
            Some((own, own_effort)) => (own.clone().or(model), own_effort.clone().or(effort)),
            None => (model, effort),
        };
        // A spawned agent is told an effort that means nothing to such a model.
        if unknown.is_some() && unknown == model {
            return (model, effort.filter(|_| !spawned));
        }
        let default = || {
            let listed = model.as_ref().and_then(|model| self.efforts.get(model)).cloned();
            listed.or_else(|| model.as_deref().map(|model| Label::from(default_effort(model))))
        };
        let effort = effort.or_else(default);
        (model, effort)
    }

    // Of a message to an agent only what follows tells whether it was a task: then the agent's turn begins.
    fn activity(
        &mut self,
        mut base: ToolBase,
        activity: &str,
        start: &ToolStart<'static>,
        end: &End,
        fact: &ToolEnd<'static>,
    ) {
        base.tool_name = match activity {
            "started" => "spawn_agent",
            "interrupted" => "interrupt_agent",
            "interacted" => "send_message",
            _ => return,
        }
        .to_owned();
        (base.terminal_status, base.failure_kind) = ("completed", None);
        // Such an item has one time for both; when it was told is nearer to its end.
        base.completed_at_ms = (end.observed / 1_000_000).max(base.started_at_ms);
        base.duration_ms = Some(base.completed_at_ms - base.started_at_ms);
        base.execution_duration_ms = base.duration_ms;
        let agent: Option<Box<str>> = fact.agents.0.first().map(|agent| Box::from(&**agent));
        let mut event = collaboration(base, start, fact);
        if let Event::CollabAgentToolCall(call) = &mut event
            && activity == "started"
        {
            // The one that was just made.
            call.agent_state_count = Some(1);
        }
        match agent.filter(|_| activity == "interacted") {
            Some(agent) => {
                self.undecided.push((agent, (&*start.thread_id).into(), event));
                if self.undecided.len() > UNDECIDED {
                    let (_, _, event) = self.undecided.remove(0);
                    self.out.push(event);
                }
            }
            None => self.out.push(event),
        }
    }

    /// An agent's turn begins: the message it had before was a task.
    pub(super) fn decide_task(&mut self, agent: &str) {
        while let Some(at) = self.undecided.iter().position(|(of, ..)| **of == *agent) {
            let (_, _, mut event) = self.undecided.remove(at);
            if let Event::CollabAgentToolCall(call) = &mut event {
                "followup_task".clone_into(&mut call.base.tool_name);
            }
            self.out.push(event);
        }
    }

    /// The sender goes on: its messages were messages.
    pub(super) fn decide_sent(&mut self, sender: &str) {
        while let Some(at) = self.undecided.iter().position(|(_, of, _)| **of == *sender) {
            let (_, _, event) = self.undecided.remove(at);
            self.out.push(event);
        }
    }
}

/// What a call's event takes from its turn.
struct Own {
    root: Option<String>,
    trigger: Option<Label>,
    connection: Option<u64>,
    config: Option<(Option<Label>, Option<Label>)>,
    voice: Option<String>,
    reviews: Reviews,
    elicited: Option<String>,
    by_user: bool,
}

fn count(turn: &mut super::state::Turn, start: &ToolStart<'_>, activity: Option<&str>) {
    let calls = &mut turn.calls;
    let of = match &*start.item_type {
        "commandExecution" => &mut calls.command,
        "fileChange" => &mut calls.file_change,
        "mcpToolCall" => &mut calls.mcp,
        "dynamicToolCall" => &mut calls.dynamic,
        "webSearch" => &mut calls.web_search,
        "imageGeneration" => &mut calls.image,
        "imageView" => {
            calls.control_seen += 1;
            return;
        }
        "collabAgentToolCall" | "subAgentActivity" if activity != Some("completed") => {
            let id = xxh3_64(start.call_id.as_bytes());
            if turn.agent_calls.contains(&id) {
                return;
            }
            turn.agent_calls.push(id);
            &mut calls.subagent
        }
        _ => return,
    };
    *of += 1;
    calls.total += 1;
}

// What the catalogue of 0.169.0 says of models whose default is another than `medium`.
fn default_effort(model: &str) -> &'static str {
    match model {
        "gpt-6.1-sol" | "gpt-6-astra" | "gpt-5.6-sol" | "gpt-6.1-terra" => "low",
        _ => "medium",
    }
}

fn base(
    begun: &Envelope,
    start: &ToolStart<'static>,
    end: &End,
    fact: &ToolEnd<'static>,
    context: Context,
    own: &Own,
    (terminal_status, failure_kind): (&'static str, Option<&'static str>),
) -> ToolBase {
    let Context { session, client, runtime, source, subagent_source, parent } = context;
    let (started, completed) = (begun.time / 1_000_000, end.time / 1_000_000);
    let inner = own.by_user || &*start.item_type == "webSearch";
    ToolBase {
        turn_trigger: own.trigger.clone(),
        thread_id: start.thread_id.to_string(),
        session_id: session,
        turn_id: start.turn_id.to_string(),
        root_turn_id: own.root.clone().filter(|_| !own.by_user),
        item_id: start.call_id.to_string(),
        cell_id: None,
        parent_call_id: None,
        originating_response_id: None,
        subsequent_response_id: None,
        app_server_client: client,
        runtime: Arc::clone(&runtime),
        thread_source: source,
        subagent_source,
        parent_thread_id: parent,
        tool_name: start.tool.to_string(),
        tool_event_type: (!inner).then_some("model_tool_call"),
        started_at_ms: started,
        completed_at_ms: completed,
        duration_ms: completed.checked_sub(started),
        execution_duration_ms: fact.execution_s.map(|s| (s * 1e3).round() as u64),
        review_count: own.reviews.guardian + own.reviews.user,
        guardian_review_count: own.reviews.guardian,
        user_review_count: own.reviews.user,
        final_approval_outcome: own.reviews.outcome.unwrap_or("unknown"),
        terminal_status,
        failure_kind,
        requested_additional_permissions: own.reviews.permissions,
        requested_network_access: own.reviews.network,
    }
}

fn command(
    mut base: ToolBase,
    start: &ToolStart<'static>,
    fact: &ToolEnd<'static>,
    model: Option<Label>,
    effort: Option<Label>,
) -> Event {
    let source = fact.source.as_deref().unwrap_or("agent");
    base.tool_name = match source {
        "userShell" => "user_shell",
        "unifiedExecStartup" | "unifiedExecInteraction" => "unified_exec",
        _ => "shell",
    }
    .to_owned();
    let actions = &fact.actions.0;
    let of = |kind: &str| actions.iter().filter(|action| **action == kind).count() as u64;
    event::CommandExecution {
        sandbox_backend: None,
        model_slug: model,
        reasoning_effort: effort,
        base,
        plugin_id: owned(&start.plugin_id),
        script_path: owned(&fact.script),
        command_execution_source: source.to_owned(),
        exit_code: fact.exit_code,
        command_total_action_count: actions.len() as u64,
        command_read_action_count: of("read"),
        command_list_files_action_count: of("listFiles"),
        command_search_action_count: of("search"),
        command_unknown_action_count: of("unknown"),
    }
    .into()
}

fn file_change(mut base: ToolBase, fact: &ToolEnd<'static>) -> Event {
    base.execution_duration_ms = None;
    let (added, modified, deleted) =
        (fact.added.unwrap_or(0), fact.modified.unwrap_or(0), fact.deleted.unwrap_or(0));
    let moved = fact.moved.unwrap_or(0);
    event::FileChange {
        base,
        file_change_count: added + modified + deleted,
        file_add_count: added,
        file_update_count: modified.saturating_sub(moved),
        file_delete_count: deleted,
        file_move_count: moved,
    }
    .into()
}

fn mcp(base: ToolBase, start: &ToolStart<'static>, fact: &ToolEnd<'static>, own: &Own) -> Event {
    event::McpToolCall {
        mcp_server_name: owned(&start.mcp_server).unwrap_or_default(),
        mcp_tool_name: base.tool_name.clone(),
        base,
        mcp_error_present: fact.mcp_error == Some(true),
        plugin_id: owned(&start.plugin_id),
        connector_id: owned(&start.connector_id),
        voice_session_id: own.voice.clone(),
        elicitation_type: own.elicited.clone(),
    }
    .into()
}

fn dynamic(base: ToolBase, start: &ToolStart<'static>, fact: &ToolEnd<'static>) -> Event {
    event::DynamicToolCall {
        base,
        dynamic_tool_name: start.tool.to_string(),
        success: fact.success,
        output_content_item_count: fact.output_count,
        output_text_item_count: fact.output_text_count,
        output_image_item_count: fact.output_image_count,
        output_audio_item_count: fact.output_audio_count,
    }
    .into()
}

fn web_search(mut base: ToolBase, fact: &ToolEnd<'static>) -> Event {
    base.execution_duration_ms = None;
    event::WebSearch {
        base,
        web_search_action: fact.search_action.as_deref().map(|action| match action {
            "search" => "search",
            "openPage" | "open_page" => "open_page",
            "findInPage" | "find_in_page" => "find_in_page",
            _ => "other",
        }),
        query_present: fact.query == Some(true),
        query_count: fact.query_count,
    }
    .into()
}

fn image(mut base: ToolBase, fact: &ToolEnd<'static>) -> Event {
    base.execution_duration_ms = None;
    event::ImageGeneration {
        base,
        revised_prompt_present: fact.revised_prompt == Some(true),
        saved_path_present: fact.saved == Some(true),
        transparent_background: fact.transparent,
        imagegen_request_id: None,
        generation_id: owned(&fact.generation_id),
    }
    .into()
}

fn collaboration(mut base: ToolBase, start: &ToolStart<'static>, fact: &ToolEnd<'static>) -> Event {
    if base.tool_name == "wait" {
        "wait_agent".clone_into(&mut base.tool_name);
    }
    let receivers: Vec<String> = fact.agents.0.iter().map(|agent| agent.to_string()).collect();
    event::CollabAgentToolCall {
        base,
        sender_thread_id: owned(&fact.sender_id).unwrap_or_else(|| start.thread_id.to_string()),
        receiver_thread_count: receivers.len() as u64,
        receiver_thread_ids: receivers,
        requested_model: owned(&fact.agent_model),
        requested_reasoning_effort: owned(&fact.agent_effort),
        agent_state_count: Some(fact.agent_count.unwrap_or(0)),
        completed_agent_count: Some(fact.agents_completed.unwrap_or(0)),
        failed_agent_count: Some(fact.agents_failed.unwrap_or(0)),
    }
    .into()
}
