//! Rows 1, 2, 7, 9, 10, 15, 47, 49, 52: processes that end in the middle of it, and several at once.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use factline::outbox::{Accept, Outbox, Record, Refused, Settings, Transaction, WhenFull};
use rustix::process::Signal;

use crate::emitter::{Emitter, Log, Running, payload};
use crate::ledger::{identity, ids, read_by_python, take};
use crate::program::{signal, until, until_within};
use crate::{Random, rounds, seed};

#[test]
fn at_whatever_moment_it_is_killed_what_two_threads_had_accepted_is_there_once() {
    let (log, seed) = (Log::start(), seed());
    let (mut accepted, mut unsaid) = (0, 0);
    for round in 0..rounds(12) {
        let mut random = Random(seed ^ round);
        let dir = tempfile::tempdir().unwrap();
        let emitter = Emitter { threads: 2, settle: round % 3 == 0, ..Emitter::default() };
        let mut running = log.emit(dir.path(), &emitter);
        let wanted = random.below(900);
        log.until("records", |said| said.accepted.get(&running.writer).is_some_and(|n| *n >= wanted));
        for _ in 0..random.below(100_000) {
            std::hint::spin_loop();
        }
        running.kill();
        let on_disk = if round % 4 == 1 { read_by_python(dir.path()) } else { None };
        let taken = take(dir.path());
        assert!(taken.lanes <= 1 && taken.took < Duration::from_secs(1) || crate::busy(), "{taken:?}");
        assert_eq!((taken.lost, taken.waiting), (0, 0), "{taken:?}");
        if round % 3 == 0 {
            // Part of it was delivered before.
            let all = taken.delivered;
            log.said(&[running.writer], |said| {
                // The second thread may not have come to its first.
                let of = |writer| said.accepted.get(&writer).copied().unwrap_or_default();
                let said: u64 = (running.writer..running.writer + 2).map(of).sum();
                assert!((said..=said + 2).contains(&all), "{all} of {said}");
            });
            continue;
        }
        let of = identity(&log, &[&running], 2, &taken.records, 0);
        assert_eq!((of.twice, of.missing), (0, 0));
        if let Some(on_disk) = on_disk {
            assert_eq!(ids(&on_disk), taken.records.iter().copied().collect::<BTreeSet<_>>());
        }
        accepted += of.accepted;
        unsaid += of.came - of.accepted;
    }
    println!("{accepted} accepted, {unsaid} more that were accepted and not said; seed {seed}");
}

#[test]
fn several_processes_share_a_directory_and_the_killed_ones_lane_is_adopted_by_exactly_one() {
    let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
    let slow = Emitter { pace: Duration::from_micros(300), ..Emitter::default() };
    let mut killed = log.emit(dir.path(), &slow);
    let stopped = log.emit(dir.path(), &Emitter { linger: true, count: 500, ..slow.clone() });
    log.until("both at work", |said| {
        [killed.writer, stopped.writer].iter().all(|w| said.accepted.get(w).is_some_and(|n| *n > 100))
    });
    signal(&stopped.child, Signal::STOP);
    killed.kill();
    // Two come at once.
    let next = Emitter { adopt: true, linger: true, count: 300, ..Emitter::default() };
    let mut both = [log.emit(dir.path(), &next), log.emit(dir.path(), &next)];
    log.until("both have looked", |said| {
        both.iter().all(|it| said.told.get(&it.writer).is_some_and(|told| told.contains_key("adopted")))
    });
    let adopted: Vec<String> = both
        .iter()
        .flat_map(|it| serde_json::from_value::<Vec<String>>(log.told(it.writer, "adopted")).unwrap())
        .collect();
    let lane = |of: &Running| log.told(of.writer, "lane").as_str().unwrap().to_owned();
    assert_eq!(adopted, [lane(&killed)], "the dead one's by one, the stopped one's by nobody");
    signal(&stopped.child, Signal::CONT);
    let mut stopped = stopped;
    for running in both.iter_mut().chain([&mut stopped]) {
        log.until("all is emitted", |said| {
            said.told.get(&running.writer).is_some_and(|told| told.contains_key("lingers"))
        });
        let (status, errors) = running.wait();
        assert!(status.success(), "{errors}");
    }
    let taken = take(dir.path());
    let [one, two] = &both;
    let of = identity(&log, &[&killed, &stopped, one, two], 1, &taken.records, taken.lost);
    assert_eq!((taken.lost, of.twice, of.missing), (0, 0, 0), "{of:?}");
    assert!(of.accepted >= 500 + 300 + 300 + 100, "{of:?}");
}

#[test]
fn a_full_outbox_that_blocks_its_emitters_closes_at_once_and_keeps_what_it_had_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(dir.path());
    settings.queues = vec!["logs".into()];
    settings.max_bytes = 128 << 10;
    settings.when_full = WhenFull::Block;
    let outbox = Outbox::open(settings).unwrap();
    let queue = outbox.queue("logs").unwrap();
    outbox.set_header(queue, &crate::emitter::header());
    let emitter = outbox.clone();
    let thread = std::thread::spawn(move || {
        for n in 0.. {
            let payload = payload((1, n));
            let records = [Record { queue, time_ns: 1, content: false, payload: &payload }];
            match emitter.append(Transaction { records: &records, ..Default::default() }) {
                Ok(()) => {}
                Err(refused) => return (n, refused),
            }
        }
        unreachable!()
    });
    let mut before = 0;
    until("it is full", || {
        let now = outbox.counters().accepted;
        let full = now > 100 && now == std::mem::replace(&mut before, now);
        if full { Ok(()) } else { Err(format!("{now} accepted")) }
    });
    let began = Instant::now();
    // Full as it is, it says so; the ring keeps what the segments can't.
    let closed = outbox.close();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let (accepted, refused) = thread.join().unwrap();
    assert_eq!(refused, Refused::Closed);
    drop(outbox);
    let taken = take(dir.path());
    let wanted: Vec<_> = (0..accepted).map(|n| (1, n)).collect();
    assert_eq!((taken.records, taken.lost), (wanted, 0), "{closed:?}");
}

