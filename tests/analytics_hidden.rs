//! The events whose facts never cross the protocol: told by a host, each comes out as the original sends it,
//! with its members in their order.
#![cfg(all(feature = "analytics", feature = "tap"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

#[path = "support/facts.rs"]
mod facts;

use std::collections::BTreeMap;

use factline::analytics::Event;
use factline::fact::vocabulary::{
    ArtifactOperation, ControlToolCall, GuardianV2Classification, GuardianV2FastDecision, ImagePreparation,
    PluginInstallRequested, PluginMeasurement, ThreadHintStatus, TurnCodexError, TurnProfile,
};
use factline::host::Facts;
use factline::protocol::Sender;

const BEGIN: [&str; 7] = [
    r#">{"id":1,"method":"initialize","params":{"clientInfo":{"name":"ide","version":"1"}}}"#,
    r#"<{"id":1,"result":{"userAgent":"ide/0.169.0 (Debian 12.0.0; x86_64) x","platformOs":"linux"}}"#,
    r#">{"id":2,"method":"thread/start","params":{}}"#,
    r#"<{"id":2,"result":{"thread":{"id":"t","sessionId":"t","createdAt":5,"ephemeral":false},"model":"m","modelProvider":"p","reasoningEffort":"high","sandbox":{"type":"readOnly"},"approvalPolicy":"never","approvalsReviewer":"user"}}"#,
    r#">{"id":3,"method":"turn/start","params":{"threadId":"t","input":[]}}"#,
    r#"<{"id":3,"result":{"turn":{"id":"u","status":"inProgress"}}}"#,
    r#"<{"method":"turn/started","params":{"threadId":"t","turn":{"id":"u","rootTurnId":"r","startedAt":5}}}"#,
];
const PLAN: &str = r#"<{"method":"turn/plan/updated","params":{"threadId":"t","turnId":"u","plan":[]}}"#;
const DONE: &str = r#"<{"method":"turn/completed","params":{"threadId":"t","turn":{"id":"u","status":"completed","startedAt":5,"completedAt":6,"durationMs":900}}}"#;

/// Client and server, as each event has them.
const CLIENT: &str = r#""app_server_client":{"product_client_id":"ide","client_name":"ide","client_version":"1","rpc_transport":"stdio","experimental_api_enabled":null},"#;
const RUNTIME: &str = r#""runtime":{"codex_rs_version":"0.169.0","runtime_os":"linux","runtime_os_version":"12.0.0","runtime_arch":"x86_64"},"#;
const LINEAGE: &str = r#""thread_source":null,"subagent_source":null,"parent_thread_id":null,"#;

fn lines(facts: &Facts, lines: &[&str]) {
    for line in lines {
        let sender = if line.starts_with('>') { Sender::Client } else { Sender::Server };
        facts.track_line(1, sender, &line.as_bytes()[1..]);
    }
}

/// The events of a host that tells something in the middle of a turn and something after it, and what was counted.
fn host(within: impl Fn(&Facts), after: impl Fn(&Facts)) -> (Vec<Event>, BTreeMap<&'static str, u64>) {
    let (events, counters) = facts::observed(|| {
        let facts = Facts::new();
        lines(&facts, &BEGIN);
        within(&facts);
        lines(&facts, &[DONE]);
        after(&facts);
    });
    (events, counters.counts())
}

fn of_kind(events: &[Event], kind: &str) -> Vec<String> {
    let those = events.iter().filter(|event| event.event_type() == kind);
    those.map(|event| serde_json::to_string(event).unwrap()).collect()
}

/// The same comes out within a turn and after it.
fn gives(tell: impl Fn(&Facts), kind: &str, params: &[&str]) {
    let expected = format!(r#"{{"event_type":"{kind}","event_params":{{{}}}}}"#, params.concat());
    for (events, counts) in [host(&tell, |_| ()), host(|_| (), &tell)] {
        assert_eq!(of_kind(&events, kind), [expected.as_str()], "{counts:?}");
        assert_eq!(counts, BTreeMap::new());
    }
}

fn call() -> ControlToolCall<'static> {
    ControlToolCall {
        thread_id: "t".into(),
        turn_id: "u".into(),
        root_id: Some("r".into()),
        call_id: "c".into(),
        tool: "get_goal".into(),
        started_at_ms: 1_000,
        completed_at_ms: 1_007,
        status: "completed".into(),
        ..ControlToolCall::default()
    }
}

