//! Whatever a stream holds, state stays consistent, and what gives no event is counted with its reason.
#![cfg(all(feature = "analytics", feature = "tap"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::large_enum_variant)]

#[path = "support/facts.rs"]
mod facts;

use factline::analytics::{AnalyticsLayer, Event, Families, Family, Limits, Reducer, only_facts};
use factline::fact::vocabulary::{Fact, ThreadArchived, ToolEnd, ToolStart, TurnEnd, TurnStart};
use factline::fact::{Capture, End, Envelope, Point as _};
use facts::{Said, observed, told};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

const INITIALIZE: &str = r#">{"id":1,"method":"initialize","params":{"clientInfo":{"name":"ide","version":"1"},"capabilities":{}}}"#;
const INITIALIZED: &str =
    r#"<{"id":1,"result":{"userAgent":"ide/0.169.0 (Debian 12.0.0; x86_64) x","platformOs":"linux"}}"#;
const START: &str = r#">{"id":2,"method":"thread/start","params":{}}"#;
const STARTED: &str = r#"<{"id":2,"result":{"thread":{"id":"t","sessionId":"t","createdAt":5,"ephemeral":false},"model":"m","modelProvider":"p","sandbox":{"type":"readOnly"},"approvalPolicy":"never","approvalsReviewer":"user"}}"#;
const ASK: &str =
    r#">{"id":3,"method":"turn/start","params":{"threadId":"t","input":[{"type":"text","text":"x"}]}}"#;
const ASKED: &str = r#"<{"id":3,"result":{"turn":{"id":"u","status":"inProgress"}}}"#;
const TURN: &str = r#"<{"method":"turn/started","params":{"threadId":"t","turn":{"id":"u","rootTurnId":"u","startedAt":5}}}"#;
const DONE: &str = r#"<{"method":"turn/completed","params":{"threadId":"t","turn":{"id":"u","status":"completed","startedAt":5,"completedAt":6,"durationMs":900}}}"#;
const BEGIN: [&str; 7] = [INITIALIZE, INITIALIZED, START, STARTED, ASK, ASKED, TURN];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    BEGIN.iter().chain(more).copied().collect()
}

fn types(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(Event::event_type).collect()
}

fn command(phase: &str, id: &str, more: &str) -> String {
    format!(
        r#"<{{"method":"item/{phase}","params":{{"threadId":"t","turnId":"u","item":{{"type":"commandExecution","id":"{id}","source":"unifiedExecStartup","startedAtMs":1795000000000{more}}}}}}}"#
    )
}

#[test]
fn a_well_formed_turn_has_its_events() {
    let (events, counters) = told(&with(&[DONE]));
    assert_eq!(types(&events), ["codex_thread_initialized", "codex_turn_event"]);
    assert!(counters.counts().is_empty(), "{:?}", counters.counts());
}

#[test]
fn a_response_without_its_request_starts_nothing() {
    let (events, _) = told(&[INITIALIZE, INITIALIZED, STARTED, ASKED, DONE]);
    assert_eq!(types(&events), [""; 0]);
}

#[test]
fn a_thread_on_a_connection_that_never_said_hello_is_missing_context() {
    let (events, counters) = told(&[START, STARTED]);
    assert!(events.is_empty());
    assert_eq!(counters.counts()["missing_context"], 1);
}

#[test]
fn what_is_said_of_an_unknown_thread_waits_and_is_counted() {
    let (events, counters) = told(&[INITIALIZE, INITIALIZED, TURN, &command("started", "c", ""), DONE]);
    assert!(events.is_empty());
    // The turn's start and configuration, the call's start, and both their ends.
    assert_eq!(counters.counts()["held"], 5);
}

#[test]
fn a_steer_of_an_unknown_thread_gives_nothing() {
    let (events, counters) = told(&[
        INITIALIZE,
        INITIALIZED,
        r#">{"id":9,"method":"turn/steer","params":{"threadId":"ghost","expectedTurnId":"u","input":[]}}"#,
        r#"<{"id":9,"error":{"code":-32600,"message":"thread not found: ghost"}}"#,
    ]);
    assert!(events.is_empty());
    assert_eq!(counters.counts()["missing_context"], 1);
}

