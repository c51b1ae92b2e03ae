//! What leaves when content is switched on, and what does not: every combination of kinds, each with words planted in
//! all that is private, and secrets beside them.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[cfg(feature = "sdk")]
#[path = "../support/exported.rs"]
mod exported;
#[cfg(feature = "sdk")]
mod sdk;
mod withdrawn;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use factline::analytics::{AnalyticsLayer, Families, Limits, Lines};
use factline::config::{Config, entries};
use factline::fact::redact::RULES;
use factline::fact::{Capture, Class, Kind};
use factline::host::Facts;
use factline::otel::{self, Accepted, Messages, OtelLayer, Resource, Signal, Sink};
use factline::protocol::{Ended, Observer, Sender, Transport};
use factline::telemetry::{Shape, capture};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Otlp;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use prost::Message as _;
use serde_json::{Value, json};
use tracing_subscriber::layer::SubscriberExt as _;

/// Tokens of known form, which leave never, whatever is on.
const SECRETS: [&str; 4] = [
    "ghp_pl4ntedpl4ntedpl4nted7f3a",
    "sk-proj-pl4ntedpl4ntedpl4nted7f3a",
    "hunter2pl4nted",
    "AKIAPL4NTEDPL4NTED7F",
];

/// A word that stands for what is private of one kind, with secrets around it.
fn planted(kind: Kind) -> String {
    let [github, openai, password, aws] = SECRETS;
    format!("{} {github} key={openai} https://ada:{password}@host/ {aws} api_token={password}", word(kind))
}

fn word(kind: Kind) -> String {
    format!("pl4nted-{}-{}", kind.name(), std::process::id())
}

const THREAD: &str = "01a201f3-1c6c-7603-bce4-c97c0b12c695";
const TURN: &str = "01a201f3-1d1d-7603-bce4-c97c0b12c695";