#[test]
fn control_tool_call() {
    gives(
        |facts| facts.track_control_tool_call(&call()),
        "codex_control_tool_call_event",
        &[
            r#""thread_id":"t","session_id":"t","turn_id":"u","root_turn_id":"r","item_id":"c","cell_id":null,"#,
            r#""parent_call_id":null,"originating_response_id":null,"subsequent_response_id":null,"#,
            CLIENT,
            RUNTIME,
            LINEAGE,
            r#""tool_name":"get_goal","tool_event_type":"model_tool_call","started_at_ms":1000,"#,
            r#""completed_at_ms":1007,"duration_ms":7,"execution_duration_ms":7,"review_count":0,"#,
            r#""guardian_review_count":0,"user_review_count":0,"final_approval_outcome":"unknown","#,
            r#""terminal_status":"completed","failure_kind":null,"requested_additional_permissions":false,"#,
            r#""requested_network_access":false,"success":true"#,
        ],
    );
}

#[test]
fn a_control_tool_that_is_not_allowed_is_rejected_and_one_of_a_cell_is_inner() {
    let rejected = ControlToolCall {
        status: "rejected".into(),
        cell_id: Some("k".into()),
        trigger: Some("goal".into()),
        root_id: None,
        ..call()
    };
    let (events, _) = host(|facts| facts.track_control_tool_call(&rejected), |_| ());
    let event: serde_json::Value =
        serde_json::from_str(&of_kind(&events, "codex_control_tool_call_event")[0]).unwrap();
    let params = &event["event_params"];
    assert_eq!(params["terminal_status"], "rejected");
    assert_eq!(params["failure_kind"], "policy_forbidden");
    assert_eq!(params["success"], false);
    assert_eq!(params["tool_event_type"], "inner_tool_call");
    assert_eq!(params["turn_trigger"], "goal");
    assert_eq!(params["root_turn_id"], "r", "that of the turn");
}

fn turn(events: &[Event]) -> serde_json::Value {
    let turns = of_kind(events, "codex_turn_event");
    assert_eq!(turns.len(), 1);
    serde_json::from_str::<serde_json::Value>(&turns[0]).unwrap()["event_params"].take()
}

#[test]
fn control_tools_are_counted_once_in_their_turn_and_not_after_it() {
    // The plan shows on the stream as well as the host tells it.
    let told = |facts: &Facts| {
        lines(facts, &[PLAN]);
        facts.track_control_tool_call(&ControlToolCall { tool: "update_plan".into(), ..call() });
        facts.track_control_tool_call(&ControlToolCall { call_id: "d".into(), ..call() });
    };
    let (events, _) = host(told, |facts| facts.track_control_tool_call(&call()));
    assert_eq!(turn(&events)["total_tool_call_count"], 2);
    assert_eq!(of_kind(&events, "codex_control_tool_call_event").len(), 3);
}

#[test]
fn guardian_v2_classification() {
    gives(
        |facts| {
            facts.track_guardian_v2_classification(&GuardianV2Classification {
                thread_id: "t".into(),
                turn_id: "u".into(),
                call_id: Some("c".into()),
                model: Some("guard".into()),
                occurred_at_ms: Some(9),
                outcome: "allow".into(),
                risk_level: Some("low".into()),
                duration_ms: 12,
            });
        },
        "codex_guardian_v2_classification",
        &[
            r#""session_id":"t","#,
            CLIENT,
            RUNTIME,
            LINEAGE,
            r#""thread_id":"t","turn_id":"u","item_id":"c","model":"guard","occurred_at_ms":9,"#,
            r#""outcome":"allow","risk_level":"low","duration_ms":12"#,
        ],
    );
}

#[test]
fn guardian_v2_fast_decision() {
    gives(
        |facts| {
            facts.track_guardian_v2_fast_decision(&GuardianV2FastDecision {
                thread_id: "t".into(),
                turn_id: "u".into(),
                occurred_at_ms: Some(9),
                decision: "approve".into(),
                ..GuardianV2FastDecision::default()
            });
        },
        "codex_guardian_v2_fast_decision",
        &[
            r#""session_id":"t","#,
            CLIENT,
            RUNTIME,
            LINEAGE,
            r#""thread_id":"t","turn_id":"u","item_id":null,"model":null,"occurred_at_ms":9,"decision":"approve""#,
        ],
    );
}

