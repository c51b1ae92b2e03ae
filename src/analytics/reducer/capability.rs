//! Skills, apps, plugins, hooks and imports: what extends the agent.

use xxhash_rust::xxh3::xxh3_64;

use super::Reducer;
use super::state::{label, owned};
use super::thread::snake;
use crate::analytics::event::{self, PluginBase};
use crate::fact::vocabulary::{
    AppMentioned, AppUsed, HookEnd, HookStart, ImportCompleted, ImportFailed, PluginInstallFailed,
    PluginStateChanged, PluginUsed, SkillInvoked,
};
use crate::fact::{List, Text};

/// Uses that are remembered so as not to be told twice; all are forgotten at once, as the server does.
const USED: usize = 4096;

impl Reducer {
    fn model(
        &mut self,
        thread: &Option<Text<'_>>,
        turn: &Option<Text<'_>>,
        said: &Option<Text<'_>>,
    ) -> Option<event::Label> {
        let known = thread.as_deref().and_then(|id| self.threads.get(id));
        known.and_then(|thread| thread.model(turn.as_deref().unwrap_or(""))).or_else(|| label(said))
    }

    fn is_first_use(&mut self, parts: [&str; 3]) -> bool {
        if self.used.len() >= USED {
            self.used.clear();
        }
        let key = parts.join("\0");
        self.used.insert(xxh3_64(key.as_bytes()))
    }

    pub(super) fn skill_invoked(&mut self, fact: &SkillInvoked<'static>) {
        let voice = fact.thread_id.as_deref().and_then(|id| self.threads.get(id)?.voice.as_deref());
        let event = event::SkillInvocation {
            skill_id: owned(&fact.skill_id),
            skill_name: fact.skill_name.to_string(),
            event_params: event::SkillParams {
                voice_session_id: voice.map(str::to_owned),
                product_client_id: self.product(&fact.thread_id, &fact.product_client_id),
                skill_scope: owned(&fact.scope),
                plugin_id: owned(&fact.plugin_id),
                remote_plugin_id: None,
                thread_id: owned(&fact.thread_id),
                turn_id: owned(&fact.turn_id),
                invoke_type: owned(&fact.invocation_type),
                model_slug: self.model(&fact.thread_id, &fact.turn_id, &fact.model),
            },
        };
        self.out.push(event.into());
    }

    pub(super) fn app_mentioned(&mut self, fact: &AppMentioned<'static>) {
        let event = event::AppMentioned {
            connector_id: owned(&fact.connector_id),
            thread_id: owned(&fact.thread_id),
            turn_id: owned(&fact.turn_id),
            app_name: owned(&fact.app_name),
            product_client_id: self.product(&fact.thread_id, &fact.product_client_id),
            invoke_type: owned(&fact.invocation_type),
            model_slug: self.model(&fact.thread_id, &fact.turn_id, &fact.model),
        };
        self.out.push(event.into());
    }

    pub(super) fn app_used(&mut self, fact: &AppUsed<'static>) {
        if let (Some(turn), Some(connector)) = (fact.turn_id.as_deref(), fact.connector_id.as_deref())
            && !self.is_first_use(["app", turn, connector])
        {
            return;
        }
        let voice = fact.thread_id.as_deref().and_then(|id| self.threads.get(id)?.voice.as_deref());
        let event = event::AppUsed {
            voice_session_id: voice.map(str::to_owned),
            app: event::AppMentioned {
                connector_id: owned(&fact.connector_id),
                thread_id: owned(&fact.thread_id),
                turn_id: owned(&fact.turn_id),
                app_name: owned(&fact.app_name),
                product_client_id: self.product(&fact.thread_id, &fact.product_client_id),
                invoke_type: owned(&fact.invocation_type),
                model_slug: self.model(&fact.thread_id, &fact.turn_id, &fact.model),
            },
            elicitation_type: None,
        };
        self.out.push(event.into());
    }

    pub(super) fn plugin_used(&mut self, fact: &PluginUsed<'static>) {
        if !self.is_first_use(["plugin", fact.turn_id.as_deref().unwrap_or(""), &fact.plugin_id]) {
            return;
        }
        let was_read = fact.has_skills.is_some();
        let event = event::PluginUsed {
            plugin: PluginBase {
                plugin_id: Some(fact.plugin_id.to_string()),
                remote_plugin_id: owned(&fact.remote_plugin_id),
                plugin_name: owned(&fact.plugin_name),
                marketplace_name: owned(&fact.marketplace),
                has_skills: fact.has_skills,
                mcp_server_count: fact.mcp_server_count,
                connector_ids: list(&fact.connector_ids, was_read),
                product_client_id: self.product(&fact.thread_id, &fact.product_client_id),
            },
            mcp_server_names: list(&fact.mcp_servers, was_read),
            thread_id: owned(&fact.thread_id),
            turn_id: owned(&fact.turn_id),
            model_slug: self.model(&fact.thread_id, &fact.turn_id, &fact.model),
        };
        self.out.push(event.into());
    }

