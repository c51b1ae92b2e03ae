//! The events derived from recorded sessions are those that the recorded process itself sent.
//!
//! `tests/analytics/marks.txt` says which members can't be seen on the stream (`none`), only with the files of
//! the recorded machine (`local`), or only nearly (`approx`); all others must be equal. What disagrees
//! nevertheless stands in [`KNOWN`] with its reason, and nothing else may.
#![cfg(all(feature = "analytics", feature = "tap"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::large_enum_variant)]

#[path = "support/facts.rs"]
mod facts;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Sessions where the recorded process sent less than it should: it lost events, or was told not to send any,
/// or has no stream.
const SKIPPED: [&str; 3] = ["23-exec-json", "27-no-analytics", "30-slow-analytics"];

/// Session, event type, member, how often, and why.
const KNOWN: [(&str, &str, &str, usize, &str); 4] = [
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
];

/// Event types, or cases of a type, that the stream does not show at all.
fn hidden(event: &Tree, core_threads: &[&str]) -> bool {
    let params = event.get("event_params");
    let says =
        |member: &str, value: &str| params.and_then(|it| it.get(member)).and_then(Tree::text) == Some(value);
    let core = ["review", "guardian", "compact", "memory_consolidation"];
    match event.kind() {
        "codex_control_tool_call_event" => true,
        "skill_invocation" if says("invoke_type", "implicit") => true,
        "codex_hook_run" if says("hook_name", "SessionEnd") => true,
        "codex_collab_agent_tool_call_event" if says("tool_name", "list_agents") => true,
        _ => {
            core.iter().any(|source| says("subagent_source", source))
                || core_threads.iter().any(|id| says("thread_id", id))
        }
    }
}

#[test]
fn recorded_sessions_give_the_events_that_were_really_sent() {
    let marks = marks();
    let mut found: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let (mut members, mut compared) = (0, 0);
    for session in sessions() {
        let golden = golden(&session);
        let core: Vec<&str> = golden
            .iter()
            .filter(|event| hidden(event, &[]) && event.kind() == "codex_thread_initialized")
            .filter_map(|event| event.get("event_params")?.get("thread_id")?.text())
            .collect();
        let mut derived: Vec<Tree> = derived(&session);
        for want in golden.iter().filter(|event| !hidden(event, &core)) {
            compared += 1;
            let twins = derived.iter().enumerate().filter(|(_, got)| key(got) == key(want));
            let best = twins.min_by_key(|(at, got)| (differences(&marks, want, got).len(), *at));
            let Some((at, _)) = best else { panic!("{session}: missing {want:?}") };
            let got = derived.remove(at);
            members += flat(want).len();
            assert_eq!(order(want), order(&got), "{session}: order of members of {}", want.kind());
            for member in differences(&marks, want, &got) {
                *found.entry((session.clone(), want.kind().to_owned(), member)).or_default() += 1;
            }
        }
        assert!(derived.is_empty(), "{session}: never sent: {:?}", derived[0]);
    }
    let known = KNOWN.iter().map(|(session, kind, member, times, _)| {
        ((session.to_string(), kind.to_string(), member.to_string()), *times)
    });
    assert_eq!(found, known.collect());
    assert!(compared > 400 && members > 15_000, "{compared} events, {members} members");
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

fn marks() -> HashMap<(&'static str, &'static str), &'static str> {
    let lines = include_str!("analytics/marks.txt").lines();
    lines
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            let (kind, mark) = (words.next().unwrap(), words.next().unwrap());
            ((kind, words.next().unwrap()), mark)
        })
        .collect()
}

/// What tells events of one session apart.
fn key(event: &Tree) -> Vec<String> {
    const IDS: [&str; 10] = [
        "thread_id",
        "turn_id",
        "item_id",
        "review_id",
        "import_id",
        "plugin_id",
        "connector_id",
        "hook_name",
        "initialization_mode",
        "event_kind",
    ];
    let params = event.get("event_params");
    let ids =
        IDS.iter().chain(&["action", "type"]).map(|id| format!("{:?}", params.and_then(|it| it.get(id))));
    let name = format!("{:?}", event.get("skill_name"));
    std::iter::once(event.kind().to_owned()).chain(std::iter::once(name)).chain(ids).collect()
}

