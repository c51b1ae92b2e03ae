//! Hooks, guardian, goals, skills, apps, plugins and imports: what extends the agent.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::Value;
use tracing::Span;

use super::connection::Asked;
use super::frame::Answer;
use super::wire::{GoalNotice, GuardianNotice, HookNotice, HookRun, ImportNotice, Input, some, text};
use super::{Now, Observer, bounded};
use crate::fact::ids::{self, SpanKind};
use crate::fact::vocabulary::{
    AppMentioned, GoalChanged, GuardianReviewed, HookEnd, HookStart, ImportCompleted, PluginInstallFailed,
    PluginStateChanged, PluginUsed, SkillInvoked,
};
use crate::fact::{End, Ends, Envelope, Point, Starts, Text};

/// A hook that runs.
#[derive(Debug)]
pub(super) struct OpenHook {
    span: Span,
    turn: String,
    started: u64,
}

/// What the stream said of skills and plugins, and which apps a turn's prompt named.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    skills: BTreeMap<String, Skill>,
    plugins: BTreeMap<String, Plugin>,
    mentioned: VecDeque<(String, String)>,
    runs: HashMap<String, u64>,
}

#[derive(Debug, Clone, Default)]
struct Skill {
    scope: Option<String>,
    path: Option<String>,
}

#[derive(Debug, Clone, Default)]
struct Plugin {
    remote_id: Option<String>,
    has_skills: Option<bool>,
    mcp_servers: Option<u64>,
    connectors: Vec<String>,
}

/// What a prompt names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Use {
    Skill { name: String, path: Option<String> },
    App { id: String, name: Option<String> },
    Plugin(String),
}

impl Catalogue {
    pub fn mentioned(&self, turn: &str, connector: &str) -> bool {
        self.mentioned.iter().any(|(of, id)| of == turn && id == connector)
    }
}

impl Observer {
    pub(super) fn product_of(&self, thread: &str) -> Option<&str> {
        let own = self.threads.get(thread).and_then(|thread| thread.originator.as_deref());
        own.or(self.originator.as_deref())
    }

