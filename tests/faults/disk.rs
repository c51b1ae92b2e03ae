//! Rows 11, 12, 21, 22, 51: disks that are full, read-only, or lose what was not synced.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use factline::outbox::{Accept, Loss, Outbox, Record, Settings, Settled, Transaction, status};

use crate::emitter::{Emitter, Log, header, id_of_payload, payload};
use crate::ledger::{identity, take};
use crate::power::{Crash, Traced};
use crate::program::{factline, until};
use crate::relay::{AWAY, Relay, flushed};
use crate::{Looped, Small, number, seed, strace};

fn append(outbox: &Outbox, n: u64) {
    let payload = payload((1, n));
    let queue = outbox.queue("logs").unwrap();
    let records = [Record { queue, time_ns: 1, content: n.is_multiple_of(4), payload: &payload }];
    outbox.append(Transaction { records: &records, ..Default::default() }).unwrap();
}

fn open(dir: &std::path::Path, ring_bytes: usize) -> Outbox {
    let mut settings = Settings::new(dir);
    settings.queues = vec!["logs".into()];
    settings.ring_bytes = ring_bytes;
    settings.segment_bytes = 64 << 10;
    let outbox = Outbox::open(settings).unwrap();
    outbox.set_header(outbox.queue("logs").unwrap(), &header());
    outbox
}

#[test]
fn a_full_disk_costs_what_its_policy_says_counted_exactly_and_it_goes_on_when_there_is_space() {
    let Some(disk) = Small::mount("size=2m") else { return };
    let dir = disk.path().join("outbox");
    let outbox = open(&dir, 256 << 10);
    (0..500).for_each(|n| append(&outbox, n));
    outbox.sync().unwrap();
    let filler = disk.fill(64 << 10);
    let (mut slowest, began) = (Duration::ZERO, Instant::now());
    for n in 500..6000 {
        let one = Instant::now();
        append(&outbox, n);
        slowest = slowest.max(one.elapsed());
    }
    println!("5,500 records onto a full disk: {:?}, the slowest {slowest:?}", began.elapsed());
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(outbox.sync().is_err());
    std::fs::remove_file(filler).unwrap();
    until("space is found", || outbox.sync().map_err(|error| error.to_string()));
    (6000..6500).for_each(|n| append(&outbox, n));
    outbox.close().unwrap();
    let lost = outbox.counters().lost;
    drop(outbox);
    let taken = take(&dir);
    let got: Vec<u64> = taken.records.iter().map(|id| id.1).collect();
    assert!(lost.by(Loss::Disk) > 0 && lost.total() == lost.by(Loss::Disk), "{lost:?}");
    assert_eq!((got.len() as u64 + lost.total(), taken.lost), (6500, lost.total()));
    assert!(got.is_sorted_by(|a, b| a < b));
    assert!(
        got.starts_with(&(0..500).collect::<Vec<_>>()) && got.ends_with(&(6000..6500).collect::<Vec<_>>())
    );
}

#[test]
fn a_disk_filled_to_the_last_byte_keeps_no_outcome_from_being_kept() {
    let Some(disk) = Small::mount("size=1m") else { return };
    let dir = disk.path().join("outbox");
    let outbox = open(&dir, 64 << 10);
    (0..1500).for_each(|n| append(&outbox, n));
    outbox.sync().unwrap();
    disk.fill(0);
    // The cursor is written in place, and what is behind it gives its space back.
    let mut reader = outbox.own().reader("logs").unwrap();
    let mut got = Vec::new();
    while got.len() < 700 {
        let batch = reader.next(16 << 10, 50).unwrap().unwrap();
        got.extend(batch.payloads().map(|payload| id_of_payload(payload).1));
        reader.settle(&batch, Settled::delivered(&batch)).unwrap();
    }
    let settled = got.len() as u64;
    // A crash now: the process's files as they are.
    let there = status(&dir).unwrap().remove(0).queues.remove(0);
    assert_eq!((there.delivered, there.waiting.records, there.lost.total()), (settled, 1500 - settled, 0));
    // Segments that it closed and new ones that it can't make: full at the rotation as well.
    disk.fill(0);
    (1500..1700).for_each(|n| append(&outbox, n));
    drop((reader, outbox));
    std::fs::remove_file(disk.path().join("filler")).unwrap();
    let taken = take(&dir);
    got.extend(taken.records.iter().map(|id| id.1));
    assert_eq!((got, taken.lost), ((0..1700).collect(), 0));
}

