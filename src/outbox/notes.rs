//! What went wrong last on the way to a destination: `DIR/errors/QUEUE`, for who looks from another process.
//!
//! A line: unix nanoseconds, a space, the words. Written by renaming, so that a reader never sees half of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

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
    if !queue_name_is_valid(queue) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{queue:?} is no queue name")));
    }
    let errors = dir.join("errors");
    place::private_dir(&errors).map_err(io::Error::other)?;
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= LONGEST).last();
    let text: String = text.get(..end.unwrap_or(0)).unwrap_or_default().replace(char::is_control, " ");
    let making = errors.join(format!(".{queue}.{}", std::process::id()));
    match fs::remove_file(&making) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    writeln!(place::create(&making)?, "{} {text}", place::now_ns())?;
    fs::rename(&making, errors.join(queue))
}

/// What was noted, by queue.
///
/// Errors: the disk's.
pub fn notes(dir: &Path) -> io::Result<BTreeMap<String, Note>> {
    let mut all = BTreeMap::new();
    let errors = dir.join("errors");
    let entries = match fs::read_dir(&errors) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(all),
        entries => entries?,
    };
    for entry in entries {
        let Ok(queue) = entry?.file_name().into_string() else { continue };
        if !queue_name_is_valid(&queue) {
            continue;
        }
        let mut line = String::new();
        place::open_read(&errors.join(&queue))?.take(2 * LONGEST as u64).read_to_string(&mut line)?;
        if let Some((time_ns, text)) = line.trim_end().split_once(' ')
            && let Ok(time_ns) = time_ns.parse()
        {
            all.insert(queue, Note { time_ns, text: text.to_owned() });
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
}
