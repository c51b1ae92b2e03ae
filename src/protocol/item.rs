//! Items of a turn: tool calls and compactions, which become spans. Messages and reasoning do not.

use tracing::Span;
use xxhash_rust::xxh3::xxh3_64;

use super::tool::{ToolName, change_kind, given, has_text, lines, moved, safe, tool_name, wakes};
use super::wire::{Item, ItemNotice, TurnError, read, some, text};
use super::{Now, Observer, bounded};
use crate::fact::ids::{self, SpanKind};
use crate::fact::vocabulary::{AppUsed, CompactionEnd, CompactionStart, ToolEnd, ToolStart};
use crate::fact::{End, Ends, Envelope, List, Point, Starts, Text};

/// An item whose span is open.
#[derive(Debug)]
pub(super) struct OpenItem {
    span: Span,
    span_id: u64,
    started: u64,
    order: u64,
    what: What,
    /// The MCP server that is called.
    server: Option<String>,
    /// Threads of subagents it names so far.
    agents: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Tool,
    /// A call that makes a thread and names it only when it completes.
    Spawn,
    Compaction,
}

/// A call that spawned or woke a subagent's thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wake {
    pub started: u64,
    pub span: u64,
}

impl Observer {
    pub(super) fn item_started(&mut self, now: Now, notice: &ItemNotice<'_>) {
        let Some((item, thread, turn)) = parts(notice) else { return self.count("missing_context") };
        let Some(kind) = tool_name(item) else { return };
        let turn = self.aliases.get(turn).map_or(turn, String::as_str).to_owned();
        let key = (turn, text(&item.id).to_owned());
        if key.1.is_empty() {
            return self.count("missing_context");
        }
        if self.items.contains_key(&key) {
            return self.count("repeated");
        }
        let started =
            item.started_at_ms.or(notice.started_at_ms).map_or(now.time, |ms| ms.saturating_mul(1_000_000));
        self.open_item(now, item, thread, &key, kind, started);
    }

    fn open_item(
        &mut self,
        now: Now,
        item: &Item<'_>,
        thread: &str,
        key: &(String, String),
        kind: ToolName,
        started: u64,
    ) {
        let (turn, id) = key;
        // Items may come before their turn starts; the end knows better. A parent that never comes would dangle.
        let (trace, parent) =
            self.place_of_turn(turn).unwrap_or_else(|| (ids::trace_id(turn, thread, turn), 0));
        let span_id = ids::span_id(trace, SpanKind::Item, turn, id);
        let envelope = Envelope { time: started, trace, span: span_id, parent, ..self.envelope(now, None) };
        let agent = self.threads.get(thread).and_then(|thread| thread.agent.clone());
        let (span, what) = match kind {
            ToolName::Compaction => (self.compaction(thread, turn, id, &envelope), What::Compaction),
            ToolName::Tool(name, tool_type) => {
                let mcp = text(&item.kind) == "mcpToolCall";
                let start = ToolStart {
                    thread_id: thread.into(),
                    turn_id: turn.as_str().into(),
                    call_id: id.as_str().into(),
                    tool: name.into(),
                    tool_type: Some(tool_type.into()),
                    item_type: bounded(text(&item.kind), 64).into(),
                    agent: Some(agent.unwrap_or_else(|| "codex".to_owned()).into()),
                    mcp_method: mcp.then(|| "tools/call".into()),
                    mcp_server: some(&item.server).map(|it| bounded(it, 128).into()),
                    plugin_id: some(&item.plugin_id).map(|it| bounded(it, 256).into()),
                    connector_id: item
                        .app_context
                        .as_ref()
                        .and_then(|app| some(&app.connector_id))
                        .map(Text::from),
                    arguments: self.arguments(item).map(Text::from),
                    command_line: self.command_line(item.command).map(Text::from),
                    cwd: some(&item.cwd).map(Text::from),
                    path: some(&item.path).map(Text::from),
                };
                let spawn = text(&item.kind) == "collabAgentToolCall" && text(&item.tool) == "spawnAgent";
                let what = if spawn { What::Spawn } else { What::Tool };
                (start.start(&envelope, self.capture), what)
            }
        };
        if self.items.len() >= self.limits.items {
            self.forget_item(now);
        }
        let order = self.last_ns.wrapping_add(self.items.len() as u64);
        let server = some(&item.server).map(str::to_owned);
        let mut open = OpenItem { span, span_id, started, order, what, server, agents: Vec::new() };
        if wakes(item) {
            self.name_agents(item, &mut open);
        }
        self.items.insert(key.clone(), open);
    }

