//! Approvals: what the user or the guardian answered, or that nobody did.

use super::state::owned;
use super::{Context, Reducer};
use crate::analytics::event::{self, ReviewedAction};
use crate::fact::vocabulary::{ApprovalRequested, ApprovalResolved, GuardianReviewed};
use crate::fact::{Envelope, Text};

struct Decided<'b> {
    item: &'b str,
    subject: &'static str,
    outcome: &'static str,
    by_guardian: bool,
    permissions: bool,
    network: bool,
}

impl Reducer {
    pub(super) fn approval_requested(&mut self, envelope: &Envelope, fact: &ApprovalRequested<'static>) {
        let key = (fact.connection_id.unwrap_or(0), fact.request_id.to_string());
        if self.approvals.insert(key.clone(), (envelope.clone(), fact.clone())).is_none() {
            self.approval_order.push_back(key);
        }
        while self.approvals.len() > self.limits.approvals {
            let Some(old) = self.approval_order.pop_front() else { break };
            if self.approvals.remove(&old).is_some() {
                self.count("forgotten");
            }
        }
    }

    pub(super) fn approval_resolved(&mut self, envelope: &Envelope, fact: &ApprovalResolved<'static>) {
        let key = (fact.connection_id.unwrap_or(0), fact.request_id.to_string());
        let Some((asked_at, asked)) = self.approvals.remove(&key) else {
            return self.count("missing_context");
        };
        if self.approval_order.front() == Some(&key) {
            self.approval_order.pop_front();
        }
        // A server that was killed told nobody, and what it can't read it drops.
        if fact.end_reason.as_deref() == Some("killed") || fact.decision == "unknown" {
            return;
        }
        let (Some(thread), Some(turn)) = (fact.thread_id.as_deref(), fact.turn_id.as_deref()) else {
            return self.count("missing_context");
        };
        let status = match &*fact.decision {
            "approved" => "approved",
            "denied" => "denied",
            _ => "aborted",
        };
        let outcome = match (status, &*fact.resolution) {
            ("approved", "session_approval") => "user_approved_for_session",
            ("approved", _) => "user_approved",
            ("denied", _) => "user_denied",
            _ => "user_aborted",
        };
        let subject = subject_kind(&asked.subject);
        let item = fact.call_id.as_deref().unwrap_or("");
        self.decided(
            thread,
            turn,
            &Decided {
                item,
                subject,
                outcome,
                by_guardian: false,
                permissions: asked.additional_permissions == Some(true),
                network: asked.network == Some(true),
            },
        );
        if status == "aborted"
            && let Some(turn) = self.threads.get_mut(thread).and_then(|thread| thread.running(turn))
        {
            turn.interrupted.get_or_insert(envelope.time);
        }
        let connection = self.connection_of_turn(thread, turn);
        let Some(Context { client, runtime, source, subagent_source, parent, .. }) =
            self.context(thread, connection)
        else {
            return;
        };
        let started = asked.started_at_ms.map_or(asked_at.time / 1_000_000, |ms| ms.max(0) as u64);
        let completed = envelope.time / 1_000_000;
        let event = event::Review {
            thread_id: thread.to_owned(),
            turn_id: turn.to_owned(),
            item_id: owned(&fact.call_id),
            review_id: format!("user:{}", fact.request_id),
            app_server_client: client,
            runtime,
            thread_source: source,
            subagent_source,
            parent_thread_id: parent,
            subject_kind: subject,
            subject_name: if subject == "file_change" { "apply_patch" } else { subject }.to_owned(),
            reviewer: "user",
            trigger: asked.trigger.to_string(),
            status,
            resolution: fact.resolution.to_string(),
            started_at_ms: started,
            completed_at_ms: completed,
            duration_ms: completed.checked_sub(started),
        };
        self.out.push(event.into());
    }

    pub(super) fn connection_of_turn(&mut self, thread: &str, turn: &str) -> Option<u64> {
        self.threads.get_mut(thread)?.turn(turn)?.connection
    }

    // An item's event tells of the reviews it had, of commands, patches and MCP calls.
    fn decided(&mut self, thread: &str, turn: &str, decided: &Decided<'_>) {
        if !matches!(decided.subject, "command_execution" | "file_change" | "mcp_tool_call") {
            return;
        }
        let Some(turn) = self.threads.get_mut(thread).and_then(|thread| thread.turn(turn)) else { return };
        let reviews = turn.review(decided.item);
        reviews.guardian += u64::from(decided.by_guardian);
        reviews.user += u64::from(!decided.by_guardian);
        reviews.outcome = Some(decided.outcome);
        reviews.permissions |= decided.permissions;
        reviews.network |= decided.network;
    }

