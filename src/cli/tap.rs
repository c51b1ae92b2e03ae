//! `factline tap`: an app server behind a relay that reads along, on its standard streams or on sockets.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt as _;

use super::{Common, FAILED, USAGE, layers, terminal};
use crate::config::{self, Config, Sources};
use crate::fact::{Capture, Link, Relation, ids};
use crate::protocol::{self, Ended, Sender, Transport};
use crate::tap::{
    self, Address, Both, Exit, Line, Listener, Observer, Recorder, Seen, Sockets, StartError, Tap,
};
use crate::telemetry::{Shape, Telemetry};

#[derive(clap::Args)]
#[command(after_help = "\
The relay changes nothing: bytes, exit code, signals and closed pipes pass through, and nothing is printed. Where
telemetry can't be kept, the command runs all the same; FACTLINE_LOG=FILE says why.

With --listen and --connect it stands between clients and a server that listens on a socket, several clients at
once; ADDR is ws://HOST:PORT or unix:PATH. It listens for this machine only, and a unix socket is its owner's. The
server may run already, or be the COMMAND, whose exit is then the tap's. Without one, SIGTERM or SIGINT ends the tap,
with exit code 0.

Examples:
  factline tap -- codex app-server
  factline tap --record session.jsonl -- codex app-server   # the recording holds everything, content too
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 factline tap -- codex app-server
  factline tap --listen ws://127.0.0.1:4500 --connect ws://127.0.0.1:4501   # clients use port 4500
  factline tap --listen unix:app.sock --connect unix:server.sock -- codex app-server --listen unix://server.sock")]
pub(super) struct Arguments {
    /// Also record the whole session, content included, into this file and raw files beside it
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Listen there for clients, instead of standing on standard input and output
    #[arg(long, value_name = "ADDR", requires = "connect")]
    listen: Option<Address>,

    /// Where the server listens
    #[arg(long, value_name = "ADDR", requires = "listen")]
    connect: Option<Address>,

    /// Let --listen name an address that other machines reach; the server then has to ask who they are
    #[arg(long, requires = "listen")]
    allow_remote: bool,

    /// The command to run, with its arguments
    #[arg(last = true, required_unless_present = "listen", value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) fn run(common: &Common, arguments: Arguments) -> u8 {
    let sources = common.sources();
    let log = Arc::new(Log::open(sources.as_ref().ok()));
    let bind = |address| Listener::bind(address, arguments.allow_remote);
    let listener = match arguments.listen.as_ref().map(bind).transpose() {
        Ok(listener) => listener,
        Err(error) => {
            terminal::error(&error.to_string());
            return FAILED;
        }
    };
    let sockets = match listener.zip(arguments.connect) {
        Some((listener, connect)) if listener.is(&connect) => {
            terminal::error(&format!(
                "--connect leads back to --listen: name the address at which the server listens, not {connect}"
            ));
            return USAGE;
        }
        other => other,
    };
    let recorder = match arguments.record.map(|path| Recorder::create(&path)).transpose() {
        Ok(recorder) => recorder,
        Err(error) => {
            terminal::error(&error.to_string());
            return FAILED;
        }
    };
    let recording = recorder.as_ref().map(|recorder| recorder.recording().clone());
    log.keep_panics_quiet();
    let started = match &sources {
        Ok(sources) => start(sources, &log),
        Err(error) => {
            log.say(&error.to_string());
            None
        }
    };
    let (telemetry, watched) = started.unzip();
    let said = telemetry.as_deref().map_or(0, |telemetry| warn(telemetry, 0, &log));
    let observer = Both(watched, recorder);
    let exit = match sockets {
        Some((listener, connect)) => serve(listener, connect, arguments.command, observer, &log),
        None => tap::run(Tap { hidden: own_secrets(), ..Tap::new(arguments.command) }, observer),
    };
    if let Some(telemetry) = telemetry {
        if let Err(error) = telemetry.stop() {
            log.say(&format!("the outbox could not be closed: {error}"));
        }
        warn(&telemetry, said, &log);
    }
    match exit {
        Ok(exit) => {
            if exit.unobserved_bytes > 0 {
                log.say(&format!("{} bytes were relayed but not observed", exit.unobserved_bytes));
            }
            if let Some(error) = recording.and_then(|recording| recording.error()) {
                log.say(&error);
            }
            exit.code
        }
        Err(error) => {
            terminal::error(&error.to_string());
            error.exit_code()
        }
    }
}

// Says what the outbox warns of, but for what was said before; returns how much that is now.
fn warn(telemetry: &Telemetry, said: usize, log: &Log) -> usize {
    let warnings = telemetry.outbox().warnings();
    warnings.iter().skip(said).for_each(|warning| log.say(warning));
    warnings.len()
}

// Credentials that only we need. The standard variables stay: the command may export telemetry of its own.
fn own_secrets() -> Vec<String> {
    let ours = |entry: &config::Entry| entry.row.kind.is_secret() && entry.variable.starts_with("FACTLINE_");
    config::entries().iter().filter(|entry| ours(entry)).map(|entry| entry.variable.clone()).collect()
}

fn serve(
    listener: Listener,
    connect: Address,
    command: Vec<OsString>,
    observer: impl Observer + 'static,
    log: &Arc<Log>,
) -> Result<Exit, StartError> {
    let listening = format!("listening on {} for the server at {connect}", listener.address());
    let command = Some(command).filter(|command| !command.is_empty());
    // With a command, standard error is the command's.
    let alone = command.is_none();
    let ready = || {
        log.say(&listening);
        if alone {
            terminal::tell(&listening);
        }
    };
    let notices = Arc::clone(log);
    let sockets = Sockets { hidden: own_secrets(), ..Sockets::new(listener, connect, command) };
    tap::serve(sockets, observer, ready, move |what| notices.say(what))
}

