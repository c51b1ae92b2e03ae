//! Events of tool calls: each begins with, or holds, the same members.

use std::sync::Arc;

use super::{Client, Label, Runtime, members};

members! {
    /// Members that the events of all tools have.
    ToolBase {
        #[serde(skip_serializing_if = "Option::is_none")] turn_trigger: Option<Label>,
        thread_id: String, session_id: String, turn_id: String, root_turn_id: Option<String>, item_id: String,
        cell_id: Option<String>, parent_call_id: Option<String>, originating_response_id: Option<String>,
        subsequent_response_id: Option<String>, app_server_client: Arc<Client>, runtime: Arc<Runtime>,
        thread_source: Option<Label>, subagent_source: Option<Label>, parent_thread_id: Option<String>,
        tool_name: String, tool_event_type: Option<&'static str>, started_at_ms: u64, completed_at_ms: u64,
        duration_ms: Option<u64>, execution_duration_ms: Option<u64>, review_count: u64,
        guardian_review_count: u64, user_review_count: u64, final_approval_outcome: &'static str,
        terminal_status: &'static str, failure_kind: Option<&'static str>,
        requested_additional_permissions: bool, requested_network_access: bool,
    }

    /// Members of `codex_command_execution_event`.
    CommandExecution {
        sandbox_backend: Option<Label>, model_slug: Option<Label>, reasoning_effort: Option<Label>,
        #[serde(flatten)] base: ToolBase,
        plugin_id: Option<String>, script_path: Option<String>, command_execution_source: String,
        exit_code: Option<i64>, command_total_action_count: u64, command_read_action_count: u64,
        command_list_files_action_count: u64, command_search_action_count: u64,
        command_unknown_action_count: u64,
    }

    /// Members of `codex_file_change_event`.
    FileChange {
        #[serde(flatten)] base: ToolBase,
        file_change_count: u64, file_add_count: u64, file_update_count: u64, file_delete_count: u64,
        file_move_count: u64,
    }

    /// Members of `codex_mcp_tool_call_event`.
    McpToolCall {
        #[serde(flatten)] base: ToolBase,
        mcp_server_name: String, mcp_tool_name: String, mcp_error_present: bool, plugin_id: Option<String>,
        connector_id: Option<String>, voice_session_id: Option<String>, elicitation_type: Option<String>,
    }

    /// Members of `codex_dynamic_tool_call_event`.
    DynamicToolCall {
        #[serde(flatten)] base: ToolBase,
        dynamic_tool_name: String, success: Option<bool>, output_content_item_count: Option<u64>,
        output_text_item_count: Option<u64>, output_image_item_count: Option<u64>,
        output_audio_item_count: Option<u64>,
    }

    /// Members of `codex_control_tool_call_event`.
    ControlToolCall {
        #[serde(flatten)] base: ToolBase,
        success: bool,
    }

    /// Members of `codex_collab_agent_tool_call_event`.
    CollabAgentToolCall {
        #[serde(flatten)] base: ToolBase,
        sender_thread_id: String, receiver_thread_count: u64, receiver_thread_ids: Vec<String>,
        requested_model: Option<String>, requested_reasoning_effort: Option<String>,
        agent_state_count: Option<u64>, completed_agent_count: Option<u64>, failed_agent_count: Option<u64>,
    }

    /// Members of `codex_web_search_event`.
    WebSearch {
        #[serde(flatten)] base: ToolBase,
        web_search_action: Option<&'static str>, query_present: bool, query_count: Option<u64>,
    }

    /// Members of `codex_image_generation_event`.
    ImageGeneration {
        #[serde(flatten)] base: ToolBase,
        revised_prompt_present: bool, saved_path_present: bool, transparent_background: Option<bool>,
        imagegen_request_id: Option<String>, generation_id: Option<String>,
    }
}
