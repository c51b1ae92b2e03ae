//! Approvals: the server asks, the client answers, or nobody does any more.

use serde_json::Value;
use serde_json::value::RawValue;

use super::content::KEPT;
use super::frame::{Answer, Call, RequestId};
use super::wire::{ApprovalParams, Resolved, read, some, text};
use super::{Ended, Now, Observer, bounded, seconds};
use crate::fact::vocabulary::{ApprovalRequested, ApprovalResolved};
use crate::fact::{Point, Text};

/// A question that waits for its answer.
#[derive(Debug)]
pub(super) struct Approval {
    thread: Option<String>,
    turn: Option<String>,
    call: Option<String>,
    subject: &'static str,
    asked: u64,
}

// What is asked for, which tool asks, why, and whether it is about permissions or the network: the order of
// the tests is that of the app server.
struct Question {
    subject: &'static str,
    tool: &'static str,
    trigger: &'static str,
    permissions: bool,
    network: bool,
}

impl Question {
    fn of(method: &str, params: &ApprovalParams<'_>) -> Option<Question> {
        let given = |value: &Option<Value>| value.as_ref().is_some_and(|value| !value.is_null());
        let in_network = |value: &Option<Value>| {
            value
                .as_ref()
                .and_then(|it| it.get("network"))
                .and_then(|it| it.get("enabled"))
                .and_then(Value::as_bool)
                == Some(true)
        };
        Some(match method {
            "item/fileChange/requestApproval" => Question {
                subject: "file_change",
                tool: "apply_patch",
                trigger: if given(&params.grant_root) { "sandbox_denial" } else { "initial" },
                permissions: given(&params.grant_root),
                network: false,
            },
            "item/permissions/requestApproval" => {
                let network = in_network(&params.permissions);
                let files = params
                    .permissions
                    .as_ref()
                    .and_then(|it| it.get("fileSystem"))
                    .is_some_and(|it| !it.is_null());
                Question {
                    subject: "permissions",
                    tool: "permissions",
                    trigger: match (network, files) {
                        (true, _) => "network_policy_denial",
                        (false, true) => "sandbox_denial",
                        (false, false) => "initial",
                    },
                    permissions: network || files,
                    network,
                }
            }
            "item/commandExecution/requestApproval" => {
                let more = given(&params.additional_permissions);
                let context = given(&params.network_approval_context);
                let amendments = params.proposed_network_policy_amendments.as_ref().and_then(Value::as_array);
                let network = context
                    || amendments.is_some_and(|amendments| !amendments.is_empty())
                    || in_network(&params.additional_permissions);
                let intercepted = params.approval_id.is_some_and(|id| id.get() != "null");
                let (subject, tool, trigger) = if text(&params.kind) == "writeStdin" {
                    ("write_stdin", "write_stdin", "initial")
                } else if intercepted {
                    ("command_execution", "shell", "execve_intercept")
                } else if network {
                    let subject = if context { "network_access" } else { "command_execution" };
                    (subject, if context { "network_access" } else { "shell" }, "network_policy_denial")
                } else if more {
                    ("command_execution", "shell", "sandbox_denial")
                } else {
                    ("command_execution", "shell", "initial")
                };
                Question { subject, tool, trigger, permissions: more, network }
            }
            _ => return None,
        })
    }
}

impl Observer {
    pub(super) fn server_asked(&mut self, connection: u64, now: Now, call: &Call<'_>, id: &RequestId) {
        let params: ApprovalParams<'_> = read(call.params);
        let Some(question) = Question::of(&call.method, &params) else { return };
        let turn =
            some(&params.turn_id).map(|turn| self.aliases.get(turn).map_or(turn, String::as_str).to_owned());
        let place = turn.as_deref().and_then(|turn| self.place_of_turn(turn));
        let command = self.command_line(params.command);
        let fact = ApprovalRequested {
            thread_id: some(&params.thread_id).map(Text::from),
            turn_id: turn.as_deref().map(Text::from),
            call_id: some(&params.item_id).map(Text::from),
            request_id: id.to_string().into(),
            connection_id: Some(connection),
            subject: question.subject.into(),
            tool: Some(question.tool.into()),
            trigger: question.trigger.into(),
            started_at_ms: params.started_at_ms,
            additional_permissions: Some(question.permissions),
            network: Some(question.network),
            command: command.map(Text::from),
            reason: some(&params.reason).map(|reason| bounded(reason, KEPT).into()),
            cwd: some(&params.cwd).map(Text::from),
            grant_root: params.grant_root.as_ref().and_then(Value::as_str).map(Text::from),
        };
        fact.emit(&self.envelope(now, place), self.capture);
        let approval = Approval {
            thread: some(&params.thread_id).map(str::to_owned),
            turn,
            call: some(&params.item_id).map(str::to_owned),
            subject: question.subject,
            asked: params
                .started_at_ms
                .map_or(now.observed, |ms| (ms.max(0) as u64).saturating_mul(1_000_000)),
        };
        let limit = self.limits.requests;
        let Some(state) = self.connections.get_mut(&connection) else { return };
        if state.approvals.len() >= limit {
            return self.count("forgotten");
        }
        state.approvals.insert(id.clone(), approval);
    }

    pub(super) fn server_answered(&mut self, connection: u64, now: Now, id: &RequestId, answer: &Answer<'_>) {
        let state = self.connections.get_mut(&connection);
        let Some(approval) = state.and_then(|state| state.approvals.remove(id)) else { return };
        let decided = match answer {
            Answer::Result(result) => decision(result),
            Answer::Error(_) => ("aborted", "none"),
        };
        self.resolve(connection, now, id, &approval, decided, Ok("user"));
    }

