//! Rows 2, 13, 14: the process is killed at every call to the system, and every call fails, one after the other.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use factline::outbox::Accept;

use crate::emitter::{Emitter, Log, Running};
use crate::ledger::{identity, ids, read_by_python, take};

/// What an outbox calls that changes files.
const CALLS: &[&str] = &[
    "write",
    "pwrite64",
    "fdatasync",
    "fsync",
    "rename",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "ftruncate",
    "fchmod",
    "flock",
    "mmap",
];

/// Something of everything: segments that fill, syncs, settled batches whose segments go, an end.
fn workload(accept: Accept) -> Emitter {
    Emitter {
        accept,
        count: 60,
        ring_bytes: 16 << 10,
        segment_bytes: 4 << 10,
        sync_ms: 5,
        sync_every: 10,
        settle: true,
        adopt: true,
        pace: Duration::from_micros(500),
        ..Emitter::default()
    }
}

/// An emitter to which `inject` happens. Says whether it did, by the trace.
fn run(log: &Log, dir: &Path, emitter: &Emitter, call: &str, inject: &str) -> (Running, String) {
    let trace = dir.join("trace");
    let mut strace = Command::new("strace");
    // With --seccomp-bpf strace 6.1 does not inject everything.
    strace.args(["-f", "-qq", "-o"]).arg(&trace).args(["-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:{inject}"), "-E", "MALLOC_ARENA_MAX=1"]);
    strace.arg(std::env::current_exe().unwrap());
    let mut running = log.emit_by(strace, &dir.join("outbox"), emitter);
    let began = Instant::now();
    while running.child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(30), "{call} {inject}: it does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
    (running, std::fs::read_to_string(&trace).unwrap_or_default())
}

/// What is there afterwards, against what was said.
fn hold(log: &Log, dir: &Path, running: &Running, what: &str, python: bool, may_lose: bool) -> (u64, u64) {
    let outbox = dir.join("outbox");
    if !outbox.exists() {
        assert_eq!(log.accepted(running.writer), 0, "{what}");
        return (0, 0);
    }
    let on_disk = (python && outbox.join("lanes").exists()).then(|| read_by_python(&outbox)).flatten();
    let taken = take(&outbox);
    assert!(taken.took < Duration::from_secs(5), "{what}: {:?}", taken.took);
    assert_eq!(taken.waiting, 0, "{what}");
    let mut wrong = None;
    log.said(&[running.writer], |said| {
        let accepted = said.accepted.get(&running.writer).copied().unwrap_or(0);
        // Part of it was settled before the end; every number is in one of the three.
        let booked = taken.delivered + taken.lost;
        if !(accepted..=accepted + 1).contains(&booked) {
            wrong = Some(format!("{what}: {accepted} accepted, {booked} booked: {taken:?}"));
        }
        let records = &taken.records;
        if !records.is_sorted_by(|a, b| a.1 < b.1) || records.iter().any(|id| id.1 > accepted) {
            wrong = Some(format!("{what}: twice, out of order, or nobody's: {taken:?}"));
        }
        if taken.lost == 0 && records.first().is_some_and(|first| first.1 + (records.len() as u64) != booked)
        {
            wrong = Some(format!("{what}: what is left is not the end of it: {taken:?}"));
        }
    });
    assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    assert!(may_lose || taken.lost == 0, "{what}: {taken:?}");
    if let Some(on_disk) = on_disk {
        assert!(ids(&on_disk).is_superset(&taken.records.iter().copied().collect()), "{what}");
    }
    // Nothing comes a second time.
    let again = take(&outbox);
    assert_eq!((again.records.len(), again.lanes), (0, 0), "{what}");
    (taken.delivered, taken.lost)
}

/// Every how many calls one is taken.
fn step(bounded: usize) -> usize {
    if std::env::var("FACTLINE_SWEEP").is_ok_and(|it| it == "full") { 1 } else { bounded }
}

