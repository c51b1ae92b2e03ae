//! Analytics events compared: those that a codex sent with those that were derived from its stream.
#![allow(dead_code)] // each suite uses its part

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Sources of threads that the server starts by itself; nothing of them reaches a client's stream.
const CORE: [&str; 4] = ["review", "guardian", "compact", "memory_consolidation"];

/// What became of the events that were sent and of those derived.
#[derive(Default)]
pub struct Compared {
    /// Each event that was sent and can be seen on the stream, with the derived one.
    pub pairs: Vec<(Tree, Tree)>,
    /// Sent, and not derived.
    pub missing: Vec<Tree>,
    /// Derived, and never sent.
    pub spurious: Vec<Tree>,
    /// Type and member of what is not as it should be.
    pub wrong: Vec<(String, String)>,
    /// Members that must be equal, and those of them that are not.
    pub exact: (usize, usize),
}

impl Compared {
    /// In percent: members that are equal, of events that were sent, of events that were derived, multiplied.
    pub fn overall(&self) -> f64 {
        let share = |part: usize, of: usize| if of == 0 { 1.0 } else { part as f64 / of as f64 };
        let (pairs, missing, spurious) = (self.pairs.len(), self.missing.len(), self.spurious.len());
        let (members, wrong) = self.exact;
        100.0
            * share(members - wrong, members)
            * share(pairs, pairs + missing)
            * share(pairs, pairs + spurious)
    }

    pub fn add(&mut self, other: Compared) {
        self.pairs.extend(other.pairs);
        self.missing.extend(other.missing);
        self.spurious.extend(other.spurious);
        self.wrong.extend(other.wrong);
        self.exact = (self.exact.0 + other.exact.0, self.exact.1 + other.exact.1);
    }
}

/// Pairs each event that was sent with the one derived that it agrees with best.
pub fn compare(sent: &[Tree], mut derived: Vec<Tree>) -> Compared {
    let marks = marks();
    let core: Vec<&str> = sent
        .iter()
        .filter(|event| hidden(event, &[]) && event.kind() == "codex_thread_initialized")
        .filter_map(|event| event.get("event_params")?.get("thread_id")?.text())
        .collect();
    let mut compared = Compared::default();
    for want in sent.iter().filter(|event| !hidden(event, &core)) {
        let twins = derived.iter().enumerate().filter(|(_, got)| key(got) == key(want));
        let best = twins.min_by_key(|(at, got)| (differences(&marks, want, got).len(), *at));
        let Some((at, _)) = best else {
            compared.missing.push(want.clone());
            continue;
        };
        let got = derived.remove(at);
        let exact = |path: &str| mark(&marks, want.kind(), path) == "exact";
        let wrong = differences(&marks, want, &got);
        compared.exact.0 += flat(want).iter().filter(|(path, _)| exact(path)).count();
        compared.exact.1 += wrong.iter().filter(|path| exact(path.trim_start_matches('+'))).count();
        compared.wrong.extend(wrong.into_iter().map(|path| (want.kind().to_owned(), path)));
        compared.pairs.push((want.clone(), got));
    }
    let of_core = |event: &Tree| {
        let source = event.get("event_params").and_then(|it| it.get("subagent_source")).and_then(Tree::text);
        source.is_some_and(|source| CORE.contains(&source))
    };
    derived.retain(|event| !hidden(event, &[]) || of_core(event));
    compared.spurious = derived;
    compared
}

/// `exact`, or how else a member of an event is judged.
fn mark<'a>(marks: &HashMap<(&str, &str), &'a str>, kind: &str, path: &str) -> &'a str {
    let above = path.rsplit_once('.').map_or(path, |(above, _)| above);
    marks.get(&(kind, path)).or_else(|| marks.get(&(kind, above))).copied().unwrap_or("exact")
}

/// Event types, or cases of a type, that the stream does not show at all.
fn hidden(event: &Tree, core_threads: &[&str]) -> bool {
    let params = event.get("event_params");
    let says =
        |member: &str, value: &str| params.and_then(|it| it.get(member)).and_then(Tree::text) == Some(value);
    match event.kind() {
        "codex_control_tool_call_event" | "codex_thread_hint_status" => true,
        "codex_dynamic_tool_call_event"
            if params.and_then(|it| it.get("cell_id")).and_then(Tree::text).is_some() =>
        {
            true
        }
        "skill_invocation" if says("invoke_type", "implicit") => true,
        "codex_hook_run" if says("hook_name", "SessionEnd") => true,
        "codex_collab_agent_tool_call_event" if says("tool_name", "list_agents") => true,
        _ => {
            CORE.iter().any(|source| says("subagent_source", source))
                || core_threads.iter().any(|id| says("thread_id", id))
        }
    }
}

fn marks() -> HashMap<(&'static str, &'static str), &'static str> {
    let lines = include_str!("../analytics/marks.txt").lines();
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
    let mark = |path: &str| mark(marks, want.kind(), path);
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
pub fn order(event: &Tree) -> String {
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
pub enum Tree {
    Map(Vec<(String, Tree)>),
    List(Vec<Tree>),
    Leaf(String),
}

impl Tree {
    pub fn get(&self, name: &str) -> Option<&Tree> {
        match self {
            Tree::Map(members) => members.iter().find(|(member, _)| member == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Tree::Leaf(leaf) => leaf.strip_prefix('"')?.strip_suffix('"'),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<i64> {
        match self {
            Tree::Leaf(leaf) => leaf.parse().ok(),
            _ => None,
        }
    }

    pub fn kind(&self) -> &str {
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
