//! `factline report`: tokens and turns by day, model, thread or client.

mod read;
mod sum;

use std::path::{Path, PathBuf};

use super::{Common, FAILED, OK, PARTLY, terminal};
use read::Turns;
use sum::By;

#[derive(clap::Args)]
#[command(after_help = "\
Without a path it reads the files that factline writes where no collector is named. A path is a recorded session
(`tap --record`), a file of OTLP JSON lines, or a directory of either. Tokens that a fork, a resume or a replay of
history repeats are counted once, and so is a turn that was delivered twice. Days are those of UTC.

Examples:
  factline report
  factline report --by model
  factline report --by thread --json session.jsonl
  factline report --by client ~/.local/state/factline/otlp")]
pub(super) struct Arguments {
    /// What a line of the table is
    #[arg(long, value_enum, default_value_t = By::Day)]
    by: By,

    /// Print it as JSON
    #[arg(long)]
    json: bool,

    /// Recorded sessions, files of OTLP JSON lines, or directories
    #[arg(value_name = "TRANSCRIPT|DIR")]
    paths: Vec<PathBuf>,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> u8 {
    let mut paths = arguments.paths.clone();
    if paths.is_empty() {
        match common.config(true) {
            Ok(config) => paths.push(config.files_dir.value),
            Err(error) => {
                terminal::error(&error);
                return FAILED;
            }
        }
    }
    let (mut turns, mut failed, mut unreadable) = (Turns::default(), false, false);
    for path in &paths {
        match turns.read(path) {
            Ok(None) => {}
            Ok(Some(bad)) => {
                unreadable = true;
                terminal::warn(&bad);
            }
            Err(error) => {
                failed = true;
                terminal::error(&advised(path, &error, arguments.paths.is_empty()));
            }
        }
    }
    let report = sum::report(&turns.finish(), arguments.by);
    terminal::print(&if arguments.json { format!("{}\n", report.json()) } else { report.table() });
    match (failed, unreadable) {
        (true, _) => FAILED,
        (false, true) => PARTLY,
        (false, false) => OK,
    }
}

fn advised(path: &Path, error: &str, default: bool) -> String {
    let advice = match default {
        true => "; nothing was written there yet, or to a collector: name a recorded session or a directory",
        false => "",
    };
    format!("{}: {error}{advice}", path.display())
}
