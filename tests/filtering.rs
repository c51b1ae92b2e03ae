//! Filters decide what goes where: by target, by level, by name, for each layer on its own.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

#[path = "support/recorded.rs"]
mod recorded;

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use factline::analytics::{AnalyticsLayer, Lines};
use factline::fact::Capture;
use factline::fact::vocabulary::{PluginStateChanged, SkillInvoked, TurnEnd, TurnStart, TurnUsage};
use factline::host::Facts;
use factline::otel::{self, Resource, only_facts};
use factline::outbox::{Outbox, Settings};
use recorded::{Memory, otlp, session};
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::prelude::*;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn memory() -> (Arc<Memory>, otel::OtelLayer) {
    let memory = Arc::new(Memory::default());
    let layer = otel::layer(Arc::clone(&memory), Resource::new("host"));
    (memory, layer)
}

fn events(memory: &Memory) -> Vec<String> {
    memory.logs.lock().unwrap().iter().map(|log| log.event_name.clone()).collect()
}

fn work() {
    let facts = Facts::new();
    let turn = facts.begin(&TurnStart {
        thread_id: "t".into(),
        turn_id: "u".into(),
        agent: "codex".into(),
        ..TurnStart::default()
    });
    facts.track_skill_invoked(&SkillInvoked { skill_name: "review".into(), ..SkillInvoked::default() });
    facts
        .track_plugin_enabled(&PluginStateChanged { plugin_id: "p".into(), ..PluginStateChanged::default() });
    facts.track_turn_token_usage(&TurnUsage {
        thread_id: "t".into(),
        turn_id: "u".into(),
        ..TurnUsage::default()
    });
    tracing::info!(target: "hyper::client", "connected");
    tracing::error!("the host's own trouble");
    turn.end(&TurnEnd { status: "completed".into(), ..TurnEnd::default() });
}

#[test]
fn a_host_keeps_its_logs_sends_every_fact_and_only_plugin_facts_to_a_second_destination() {
    let (everything, all) = memory();
    let (plugins, some) = memory();
    let written = Written::default();
    let to_stderr = written.clone();
    let subscriber = tracing_subscriber::registry()
        .with(
            tracing_subscriber::fmt::layer()
                .with_writer(move || to_stderr.clone())
                .with_filter(LevelFilter::WARN),
        )
        .with(all.with_filter(only_facts()))
        .with(some.with_filter(Targets::new().with_target("factline::plugin", Level::INFO)));
    tracing::subscriber::with_default(subscriber, work);
    assert_eq!(
        events(&everything),
        [
            "codex.turn.started",
            "codex.skill.invoked",
            "codex.plugin.state_changed",
            "codex.turn.usage",
            "codex.turn.completed"
        ]
    );
    assert_eq!(everything.spans.lock().unwrap().len(), 1);
    assert_eq!(events(&plugins), ["codex.plugin.state_changed"]);
    assert!(plugins.spans.lock().unwrap().is_empty());
    let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(written.contains("the host's own trouble") && !written.contains("codex."), "{written}");
}

#[test]
fn a_filter_by_level_leaves_out_what_is_for_debugging() {
    let info = otlp(&session("01-hello"), Capture::NONE, "info");
    let debug = otlp(&session("01-hello"), Capture::NONE, "debug");
    let trace = otlp(&session("01-hello"), Capture::NONE, "trace");
    // A response that is an error is louder than others.
    let quiet = ["codex.rpc.request", "codex.rpc.notification", "codex.turn.usage", "codex.turn.configured"];
    assert!(!events(&info).iter().any(|name| quiet.contains(&name.as_str())));
    for wanted in [
        "codex.rpc.request",
        "codex.rpc.response",
        "codex.rpc.notification",
        "codex.turn.usage",
        "codex.turn.configured",
    ] {
        assert!(events(&debug).iter().any(|name| name == wanted), "{wanted}");
    }
    assert_eq!(events(&trace), events(&debug), "deltas never become telemetry");
}