/// Members of the event that was sent and of the one derived that are not what they should be.
fn differences(marks: &HashMap<(&str, &str), &str>, want: &Tree, got: &Tree) -> Vec<String> {
    let kind = want.kind();
    let mark = |path: &str| {
        let above = path.rsplit_once('.').map_or(path, |(above, _)| above);
        marks.get(&(kind, path)).or_else(|| marks.get(&(kind, above))).copied().unwrap_or("exact")
    };
    let (wanted, gotten) = (flat(want), flat(got));
    let mut wrong = Vec::new();
    for (path, value) in &wanted {
        let found = gotten.iter().find(|(other, _)| other == path).map(|(_, value)| *value);
        let agrees = match mark(path) {
            "none" => true,
            // Without its files the recorded machine can't be asked: then nothing is said.
            "local" => found == Some(&Tree::Leaf("null".into())) || found == Some(*value),
            "approx" => found.is_some_and(|found| near(path, value, found)),
            _ => found == Some(*value),
        };
        if !agrees {
            wrong.push(path.clone());
        }
    }
    let unexpected = gotten.iter().filter(|(path, _)| {
        mark(path) != "none"
            && !wanted.iter().any(|(other, _)| other == path || other.starts_with(&format!("{path}.")))
    });
    wrong.extend(unexpected.map(|(path, _)| format!("+{path}")));
    wrong
}

fn near(path: &str, want: &Tree, got: &Tree) -> bool {
    let within = if path.ends_with("_ms") {
        250
    } else if path.ends_with("_at") {
        1
    } else {
        0
    };
    match (want.number(), got.number()) {
        (Some(want), Some(got)) => (want - got).abs() <= within,
        _ => want == got,
    }
}

/// Names of members in their order; below a member that can't be seen (a null for an object) nothing.
fn order(event: &Tree) -> String {
    fn shape(tree: &Tree, out: &mut String) {
        if let Tree::Map(members) = tree {
            for (name, value) in members {
                out.push_str(name);
                out.push(' ');
                if name != "reviewed_action" {
                    shape(value, out);
                }
            }
            out.push('.');
        }
    }
    let mut out = String::new();
    shape(event, &mut out);
    out
}

fn flat(event: &Tree) -> Vec<(String, &Tree)> {
    fn walk<'a>(prefix: &str, tree: &'a Tree, out: &mut Vec<(String, &'a Tree)>) {
        match tree {
            Tree::Map(members) => {
                for (name, value) in members {
                    let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&path, value, out);
                }
            }
            other => out.push((prefix.to_owned(), other)),
        }
    }
    let mut out = Vec::new();
    walk("", event, &mut out);
    out.retain(|(path, _)| path != "event_type");
    out
}

/// JSON that remembers the order of members.
#[derive(Clone, PartialEq)]
enum Tree {
    Map(Vec<(String, Tree)>),
    List(Vec<Tree>),
    Leaf(String),
}

impl Tree {
    fn get(&self, name: &str) -> Option<&Tree> {
        match self {
            Tree::Map(members) => members.iter().find(|(member, _)| member == name).map(|(_, value)| value),
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Tree::Leaf(leaf) => leaf.strip_prefix('"')?.strip_suffix('"'),
            _ => None,
        }
    }

    fn number(&self) -> Option<i64> {
        match self {
            Tree::Leaf(leaf) => leaf.parse().ok(),
            _ => None,
        }
    }

    fn kind(&self) -> &str {
        self.get("event_type").and_then(Tree::text).unwrap_or("")
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Map(members) => {
                f.debug_map().entries(members.iter().map(|(name, value)| (name, value))).finish()
            }
            Tree::List(list) => f.debug_list().entries(list).finish(),
            Tree::Leaf(leaf) => f.write_str(leaf),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Map(members))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = seq.next_element()? {
                    list.push(item);
                }
                Ok(Tree::List(list))
            }
            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Leaf(format!("\"{text}\"")))
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Tree, E> {
                Ok(Tree::Leaf(flag.to_string()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
                Ok(Tree::Leaf(number.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
                Ok(Tree::Leaf(number.to_string()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
                Ok(Tree::Leaf(format!("{number:?}")))
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Leaf("null".into()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
