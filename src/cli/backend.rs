//! `factline backend`: a backend for analytics events on this machine.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{FAILED, OK, terminal};
use crate::backend::{Cell, Products, QueryLimits, Rows, Server, Settings, query};

#[derive(clap::Subcommand)]
pub(super) enum Backend {
    /// Take events over HTTP, check them, print a line for each, and keep them in a database
    Serve(Serve),
    /// Ask the database a question in SQL; nothing can be changed
    Query(Query),
}

#[derive(clap::Args)]
pub(super) struct Serve {
    /// Where to listen; anything but loopback lets others write to the database
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8321")]
    listen: SocketAddr,

    /// The database [default: FACTLINE_BACKEND_DB, else below the user's state directory]
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,

    /// A table of products in TOML instead of the one that is built in
    #[arg(long, value_name = "FILE")]
    products: Option<PathBuf>,

    /// Refuse members that the reference release does not have, and miss those that may be null
    #[arg(long)]
    strict: bool,

    /// Print nothing for an event
    #[arg(long)]
    quiet: bool,

    /// Print events as JSON, one per line
    #[arg(long, conflicts_with = "quiet")]
    json: bool,

    /// Wait this long before each answer, as a slow backend does; for tests of clients
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    answer_delay_ms: u64,
}

#[derive(clap::Args)]
pub(super) struct Query {
    /// One statement, for example: SELECT event_type, count(*) FROM events GROUP BY 1
    statement: String,

    /// The database [default: FACTLINE_BACKEND_DB, else below the user's state directory]
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,

    /// Print the rows as a JSON array of objects
    #[arg(long)]
    json: bool,

    /// Rows to print, at most
    #[arg(long, value_name = "ROWS", default_value_t = 10_000)]
    limit: usize,

    /// Give up after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
}

pub(super) fn run(command: &Backend) -> u8 {
    let done = match command {
        Backend::Serve(own) => serve(own),
        Backend::Query(own) => ask(own),
    };
    match done {
        Ok(()) => OK,
        Err(error) => {
            terminal::error(&error);
            FAILED
        }
    }
}

fn database(flag: Option<&Path>) -> Result<PathBuf, String> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    let state = || absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    flag.map(Path::to_owned)
        .or_else(|| variable("FACTLINE_BACKEND_DB"))
        .or_else(|| Some(state()?.join("factline/backend.db")))
        .ok_or_else(|| "there is no home directory for the database; name it with --db".to_owned())
}

