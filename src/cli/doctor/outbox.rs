//! How the outbox is.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::check::{Check, Report};
use super::places::writable_above;
use crate::cli::terminal;
use crate::config::Config;
use crate::outbox::{self, LaneStatus};

/// What waits longer than this has nobody who delivers it.
const LONG: u64 = 3_600_000_000_000;

/// Place, modes, space, what waits, damage.
pub(super) fn health(config: &Config, report: &mut Report) {
    let dir = &config.outbox_dir.value;
    report.about(format!("outbox {}", dir.display()));
    report.doing("reading it");
    let about = match std::fs::symlink_metadata(dir) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            report.add(match writable_above(dir) {
                Ok(above) => {
                    Check::ok("directory", format!("is not there yet; {} can be written", above.display()))
                }
                Err((above, error)) => Check::fail(
                    "directory",
                    format!("cannot be made in {}: {error}", above.display()),
                    "name another with outbox.dir or --outbox",
                ),
            });
            space(config, dir, report);
            return;
        }
        Err(error) => {
            report.add(Check::fail(
                "directory",
                error.to_string(),
                "name another with outbox.dir or --outbox",
            ));
            return;
        }
    };
    let own = rustix::process::geteuid().as_raw();
    report.add(if !about.is_dir() {
        Check::fail("directory", "is no directory; links are not followed", "name another with outbox.dir")
    } else if about.uid() != own {
        Check::fail("directory", "belongs to another user", "name another with outbox.dir or --outbox")
    } else if about.mode() & 0o077 != 0 {
        let said = format!("mode {:o} lets others in", about.mode() & 0o777);
        Check::warn("directory", said, format!("the next start tightens it; or chmod 700 {}", dir.display()))
    } else {
        Check::ok("directory", "ours alone")
    });
    space(config, dir, report);
    match outbox::status(dir) {
        Ok(lanes) => lanes_of(&lanes, report),
        Err(error) => {
            report.add(Check::fail(
                "waiting",
                format!("cannot be read: {error}"),
                "chmod it, or name another",
            ));
        }
    }
    match outbox::check(dir) {
        Ok(damage) if damage.is_empty() => report.add(Check::ok("damage", "none")),
        Ok(damage) => {
            let first = damage.first().map(|it| format!("{} at {}", it.file.display(), it.offset));
            let said = format!("{} places, the first in {}", damage.len(), first.unwrap_or_default());
            let advice = "records around are delivered, those in them are counted; is the disk healthy?";
            report.add(Check::warn("damage", said, advice));
        }
        Err(error) => report.add(Check::fail("damage", format!("cannot be looked for: {error}"), "")),
    }
}

fn space(config: &Config, dir: &Path, report: &mut Report) {
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let Ok(fs) = rustix::fs::statvfs(there) else { return };
    let free = fs.f_bavail.saturating_mul(fs.f_frsize);
    let (max, ring) = (config.outbox.max_bytes.value, config.outbox.ring_bytes.value);
    let said = format!("{} free, bound {}", terminal::size(free), terminal::size(max));
    report.add(if free < ring.saturating_mul(2) {
        Check::fail("space", said, "free some, or name another place: an outbox may not fit any more")
    } else if free < max {
        Check::warn("space", said, "the disk is full before the outbox is; set outbox.max_bytes lower")
    } else {
        Check::ok("space", said)
    });
}

fn lanes_of(lanes: &[LaneStatus], report: &mut Report) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    for lane in lanes.iter().filter(|lane| lane.unreadable.is_some()) {
        let why = lane.unreadable.clone().unwrap_or_default();
        let said = format!("{} cannot be read: {why}", lane.name);
        report.add(Check::fail("process", said, "a newer factline may have written it; use that one"));
    }
    let sum = |running: bool| {
        let queues = lanes.iter().filter(|lane| lane.owner_alive == running).flat_map(|lane| &lane.queues);
        let waiting = || queues.clone().filter(|queue| queue.waiting.records > 0);
        let records: u64 = waiting().map(|queue| queue.waiting.records).sum();
        let oldest = waiting().map(|queue| queue.waiting.oldest_ns).filter(|time| *time > 0).min();
        let lanes = lanes.iter().filter(|lane| lane.owner_alive == running).count();
        (lanes, records, oldest.map_or(0, |time| now.saturating_sub(time)))
    };
    let ((running, waiting, oldest), (ended, left, oldest_left)) = (sum(true), sum(false));
    let said = match waiting {
        0 => format!("nothing, of {running} running processes"),
        _ => format!("{waiting} records of {running} running, the oldest {} old", terminal::duration(oldest)),
    };
    report.add(match oldest > LONG {
        true => Check::warn("waiting", said, "does its destination take them? see below"),
        false => Check::ok("waiting", said),
    });
    report.add(match left {
        0 => Check::ok("left over", format!("nothing, of {ended} ended processes")),
        _ => Check::warn(
            "left over",
            format!("{left} records of {ended} ended, the oldest {} old", terminal::duration(oldest_left)),
            "`factline outbox flush` delivers them, and so does the next start",
        ),
    });
    let lost: u64 = lanes.iter().flat_map(|lane| &lane.queues).map(|queue| queue.lost.total()).sum();
    if lost > 0 {
        let said = format!("{lost} records, counted with their reasons");
        report.add(Check::warn("lost", said, "`factline outbox status` has the reasons"));
    }
}
