//! One test for each thing that the first analytics of an app server promised:
//!
//! | promised | test |
//! |---|---|
//! | a thread is started | `thread_started` |
//! | a thread is resumed | `thread_resumed` |
//! | a thread is forked | `thread_forked` |
//! | a subagent's thread | `subagent_thread` |
//! | a turn | `turn` |
//! | a steer that was accepted | `steer_accepted` |
//! | a steer that was rejected | `steer_rejected` |
//! | a prompt that was queued | `queued_prompt` |
//! | skills | `skills` |
//! | apps | `apps` |
//! | plugins used | `plugins_used` |
//! | plugins whose state changed | `plugins_state_changed` |
//! | plugins that could not be installed | `plugins_install_failed` |
//! | opting out of a family | `opt_out_by_family` |
//! | opting out of everything | `opt_out_by_switch` |
#![cfg(all(feature = "analytics", feature = "tap"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

#[path = "support/facts.rs"]
mod facts;

use std::collections::BTreeSet;

use factline::analytics::{self, Event, Families, Family};
use factline::fact::vocabulary::{PluginStateChanged, PluginUsed, SkillInvoked, ThreadInitialized};
use factline::host::Facts;
use factline::protocol::Sender;
use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt as _;

/// A conversation of one turn, without its beginning.
const CONNECT: [&str; 4] = [
    r#">{"id":1,"method":"initialize","params":{"clientInfo":{"name":"ide","version":"1"}}}"#,
    r#"<{"id":1,"result":{"userAgent":"ide/0.169.0 (Debian 12.0.0; x86_64) x","platformOs":"linux"}}"#,
    r#">{"id":2,"method":"thread/start","params":{}}"#,
    r#"<{"id":2,"result":{"thread":{"id":"t","sessionId":"t","createdAt":5,"ephemeral":false},"model":"m","modelProvider":"p","sandbox":{"type":"readOnly"},"approvalPolicy":"never","approvalsReviewer":"user"}}"#,
];
const TURN: [&str; 3] = [
    r#">{"id":3,"method":"turn/start","params":{"threadId":"t","input":[]}}"#,
    r#"<{"id":3,"result":{"turn":{"id":"u","status":"inProgress"}}}"#,
    r#"<{"method":"turn/started","params":{"threadId":"t","turn":{"id":"u","startedAt":5}}}"#,
];
const DONE: &str = r#"<{"method":"turn/completed","params":{"threadId":"t","turn":{"id":"u","status":"completed","startedAt":5,"completedAt":6,"durationMs":900}}}"#;

fn params(events: Vec<Event>, kind: &str) -> Vec<Value> {
    let events = events.into_iter().map(|event| serde_json::to_value(event).unwrap());
    events.filter(|event| event["event_type"] == kind).map(|event| event["event_params"].clone()).collect()
}

/// The events of one type of a recorded session.
fn recorded(session: &str, kind: &str) -> Vec<Value> {
    params(facts::events(session).0, kind)
}

/// Those of a host with a thread `t`.
fn told(tell: impl FnOnce(&Facts), kind: &str) -> Vec<Value> {
    params(facts::observed(|| tell(&host(&[]))).0, kind)
}

fn host(more: &[&str]) -> Facts {
    let facts = Facts::new();
    for line in CONNECT.iter().chain(more) {
        let sender = if line.starts_with('>') { Sender::Client } else { Sender::Server };
        facts.track_line(1, sender, &line.as_bytes()[1..]);
    }
    facts
}

fn with(events: &[Value], member: &str, value: &str) -> usize {
    events.iter().filter(|event| event[member] == value).count()
}

#[test]
fn thread_started() {
    let threads = recorded("01-hello", "codex_thread_initialized");
    assert_eq!(threads.len(), 1);
    assert_eq!(threads[0]["initialization_mode"], "new");
    assert_eq!(threads[0]["app_server_client"]["product_client_id"], "codex_vscode");
}

