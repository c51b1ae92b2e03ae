//! What no recorded session shows: streams made up for one rule each.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

#[path = "support/recorded.rs"]
mod recorded;

use factline::fact::vocabulary::*;
use factline::fact::{Capture, Envelope, Fact};
use factline::protocol::{Ended, Limits, Observer, Sender, Transport};
use recorded::{Facts, Saw};
use serde_json::{Value, json};
use tracing_subscriber::layer::SubscriberExt as _;

const TURN: &str = "01a201f3-be67-75b2-961c-ab62bf230953";
const CHILD: &str = "01a201f3-be67-75b2-961c-ab62bf230954";

fn observed(run: impl FnOnce(&mut Observer)) -> Vec<Saw> {
    let kept = Facts::default();
    let subscriber = tracing_subscriber::registry().with(kept.clone());
    tracing::subscriber::with_default(subscriber, || {
        let mut observer = Observer::new(Capture::NONE);
        run(&mut observer);
        observer.finish(Ended::ServerExited);
    });
    kept.0.lock().unwrap().clone()
}

fn say(observer: &mut Observer, connection: u64, sender: Sender, t_ms: u64, message: &Value) {
    observer.message(connection, sender, t_ms * 1_000, message.to_string().as_bytes());
}

fn notify(observer: &mut Observer, t_ms: u64, method: &str, params: Value) {
    say(observer, 1, Sender::Server, t_ms, &json!({"method": method, "params": params, "emittedAtMs": t_ms}));
}

fn started(observer: &mut Observer, t_ms: u64, thread: &str, turn: &str, root: &str) {
    notify(
        observer,
        t_ms,
        "turn/started",
        json!({"threadId": thread, "turn": {"id": turn, "rootTurnId": root}}),
    );
}

fn completed(observer: &mut Observer, t_ms: u64, thread: &str, turn: &str, ms: u64) {
    let turn = json!({"id": turn, "status": "completed", "durationMs": ms});
    notify(observer, t_ms, "turn/completed", json!({"threadId": thread, "turn": turn}));
}

fn item(observer: &mut Observer, t_ms: u64, what: &str, thread: &str, turn: &str, item: Value) {
    notify(
        observer,
        t_ms,
        &format!("item/{what}"),
        json!({"threadId": thread, "turnId": turn, "item": item}),
    );
}

fn turn_ends(saw: &[Saw]) -> Vec<(Envelope, u64, TurnEnd<'static>)> {
    saw.iter()
        .filter_map(|saw| match saw {
            Saw::End(envelope, end, Fact::TurnEnd(fact)) => {
                Some((envelope.clone(), end.parent, fact.clone()))
            }
            _ => None,
        })
        .collect()
}

