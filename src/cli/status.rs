//! `factline outbox status`: what waits, what was delivered, what was lost.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Common, FAILED, OK, terminal};
use crate::outbox::{self, LaneStatus, Loss, Lost};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  factline outbox status
  factline outbox status --json | jq '.lanes[].queues[] | {name, waiting}'")]
pub(super) struct Arguments {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> u8 {
    let config = match common.config(true) {
        Ok(config) => config,
        Err(error) => return failed(&error.to_string()),
    };
    let dir = &config.outbox_dir.value;
    let read = outbox::status(dir).and_then(|lanes| Ok((lanes, outbox::totals(dir)?)));
    let (lanes, totals) = match read {
        Ok(read) => read,
        Err(error) => {
            return failed(&format!("outbox {}: {error}; name another with --outbox", dir.display()));
        }
    };
    if arguments.json {
        let queue = |name: &str, delivered: u64, lost: &Lost| json!({"name": name, "delivered": delivered, "lost": reasons(lost)});
        let removed: Vec<Value> =
            totals.iter().map(|(name, total)| queue(name, total.delivered, &total.lost)).collect();
        let lanes: Vec<Value> = lanes.iter().map(lane).collect();
        let said = json!({"outbox": dir.display().to_string(), "lanes": lanes, "finished": removed});
        terminal::print(&format!("{said}\n"));
        return OK;
    }
    let mut out = format!("outbox {}\n", dir.display());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    line(
        &mut out,
        format_args!(
            "{:<34} {:<9} {:>9} {:>10} {:>9} {:>10} {:>7}  reasons",
            "process", "queue", "waiting", "bytes", "oldest", "delivered", "lost"
        ),
    );
    for lane in &lanes {
        let owner = if lane.owner_alive { "running" } else { "ended" };
        let name = format!("{} ({owner})", lane.name);
        if let Some(why) = &lane.unreadable {
            line(&mut out, format_args!("{name:<34} cannot be read: {}", terminal::printable(why)));
        }
        for queue in &lane.queues {
            let waiting = queue.waiting;
            let oldest = match waiting.oldest_ns {
                0 => "-".to_owned(),
                time => terminal::duration(now.saturating_sub(time)),
            };
            line(
                &mut out,
                format_args!(
                    "{name:<34} {:<9} {:>9} {:>10} {oldest:>9} {:>10} {:>7}  {}",
                    queue.name,
                    waiting.records,
                    terminal::size(waiting.bytes),
                    queue.delivered,
                    queue.lost.total(),
                    words(&queue.lost)
                ),
            );
        }
    }
    for (name, total) in &totals {
        line(
            &mut out,
            format_args!(
                "{:<34} {name:<9} {:>9} {:>10} {:>9} {:>10} {:>7}  {}",
                "processes before",
                0,
                "-",
                "-",
                total.delivered,
                total.lost.total(),
                words(&total.lost)
            ),
        );
    }
    if lanes.is_empty() && totals.is_empty() {
        line(&mut out, format_args!("nothing was ever stored here"));
    }
    let left = lanes
        .iter()
        .any(|lane| !lane.owner_alive && lane.queues.iter().any(|queue| queue.waiting.records > 0));
    if left {
        line(&mut out, format_args!("`factline outbox flush` delivers what ended processes left"));
    }
    terminal::print(&out);
    OK
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a text does not fail.
    let _ = writeln!(out, "{text}");
}

fn lane(lane: &LaneStatus) -> Value {
    let queues: Vec<Value> = lane
        .queues
        .iter()
        .map(|queue| {
            json!({
                "name": queue.name, "waiting": queue.waiting.records, "bytes": queue.waiting.bytes,
                "oldest_ns": queue.waiting.oldest_ns, "delivered": queue.delivered, "lost": reasons(&queue.lost),
                "damaged": queue.damaged,
            })
        })
        .collect();
    json!({"name": lane.name, "running": lane.owner_alive, "unreadable": lane.unreadable, "queues": queues})
}

fn reasons(lost: &Lost) -> Value {
    Loss::ALL.iter().map(|reason| (reason.name().to_owned(), json!(lost.by(*reason)))).collect()
}

fn words(lost: &Lost) -> String {
    let some = Loss::ALL.iter().filter(|reason| lost.by(**reason) > 0);
    some.map(|reason| format!("{} {}", reason.name(), lost.by(*reason))).collect::<Vec<_>>().join(", ")
}

fn failed(message: &str) -> u8 {
    terminal::error(message);
    FAILED
}
