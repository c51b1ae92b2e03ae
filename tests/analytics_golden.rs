//! The events derived from recorded sessions are those that the recorded process itself sent.
//!
//! `tests/analytics/marks.txt` says which members can't be seen on the stream (`none`), only with the files of
//! the recorded machine (`local`), or only nearly (`approx`); all others must be equal. What disagrees
//! nevertheless stands in [`KNOWN`] with its reason, and nothing else may.
#![cfg(all(feature = "analytics", feature = "tap"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::large_enum_variant)]

#[path = "support/events.rs"]
mod events;
#[path = "support/facts.rs"]
mod facts;

use std::collections::BTreeMap;

use events::Tree;

/// Sessions where the recorded process sent less than it should: it lost events, or was told not to send any,
/// or has no stream.
const SKIPPED: [&str; 3] = ["23-exec-json", "27-no-analytics", "30-slow-analytics"];

/// Session, event type, member, how often, and why.
const KNOWN: [(&str, &str, &str, usize, &str); 5] = [
    (
        "08-interrupt",
        "codex_turn_event",
        "event_params.duration_ms",
        1,
        "the client left in mid-turn: the recording ends before the server's turn does",
    ),
    (
        "10-subagents",
        "codex_turn_event",
        "event_params.subagent_tool_call_count",
        1,
        "list_agents shows nowhere on the stream",
    ),
    (
        "10-subagents",
        "codex_turn_event",
        "event_params.total_tool_call_count",
        1,
        "list_agents shows nowhere on the stream",
    ),
    (
        "21-goals",
        "codex_turn_event",
        "event_params.total_tool_call_count",
        1,
        "get_goal shows nowhere on the stream",
    ),
    (
        "63-twin-skills",
        "codex_turn_event",
        "event_params.sampling_request_count",
        1,
        "a steer and a prompt that joins came so close that one request took both",
    ),
];

#[test]
fn recorded_sessions_give_the_events_that_were_really_sent() {
    let mut found: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let (mut members, mut compared) = (0, 0);
    for session in sessions() {
        let result = events::compare(&golden(&session), derived(&session));
        assert!(result.missing.is_empty(), "{session}: missing {:?}", result.missing[0]);
        assert!(result.spurious.is_empty(), "{session}: never sent: {:?}", result.spurious[0]);
        for (want, got) in &result.pairs {
            assert_eq!(events::order(want), events::order(got), "{session}: members of {}", want.kind());
        }
        compared += result.pairs.len();
        members += result.exact.0;
        for (kind, member) in result.wrong {
            *found.entry((session.clone(), kind, member)).or_default() += 1;
        }
    }
    let known = KNOWN.iter().map(|(session, kind, member, times, _)| {
        ((session.to_string(), kind.to_string(), member.to_string()), *times)
    });
    assert_eq!(found, known.collect());
    println!("{compared} events, {members} members");
    assert!(compared > 500 && members > 18_000, "{compared} events, {members} members");
}

#[test]
fn the_same_recording_gives_the_same_bytes() {
    let bytes = |session: &str| serde_json::to_string(&facts::events(session).0).unwrap();
    assert_eq!(bytes("10-subagents"), bytes("10-subagents"));
}

fn sessions() -> Vec<String> {
    let folders = std::fs::read_dir(facts::corpus()).unwrap();
    let names = folders.map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !SKIPPED.contains(&name.as_str())).collect();
    names.sort();
    names
}

fn golden(session: &str) -> Vec<Tree> {
    let text = std::fs::read_to_string(facts::corpus().join(session).join("analytics.jsonl")).unwrap();
    let mut events = Vec::new();
    for line in text.lines() {
        let post: Tree = serde_json::from_str(line).unwrap();
        match post.get("body").and_then(|body| body.get("events")) {
            Some(Tree::List(list)) => events.extend(list.iter().cloned()),
            _ => panic!("{session}: a post without events"),
        }
    }
    events
}

fn derived(session: &str) -> Vec<Tree> {
    let (events, _) = facts::events(session);
    events.iter().map(|event| serde_json::from_str(&serde_json::to_string(event).unwrap()).unwrap()).collect()
}
