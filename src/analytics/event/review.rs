//! Events of approvals: the user's answers, and the guardian's.

use std::sync::Arc;

use super::{Client, Label, Runtime, members};

members! {
    /// Members of `codex_review_event`.
    Review {
        thread_id: String, turn_id: String, item_id: Option<String>, review_id: String,
        app_server_client: Arc<Client>, runtime: Arc<Runtime>, thread_source: Option<Label>,
        subagent_source: Option<Label>, parent_thread_id: Option<String>, subject_kind: &'static str,
        subject_name: String, reviewer: &'static str, trigger: String, status: &'static str, resolution: String,
        started_at_ms: u64, completed_at_ms: u64, duration_ms: Option<u64>,
    }

    /// What the guardian was asked about, without what it says.
    ReviewedAction {
        r#type: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")] sandbox_permissions: Option<Option<Label>>,
        #[serde(skip_serializing_if = "Option::is_none")] additional_permissions: Option<Option<Label>>,
        #[serde(skip_serializing_if = "Option::is_none")] tty: Option<Option<bool>>,
    }

    /// Members of `codex_guardian_review`.
    GuardianReview {
        session_id: String, app_server_client: Arc<Client>, runtime: Arc<Runtime>,
        guardian_context_mode: Option<Label>, thread_id: String, turn_id: String, review_id: String,
        target_item_id: Option<String>, approval_request_source: Option<Label>, reviewed_action: ReviewedAction,
        reviewed_action_truncated: Option<bool>, decision: &'static str, terminal_status: &'static str,
        failure_reason: Option<Label>, attempt_count: Option<u64>, risk_level: Option<String>,
        user_authorization: Option<String>, outcome: Option<&'static str>, guardian_thread_id: Option<String>,
        guardian_session_kind: Option<Label>, guardian_model: Option<Label>,
        guardian_reasoning_effort: Option<Label>, guardian_default_review_model_id: Option<Label>,
        guardian_catalog_contains_auto_review: Option<bool>, guardian_review_model_overridden: Option<bool>,
        guardian_review_model_override: Option<Label>, guardian_model_provider_id: Option<Label>,
        had_prior_review_context: Option<bool>, review_timeout_ms: Option<u64>, tool_call_count: Option<u64>,
        time_to_first_token_ms: Option<u64>, completion_latency_ms: Option<u64>, started_at: u64,
        completed_at: Option<u64>, input_tokens: Option<u64>, cached_input_tokens: Option<u64>,
        cache_write_input_tokens: Option<u64>, output_tokens: Option<u64>, reasoning_output_tokens: Option<u64>,
        total_tokens: Option<u64>,
    }

    /// Members of `codex_guardian_v2_classification`.
    GuardianV2Classification {
        session_id: String, app_server_client: Arc<Client>, runtime: Arc<Runtime>, thread_source: Option<Label>,
        subagent_source: Option<Label>, parent_thread_id: Option<String>, thread_id: String, turn_id: String,
        item_id: Option<String>, model: Option<String>, occurred_at_ms: u64, outcome: String,
        risk_level: Option<String>, duration_ms: u64,
    }

    /// Members of `codex_guardian_v2_fast_decision`.
    GuardianV2FastDecision {
        session_id: String, app_server_client: Arc<Client>, runtime: Arc<Runtime>, thread_source: Option<Label>,
        subagent_source: Option<Label>, parent_thread_id: Option<String>, thread_id: String, turn_id: String,
        item_id: Option<String>, model: Option<String>, occurred_at_ms: u64, decision: String,
    }
}