    /// What the input of a turn names: skills, apps and plugins as items, skills also as `$name` in a text.
    pub(super) fn uses(&self, input: &[Input<'_>]) -> Vec<Use> {
        let mut uses = Vec::new();
        for part in input.iter().take(256) {
            let (name, path) = (some(&part.name), some(&part.path));
            match (text(&part.kind), path) {
                ("skill", _) => {
                    if let Some(name) = name {
                        let path = path.map(|path| bounded(path, 1024).to_owned());
                        uses.push(Use::Skill { name: bounded(name, 256).to_owned(), path });
                    }
                }
                ("mention", Some(path)) => {
                    if let Some(id) = path.strip_prefix("app://") {
                        let name = name.map(|name| bounded(name, 256).to_owned());
                        uses.push(Use::App { id: bounded(id, 256).to_owned(), name });
                    } else if let Some(id) = path.strip_prefix("plugin://") {
                        uses.push(Use::Plugin(bounded(id, 256).to_owned()));
                    }
                }
                ("text", _) => {
                    for name in dollar_names(text(&part.text)) {
                        if self.catalogue.skills.contains_key(name) {
                            uses.push(Use::Skill { name: name.to_owned(), path: None });
                        }
                    }
                }
                _ => {}
            }
        }
        let mut seen: Vec<Use> = Vec::new();
        uses.retain(|it| {
            let new = !seen.iter().any(|other| match (it, other) {
                (Use::Skill { name, .. }, Use::Skill { name: other, .. }) => name == other,
                (it, other) => it == other,
            });
            if new {
                seen.push(it.clone());
            }
            new
        });
        uses
    }

    /// Says what the prompt of a turn named.
    pub(super) fn used(&mut self, now: Now, thread: &str, turn: &str, uses: &[Use]) {
        if uses.is_empty() {
            return;
        }
        let place = self.place_of_turn(turn);
        let envelope = self.envelope(now, place);
        let model = self.threads.get(thread).and_then(|thread| thread.model.clone());
        let product = self.product_of(thread).map(str::to_owned);
        let (thread_id, turn_id) = (Some(Text::from(thread)), Some(Text::from(turn)));
        let model = model.as_deref().map(Text::from);
        let product = product.as_deref().map(Text::from);
        for it in uses {
            match it {
                Use::Skill { name, path } => {
                    let known = self.catalogue.skills.get(name);
                    let path = path.as_deref().or(known.and_then(|skill| skill.path.as_deref()));
                    SkillInvoked {
                        thread_id: thread_id.clone(),
                        turn_id: turn_id.clone(),
                        skill_name: name.as_str().into(),
                        invocation_type: Some("explicit".into()),
                        scope: known.and_then(|skill| skill.scope.as_deref()).map(Text::from),
                        model: model.clone(),
                        product_client_id: product.clone(),
                        path: path.map(Text::from),
                        ..SkillInvoked::default()
                    }
                    .emit(&envelope, self.capture);
                }
                Use::App { id, name } => {
                    AppMentioned {
                        thread_id: thread_id.clone(),
                        turn_id: turn_id.clone(),
                        connector_id: Some(id.as_str().into()),
                        app_name: name.as_deref().map(Text::from),
                        invocation_type: Some("explicit".into()),
                        model: model.clone(),
                        product_client_id: product.clone(),
                    }
                    .emit(&envelope, self.capture);
                    self.catalogue.mentioned.push_back((turn.to_owned(), id.clone()));
                    if self.catalogue.mentioned.len() > 1024 {
                        self.catalogue.mentioned.pop_front();
                    }
                }
                Use::Plugin(id) => {
                    let plugin = self.catalogue.plugins.get(id).cloned().unwrap_or_default();
                    let (name, marketplace) = plugin_parts(id);
                    PluginUsed {
                        thread_id: thread_id.clone(),
                        turn_id: turn_id.clone(),
                        plugin_id: id.as_str().into(),
                        remote_plugin_id: plugin.remote_id.as_deref().map(Text::from),
                        plugin_name: Some(name.into()),
                        marketplace: marketplace.map(Text::from),
                        has_skills: plugin.has_skills,
                        mcp_server_count: plugin.mcp_servers,
                        connector_ids: plugin.connectors.iter().map(String::as_str).collect(),
                        model: model.clone(),
                        product_client_id: product.clone(),
                    }
                    .emit(&envelope, self.capture);
                }
            }
        }
    }

    /// Answers that tell of skills and plugins.
    pub(super) fn extension_answered(&mut self, method: &str, now: Now, asked: &Asked, answer: &Answer<'_>) {
        let result = match answer {
            Answer::Result(result) if method.starts_with("skills/") || method.starts_with("plugin/") => {
                serde_json::from_str::<Value>(result.get()).unwrap_or_default()
            }
            _ => Value::Null,
        };
        let ok = matches!(answer, Answer::Result(_));
        match method {
            "skills/list" => self.learn_skills(&result),
            "plugin/list" | "plugin/installed" | "plugin/read" => self.learn_plugins(&result),
            "plugin/install" => self.plugin_installed(now, asked, ok),
            "plugin/uninstall" if ok => {
                let params: Value = asked.read();
                if let Some(id) = params.get("pluginId").and_then(Value::as_str)
                    && self.catalogue.plugins.contains_key(id)
                {
                    self.plugin_state(now, id, "uninstalled");
                }
            }
            "config/value/write" if ok => self.config_written(now, &asked.read()),
            "config/batchWrite" if ok => {
                let params: Value = asked.read();
                for edit in params.get("edits").and_then(Value::as_array).into_iter().flatten().take(256) {
                    self.config_written(now, edit);
                }
            }
            _ => {}
        }
    }

    fn learn_skills(&mut self, result: &Value) {
        let groups = result.get("data").or_else(|| result.get("skills")).and_then(Value::as_array);
        for group in groups.into_iter().flatten() {
            let skills = group.get("skills").and_then(Value::as_array);
            let single = std::slice::from_ref(group);
            for skill in skills.map_or(single, |skills| skills.as_slice()) {
                let word = |key: &str| skill.get(key).and_then(Value::as_str).map(str::to_owned);
                if let Some(name) = word("name")
                    && self.catalogue.skills.len() < 4096
                {
                    self.catalogue.skills.insert(name, Skill { scope: word("scope"), path: word("path") });
                }
            }
        }
    }

    fn learn_plugins(&mut self, result: &Value) {
        let marketplaces = result.get("marketplaces").and_then(Value::as_array).into_iter().flatten();
        let listed = marketplaces.filter_map(|it| it.get("plugins").and_then(Value::as_array)).flatten();
        let read = result.get("plugin");
        for plugin in listed.chain(read) {
            let summary = plugin.get("summary").unwrap_or(plugin);
            let Some(id) = summary.get("id").and_then(Value::as_str) else { continue };
            if self.catalogue.plugins.len() >= 4096 {
                return;
            }
            let known = self.catalogue.plugins.entry(bounded(id, 256).to_owned()).or_default();
            known.remote_id = summary.get("remotePluginId").and_then(Value::as_str).map(str::to_owned);
            let list = |key: &str| plugin.get(key).and_then(Value::as_array);
            if let Some(skills) = list("skills") {
                known.has_skills = Some(!skills.is_empty());
            }
            if let Some(servers) = list("mcpServers") {
                known.mcp_servers = Some(servers.len() as u64);
            }
            if let Some(apps) = list("apps") {
                let id = |app: &Value| app.get("id").or(Some(app)).and_then(Value::as_str).map(str::to_owned);
                known.connectors = apps.iter().filter_map(id).collect();
            }
        }
    }

    fn plugin_installed(&mut self, now: Now, asked: &Asked, ok: bool) {
        let params: Value = asked.read();
        let Some(name) = params.get("pluginName").and_then(Value::as_str) else { return };
        let name = bounded(name, 256);
        let id = self.catalogue.plugins.keys().find(|id| plugin_parts(id).0 == name).cloned();
        if ok {
            self.plugin_state(now, &id.unwrap_or_else(|| name.to_owned()), "installed");
            return;
        }
        let marketplace = self.catalogue.plugins.keys().find_map(|id| plugin_parts(id).1).map(str::to_owned);
        let fact = PluginInstallFailed {
            plugin_id: marketplace.as_deref().map(|market| format!("{name}@{market}").into()),
            plugin_name: Some(name.into()),
            marketplace: marketplace.as_deref().map(Text::from),
            error_type: "install_failed".into(),
            product_client_id: self.originator.as_deref().map(Text::from),
        };
        fact.emit(&self.envelope(now, None), self.capture);
    }

    // `plugins."ID".enabled` with a flag, or `plugins` with an object of them.
    fn config_written(&mut self, now: Now, edit: &Value) {
        let path = edit.get("keyPath").and_then(Value::as_str).unwrap_or_default();
        let value = edit.get("value").unwrap_or(&Value::Null);
        let state = |enabled: bool| if enabled { "enabled" } else { "disabled" };
        if path == "plugins" {
            let each = value.as_object().into_iter().flatten();
            let changed: Vec<_> = each
                .filter_map(|(id, it)| Some((id.clone(), it.get("enabled")?.as_bool()?)))
                .take(256)
                .collect();
            for (id, enabled) in changed {
                self.plugin_state(now, &id, state(enabled));
            }
        } else if let (Some(id), Some(enabled)) =
            (path.strip_prefix("plugins.").and_then(|rest| rest.strip_suffix(".enabled")), value.as_bool())
        {
            let id = id.trim_matches('"').to_owned();
            self.plugin_state(now, &id, state(enabled));
        }
    }

    fn plugin_state(&mut self, now: Now, id: &str, state: &'static str) {
        let plugin = self.catalogue.plugins.get(id).cloned().unwrap_or_default();
        let (name, marketplace) = plugin_parts(id);
        let fact = PluginStateChanged {
            plugin_id: id.into(),
            state: state.into(),
            remote_plugin_id: plugin.remote_id.as_deref().map(Text::from),
            plugin_name: Some(name.into()),
            marketplace: marketplace.map(Text::from),
            has_skills: plugin.has_skills,
            mcp_server_count: plugin.mcp_servers,
            connector_ids: plugin.connectors.iter().map(String::as_str).collect(),
            product_client_id: self.originator.as_deref().map(Text::from),
        };
        fact.emit(&self.envelope(now, None), self.capture);
    }

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

    pub(super) fn guardian_reviewed(&mut self, now: Now, notice: &GuardianNotice<'_>) {
        let review = notice.review.as_ref();
        let turn =
            some(&notice.turn_id).map(|turn| self.aliases.get(turn).map_or(turn, String::as_str).to_owned());
        let place = turn.as_deref().and_then(|turn| self.place_of_turn(turn));
        let took = notice.completed_at_ms.zip(notice.started_at_ms);
        let fact = GuardianReviewed {
            thread_id: text(&notice.thread_id).into(),
            turn_id: turn.as_deref().map(Text::from),
            call_id: some(&notice.target_item_id).map(Text::from),
            review_id: some(&notice.review_id).map(Text::from),
            decision: review.map_or("", |review| text(&review.status)).into(),
            subject: notice.action.as_ref().and_then(|action| some(&action.kind)).map(Text::from),
            risk_level: review.and_then(|review| some(&review.risk_level)).map(Text::from),
            user_authorization: review.and_then(|review| some(&review.user_authorization)).map(Text::from),
            decision_source: some(&notice.decision_source).map(Text::from),
            duration_s: took.map(|(end, start)| end.saturating_sub(start) as f64 / 1e3),
            rationale: review.and_then(|review| some(&review.rationale)).map(|it| bounded(it, 4096).into()),
        };
        fact.emit(&self.envelope(now, place), self.capture);
    }

    pub(super) fn goal_changed(&mut self, now: Now, notice: &GoalNotice<'_>, action: &'static str) {
        let goal = notice.goal.as_ref();
        let place = some(&notice.turn_id).and_then(|turn| self.place_of_turn(turn));
        let fact = GoalChanged {
            thread_id: text(&notice.thread_id).into(),
            turn_id: some(&notice.turn_id).map(Text::from),
            action: action.into(),
            status: goal.and_then(|goal| some(&goal.status)).map(Text::from),
            token_budget: goal.and_then(|goal| goal.token_budget),
            tokens_used: goal.and_then(|goal| goal.tokens_used),
            time_used_s: goal.and_then(|goal| goal.time_used_seconds),
            created_at: goal.and_then(|goal| goal.created_at),
            updated_at: goal.and_then(|goal| goal.updated_at),
            objective: goal.and_then(|goal| some(&goal.objective)).map(|it| bounded(it, 4096).into()),
        };
        fact.emit(&self.envelope(now, place), self.capture);
    }

    pub(super) fn imported(&mut self, now: Now, notice: &ImportNotice<'_>) {
        for result in notice.item_type_results.iter().flatten().take(64) {
            let fact = ImportCompleted {
                import_id: text(&notice.import_id).into(),
                item_type: bounded(text(&result.item_type), 64).into(),
                success_count: result.successes.as_ref().map_or(0, Vec::len) as u64,
                failure_count: result.failures.as_ref().map_or(0, Vec::len) as u64,
                product_client_id: self.originator.as_deref().map(Text::from),
                ..ImportCompleted::default()
            };
            fact.emit(&self.envelope(now, None), self.capture);
        }
    }
}

// The run's id is the hook's, the same each time; it holds a path, so it is only ever hashed.
fn hook_key(thread: &str, turn: &str, run: &HookRun<'_>) -> String {
    format!("{thread}/{turn}/{}", text(&run.id))
}

fn plugin_parts(id: &str) -> (&str, Option<&str>) {
    match id.split_once('@') {
        Some((name, marketplace)) => (name, Some(marketplace)),
        None => (id, None),
    }
}

// `$name` in a prompt, where name is letters, digits, `-`, `_` and `:`.
fn dollar_names(text: &str) -> impl Iterator<Item = &str> {
    text.split('$').skip(1).take(256).filter_map(|rest| {
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':')))
            .unwrap_or(rest.len());
        rest.get(..end).map(|name| name.trim_end_matches(':')).filter(|name| !name.is_empty())
    })
}