fn serve(arguments: &Serve) -> Result<(), String> {
    let db = database(arguments.db.as_deref())?;
    let products = match &arguments.products {
        None => Products::built_in(),
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
            Products::parse(&text).map_err(|error| wrong(&error))?
        }
    };
    // Caught before anybody can connect: from here on a signal ends the server in order.
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| error.to_string())?;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let server = Server::bind(Settings {
        listen: arguments.listen,
        products,
        strict: arguments.strict,
        answer_delay: Duration::from_millis(arguments.answer_delay_ms),
        ..Settings::new(&db)
    });
    let server = server.map_err(|error| format!("{}, {}: {error}", arguments.listen, db.display()))?;
    let address = server.local_addr().map_err(|error| error.to_string())?;
    let reach =
        if address.ip().is_loopback() { "this machine only" } else { "every machine that reaches it" };
    eprintln!("listening on http://{address} ({reach}), database {}", db.display());
    if !address.ip().is_loopback() {
        terminal::warn(
            "nobody is asked who they are; put a proxy that does in front, or listen on 127.0.0.1",
        );
    }
    std::thread::Builder::new()
        .name("backend-signals".to_owned())
        .spawn(move || {
            let _ = signals.forever().next();
            let _ = stop.send(());
        })
        .map_err(|error| error.to_string())?;
    let (quiet, json) = (arguments.quiet, arguments.json);
    let stop = async {
        let _ = stopped.await;
    };
    let ran = server.run(stop, move |event| {
        if !quiet {
            let line = if json { event.json() } else { event.line() };
            // The event is kept, whether somebody reads along or not.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    });
    ran.map_err(|error| error.to_string())
}

fn ask(arguments: &Query) -> Result<(), String> {
    let db = database(arguments.db.as_deref())?;
    let limits = QueryLimits { rows: arguments.limit, time: Duration::from_secs(arguments.timeout) };
    let rows =
        query(&db, &arguments.statement, limits).map_err(|error| format!("{}: {error}", db.display()))?;
    let text = if arguments.json { objects(&rows) } else { table(&rows) };
    // Whoever closed the pipe has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if rows.cut {
        terminal::warn(&format!("only the first {} rows; --limit allows more", rows.rows.len()));
    }
    Ok(())
}

fn objects(rows: &Rows) -> String {
    let value = |cell: &Cell| match cell {
        Cell::Null => Value::Null,
        Cell::Integer(value) => Value::from(*value),
        Cell::Real(value) => Value::from(*value),
        Cell::Text(text) => Value::from(text.as_str()),
        Cell::Blob(bytes) => Value::from(hex(bytes)),
    };
    let object = |row: &Vec<Cell>| -> Value {
        Value::Object(rows.columns.iter().cloned().zip(row.iter().map(value)).collect::<Map<_, _>>())
    };
    format!("{}\n", Value::Array(rows.rows.iter().map(object).collect()))
}

/// Columns as wide as their widest cell; numbers to the right.
fn table(rows: &Rows) -> String {
    let word = |cell: &Cell| match cell {
        Cell::Null => String::new(),
        Cell::Integer(value) => value.to_string(),
        Cell::Real(value) => value.to_string(),
        Cell::Text(text) => printable(text),
        Cell::Blob(bytes) => hex(bytes),
    };
    let words: Vec<Vec<String>> = rows.rows.iter().map(|row| row.iter().map(word).collect()).collect();
    let heads: Vec<String> = rows.columns.iter().map(|name| printable(name)).collect();
    let mut widths: Vec<usize> = heads.iter().map(|name| name.chars().count()).collect();
    for row in &words {
        for (width, word) in widths.iter_mut().zip(row) {
            *width = (*width).max(word.chars().count());
        }
    }
    let mut out = String::new();
    let mut push = |cells: &[String], right: &dyn Fn(usize) -> bool| {
        let mut line = String::new();
        for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width - cell.chars().count());
            let (before, after) = if right(at) { (gap.as_str(), "") } else { ("", gap.as_str()) };
            line.push_str(&format!("{}{before}{cell}{after}", if at == 0 { "" } else { "  " }));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    };
    push(&heads, &|_| false);
    if std::io::stdout().is_terminal() {
        push(&widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>(), &|_| false);
    }
    for (row, cells) in rows.rows.iter().zip(&words) {
        push(cells, &|at| matches!(row.get(at), Some(Cell::Integer(_) | Cell::Real(_))));
    }
    out
}

/// On one line, without what could drive a terminal.
fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_control()
            || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
        {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_aligned_and_cannot_drive_a_terminal() {
        let rows = Rows {
            columns: vec!["name".into(), "n".into()],
            rows: vec![
                vec![Cell::Text("a\u{1b}[2J\nb".into()), Cell::Integer(7)],
                vec![Cell::Null, Cell::Integer(1000)],
                vec![Cell::Blob(vec![1, 255]), Cell::Real(0.5)],
            ],
            cut: false,
        };
        assert_eq!(
            table(&rows),
            "name           n\na\\u{1b}[2J\\nb     7\n               1000\n01ff            0.5\n"
        );
        assert_eq!(
            objects(&rows),
            "[{\"n\":7,\"name\":\"a\\u001b[2J\\nb\"},{\"n\":1000,\"name\":null},{\"n\":0.5,\"name\":\"01ff\"}]\n"
        );
    }
}
