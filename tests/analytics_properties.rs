//! What holds for the reducer whatever the facts are.
#![cfg(all(feature = "analytics", feature = "tap"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::large_enum_variant)]

#[path = "support/facts.rs"]
mod facts;

use std::collections::BTreeMap;

use factline::analytics::{Event, Limits, Reducer};
use facts::Said;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const SESSIONS: [&str; 4] = ["04-commands", "07-steer", "16-concurrent", "22-hooks"];

fn reduce(facts: &[Said]) -> Vec<String> {
    let mut reducer = Reducer::new(Limits::default());
    let events = facts.iter().flat_map(|said| said.tell(&mut reducer));
    events.map(|event| serde_json::to_string(&event).unwrap()).collect()
}

fn by_thread(events: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut by_thread: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        let value: serde_json::Value = serde_json::from_str(event).unwrap();
        let thread = value["event_params"]["thread_id"].as_str().unwrap_or_default().to_owned();
        by_thread.entry(thread).or_default().push(event.clone());
    }
    by_thread
}

// What belongs to no thread comes first; threads of one tree stay together.
fn lanes(facts: Vec<Said>) -> Vec<Vec<Said>> {
    let mut lanes: BTreeMap<String, Vec<Said>> = BTreeMap::new();
    let mut tree: BTreeMap<String, String> = BTreeMap::new();
    for said in &facts {
        if let Said::Fact(_, factline::fact::Fact::ThreadInitialized(fact)) = said
            && let Some(parent) = &fact.parent_id
        {
            tree.insert(fact.thread_id.to_string(), parent.to_string());
        }
    }
    for said in facts {
        let thread = said.thread().unwrap_or_default();
        lanes.entry(tree.get(&thread).cloned().unwrap_or(thread)).or_default().push(said);
    }
    lanes.into_values().collect()
}

#[test]
fn any_interleaving_of_threads_gives_the_same_events_for_each() {
    for session in SESSIONS {
        let all = facts::facts(session);
        let expected = by_thread(&reduce(&all));
        let lanes = lanes(all);
        let total: usize = lanes.iter().skip(1).map(Vec::len).sum();
        let mut runner =
            TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
        let choices = prop::collection::vec(any::<prop::sample::Index>(), total);
        runner
            .run(&choices, |choices| {
                // The first lane is that of no thread: connections must be known before anything else.
                let mut mixed = lanes[0].clone();
                let mut rest: Vec<std::slice::Iter<'_, Said>> =
                    lanes[1..].iter().map(|lane| lane.iter()).collect();
                for choice in choices {
                    rest.retain(|lane| lane.len() > 0);
                    let at = choice.index(rest.len());
                    mixed.push(rest[at].next().unwrap().clone());
                }
                prop_assert_eq!(&by_thread(&reduce(&mixed)), &expected);
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn a_prefix_that_is_told_twice_gives_no_second_event() {
    for session in SESSIONS.into_iter().chain(["10-subagents", "14-compaction", "21-goals"]) {
        let all = facts::facts(session);
        let expected = reduce(&all);
        for part in 1..8 {
            let cut = all.len() * part / 8;
            let twice: Vec<Said> = all[..cut].iter().chain(&all).cloned().collect();
            assert_eq!(reduce(&twice), expected, "{session}, {cut} of {}", all.len());
        }
    }
}

#[test]
fn eviction_loses_events_and_counts_them_but_never_makes_a_wrong_one() {
    let all = facts::facts("16-concurrent");
    let expected = reduce(&all);
    let mut reducer = Reducer::new(Limits { threads: 3, ..Limits::default() });
    let mut events: Vec<Event> = Vec::new();
    for said in &all {
        events.extend(said.tell(&mut reducer));
        assert!(reducer.threads() <= 20);
    }
    let events: Vec<String> = events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    assert!(events.iter().all(|event| expected.contains(event)));
    assert!(events.len() < expected.len());
    assert!(reducer.counts()["forgotten"] > 0 && reducer.counts()["held"] > 0);
}

#[test]
fn totals_of_turns_threads_and_sessions_agree_with_the_stream() {
    for session in ["02-resume", "03-fork", "10-subagents", "14-compaction"] {
        let mut used: BTreeMap<String, u64> = BTreeMap::new();
        for said in facts::facts(session) {
            if let Said::Fact(_, factline::fact::Fact::TurnUsage(usage)) = said {
                *used.entry(usage.turn_id.to_string()).or_default() += usage.total;
            }
        }
        let (events, _) = facts::events(session);
        let mut seen = 0;
        for event in events {
            if let Event::Turn(turn) = event
                && turn.total_tokens.is_some()
            {
                seen += 1;
                assert_eq!(
                    turn.total_tokens,
                    Some(used.get(&turn.turn_id).copied().unwrap_or(0)),
                    "{session}"
                );
            }
        }
        assert!(seen > 0);
    }
}
