//! Rows 46 and 53: clocks that jump, and process ids that come again.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use factline::outbox::status;

use crate::emitter::{Emitter, Log};
use crate::ledger::{identity, take};
use crate::program::until;

/// libfaketime, where Debian puts it.
fn faketime() -> Option<&'static str> {
    let places = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
        "/usr/lib/faketime/libfaketime.so.1",
    ];
    let found = places.into_iter().find(|place| Path::new(place).exists());
    if found.is_none() {
        println!("skipped: there is no libfaketime (`apt-get install faketime`)");
    }
    found
}

#[test]
fn a_clock_that_jumps_by_years_costs_no_record() {
    let Some(library) = faketime() else { return };
    for (from, to) in
        [("+0", "+366d"), ("+0", "-1d"), ("+0", "@1970-01-01 00:00:10"), ("+366d", "+0"), ("-60d", "+0")]
    {
        let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
        let clock = dir.path().join("clock");
        std::fs::write(&clock, from).unwrap();
        let command = || {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", &clock)
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            command
        };
        let outbox = dir.path().join("outbox");
        let emitter = Emitter { pace: Duration::from_micros(500), settle: true, ..Emitter::default() };
        let mut running = log.emit_by(command(), &outbox, &emitter);
        log.until("records", |said| said.accepted.get(&running.writer).is_some_and(|n| *n > 200));
        std::fs::write(&clock, to).unwrap();
        log.until("records after the jump", |said| {
            said.accepted.get(&running.writer).is_some_and(|n| *n > 500)
        });
        running.kill();
        // The next one sees the other clock as well, adopts, emits and ends.
        let next = Emitter { adopt: true, count: 50, ..Emitter::default() };
        let mut after = log.emit_by(command(), &outbox, &next);
        let (status, errors) = after.wait();
        assert!(status.success(), "{from} {to}: {errors}");
        let taken = take(&outbox);
        log.said(&[running.writer, after.writer], |said| {
            let accepted = said.accepted[&running.writer] + said.accepted[&after.writer];
            let booked = taken.delivered + taken.lost;
            assert!((accepted..=accepted + 1).contains(&booked), "{from} {to}: {booked} of {accepted}");
        });
        assert_eq!(taken.lost, 0, "{from} {to}");
    }
}

#[test]
fn a_process_with_a_dead_owners_number_takes_its_lane_and_one_with_a_living_owners_does_not() {
    if !crate::is_root() {
        return;
    }
    let (log, dir) = (Log::start(), tempfile::tempdir().unwrap());
    let alone = || {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).arg(std::env::current_exe().unwrap());
        command
    };
    let living = Emitter { count: 30, linger: true, ..Emitter::default() };
    let mut first = log.emit_by(alone(), dir.path(), &living);
    let lingers = |running: &crate::emitter::Running| {
        log.until("it is at its end", |said| {
            said.told.get(&running.writer).is_some_and(|told| told.contains_key("lingers"))
        });
    };
    lingers(&first);
    let number = |lane: &serde_json::Value| lane.as_str().unwrap().split('-').nth(1).unwrap().to_owned();
    let name = log.told(first.writer, "lane");
    // The same number, while the first lives.
    let mut second = log.emit_by(alone(), dir.path(), &Emitter { adopt: true, ..living.clone() });
    lingers(&second);
    assert_eq!(number(&log.told(second.writer, "lane")), number(&name));
    assert_eq!(log.told(second.writer, "adopted"), serde_json::json!([]));
    first.kill();
    until("its end", || {
        let lanes = status(dir.path()).map_err(|error| error.to_string())?;
        if lanes.iter().filter(|lane| lane.owner_alive).count() == 1 {
            Ok(())
        } else {
            Err(format!("{lanes:?}"))
        }
    });
    let mut third = log.emit_by(alone(), dir.path(), &Emitter { adopt: true, ..living });
    lingers(&third);
    assert_eq!(number(&log.told(third.writer, "lane")), number(&name));
    assert_eq!(log.told(third.writer, "adopted"), serde_json::json!([name]));
    for running in [&mut second, &mut third] {
        let (status, errors) = running.wait();
        assert!(status.success(), "{errors}");
    }
    let taken = take(dir.path());
    let of = identity(&log, &[&first, &second, &third], 1, &taken.records, 0);
    assert_eq!((of.accepted, of.twice, taken.lost), (90, 0, 0));
}
