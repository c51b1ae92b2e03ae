//! Guardian, goals, skills, apps, plugins and imports: what extends the agent.

use serde_json::Value;

use super::connection::Asked;
use super::frame::Answer;
use super::known::{Plugin, Use, plugin_parts};
use super::mention::{Mention, mentions};
use super::wire::{Elicitation, GoalNotice, GuardianNotice, ImportNotice, Input, some, text};
use super::{Now, Observer, bounded};
use crate::fact::vocabulary::{
    AppMentioned, GoalChanged, GuardianReviewed, ImportCompleted, ImportFailed, PluginInstallFailed,
    PluginStateChanged, PluginUsed, SkillInvoked, ToolElicited,
};
use crate::fact::{Point, Text};

impl Observer {
    pub(super) fn product_of(&self, thread: &str) -> Option<&str> {
        let own = self.threads.get(thread).and_then(|thread| thread.originator.as_deref());
        own.or(self.originator.as_deref())
    }

    /// What the input of a turn names: skills, apps and plugins, as items or in a text.
    pub(super) fn uses(&self, input: &[Input<'_>]) -> Vec<Use> {
        let mut uses = Vec::new();
        for part in input.iter().take(256) {
            let (name, path) = (some(&part.name), some(&part.path));
            match (text(&part.kind), path) {
                ("skill", _) => {
                    let exists = |name: &&str| {
                        !self.catalogue.skills_listed || self.catalogue.skills_named(name).next().is_some()
                    };
                    if let Some(name) = name.filter(exists) {
                        let known = self.catalogue.skill_at(name, path);
                        let path = known.and_then(|skill| skill.path.as_deref()).or(path);
                        let path = path.map(|path| bounded(path, 1024).to_owned());
                        uses.push(Use::Skill { name: bounded(name, 256).to_owned(), path });
                    }
                }
                ("mention", Some(path)) => {
                    if let Some(id) = path.strip_prefix("app://") {
                        uses.push(Use::App(bounded(id, 256).to_owned()));
                    } else if let Some(id) = path.strip_prefix("plugin://") {
                        uses.push(Use::Plugin(bounded(id, 256).to_owned()));
                    }
                }
                ("text", _) => {
                    uses.extend(mentions(text(&part.text)).filter_map(|it| self.use_of(&it)));
                }
                _ => {}
            }
        }
        let mut seen: Vec<Use> = Vec::new();
        uses.retain(|it| {
            let new = !seen.contains(it);
            if new {
                seen.push(it.clone());
            }
            new
        });
        uses
    }

    fn use_of(&self, mention: &Mention<'_>) -> Option<Use> {
        let (name, skill) = match mention {
            // What nobody listed may be any words of the prompt.
            Mention::App(id) if !self.catalogue.apps.contains_key(*id) => return None,
            Mention::App(id) => return Some(Use::App((*id).to_owned())),
            Mention::Plugin(id) => return Some(Use::Plugin(bounded(id, 256).to_owned())),
            Mention::SkillAt(path) => self.catalogue.skill_of_path(path)?,
            Mention::Skill(name) => {
                // A name of several says none of them.
                let mut named = self.catalogue.skills_named(name);
                let (skill, None) = (named.next()?, named.next()) else { return None };
                (*name, skill)
            }
        };
        Some(Use::Skill { name: name.to_owned(), path: skill.path.clone() })
    }

    /// Says what the prompt of a turn named.
    pub(super) fn used(&mut self, now: Now, thread: &str, turn: &str, uses: &[Use]) {
        if uses.is_empty() {
            return;
        }
        let place = self.place_of_turn(turn);
        let envelope = self.envelope(now, place);
        let state = self.threads.get(thread);
        let model = state.and_then(|state| state.model.clone());
        let disabled = state.map(|state| state.disabled_plugins.clone()).unwrap_or_default();
        let product = self.product_of(thread).map(str::to_owned);
        let (thread_id, turn_id) = (Some(Text::from(thread)), Some(Text::from(turn)));
        let model = model.as_deref().map(Text::from);
        let product = product.as_deref().map(Text::from);
        for it in uses {
            match it {
                Use::Skill { name, path } => {
                    let path = path.as_deref();
                    let known = self.catalogue.skill_at(name, path);
                    let id = path.and_then(|path| {
                        self.catalogue.skill_id(self.home.as_deref(), self.files, name, path)
                    });
                    SkillInvoked {
                        thread_id: thread_id.clone(),
                        turn_id: turn_id.clone(),
                        skill_name: name.as_str().into(),
                        skill_id: id.map(Text::from),
                        plugin_id: known.and_then(|skill| skill.plugin.as_deref()).map(Text::from),
                        invocation_type: Some("explicit".into()),
                        scope: known.and_then(|skill| skill.scope.as_deref()).map(Text::from),
                        model: model.clone(),
                        product_client_id: product.clone(),
                        path: path.map(Text::from),
                    }
                    .emit(&envelope, self.capture);
                }
                Use::App(id) => {
                    AppMentioned {
                        thread_id: thread_id.clone(),
                        turn_id: turn_id.clone(),
                        connector_id: Some(id.as_str().into()),
                        app_name: self
                            .catalogue
                            .apps
                            .get(id)
                            .and_then(|name| name.as_deref())
                            .map(Text::from),
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
                Use::Plugin(id) if !self.catalogue.uses_plugin(id, &disabled) => {}
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
                        mcp_server_count: plugin.mcp_servers.as_ref().map(|servers| servers.len() as u64),
                        connector_ids: plugin.connectors.iter().map(String::as_str).collect(),
                        mcp_servers: plugin.mcp_servers.iter().flatten().map(String::as_str).collect(),
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
            Answer::Result(result)
                if ["skills/", "plugin/", "app/", "externalAgentConfig/"]
                    .iter()
                    .any(|it| method.starts_with(it)) =>
            {
                serde_json::from_str::<Value>(result.get()).unwrap_or_default()
            }
            _ => Value::Null,
        };
        let ok = matches!(answer, Answer::Result(_));
        match method {
            "skills/list" if ok => self.catalogue.learn_skills(&result),
            "plugin/list" | "plugin/installed" | "plugin/read" => self.catalogue.learn_plugins(&result),
            "app/list" | "app/installed" => self.catalogue.learn_apps(&result),
            "plugin/install" => self.plugin_installed(now, asked, answer),
            "externalAgentConfig/import" if ok => self.import_asked(&asked.read(), &result),
            "plugin/uninstall" if ok => {
                let params: Value = asked.read();
                if let Some(id) = params.get("pluginId").and_then(Value::as_str)
                    && self.catalogue.plugins.get(id).is_some_and(|plugin| plugin.installed)
                {
                    self.plugin_state(now, id, "uninstalled", true);
                    self.change_plugin(id, |plugin| plugin.installed = false);
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

    fn plugin_installed(&mut self, now: Now, asked: &Asked, answer: &Answer<'_>) {
        let params: Value = asked.read();
        let Some(name) = params.get("pluginName").and_then(Value::as_str) else { return };
        let name = bounded(name, 256);
        let path = params.get("marketplacePath").and_then(Value::as_str);
        let said =
            params.get("marketplaceName").and_then(Value::as_str).map(|it| bounded(it, 256).to_owned());
        let marketplace = said.or_else(|| self.catalogue.marketplaces.get(path?).cloned());
        let id = match &marketplace {
            Some(marketplace) => format!("{name}@{marketplace}"),
            None => self
                .catalogue
                .plugins
                .keys()
                .find(|id| plugin_parts(id).0 == name)
                .map_or(name, |id| id)
                .to_owned(),
        };
        let failure = match answer {
            Answer::Error(failure) => failure,
            Answer::Result(_) => {
                self.change_plugin(&id, |plugin| (plugin.installed, plugin.enabled) = (true, true));
                return self.plugin_state(now, &id, "installed", true);
            }
        };
        let plugin = self.catalogue.plugins.get(&id).cloned().unwrap_or_default();
        let fact = PluginInstallFailed {
            plugin_id: marketplace.is_some().then(|| id.as_str().into()),
            plugin_name: Some(name.into()),
            marketplace: marketplace.as_deref().map(Text::from),
            has_skills: plugin.has_skills,
            mcp_server_count: plugin.mcp_servers.as_ref().map(|servers| servers.len() as u64),
            connector_ids: plugin.connectors.iter().map(String::as_str).collect(),
            error_type: install_failure(&failure.message).into(),
            product_client_id: self.originator.as_deref().map(Text::from),
        };
        fact.emit(&self.envelope(now, None), self.capture);
    }

    fn change_plugin(&mut self, id: &str, change: impl FnOnce(&mut Plugin)) {
        let known = self.catalogue.plugins.len();
        if known < 4096 || self.catalogue.plugins.contains_key(id) {
            change(self.catalogue.plugins.entry(bounded(id, 256).to_owned()).or_default());
        }
    }

    // `plugins."ID".enabled` with a flag, `plugins."ID"` with an object that has it, or `plugins` with an object of those.
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
                self.plugin_state(now, &id, state(enabled), true);
                self.change_plugin(&id, |plugin| plugin.enabled = enabled);
            }
            return;
        }
        let Some(id) = path.strip_prefix("plugins.") else { return };
        let flag = match id.strip_suffix(".enabled") {
            Some(id) => (id, value.as_bool()),
            None => (id, value.get("enabled").and_then(Value::as_bool)),
        };
        if let (id, Some(enabled)) = flag {
            let plain = id.trim_matches('"').to_owned();
            self.plugin_state(now, &plain, state(enabled), plain == id);
            self.change_plugin(&plain, |plugin| plugin.enabled = enabled);
        }
    }

    fn plugin_state(&mut self, now: Now, id: &str, state: &'static str, reported: bool) {
        let plugin = self.catalogue.plugins.get(id).cloned().unwrap_or_default();
        let (name, marketplace) = plugin_parts(id);
        let fact = PluginStateChanged {
            plugin_id: id.into(),
            state: state.into(),
            reported: (!reported).then_some(false),
            remote_plugin_id: plugin.remote_id.as_deref().map(Text::from),
            plugin_name: Some(name.into()),
            marketplace: marketplace.map(Text::from),
            has_skills: plugin.has_skills,
            mcp_server_count: plugin.mcp_servers.as_ref().map(|servers| servers.len() as u64),
            connector_ids: plugin.connectors.iter().map(String::as_str).collect(),
            mcp_servers: plugin.mcp_servers.iter().flatten().map(String::as_str).collect(),
            product_client_id: self.originator.as_deref().map(Text::from),
        };
        fact.emit(&self.envelope(now, None), self.capture);
    }

    pub(super) fn guardian_reviewed(&mut self, now: Now, notice: &GuardianNotice<'_>) {
        let review = notice.review.as_ref();
        let turn =
            some(&notice.turn_id).map(|turn| self.aliases.get(turn).map_or(turn, String::as_str).to_owned());
        let place = turn.as_deref().and_then(|turn| self.place_of_turn(turn));
        let took = notice.completed_at_ms.zip(notice.started_at_ms);
        let action = notice.action.as_ref();
        let fact = GuardianReviewed {
            thread_id: text(&notice.thread_id).into(),
            turn_id: turn.as_deref().map(Text::from),
            call_id: some(&notice.target_item_id).map(Text::from),
            review_id: some(&notice.review_id).map(Text::from),
            decision: review.map_or("", |review| text(&review.status)).into(),
            subject: action.and_then(|action| some(&action.kind)).map(|it| bounded(it, 64).into()),
            action_source: action.and_then(|action| some(&action.source)).map(|it| bounded(it, 64).into()),
            tool: action
                .and_then(|action| some(&action.tool_name).or(some(&action.tool)))
                .map(|it| bounded(it, 128).into()),
            started_at_ms: notice.started_at_ms,
            completed_at_ms: notice.completed_at_ms,
            risk_level: review.and_then(|review| some(&review.risk_level)).map(Text::from),
            user_authorization: review.and_then(|review| some(&review.user_authorization)).map(Text::from),
            decision_source: some(&notice.decision_source).map(Text::from),
            duration_s: took.map(|(end, start)| end.saturating_sub(start) as f64 / 1e3),
            rationale: review
                .and_then(|review| some(&review.rationale))
                .map(|it| bounded(it, super::content::KEPT).into()),
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
            objective: goal
                .and_then(|goal| some(&goal.objective))
                .map(|it| bounded(it, super::content::KEPT).into()),
        };
        fact.emit(&self.envelope(now, place), self.capture);
    }

    fn import_asked(&mut self, params: &Value, result: &Value) {
        let word = |value: &Value, key: &str| {
            value.get(key).and_then(Value::as_str).map(|text| bounded(text, 128).to_owned())
        };
        let (Some(id), source) = (word(result, "importId"), word(params, "source")) else { return };
        let provider = word(params, "providerId").or_else(|| word(params, "provider"));
        self.imports.push_back((id, source, provider));
        if self.imports.len() > 256 {
            self.imports.pop_front();
        }
    }

    pub(super) fn imported(&mut self, now: Now, notice: &ImportNotice<'_>) {
        let asked = self.imports.iter().find(|(id, ..)| *id == text(&notice.import_id));
        let (source, provider) =
            asked.map_or((None, None), |(_, source, provider)| (source.as_deref(), provider.as_deref()));
        let product = self.originator.as_deref().map(Text::from);
        let envelope = self.envelope(now, None);
        for result in notice.item_type_results.iter().flatten().take(64) {
            let item_type = Text::from(bounded(text(&result.item_type), 64));
            ImportCompleted {
                import_id: text(&notice.import_id).into(),
                item_type: item_type.clone(),
                success_count: result.successes.as_ref().map_or(0, Vec::len) as u64,
                failure_count: result.failures.as_ref().map_or(0, Vec::len) as u64,
                provider: provider.map(Text::from),
                source: source.map(Text::from),
                product_client_id: product.clone(),
            }
            .emit(&envelope, self.capture);
            for failure in result.failures.iter().flatten().take(256) {
                let word = |keys: [&str; 2]| {
                    let found = keys.iter().find_map(|key| failure.get(key).and_then(Value::as_str));
                    found.map(|text| Text::from(bounded(text, 64)))
                };
                ImportFailed {
                    import_id: text(&notice.import_id).into(),
                    item_type: item_type.clone(),
                    stage: word(["failureStage", "stage"]),
                    error_type: word(["errorType", "type"]).unwrap_or_else(|| "_OTHER".into()),
                    sub_error_type: word(["subErrorType", "subType"]),
                    provider: provider.map(Text::from),
                    source: source.map(Text::from),
                    product_client_id: product.clone(),
                }
                .emit(&envelope, self.capture);
            }
        }
    }

    /// An MCP server asks something of its own; what the agent's own gate asks has a mark.
    pub(super) fn elicited(&mut self, now: Now, asked: &Elicitation<'_>) {
        if asked.meta.as_ref().and_then(|meta| meta.get("codex_approval_kind")).is_some() {
            return;
        }
        let turn = text(&asked.turn_id);
        let turn = self.aliases.get(turn).map_or(turn, String::as_str).to_owned();
        let call = self.open_call(&turn, text(&asked.server_name));
        let fact = ToolElicited {
            thread_id: some(&asked.thread_id).map(Text::from),
            turn_id: Some(turn.as_str().into()),
            call_id: call.map(Text::from),
            elicitation: if text(&asked.mode) == "url" { "auth_or_link" } else { "approval" }.into(),
        };
        let place = self.place_of_turn(&turn);
        fact.emit(&self.envelope(now, place), self.capture);
    }
}

// What the server says of an installation that failed, as the kind it knows.
fn install_failure(message: &str) -> &'static str {
    const SAID: [(&str, &str); 5] = [
        ("was not found in marketplace", "plugin_not_found"),
        ("not found", "plugin_not_found"),
        ("not available", "plugin_not_available"),
        ("invalid", "invalid_plugin"),
        ("failed to", "store_io"),
    ];
    SAID.iter().find(|(part, _)| message.contains(part)).map_or("_OTHER", |(_, kind)| *kind)
}
