//! `factline outbox purge`: removes what ended processes left, and counts it as lost; or only the content in it.

use std::io::{IsTerminal as _, Write as _};

use serde_json::json;

use super::{Common, FAILED, OK, PARTLY, USAGE, terminal, withdraw};
use crate::outbox::{self, Purge};

#[derive(clap::Args)]
#[command(after_help = "\
Removes what ended processes left: records that wait, and those that destinations refused. What was not delivered
is counted as lost, reason `purged`. Running processes keep what is theirs.

With --content, records stay, and what was captured goes: prompts, messages, arguments, output, paths and the other
kinds. It goes out of what waits, what is open and what was refused. Fails if a running process holds some of it.

Examples:
  factline outbox purge                        # asks first
  factline outbox purge --queue analytics --yes
  factline outbox purge --dead --yes
  factline outbox purge --content --yes        # keeps the facts")]
pub(super) struct Arguments {
    /// Only this queue: logs, traces, metrics or analytics
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,

    /// Only what destinations refused
    #[arg(long)]
    dead: bool,

    /// Only the content of records: the facts stay
    #[arg(long, conflicts_with_all = ["queue", "dead"])]
    content: bool,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Say what was removed as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> u8 {
    let Ok(config) = common.config(true).inspect_err(|error| terminal::error(error)) else { return FAILED };
    let dir = &config.outbox_dir.value;
    if !arguments.yes {
        if !std::io::stdin().is_terminal() {
            terminal::error("this removes it for good: say so with --yes");
            return USAGE;
        }
        let what = match waiting(dir, arguments) {
            _ if arguments.content => "all content".to_owned(),
            Ok(what) => what,
            Err(error) => return failed(dir, &error),
        };
        if !asked(&format!("Remove {what} from {}?", dir.display())) {
            terminal::tell("nothing was removed");
            return OK;
        }
    }
    if arguments.content {
        return withdraw::run(dir, arguments.json);
    }
    let what = Purge { queue: arguments.queue.clone(), dead_only: arguments.dead };
    let done = match outbox::purge(dir, &what) {
        Ok(done) => done,
        Err(error) => return failed(dir, &error),
    };
    let records: u64 = done.records.values().sum();
    if arguments.json {
        let said = json!({
            "records": done.records, "dead_letters": done.dead_letters, "processes": done.lanes,
            "running": done.held, "unreadable": done.unreadable,
        });
        terminal::print(&format!("{said}\n"));
    } else {
        let by: Vec<String> =
            done.records.iter().map(|(queue, records)| format!("{queue} {records}")).collect();
        let by = if by.is_empty() { String::new() } else { format!(" ({})", by.join(", ")) };
        terminal::tell(&format!(
            "{records} waiting records{by} and {} refused ones removed; {} lanes are gone",
            done.dead_letters,
            done.lanes.len()
        ));
        if !done.held.is_empty() {
            terminal::tell(&format!("{} running processes keep what is theirs", done.held.len()));
        }
    }
    for lane in &done.unreadable {
        terminal::warn(&format!("lane {lane} was written by a newer version: what was in it is not counted"));
    }
    if done.unreadable.is_empty() { OK } else { PARTLY }
}

/// In words, what would be removed.
fn waiting(dir: &std::path::Path, arguments: &Arguments) -> std::io::Result<String> {
    let queue = arguments.queue.as_deref();
    let mut letters = 0_u64;
    outbox::dead_letters(dir, queue, |_| {
        letters += 1;
        Ok(())
    })?;
    let lanes = outbox::status(dir)?;
    let ended = lanes.iter().filter(|lane| !lane.owner_alive && !arguments.dead);
    let queues = ended.flat_map(|lane| &lane.queues);
    let records: u64 =
        queues.filter(|it| queue.is_none_or(|wanted| wanted == it.name)).map(|it| it.waiting.records).sum();
    Ok(format!("{records} waiting records and up to {letters} refused ones"))
}

fn asked(question: &str) -> bool {
    let mut answer = String::new();
    let _ = write!(std::io::stderr(), "{} [y/N] ", terminal::printable(question));
    let read = std::io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn failed(dir: &std::path::Path, error: &std::io::Error) -> u8 {
    terminal::outbox_error(dir, error);
    FAILED
}