// Whatever is wrong with telemetry, the command is run.
fn start(sources: &Sources<'_>, log: &Log) -> Option<(Arc<Telemetry>, Watch)> {
    let (config, warnings) = Config::load(sources).map_err(|error| log.say(&error.to_string())).ok()?;
    for warning in warnings {
        log.say(&warning.to_string());
    }
    if config.destinations().is_empty() && config.analytics_sink().is_none() {
        return None;
    }
    layers::check(sources).map_err(|error| log.say(&error.to_string())).ok()?;
    let telemetry = Telemetry::start(&config).map_err(|error| log.say(&error.to_string())).ok()?;
    let telemetry = Arc::new(telemetry);
    let mut all =
        layers::telemetry(sources, Shape::of(&config), telemetry.sink(), telemetry.own_resource()).ok()?;
    all.extend(layers::metrics(sources, telemetry.metrics_layer()).ok()?);
    all.extend(layers::events(sources, telemetry.analytics_layer()).ok()?);
    let subscriber = tracing_subscriber::registry().with(all);
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        return None;
    }
    telemetry.adopt_in_background();
    let files = config.analytics.read_files.value && telemetry.analytics().is_some();
    let capture = telemetry.capture();
    Some((telemetry, Watch::new(files, capture)))
}

/// The observer behind the relay.
struct Watch(protocol::Observer);

impl Watch {
    fn new(files: bool, capture: Capture) -> Self {
        let around = std::env::var("TRACEPARENT").ok().and_then(|text| ids::traceparent(&text));
        let link = around.map(|(trace, span, _)| Link { trace, span, relation: Relation::Process });
        Watch(protocol::Observer::new(capture).with_process_link(link).with_files(files))
    }
}

impl Observer for Watch {
    fn open(&mut self, conn: u32, transport: Transport, t_us: u64) {
        self.0.open(conn.into(), transport, t_us);
    }

    fn line(&mut self, seen: Seen<'_>) {
        match seen.line {
            Line::Whole(line) => self.0.message(seen.conn.into(), seen.dir, seen.t_us, line),
            Line::Oversized { .. } => self.0.unseen("oversized"),
        }
    }

    fn missed(&mut self, _: u32, _: Sender, _: u64, _: u64) {
        self.0.unseen("missed");
    }

    fn end(&mut self, conn: u32, t_us: u64, ended: Ended) {
        self.0.end(conn.into(), t_us, ended);
    }

    fn finish(&mut self, ended: Ended) {
        self.0.finish(ended);
    }
}

/// What is wrong with telemetry, for whoever asks with `FACTLINE_LOG`. Never on standard error, which belongs to
/// the command.
struct Log(Option<std::fs::File>);

impl Log {
    // Where the configuration can't be read the variable alone is left to say where that is told.
    fn open(sources: Option<&Sources<'_>>) -> Self {
        use std::os::unix::fs::OpenOptionsExt as _;
        let said = sources.and_then(|sources| sources.text(&["FACTLINE_LOG"]));
        let path = match said {
            Some((_, text)) => Some(PathBuf::from(text.value)),
            None => std::env::var_os("FACTLINE_LOG").filter(|path| !path.is_empty()).map(PathBuf::from),
        };
        let open = |path| std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        Log(path.and_then(|path| open(path).ok()))
    }

    // Standard error belongs to the command.
    fn keep_panics_quiet(&self) {
        let log = Log(self.0.as_ref().and_then(|file| file.try_clone().ok()));
        std::panic::set_hook(Box::new(move |panic| {
            log.say(&format!("{}: the command runs on, please report it", terminal::fault(panic)));
        }));
    }

    fn say(&self, message: &str) {
        if let Some(mut file) = self.0.as_ref() {
            // There is nowhere left to say that saying it failed.
            let _ = writeln!(file, "factline tap: {}", terminal::printable(message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "cli::tap::tests::a_panic_says_its_place_and_not_its_text";
    const SECRET: &str = "pl4nted-s3cret-7f3a";

    /// Runs itself again, as a program that panics.
    #[test]
    fn a_panic_says_its_place_and_not_its_text() {
        if let Some(log) = std::env::var_os("FACTLINE_TEST_PANICS") {
            if log.is_empty() {
                terminal::keep_panics_quiet();
            } else {
                let log = std::fs::File::create(log).unwrap();
                Log(Some(log)).keep_panics_quiet();
            }
            // What a slice in the middle of a character says holds the text.
            let text = format!("ü{SECRET}");
            assert!(std::thread::spawn(move || text[1..].len()).join().is_err());
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        for said_in in [None, Some(&log)] {
            let mut again = std::process::Command::new(std::env::current_exe().unwrap());
            again.args(["--exact", NAME, "--nocapture"]).env("RUST_BACKTRACE", "full");
            again.env(
                "FACTLINE_TEST_PANICS",
                said_in.map_or_else(Default::default, |log| log.as_os_str().to_owned()),
            );
            let output = again.output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            let stdout = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success() && stdout.contains("1 passed"), "{stdout} {stderr}");
            let logged = std::fs::read_to_string(&log).unwrap_or_default();
            let told = if said_in.is_some() { &logged } else { &stderr };
            assert!(told.contains("a fault in factline itself, at src/cli/tap.rs:"), "{told}");
            assert!(
                said_in.is_none() || !stderr.contains("fault"),
                "standard error is the command's: {stderr}"
            );
            for text in [&stdout, &stderr, &logged] {
                assert!(!text.contains(SECRET), "{text}");
            }
        }
    }
}