/// A session that has something of every kind.
fn session() -> Vec<(Sender, Value)> {
    let at = |n: u64| 1_795_329_039_000 + n * 10;
    let server = |n: u64, method: &str, mut params: Value| {
        params["threadId"] = json!(THREAD);
        (Sender::Server, json!({"method": method, "params": params, "emittedAtMs": at(n)}))
    };
    let item = |n: u64, item: Value| {
        let of = |method: &str| {
            server(
                n,
                method,
                json!({"turnId": TURN, "item": item, "startedAtMs": at(n), "completedAtMs": at(n + 1)}),
            )
        };
        [of("item/started"), of("item/completed")]
    };
    let client = |id: u64, method: &str, params: Value| {
        (Sender::Client, json!({"id": id, "method": method, "params": params}))
    };
    let answer = |id: u64, result: Value| (Sender::Server, json!({"id": id, "result": result}));
    let input = json!([{"type": "text", "text": planted(Kind::Prompts)}]);
    let mut all = vec![
        client(1, "initialize", json!({"clientInfo": {"name": "test", "version": "1"}})),
        answer(
            1,
            json!({"userAgent": "test/0.169.0 (Debian 12.0.0; x86_64) x", "platformOs": "linux", "codexHome": word(Kind::Paths)}),
        ),
        client(2, "account/read", json!({})),
        answer(2, json!({"account": {"type": "chatgpt", "email": planted(Kind::User)}})),
        client(
            3,
            "thread/start",
            json!({"cwd": planted(Kind::Paths), "developerInstructions": planted(Kind::Prompts)}),
        ),
        answer(
            3,
            json!({"thread": {"id": THREAD, "gitInfo": {"originUrl": planted(Kind::Repository), "branch": planted(Kind::Repository), "sha": word(Kind::Repository)}}, "cwd": planted(Kind::Paths), "model": "m"}),
        ),
        client(4, "turn/start", json!({"threadId": THREAD, "input": input})),
        answer(4, json!({"turn": {"id": TURN}})),
        server(1, "turn/started", json!({"turn": {"id": TURN}})),
        client(5, "turn/steer", json!({"threadId": THREAD, "expectedTurnId": TURN, "input": input})),
        answer(5, json!({"turnId": TURN})),
        server(
            3,
            "error",
            json!({"turnId": TURN, "willRetry": true, "error": {"message": planted(Kind::Messages), "codexErrorInfo": "other"}}),
        ),
        server(
            4,
            "turn/diff/updated",
            json!({"turnId": TURN, "diff": format!("@@ -1 +1 @@\n+{}", planted(Kind::Output))}),
        ),
        (
            Sender::Server,
            json!({"id": 7, "method": "item/commandExecution/requestApproval", "params": {"threadId": THREAD, "turnId": TURN, "itemId": "c1", "command": planted(Kind::Arguments), "cwd": planted(Kind::Paths), "reason": planted(Kind::Messages)}}),
        ),
        (Sender::Client, json!({"id": 7, "result": {"decision": "accept"}})),
        server(
            5,
            "thread/goal/updated",
            json!({"goal": {"status": "active", "objective": planted(Kind::Prompts)}}),
        ),
    ];
    all.extend(item(10, json!({"type": "reasoning", "id": "r1", "summary": [planted(Kind::Reasoning)]})));
    all.extend(item(12, json!({"type": "agentMessage", "id": "m1", "text": planted(Kind::Messages)})));
    all.extend(item(14, json!({"type": "commandExecution", "id": "c1", "command": planted(Kind::Arguments), "cwd": planted(Kind::Paths), "status": "completed", "exitCode": 0, "aggregatedOutput": planted(Kind::Output)})));
    all.extend(item(16, json!({"type": "mcpToolCall", "id": "c2", "server": "s", "tool": "t", "status": "failed", "arguments": {"a": planted(Kind::Arguments)}, "result": {"content": [{"type": "text", "text": planted(Kind::Output)}]}, "error": {"message": planted(Kind::Output)}})));
    all.extend(item(18, json!({"type": "fileChange", "id": "c3", "status": "completed", "changes": [{"path": planted(Kind::Paths), "kind": {"type": "update"}, "diff": planted(Kind::Output)}]})));
    all.extend(item(20, json!({"type": "webSearch", "id": "c4", "query": planted(Kind::Arguments), "action": {"type": "search", "query": planted(Kind::Arguments)}})));
    all.extend(item(22, json!({"type": "imageView", "id": "c5", "path": planted(Kind::Paths)})));
    all.extend(item(24, json!({"type": "dynamicToolCall", "id": "c6", "tool": "d", "arguments": {"a": planted(Kind::Arguments)}, "contentItems": [{"type": "inputText", "text": planted(Kind::Output)}]})));
    all.push(server(
        90,
        "turn/completed",
        json!({"turn": {"id": TURN, "status": "failed", "error": {"message": planted(Kind::Messages)}}}),
    ));
    all
}

/// Everything that a sink is given.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Given>>);

#[derive(Default)]
struct Given {
    bytes: Vec<u8>,
    logs: Vec<LogRecord>,
    spans: Vec<Span>,
    content: Vec<bool>,
    /// Each record, and whether it was marked.
    marks: Vec<(bool, Vec<u8>)>,
}

impl Sink for Kept {
    fn set_header(&self, _: Signal, header: &[u8]) {
        self.0.lock().unwrap().bytes.extend_from_slice(header);
    }

    fn accept(&self, accepted: Accepted<'_>) {
        let mut kept = self.0.lock().unwrap();
        if let Some((_, _, stored)) = accepted.begin {
            kept.bytes.extend_from_slice(stored);
        }
        for (signal, _, record) in accepted.records {
            kept.bytes.extend_from_slice(record);
            kept.content.push(accepted.content);
            kept.marks.push((accepted.content, record.to_vec()));
            match signal {
                Signal::Logs => kept.logs.extend(ScopeLogs::decode(*record).unwrap().log_records),
                Signal::Traces => kept.spans.extend(ScopeSpans::decode(*record).unwrap().spans),
                Signal::Metrics => {}
            }
        }
    }
}