fn tool_ends(saw: &[Saw]) -> Vec<(Envelope, u64)> {
    saw.iter()
        .filter_map(|saw| match saw {
            Saw::End(envelope, end, Fact::ToolEnd(_)) => Some((envelope.clone(), end.parent)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_client_that_wants_no_turn_started_still_has_turns() {
    let saw = observed(|observer| {
        let initialize = json!({"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "c", "version": "1"},
            "capabilities": {"optOutNotificationMethods": ["turn/started"]}}});
        say(observer, 1, Sender::Client, 1, &initialize);
        say(
            observer,
            1,
            Sender::Server,
            2,
            &json!({"id": 1, "result": {"userAgent": "c/1 (Debian 12; x86_64) d"}}),
        );
        say(
            observer,
            1,
            Sender::Client,
            3,
            &json!({"id": 2, "method": "turn/start", "params": {"threadId": "t", "input": []}}),
        );
        say(observer, 1, Sender::Server, 4, &json!({"id": 2, "result": {"turn": {"id": TURN}}}));
        completed(observer, 50, "t", TURN, 40);
    });
    let ends = turn_ends(&saw);
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0].2.status, "completed");
    assert_eq!(ends[0].2.duration_s, Some(0.04));
}

#[test]
fn a_subagents_turn_waits_for_the_call_that_names_its_thread() {
    let saw = observed(|observer| {
        started(observer, 1, "parent", TURN, TURN);
        let mut spawn = json!({"type": "collabAgentToolCall", "id": "call", "tool": "spawnAgent", "startedAtMs": 2, "receiverThreadIds": []});
        item(observer, 2, "started", "parent", TURN, spawn.clone());
        started(observer, 3, "child", CHILD, TURN);
        completed(observer, 5, "child", CHILD, 2);
        spawn["receiverThreadIds"] = json!(["child"]);
        spawn["completedAtMs"] = json!(6);
        item(observer, 6, "completed", "parent", TURN, spawn);
        completed(observer, 9, "parent", TURN, 8);
    });
    let call = tool_ends(&saw)[0].0.span;
    let ends = turn_ends(&saw);
    let child = ends.iter().find(|(envelope, _, _)| envelope.span != ends.last().unwrap().0.span).unwrap();
    assert_eq!(child.1, call, "below the call that spawned it");
    assert_eq!(child.0.trace, ends.last().unwrap().0.trace, "in the trace of its cause");
}

#[test]
fn a_subagent_that_is_woken_again_lies_below_the_call_that_woke_it() {
    let saw = observed(|observer| {
        started(observer, 1, "parent", TURN, TURN);
        let call = |id: &str, tool: &str, at: u64| json!({"type": "collabAgentToolCall", "id": id, "tool": tool, "startedAtMs": at, "completedAtMs": at + 1, "receiverThreadIds": ["child"]});
        item(observer, 2, "started", "parent", TURN, call("spawn", "spawnAgent", 2));
        item(observer, 3, "completed", "parent", TURN, call("spawn", "spawnAgent", 2));
        item(observer, 10, "started", "parent", TURN, call("send", "sendInput", 10));
        item(observer, 11, "completed", "parent", TURN, call("send", "sendInput", 10));
        // Waiting for it is no reason for its turn.
        item(observer, 12, "started", "parent", TURN, call("wait", "wait", 12));
        started(observer, 13, "child", CHILD, TURN);
        completed(observer, 15, "child", CHILD, 2);
        item(observer, 16, "completed", "parent", TURN, call("wait", "wait", 12));
    });
    let send = tool_ends(&saw)[1].0.span;
    let ends = turn_ends(&saw);
    assert_eq!(ends.iter().find(|(_, parent, _)| *parent != 0).unwrap().1, send);
}

#[test]
fn an_item_of_a_turn_that_nobody_saw_has_no_parent_that_would_dangle() {
    let saw = observed(|observer| {
        let call = json!({"type": "webSearch", "id": "s", "startedAtMs": 2, "completedAtMs": 3});
        item(observer, 2, "started", "t", TURN, call.clone());
        item(observer, 3, "completed", "t", TURN, call);
    });
    let ends = tool_ends(&saw);
    assert_eq!((ends.len(), ends[0].1, ends[0].0.parent), (1, 0, 0));
}

#[test]
fn a_link_in_a_prompt_names_an_app_that_was_listed_and_else_says_nothing() {
    let saw = observed(|observer| {
        let ask = |observer: &mut Observer, id: u64, method: &str, params: Value| {
            say(observer, 1, Sender::Client, id, &json!({"id": id, "method": method, "params": params}));
        };
        let answer = |observer: &mut Observer, id: u64, result: Value| {
            say(observer, 1, Sender::Server, id, &json!({"id": id, "result": result}));
        };
        ask(observer, 1, "app/list", json!({}));
        let listed = json!([
            {"id": "connector_a", "name": "A", "isAccessible": true},
            {"id": "connector_b", "name": "B", "isAccessible": false},
        ]);
        answer(observer, 1, json!({"data": listed}));
        let text = "[$a](app://connector_a) [$b](app://connector_b) [$c](app://what I would never say aloud)";
        ask(observer, 2, "turn/start", json!({"threadId": "t", "input": [{"type": "text", "text": text}]}));
        answer(observer, 2, json!({"turn": {"id": TURN}}));
        started(observer, 3, "t", TURN, TURN);
    });
    let named = saw.iter().filter_map(|saw| match saw {
        Saw::Point(_, Fact::AppMentioned(fact)) => Some((fact.connector_id.clone(), fact.app_name.clone())),
        _ => None,
    });
    assert_eq!(
        named.collect::<Vec<_>>(),
        [(Some("connector_a".into()), Some("A".into())), (Some("connector_b".into()), None)]
    );
}

#[test]
fn what_a_prompt_overrides_holds_although_it_joined_a_command_of_the_user() {
    let saw = observed(|observer| {
        let ask = |observer: &mut Observer, id: u64, method: &str, params: Value| {
            say(observer, 1, Sender::Client, id, &json!({"id": id, "method": method, "params": params}));
        };
        let answer = |observer: &mut Observer, id: u64, result: Value| {
            say(observer, 1, Sender::Server, id, &json!({"id": id, "result": result}));
        };
        ask(observer, 1, "thread/start", json!({}));
        answer(observer, 1, json!({"thread": {"id": "t"}, "model": "first"}));
        ask(observer, 2, "thread/shellCommand", json!({"threadId": "t", "command": "true"}));
        ask(observer, 3, "turn/start", json!({"threadId": "t", "model": "second", "input": []}));
        answer(observer, 3, json!({"turn": {"id": TURN}}));
        started(observer, 4, "t", TURN, TURN);
        completed(observer, 5, "t", TURN, 1);
        started(observer, 6, "t", CHILD, CHILD);
    });
    let turns = saw.iter().filter_map(|saw| match saw {
        Saw::Start(_, Fact::TurnStart(fact)) => Some((fact.kind.clone(), fact.model.clone())),
        _ => None,
    });
    let turn = |kind: &str, model: &str| (Some(kind.to_owned().into()), Some(model.to_owned().into()));
    assert_eq!(turns.collect::<Vec<_>>(), [turn("user_shell", "first"), turn("regular", "second")]);
    assert!(saw.iter().any(|saw| matches!(saw, Saw::Point(_, Fact::TurnQueued(_)))));
}

#[test]
fn a_response_without_its_request_and_notices_without_context_are_counted() {
    let mut observer = Observer::new(Capture::NONE);
    say(&mut observer, 1, Sender::Server, 1, &json!({"id": 7, "result": {}}));
    notify(
        &mut observer,
        2,
        "turn/completed",
        json!({"threadId": "t", "turn": {"id": "x", "status": "completed"}}),
    );
    notify(
        &mut observer,
        3,
        "item/completed",
        json!({"threadId": "t", "turnId": "x", "item": {"type": "fileChange", "id": "f"}}),
    );
    notify(&mut observer, 4, "turn/started", json!({"turn": 5}));
    notify(&mut observer, 5, "thread/tokenUsage/updated", json!({}));
    observer.message(1, Sender::Client, 6, b"not json");
    assert_eq!(observer.counts().get("response_without_request"), Some(&1));
    assert_eq!(observer.counts().get("missing_context"), Some(&4));
    assert_eq!(observer.counts().get("not_json"), Some(&1));
}

#[test]
fn an_id_used_twice_is_answered_twice_in_order() {
    let saw = observed(|observer| {
        for expected in ["a", "b"] {
            let steer = json!({"id": 1, "method": "turn/steer", "params": {"threadId": "t", "expectedTurnId": expected}});
            say(observer, 1, Sender::Client, 1, &steer);
        }
        for _ in 0..2 {
            say(
                observer,
                1,
                Sender::Server,
                2,
                &json!({"id": 1, "error": {"code": -32600, "message": "no active turn to steer"}}),
            );
        }
    });
    let expected: Vec<_> = saw
        .iter()
        .filter_map(|saw| match saw {
            Saw::Point(_, Fact::TurnSteered(steer)) => steer.expected_turn_id.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(expected, ["a", "b"]);
}

#[test]
fn a_notification_that_two_clients_get_is_one_fact_and_a_real_repetition_is_two() {
    let saw = observed(|observer| {
        observer.open(1, Transport::WebSocket, 1);
        observer.open(2, Transport::WebSocket, 1);
        let goal = json!({"method": "thread/goal/cleared", "params": {"threadId": "t"}});
        for connection in [1, 2, 1, 2] {
            say(observer, connection, Sender::Server, 2, &goal);
        }
    });
    let goals = saw.iter().filter(|saw| matches!(saw, Saw::Point(_, Fact::GoalChanged(_)))).count();
    assert_eq!(goals, 2);
}

#[test]
fn state_is_bounded_and_what_is_forgotten_is_counted() {
    let limits = Limits { requests: 4, threads: 8, turns: 8, items: 4 };
    let mut observer = Observer::new(Capture::NONE).with_limits(limits);
    for nth in 0..100 {
        let (thread, turn) = (format!("thread-{nth}"), format!("turn-{nth}"));
        say(&mut observer, 1, Sender::Client, nth, &json!({"id": nth, "method": "model/list"}));
        started(&mut observer, nth, &thread, &turn, &turn);
        item(
            &mut observer,
            nth,
            "started",
            &thread,
            &turn,
            json!({"type": "webSearch", "id": "s", "startedAtMs": nth}),
        );
        completed(&mut observer, nth, &thread, &turn, 1);
    }
    assert_eq!(observer.open_turns(), 0);
    assert!(
        observer.counts().get("forgotten").is_some_and(|forgotten| *forgotten > 150),
        "{:?}",
        observer.counts()
    );
}

#[test]
fn a_clock_that_jumps_back_gives_no_span_that_ends_before_it_begins() {
    let saw = observed(|observer| {
        started(observer, 1_000_000, "t", TURN, TURN);
        let call = json!({"type": "fileChange", "id": "f", "startedAtMs": 999_999, "completedAtMs": 5});
        item(observer, 999_999, "started", "t", TURN, call.clone());
        item(observer, 5, "completed", "t", TURN, call);
        completed(observer, 10, "t", TURN, 999_999_999);
    });
    for saw in saw {
        if let Saw::End(envelope, end, _) = saw {
            let start = if end.start != 0 { end.start } else { envelope.time };
            assert!(end.time >= start, "{end:?}");
        }
    }
}
