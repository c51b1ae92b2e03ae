//! Events of what extends the agent: skills, apps, plugins, hooks, imports.

use super::{Label, members};

members! {
    /// `skill_invocation`, whose id and name stand beside its `event_params`.
    SkillInvocation { skill_id: Option<String>, skill_name: String, event_params: SkillParams, }

    /// Members of `skill_invocation`.
    SkillParams {
        product_client_id: Option<Label>, skill_scope: Option<String>, plugin_id: Option<String>,
        remote_plugin_id: Option<String>, thread_id: Option<String>, turn_id: Option<String>,
        voice_session_id: Option<String>, invoke_type: Option<String>, model_slug: Option<Label>,
    }

    /// Members of `codex_app_mentioned`.
    AppMentioned {
        connector_id: Option<String>, thread_id: Option<String>, turn_id: Option<String>,
        app_name: Option<String>, product_client_id: Option<Label>, invoke_type: Option<String>,
        model_slug: Option<Label>,
    }

    /// Members of `codex_app_used`.
    AppUsed {
        #[serde(flatten)] app: AppMentioned,
        voice_session_id: Option<String>, elicitation_type: Option<String>,
    }

    /// Members that the events of plugins have in common.
    PluginBase {
        plugin_id: Option<String>, remote_plugin_id: Option<String>, plugin_name: Option<String>,
        marketplace_name: Option<String>, has_skills: Option<bool>, mcp_server_count: Option<u64>,
        connector_ids: Option<Vec<String>>, product_client_id: Option<Label>,
    }

    /// Members of `codex_plugin_used`.
    PluginUsed {
        #[serde(flatten)] plugin: PluginBase,
        mcp_server_names: Option<Vec<String>>, thread_id: Option<String>, turn_id: Option<String>,
        model_slug: Option<Label>,
    }

    /// Members of `codex_plugin_installed`.
    PluginInstalled { #[serde(flatten)] plugin: PluginBase, }

    /// Members of `codex_plugin_uninstalled`.
    PluginUninstalled { #[serde(flatten)] plugin: PluginBase, }

    /// Members of `codex_plugin_enabled`.
    PluginEnabled { #[serde(flatten)] plugin: PluginBase, }

    /// Members of `codex_plugin_disabled`.
    PluginDisabled { #[serde(flatten)] plugin: PluginBase, }

    /// Members of `codex_plugin_install_failed`.
    PluginInstallFailed {
        #[serde(flatten)] plugin: PluginBase,
        source: &'static str, error_type: String, sub_error_type: Option<String>,
    }

    /// Members of `codex_hook_run`.
    HookRun {
        thread_id: String, turn_id: Option<String>, product_client_id: Option<Label>, model_slug: Option<Label>,
        hook_name: String, hook_source: Option<String>, handler_type: Option<String>,
        execution_mode: Option<String>, status: &'static str,
    }

    /// Members of `codex_onboarding_external_agent_import_complete`.
    ImportComplete {
        import_id: String, source: String, provider_id: String, r#type: String, success_count: u64,
        failed_count: u64, product_client_id: Option<Label>,
    }

    /// Members of `codex_onboarding_external_agent_import_failure`.
    ImportFailure {
        import_id: String, source: String, provider_id: String, r#type: String, failure_stage: Option<String>,
        error_type: String, sub_error_type: Option<String>, product_client_id: Option<Label>,
    }
}