#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl io::Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The session with this capture: OTLP, analytics events, and what ordinary layers of `tracing` print.
fn observed(capture: Capture, shaped: impl Fn(OtelLayer) -> OtelLayer) -> (Kept, Vec<u8>, Vec<u8>) {
    let (kept, events, printed) = (Kept::default(), Bytes::default(), Bytes::default());
    let lines = Arc::new(Lines::new(events.clone()));
    let writer = printed.clone();
    let subscriber = tracing_subscriber::registry()
        .with(shaped(otel::layer(kept.clone(), Resource::new("test").with_capture(capture))))
        .with(AnalyticsLayer::new(Arc::clone(&lines), Families::default(), Limits::default()))
        .with(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone()));
    tracing::subscriber::with_default(subscriber, || {
        let mut observer = Observer::new(capture);
        observer.open(1, Transport::Stdio, 0);
        for (n, (sender, message)) in session().into_iter().enumerate() {
            observer.message(1, sender, 1_795_329_039_000_000 + n as u64, message.to_string().as_bytes());
        }
        observer.finish(Ended::ClientClosed);
    });
    lines.finish().unwrap();
    let events = events.0.lock().unwrap().clone();
    let printed = printed.0.lock().unwrap().clone();
    (kept, events, printed)
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|some| some == word.as_bytes())
}

#[test]
fn every_combination_of_kinds_lets_out_those_kinds_and_no_secret() {
    for bits in 0..1_u32 << Kind::ALL.len() {
        let on = |kind: Kind| bits & (1 << kind as u32) != 0;
        let capture = Kind::ALL.into_iter().filter(|kind| on(*kind)).fold(Capture::NONE, Capture::with);
        let (kept, events, printed) = observed(capture, |layer| layer.with_span_events(128));
        let kept = kept.0.lock().unwrap();
        for kind in Kind::ALL {
            let word = word(kind);
            assert_eq!(holds(&kept.bytes, &word), on(kind), "{capture}: {word} in OTLP");
            assert!(on(kind) || !holds(&printed, &word), "{capture}: {word} in what is printed");
            assert!(!holds(&events, &word), "{capture}: {word} in analytics events");
        }
        for secret in SECRETS {
            for (place, bytes) in [("OTLP", &kept.bytes), ("events", &events), ("print", &printed)] {
                assert!(!holds(bytes, secret), "{capture}: {secret} in {place}");
            }
        }
        assert_eq!(kept.content.iter().any(|content| *content), bits != 0, "{capture}: marked as content");
        assert!(holds(&kept.bytes, &capture.to_string()), "{capture}: said on the resource");
        assert!(!events.is_empty());
    }
}

fn attributes(of: &[opentelemetry_proto::tonic::common::v1::KeyValue], key: &str) -> Option<Otlp> {
    of.iter().find(|kv| kv.key == key)?.value.clone()?.value
}

fn turn(kept: &Kept) -> Span {
    let kept = kept.0.lock().unwrap();
    kept.spans.iter().find(|span| span.name == "invoke_agent codex").unwrap().clone()
}

fn log(kept: &Kept, event: &str) -> LogRecord {
    kept.0.lock().unwrap().logs.iter().find(|log| log.event_name == event).unwrap().clone()
}

#[test]
fn messages_have_the_form_of_the_conventions_and_go_where_they_are_wanted() {
    for (messages, in_span, in_log) in
        [(Messages::Both, true, true), (Messages::Spans, true, false), (Messages::Logs, false, true)]
    {
        let (kept, ..) = observed(Capture::all(), |layer| layer.with_messages(messages));
        let span = turn(&kept);
        for (key, event, role) in [
            ("gen_ai.input.messages", "codex.turn.started", "user"),
            ("gen_ai.output.messages", "codex.turn.completed", "assistant"),
        ] {
            let of_span = attributes(&span.attributes, key);
            assert_eq!(of_span.is_some(), in_span, "{messages:?} {key}");
            if let Some(Otlp::StringValue(text)) = of_span {
                let value: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(value[0]["role"], role);
                assert_eq!(value[0]["parts"][0]["type"], "text");
                assert!(
                    value[0]["parts"][0]["content"].as_str().unwrap().contains("[redacted:github_token]")
                );
            }
            let of_log = attributes(&log(&kept, event).attributes, key);
            assert_eq!(of_log.is_some(), in_log, "{messages:?} {key}");
            assert!(of_log.is_none_or(|value| matches!(value, Otlp::ArrayValue(_))), "{key} is a structure");
        }
    }
    let (kept, ..) = observed(Capture::all(), |layer| layer);
    let Some(Otlp::StringValue(text)) = attributes(&turn(&kept).attributes, "gen_ai.output.messages") else {
        panic!()
    };
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()[0]["finish_reason"], "error");
    let kept = kept.0.lock().unwrap();
    let tool =
        |name: &str| kept.spans.iter().find(|span| span.name == format!("execute_tool {name}")).unwrap();
    for (name, key) in [("shell", "command"), ("t", "a"), ("web_search", "query"), ("d", "a")] {
        let Some(Otlp::StringValue(text)) = attributes(&tool(name).attributes, "gen_ai.tool.call.arguments")
        else {
            panic!("{name}")
        };
        assert!(serde_json::from_str::<Value>(&text).unwrap()[key].is_string(), "{name}: {text}");
    }
}

