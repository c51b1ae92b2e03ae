//! `kill -9` of a tap in mid-session with the collector away: what was observed is delivered once, and what
//! was open is closed as interrupted, by `factline outbox flush` or by the next tap.
//!
//! FACTLINE_KILL_ROUNDS says how often (default 15, `.ci/run` takes 50), FACTLINE_KILL_SEED repeats what a
//! failed run printed.
#![cfg(feature = "cli")]
// The exemption of tests does not reach their own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/collector.rs"]
#[allow(dead_code)]
mod collector;
#[path = "support/program.rs"]
mod program;
#[path = "support/received.rs"]
mod received;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use collector::{Collector, Reply};
use factline::outbox::{Outbox, Settings, Settled, status};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use program::{PATIENCE, corpus, factline, run, until};
use received::{Received, hex, text};
use serde_json::Value;

/// Nobody listens there.
const AWAY: &str = "http://127.0.0.1:1";
const SESSIONS: [&str; 3] = ["10-subagents", "04-commands", "08-interrupt"];

/// A recorded session, in the order in which it went over the wire.
struct Session {
    steps: Vec<Step>,
    /// A server that says its part when it has heard the other's.
    server: PathBuf,
}

enum Step {
    Client(Vec<u8>),
    Server,
}

impl Session {
    fn read(name: &str, dir: &Path) -> Session {
        let (_, transcript) = corpus().into_iter().find(|(known, _)| known == name).unwrap();
        let raw = |name: &str| std::fs::read(transcript.with_file_name(name)).unwrap();
        let (client, server) = (raw("client.raw"), raw("server.raw"));
        let (mut steps, mut script) = (Vec::new(), "set -e\n".to_owned());
        for line in std::fs::read_to_string(&transcript).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let (Some(off), Some(len)) = (line["off"].as_u64(), line["len"].as_u64()) else { continue };
            assert_eq!(line["conn"], 1);
            let part = off as usize..(off + len) as usize;
            if line["dir"] == "client" {
                steps.push(Step::Client(client[part].to_vec()));
                script += "read -r _\n";
            } else {
                let said = String::from_utf8(server[part].to_vec()).unwrap();
                script +=
                    &format!("printf '%s\\n' '{}'\n", said.trim_end_matches('\n').replace('\'', r"'\''"));
                steps.push(Step::Server);
            }
        }
        let path = dir.join(format!("{name}.sh"));
        std::fs::write(&path, script + "read -r _ || true\n").unwrap();
        Session { steps, server: path }
    }
}

