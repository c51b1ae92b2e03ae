//! What people see: messages, colours, progress. Colours and progress only in a terminal.

use std::io::{IsTerminal as _, Write as _};
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

/// Whether the user allows colours (<https://no-color.org>).
pub(super) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Text from outside without what could drive a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
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
