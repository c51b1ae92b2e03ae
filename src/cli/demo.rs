//! `factline demo`: a recorded real session through the whole pipeline, shown in the terminal.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

use super::shown::Keeper;
use super::terminal::{self, Look};
use super::tree::Tree;
use super::{Common, FAILED, OK, USAGE, filter, listing, waterfall};
use crate::config::{Config, Signal};
use crate::fact::Capture;
use crate::jsonl::private_file;
use crate::otel;
use crate::replay::replay;
use crate::telemetry::{Telemetry, queue_name};
use crate::transcript::Transcript;

/// Two sessions of a real app server, the first up to its seventh turn: commands that were approved, declined and
/// cancelled, one that failed, and agents that were spawned, asked again and closed.
const SESSION: &[u8] = include_bytes!("demo/session.jsonl");

/// It all stays on this machine, so this is only reached when its disk does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
#[command(after_help = "\
A recorded session of a real app server goes the way that a live one goes: layer, outbox, delivery, here into files. It
is sent nowhere, whatever the OTEL_* variables say, and your own outbox is not touched.

Examples:
  factline demo
  factline demo --dir demo-out                 # keep what it writes there
  factline demo --json | jq '.turns[].tools[].name'")]
pub(super) struct Arguments {
    /// Write the session and its telemetry here [default: a new directory below the user's state directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// What was written, and where.
struct Written {
    session: PathBuf,
    files: PathBuf,
    logs: u64,
    spans: u64,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> u8 {
    if common.outbox.is_some() {
        terminal::error("the demo has an outbox of its own; --dir says where all of it goes");
        return USAGE;
    }
    match play(common, arguments) {
        Ok((written, tree)) => {
            if arguments.json {
                terminal::print(&format!("{}\n", as_json(&written, &tree)));
            } else {
                terminal::print(&as_text(&written, &tree, Look::of_stdout()));
            }
            OK
        }
        Err(message) => {
            terminal::error(&message);
            FAILED
        }
    }
}

fn play(common: &Common, arguments: &Arguments) -> Result<(Written, Tree), String> {
    let sources = common.sources().map_err(|error| error.to_string())?;
    let filter = filter::of(&sources, &["FACTLINE_FILTER"]).map_err(|error| error.to_string())?;
    let dir = match &arguments.dir {
        Some(dir) => {
            private_dir(dir).and_then(|()| std::path::absolute(dir)).map_err(|error| (dir.clone(), error))
        }
        None => fresh_dir(),
    };
    let refused = |dir: &Path, error: io::Error| {
        format!("cannot write into {}: {error}; choose a directory with --dir", dir.display())
    };
    let dir = dir.map_err(|(dir, error)| refused(&dir, error))?;
    let (session, files, outbox) = (dir.join("session.jsonl"), dir.join("otlp"), dir.join("outbox"));
    private_file(&session)
        .and_then(|mut file| io::Write::write_all(&mut file, SESSION))
        .map_err(|error| refused(&dir, error))?;
    // These variables and no others: the environment may name a collector, and the demo is not for it.
    let own = |name: &str| match name {
        "FACTLINE_OUTBOX_DIR" => Some(outbox.to_string_lossy().into_owned()),
        "FACTLINE_FILES_DIR" => Some(files.to_string_lossy().into_owned()),
        _ => None,
    };
    let (config, _) = Config::from_env(own).map_err(|error| error.to_string())?;
    let telemetry = Telemetry::start(&config).map_err(|error| error.to_string())?;
    let keeper = Keeper::default();
    let layer = otel::layer(keeper.watch(telemetry.sink()), telemetry.resource()).with_filter(filter);
    let replayed = tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        Transcript::open(&session).and_then(|mut transcript| replay(&mut transcript, Capture::NONE, |_| true))
    });
    let complete = telemetry.flush(Instant::now() + PATIENCE).is_complete();
    let report = telemetry.report();
    let closed = telemetry.stop();
    replayed.map_err(|error| error.to_string())?;
    closed.map_err(|error| refused(&dir, error))?;
    let problem = report.iter().find_map(|route| route.last_error.clone()).filter(|_| !complete);
    if let Some(problem) = problem {
        return Err(format!(
            "cannot write into {}: {problem}; choose a directory with --dir",
            files.display()
        ));
    }
    let delivered = |signal: Signal| {
        report.iter().filter(|route| route.queue == queue_name(signal)).map(|route| route.delivered).sum()
    };
    let (logs, spans) = (delivered(Signal::Logs), delivered(Signal::Traces));
    Ok((Written { session, files, logs, spans }, Tree::new(keeper.take())))
}