#[test]
fn notifications_that_come_twice_count_once() {
    let (started, completed) = (
        command("started", "c", ""),
        command("completed", "c", r#","completedAtMs":1795000000009,"status":"completed""#),
    );
    let (events, _) = told(&with(&[TURN, &started, &started, &completed, &completed, DONE, DONE]));
    assert_eq!(
        types(&events),
        ["codex_thread_initialized", "codex_command_execution_event", "codex_turn_event"]
    );
    let Some(Event::Turn(turn)) = events.last() else { panic!("no turn") };
    assert_eq!((turn.shell_command_count, turn.total_tool_call_count), (1, 1));
}

#[test]
fn an_item_that_completes_after_its_turn_has_an_event_and_is_not_counted() {
    let (started, completed) = (
        command("started", "c", ""),
        command("completed", "c", r#","completedAtMs":1795000000009,"status":"failed","exitCode":-1"#),
    );
    let (events, counters) = told(&with(&[&started, DONE, &completed]));
    assert_eq!(
        types(&events),
        ["codex_thread_initialized", "codex_turn_event", "codex_command_execution_event"]
    );
    let Event::Turn(turn) = &events[1] else { panic!("no turn") };
    assert_eq!(turn.total_tool_call_count, 0);
    assert!(counters.counts().is_empty());
}

#[test]
fn a_clock_that_jumps_back_gives_no_negative_duration() {
    let (started, completed) = (
        command("started", "c", ""),
        command("completed", "c", r#","completedAtMs":1,"status":"completed""#),
    );
    let (events, _) = told(&with(&[&started, &completed, DONE]));
    let Event::CommandExecution(call) = &events[1] else { panic!("no command") };
    assert!(call.base.completed_at_ms >= call.base.started_at_ms && call.base.duration_ms == Some(0));
}

#[test]
fn an_interrupted_stream_leaves_an_interrupted_turn_and_a_killed_server_none() {
    let ended = |how: factline::protocol::Ended| {
        observed(|| {
            let mut observer = factline::protocol::Observer::new(Capture::NONE);
            for (at, line) in BEGIN.iter().enumerate() {
                let client = line.starts_with('>');
                let sender = if client {
                    factline::protocol::Sender::Client
                } else {
                    factline::protocol::Sender::Server
                };
                observer.message(1, sender, 1_795_000_000_000_000 + at as u64, &line.as_bytes()[1..]);
            }
            observer.end(1, 1_795_000_001_000_000, how);
        })
    };
    let (events, _) = ended(factline::protocol::Ended::ClientClosed);
    let Some(Event::Turn(turn)) = events.last() else { panic!("no turn") };
    assert_eq!((&*turn.status, turn.total_tokens, turn.duration_ms), ("interrupted", None, Some(1_000)));
    let (events, _) = ended(factline::protocol::Ended::Killed);
    assert_eq!(types(&events), ["codex_thread_initialized"]);
}

#[test]
fn facts_out_of_order_change_nothing_that_was_said() {
    let mut reducer = Reducer::new(Limits::default());
    let envelope = Envelope { time: 7, observed: 7, ..Envelope::default() };
    let start =
        Fact::TurnStart(TurnStart { thread_id: "t".into(), turn_id: "u".into(), ..TurnStart::default() });
    let end = Fact::TurnEnd(TurnEnd { status: "completed".into(), ..TurnEnd::default() });
    let tool =
        Fact::ToolStart(ToolStart { thread_id: "t".into(), turn_id: "u".into(), ..ToolStart::default() });
    let tool_end = Fact::ToolEnd(ToolEnd { status: "completed".into(), ..ToolEnd::default() });
    let ending = End { time: 9, observed: 9, ..End::default() };
    for said in [
        Said::End(envelope.clone(), tool.clone(), ending.clone(), tool_end.clone()),
        Said::End(envelope.clone(), start.clone(), ending.clone(), end.clone()),
        Said::Fact(envelope.clone(), start.clone()),
        // An end that belongs to another kind of start.
        Said::End(envelope.clone(), start, ending, tool_end),
    ] {
        assert!(said.tell(&mut reducer).is_empty());
    }
    assert_eq!(reducer.counts()["held"], 4);
    assert!(reducer.reduce(&envelope, &tool).is_empty() && reducer.threads() == 0);
}

#[test]
fn an_archived_thread_that_nobody_knows_has_an_event_without_context() {
    let (events, _) = observed(|| {
        ThreadArchived { thread_id: "t".into(), action: "archived".into() }
            .emit(&Envelope::default(), Capture::NONE);
    });
    let json = serde_json::to_string(&events[0]).unwrap();
    assert_eq!(
        json,
        r#"{"event_type":"codex_thread_archive_event","event_params":{"thread_id":"t","action":"archived","occurred_at_ms":0}}"#
    );
}

#[test]
fn more_threads_and_facts_than_fit_are_forgotten_and_counted() {
    let mut reducer = Reducer::new(Limits { unknown_threads: 2, held: 2, ..Limits::default() });
    for thread in ["a", "b", "c"] {
        for turn in ["1", "2", "3"] {
            let fact = TurnStart { thread_id: thread.into(), turn_id: turn.into(), ..TurnStart::default() };
            assert!(reducer.reduce(&Envelope::default(), &Fact::TurnStart(fact)).is_empty());
        }
    }
    assert_eq!(reducer.counts()["missing_context"], 9);
}

#[test]
fn a_family_that_is_switched_off_gives_no_event() {
    let kept = facts::Kept::default();
    let layer =
        AnalyticsLayer::new(kept.clone(), Families::default().without(Family::Thread), Limits::default());
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(only_facts()));
    tracing::subscriber::with_default(subscriber, || {
        ThreadArchived { thread_id: "t".into(), action: "archived".into() }
            .emit(&Envelope::default(), Capture::NONE);
    });
    assert!(kept.take().is_empty());
    assert_eq!(Family::ALL.map(|family| Family::from_name(family.as_str())), Family::ALL.map(Some));
}
