//! `fact -> tracing -> layer -> fact` is the identity on what the policy lets out, for every fact; and every fact
//! of the vocabulary appears as a tracing event or span and as OTLP.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

#[path = "support/recorded.rs"]
mod recorded;

use std::collections::BTreeSet;
use std::sync::Arc;

use factline::fact::vocabulary::ENTRIES;
use factline::fact::{Capture, Class, End, Entry, Envelope, Fact, FieldInfo, Kind, Link, Relation, Shape};
use factline::otel;
use proptest::prelude::*;
use recorded::{Facts, Memory, Saw};
use serde_json::{Map, Value, json};
use tracing_subscriber::layer::SubscriberExt as _;

fn value(shape: Shape) -> BoxedStrategy<Value> {
    match shape {
        Shape::Text => any::<String>().prop_map(Value::from).boxed(),
        Shape::Integer => prop_oneof![0..i64::MAX as u64, Just(0), Just(1)].prop_map(Value::from).boxed(),
        Shape::Number => (-1e12..1e12f64).prop_map(Value::from).boxed(),
        Shape::Flag => any::<bool>().prop_map(Value::from).boxed(),
        Shape::List => prop::collection::vec(any::<String>(), 1..4).prop_map(Value::from).boxed(),
    }
}

/// The fields of a fact as JSON; optional ones may be missing.
fn fields(infos: &'static [FieldInfo]) -> BoxedStrategy<Map<String, Value>> {
    let each: Vec<_> = infos
        .iter()
        .map(|info| {
            let some = value(info.shape).prop_map(|it| Some((info.name.to_owned(), it)));
            if info.optional { prop_oneof![Just(None), some].boxed() } else { some.boxed() }
        })
        .collect();
    each.prop_map(|all| all.into_iter().flatten().collect()).boxed()
}

fn fact(tag: &str, mut fields: Map<String, Value>) -> Fact<'static> {
    fields.insert("fact".into(), tag.into());
    serde_json::from_value(Value::Object(fields)).unwrap_or_else(|error| panic!("{tag}: {error}"))
}

/// Names of the variants: those of the structs in snake case, found by what deserialises.
fn tags(entry: &Entry) -> (String, Option<String>) {
    let name = entry.name.strip_prefix("codex.").unwrap().replace('.', "_");
    let own = |tag: &str| -> bool {
        let error = serde_json::from_value::<Fact<'_>>(json!({"fact": tag})).err().map(|it| it.to_string());
        !error.is_some_and(|error| error.contains("unknown variant"))
    };
    if entry.lasting.is_some() {
        return (format!("{name}_start"), Some(format!("{name}_end")));
    }
    let short = name.strip_prefix("rpc_").unwrap_or(&name).to_owned();
    for tag in [name.clone(), short] {
        if own(&tag) {
            return (tag, None);
        }
    }
    panic!("{}: no variant", entry.name)
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let links = prop::collection::vec((any::<u128>(), any::<u64>()), 0..3).prop_map(|all| {
        let link = |(trace, span)| Link { trace, span, relation: Relation::ForkedFrom };
        all.into_iter().map(link).collect::<Vec<_>>()
    });
    (any::<(u64, u64, u128, u64, u64, bool)>(), links).prop_map(
        |((time, observed, trace, span, parent, remote), links)| Envelope {
            time,
            observed,
            trace,
            span,
            parent,
            remote,
            links,
        },
    )
}

fn seen(run: impl FnOnce()) -> Vec<Saw> {
    let kept = Facts::default();
    let subscriber = tracing_subscriber::registry().with(kept.clone());
    tracing::subscriber::with_default(subscriber, run);
    kept.0.lock().unwrap().clone()
}