#[test]
fn thread_resumed() {
    let threads = recorded("02-resume", "codex_thread_initialized");
    assert_eq!((with(&threads, "initialization_mode", "resumed"), threads.len()), (2, 3));
    assert!(threads.iter().all(|thread| thread["thread_id"] == threads[0]["thread_id"]));
}

#[test]
fn thread_forked() {
    let threads = recorded("03-fork", "codex_thread_initialized");
    let forked: Vec<_> = threads.iter().filter(|it| it["initialization_mode"] == "forked").collect();
    assert_eq!(forked.len(), 4);
    assert!(forked.iter().all(|thread| thread["forked_from_thread_id"].is_string()));
}

#[test]
fn subagent_thread() {
    let threads = recorded("10-subagents", "codex_thread_initialized");
    let spawned: Vec<_> = threads.iter().filter(|it| it["subagent_source"] == "thread_spawn").collect();
    assert_eq!(spawned.len(), 3);
    assert!(spawned.iter().all(|thread| thread["parent_thread_id"].is_string()));

    let child = ThreadInitialized {
        thread_id: "child".into(),
        session_id: Some("t".into()),
        mode: "new".into(),
        source: Some("subagent".into()),
        subagent_source: Some("review".into()),
        parent_id: Some("t".into()),
        ..ThreadInitialized::default()
    };
    let told = told(|facts| facts.track_subagent_thread_started(&child), "codex_thread_initialized");
    assert_eq!((&told[1]["parent_thread_id"], &told[1]["session_id"]), (&"t".into(), &"t".into()));
    let client = &told[1]["app_server_client"];
    assert_eq!((&client["client_name"], &client["rpc_transport"]), (&"ide".into(), &"in_process".into()));
}

#[test]
fn turn() {
    let turns = recorded("01-hello", "codex_turn_event");
    assert_eq!(turns.len(), 1);
    assert_eq!((&turns[0]["status"], &turns[0]["total_tokens"]), (&"completed".into(), &1260.into()));
    assert_eq!(turns[0]["is_first_turn"], true);
}

#[test]
fn steer_accepted() {
    let steers = recorded("07-steer", "codex_turn_steer_event");
    let accepted: Vec<_> = steers.iter().filter(|it| it["result"] == "accepted").collect();
    assert_eq!(accepted.len(), 2);
    let turns = recorded("07-steer", "codex_turn_event");
    for steer in accepted {
        let turn = turns.iter().find(|turn| turn["turn_id"] == steer["accepted_turn_id"]).unwrap();
        assert_eq!(turn["steer_count"], 1);
    }
}

#[test]
fn steer_rejected() {
    let steers = recorded("07-steer", "codex_turn_steer_event");
    let rejected: Vec<_> = steers.iter().filter(|it| it["result"] == "rejected").collect();
    let reasons: BTreeSet<_> = rejected.iter().map(|it| it["rejection_reason"].as_str().unwrap()).collect();
    let expected = ["empty_input", "expected_turn_mismatch", "input_too_large", "no_active_turn"];
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), expected);
    assert!(rejected.iter().all(|steer| steer["accepted_turn_id"].is_null()));
}

#[test]
fn queued_prompt() {
    let queued = [
        r#">{"id":4,"method":"turn/start","params":{"threadId":"t","input":[{"type":"image","url":"x"}]}}"#,
        r#"<{"id":4,"result":{"turn":{"id":"u","status":"inProgress"}}}"#,
        DONE,
    ];
    let turns = |more: &[&str]| {
        params(facts::observed(|| drop(host(&[&TURN[..], more].concat()))).0, "codex_turn_event")
    };
    let (joined, alone) = (turns(&queued), turns(&[DONE]));
    assert_eq!((joined.len(), alone.len()), (1, 1), "the prompt went into the turn that ran");
    assert_eq!((&joined[0]["num_input_images"], &alone[0]["num_input_images"]), (&1.into(), &0.into()));
    assert_eq!(
        (&joined[0]["sampling_request_count"], &alone[0]["sampling_request_count"]),
        (&1.into(), &0.into())
    );
    assert_eq!(joined[0]["steer_count"], 0);
}

