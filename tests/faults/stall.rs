//! Rows 25 and 50: disks that take their time.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use factline::outbox::{Settings, status, totals};

use crate::emitter::{Emitter, Log};
use crate::ledger::{identity, take};
use crate::program::{Program, factline, run, until};
use crate::{full_length, strace};

/// Lines that are relayed in a second; three records come of two.
const A_SECOND: u32 = 7000;
/// Nobody listens there.
const AWAY: &str = "http://127.0.0.1:1";

/// Lets strace hold up one call of one thread, as soon as it is there; the others run as always.
fn hold_up(process: &Child, thread: &str, call: &str, number: u32, stall: Duration, trace: &Path) -> Program {
    let tasks = format!("/proc/{}/task", process.id());
    let id = until(thread, || {
        for task in std::fs::read_dir(&tasks).unwrap() {
            let path = task.unwrap().path();
            if std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == thread) {
                return Ok(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
        Err("no such thread".into())
    });
    let mut strace = Command::new("strace");
    strace.arg("-o").arg(trace).args(["-p", &id, "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:delay_enter={}:when={number}", stall.as_micros())]);
    Program::start(&mut strace, "attached").unwrap()
}

fn held_up(trace: &Path) -> usize {
    std::fs::read_to_string(trace).unwrap().matches("(DELAYED)").count()
}

/// A tap in front of a server that says back what it hears.
struct Relay {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    lines: u64,
}

impl Relay {
    fn start(command: &mut Command) -> Relay {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Relay { input: process.stdin.take().unwrap(), output, process, lines: 0 }
    }

    /// Says lines and hears them again, each before the next, as many a second at most; how long each took.
    fn relay(&mut self, time: Duration, a_second: u32) -> Took {
        let (began, pace) = (Instant::now(), Duration::from_secs(1) / a_second);
        let (mut took, mut due, mut back) = (Vec::new(), began, String::new());
        while began.elapsed() < time {
            let turn = format!("01a201f3-0001-7000-8000-{:012x}", self.lines / 2);
            let (what, more) = match self.lines % 2 {
                0 => ("started", ""),
                _ => ("completed", r#","status":"completed","durationMs":5"#),
            };
            let at = 1_795_329_039_590 + self.lines;
            let line = format!(
                r#"{{"method":"turn/{what}","params":{{"threadId":"t","turn":{{"id":"{turn}"{more}}}}},"emittedAtMs":{at}}}"#
            );
            self.lines += 1;
            let one = Instant::now();
            self.input.write_all(format!("{line}\n").as_bytes()).unwrap();
            back.clear();
            self.output.read_line(&mut back).unwrap();
            took.push(one.elapsed());
            assert_eq!(back.trim_end(), line);
            due += pace;
            let ahead = due.saturating_duration_since(Instant::now());
            if ahead > Duration::from_millis(1) {
                std::thread::sleep(ahead);
            }
        }
        took.sort_unstable();
        Took(took)
    }

    /// Ends it when its observer has come to the end.
    fn leave(mut self, outbox: &Path) {
        let turns = self.lines / 2;
        until("the observer", || {
            let lanes = status(outbox).map_err(|error| error.to_string())?;
            let queues = lanes.iter().flat_map(|lane| &lane.queues).filter(|queue| queue.name == "traces");
            let spans = queues.map(|it| it.delivered + it.lost.total() + it.waiting.records).sum::<u64>();
            if spans >= turns { Ok(()) } else { Err(format!("{spans} of {turns}")) }
        });
        drop(self.input);
        assert!(self.process.wait().unwrap().success());
    }
}

/// How long lines took there and back.
struct Took(Vec<Duration>);

impl Took {
    fn p99(&self) -> Duration {
        self.0[self.0.len() * 99 / 100]
    }

    fn most(&self) -> Duration {
        self.0[self.0.len() - 1]
    }
}

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lines there and back, p99 {:?}, most {:?}", self.0.len(), self.p99(), self.most())
    }
}