    pub(super) fn guardian_reviewed(&mut self, fact: &GuardianReviewed<'static>) {
        let (Some(turn), Some(review)) = (fact.turn_id.as_deref(), fact.review_id.as_deref()) else {
            return self.count("missing_context");
        };
        let (status, outcome) = match &*fact.decision {
            "approved" => ("approved", "guardian_approved"),
            "denied" => ("denied", "guardian_denied"),
            "timedOut" | "timed_out" => ("timed_out", "guardian_aborted"),
            "aborted" => ("aborted", "guardian_aborted"),
            // Still at work.
            _ => return,
        };
        let action = fact.subject.as_deref().unwrap_or("");
        let (subject, trigger) = match action {
            "execve" => ("command_execution", "execve_intercept"),
            "applyPatch" => ("file_change", "sandbox_denial"),
            "networkAccess" => ("network_access", "network_policy_denial"),
            "requestPermissions" => ("permissions", "initial"),
            "mcpToolCall" => ("mcp_tool_call", "initial"),
            "writeStdin" => ("write_stdin", "initial"),
            _ => ("command_execution", "initial"),
        };
        let thread = &*fact.thread_id;
        self.decided(
            thread,
            turn,
            &Decided {
                item: fact.call_id.as_deref().unwrap_or(""),
                subject,
                outcome,
                by_guardian: true,
                permissions: false,
                network: subject == "network_access",
            },
        );
        let connection = self.connection_of_turn(thread, turn);
        let Some(Context { session, client, runtime, source, subagent_source, parent }) =
            self.context(thread, connection)
        else {
            return;
        };
        let started = fact.started_at_ms.unwrap_or(0);
        let completed = fact.completed_at_ms.unwrap_or(started);
        let name = match subject {
            "file_change" => "apply_patch".to_owned(),
            "mcp_tool_call" => owned(&fact.tool).unwrap_or_default(),
            _ => subject.to_owned(),
        };
        let review_event = event::Review {
            thread_id: thread.to_owned(),
            turn_id: turn.to_owned(),
            item_id: owned(&fact.call_id),
            review_id: review.to_owned(),
            app_server_client: client.clone(),
            runtime: runtime.clone(),
            thread_source: source,
            subagent_source,
            parent_thread_id: parent,
            subject_kind: subject,
            subject_name: name,
            reviewer: "guardian",
            trigger: trigger.to_owned(),
            status,
            resolution: "none".to_owned(),
            started_at_ms: started,
            completed_at_ms: completed,
            duration_ms: completed.checked_sub(started),
        };
        // A denial without a risk is one that no assessment led to.
        let assessed = fact.risk_level.is_some();
        let (decision, terminal, outcome) = match (status, assessed) {
            ("approved", _) => ("approved", "approved", Some("allow")),
            ("denied", true) => ("denied", "denied", Some("deny")),
            ("denied", false) => ("denied", "failed_closed", None),
            ("timed_out", _) => ("denied", "timed_out", None),
            _ => ("aborted", "aborted", None),
        };
        let guardian = event::GuardianReview {
            session_id: session,
            app_server_client: client,
            runtime,
            guardian_context_mode: None,
            thread_id: thread.to_owned(),
            turn_id: turn.to_owned(),
            review_id: review.to_owned(),
            target_item_id: owned(&fact.call_id),
            approval_request_source: None,
            reviewed_action: reviewed_action(action, &fact.action_source),
            reviewed_action_truncated: None,
            decision,
            terminal_status: terminal,
            failure_reason: None,
            attempt_count: None,
            risk_level: owned(&fact.risk_level),
            user_authorization: owned(&fact.user_authorization),
            outcome,
            guardian_thread_id: None,
            guardian_session_kind: None,
            guardian_model: None,
            guardian_reasoning_effort: None,
            guardian_default_review_model_id: None,
            guardian_catalog_contains_auto_review: None,
            guardian_review_model_overridden: None,
            guardian_review_model_override: None,
            guardian_model_provider_id: None,
            had_prior_review_context: None,
            review_timeout_ms: None,
            tool_call_count: None,
            time_to_first_token_ms: None,
            completion_latency_ms: completed.checked_sub(started),
            started_at: started / 1_000,
            completed_at: Some(completed / 1_000),
            input_tokens: None,
            cached_input_tokens: None,
            cache_write_input_tokens: None,
            output_tokens: None,
            reasoning_output_tokens: None,
            total_tokens: None,
        };
        self.out.push(guardian.into());
        self.out.push(review_event.into());
    }
}

fn subject_kind(subject: &str) -> &'static str {
    match subject {
        "write_stdin" => "write_stdin",
        "file_change" => "file_change",
        "mcp_tool_call" => "mcp_tool_call",
        "permissions" => "permissions",
        "network_access" => "network_access",
        _ => "command_execution",
    }
}

fn reviewed_action(action: &str, source: &Option<Text<'_>>) -> ReviewedAction {
    let (r#type, sandboxed, permitted, terminal) = match (action, source.as_deref()) {
        ("execve", _) => ("execve", false, true, false),
        ("applyPatch", _) => ("apply_patch", false, false, false),
        ("networkAccess", _) => ("network_access", false, false, false),
        ("requestPermissions", _) => ("request_permissions", false, false, false),
        ("mcpToolCall", _) => ("mcp_tool_call", false, false, false),
        ("writeStdin", _) => ("write_stdin", false, false, true),
        (_, Some("shell")) => ("shell", true, true, false),
        _ => ("unified_exec", true, true, true),
    };
    ReviewedAction {
        r#type,
        sandbox_permissions: sandboxed.then_some(None),
        additional_permissions: permitted.then_some(None),
        tty: terminal.then_some(None),
    }
}