#[test]
fn thread_hint_status() {
    gives(
        |facts| {
            facts.track_thread_hint_status(&ThreadHintStatus {
                thread_id: "t".into(),
                status: "failed".into(),
                occurred_at_ms: Some(9),
            });
        },
        "codex_thread_hint_status",
        &[
            r#""thread_id":"t","session_id":"t","#,
            CLIENT,
            RUNTIME,
            LINEAGE,
            r#""status":"failed","occurred_at_ms":9"#,
        ],
    );
}

#[test]
fn plugin_install_requested() {
    gives(
        |facts| {
            facts.track_plugin_install_requested(&PluginInstallRequested {
                suggestion_id: "s".into(),
                plugins: [
                    r#"{"plugin_id":"a@b","remote_plugin_id":"x","plugin_name":"A","connector_ids":["k"]}"#,
                    r#"{"plugin_id":"c@b","plugin_name":"C"}"#,
                ]
                .into_iter()
                .collect(),
                source: "legacy_discovery".into(),
                thread_id: "t".into(),
                turn_id: "u".into(),
                ..PluginInstallRequested::default()
            });
        },
        "codex_plugin_install_requested",
        &[
            r#""suggestion_id":"s","plugins":["#,
            r#"{"plugin_id":"a@b","remote_plugin_id":"x","plugin_name":"A","connector_ids":["k"]},"#,
            r#"{"plugin_id":"c@b","remote_plugin_id":null,"plugin_name":"C","connector_ids":[]}],"#,
            r#""source":"legacy_discovery","thread_id":"t","turn_id":"u","model_slug":"m","product_client_id":"ide""#,
        ],
    );
}

fn measurement() -> PluginMeasurement<'static> {
    PluginMeasurement {
        thread_id: "t".into(),
        turn_id: "u".into(),
        call_id: "c".into(),
        plugin_id: "a@b".into(),
        execution_id: "e".into(),
        operation: "render".into(),
        measurement_name: "pages".into(),
        number_value: 2.5,
        dimensions: ["size=large", "format=pdf"].into_iter().collect(),
        ..PluginMeasurement::default()
    }
}

#[test]
fn plugin_measurement() {
    gives(
        |facts| facts.track_plugin_measurement(&measurement()),
        "codex_plugin_measurement_event",
        &[
            r#""thread_id":"t","turn_id":"u","item_id":"c","originator":"ide","model_slug":"m","#,
            r#""reasoning_effort":"high","plugin_id":"a@b","execution_id":"e","operation":"render","#,
            r#""measurement_name":"pages","number_value":2.5,"dimensions":{"format":"pdf","size":"large"}"#,
        ],
    );
}