    fn compaction(&mut self, thread: &str, turn: &str, id: &str, envelope: &Envelope) -> Span {
        let sampled = self.turns.get(turn).is_some_and(|turn| turn.sampled);
        let state = self.threads.get_mut(thread);
        let asked = state.map(|state| (std::mem::take(&mut state.compaction_asked), state.in_use));
        let (manual, before) = asked.unwrap_or_default();
        let start = CompactionStart {
            thread_id: thread.into(),
            turn_id: turn.into(),
            item_id: id.into(),
            trigger: if manual { "manual" } else { "auto" }.into(),
            phase: match (manual, sampled) {
                (true, _) => "standalone_turn",
                (false, true) => "mid_turn",
                (false, false) => "pre_turn",
            }
            .into(),
            tokens_before: before,
        };
        start.start(envelope, self.capture)
    }

    pub(super) fn compaction_asked(&mut self, asked: &super::Asked) {
        if let Some(state) = asked.thread.as_deref().and_then(|thread| self.threads.get_mut(thread)) {
            state.compaction_asked = true;
        }
    }

    pub(super) fn item_completed(&mut self, now: Now, notice: &ItemNotice<'_>) {
        let Some((item, thread, turn)) = parts(notice) else { return self.count("missing_context") };
        let Some(kind) = tool_name(item) else { return self.said(item, turn) };
        let turn = self.aliases.get(turn).map_or(turn, String::as_str).to_owned();
        let key = (turn, text(&item.id).to_owned());
        let completed =
            item.completed_at_ms.or(notice.completed_at_ms).map(|ms| ms.saturating_mul(1_000_000));
        let id = xxh3_64(key.1.as_bytes());
        if !self.items.contains_key(&key) {
            if self.turns.get(&key.0).is_some_and(|turn| turn.done.contains(&id)) {
                return self.count("repeated");
            }
            // Only an end that says when it began can stand for the whole; a repeated one has no open start.
            let began = item.started_at_ms.map(|ms| ms.saturating_mul(1_000_000));
            match began {
                Some(began) if self.turns.contains_key(&key.0) && !key.1.is_empty() => {
                    self.count("item_without_start");
                    self.open_item(now, item, thread, &key, kind, began);
                }
                _ => return self.count("missing_context"),
            }
        }
        let Some(mut open) = self.items.remove(&key) else { return };
        if let Some(turn) = self.turns.get_mut(&key.0)
            && turn.done.len() < 65_536
        {
            turn.done.insert(id);
        }
        if wakes(item) {
            self.name_agents(item, &mut open);
            for agent in open.agents.clone() {
                self.subagent_appeared(&agent, thread, some(&item.model), some(&item.reasoning_effort), now);
            }
        }
        let end = End {
            time: completed.unwrap_or(now.time).max(open.started),
            observed: now.observed,
            start: 0,
            parent: self.place_of_turn(&key.0).map_or(0, |(_, span)| span),
        };
        if open.what == What::Compaction {
            let after = self.threads.get(thread).and_then(|thread| thread.in_use);
            let fact =
                CompactionEnd { status: "completed".into(), tokens_after: after, ..CompactionEnd::default() };
            return fact.end(&open.span, &end, self.capture);
        }
        if let Some(turn) = self.turns.get_mut(&key.0) {
            turn.tools += 1;
        }
        self.tool_end(item, &open).end(&open.span, &end, self.capture);
        self.app_used(now, item, thread, &key);
        if open.what == What::Spawn {
            self.end_waiting(true);
        }
    }