    /// The server says a question is settled; one that nobody answered was given up.
    pub(super) fn server_request_resolved(&mut self, connection: u64, now: Now, notice: &Resolved<'_>) {
        let Some(id) = notice.request_id.and_then(RequestId::parse) else { return };
        let state = self.connections.get_mut(&connection);
        if let Some(approval) = state.and_then(|state| state.approvals.remove(&id)) {
            self.resolve(connection, now, &id, &approval, ("aborted", "none"), Err(None));
        }
    }

    /// Nobody is left to answer.
    pub(super) fn abort_approvals(&mut self, connection: u64, now: Now, ended: Ended) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let mut open: Vec<_> = std::mem::take(&mut state.approvals).into_iter().collect();
        open.sort_by_key(|(_, approval)| approval.asked);
        for (id, approval) in open {
            self.resolve(connection, now, &id, &approval, ("aborted", "none"), Err(Some(ended)));
        }
    }

    // Who decided, or why nobody did.
    fn resolve(
        &self,
        connection: u64,
        now: Now,
        id: &RequestId,
        approval: &Approval,
        (decision, resolution): (&'static str, &'static str),
        by: Result<&'static str, Option<Ended>>,
    ) {
        let fact = ApprovalResolved {
            thread_id: approval.thread.as_deref().map(Text::from),
            turn_id: approval.turn.as_deref().map(Text::from),
            call_id: approval.call.as_deref().map(Text::from),
            request_id: id.to_string().into(),
            connection_id: Some(connection),
            subject: approval.subject.into(),
            decision: decision.into(),
            resolution: resolution.into(),
            source: by.unwrap_or("none").into(),
            end_reason: by.err().flatten().map(|ended| ended.as_str().into()),
            wait_s: Some(seconds(now.observed.saturating_sub(approval.asked))),
        };
        let place = approval.turn.as_deref().and_then(|turn| self.place_of_turn(turn));
        fact.emit(&self.envelope(now, place), self.capture);
    }
}

// `{"decision": WORD or {WORD: ..}}`, or `{"permissions": .., "scope": ..}`.
fn decision(result: &RawValue) -> (&'static str, &'static str) {
    let value: Value = serde_json::from_str(result.get()).unwrap_or_default();
    if let Some(granted) = value.get("permissions") {
        let empty = granted.as_object().is_none_or(|map| map.values().all(Value::is_null));
        return match (empty, value.get("scope").and_then(Value::as_str)) {
            (true, _) => ("denied", "none"),
            (false, Some("session")) => ("approved", "session_approval"),
            (false, _) => ("approved", "none"),
        };
    }
    let decision = value.get("decision");
    let (word, inner) = match decision {
        Some(Value::String(word)) => (word.as_str(), None),
        Some(Value::Object(map)) => {
            map.iter().next().map_or(("", None), |(word, inner)| (word.as_str(), Some(inner)))
        }
        _ => ("", None),
    };
    match word {
        "accept" => ("approved", "none"),
        "acceptForSession" => ("approved", "session_approval"),
        "acceptWithExecpolicyAmendment" => ("approved", "exec_policy_amendment"),
        "applyNetworkPolicyAmendment" => {
            let action = inner
                .and_then(|inner| inner.pointer("/network_policy_amendment/action"))
                .and_then(Value::as_str);
            (if action == Some("deny") { "denied" } else { "approved" }, "network_policy_amendment")
        }
        "decline" => ("denied", "none"),
        "cancel" => ("aborted", "none"),
        // No server of this protocol takes it for a decision; what it was about fails.
        _ => ("unknown", "none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(json: &str) -> (&'static str, &'static str) {
        decision(&RawValue::from_string(json.to_owned()).unwrap())
    }

    #[test]
    fn every_answer_has_its_decision() {
        for (json, expected) in [
            (r#"{"decision":"accept"}"#, ("approved", "none")),
            (r#"{"decision":"acceptForSession"}"#, ("approved", "session_approval")),
            (
                r#"{"decision":{"acceptWithExecpolicyAmendment":{"execpolicy_amendment":["ls"]}}}"#,
                ("approved", "exec_policy_amendment"),
            ),
            (
                r#"{"decision":{"applyNetworkPolicyAmendment":{"network_policy_amendment":{"action":"deny","host":"h"}}}}"#,
                ("denied", "network_policy_amendment"),
            ),
            (
                r#"{"decision":{"applyNetworkPolicyAmendment":{"network_policy_amendment":{"action":"allow","host":"h"}}}}"#,
                ("approved", "network_policy_amendment"),
            ),
            (r#"{"decision":"decline"}"#, ("denied", "none")),
            (r#"{"decision":"cancel"}"#, ("aborted", "none")),
            (r#"{"permissions":{},"scope":"turn"}"#, ("denied", "none")),
            (
                r#"{"permissions":{"network":{"enabled":true}},"scope":"session"}"#,
                ("approved", "session_approval"),
            ),
            (r#"{"permissions":{"network":{"enabled":true}},"scope":"turn"}"#, ("approved", "none")),
            (r#"{"decision":"maybe"}"#, ("unknown", "none")),
            (r#"{"nonsense":1}"#, ("unknown", "none")),
            ("17", ("unknown", "none")),
        ] {
            assert_eq!(decided(json), expected, "{json}");
        }
    }
}
