//! `factline outbox status`: what waits, what was delivered, what was lost.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::{Common, FAILED, OK, terminal};
use crate::outbox::{self, LaneStatus, Loss, Lost, Note};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  factline outbox status
  factline outbox status --json | jq '.queues[] | {name, waiting, last_error}'")]
pub(super) struct Arguments {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> u8 {
    let Ok(config) = common.config(true).inspect_err(|error| terminal::error(error)) else { return FAILED };
    let dir = &config.outbox_dir.value;
    let read = outbox::status(dir).and_then(|lanes| Ok((summed(dir, &lanes)?, lanes, outbox::totals(dir)?)));
    let (sums, lanes, totals) = match read {
        Ok(read) => read,
        Err(error) => {
            terminal::outbox_error(dir, &error);
            return FAILED;
        }
    };
    if arguments.json {
        let queue = |name: &str, delivered: u64, lost: &Lost| json!({"name": name, "delivered": delivered, "lost": reasons(lost)});
        let removed: Vec<Value> =
            totals.iter().map(|(name, total)| queue(name, total.delivered, &total.lost)).collect();
        let lanes: Vec<Value> = lanes.iter().map(lane).collect();
        let sums: Vec<Value> = sums.iter().map(|(name, sum)| sum.json(name)).collect();
        let said = json!({
            "outbox": dir.display().to_string(), "queues": sums, "lanes": lanes, "finished": removed,
        });
        terminal::print(&format!("{said}\n"));
        return OK;
    }
    let mut out = format!("outbox {}\n", dir.display());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    for (name, sum) in &sums {
        sum.say(&mut out, name, now);
    }
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

/// A queue over all lanes, those included that are gone: how its destination is getting on.
#[derive(Default)]
struct Sum {
    accepted: u64,
    written: u64,
    waiting: u64,
    bytes: u64,
    oldest_ns: u64,
    delivered: u64,
    retried: u64,
    lost: BTreeMap<&'static str, u64>,
    dead_letters: u64,
    last_error: Option<Note>,
}

fn summed(dir: &Path, lanes: &[LaneStatus]) -> io::Result<BTreeMap<String, Sum>> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for queue in lanes.iter().flat_map(|lane| &lane.queues) {
        let sum = sums.entry(queue.name.clone()).or_default();
        let oldest = [sum.oldest_ns, queue.waiting.oldest_ns].into_iter().filter(|time| *time > 0).min();
        sum.accepted += queue.accepted;
        sum.written += queue.written;
        sum.waiting += queue.waiting.records;
        sum.bytes += queue.waiting.bytes;
        sum.oldest_ns = oldest.unwrap_or(0);
        sum.add(queue.delivered, &queue.lost);
    }
    for (name, total) in outbox::totals(dir)? {
        let (sum, settled) = (sums.entry(name).or_default(), total.delivered + total.lost.total());
        sum.accepted += settled;
        sum.written += settled;
        sum.add(total.delivered, &total.lost);
    }
    for (name, retried) in outbox::retries(dir)? {
        sums.entry(name).or_default().retried = retried;
    }
    outbox::dead_letters(dir, None, |letter| {
        sums.entry(letter.queue.to_owned()).or_default().dead_letters += 1;
        Ok(())
    })?;
    for (name, note) in outbox::notes(dir)? {
        sums.entry(name).or_default().last_error = Some(note);
    }
    Ok(sums)
}

impl Sum {
    fn add(&mut self, delivered: u64, lost: &Lost) {
        self.delivered += delivered;
        for reason in Loss::ALL.into_iter().filter(|reason| lost.by(*reason) > 0) {
            *self.lost.entry(reason.name()).or_default() += lost.by(reason);
        }
    }

    fn json(&self, name: &str) -> Value {
        let error = self.last_error.as_ref().map(|it| json!({"time_ns": it.time_ns, "text": it.text}));
        json!({
            "name": name, "accepted": self.accepted, "written": self.written, "waiting": self.waiting,
            "bytes": self.bytes, "oldest_ns": self.oldest_ns, "delivered": self.delivered,
            "retried": self.retried, "lost": self.lost, "dead_letters": self.dead_letters, "last_error": error,
        })
    }

    fn say(&self, out: &mut String, name: &str, now: u64) {
        let mut text = format!("{name}: {} accepted", self.accepted);
        let mut add = |part: String| text.extend([", ", &part]);
        if self.written < self.accepted {
            add(format!("{} written", self.written));
        }
        add(format!("{} waiting", self.waiting));
        if self.oldest_ns > 0 {
            add(format!("the oldest for {}", terminal::duration(now.saturating_sub(self.oldest_ns))));
        }
        add(format!("{} delivered", self.delivered));
        if self.retried > 0 {
            add(format!("{} requests retried", self.retried));
        }
        let lost: Vec<String> = self.lost.iter().map(|(why, records)| format!("{why} {records}")).collect();
        add(if lost.is_empty() { "none lost".to_owned() } else { format!("lost: {}", lost.join(", ")) });
        if self.dead_letters > 0 {
            add(format!("{} dead letters", self.dead_letters));
        }
        line(out, format_args!("{text}"));
        if let Some(error) = &self.last_error {
            let ago = terminal::duration(now.saturating_sub(error.time_ns));
            line(out, format_args!("  last error, {ago} ago: {}", terminal::printable(&error.text)));
        }
    }
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
                "name": queue.name, "accepted": queue.accepted, "written": queue.written,
                "waiting": queue.waiting.records, "bytes": queue.waiting.bytes,
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
