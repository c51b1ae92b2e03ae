//! Rows 6 and 7: panics in what is called with records, and a host that dies as soon as it has emitted.

use std::collections::VecDeque;
use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use factline::analytics::{self, Event, Events};
use factline::config::Config;
use factline::deliver::{Batch, Deliverer, Route, Settled, Source};
use factline::fact::vocabulary::{SkillInvoked, TurnEnd, TurnStart};
use factline::host::Facts;
use factline::otel::only_facts;
use factline::telemetry::Telemetry;
use tracing_subscriber::prelude::*;

use crate::collector::{Collector, Reply};
use crate::emitter::{header, id_of, payload};
use crate::program::{factline, run};
use crate::received::{Received, text};

const THREAD: &str = "01a201f3-bb59-7381-9611-25e8d997799f";

fn turn(facts: &Facts, id: &str) -> factline::host::Open {
    facts.begin(&TurnStart {
        thread_id: THREAD.into(),
        turn_id: id.into(),
        agent: "codex".into(),
        ..TurnStart::default()
    })
}

/// In the role of a host that ends as it is told; as a test of its own it does nothing.
#[test]
fn role() {
    let Ok(end) = std::env::var("FACTLINE_TEST_HOST") else { return };
    let (config, _) = Config::from_env(|name| std::env::var(name).ok()).unwrap();
    let telemetry = Telemetry::start(&config).unwrap();
    tracing_subscriber::registry().with(telemetry.layer().with_filter(only_facts())).init();
    let facts = Facts::new();
    let ended = turn(&facts, "01a201f3-bbc2-7210-93e3-c9061bfde670");
    let open = turn(&facts, "01a201f3-bbc2-7210-93e3-c9061bfde671");
    facts.track_skill_invoked(&SkillInvoked { skill_name: "review".into(), ..SkillInvoked::default() });
    ended.end(&TurnEnd { status: "completed".into(), ..TurnEnd::default() });
    match end.as_str() {
        "abort" => std::process::abort(),
        "panic" => panic!("as told, with the turn still open"),
        "exit" => std::process::exit(0),
        _ => {
            // A panic in another thread that nobody waits for, and then the end without a word.
            let _ = std::thread::spawn(|| panic!("as told")).join();
            std::mem::forget(open);
            std::process::abort();
        }
    }
}

#[test]
fn what_a_host_emitted_is_delivered_also_when_it_dies_at_once() {
    for end in ["abort", "panic", "exit", "thread"] {
        let dir = tempfile::tempdir().unwrap();
        let host = Command::new(std::env::current_exe().unwrap())
            .args(["host::role", "--exact", "--nocapture", "--test-threads=1"])
            .env("FACTLINE_TEST_HOST", end)
            .env("FACTLINE_OUTBOX_DIR", dir.path().join("outbox"))
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        assert_eq!(host.status.success(), end == "exit", "{end}: {host:?}");
        let collector = Collector::start(|_, _| Reply::ok());
        run(factline(dir.path())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url(""))
            .args(["outbox", "flush"]));
        let mut all = Received::default();
        collector.requests().iter().for_each(|request| all.add_request(&request.path, &request.body));
        let mut turns: Vec<_> = all
            .spans
            .iter()
            .map(|of| text(&of.record.attributes, "codex.turn.status").unwrap_or_default())
            .collect();
        turns.sort();
        assert_eq!(turns, ["completed", "interrupted"], "{end}");
        let skills = all.logs.iter().filter(|of| of.record.event_name == "codex.skill.invoked").count();
        assert_eq!(skills, 1, "{end}");
    }
}

/// Panics now and then, wherever it can.
struct Fragile {
    left: Vec<u64>,
    given: VecDeque<u64>,
    calls: u64,
    settled: Arc<AtomicU64>,
}

impl Source for Fragile {
    fn next(&mut self, _: usize, _: usize) -> io::Result<Option<Batch>> {
        self.calls += 1;
        assert!(self.calls.is_multiple_of(2), "as told");
        let Some(number) = self.left.pop() else { return Ok(None) };
        self.given.push_back(number);
        let bytes = payload((1, number));
        Ok(Some(Batch { header: header().into(), ends: vec![bytes.len()], bytes }))
    }

    fn settle(&mut self, batch: &Batch, settled: Settled) -> io::Result<()> {
        self.calls += 1;
        assert!(!self.calls.is_multiple_of(3), "as told");
        assert_eq!(settled.delivered as usize, batch.len());
        self.given.pop_front();
        self.settled.fetch_add(settled.delivered, Ordering::Relaxed);
        Ok(())
    }

    fn rewind(&mut self) {
        self.left.extend(self.given.drain(..).rev());
    }

    fn dead_letter(&mut self, _: &[u8], _: &[u8], _: &str) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_queue_that_panics_costs_a_retry_and_no_record() {
    let collector = Collector::start(|_, _| Reply::ok());
    let url = collector.url("");
    let (config, _) = Config::from_env(|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(url.clone()),
        "FACTLINE_OUTBOX_DIR" | "FACTLINE_FILES_DIR" => Some("/nowhere".into()),
        _ => None,
    })
    .unwrap();
    let settled = Arc::<AtomicU64>::default();
    let source =
        Fragile { left: (0..6).collect(), given: VecDeque::new(), calls: 0, settled: Arc::clone(&settled) };
    let destination = &config.destinations()[0];
    let pace = factline::deliver::Pace {
        first_wait: Duration::from_millis(2),
        ..factline::deliver::Pace::default()
    };
    let route = Route::with("logs", Box::new(source), destination, pace, Default::default()).unwrap();
    let deliverer = Deliverer::start(vec![route]).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !deliverer.flush(end).is_complete() {
        assert!(Instant::now() < end, "{:?}", deliverer.report());
    }
    let mut all = Received::default();
    collector.requests().iter().for_each(|request| all.add_request(&request.path, &request.body));
    let mut came: Vec<u64> = all.logs.iter().map(|of| id_of(&of.record).1).collect();
    came.sort_unstable();
    came.dedup();
    assert_eq!((came, settled.load(Ordering::Relaxed)), ((0..6).collect(), 6));
    assert!(deliverer.report()[0].retried > 0, "none of the panics was met");
}

#[test]
fn a_panic_in_what_takes_analytics_events_costs_that_fact_and_no_other() {
    struct Once(Mutex<(bool, Vec<Event>)>);
    impl Events for Once {
        fn accept(&self, events: &[Event]) {
            let mut state = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let first = !std::mem::replace(&mut state.0, true);
            assert!(!first, "as told");
            state.1.extend_from_slice(events);
        }
    }
    let kept = Arc::new(Once(Mutex::default()));
    let layer = analytics::layer(Arc::clone(&kept), analytics::Families::default());
    let _default = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let facts = Facts::new();
    let skill = |name: &'static str| {
        facts.track_skill_invoked(&SkillInvoked {
            thread_id: Some(THREAD.into()),
            turn_id: Some("01a201f3-bbc2-7210-93e3-c9061bfde670".into()),
            skill_name: name.into(),
            ..SkillInvoked::default()
        });
    };
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| skill("first")));
    let met = kept.0.lock().is_err();
    skill("second");
    skill("third");
    let state = kept.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Whether the panic reaches the host or not, what comes after it is not lost.
    assert_eq!((state.1.len(), met), (2, true), "{broken:?}");
}