    fn tool_end<'a>(&self, item: &'a Item<'_>, open: &'a OpenItem) -> ToolEnd<'a> {
        let status = match text(&item.status) {
            "" => "completed",
            "inProgress" => "interrupted",
            status => status,
        };
        let failed = status == "failed" || item.success == Some(false);
        let error_type = failed.then(|| match (text(&item.kind), item.exit_code) {
            ("commandExecution", Some(_)) => "exit_code",
            ("mcpToolCall", _) => "tool_error",
            _ => "failed",
        });
        let changes = item.changes.as_deref();
        let changed = |what: &str| {
            changes.map(|all| all.iter().filter(|change| change_kind(change) == what).count() as u64)
        };
        let lines = changes.map(|all| all.iter().map(lines).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)));
        let actions = item.command_actions.iter().flatten().map(|action| bounded(text(&action.kind), 32));
        let parts = |kind: &str| {
            let all = item.content_items.as_ref()?;
            Some(all.iter().filter(|part| text(&part.kind) == kind).count() as u64)
        };
        let image = text(&item.kind) == "imageGeneration";
        let query = has_text(item.query);
        let queries = match &item.action {
            Some(action) if text(&action.kind) == "search" => {
                let many = action.queries.as_ref().map(Vec::len).filter(|many| *many > 0);
                Some(many.unwrap_or(usize::from(has_text(action.query) || query)) as u64)
            }
            Some(_) => None,
            None => query.then_some(1),
        };
        // What the item names at its end; one that names nobody then may have at its start.
        let receivers = item.receiver_thread_ids.iter().flatten().map(|id| &*id.0);
        let named: List<'_> = receivers.chain(some(&item.agent_thread_id)).take(256).collect();
        let states = item.agents_states.as_ref();
        let count_states = |wanted: &[&str]| {
            Some(states?.values().filter(|state| wanted.contains(&text(&state.status))).count() as u64)
        };
        ToolEnd {
            status: bounded(status, 64).into(),
            error_type: error_type.map(Text::from),
            execution_s: item.duration_ms.map(|ms| ms as f64 / 1e3),
            exit_code: item.exit_code,
            source: some(&item.source).map(|it| bounded(it, 64).into()),
            script: item
                .plugin_id
                .as_ref()
                .and_then(|_| some(&item.script_path))
                .filter(|path| safe(path))
                .map(Text::from),
            success: item.success,
            mcp_error: (text(&item.kind) == "mcpToolCall").then(|| given(item.error)),
            output_count: item.content_items.as_ref().map(|parts| parts.len() as u64),
            output_text_count: parts("inputText"),
            output_image_count: parts("inputImage"),
            output_audio_count: parts("inputAudio"),
            query: (text(&item.kind) == "webSearch").then_some(query),
            query_count: queries,
            revised_prompt: image.then(|| given(item.revised_prompt)),
            saved: image.then(|| given(item.saved_path)),
            transparent: item.transparent_background,
            generation_id: some(&item.generation_id).map(|it| bounded(it, 128).into()),
            sender_id: some(&item.sender_thread_id).map(Text::from),
            agent_count: states.map(|all| all.len() as u64),
            agents_completed: count_states(&["completed"]),
            agents_failed: count_states(&["errored", "shutdown", "notFound"]),
            agents: if named.0.is_empty() { open.agents.iter().map(String::as_str).collect() } else { named },
            agent_model: some(&item.model).map(|it| bounded(it, 128).into()),
            agent_effort: some(&item.reasoning_effort).map(|it| bounded(it, 64).into()),
            added: changed("add"),
            modified: changed("update"),
            deleted: changed("delete"),
            moved: changes.map(|all| all.iter().filter(|change| moved(change)).count() as u64),
            lines_added: lines.map(|(added, _)| added),
            lines_removed: lines.map(|(_, removed)| removed),
            actions: actions.take(256).collect(),
            search_action: item
                .action
                .as_ref()
                .and_then(|action| some(&action.kind))
                .map(|it| bounded(it, 64).into()),
            result: self.result(item).map(Text::from),
            message: self.tool_error(item).map(Text::from),
            search_query: self.search_query(item).map(Text::from),
            paths: changes.iter().copied().flatten().map(|change| text(&change.path)).take(256).collect(),
            ..ToolEnd::default()
        }
    }

    fn app_used(&self, now: Now, item: &Item<'_>, thread: &str, key: &(String, String)) {
        let Some(app) = &item.app_context else { return };
        let Some(connector) = some(&app.connector_id) else { return };
        // Asked, somebody said no: the app got nothing.
        let error: TurnError<'_> = read(item.error);
        let said = text(&error.message);
        if said.starts_with("user rejected") || said.starts_with("user cancelled") {
            return;
        }
        let mentioned = self.catalogue.mentioned(&key.0, connector);
        let state = self.threads.get(thread);
        let fact = AppUsed {
            thread_id: Some(thread.into()),
            turn_id: Some(key.0.as_str().into()),
            call_id: Some(key.1.as_str().into()),
            connector_id: Some(bounded(connector, 256).into()),
            app_name: some(&app.app_name).map(|name| bounded(name, 256).into()),
            invocation_type: Some(if mentioned { "explicit" } else { "implicit" }.into()),
            model: state.and_then(|state| state.model.as_deref()).map(Text::from),
            product_client_id: self.product_of(thread).map(Text::from),
        };
        let place = self.place_of_turn(&key.0);
        fact.emit(&self.envelope(now, place), self.capture);
    }

    fn name_agents(&mut self, item: &Item<'_>, open: &mut OpenItem) {
        let receivers = item.receiver_thread_ids.iter().flatten().map(|id| &*id.0);
        for agent in receivers.chain(some(&item.agent_thread_id)).take(256) {
            if open.agents.iter().any(|known| known == agent) {
                continue;
            }
            open.agents.push(agent.to_owned());
            let calls = self.wakes.entry(agent.to_owned()).or_default();
            // Only the latest before a turn matters.
            if calls.len() >= 256 {
                calls.remove(0);
            }
            calls.push(Wake { started: open.started, span: open.span_id });
        }
    }

    /// Whether a call that spawns a subagent has not yet said which.
    pub(super) fn spawning(&self) -> bool {
        self.items.values().any(|item| item.what == What::Spawn)
    }

    /// The call of an MCP server that is open in a turn, if there is just one.
    pub(super) fn open_call(&self, turn: &str, server: &str) -> Option<&str> {
        let of = |(key, item): &(&(String, String), &OpenItem)| {
            key.0 == turn && item.server.as_deref() == Some(server)
        };
        let mut open = self.items.iter().filter(of).map(|((_, call), _)| call.as_str());
        open.next().filter(|_| open.next().is_none())
    }

    // The oldest that is open ends as if its turn had ended.
    fn forget_item(&mut self, now: Now) {
        let oldest = self.items.iter().min_by_key(|(_, item)| item.order).map(|(key, _)| key.clone());
        if let Some(item) = oldest.and_then(|key| self.items.remove(&key)) {
            self.count("forgotten");
            self.interrupt_item(now, &item, now.time, 0);
        }
    }

    fn interrupt_item(&self, now: Now, item: &OpenItem, at: u64, parent: u64) {
        let end = End { time: at.max(item.started), observed: now.observed, start: 0, parent };
        match item.what {
            What::Compaction => CompactionEnd {
                status: "interrupted".into(),
                end_observed: Some(false),
                ..CompactionEnd::default()
            }
            .end(&item.span, &end, self.capture),
            What::Tool | What::Spawn => ToolEnd {
                status: "interrupted".into(),
                end_observed: Some(false),
                agents: item.agents.iter().map(String::as_str).collect(),
                ..ToolEnd::default()
            }
            .end(&item.span, &end, self.capture),
        }
    }

    /// Ends items that nobody saw end, at the end of their turn. An item may complete after its turn, so
    /// this is done when nothing more can come.
    pub(super) fn close_items(&mut self, now: Now) {
        let mut keys: Vec<_> = self
            .items
            .iter()
            .filter(|((turn, _), _)| !self.turns.contains_key(turn))
            .map(|(key, item)| (item.started, key.clone()))
            .collect();
        keys.sort_unstable();
        for (_, key) in keys {
            let Some(item) = self.items.remove(&key) else { continue };
            let turn = self.finished.get(&key.0);
            let (at, parent) = turn.map_or((now.time, 0), |turn| (turn.time, turn.span));
            self.interrupt_item(now, &item, at, parent);
        }
        self.close_hooks(now);
    }

    /// A failed compaction has no `item/completed`: the turn's error ends it.
    pub(super) fn fail_compactions(
        &mut self,
        now: Now,
        turn: &str,
        kind: Option<String>,
        status: Option<u64>,
    ) {
        let failed = CompactionEnd {
            status: "failed".into(),
            error_type: Some("failed".into()),
            error_kind: kind.map(Text::from),
            http_status: status,
            ..CompactionEnd::default()
        };
        self.end_compactions_as(now, turn, &failed);
    }

    /// A compaction that is open when its turn ends was interrupted with it.
    pub(super) fn end_compactions(&mut self, now: Now, turn: &str) {
        let interrupted = CompactionEnd { status: "interrupted".into(), ..CompactionEnd::default() };
        self.end_compactions_as(now, turn, &interrupted);
    }

    fn end_compactions_as(&mut self, now: Now, turn: &str, fact: &CompactionEnd<'_>) {
        let of =
            |(key, item): &(&(String, String), &OpenItem)| key.0 == turn && item.what == What::Compaction;
        let keys: Vec<_> = self.items.iter().filter(of).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(item) = self.items.remove(&key) else { continue };
            let end = End { time: now.time.max(item.started), observed: now.observed, ..End::default() };
            fact.end(&item.span, &end, self.capture);
        }
    }
}

fn parts<'b>(notice: &'b ItemNotice<'_>) -> Option<(&'b Item<'b>, &'b str, &'b str)> {
    Some((notice.item.as_ref()?, some(&notice.thread_id)?, some(&notice.turn_id)?))
}