#[test]
fn a_disk_that_takes_two_seconds_to_sync_does_not_slow_the_relay() {
    if !strace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let factline = factline(dir.path());
    let mut strace = Command::new("strace");
    let trace = dir.path().join("trace");
    strace.args(["-f", "-qq", "-o"]).arg(&trace).args(["-e", "trace=fdatasync,fsync"]);
    strace.args(["-e", "inject=fdatasync,fsync:delay_exit=2000000"]).arg(factline.get_program());
    for (name, value) in factline.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    let mut tap =
        strace.args(["tap", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(tap.stdout.take().unwrap());
    let mut input = tap.stdin.take().unwrap();
    let (mut took, began) = (Vec::new(), Instant::now());
    let mut n = 0;
    while began.elapsed() < Duration::from_secs(4) {
        n += 1;
        let id = format!("01a201f3-0001-7000-8000-{n:012x}");
        let line = format!(
            r#"{{"method":"turn/started","params":{{"threadId":"t","turn":{{"id":"{id}"}}}},"emittedAtMs":{n}}}"#
        );
        let one = Instant::now();
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut back = String::new();
        output.read_line(&mut back).unwrap();
        took.push(one.elapsed());
        assert_eq!(back.trim_end(), line);
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(input);
    tap.wait().unwrap();
    assert!(std::fs::read_to_string(&trace).unwrap().contains("(DELAYED)"), "no sync was slow");
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100];
    println!(
        "{} lines there and back while each sync takes 2 s: p99 {p99:?}, most {:?}",
        took.len(),
        took.last()
    );
    // A relay that waited would be two seconds late. strace stops each call twice, on a machine that may do much else.
    assert!(took.last().is_some_and(|most| *most < Duration::from_secs(1)), "{took:?}");
}

#[test]
fn emitters_do_not_wait_for_a_disk_that_stalls_while_the_ring_has_room() {
    if !strace() {
        return;
    }
    let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
    let mut strace = Command::new("strace");
    let trace = dir.path().join("trace");
    strace.args(["-f", "-qq", "-o"]).arg(&trace).args(["-e", "trace=pwrite64"]);
    strace
        .args(["-e", "inject=pwrite64:delay_enter=2000000:when=4..5"])
        .arg(std::env::current_exe().unwrap());
    // Two seconds at this pace are less than the ring holds.
    let emitter = Emitter {
        count: 12_000,
        pace: Duration::from_micros(400),
        ring_bytes: 8 << 20,
        segment_bytes: 8 << 20,
        ..Emitter::default()
    };
    let mut running = log.emit_by(strace, &dir.path().join("outbox"), &emitter);
    let (status, errors) = running.wait();
    assert!(status.success(), "{errors}");
    assert!(std::fs::read_to_string(&trace).unwrap().contains("(DELAYED)"), "nothing stalled");
    let took = log.told(running.writer, "microseconds");
    println!("an append while the disk stalls for 2 s, in microseconds: {took}");
    assert!(took["p99"].as_u64().unwrap() < 1000, "{took}");
    let taken = take(&dir.path().join("outbox"));
    let of = identity(&log, &[&running], 1, &taken.records, taken.lost);
    assert_eq!((of.accepted, of.missing, taken.lost), (12_000, 0, 0));
}

#[test]
fn a_full_ring_behind_a_disk_that_stalls_drops_its_oldest_and_no_emitter_waits() {
    if !strace() {
        return;
    }
    // More comes meanwhile than the ring holds.
    let (stall, seconds, ring_bytes) = match full_length() {
        false => (2, 5, 2 << 20),
        true => (10, 15, Settings::RING_BYTES),
    };
    let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
    let (outbox, trace) = (dir.path().join("outbox"), dir.path().join("trace"));
    let emitter = Emitter {
        count: seconds * 10_000,
        pace: Duration::from_micros(100),
        ring_bytes,
        segment_bytes: Settings::SEGMENT_BYTES,
        say_every: 100,
        ..Emitter::default()
    };
    let mut running = log.emit(&outbox, &emitter);
    let stall = Duration::from_secs(stall);
    let strace = hold_up(&running.child, "factline-outbox", "pwrite64", 20, stall, &trace);
    let (status, errors) = running.wait();
    assert!(status.success(), "{errors}");
    drop(strace);
    assert_eq!(held_up(&trace), 1, "nothing stalled");
    let told = |what| log.told(running.writer, what);
    let (room, full) = (told("microseconds"), told("microseconds-full"));
    let taken = take(&outbox);
    let of = identity(&log, &[&running], 1, &taken.records, taken.lost);
    println!(
        "{} records in {} ms, {} of them dropped and counted; microseconds for one, the ring with room: {room}, \
         and full: {full}",
        of.accepted,
        told("milliseconds"),
        of.missing
    );
    assert_eq!((of.accepted, of.missing, of.twice), (emitter.count, taken.lost, 0));
    assert!(of.missing > 0, "the ring was never full");
    assert!(room["p99"].as_u64().unwrap() < 1000, "{room}");
    // One of them finds out that the disk is stuck; whoever comes after it drops the oldest at once.
    assert!(full["p50"].as_u64().unwrap() < 1000 && full["most"].as_u64().unwrap() < 1_000_000, "{full}");
}

#[test]
fn a_disk_that_stalls_does_not_slow_the_relay() {
    if !strace() {
        return;
    }
    // More comes meanwhile than the ring holds.
    let (stall, seconds, ring_bytes) = if full_length() { (10, 14, 2 << 20) } else { (2, 4, 256 << 10) };
    let dir = tempfile::tempdir().unwrap();
    let (outbox, trace) = (dir.path().join("outbox"), dir.path().join("trace"));
    let mut tap = factline(dir.path());
    tap.env("OTEL_EXPORTER_OTLP_ENDPOINT", AWAY).env("FACTLINE_OUTBOX_RING_BYTES", ring_bytes.to_string());
    let mut relay = Relay::start(tap.args(["tap", "--", "cat"]));
    let usual = relay.relay(Duration::from_secs(1), A_SECOND);
    let stall = Duration::from_secs(stall);
    let strace = hold_up(&relay.process, "factline-outbox", "pwrite64", 10, stall, &trace);
    let took = relay.relay(Duration::from_secs(seconds), A_SECOND);
    let turns = relay.lines / 2;
    relay.leave(&outbox);
    drop(strace);
    assert_eq!(held_up(&trace), 1, "nothing stalled");
    // What the ring dropped is known to who reads up to there.
    run(factline(dir.path()).args(["outbox", "flush"]));
    let spans = std::fs::read_to_string(dir.path().join("files/traces.jsonl")).unwrap();
    let delivered = spans.matches(r#""name":"invoke_agent"#).count() as u64;
    let total = totals(&outbox).unwrap()["traces"];
    println!(
        "usual: {usual}; while a write takes {stall:?}: {took}; {delivered} spans of {turns} turns delivered, {} \
         counted as lost",
        total.lost.total()
    );
    assert_eq!(delivered + total.lost.total(), turns);
    assert!(total.lost.total() > 0, "the ring was never full");
    assert!(took.p99() < usual.p99() * 4 + Duration::from_millis(1), "{took}");
    assert!(took.most() < Duration::from_secs(1), "{took}");
}