// A new one each time, so that nothing of a demo before is in what this one shows.
fn fresh_dir() -> Result<PathBuf, (PathBuf, io::Error)> {
    let home = |name: &str| std::env::var(name).ok().filter(|_| matches!(name, "HOME" | "XDG_STATE_HOME"));
    let below = match Config::from_env(home) {
        Ok((config, _)) => config.outbox_dir.value.with_file_name("demo"),
        Err(_) => std::env::temp_dir(),
    };
    std::fs::create_dir_all(&below).map_err(|error| (below.clone(), error))?;
    let mut number = 1;
    loop {
        let dir = below.join(format!("factline-demo-{number}"));
        match std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err((dir, error)),
        }
    }
}

fn private_dir(dir: &Path) -> io::Result<()> {
    std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700).create(dir)
}

fn as_json(written: &Written, tree: &Tree) -> serde_json::Value {
    let mut value = listing::json(tree);
    if let serde_json::Value::Object(value) = &mut value {
        value.insert("session".to_owned(), json!(written.session));
        let file = |signal: Signal| written.files.join(format!("{signal}.jsonl"));
        value.insert("files".to_owned(), json!({"logs": file(Signal::Logs), "traces": file(Signal::Traces)}));
        value.insert("logs".to_owned(), json!(written.logs));
        value.insert("spans".to_owned(), json!(written.spans));
    }
    value
}

fn as_text(written: &Written, tree: &Tree, look: Look) -> String {
    let Written { session, files, logs, spans, .. } = written;
    if *spans == 0 {
        return format!("No span passed the filter; {logs} log records are in {}\n", files.display());
    }
    let heading = |text: &str| look.paint("1", text);
    let largest =
        tree.threads.iter().flat_map(|(_, roots)| roots).max_by_key(|root| tree.walk(**root).count());
    let trace = largest.and_then(|root| tree.spans.get(*root)).map_or(0, |span| span.trace);
    let (own, session) = (quoted(&program()), quoted(session));
    format!(
        "{waterfall}
{written}
  {logs} log records and {spans} spans are in {files}, as OTLP JSON lines.
  Prompts, commands, output and paths are not in them.

{jaeger}
  docker run -d --rm -p 16686:16686 -p 4318:4318 jaegertracing/jaeger:latest && \\
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 OTEL_LOGS_EXPORTER=none OTEL_METRICS_EXPORTER=none \\
  {own} replay {session}
  Then open http://localhost:16686/trace/{trace:032x}

{collector}
  receivers:
    otlpjsonfile: {{ include: [\"{files}/*.jsonl\"], start_at: beginning }}

{next}
  {own} tap -- codex app-server
",
        waterfall = waterfall::text(tree, look),
        written = heading("What was written"),
        files = files.display(),
        jaeger = heading("The same in Jaeger"),
        collector = heading("The same in an OpenTelemetry Collector"),
        next = heading("Your own sessions"),
    )
}

// As it was called, if it was by a path: it need not be in the search path.
fn program() -> PathBuf {
    let called = std::env::args_os().next().map(PathBuf::from);
    called.filter(|path| path.components().count() > 1).unwrap_or_else(|| "factline".into())
}

// For a shell.
fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if path.chars().all(plain) { path.into_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}
