//! Rules that no recorded session shows, each from a stream made up for it.
#![cfg(all(feature = "analytics", feature = "tap"))]
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/facts.rs"]
mod facts;

use facts::told;
use serde_json::Value;

const BEGIN: [&str; 7] = [
    r#">{"id":1,"method":"initialize","params":{"clientInfo":{"name":"ide","version":"1"}}}"#,
    r#"<{"id":1,"result":{"userAgent":"ide/0.169.0 (Debian 12.0.0; x86_64) x","platformOs":"linux"}}"#,
    r#">{"id":2,"method":"thread/start","params":{}}"#,
    r#"<{"id":2,"result":{"thread":{"id":"t","sessionId":"t","createdAt":5,"ephemeral":false},"model":"m","modelProvider":"p","sandbox":{"type":"readOnly"},"approvalPolicy":"never","approvalsReviewer":"user"}}"#,
    r#">{"id":3,"method":"turn/start","params":{"threadId":"t","input":[]}}"#,
    r#"<{"id":3,"result":{"turn":{"id":"u","status":"inProgress"}}}"#,
    r#"<{"method":"turn/started","params":{"threadId":"t","turn":{"id":"u","rootTurnId":"u","startedAt":5}}}"#,
];
const DONE: &str = r#"<{"method":"turn/completed","params":{"threadId":"t","turn":{"id":"u","status":"completed","startedAt":5,"completedAt":6,"durationMs":900}}}"#;

fn params(more: &[&str], kind: &str) -> Vec<Value> {
    let lines: Vec<&str> = BEGIN.iter().chain(more).copied().collect();
    let events = told(&lines).0.into_iter().map(|event| serde_json::to_value(event).unwrap());
    events.filter(|event| event["event_type"] == kind).map(|event| event["event_params"].clone()).collect()
}

#[test]
fn the_guardian_leaves_a_review_and_a_guardian_review_and_counts_on_the_item() {
    let denied = r#"<{"method":"item/autoApprovalReview/completed","params":{"threadId":"t","turnId":"u","targetItemId":"c","reviewId":"g","startedAtMs":1000,"completedAtMs":1500,"review":{"status":"denied"},"action":{"type":"command","source":"unifiedExec","command":"x"}}}"#;
    let item = |phase: &str, more: &str| {
        format!(
            r#"<{{"method":"item/{phase}","params":{{"threadId":"t","turnId":"u","item":{{"type":"commandExecution","id":"c","source":"agent","startedAtMs":900{more}}}}}}}"#
        )
    };
    let (started, completed) =
        (item("started", ""), item("completed", r#","completedAtMs":1600,"status":"declined""#));
    let stream = [started.as_str(), denied, completed.as_str(), DONE];
    let review = &params(&stream, "codex_review_event")[0];
    assert_eq!(
        (&review["reviewer"], &review["status"], &review["review_id"]),
        (&"guardian".into(), &"denied".into(), &"g".into())
    );
    let guardian = &params(&stream, "codex_guardian_review")[0];
    assert_eq!(guardian["terminal_status"], "failed_closed");
    assert_eq!(guardian["reviewed_action"]["type"], "unified_exec");
    assert_eq!(guardian["completion_latency_ms"], 500);
    let call = &params(&stream, "codex_command_execution_event")[0];
    assert_eq!(
        (&call["guardian_review_count"], &call["final_approval_outcome"]),
        (&1.into(), &"guardian_denied".into())
    );
    assert_eq!(
        (&call["terminal_status"], &call["failure_kind"]),
        (&"rejected".into(), &"approval_denied".into())
    );
}

#[test]
fn permissions_are_reviewed_but_belong_to_no_item() {
    let asked = r#"<{"id":0,"method":"item/permissions/requestApproval","params":{"threadId":"t","turnId":"u","itemId":"c","startedAtMs":1795000000000,"permissions":{"network":{"enabled":true}}}}"#;
    let answer = r#">{"id":0,"result":{"permissions":{"network":{"enabled":true}},"scope":"session"}}"#;
    let review = &params(&[asked, answer, DONE], "codex_review_event")[0];
    assert_eq!(
        (&review["subject_kind"], &review["trigger"]),
        (&"permissions".into(), &"network_policy_denial".into())
    );
    assert_eq!((&review["status"], &review["resolution"]), (&"approved".into(), &"session_approval".into()));
}

#[test]
fn a_model_that_the_server_does_not_know_has_summaries_and_no_effort() {
    let warning = r#"<{"method":"warning","params":{"threadId":"t","message":"Model metadata for `m` not found. Defaulting."}}"#;
    let turn = &params(&[warning, DONE], "codex_turn_event")[0];
    assert_eq!((&turn["reasoning_summary"], &turn["reasoning_effort"]), (&"auto".into(), &Value::Null));
    assert_eq!(params(&[DONE], "codex_turn_event")[0]["reasoning_summary"], Value::Null);
}

#[test]
fn a_thread_that_is_spoken_with_says_so() {
    let voice = r#"<{"method":"thread/realtime/started","params":{"threadId":"t","realtimeSessionId":"v"}}"#;
    assert_eq!(params(&[voice, DONE], "codex_turn_event")[0]["voice_session_id"], "v");
}

#[test]
fn plans_and_questions_to_the_user_are_control_tools() {
    let plan = r#"<{"method":"turn/plan/updated","params":{"threadId":"t","turnId":"u","plan":[]}}"#;
    let question =
        r#"<{"id":4,"method":"item/tool/requestUserInput","params":{"threadId":"t","turnId":"u"}}"#;
    assert_eq!(params(&[plan, question, DONE], "codex_turn_event")[0]["total_tool_call_count"], 2);
}

#[test]
fn a_server_with_an_api_key_sends_only_what_tells_of_plugins() {
    let account = r#"<{"method":"account/updated","params":{"authMode":"apikey"}}"#;
    assert!(params(&[account, DONE], "codex_turn_event").is_empty());
}
