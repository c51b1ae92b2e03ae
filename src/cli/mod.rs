//! The command line: one file per command.

mod backend;
mod check;
mod demo;
mod doctor;
mod filter;
mod flush;
mod layers;
mod listing;
mod purge;
mod replay;
mod report;
mod show;
mod shown;
mod status;
mod stdin;
mod tap;
mod terminal;
mod tree;
mod waterfall;
mod withdraw;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::{Config, ConfigFile, FileError, Sources};

/// All went well.
pub const OK: u8 = 0;
/// It failed, and said why.
pub const FAILED: u8 = 1;
/// It was called wrongly.
pub const USAGE: u8 = 2;
/// It finished, but part of the input could not be read.
pub const PARTLY: u8 = 3;

/// The flight recorder for coding agents: what happens in an app server as OpenTelemetry logs, traces and metrics.
#[derive(Parser)]
#[command(name = "factline", version, about, after_help = EXAMPLES, max_term_width = 100)]
struct Arguments {
    /// The configuration file [default: FACTLINE_CONFIG, else factline/config.toml in the user's configuration
    /// directory]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where records are kept until they are delivered [default: FACTLINE_OUTBOX_DIR, else below the user's
    /// state directory]
    #[arg(long, global = true, value_name = "DIR")]
    outbox: Option<PathBuf>,

    /// Which facts are kept, for example `info,factline::usage=debug` [default: FACTLINE_FILTER, else `info`]
    #[arg(long, global = true, value_name = "FILTER")]
    filter: Option<String>,

    /// What may leave of what was said and done: kinds with commas, `all` or `none` [default: FACTLINE_CAPTURE,
    /// else none]
    #[arg(long, global = true, value_name = "KINDS")]
    capture: Option<String>,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  factline demo                                what a real session looks like; sends nothing
  factline tap -- codex app-server             watch an unmodified agent; telemetry goes to files
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 factline tap -- codex app-server
                                               the same, to a collector
  factline tap --listen ws://127.0.0.1:4500 --connect ws://127.0.0.1:4501
                                               the same, between a listening server and its clients
  factline replay --otlp-file out session.jsonl
                                               a recorded session as OTLP JSON lines
  factline outbox status                       what waits for delivery
  factline doctor                              what is configured, and whether each destination answers

Where telemetry goes is said in a configuration file, with the standard OTEL_* variables, or with flags.
Nothing private is sent by default.
Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 finished with unreadable input; `tap` exits as its command does.";

#[derive(Subcommand)]
enum Command {
    /// Play a recorded real session through the whole pipeline, and show what it did
    Demo(demo::Arguments),
    /// Stand before an app server and read along: bytes pass unchanged, facts become telemetry
    Tap(tap::Arguments),
    /// Turn recorded sessions into telemetry, the same that `tap` makes live
    Replay(replay::Arguments),
    /// Tokens and turns by day, model, thread or client
    Report(report::Arguments),
    /// Say what is configured and by whom, and try each destination
    Doctor(doctor::Arguments),
    /// Look at what waits for delivery, deliver it, or remove it
    #[command(
        subcommand,
        after_help = "\
Examples:
  factline outbox status
  factline outbox flush --timeout 60
  factline outbox show --queue logs | jq ."
    )]
    Outbox(Outbox),
    /// A backend for analytics events on this machine: takes, checks and keeps them
    #[command(subcommand)]
    Backend(backend::Backend),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  factline completions bash > ~/.local/share/bash-completion/completions/factline
  factline completions zsh > ~/.zfunc/_factline
  factline completions fish > ~/.config/fish/completions/factline.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command
    #[command(after_help = "\
Examples:
  factline man ~/.local/share/man/man1
  factline man . && man ./factline.1")]
    Man {
        /// Where they are written; made if it is missing
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Subcommand)]
enum Outbox {
    /// What waits, what was delivered, what was lost and what went wrong, per destination and process
    Status(status::Arguments),
    /// Deliver what waits, also what ended processes left; close what they had open
    Flush(flush::Arguments),
    /// The records that wait, or that were refused, as JSON lines
    Show(show::Arguments),
    /// Every damaged place, with file and offset
    Check(check::Arguments),
    /// Remove what ended processes left; it is counted as lost
    Purge(purge::Arguments),
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    terminal::keep_panics_quiet();
    ExitCode::from(run(std::env::args_os()))
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output and are no mistake.
            let _ = error.print();
            return if error.use_stderr() { USAGE } else { OK };
        }
    };
    let common = Common {
        config: arguments.config,
        outbox: arguments.outbox,
        filter: arguments.filter,
        capture: arguments.capture,
    };
    match arguments.command {
        Command::Demo(own) => demo::run(&common, &own),
        Command::Tap(own) => tap::run(&common, own),
        Command::Replay(own) => replay::run(&common, &own),
        Command::Report(own) => report::run(&common, &own),
        Command::Doctor(own) => doctor::run(&common, &own),
        Command::Outbox(Outbox::Status(own)) => status::run(&common, &own),
        Command::Outbox(Outbox::Flush(own)) => flush::run(&common, &own),
        Command::Outbox(Outbox::Show(own)) => show::run(&common, &own),
        Command::Outbox(Outbox::Check(own)) => check::run(&common, &own),
        Command::Outbox(Outbox::Purge(own)) => purge::run(&common, &own),
        Command::Backend(own) => backend::run(&own),
        Command::Man { dir } => {
            let written = std::fs::create_dir_all(&dir)
                .and_then(|()| clap_mangen::generate_to(Arguments::command(), &dir));
            match written {
                Ok(()) => OK,
                Err(error) => {
                    terminal::error(&format!("cannot write into {}: {error}", dir.display()));
                    FAILED
                }
            }
        }
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "factline", &mut script);
            terminal::print(&String::from_utf8_lossy(&script));
            OK
        }
    }
}

/// What every command may be given.
struct Common {
    config: Option<PathBuf>,
    outbox: Option<PathBuf>,
    filter: Option<String>,
    capture: Option<String>,
}

impl Common {
    /// What was said: flags, environment, file.
    fn sources(&self) -> Result<Sources<'static>, FileError> {
        let vars = |name: &str| std::env::var(name).ok();
        let file = ConfigFile::find(self.config.as_deref(), vars)?;
        let outbox = self.outbox.as_ref().map(|dir| dir.to_string_lossy().into_owned());
        Ok(Sources::environment(vars)
            .with_file(file)
            .with_flag("--outbox", "FACTLINE_OUTBOX_DIR", outbox)
            .with_flag("--filter", "FACTLINE_FILTER", self.filter.clone())
            .with_flag("--capture", "FACTLINE_CAPTURE", self.capture.clone()))
    }

    /// The configuration. Warnings go to standard error if `loud`.
    fn config(&self, loud: bool) -> Result<Config, String> {
        let sources = self.sources().map_err(|error| error.to_string())?;
        let (config, warnings) = Config::load(&sources).map_err(|error| error.to_string())?;
        if loud {
            for warning in warnings {
                terminal::warn(&warning.to_string());
            }
        }
        Ok(config)
    }
}
