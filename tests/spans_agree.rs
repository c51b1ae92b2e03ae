//! Spans and logs of every recorded session, held against the transcript by a reader of its own: nothing of
//! factline's observer is used to say what should be there.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

#[path = "support/recorded.rs"]
mod recorded;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use factline::fact::Capture;
use opentelemetry_proto::tonic::trace::v1::Span;
use recorded::{int, otlp, sessions, text};
use serde_json::Value;

const TOOLS: [&str; 7] = [
    "commandExecution",
    "fileChange",
    "mcpToolCall",
    "webSearch",
    "dynamicToolCall",
    "imageGeneration",
    "collabAgentToolCall",
];

#[derive(Debug, Default)]
struct Turn {
    thread: String,
    root: String,
    usage: Option<(i64, i64)>,
    end: Option<(u64, String, Option<u64>)>,
}

#[derive(Debug, Default)]
struct Expected {
    turns: BTreeMap<String, Turn>,
    /// The id under which an inline review completes, to the one under which it started.
    outer: HashMap<String, String>,
    items: BTreeMap<(String, String), (Option<u64>, Option<u64>)>,
    every_item: BTreeSet<String>,
    threads: BTreeSet<String>,
    steered: usize,
    approvals: usize,
}

fn read(path: &Path) -> Expected {
    let mut expected = Expected::default();
    let mut asked: HashMap<(u64, String), String> = HashMap::new();
    let mut totals: HashMap<String, Value> = HashMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        // A lone surrogate, which one session has, is no text to serde_json.
        let record: Value = serde_json::from_str(line).unwrap_or_default();
        let conn = record["conn"].as_u64().unwrap_or(1);
        let mut message = record["msg"].clone();
        if message.is_null() && record["off"].is_u64() {
            let dir = record["dir"].as_str().unwrap();
            let name = if conn == 1 { format!("{dir}.raw") } else { format!("{dir}.{conn}.raw") };
            let bytes = std::fs::read(path.with_file_name(name)).unwrap();
            let (off, len) =
                (record["off"].as_u64().unwrap() as usize, record["len"].as_u64().unwrap() as usize);
            message = serde_json::from_slice(&bytes[off..off + len]).unwrap_or_default();
        }
        let (true, Some(dir)) = (message.is_object(), record["dir"].as_str()) else { continue };
        let id = (conn, message["id"].to_string());
        let method = message["method"].as_str().map(str::to_owned);
        if dir == "client" {
            if let (Some(method), true) = (method, message.get("id").is_some()) {
                asked.insert(id, method);
            }
            continue;
        }
        let params = &message["params"];
        let own = |key: &str| params[key].as_str().unwrap_or_default().to_owned();
        match method.as_deref() {
            None => match asked.remove(&id).as_deref() {
                Some("thread/start" | "thread/resume" | "thread/fork") if message.get("result").is_some() => {
                    expected.threads.insert(message["result"]["thread"]["id"].as_str().unwrap().to_owned());
                }
                Some("turn/steer") => expected.steered += 1,
                _ => {}
            },
            Some(method) if message.get("id").is_some() => {
                expected.approvals += usize::from(method.ends_with("/requestApproval"));
            }
            Some("turn/started") => {
                let turn = params["turn"]["id"].as_str().unwrap().to_owned();
                let root = params["turn"]["rootTurnId"].as_str().unwrap_or(&turn).to_owned();
                let thread = own("threadId");
                expected.turns.entry(turn).or_insert(Turn { thread, root, ..Turn::default() });
            }
            Some("turn/completed") => {
                let mut key = params["turn"]["id"].as_str().unwrap().to_owned();
                if !expected.turns.contains_key(&key) {
                    let inner = expected
                        .turns
                        .iter()
                        .filter(|(_, turn)| {
                            turn.root == key && turn.thread == own("threadId") && turn.end.is_none()
                        })
                        .map(|(id, _)| id.clone())
                        .next_back();
                    if let Some(inner) = inner {
                        expected.outer.insert(key, inner.clone());
                        key = inner;
                    }
                }
                if let Some(turn) = expected.turns.get_mut(&key).filter(|turn| turn.end.is_none()) {
                    let status = params["turn"]["status"].as_str().unwrap().to_owned();
                    let at = message["emittedAtMs"].as_u64().unwrap();
                    turn.end = Some((at, status, params["turn"]["durationMs"].as_u64()));
                }
            }
            Some("thread/tokenUsage/updated") => {
                let usage = &params["tokenUsage"];
                let total = usage["total"].clone();
                let repeated = totals.insert(own("threadId"), total.clone()) == Some(total);
                let turn = expected.outer.get(&own("turnId")).cloned().unwrap_or(own("turnId"));
                // What comes after a turn's end is a replay of its history, by a fork or resume.
                let turn = expected.turns.get_mut(&turn).filter(|turn| turn.end.is_none());
                if let (Some(turn), false) = (turn, repeated) {
                    let last = |key: &str| usage["last"][key].as_i64().unwrap();
                    let sum = turn.usage.unwrap_or_default();
                    turn.usage = Some((sum.0 + last("inputTokens"), sum.1 + last("outputTokens")));
                }
            }
            Some(method @ ("item/started" | "item/completed")) => {
                let item = &params["item"];
                let id = item["id"].as_str().unwrap().to_owned();
                expected.every_item.insert(id.clone());
                if TOOLS.contains(&item["type"].as_str().unwrap()) {
                    let times = expected.items.entry((own("turnId"), id)).or_default();
                    if times.1.is_none() {
                        times.0 = item["startedAtMs"].as_u64().or(times.0);
                        if method == "item/completed" {
                            times.1 = item["completedAtMs"].as_u64();
                        }
                    }
                }
            }
            _ => {}
        }
    }
    expected
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn below(span: &Span, roots: &[&Span], all: &HashMap<(Vec<u8>, Vec<u8>), &Span>) -> bool {
    let mut at = Some(span);
    for _ in 0..100 {
        let Some(span) = at else { return false };
        if roots.iter().any(|root| root.span_id == span.span_id) {
            return true;
        }
        at = all.get(&(span.trace_id.clone(), span.parent_span_id.clone())).copied();
    }
    false
}

