//! The real Jaeger finds a turn by its id and by its thread, and shows the tree that was sent.
//!
//! FACTLINE_JAEGER=$(.ci/parts jaeger) cargo test --test real_jaeger -- --nocapture
#![cfg(feature = "cli")]
// The exemption of tests does not reach their own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/program.rs"]
mod program;
#[path = "support/received.rs"]
mod received;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use program::{Program, corpus, factline, get, named_by, run, until};
use received::{Received, hex, text};
use serde_json::Value;

const THREAD: &str = "gen_ai.conversation.id";

/// A span as far as the tree goes. Ids in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    id: String,
    parent: String,
    name: String,
    thread: String,
}

/// Traces by id.
type Trees = BTreeMap<String, BTreeSet<Node>>;

fn sent(files: &Path) -> Trees {
    let mut trees = Trees::new();
    for of in Received::from_files(files).spans {
        let node = Node {
            id: hex(&of.record.span_id),
            parent: hex(&of.record.parent_span_id),
            name: of.record.name,
            thread: text(&of.record.attributes, THREAD).unwrap_or_default(),
        };
        assert!(trees.entry(hex(&of.record.trace_id)).or_default().insert(node));
    }
    trees
}

fn all<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value[key].as_array().into_iter().flatten()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// One trace of Jaeger's own JSON.
fn shown(trace: &Value) -> BTreeSet<Node> {
    let id = &trace["traceID"];
    let node = |span: &Value| {
        // The protocol counts in milliseconds; Jaeger calls a duration of zero negative.
        let instant =
            |warning: &Value| string(warning).starts_with("Negative duration") && span["duration"] == 0;
        assert!(all(span, "warnings").all(instant), "{span}");
        let parent = all(span, "references")
            .find(|reference| reference["refType"] == "CHILD_OF" && &reference["traceID"] == id);
        let thread = all(span, "tags").find(|tag| tag["key"] == THREAD);
        Node {
            id: string(&span["spanID"]),
            parent: parent.map(|reference| string(&reference["spanID"])).unwrap_or_default(),
            name: string(&span["operationName"]),
            thread: thread.map(|tag| string(&tag["value"])).unwrap_or_default(),
        }
    };
    assert!(trace["warnings"].is_null(), "{}", trace["warnings"]);
    all(trace, "spans").map(node).collect()
}

/// The same trace from the newer interface, which answers in OTLP.
fn shown_as_otlp(answer: &Value) -> BTreeSet<Node> {
    let spans = all(&answer["result"], "resourceSpans").flat_map(|it| all(it, "scopeSpans"));
    let thread = |span: &Value| {
        let found = all(span, "attributes").find(|attribute| attribute["key"] == THREAD);
        found.map(|attribute| string(&attribute["value"]["stringValue"])).unwrap_or_default()
    };
    spans
        .flat_map(|scope| all(scope, "spans"))
        .map(|span| Node {
            id: string(&span["spanId"]),
            parent: string(&span["parentSpanId"]),
            name: string(&span["name"]),
            thread: thread(span),
        })
        .collect()
}

struct Jaeger {
    port: u16,
    _program: Program,
}

impl Jaeger {
    fn ask(&self, path: &str) -> Result<Value, String> {
        get(self.port, path).and_then(|body| serde_json::from_str(&body).map_err(|error| error.to_string()))
    }

    fn trace(&self, id: &str) -> Result<BTreeSet<Node>, String> {
        let answer = self.ask(&format!("/api/traces/{id}"))?;
        all(&answer, "data").next().map(shown).ok_or_else(|| answer.to_string())
    }

    fn by_thread(&self, thread: &str) -> BTreeSet<String> {
        let tags = format!("%7B%22{THREAD}%22%3A%22{thread}%22%7D");
        // From the beginning until the year 2100, in microseconds.
        let path = format!(
            "/api/traces?service=codex-app-server&tags={tags}&start=0&end=4102444800000000&limit=1000"
        );
        all(&self.ask(&path).unwrap(), "data").map(|trace| string(&trace["traceID"])).collect()
    }
}

/// Starts it with `all-in-one.yaml`, and replays the sessions to it.
fn jaeger(program: &Path, sessions: &[&Path], dir: &Path) -> Jaeger {
    let configurations = Path::new(env!("CARGO_MANIFEST_DIR")).join("otel-config/jaeger");
    let start = |[query, query_grpc, http, grpc]: [u16; 4]| {
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(configurations.join("all-in-one.yaml"))
            .env("JAEGER_UI", configurations.join("ui.json"))
            .env("QUERY_HTTP", format!("127.0.0.1:{query}"))
            .env("QUERY_GRPC", format!("127.0.0.1:{query_grpc}"))
            .env("OTLP_HTTP", format!("127.0.0.1:{http}"))
            .env("OTLP_GRPC", format!("127.0.0.1:{grpc}"));
        command
    };
    let (program, [port, _, http, _]) = Program::on_free_ports("Everything is ready", start);
    run(factline(dir)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{http}"))
        .env("OTEL_LOGS_EXPORTER", "none")
        .env("OTEL_METRICS_EXPORTER", "none")
        .arg("replay")
        .args(sessions));
    Jaeger { port, _program: program }
}