#[test]
fn a_filter_by_target_takes_one_family_and_leaves_another() {
    let only = otlp(&session("10-subagents"), Capture::NONE, "off,factline::tool=info");
    assert!(events(&only).is_empty());
    assert!(only.spans.lock().unwrap().iter().all(|span| span.name.starts_with("execute_tool")));
    let without = otlp(&session("10-subagents"), Capture::NONE, "info,factline::tool=off");
    assert!(!without.spans.lock().unwrap().iter().any(|span| span.name.starts_with("execute_tool")));
}

#[test]
fn a_filter_by_name_needs_a_filter_fn() {
    let (kept, layer) = memory();
    let by_name = filter_fn(|metadata| metadata.name() == "codex.skill.invoked");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer.with_filter(by_name)), work);
    assert_eq!(events(&kept), ["codex.skill.invoked"]);
}

#[test]
fn the_layer_looks_at_facts_only_whatever_else_is_emitted() {
    let (kept, layer) = memory();
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(EnvFilter::new("trace")));
    tracing::subscriber::with_default(subscriber, || {
        for target in ["hyper", "h2", "tonic", "reqwest", "opentelemetry_sdk"] {
            match target {
                "hyper" => tracing::info!(target: "hyper", "x"),
                "h2" => tracing::info!(target: "h2", "x"),
                "tonic" => tracing::info!(target: "tonic", "x"),
                "reqwest" => tracing::info!(target: "reqwest", "x"),
                _ => tracing::info!(target: "opentelemetry_sdk", "x"),
            }
        }
        // Not of the vocabulary, although the target says so.
        tracing::info!(name: "codex.made_up", target: "factline::turn", "x");
        let _span = tracing::info_span!(target: "factline::turn", "codex.made_up").entered();
    });
    assert!(events(&kept).is_empty() && kept.spans.lock().unwrap().is_empty());
}

#[test]
fn nobody_listening_is_no_trouble_and_a_dropped_turn_is_interrupted() {
    work();
    let (kept, layer) = memory();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let start = TurnStart {
            thread_id: "t".into(),
            turn_id: "u".into(),
            agent: "codex".into(),
            ..TurnStart::default()
        };
        drop(Facts::new().begin(&start));
    });
    let spans = kept.spans.lock().unwrap();
    assert_eq!(recorded::text(&spans[0].attributes, "codex.turn.status").as_deref(), Some("interrupted"));
    assert!(spans[0].status.as_ref().is_none_or(|status| status.code == 0));
}

#[test]
fn facts_can_be_emitted_from_any_thread_and_from_a_runtime() {
    let (kept, layer) = memory();
    let subscriber = tracing_subscriber::registry().with(layer);
    let dispatch = tracing::Dispatch::new(subscriber);
    let facts = Facts::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (facts, dispatch) = (facts.clone(), dispatch.clone());
            scope.spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    for nth in 0..50 {
                        let name = format!("skill-{thread}-{nth}");
                        facts.track_skill_invoked(&SkillInvoked {
                            skill_name: name.into(),
                            ..SkillInvoked::default()
                        });
                    }
                });
            });
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    tracing::dispatcher::with_default(&dispatch, || {
        runtime.block_on(async {
            facts
                .track_skill_invoked(&SkillInvoked { skill_name: "async".into(), ..SkillInvoked::default() });
        });
    });
    assert_eq!(events(&kept).len(), 201);
}

#[test]
fn logs_and_spans_can_each_have_a_filter_of_their_own() {
    let sink = Arc::new(Memory::default());
    let of = |signal| otel::layer_of(signal, Arc::clone(&sink), Resource::new("host"));
    let subscriber = tracing_subscriber::registry()
        .with(of(otel::Signal::Logs).with_filter(Targets::new().with_target("factline::plugin", Level::INFO)))
        .with(of(otel::Signal::Traces).with_filter(only_facts()));
    tracing::subscriber::with_default(subscriber, work);
    assert_eq!(events(&sink), ["codex.plugin.state_changed"]);
    assert_eq!(sink.spans.lock().unwrap().len(), 1);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        match path.is_dir() {
            true => copy(&path, &to),
            false => assert!(std::fs::copy(path, to).is_ok()),
        }
    }
}

