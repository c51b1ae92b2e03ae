//! Rows 25 and 50: disks that take their time.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use factline::outbox::Settings;

use crate::emitter::{Emitter, Log};
use crate::ledger::{identity, take};
use crate::program::{Program, busy, factline, until};
use crate::relay::{AWAY, Relay, flushed};
use crate::{full_length, strace};

/// Lines that are relayed in a second; three records come of two.
const A_SECOND: u32 = 7000;

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

/// How often the spans' file was synced, and the shortest time between two.
fn syncs(trace: &Path) -> (usize, f64) {
    let text = std::fs::read_to_string(trace).unwrap();
    let at = |line: &str| line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap();
    let of_spans = |line: &&str| line.contains("fdatasync(") && line.contains("/traces/");
    let times: Vec<f64> = text.lines().filter(of_spans).map(at).collect();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    (times.len(), gaps.fold(f64::INFINITY, f64::min))
}

#[test]
fn a_disk_that_takes_two_seconds_to_sync_slows_no_relay_and_each_sync_covers_more() {
    if !strace() {
        return;
    }
    let time = Duration::from_secs(if full_length() { 20 } else { 6 });
    let mut seen = Vec::new();
    for delay in ["", ":delay_exit=2000000"] {
        let dir = tempfile::tempdir().unwrap();
        let (outbox, trace, tap) =
            (dir.path().join("outbox"), dir.path().join("trace"), factline(dir.path()));
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-y", "-ttt", "--seccomp-bpf", "-o"]).arg(&trace);
        strace.args(["-e", "trace=fdatasync,fsync"]);
        if !delay.is_empty() {
            strace.args(["-e", &format!("inject=fdatasync,fsync{delay}")]);
        }
        strace.arg(tap.get_program());
        for (name, value) in tap.get_envs() {
            match value {
                Some(value) => strace.env(name, value),
                None => strace.env_remove(name),
            };
        }
        strace.env("OTEL_EXPORTER_OTLP_ENDPOINT", AWAY);
        let mut relay = Relay::start(strace.args(["tap", "--", "cat"]));
        let took = relay.relay(time, 1000);
        let turns = relay.turns();
        relay.until_observed(&outbox);
        let (syncs, gap) = syncs(&trace);
        let end = relay.leave();
        println!("{took}; {turns} spans in {syncs} syncs at least {gap:.1} s apart; the end took {end:?}");
        assert!(end < Duration::from_secs(3) || busy(), "the end took {end:?}");
        assert_eq!(flushed(dir.path(), &outbox), (turns, 0));
        seen.push((took, turns as usize / syncs.max(1), gap));
    }
    let [(usual, few, _), (took, many, gap)] = &seen[..] else { unreachable!() };
    // A relay that waited would be two seconds late.
    assert!(took.is_as_usual(usual), "{took}, usual: {usual}");
    assert!(took.most() < Duration::from_secs(1) || busy(), "{took}");
    assert!(
        *many > 10 * few && *gap >= 2.0,
        "{many} spans in a sync, {few} without the fault, {gap} s apart"
    );
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
    let turns = relay.turns();
    relay.until_observed(&outbox);
    relay.leave();
    drop(strace);
    assert_eq!(held_up(&trace), 1, "nothing stalled");
    // What the ring dropped is known to who reads up to there.
    let (delivered, lost) = flushed(dir.path(), &outbox);
    println!(
        "usual: {usual}; while a write takes {stall:?}: {took}; {delivered} spans of {turns} turns delivered, \
         {lost} counted as lost"
    );
    // One whose end was dropped, and its beginning not, is counted and yet delivered, as interrupted.
    assert!(delivered + lost >= turns && delivered <= turns, "silently lost");
    assert!(lost > 0, "the ring was never full");
    assert!(took.is_as_usual(&usual), "{took}");
    assert!(took.most() < Duration::from_secs(1) || busy(), "{took}");
}