// What the policy lets out of a fact, by its table entry.
fn let_out(mut fields: Map<String, Value>, infos: &[FieldInfo], capture: Capture) -> Map<String, Value> {
    for info in infos {
        if !capture.allows(info.class) {
            assert!(info.optional, "{} may be withheld, so it must be optional", info.key);
            fields.remove(info.name);
        }
    }
    fields
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_fact_comes_back_as_it_was(
        pairs in ENTRIES
            .iter()
            .map(|entry| {
                let end = entry.lasting.as_ref().map_or(&[][..], |lasting| lasting.end_fields);
                (Just(*entry), fields(entry.fields), fields(end))
            })
            .collect::<Vec<_>>(),
        envelope in envelope(),
        end in any::<(u64, u64, u64, u64)>(),
        all in any::<bool>(),
    ) {
        let capture = if all { Capture::all() } else { Capture::NONE };
        let end = End { time: end.0, observed: end.1, start: end.2, parent: end.3 };
        for (entry, start_fields, end_fields) in pairs {
            let (tag, end_tag) = tags(entry);
            let told = fact(&tag, start_fields.clone());
            let expected = fact(&tag, let_out(start_fields, entry.fields, capture));
            match end_tag {
                None => {
                    let saw = seen(|| assert!(told.emit(&envelope, capture).is_none()));
                    prop_assert_eq!(saw, vec![Saw::Point(envelope.clone(), expected)]);
                }
                Some(end_tag) => {
                    let infos = entry.lasting.as_ref().unwrap().end_fields;
                    let told_end = fact(&end_tag, end_fields.clone());
                    let expected_end = fact(&end_tag, let_out(end_fields, infos, capture));
                    let saw = seen(|| {
                        let span = told.emit(&envelope, capture).unwrap();
                        told_end.end(&span, &end, capture);
                    });
                    prop_assert_eq!(
                        saw,
                        vec![Saw::Start(envelope.clone(), expected), Saw::End(envelope.clone(), end.clone(), expected_end)]
                    );
                }
            }
        }
    }
}

fn example(infos: &[FieldInfo]) -> Map<String, Value> {
    let one = |shape: Shape| match shape {
        Shape::Text => json!("text"),
        Shape::Integer => json!(7),
        Shape::Number => json!(1.5),
        Shape::Flag => json!(true),
        Shape::List => json!(["one", "two"]),
    };
    infos.iter().map(|info| (info.name.to_owned(), one(info.shape))).collect()
}

#[test]
fn every_fact_becomes_otlp_with_every_attribute_that_may_leave() {
    for entry in ENTRIES {
        let memory = Arc::new(Memory::default());
        let layer = otel::layer(Arc::clone(&memory), otel::Resource::new("host"));
        let subscriber = tracing_subscriber::registry().with(layer);
        let (tag, end_tag) = tags(entry);
        let envelope = Envelope { time: 5, observed: 6, trace: 7, span: 8, ..Envelope::default() };
        tracing::subscriber::with_default(subscriber, || {
            let span = fact(&tag, example(entry.fields)).emit(&envelope, Capture::all());
            if let Some(tag) = end_tag {
                let end_fields = entry.lasting.as_ref().unwrap().end_fields;
                fact(&tag, example(end_fields)).end(
                    &span.unwrap(),
                    &End { time: 9, ..End::default() },
                    Capture::all(),
                );
            }
        });
        let logs = memory.logs.lock().unwrap();
        let spans = memory.spans.lock().unwrap();
        if !entry.exported {
            assert!(logs.is_empty() && spans.is_empty(), "{} must not be exported", entry.name);
            continue;
        }
        let keys = |attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]| -> BTreeSet<String> {
            attributes.iter().map(|attribute| attribute.key.clone()).collect()
        };
        let names = |infos: &[FieldInfo]| -> BTreeSet<String> {
            infos.iter().map(|info| info.key.to_owned()).collect()
        };
        match &entry.lasting {
            None => {
                assert_eq!(logs.len(), 1, "{}", entry.name);
                assert_eq!(logs[0].event_name, entry.name);
                assert_eq!((logs[0].time_unix_nano, logs[0].observed_time_unix_nano), (5, 6));
                let mut expected = names(entry.fields);
                expected.insert("log.record.uid".into());
                assert_eq!(keys(&logs[0].attributes), expected, "{}", entry.name);
            }
            Some(lasting) => {
                assert_eq!(spans.len(), 1, "{}", entry.name);
                let mut expected = names(entry.fields);
                expected.extend(names(lasting.end_fields));
                expected.extend(lasting.constant.iter().map(|(key, _)| (*key).to_owned()));
                assert_eq!(keys(&spans[0].attributes), expected, "{}", entry.name);
                assert_eq!((spans[0].start_time_unix_nano, spans[0].end_time_unix_nano), (5, 9));
                let events: Vec<_> = logs.iter().map(|log| log.event_name.as_str()).collect();
                let named: Vec<_> = lasting.start_event.into_iter().chain(lasting.end_event).collect();
                assert_eq!(events, named, "{}", entry.name);
            }
        }
    }
}