    pub(super) fn plugin_changed(&mut self, fact: &PluginStateChanged<'static>) {
        if fact.reported == Some(false) {
            return;
        }
        let plugin = PluginBase {
            plugin_id: Some(fact.plugin_id.to_string()),
            remote_plugin_id: owned(&fact.remote_plugin_id),
            plugin_name: owned(&fact.plugin_name),
            marketplace_name: owned(&fact.marketplace),
            has_skills: fact.has_skills,
            mcp_server_count: fact.mcp_server_count,
            connector_ids: list(&fact.connector_ids, fact.has_skills.is_some()),
            product_client_id: label(&fact.product_client_id),
        };
        let event = match &*fact.state {
            "installed" => event::PluginInstalled { plugin }.into(),
            "uninstalled" => event::PluginUninstalled { plugin }.into(),
            "enabled" => event::PluginEnabled { plugin }.into(),
            "disabled" => event::PluginDisabled { plugin }.into(),
            _ => return,
        };
        self.out.push(event);
    }

    pub(super) fn plugin_install_failed(&mut self, fact: &PluginInstallFailed<'static>) {
        let event = event::PluginInstallFailed {
            plugin: PluginBase {
                plugin_id: owned(&fact.plugin_id),
                remote_plugin_id: None,
                plugin_name: owned(&fact.plugin_name),
                marketplace_name: owned(&fact.marketplace),
                has_skills: fact.has_skills,
                mcp_server_count: fact.mcp_server_count,
                connector_ids: list(&fact.connector_ids, fact.has_skills.is_some()),
                product_client_id: label(&fact.product_client_id),
            },
            source: "manual",
            error_type: fact.error_type.to_string(),
            sub_error_type: None,
        };
        self.out.push(event.into());
    }

    pub(super) fn hook_ended(&mut self, start: &HookStart<'static>, fact: &HookEnd<'static>) {
        // One that nobody saw end is still running for all that is known.
        if fact.end_observed == Some(false) {
            return;
        }
        if start.event == "userPromptSubmit"
            && matches!(&*fact.status, "blocked" | "stopped")
            && let Some(turn) = start.turn_id.as_deref()
            && let Some(turn) =
                self.threads.get_mut(&*start.thread_id).and_then(|thread| thread.running(turn))
        {
            turn.blocked = true;
        }
        let thread = Some(start.thread_id.clone());
        let event = event::HookRun {
            thread_id: start.thread_id.to_string(),
            turn_id: owned(&start.turn_id),
            product_client_id: self.product_of_connection(&start.thread_id),
            model_slug: self.model(&thread, &start.turn_id, &None),
            hook_name: pascal(&start.event),
            hook_source: start.source.as_deref().map(snake),
            handler_type: start.handler_type.as_deref().map(snake),
            execution_mode: start.execution_mode.as_deref().map(snake),
            status: match &*fact.status {
                "completed" => "completed",
                "blocked" => "blocked",
                "stopped" => "stopped",
                _ => "failed",
            },
        };
        self.out.push(event.into());
    }

    pub(super) fn product_of_connection(&self, thread: &str) -> Option<event::Label> {
        let known = self.threads.get(thread)?;
        let of_connection = || self.connections.get(&known.connection)?.client.product_client_id.clone();
        known.originator.clone().or_else(of_connection)
    }

    pub(super) fn imported(&mut self, fact: &ImportCompleted<'static>) {
        let event = event::ImportComplete {
            import_id: fact.import_id.to_string(),
            source: owned(&fact.source).unwrap_or_default(),
            provider_id: owned(&fact.provider).unwrap_or_default(),
            r#type: fact.item_type.to_string(),
            success_count: fact.success_count,
            failed_count: fact.failure_count,
            product_client_id: label(&fact.product_client_id),
        };
        self.out.push(event.into());
    }

    pub(super) fn import_failed(&mut self, fact: &ImportFailed<'static>) {
        let event = event::ImportFailure {
            import_id: fact.import_id.to_string(),
            source: owned(&fact.source).unwrap_or_default(),
            provider_id: owned(&fact.provider).unwrap_or_default(),
            r#type: fact.item_type.to_string(),
            failure_stage: owned(&fact.stage),
            error_type: fact.error_type.to_string(),
            sub_error_type: owned(&fact.sub_error_type),
            product_client_id: label(&fact.product_client_id),
        };
        self.out.push(event.into());
    }
}

// An empty list is one that was read; what was never read is not known.
fn list(list: &List<'_>, was_read: bool) -> Option<Vec<String>> {
    let texts: Vec<String> = list.0.iter().map(|text| text.to_string()).collect();
    (was_read || !texts.is_empty()).then_some(texts)
}

fn pascal(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}