#[test]
fn without_room_for_a_ring_records_are_written_at_once_and_it_is_said_once() {
    let Some(disk) = Small::mount("size=256k") else { return };
    let dir = disk.path().join("outbox");
    let log = Log::start();
    let emitter = Emitter { count: 100, ring_bytes: 1 << 20, ..Emitter::default() };
    let mut running = log.emit(&dir, &emitter);
    let (status, errors) = running.wait();
    assert!(status.success(), "{errors}");
    let end = log.told(running.writer, "end");
    let warnings = end["warnings"].as_array().unwrap();
    assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains("no accept ring"), "{end}");
    let taken = take(&dir);
    let of = identity(&log, &[&running], 1, &taken.records, 0);
    assert_eq!((of.accepted, of.missing), (100, 0));
}

#[test]
fn on_a_read_only_disk_the_tap_relays_and_says_why_nothing_is_kept() {
    let Some(disk) = Small::mount("size=1m") else { return };
    let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status().unwrap();
    assert!(remount.success());
    let elsewhere = tempfile::tempdir().unwrap();
    let log = elsewhere.path().join("log");
    let mut tap = factline(elsewhere.path());
    tap.env("FACTLINE_OUTBOX_DIR", disk.path().join("outbox")).env("FACTLINE_LOG", &log);
    let output = tap.args(["tap", "--", "echo", "relayed"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"relayed\n"[..]));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("Read-only file system"), "{said}");
}

#[test]
fn a_disk_that_becomes_read_only_under_a_tap_costs_no_line_and_what_was_written_is_delivered() {
    let Some(disk) = Looped::mount() else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let (outbox, log) = (disk.path().join("outbox"), elsewhere.path().join("log"));
    let mut tap = factline(elsewhere.path());
    tap.env("FACTLINE_OUTBOX_DIR", &outbox).env("FACTLINE_LOG", &log);
    let mut relay = Relay::start(tap.env("OTEL_EXPORTER_OTLP_ENDPOINT", AWAY).args(["tap", "--", "cat"]));
    let usual = relay.relay(Duration::from_secs(1), 2000);
    relay.until_written(&outbox);
    let written = relay.turns();
    disk.give_up();
    let took = relay.relay(Duration::from_secs(2), 2000);
    relay.until_observed(&outbox);
    let turns = relay.turns();
    relay.leave();
    println!("usual: {usual}; on a disk that has become read-only: {took}");
    assert!(took.is_as_usual(&usual), "{took}");
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(said.matches("Read-only file system").count(), 1, "{said}");
    // The kernel keeps the ring in memory for as long as the disk is mounted. Nothing could be written anywhere, also
    // not that something is lost: after a repair the rest is gone as after a failure of power.
    disk.repair();
    let (delivered, lost) = flushed(elsewhere.path(), &outbox);
    println!(
        "{turns} turns, {written} of them written before; {delivered} delivered, {lost} counted as lost"
    );
    assert!((written..=turns).contains(&delivered), "{delivered}");
}

#[test]
fn power_may_fail_at_any_moment_and_what_was_synced_is_there() {
    if !strace() {
        return;
    }
    let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
    let outbox = dir.path().join("outbox");
    let emitter = Emitter {
        accept: Accept::Sync,
        count: 120,
        ring_bytes: 16 << 10,
        segment_bytes: 6 << 10,
        settle: true,
        ..Emitter::default()
    };
    let (traced, writer) = Traced::of(&log, &outbox, &emitter, dir.path());
    let seed = seed();
    let rounds = number("FACTLINE_FAULT_ROUNDS").unwrap_or(150);
    let (mut synced, mut torn) = (0, 0);
    for round in 0..rounds {
        let image = tempfile::tempdir().unwrap();
        let Crash { said, lost_writes } = traced.crash(seed ^ round, &image.path().join("outbox"));
        torn += lost_writes;
        let taken = take(&image.path().join("outbox"));
        synced += said;
        let booked = taken.delivered + taken.lost;
        assert!(booked >= said, "round {round}: {said} were said to be safe, {booked} are there: {taken:?}");
        assert!(
            taken.records.iter().all(|id| id.0 == writer) && taken.records.is_sorted_by(|a, b| a.1 < b.1)
        );
        // Of what was safe nothing may be among the lost.
        let last = taken.records.last().map_or(booked, |id| id.1 + 1);
        assert!(
            last >= said && taken.lost <= booked.saturating_sub(said),
            "round {round}: {said}: {taken:?}"
        );
    }
    println!(
        "{rounds} failures of power, {synced} records were safe, {torn} writes were lost or torn; seed {seed}"
    );
    assert!(torn > 0, "nothing was ever lost");
}