#[test]
fn the_vocabulary_has_every_fact_of_the_original_and_those_that_came_later() {
    let names: BTreeSet<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
    for wanted in [
        "codex.connection",
        "codex.rpc.request",
        "codex.rpc.response",
        "codex.rpc.notification",
        "codex.skill.invoked",
        "codex.app.mentioned",
        "codex.app.used",
        "codex.plugin.used",
        "codex.plugin.state_changed",
        "codex.thread.initialized",
        "codex.turn.configured",
        "codex.turn.usage",
        "codex.turn.queued",
        "codex.turn.steered",
        "codex.turn",
        "codex.tool",
        "codex.compaction",
        "codex.goal.changed",
        "codex.hook",
        "codex.approval.requested",
        "codex.approval.resolved",
        "codex.review.completed",
        "codex.guardian.reviewed",
        "codex.thread.archived",
        "codex.thread.closed",
        "codex.plugin.install_failed",
        "codex.import.completed",
        "codex.error",
    ] {
        assert!(names.contains(wanted), "{wanted} is missing");
    }
}

#[test]
fn no_target_is_a_prefix_of_another_so_that_filters_can_tell_them_apart() {
    let targets: BTreeSet<&str> = ENTRIES.iter().map(|entry| entry.target).collect();
    for one in &targets {
        for other in &targets {
            assert!(one == other || !other.starts_with(one), "{one} is a prefix of {other}");
        }
    }
}

#[test]
fn attribute_names_keep_to_the_conventions() {
    // Codex's own export uses these with other shapes (its otel/src/metrics/names.rs and events).
    let taken = [
        "codex.conversation_starts",
        "codex.user_prompt",
        "codex.api_request",
        "codex.sse_event",
        "codex.tool_decision",
        "codex.tool_result",
        "codex.turn_ttft",
        "codex.thread.started",
        "codex.turn.token_usage",
        "codex.tool.call",
        "codex.hooks.run",
    ];
    for entry in ENTRIES {
        let end = entry.lasting.as_ref().map_or(&[][..], |lasting| lasting.end_fields);
        let mut keys = BTreeSet::new();
        assert!(!taken.contains(&entry.name), "{}", entry.name);
        for info in entry.fields.iter().chain(end) {
            assert!(keys.insert(info.key), "{}: {} twice", entry.name, info.key);
            assert!(
                info.key
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'_'),
                "{}",
                info.key
            );
            assert!(!taken.contains(&info.key) && !info.key.starts_with("factline."), "{}", info.key);
            assert!(!info.doc.trim().is_empty());
            let private = matches!(info.class, Class::Content(_) | Class::Environment(_));
            assert!(!private || info.optional, "{} can be withheld, so it must be optional", info.key);
        }
    }
}

#[test]
fn content_is_in_no_debug_print() {
    let told =
        fact("tool_start", example(ENTRIES.iter().find(|entry| entry.name == "codex.tool").unwrap().fields));
    let mut secret = serde_json::to_value(&told).unwrap();
    secret["arguments"] = "hunter2".into();
    secret["cwd"] = "/home/hunter2".into();
    let told: Fact<'_> = serde_json::from_value(secret).unwrap();
    assert!(!format!("{told:?}").contains("hunter2"));
    assert!(format!("{told:?}").contains("tool"));
    assert!(!Capture::NONE.allows(Class::Content(Kind::Arguments)));
}

#[test]
fn the_catalogue_in_the_documentation_is_in_step_with_the_table() {
    let written = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/facts.md")).unwrap();
    assert!(written == factline::fact::catalogue(), "run `cargo run --example catalogue > docs/facts.md`");
}
