//! Events of threads and turns.

use std::sync::Arc;

use serde_json::Value;

use super::{Client, Label, Runtime, members};

members! {
    /// Members of `codex_thread_initialized`.
    ThreadInitialized {
        thread_id: String, session_id: String, app_server_client: Arc<Client>, runtime: Arc<Runtime>,
        model: Option<Label>, ephemeral: Option<bool>, is_worktree: Option<bool>, thread_source: Option<Label>,
        initialization_mode: &'static str, subagent_source: Option<Label>, parent_thread_id: Option<String>,
        forked_from_thread_id: Option<String>, created_at: i64,
    }

    /// Members of `codex_thread_archive_event`, the only one that leaves out what is not known.
    ThreadArchive {
        thread_id: String, action: &'static str, occurred_at_ms: u64,
        #[serde(skip_serializing_if = "Option::is_none")] app_server_client: Option<Arc<Client>>,
        #[serde(skip_serializing_if = "Option::is_none")] runtime: Option<Arc<Runtime>>,
        #[serde(skip_serializing_if = "Option::is_none")] thread_source: Option<Label>,
        #[serde(skip_serializing_if = "Option::is_none")] parent_thread_id: Option<String>,
    }

    /// Times of the critical path of a turn, which only a host can tell.
    CriticalPath {
        critical_path_status: &'static str, critical_path_duration_ms: Option<u64>,
        critical_path_inference_ms: Option<u64>, critical_path_sampling_ms: Option<u64>,
        critical_path_compaction_ms: Option<u64>, critical_path_auto_review_ms: Option<u64>,
        critical_path_auto_review_overhead_ms: Option<u64>, critical_path_user_wait_ms: Option<u64>,
        critical_path_tools_ms: Option<u64>, critical_path_overhead_ms: Option<u64>,
        critical_path_unknown_ms: Option<u64>,
    }

    /// An image that was made ready for the model, which only a host can tell.
    ImagePreparation {
        message_role: Option<String>, item_id: Option<String>, effective_detail: String, source_width: u64,
        source_height: u64, prepared_width: u64, prepared_height: u64,
    }

    /// Members of `codex_turn_event`.
    Turn {
        #[serde(flatten)] critical_path: CriticalPath,
        thread_id: String, session_id: String, turn_id: String, active_plugin_ids_at_turn_start: Vec<String>,
        voice_session_id: Option<String>, root_turn_id: Option<String>, turn_trigger: Option<Label>,
        codex_turn_source: Option<String>, submission_type: Option<Label>, app_server_client: Arc<Client>,
        runtime: Arc<Runtime>, ephemeral: Option<bool>, thread_source: Option<Label>,
        initialization_mode: &'static str, subagent_source: Option<Label>, parent_thread_id: Option<String>,
        model: Option<Label>, model_provider: Option<Label>, sandbox_policy: Option<Label>,
        reasoning_effort: Option<Label>, reasoning_summary: Option<Label>, service_tier: Option<Label>,
        approval_policy: Option<Label>, approvals_reviewer: Option<Label>, guardian_v2_enabled: Option<bool>,
        multi_agent_version: Option<Label>, sandbox_network_access: Option<bool>,
        collaboration_mode: Option<Label>, personality: Option<Label>, workspace_kind: Option<Label>,
        num_input_images: u64, image_preparations: Option<Vec<ImagePreparation>>, is_first_turn: bool,
        status: Label, explicit_client_interrupt_requested_at_ms: Option<u64>, turn_error: Option<Value>,
        codex_error_kind: Option<String>, codex_error_http_status_code: Option<u64>,
        usage_limit_window_minutes: Option<u64>, steer_count: u64, total_tool_call_count: u64,
        shell_command_count: u64, file_change_count: u64, mcp_tool_call_count: u64, dynamic_tool_call_count: u64,
        subagent_tool_call_count: u64, web_search_count: u64, image_generation_count: u64,
        input_tokens: Option<u64>, cached_input_tokens: Option<u64>, cache_write_input_tokens: Option<u64>,
        output_tokens: Option<u64>, reasoning_output_tokens: Option<u64>, total_tokens: Option<u64>,
        before_first_sampling_ms: Option<u64>, sampling_ms: Option<u64>, compaction_ms: Option<u64>,
        between_sampling_overhead_ms: Option<u64>, tool_blocking_ms: Option<u64>,
        after_last_sampling_ms: Option<u64>, sampling_request_count: u64, sampling_retry_count: u64,
        tools_change_count: Option<u64>, duration_ms: Option<u64>, started_at: Option<i64>,
        completed_at: Option<i64>,
    }

    /// Members of `codex_turn_steer_event`.
    TurnSteer {
        thread_id: String, session_id: String, expected_turn_id: Option<String>, accepted_turn_id: Option<String>,
        app_server_client: Arc<Client>, runtime: Arc<Runtime>, thread_source: Option<Label>,
        subagent_source: Option<Label>, parent_thread_id: Option<String>, num_input_images: u64,
        result: &'static str, rejection_reason: Option<String>, created_at: i64,
    }

    /// Members of `codex_compaction_event`.
    Compaction {
        thread_id: String, session_id: String, turn_id: String, app_server_client: Arc<Client>,
        runtime: Arc<Runtime>, thread_source: Option<Label>, subagent_source: Option<Label>,
        parent_thread_id: Option<String>, trigger: String, reason: Option<Label>, implementation: Option<Label>,
        phase: String, strategy: Option<Label>, status: String, voice_session_id: Option<String>,
        codex_error_kind: Option<String>, codex_error_http_status_code: Option<u64>,
        usage_limit_window_minutes: Option<u64>, active_context_tokens_before: Option<u64>,
        active_context_tokens_after: Option<u64>, retained_image_count: Option<u64>,
        compaction_summary_tokens: Option<u64>, cached_input_tokens: Option<u64>,
        cache_write_input_tokens: Option<u64>, started_at: i64, completed_at: i64, duration_ms: Option<u64>,
    }

    /// Members of `codex_goal_event`.
    Goal {
        thread_id: String, session_id: String, turn_id: Option<String>, app_server_client: Arc<Client>,
        runtime: Arc<Runtime>, thread_source: Option<Label>, subagent_source: Option<Label>,
        parent_thread_id: Option<String>, goal_id: Option<String>, event_kind: &'static str, goal_status: String,
        has_token_budget: bool, cumulative_tokens_accounted: Option<i64>,
        cumulative_time_accounted_seconds: Option<i64>,
    }

    /// Members of `codex_thread_hint_status`.
    ThreadHintStatus {
        thread_id: String, session_id: String, app_server_client: Arc<Client>, runtime: Arc<Runtime>,
        thread_source: Option<Label>, subagent_source: Option<Label>, parent_thread_id: Option<String>,
        status: String, occurred_at_ms: u64,
    }

    /// Members of `codex_accepted_line_fingerprints`.
    AcceptedLines {
        event_type: &'static str, turn_id: String, thread_id: String, product_surface: &'static str,
        model_slug: Option<Label>, completed_at: i64, repo_hash: Option<String>, accepted_added_lines: u64,
        accepted_deleted_lines: u64, line_fingerprints: [u8; 0],
    }
}