#[test]
fn a_limit_on_the_size_of_files_costs_nothing_that_is_not_counted() {
    let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
    let mut limited = Command::new("sh");
    // In blocks of 512 bytes; ignoring the signal makes the limit an error, like that of a full disk.
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 96; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap());
    let emitter = Emitter { count: 1500, ring_bytes: 32 << 10, segment_bytes: 1 << 20, ..Emitter::default() };
    let mut running = log.emit_by(limited, dir.path(), &emitter);
    let (status, errors) = running.wait();
    assert!(status.success(), "{errors}");
    let segment = std::fs::read_dir(dir.path().join("lanes")).unwrap().next().unwrap().unwrap();
    let largest = std::fs::read_dir(segment.path().join("logs")).unwrap();
    let largest = largest.map(|it| it.unwrap().metadata().unwrap().len()).max().unwrap();
    assert!(largest <= 96 * 512 && largest > 90 * 512, "the limit was never met: {largest}");
    let taken = take(dir.path());
    let of = identity(&log, &[&running], 1, &taken.records, taken.lost);
    assert_eq!(of.accepted, 1500);
    assert_eq!((of.missing, of.twice), (0, 0), "another file takes what this one does not: {taken:?}");
}

#[test]
fn a_burst_stays_below_its_bounds_and_loses_only_by_policy_and_counted() {
    let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 262144; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    // A heap for each thread would reserve more than there is.
    limited.env("MALLOC_ARENA_MAX", "2");
    let short = Emitter {
        threads: 8,
        count: 12_000,
        ring_bytes: 1 << 20,
        segment_bytes: 1 << 20,
        max_bytes: 8 << 20,
        ..Emitter::default()
    };
    // 200,000 records a second for a minute.
    let emitter = match crate::full_length() {
        false => short,
        true => Emitter {
            count: 25_000 * 60,
            pace: Duration::from_micros(40),
            ring_bytes: Settings::RING_BYTES,
            segment_bytes: Settings::SEGMENT_BYTES,
            max_bytes: 64 << 20,
            say_every: 1000,
            ..short
        },
    };
    let mut running = log.emit_by(limited, dir.path(), &emitter);
    let mut most = 0;
    until_within(Duration::from_secs(300), "all is emitted", || {
        most = most.max(crate::usage(dir.path()));
        let over = running.child.try_wait().unwrap().is_some();
        if over { Ok(()) } else { Err("it is still at it".into()) }
    });
    let (status, errors) = running.wait();
    assert!(status.success(), "{errors}");
    let bound = emitter.max_bytes + emitter.ring_bytes as u64 + emitter.segment_bytes;
    assert!(most <= bound, "{most} bytes on disk");
    let taken = take(dir.path());
    let of = identity(&log, &[&running], 8, &taken.records, taken.lost);
    assert_eq!(of.accepted, 8 * emitter.count);
    assert_eq!((of.missing, of.twice), (taken.lost, 0), "counted exactly: {of:?}");
    assert!(of.missing > 0, "the bound was never met");
    let writers = running.writer..running.writer + 8;
    for writer in writers.clone() {
        let own = taken.records.iter().filter(|id| id.0 == writer).map(|id| id.1);
        assert!(own.is_sorted_by(|a, b| a < b), "each thread's records in its order");
    }
    let peak = log.told(running.writer, "end")["peak"].as_str().unwrap().to_owned();
    let kib: u64 = peak.split(' ').next().unwrap().parse().unwrap();
    assert!(kib < 64 << 10, "{peak}");
    println!("{} accepted, {} lost by policy, peak {peak}, {most} bytes on disk", of.accepted, of.missing);
    for writer in writers {
        let told = |what| log.told(writer, what);
        println!("{} ms, an append in microseconds: {}", told("milliseconds"), told("microseconds"));
    }
}

#[test]
fn every_way_to_accept_survives_a_kill_between_any_two_records() {
    let (log, seed) = (Log::start(), seed());
    for (round, accept) in [Accept::Ring, Accept::Write, Accept::Sync].into_iter().enumerate() {
        let mut random = Random(seed ^ round as u64);
        let dir = tempfile::tempdir().unwrap();
        let wanted = random.below(60);
        let mut running = log.emit(dir.path(), &Emitter { accept, ..Emitter::default() });
        log.until("records", |said| said.accepted.get(&running.writer).is_some_and(|n| *n >= wanted));
        running.kill();
        let taken = take(dir.path());
        let of = identity(&log, &[&running], 1, &taken.records, 0);
        assert_eq!((of.twice, taken.lost), (0, 0), "{accept:?}: {taken:?}");
    }
}