#[test]
fn a_value_is_cut_to_the_limit_and_stays_json() {
    let (kept, ..) = observed(Capture::all().with_limits(120, 150), |layer| layer);
    let kept = kept.0.lock().unwrap();
    let private = |key: &str| {
        let fields = factline::fact::ENTRIES.iter().flat_map(|entry| {
            entry.fields.iter().chain(entry.lasting.iter().flat_map(|lasting| lasting.end_fields))
        });
        fields.clone().any(|field| field.key == key && field.class.is_private())
    };
    let mut cut = 0;
    for (of, limit) in kept.spans.iter().map(|span| (&span.attributes, 150)) {
        for kv in of.iter().filter(|kv| private(&kv.key)) {
            let Some(Otlp::StringValue(text)) = kv.value.as_ref().and_then(|value| value.value.as_ref())
            else {
                continue;
            };
            assert!(text.len() <= limit, "{}: {text}", kv.key);
            cut += usize::from(text.contains("[cut:"));
            if text.starts_with('[') && !text.starts_with("[redacted") || text.starts_with('{') {
                assert!(serde_json::from_str::<Value>(text).is_ok(), "{}: {text}", kv.key);
            }
        }
    }
    assert!(cut > 5, "{cut}");
    for secret in SECRETS {
        assert!(!holds(&kept.bytes, secret), "{secret}");
    }
}

#[test]
fn points_are_events_of_the_turns_span_where_wanted_and_log_records_all_the_same() {
    let (off, ..) = observed(Capture::NONE, |layer| layer);
    let (on, ..) = observed(Capture::NONE, |layer| layer.with_span_events(128));
    let (bounded, ..) = observed(Capture::NONE, |layer| layer.with_span_events(2));
    assert_eq!(off.0.lock().unwrap().logs, on.0.lock().unwrap().logs, "log records");
    assert!(turn(&off).events.is_empty());
    let events = turn(&on).events;
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(
        names,
        ["codex.turn.steered", "codex.error", "codex.approval.requested", "codex.approval.resolved"]
    );
    let steered = log(&on, "codex.turn.steered");
    assert_eq!(events[0].time_unix_nano, steered.time_unix_nano);
    let of_log: Vec<_> = steered.attributes.iter().filter(|kv| kv.key != "log.record.uid").cloned().collect();
    assert_eq!(events[0].attributes, of_log);
    let bounded = turn(&bounded);
    assert_eq!((bounded.events.len(), bounded.dropped_events_count), (2, 2));
    assert_eq!(Span { events: Vec::new(), ..turn(&on) }, turn(&off), "nothing else of the span changes");
}

#[test]
fn facts_of_hosts_are_redacted_like_those_of_the_protocol() {
    let kept = Kept::default();
    let subscriber = tracing_subscriber::registry().with(otel::layer(kept.clone(), Resource::new("test")));
    tracing::subscriber::with_default(subscriber, || {
        let facts = Facts::with_capture(Capture::all());
        facts.track_skill_invoked(&factline::fact::vocabulary::SkillInvoked {
            skill_name: "s".into(),
            path: Some(planted(Kind::Paths).into()),
            ..Default::default()
        });
    });
    let kept = kept.0.lock().unwrap();
    assert!(holds(&kept.bytes, &word(Kind::Paths)));
    SECRETS.iter().for_each(|secret| assert!(!holds(&kept.bytes, secret), "{secret}"));
}

