//! Recorded sessions as if they had happened just now: back ends look at the last hours, and refuse what is old.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

const DAY_US: i64 = 86_400_000_000;

/// Copies of the sessions, every point in time of each moved by the same amount, so that it ends now. Sessions that
/// refer to their raw bytes are left out.
pub fn recent(sessions: &[PathBuf], dir: &Path) -> Vec<PathBuf> {
    std::fs::create_dir_all(dir).unwrap();
    let text = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    let whole = sessions.iter().map(|path| (path, text(path))).filter(|(_, it)| !it.contains("\"msg\":null"));
    let parsed: Vec<(String, Vec<Value>)> = whole
        .map(|(path, text)| {
            let name = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
            (name, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
        })
        .collect();
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    parsed
        .into_iter()
        .map(|(name, mut lines)| {
            let times = || lines.iter().filter_map(|line| line["t_us"].as_i64());
            // One of them is empty.
            let (first, last) = (times().min().unwrap_or(now), times().max().unwrap_or(now));
            let within = (first - DAY_US, last + DAY_US);
            lines.iter_mut().for_each(|line| moved(line, within, now - last));
            let path = dir.join(format!("{name}.jsonl"));
            let lines = lines.iter().map(|line| line.to_string() + "\n");
            std::fs::write(&path, lines.collect::<String>()).unwrap();
            path
        })
        .collect()
}

/// Moves every number that is a time between `within`, be it in seconds, milliseconds or microseconds.
fn moved(value: &mut Value, within: (i64, i64), by: i64) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| moved(value, within, by)),
        Value::Object(values) => values.values_mut().for_each(|value| moved(value, within, by)),
        Value::Number(number) => {
            let Some(it) = number.as_i64() else { return };
            let unit = [1, 1000, 1_000_000]
                .into_iter()
                .find(|unit| (within.0 / unit..=within.1 / unit).contains(&it));
            if let Some(unit) = unit {
                *number = (it + by / unit).into();
            }
        }
        _ => {}
    }
}
