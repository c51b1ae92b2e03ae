//! `factline outbox purge --content`: takes content out of what ended processes left; the facts stay.

use std::path::Path;

use serde_json::{Value, json};

use super::{FAILED, OK, PARTLY, terminal};
use crate::otel::WITHOUT_CONTENT;
use crate::outbox::{self, Held, Withdrawal};

pub(super) fn run(dir: &Path, as_json: bool) -> u8 {
    let done = match outbox::withdraw(dir, &WITHOUT_CONTENT) {
        Ok(done) => done,
        Err(error) => {
            terminal::outbox_error(dir, &error);
            return FAILED;
        }
    };
    if as_json {
        terminal::print(&format!("{}\n", to_json(&done)));
    } else {
        tell(&done);
    }
    for held in &done.held {
        let by =
            held.process.map_or_else(|| "a process".to_owned(), |id| format!("process {id}{}", name_of(id)));
        terminal::error(&format!(
            "lane {}: {by} works in it; its content stays until that has ended",
            held.lane
        ));
    }
    for lane in &done.unreadable {
        terminal::warn(lane);
    }
    match done {
        Withdrawal { held, .. } if !held.is_empty() => FAILED,
        Withdrawal { unreadable, .. } if !unreadable.is_empty() => PARTLY,
        _ => OK,
    }
}

fn tell(done: &Withdrawal) {
    for (lane, withdrawn) in &done.lanes {
        let changed: Vec<String> =
            withdrawn.changed.iter().map(|(queue, records)| format!("{queue} {records}")).collect();
        let by = if changed.is_empty() { String::new() } else { format!(" ({})", changed.join(", ")) };
        let records: u64 = withdrawn.changed.values().sum();
        let mut line = format!(
            "lane {lane}: content taken out of {records} waiting records{by}, {} open and {} refused ones",
            withdrawn.open, withdrawn.dead_letters
        );
        let lost: u64 = withdrawn.lost.values().sum();
        if lost > 0 {
            line += &format!("; {lost} could not be read and are lost, counted as purged");
        }
        terminal::tell(&line);
    }
    if done.lanes.is_empty() {
        terminal::tell("there is no content in what ended processes left");
    }
}

fn to_json(done: &Withdrawal) -> Value {
    let lanes = done.lanes.iter().map(|(lane, withdrawn)| {
        json!({
            "lane": lane, "changed": withdrawn.changed, "lost": withdrawn.lost, "open": withdrawn.open,
            "dead_letters": withdrawn.dead_letters,
        })
    });
    let running = done.held.iter().map(|Held { lane, process }| json!({"lane": lane, "process": process}));
    json!({
        "lanes": lanes.collect::<Vec<_>>(), "running": running.collect::<Vec<_>>(), "unreadable": done.unreadable,
    })
}

/// What the program of a process is called, where the system tells it.
fn name_of(process: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    if name.is_empty() { name } else { format!(" ({})", name.trim_end()) }
}