#[test]
fn a_span_whose_events_have_content_is_marked_although_it_has_none_itself() {
    let mut only_in_events = 0;
    for kind in Kind::ALL {
        let (kept, ..) = observed(Capture::NONE.with(kind), |layer| layer.with_span_events(128));
        let kept = kept.0.lock().unwrap();
        for (marked, bytes) in &kept.marks {
            assert!(*marked || !holds(bytes, "pl4nted-"), "{} without its mark", kind.name());
        }
        let bare = kept.spans.iter().map(|span| (span, Span { events: Vec::new(), ..span.clone() }));
        only_in_events += bare
            .filter(|(span, bare)| {
                let has = |span: &Span| holds(&span.encode_to_vec(), &word(kind));
                has(span) && !has(bare)
            })
            .count();
    }
    assert!(only_in_events > 0);
}

fn config(set: &[(&str, &str)]) -> Config {
    let vars = |name: &str| {
        let said = set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        said.or_else(|| (name == "HOME").then(|| "/home/ada".to_owned()))
    };
    Config::from_env(vars).unwrap().0
}

#[test]
fn our_own_switch_wins_over_the_standard_one_and_nothing_is_on_by_default() {
    const STANDARD: &str = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";
    let content = "prompts,messages,reasoning,arguments,output";
    for (set, on) in [
        (&[][..], "none"),
        (&[(STANDARD, "true")], content),
        (&[(STANDARD, "SPAN_ONLY")], content),
        (&[(STANDARD, "no_content")], "none"),
        (&[(STANDARD, "nonsense")], "none"),
        (&[("FACTLINE_CAPTURE", "all")], "all"),
        (&[("FACTLINE_CAPTURE", "Prompts, user")], "prompts,user"),
        (&[("FACTLINE_CAPTURE", "prompts,everything")], "none"),
        (&[("FACTLINE_CAPTURE", "none"), (STANDARD, "true")], "none"),
        (&[("FACTLINE_CAPTURE", "paths"), (STANDARD, "true")], "paths"),
    ] {
        assert_eq!(capture(&config(set)).unwrap().to_string(), on, "{set:?}");
    }
    let limits = |set| config(set).content.limits();
    assert_eq!(limits(&[]), [16_384, 16_384]);
    assert_eq!(limits(&[("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "100")]), [100, 100]);
    let set = [
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "100"),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "200"),
        ("FACTLINE_CONTENT_LIMIT", "1KiB"),
    ];
    assert_eq!(limits(&set), [100, 200]);
    let bad = config(&[("FACTLINE_REDACT", "ticket=%28x")]);
    assert!(capture(&bad).unwrap_err().contains("rule ticket"), "a rule that can't be used is an error");
    assert!(capture(&config(&[("FACTLINE_REDACT", "ticket=T-%5B0-9%5D%2B")])).is_ok());
    let _: Shape = Shape::of(&config(&[("FACTLINE_SPAN_EVENTS", "true")]));
    let names = entries().iter().find(|entry| entry.key == "content.capture").unwrap().row.kind;
    let factline::config::Kind::Names(names) = names else { panic!() };
    let known: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).chain(["all", "none"]).collect();
    assert_eq!(names, &known[..], "the setting knows every kind");
}

#[test]
fn the_page_lists_the_rules_the_kinds_and_what_each_lets_out() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/privacy.md")).unwrap();
    let cell = |line: &str| line.split('`').nth(1).unwrap_or_default().to_owned();
    let listed = |heading: &str| -> Vec<String> {
        let (_, section) = page.split_once(heading).unwrap_or_else(|| panic!("{heading} is missing"));
        let section = section.split("\n## ").next().unwrap();
        section.lines().filter(|line| line.starts_with("| `")).map(cell).collect()
    };
    let rules: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(listed("## What is taken out"), rules);
    for rule in RULES {
        assert!(page.contains(rule.finds), "{}: {}", rule.name, rule.finds);
    }
    let kinds: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
    assert_eq!(listed("## What each switch adds"), kinds);
    for entry in factline::fact::ENTRIES {
        for field in entry.fields.iter().chain(entry.lasting.iter().flat_map(|lasting| lasting.end_fields)) {
            if let Class::Content(kind) | Class::Environment(kind) = field.class {
                let row =
                    page.lines().find(|line| line.starts_with(&format!("| `{}`", kind.name()))).unwrap();
                assert!(
                    row.contains(&format!("`{}`", field.key)),
                    "{} is not said of {}",
                    field.key,
                    kind.name()
                );
            }
        }
    }
}