#[test]
fn measurements_that_break_the_rules_are_counted_and_leave_no_event() {
    let nine: Vec<String> = (0..9).map(|at| format!("d{at}=v")).collect();
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    for wrong in [
        PluginMeasurement { number_value: f64::NAN, ..measurement() },
        PluginMeasurement { operation: "Render".into(), ..measurement() },
        PluginMeasurement { measurement_name: "a".repeat(65).into(), ..measurement() },
        PluginMeasurement { dimensions: nine.into_iter().collect(), ..measurement() },
        PluginMeasurement { dimensions: list(&["path=/home/me"]), ..measurement() },
        PluginMeasurement { dimensions: list(&["alone"]), ..measurement() },
    ] {
        let (events, counts) = host(|facts| facts.track_plugin_measurement(&wrong), |_| ());
        assert!(of_kind(&events, "codex_plugin_measurement_event").is_empty(), "{wrong:?}");
        assert_eq!(counts, BTreeMap::from([("malformed", 1)]), "{wrong:?}");
    }
    let bare = PluginMeasurement { dimensions: list(&[]), ..measurement() };
    let (events, _) = host(|facts| facts.track_plugin_measurement(&bare), |_| ());
    assert!(of_kind(&events, "codex_plugin_measurement_event")[0].ends_with(r#""dimensions":null}}"#));
}

#[test]
fn artifact_operation() {
    gives(
        |facts| {
            facts.track_artifact_operation(&ArtifactOperation {
                thread_id: "t".into(),
                turn_id: "u".into(),
                call_id: "c".into(),
                lifecycle: "started".into(),
                occurred_at_ms: Some(9),
                plugin_id: "a@b".into(),
                script: "scripts/make.py".into(),
                skill: "slides".into(),
                artifact_type: "presentation".into(),
                operation: "create".into(),
                expected_output_count: 1,
                output_format: "pptx".into(),
                execution_backend: "local".into(),
                model: Some("own".into()),
                ..ArtifactOperation::default()
            });
        },
        "codex_artifact_operation",
        &[
            r#""thread_id":"t","turn_id":"u","item_id":"c","lifecycle":"started","occurred_at_ms":9,"#,
            r#""product_client_id":"ide","#,
            RUNTIME,
            r#""model_slug":"own","plugin_id":"a@b","script_path":"scripts/make.py","skill":"slides","#,
            r#""artifact_type":"presentation","operation_kind":"create","expected_output_count":1,"#,
            r#""output_format":"pptx","execution_backend":"local""#,
        ],
    );
}

fn parts(facts: &Facts) {
    let (thread_id, turn_id) = ("t".into(), "u".into());
    facts.track_turn_profile(&TurnProfile {
        thread_id,
        turn_id,
        before_first_sampling_ms: 1,
        sampling_ms: 2,
        compaction_ms: 3,
        between_sampling_overhead_ms: 4,
        tool_blocking_ms: 5,
        after_last_sampling_ms: 6,
        sampling_request_count: 7,
        sampling_retry_count: 8,
        tools_change_count: 9,
    });
    facts.track_turn_codex_error(&TurnCodexError {
        thread_id: "t".into(),
        turn_id: "u".into(),
        error_kind: "usage_limit_reached".into(),
        http_status: Some(429),
        usage_limit_window_minutes: Some(300),
    });
    facts.track_image_preparation(&ImagePreparation {
        thread_id: "t".into(),
        turn_id: "u".into(),
        message_role: Some("user".into()),
        item_id: None,
        effective_detail: "high".into(),
        source_width: 400,
        source_height: 300,
        prepared_width: 40,
        prepared_height: 30,
    });
}

#[test]
fn profile_error_and_images_join_the_event_of_their_turn() {
    let (events, counts) = host(parts, |_| ());
    let turn = &of_kind(&events, "codex_turn_event")[0];
    for part in [
        r#""codex_error_kind":"usage_limit_reached","codex_error_http_status_code":429,"usage_limit_window_minutes":300,"#,
        r#""before_first_sampling_ms":1,"sampling_ms":2,"compaction_ms":3,"between_sampling_overhead_ms":4,"tool_blocking_ms":5,"after_last_sampling_ms":6,"sampling_request_count":7,"sampling_retry_count":8,"tools_change_count":9,"#,
        r#""image_preparations":[{"message_role":"user","item_id":null,"effective_detail":"high","source_width":400,"source_height":300,"prepared_width":40,"prepared_height":30}],"#,
    ] {
        assert!(turn.contains(part), "{part} is not in {turn}");
    }
    assert_eq!(counts, BTreeMap::new());
}

#[test]
fn what_comes_after_the_turn_is_counted_and_changes_nothing() {
    let (events, counts) = host(|_| (), parts);
    let turn = turn(&events);
    assert!(turn["sampling_ms"].is_null() && turn["codex_error_kind"].is_null());
    assert_eq!(turn["image_preparations"], serde_json::json!([]));
    assert_eq!(counts, BTreeMap::from([("turn_not_running", 3)]));
}

#[test]
fn facts_of_a_thread_that_becomes_known_later_wait_for_it() {
    let hint =
        ThreadHintStatus { thread_id: "t".into(), status: "succeeded".into(), ..ThreadHintStatus::default() };
    let (events, counters) = facts::observed(|| {
        let facts = Facts::new();
        facts.track_thread_hint_status(&hint);
        lines(&facts, &BEGIN);
        facts.track_thread_hint_status(&ThreadHintStatus { thread_id: "unknown".into(), ..hint.clone() });
    });
    assert_eq!(of_kind(&events, "codex_thread_hint_status").len(), 1);
    assert_eq!(counters.counts(), BTreeMap::from([("held", 1)]));
}