#[test]
fn what_each_of_two_layers_left_open_is_closed_once_in_its_own_queue() {
    let open = |dir: &Path| {
        let queues = vec!["logs".into(), "traces".into()];
        Outbox::open(Settings { queues, ..Settings::new(dir) }).unwrap()
    };
    // What a process had open when it died, and how many records of each signal its turn comes to.
    for (filters, logs, spans) in
        [(["debug", "debug"], 2, 1), (["debug", "off"], 2, 0), (["off", "debug"], 0, 1)]
    {
        let dir = tempfile::tempdir().unwrap();
        let (living, dead) = (dir.path().join("living"), dir.path().join("dead"));
        let outbox = open(&living);
        let queue = |name: &str| outbox.queue(name).into_iter().collect::<Vec<_>>();
        let sink = otel::OutboxSink::new(outbox.clone(), queue("logs"), queue("traces"));
        let of = |signal, filter: &str| {
            let layer = otel::layer_of(signal, sink.clone(), Resource::new("host"));
            layer.with_filter(EnvFilter::new(filter)).boxed()
        };
        let both = vec![of(otel::Signal::Logs, filters[0]), of(otel::Signal::Traces, filters[1])];
        tracing::subscriber::with_default(tracing_subscriber::registry().with(both), || {
            let turn = Facts::new().begin(&TurnStart { turn_id: "u".into(), ..TurnStart::default() });
            outbox.drain().unwrap();
            // As it is on the disk at this moment.
            copy(&living, &dead);
            drop(turn);
        });
        let heir = open(&dead);
        let lane = heir.adopt().remove(0);
        let queue = |name: &str| lane.queue(name).into_iter().collect::<Vec<_>>();
        otel::recover(&lane, &queue("logs"), &queue("traces"), Capture::NONE).unwrap();
        assert!(lane.unfinished().is_empty());
        for (name, expected) in [("logs", logs), ("traces", spans)] {
            let mut reader = lane.reader(name).unwrap();
            let batches = std::iter::from_fn(|| reader.next(1 << 20, 1000).unwrap());
            assert_eq!(batches.map(|batch| batch.ends.len()).sum::<usize>(), expected, "{filters:?} {name}");
        }
    }
}

#[test]
fn a_filter_of_the_whole_subscriber_that_hides_every_fact_is_told_where_somebody_looks() {
    let dir = tempfile::tempdir().unwrap();
    let warnings = |global: Option<&str>, own: &str| {
        let settings = Settings { queues: vec!["logs".into()], ..Settings::new(dir.path()) };
        let outbox = Outbox::open(settings).unwrap();
        let sink = otel::OutboxSink::new(outbox.clone(), outbox.queue("logs").into_iter().collect(), vec![]);
        let layer = otel::layer(sink, Resource::new("host")).with_filter(EnvFilter::new(own));
        let subscriber = tracing_subscriber::registry().with(global.map(EnvFilter::new)).with(layer);
        let unseen = tracing::subscriber::with_default(subscriber, || {
            work();
            tracing::dispatcher::get_default(otel::unseen).len()
        });
        let warnings = outbox.warnings();
        outbox.close().unwrap();
        (warnings, unseen)
    };
    let (told, unseen) = warnings(Some("warn,mycrate=debug"), "info");
    assert!(told.len() == 1 && told[0].contains("hides every fact") && unseen > 30, "{told:?} {unseen}");
    let (told, unseen) = warnings(Some("warn,factline::turn=info"), "info");
    assert!(told.is_empty() && unseen > 10, "part of them may be meant: {told:?} {unseen}");
    assert_eq!(warnings(None, "info"), (vec![], 0));
    assert_eq!(warnings(Some("debug"), "warn"), (vec![], 0), "a layer's own filter is its own matter");
}

#[test]
fn two_layers_of_each_kind_see_the_same_spans_and_each_ends_them() {
    let (first, one) = memory();
    let (second, other) = memory();
    let events = || AnalyticsLayer::new(Lines::new(io::sink()), Default::default(), Default::default());
    let all = vec![one.boxed(), other.boxed(), events().boxed(), events().boxed()];
    tracing::subscriber::with_default(tracing_subscriber::registry().with(all), work);
    for memory in [first, second] {
        assert_eq!(memory.spans.lock().unwrap().len(), 1);
    }
}
