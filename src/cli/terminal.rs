//! What people see: messages, colours, progress. Colours and progress only in a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Says that something is wrong but not fatal.
pub(super) fn warn(message: &str) {
    say("warning", "33", message);
}

/// Says why a command failed.
pub(super) fn error(message: &str) {
    say("error", "31", message);
}

fn say(kind: &str, colour: &str, message: &str) {
    let message = printable(message);
    let mut stderr = std::io::stderr().lock();
    // Nobody is left to tell if standard error is gone.
    let _ = if std::io::stderr().is_terminal() && colours() {
        writeln!(stderr, "\x1b[{colour};1m{kind}:\x1b[0m {message}")
    } else {
        writeln!(stderr, "{kind}: {message}")
    };
}

/// The outbox in `dir` can't be used, and what to do.
pub(super) fn outbox_error(dir: &Path, error: &std::io::Error) {
    self::error(&format!("outbox {}: {error}; name another with --outbox", dir.display()));
}

/// The text of a panic can hold content or a secret: only its place is said.
pub(super) fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|panic| error(&format!("{}, please report it", fault(panic)))));
}

/// What may be said of a panic.
pub(super) fn fault(panic: &std::panic::PanicHookInfo<'_>) -> String {
    let place = panic.location().map_or_else(|| "somewhere".to_owned(), ToString::to_string);
    format!("a fault in factline itself, at {place}")
}

/// Writes results to standard output. Nobody is left to tell if whoever read them went away.
pub(super) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Says on standard error how it went, with nobody left to tell if that is gone.
pub(super) fn tell(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(text));
}

/// Whether the user allows colours (<https://no-color.org>).
pub(super) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// How something for standard output is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Columns.
    pub width: usize,
    /// Whether more than ASCII can be shown.
    pub unicode: bool,
    /// Whether colours are wanted.
    pub colour: bool,
}

impl Look {
    /// As standard output is: the terminal's width, 80 columns where it is none; the locale's characters.
    pub fn of_stdout() -> Look {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        let size = terminal.then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0).unwrap_or(80);
        let locale = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = locale("LC_ALL").or_else(|| locale("LC_CTYPE")).or_else(|| locale("LANG"));
        Look { width, unicode: locale.is_some_and(|name| is_utf8(&name)), colour: terminal && colours() }
    }

    /// `text` in a colour, by its number in an escape sequence.
    pub fn paint(self, colour: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn is_utf8(locale: &str) -> bool {
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Text from outside without what could drive a terminal.
pub(super) fn printable(text: &str) -> String {
    // Marks of direction change what is seen without changing what is there.
    let hides = |c: char| matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let unwanted = |c: char| c.is_control() && c != '\n' || hides(c);
    text.chars().map(|c| if unwanted(c) { '\u{fffd}' } else { c }).collect()
}

/// Shows what is being done until [`done`], in a terminal.
pub(super) fn doing(what: &str) {
    if std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr(), "\r\x1b[2K{} ...", printable(what));
    }
}

/// Takes away what [`doing`] showed.
pub(super) fn done() {
    if std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr(), "\r\x1b[2K");
    }
}

/// A line that tells how far long work is; shown when it lasts, and only in a terminal.
pub(super) struct Progress {
    shown: bool,
    next: Option<Instant>,
}

impl Progress {
    /// Nothing is shown before half a second has passed.
    pub fn new() -> Self {
        let next = std::io::stderr().is_terminal().then(|| Instant::now() + Duration::from_millis(500));
        Progress { shown: false, next }
    }

    /// Shows `text` if it is time to.
    pub fn tell(&mut self, text: impl FnOnce() -> String) {
        let Some(next) = self.next else { return };
        if Instant::now() < next {
            return;
        }
        self.next = Some(Instant::now() + Duration::from_millis(100));
        self.shown = true;
        let _ = write!(std::io::stderr(), "\r\x1b[2K{}", printable(&text()));
    }

    /// Takes the line away.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

/// A number as people say it, in at most five characters.
pub(super) fn count(number: i64) -> String {
    match number {
        n if n < 10_000 => number.to_string(),
        n if n < 1_000_000 => format!("{:.1}k", number as f64 / 1e3),
        n if n < 1_000_000_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.1}G", number as f64 / 1e9),
    }
}

/// Bytes as people say them.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// A time span as people say it.
pub(super) fn duration(ns: u64) -> String {
    let seconds = ns as f64 / 1e9;
    match seconds {
        s if s < 0.001 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}