#[test]
fn killed_at_any_call_to_the_system_it_opens_again_at_once_and_has_all_that_was_accepted() {
    if !crate::strace() {
        return;
    }
    let log = Log::start();
    let (mut kills, began) = (0, Instant::now());
    for accept in [Accept::Ring, Accept::Sync] {
        for call in CALLS {
            // The calls before the outbox is opened are not its own.
            let mut number = 1;
            loop {
                let dir = tempfile::tempdir().unwrap();
                let what = format!("{accept:?}: killed at {call} {number}");
                let inject = format!("signal=KILL:when={number}");
                let (mut running, trace) = run(&log, dir.path(), &workload(accept), call, &inject);
                if running.wait().0.success() {
                    break;
                }
                assert!(trace.contains("killed by SIGKILL"), "{what}: it ended by itself");
                hold(&log, dir.path(), &running, &what, kills % 8 == 0, false);
                kills += 1;
                number += step(if *call == "mmap" { 40 } else { 9 });
            }
        }
    }
    println!("{kills} kills, {:?}", began.elapsed());
    assert!(kills > 30);
}

#[test]
fn whichever_call_to_the_system_fails_nothing_is_lost_without_being_counted() {
    if !crate::strace() {
        return;
    }
    let log = Log::start();
    let (mut faults, mut lost, began) = (0, 0, Instant::now());
    let calls = [
        ("fdatasync", "EIO"),
        ("fsync", "EIO"),
        ("pwrite64", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("write", "EIO"),
        ("write", "ENOSPC"),
        ("rename", "EIO"),
        ("unlink", "EIO"),
        ("mkdir", "ENOSPC"),
        ("ftruncate", "EIO"),
    ];
    for accept in [Accept::Ring, Accept::Write, Accept::Sync] {
        for (call, error) in calls {
            let mut number = 1;
            loop {
                let dir = tempfile::tempdir().unwrap();
                // One call, or every call from there on for a while.
                let last = if number % 2 == 0 { number } else { number + 3 };
                let inject = format!("error={error}:when={number}..{last}");
                let what = format!("{accept:?}: {call} {inject}");
                let (mut running, trace) = run(&log, dir.path(), &workload(accept), call, &inject);
                if !trace.contains("(INJECTED)") {
                    break;
                }
                let (status, errors) = running.wait();
                // Refused at the opening is said and loses nothing. The frame that the tests run in writes too, and
                // minds that it can't.
                let refused = status.code() == Some(9) || call == "write" && status.code() == Some(101);
                assert!(status.success() || refused, "{what}: {status} {errors}");
                // What can't be written may go by policy, but is counted.
                lost += hold(&log, dir.path(), &running, &what, faults % 8 == 0, true).1;
                faults += 1;
                number += step(7);
            }
        }
    }
    println!("{faults} faults, {lost} records lost and counted, {:?}", began.elapsed());
    assert!(faults > 20);
}

#[test]
fn after_a_failed_sync_the_same_file_is_not_synced_again_and_nothing_is_lost() {
    if !crate::strace() {
        return;
    }
    let log = Log::start();
    let dir = tempfile::tempdir().unwrap();
    let emitter = Emitter { count: 50, accept: Accept::Sync, ..Emitter::default() };
    let trace = dir.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-y", "-o"]).arg(&trace).args(["-e", "trace=fdatasync"]);
    strace.args(["-e", "inject=fdatasync:error=EIO:when=20"]).arg(std::env::current_exe().unwrap());
    let mut running = log.emit_by(strace, &dir.path().join("outbox"), &emitter);
    let (status, errors) = running.wait();
    assert!(status.success(), "{errors}");
    let text = std::fs::read_to_string(&trace).unwrap();
    let failed: Vec<&str> = text.lines().skip_while(|line| !line.contains("INJECTED")).collect();
    let file = |line: &str| line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
    assert!(file(failed[0]).contains("/logs/"), "{}", failed[0]);
    assert!(failed.len() > 5 && failed[1..].iter().all(|line| file(line) != file(failed[0])), "{failed:#?}");
    let taken = take(&dir.path().join("outbox"));
    let of = identity(&log, &[&running], 1, &taken.records, 0);
    assert_eq!((of.accepted, of.twice, taken.lost), (50, 0, 0));
}