/// A tap in front of the session's server. Killed when it is dropped, at the latest.
struct Tap {
    process: Child,
    said: mpsc::Receiver<()>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Tap {
    fn start(dir: &Path, endpoint: &str, command: &mut [&std::ffi::OsStr]) -> Tap {
        let mut process = factline(dir)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("FACTLINE_LOG", dir.join("tap.log"))
            .args(["tap", "--"])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) && say.send(()).is_ok() {
                line.clear();
            }
        });
        Tap { process, said }
    }

    /// Plays the first `steps` of a session.
    fn play(&mut self, session: &Session, steps: usize) {
        for step in &session.steps[..steps] {
            match step {
                Step::Client(line) => self.process.stdin.as_mut().unwrap().write_all(line).unwrap(),
                Step::Server => self.said.recv_timeout(PATIENCE).unwrap(),
            }
        }
    }

    fn leave(&mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

/// What an outbox holds, read from a copy.
#[derive(Debug, Default)]
struct Held {
    logs: Vec<LogRecord>,
    spans: Vec<Span>,
    /// Trace and span ids of what began and has not ended.
    open: BTreeSet<(String, String)>,
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    if !from.exists() {
        // Killed before it had begun.
        return;
    }
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn held(outbox: &Path, copied: &Path) -> Held {
    copy(outbox, copied);
    let mut settings = Settings::new(copied);
    settings.queues = vec!["logs".to_owned(), "traces".to_owned()];
    // Its own lane gets nothing.
    settings.ring_bytes = 64 << 10;
    let outbox = Outbox::open(settings).unwrap();
    let mut held = Held::default();
    let lanes = outbox.adopt();
    assert!(lanes.len() <= 1, "{} lanes", lanes.len());
    for lane in lanes {
        held.logs = records(&lane, "logs");
        held.spans = records(&lane, "traces");
        let ids = |key: [u8; 24]| (hex(&key[..16]), hex(&key[16..]));
        // Metrics keep a checkpoint there, which is no span.
        let spans = lane.unfinished().into_iter().filter(|it| !it.key.0.starts_with(b"factline.metrics"));
        held.open = spans.map(|unfinished| ids(unfinished.key.0)).collect();
    }
    held
}

fn records<T: prost::Message + Default>(lane: &factline::outbox::Lane, queue: &str) -> Vec<T> {
    let mut reader = lane.reader(queue).unwrap();
    let mut all = Vec::new();
    while let Some(batch) = reader.next(1 << 20, 1000).unwrap() {
        // A payload is a field of its request: tag, length, record.
        all.extend(batch.payloads().map(|payload| T::decode_length_delimited(&payload[1..]).unwrap()));
        reader.settle(&batch, Settled::delivered(&batch)).unwrap();
    }
    all
}

/// Takes `known` away from `all`, each once. Nothing of it may be missing.
fn beyond<T: Debug + Clone>(all: &[T], known: &[T]) -> Vec<T> {
    let mut left: BTreeMap<String, Vec<T>> = BTreeMap::new();
    all.iter().for_each(|it| left.entry(format!("{it:?}")).or_default().push(it.clone()));
    for it in known {
        let found = left.get_mut(&format!("{it:?}")).and_then(Vec::pop);
        assert!(found.is_some(), "observed and never delivered: {it:?}");
    }
    left.into_values().flatten().collect()
}

/// Names of finished spans with their place, in order. A connection's ids are its own.
fn order(spans: &[Span]) -> Vec<(String, String, String, String)> {
    let turns = spans.iter().filter(|span| span.name != "initialize");
    turns.map(|it| (it.name.clone(), hex(&it.trace_id), hex(&it.span_id), hex(&it.parent_span_id))).collect()
}

fn log_order(logs: &[LogRecord]) -> Vec<(String, Option<String>)> {
    logs.iter().map(|it| (it.event_name.clone(), text(&it.attributes, "codex.turn.id"))).collect()
}

fn assert_interrupted(attributes: &[KeyValue], name: &str) {
    let said = |key| text(attributes, key);
    let of_turn = said("codex.turn.status").as_deref() == Some("interrupted")
        && said("codex.turn.end_observed").as_deref() == Some("false");
    let of_item = said("codex.item.status").as_deref() == Some("interrupted")
        && said("codex.item.end_observed").as_deref() == Some("false");
    // Of a connection it is known that nobody saw its end, and no more.
    assert!(of_turn || of_item || name == "initialize", "{name}: {attributes:?}");
    assert_eq!(said("error.type"), None, "{name}");
}

fn random(state: &mut u64) -> u64 {
    // Xorshift; good enough for moments.
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn received(collector: &Collector) -> Received {
    let mut all = Received::default();
    for request in collector.requests() {
        all.add_request(&request.path, &request.body);
    }
    all
}

/// One kill, and what came of it. Answers how many spans had ended and how many were closed.
fn round(session: &Session, whole: &Held, dir: &Path, state: &mut u64, by_tap: bool) -> (usize, usize) {
    let outbox = dir.join("outbox");
    let mut tap = Tap::start(dir, AWAY, &mut ["sh".as_ref(), session.server.as_os_str()]);
    tap.play(session, random(state) as usize % session.steps.len());
    // The server and the observer are in the middle of something now; how far they get is up to this.
    for _ in 0..random(state) % 200_000 {
        std::hint::spin_loop();
    }
    tap.process.kill().unwrap();
    tap.process.wait().unwrap();
    drop(tap);

    let held = held(&outbox, &dir.join("copy"));
    assert!(
        order(&whole.spans).starts_with(&order(&held.spans)),
        "spans in another order: {:?}",
        order(&held.spans)
    );
    assert!(log_order(&whole.logs).starts_with(&log_order(&held.logs)), "{:?}", log_order(&held.logs));

    let collector = Collector::start(|_, _| Reply::ok());
    let spans = held.spans.len() + held.open.len();
    if by_tap {
        let mut next = Tap::start(dir, &collector.url(""), &mut ["cat".as_ref()]);
        until("the next tap delivers what the killed one left", || {
            let lanes = status(&outbox).map_err(|error| error.to_string())?;
            let waiting: u64 =
                lanes.iter().flat_map(|lane| &lane.queues).map(|queue| queue.waiting.records).sum();
            let got = received(&collector).counts();
            if waiting == 0 && got.1 >= spans && got.0 >= held.logs.len() {
                Ok(())
            } else {
                Err(format!("{waiting} waiting, {got:?} delivered, {spans} spans expected"))
            }
        });
        next.leave();
    }
    // After a tap this finds nothing to do, except a lane in which nothing was, and the second time never.
    let flush = || {
        run(factline(dir).env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url("")).args(["outbox", "flush"]));
        received(&collector).counts()
    };
    let before = received(&collector).counts();
    let after = flush();
    assert!(!by_tap || before == after, "the next tap left something: {before:?}, {after:?}");
    assert_eq!(flush(), after, "the second flush delivered something");
    let lanes = status(&outbox).unwrap();
    assert!(lanes.is_empty(), "nothing waits, and no lane is left: {lanes:?}");

    let got = received(&collector);
    let logs: Vec<LogRecord> = got.logs.into_iter().map(|of| of.record).collect();
    let spans: Vec<Span> = got.spans.into_iter().map(|of| of.record).collect();
    let once: BTreeSet<_> = spans.iter().map(|span| (&span.trace_id, &span.span_id)).collect();
    assert_eq!(once.len(), spans.len(), "a span was delivered twice");
    let once: BTreeSet<_> = logs.iter().map(|log| text(&log.attributes, "log.record.uid").unwrap()).collect();
    assert_eq!(once.len(), logs.len(), "a log record was delivered twice");

    let closed = beyond(&spans, &held.spans);
    let ids: BTreeSet<_> = closed.iter().map(|span| (hex(&span.trace_id), hex(&span.span_id))).collect();
    assert_eq!(ids, held.open, "closed is what was open");
    for span in &closed {
        assert_interrupted(&span.attributes, &span.name);
        assert!(span.status.as_ref().is_none_or(|status| status.code == 0), "{span:?}");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0);
    }
    for log in beyond(&logs, &held.logs) {
        assert!(ids.contains(&(hex(&log.trace_id), hex(&log.span_id))), "{log:?}");
        assert_interrupted(&log.attributes, &log.event_name);
    }
    (held.spans.len(), closed.len())
}

/// An undisturbed session, the collector away all the time.
fn undisturbed(session: &Session, dir: &Path) -> Held {
    let mut tap = Tap::start(dir, AWAY, &mut ["sh".as_ref(), session.server.as_os_str()]);
    tap.play(session, session.steps.len());
    tap.leave();
    let whole = held(&dir.join("outbox"), &dir.join("copy"));
    assert!(whole.open.is_empty() && whole.spans.len() > 5 && whole.logs.len() > 10, "{whole:?}");
    whole
}

#[test]
fn what_a_killed_tap_observed_is_delivered_once_and_what_was_open_is_closed() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("FACTLINE_KILL_ROUNDS").unwrap_or(15);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("FACTLINE_KILL_SEED").unwrap_or(now);
    println!("FACTLINE_KILL_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let sessions: Vec<(Session, Held)> = SESSIONS
        .iter()
        .map(|name| {
            let session = Session::read(name, dir.path());
            let whole = undisturbed(&session, &dir.path().join(name));
            (session, whole)
        })
        .collect();
    let (next, ended, closed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= rounds {
                        break;
                    }
                    // Each round has moments of its own, whichever thread it falls to.
                    let mut state = (seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1;
                    for _ in 0..8 {
                        random(&mut state);
                    }
                    let (session, whole) = &sessions[random(&mut state) as usize % sessions.len()];
                    let dir = dir.path().join(number.to_string());
                    let (were, are) = round(session, whole, &dir, &mut state, number % 2 == 1);
                    ended.fetch_add(were as u64, Ordering::Relaxed);
                    closed.fetch_add(are as u64, Ordering::Relaxed);
                    std::fs::remove_dir_all(&dir).unwrap();
                }
            });
        }
    });
    println!("{rounds} kills: {ended:?} spans had ended, {closed:?} were closed as interrupted");
    assert!(rounds < 10 || ended.into_inner() > 0 && closed.into_inner() > 0, "none of them in mid-session");
}