#[test]
fn every_turn_and_tool_of_every_recorded_session_is_one_span_with_the_protocols_times() {
    for (name, path) in sessions() {
        let expected = read(&path);
        let memory = otlp(&path, Capture::NONE, "info");
        let spans = memory.spans.lock().unwrap();
        let logs = memory.logs.lock().unwrap();
        let all: HashMap<_, _> =
            spans.iter().map(|span| ((span.trace_id.clone(), span.span_id.clone()), span)).collect();
        assert_eq!(all.len(), spans.len(), "{name}: a span id twice");
        assert!(memory.open.lock().unwrap().is_empty(), "{name}: a span is left open");
        let operation = |span: &&Span, operation: &str| {
            text(&span.attributes, "gen_ai.operation.name").as_deref() == Some(operation)
        };
        let of_turn = |id: &str| -> Vec<&Span> {
            let outer =
                expected.outer.iter().find(|(_, inner)| *inner == id).map(|(outer, _)| outer.as_str());
            let named = |span: &&Span| {
                let turn = text(&span.attributes, "codex.turn.id");
                turn.as_deref() == Some(id) || (outer.is_some() && turn.as_deref() == outer)
            };
            spans.iter().filter(|span| operation(span, "invoke_agent") && named(span)).collect()
        };
        for (id, turn) in &expected.turns {
            let own = of_turn(id);
            assert_eq!(own.len(), 1, "{name}: spans of turn {id}");
            let span = own[0];
            assert_eq!(hex(&span.trace_id), turn.root.replace('-', ""), "{name}: trace of {id}");
            assert_eq!(
                text(&span.attributes, "gen_ai.conversation.id").as_ref(),
                Some(&turn.thread),
                "{name}: {id}"
            );
            let status = text(&span.attributes, "codex.turn.status").unwrap();
            let code = span.status.as_ref().map_or(0, |status| status.code);
            match &turn.end {
                Some((end, expected, duration)) => {
                    assert_eq!(span.end_time_unix_nano, end * 1_000_000, "{name}: end of {id}");
                    if let Some(duration) = duration {
                        let length = span.end_time_unix_nano - span.start_time_unix_nano;
                        assert_eq!(length, duration * 1_000_000, "{name}: length of {id}");
                    }
                    assert_eq!(&status, expected, "{name}: status of {id}");
                    assert_eq!(code, if expected == "failed" { 2 } else { 0 }, "{name}: span status of {id}");
                    assert_eq!(
                        text(&span.attributes, "error.type").is_some(),
                        expected == "failed",
                        "{name}: {id}"
                    );
                }
                None => {
                    assert_eq!((status.as_str(), code), ("interrupted", 0), "{name}: {id} never ended");
                    assert!(
                        recorded::value(&span.attributes, "codex.turn.end_observed").is_some(),
                        "{name}: {id}"
                    );
                }
            }
            let tokens = int(&span.attributes, "gen_ai.usage.input_tokens")
                .zip(int(&span.attributes, "gen_ai.usage.output_tokens"));
            assert_eq!(tokens, turn.usage, "{name}: tokens of {id}");
            if let Some(root) = expected.turns.get(&turn.root).filter(|root| root.thread != turn.thread) {
                assert_ne!(root.thread, turn.thread);
                assert!(below(span, &of_turn(&turn.root), &all), "{name}: {id} is not below its cause");
                let parent = all[&(span.trace_id.clone(), span.parent_span_id.clone())];
                assert!(operation(&parent, "execute_tool"), "{name}: {id} is not below a call");
            }
            for event in ["codex.turn.started", "codex.turn.completed"] {
                let named: Vec<_> = logs
                    .iter()
                    .filter(|log| log.event_name == event && log.span_id == span.span_id)
                    .collect();
                assert_eq!(named.len(), 1, "{name}: {event} of {id}");
                assert_eq!(named[0].trace_id, span.trace_id);
            }
        }
        for ((turn, item), times) in &expected.items {
            let (Some(start), Some(end)) = times else { continue };
            let inner = expected.outer.get(turn).unwrap_or(turn);
            let own: Vec<_> = spans
                .iter()
                .filter(|span| operation(span, "execute_tool"))
                .filter(|span| text(&span.attributes, "gen_ai.tool.call.id").as_ref() == Some(item))
                .filter(|span| {
                    let of = text(&span.attributes, "codex.turn.id").unwrap();
                    of == *turn || of == *inner
                })
                .collect();
            assert_eq!(own.len(), 1, "{name}: spans of item {item}");
            assert_eq!(own[0].start_time_unix_nano, start * 1_000_000, "{name}: start of {item}");
            assert_eq!(own[0].end_time_unix_nano, end * 1_000_000, "{name}: end of {item}");
            if expected.turns.contains_key(inner) {
                assert!(below(own[0], &of_turn(inner), &all), "{name}: {item} is not below its turn");
            }
        }
        let turns = spans.iter().filter(|span| operation(span, "invoke_agent")).count();
        assert_eq!(turns, expected.turns.len(), "{name}: spans of no turn");
        for span in spans.iter() {
            if operation(&span, "execute_tool") {
                let call = text(&span.attributes, "gen_ai.tool.call.id").unwrap();
                assert!(expected.every_item.contains(&call), "{name}: a span of no item");
            }
            let parent = (span.trace_id.clone(), span.parent_span_id.clone());
            assert!(
                span.parent_span_id.is_empty() || span.flags & 0x200 != 0 || all.contains_key(&parent),
                "{name}: {} has no parent",
                span.name
            );
            let conversation = text(&span.attributes, "gen_ai.conversation.id").is_some();
            assert!(
                conversation || text(&span.attributes, "rpc.system.name").is_some(),
                "{name}: {}",
                span.name
            );
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{name}: {}", span.name);
        }
        let count = |event: &str| logs.iter().filter(|log| log.event_name == event).count();
        assert_eq!(count("codex.turn.steered"), expected.steered, "{name}: steers");
        assert_eq!(count("codex.approval.requested"), expected.approvals, "{name}: approvals");
        assert_eq!(count("codex.approval.resolved"), expected.approvals, "{name}: answers");
        for thread in &expected.threads {
            let said = |log: &&opentelemetry_proto::tonic::logs::v1::LogRecord| {
                log.event_name == "codex.thread.initialized"
                    && text(&log.attributes, "gen_ai.conversation.id").as_ref() == Some(thread)
            };
            assert!(logs.iter().any(|log| said(&log)), "{name}: thread {thread}");
        }
        let uids: BTreeSet<_> =
            logs.iter().map(|log| text(&log.attributes, "log.record.uid").unwrap()).collect();
        assert_eq!(uids.len(), logs.len(), "{name}: a log.record.uid twice");
        assert!(logs.iter().all(|log| log.time_unix_nano > 0 && log.observed_time_unix_nano > 0), "{name}");
    }
}