/// The turns that the client of a session started: what the server answered, whatever factline makes of it.
fn turns(transcript: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(transcript).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |line: &&Value, dir: &str| line["dir"] == dir;
    let started: BTreeSet<String> = lines
        .iter()
        .filter(|line| of(line, "client"))
        .filter(|line| line["msg"]["method"] == "turn/start" || line["msg"]["method"] == "review/start")
        .map(|line| line["msg"]["id"].to_string())
        .collect();
    lines
        .iter()
        .filter(|line| of(line, "server") && line["msg"].get("method").is_none())
        .filter(|line| started.contains(&line["msg"]["id"].to_string()))
        .map(|line| string(&line["msg"]["result"]["turn"]["id"]))
        .collect()
}

#[test]
fn a_turn_is_found_by_its_id_and_by_its_thread_with_its_tools_and_subagents() {
    let Some(program) = named_by("FACTLINE_JAEGER", "a jaeger binary (`.ci/parts jaeger` builds one)") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let sessions: Vec<(String, PathBuf)> =
        corpus().into_iter().filter(|(name, _)| ["10-subagents", "15-review"].contains(&&**name)).collect();
    let paths: Vec<&Path> = sessions.iter().map(|(_, path)| path.as_path()).collect();
    let jaeger = jaeger(&program, &paths, dir.path());
    for (name, transcript) in &sessions {
        let files = dir.path().join(name);
        run(factline(dir.path()).args(["replay", "--otlp-file"]).arg(&files).arg(transcript));
        let sent = sent(&files);

        let turns = turns(transcript);
        assert_eq!(turns.len(), if name == "10-subagents" { 2 } else { 6 }, "{turns:?}");
        for turn in &turns {
            let trace = turn.replace('-', "");
            let expected = &sent[&trace];
            let shown = until("jaeger shows a turn", || {
                let shown = jaeger.trace(&trace)?;
                if shown.len() < expected.len() { Err(format!("{} spans", shown.len())) } else { Ok(shown) }
            });
            assert_eq!(shown, *expected, "{name} {turn}");
            let newer = jaeger.ask(&format!("/api/v3/traces/{trace}")).unwrap();
            assert_eq!(shown_as_otlp(&newer), *expected, "{name} {turn}");
            assert_tree(name, &shown);
        }

        let threads: BTreeSet<&str> =
            sent.values().flatten().map(|node| &*node.thread).filter(|thread| !thread.is_empty()).collect();
        assert_eq!(threads.len(), if name == "10-subagents" { 5 } else { 1 });
        for thread in threads {
            let expected = sent.iter().filter(|(_, nodes)| nodes.iter().any(|node| node.thread == thread));
            let expected: BTreeSet<String> = expected.map(|(id, _)| id.clone()).collect();
            assert_eq!(jaeger.by_thread(thread), expected, "{name} {thread}");
        }
        println!("{name}: {} turns found by id and by thread", turns.len());
    }
}

/// One root, the turn; tools below a turn; a subagent's turn below the call that spawned or woke it.
fn assert_tree(name: &str, nodes: &BTreeSet<Node>) {
    let parent = |node: &Node| nodes.iter().find(|other| other.id == node.parent);
    let roots: Vec<_> = nodes.iter().filter(|node| node.parent.is_empty()).collect();
    assert!(matches!(roots[..], [root] if root.name.starts_with("invoke_agent ")), "{name}: {roots:?}");
    let mut agents = 0;
    for node in nodes.iter().filter(|node| !node.parent.is_empty()) {
        let above = parent(node).unwrap_or_else(|| panic!("{name}: the parent of {node:?} is missing"));
        if node.name.starts_with("execute_tool ") {
            assert!(above.name.starts_with("invoke_agent "), "{name}: {node:?} below {above:?}");
            assert_eq!(node.thread, above.thread);
        } else if node.name == "invoke_agent subagent" {
            let wakes = ["spawn_agent", "send_input", "subagent.started", "subagent.interacted"];
            assert!(wakes.iter().any(|tool| above.name == format!("execute_tool {tool}")), "{above:?}");
            assert_ne!(node.thread, above.thread);
            agents += 1;
        } else {
            panic!("{name}: an unexpected {node:?}");
        }
    }
    if name == "10-subagents" {
        assert!(agents >= 2, "only {agents} subagents");
        assert!(nodes.iter().filter(|node| node.name.starts_with("execute_tool ")).count() >= 8);
    }
}