#[test]
fn skills() {
    let skills = recorded("11-skills", "skill_invocation");
    assert_eq!((with(&skills, "invoke_type", "explicit"), skills.len()), (5, 5));

    let found = SkillInvoked {
        thread_id: Some("t".into()),
        turn_id: Some("u".into()),
        skill_name: "review".into(),
        invocation_type: Some("implicit".into()),
        ..SkillInvoked::default()
    };
    let told = told(|facts| facts.track_skill_invoked(&found), "skill_invocation");
    assert_eq!((with(&told, "invoke_type", "implicit"), with(&told, "model_slug", "m")), (1, 1));
}

#[test]
fn apps() {
    let mentioned = recorded("13-apps", "codex_app_mentioned");
    assert_eq!((with(&mentioned, "app_name", "Calendar"), mentioned.len()), (1, 1));
    let used = recorded("13-apps", "codex_app_used");
    assert_eq!((with(&used, "app_name", "Calendar"), with(&used, "app_name", "Mail")), (2, 1));
    assert_eq!((with(&used, "invoke_type", "explicit"), used.len()), (1, 3));
}

#[test]
fn plugins_used() {
    let used = recorded("12-plugins", "codex_plugin_used");
    assert_eq!((with(&used, "plugin_name", "demo-plugin"), used.len()), (1, 1));

    let plugin = PluginUsed {
        thread_id: Some("t".into()),
        turn_id: Some("u".into()),
        plugin_id: "a@b".into(),
        ..PluginUsed::default()
    };
    let again = |facts: &Facts| {
        facts.track_plugin_used(&plugin);
        facts.track_plugin_used(&plugin);
    };
    assert_eq!(told(again, "codex_plugin_used").len(), 1, "once in a turn");
}

#[test]
fn plugins_state_changed() {
    let count = |kind: &str| with(&recorded("12-plugins", kind), "plugin_name", "demo-plugin");
    let kinds = [
        "codex_plugin_installed",
        "codex_plugin_disabled",
        "codex_plugin_enabled",
        "codex_plugin_uninstalled",
    ];
    assert_eq!(kinds.map(count), [1, 2, 1, 1]);

    let all = |facts: &Facts| {
        let plugin = PluginStateChanged { plugin_id: "a@b".into(), ..PluginStateChanged::default() };
        facts.track_plugin_installed(&plugin);
        facts.track_plugin_disabled(&plugin);
        facts.track_plugin_enabled(&plugin);
        facts.track_plugin_uninstalled(&plugin);
    };
    assert_eq!(kinds.map(|kind| with(&told(all, kind), "plugin_id", "a@b")), [1; 4]);
}

#[test]
fn plugins_install_failed() {
    let failed = recorded("12-plugins", "codex_plugin_install_failed");
    assert_eq!((with(&failed, "plugin_name", "no-such-plugin"), failed.len()), (1, 1));
}

/// The types of the events that leave a conversation of one turn.
fn types(families: Option<Families>) -> Vec<&'static str> {
    let kept = facts::Kept::default();
    let layer = families.map(|families| analytics::layer(kept.clone(), families));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || drop(host(&[&TURN[..], &[DONE]].concat())));
    kept.take().iter().map(Event::event_type).collect()
}

#[test]
fn opt_out_by_family() {
    let all = Families::default();
    assert_eq!(types(Some(all)), ["codex_thread_initialized", "codex_turn_event"]);
    assert_eq!(types(Some(all.without(Family::Thread))), ["codex_turn_event"]);
    assert_eq!(types(Some(all.without(Family::Turn))), ["codex_thread_initialized"]);
}

#[test]
fn opt_out_by_switch() {
    assert!(types(Some(Families::NONE)).is_empty());
    assert!(types(None).is_empty(), "without the layer nothing of it runs");
}
