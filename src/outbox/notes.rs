//! How the way to a destination is, for who looks from another process.
//!
//! `DIR/errors/QUEUE`, what went wrong last: unix nanoseconds, a space, the words. `DIR/retries/QUEUE`, how many
//! requests all processes together had to send again. A line each, written by renaming, so that a reader never
//! sees half of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::place;
use super::settings::queue_name_is_valid;

/// The longest words that are kept, in bytes.
const LONGEST: usize = 1000;

/// What went wrong, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Unix nanoseconds.
    pub time_ns: u64,
    /// In words, on one line.
    pub text: String,
}

/// Notes what went wrong last with `queue`, in place of what was noted before.
///
/// Errors: the disk's; `InvalidInput` for a name that no queue can have.
pub fn note(dir: &Path, queue: &str, text: &str) -> io::Result<()> {
    let errors = files(dir, "errors", queue)?;
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= LONGEST).last();
    let text: String = text.get(..end.unwrap_or(0)).unwrap_or_default().replace(char::is_control, " ");
    put(&errors, queue, &format!("{} {text}", place::now_ns()))
}

/// The directory of a kind of notes, made if it has to be, for one about `queue`.
fn files(dir: &Path, kind: &str, queue: &str) -> io::Result<PathBuf> {
    if !queue_name_is_valid(queue) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{queue:?} is no queue name")));
    }
    let files = dir.join(kind);
    place::private_dir(&files).map_err(io::Error::other)?;
    Ok(files)
}

fn put(dir: &Path, queue: &str, line: &str) -> io::Result<()> {
    let making = dir.join(format!(".{queue}.{}", std::process::id()));
    writeln!(place::create_anew(&making)?, "{line}")?;
    fs::rename(&making, dir.join(queue))
}

/// What was noted, by queue.
///
/// Errors: the disk's.
pub fn notes(dir: &Path) -> io::Result<BTreeMap<String, Note>> {
    let note = |line: &str| {
        let (time_ns, text) = line.split_once(' ')?;
        Some(Note { time_ns: time_ns.parse().ok()?, text: text.to_owned() })
    };
    each(&dir.join("errors"), note)
}

/// Counts `more` requests that had to be sent again to the destination of `queue`, over all processes.
///
/// Errors: the disk's; `InvalidInput` for a name that no queue can have.
pub fn add_retries(dir: &Path, queue: &str, more: u64) -> io::Result<()> {
    let counts = files(dir, "retries", queue)?;
    let lock = place::open_or_create(&counts.join(".lock"))?;
    place::lock(&lock)?;
    let before = retries(dir)?.get(queue).copied().unwrap_or(0);
    put(&counts, queue, &before.saturating_add(more).to_string())
}

/// How many requests had to be sent again, by queue.
///
/// Errors: the disk's.
pub fn retries(dir: &Path) -> io::Result<BTreeMap<String, u64>> {
    each(&dir.join("retries"), |line| line.parse().ok())
}

/// What the files of `dir` say that are called after queues. What can't be understood is nothing said.
fn each<T>(dir: &Path, read: impl Fn(&str) -> Option<T>) -> io::Result<BTreeMap<String, T>> {
    let mut all = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(all),
        entries => entries?,
    };
    for entry in entries {
        let Ok(queue) = entry?.file_name().into_string() else { continue };
        if !queue_name_is_valid(&queue) {
            continue;
        }
        let mut line = Vec::new();
        place::open_read(&dir.join(&queue))?.take(2 * LONGEST as u64).read_to_end(&mut line)?;
        if let Some(said) = read(String::from_utf8_lossy(&line).trim_end()) {
            all.insert(queue, said);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_is_one_short_line() {
        let dir = tempfile::tempdir().unwrap();
        assert!(notes(dir.path()).unwrap().is_empty());
        note(dir.path(), "logs", "first").unwrap();
        note(dir.path(), "logs", &format!("second\n\x1b[31m{}", "ü".repeat(2000))).unwrap();
        note(dir.path(), "traces", "").unwrap();
        let all = notes(dir.path()).unwrap();
        let logs = &all["logs"];
        assert!(logs.text.starts_with("second  [31müü") && logs.text.len() <= LONGEST, "{}", logs.text);
        assert!(logs.time_ns > 0);
        assert_eq!(all.len(), 1, "nothing said is no note: {all:?}");
        assert!(note(dir.path(), "../logs", "x").is_err());
    }

    #[test]
    fn retries_of_several_at_once_are_added_up_and_nonsense_counts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(retries(dir.path()).unwrap().is_empty());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..25).for_each(|_| add_retries(dir.path(), "logs", 2).unwrap()));
            }
        });
        assert_eq!(retries(dir.path()).unwrap(), BTreeMap::from([("logs".to_owned(), 200)]));
        fs::write(dir.path().join("retries/logs"), b"\xff many\n").unwrap();
        assert!(retries(dir.path()).unwrap().is_empty());
        add_retries(dir.path(), "logs", 1).unwrap();
        assert_eq!(retries(dir.path()).unwrap()["logs"], 1);
        assert!(add_retries(dir.path(), "../logs", 1).is_err());
    }
}
