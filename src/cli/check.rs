//! `factline outbox check`: every damaged place, with its file and offset.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Common, FAILED, OK, PARTLY, terminal};
use crate::outbox;

#[derive(clap::Args)]
#[command(after_help = "\
A torn end of a file is what a crash leaves; records that were lost with it are counted when delivery comes there.
Damage costs the records it hit and needs no repair. Exit code 1 when there is any.

Examples:
  factline outbox check
  factline outbox check --json | jq -r '.damage[] | [.file, .offset, .bytes] | @tsv'")]
pub(super) struct Arguments {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> u8 {
    let Ok(config) = common.config(true).inspect_err(|error| terminal::error(error)) else { return FAILED };
    let dir = &config.outbox_dir.value;
    let looked = outbox::check(dir).and_then(|damage| Ok((damage, outbox::status(dir)?)));
    let (damage, lanes) = match looked {
        Ok(looked) => looked,
        Err(error) => {
            terminal::outbox_error(dir, &error);
            return FAILED;
        }
    };
    let unreadable: Vec<&String> = lanes.iter().filter_map(|lane| lane.unreadable.as_ref()).collect();
    if arguments.json {
        let damage: Vec<Value> = damage
            .iter()
            .map(|it| json!({"file": it.file.display().to_string(), "offset": it.offset, "bytes": it.len}))
            .collect();
        let said = json!({"outbox": dir.display().to_string(), "damage": damage, "unreadable": unreadable});
        terminal::print(&format!("{said}\n"));
    } else {
        let mut out = String::new();
        for it in &damage {
            // Writing to a text does not fail.
            let _ = writeln!(out, "{}: {} bytes damaged at {}", it.file.display(), it.len, it.offset);
        }
        if damage.is_empty() {
            let _ = writeln!(out, "no damage in {} of {}", processes(lanes.len()), dir.display());
        }
        terminal::print(&terminal::printable(&out));
        unreadable.iter().for_each(|why| terminal::warn(why));
    }
    match (damage.is_empty(), unreadable.is_empty()) {
        (false, _) => FAILED,
        (true, false) => PARTLY,
        (true, true) => OK,
    }
}

fn processes(lanes: usize) -> String {
    if lanes == 1 { "the lane".to_owned() } else { format!("the {lanes} lanes") }
}
