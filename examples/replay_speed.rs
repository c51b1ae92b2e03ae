//! How long recorded sessions take from transcript to OTLP JSON lines.
//!
//! ```text
//! cargo run --release --example replay_speed -- DIR-OF-SESSIONS
//! ```
//!
//! Without a directory it replays `tests/corpus`. It prints and judges nothing: a time is the machine's as well.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

fn main() -> std::io::Result<()> {
    let root = std::env::args_os()
        .nth(1)
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus"), PathBuf::from);
    let mut transcripts: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(&root)? {
        let transcript = entry?.path().join("transcript.jsonl");
        if transcript.is_file() {
            transcripts.push(transcript);
        }
    }
    transcripts.sort();
    let mut bytes = 0;
    for transcript in &transcripts {
        bytes += std::fs::metadata(transcript)?.len();
    }
    // The program itself, built beside the examples, so that all of what a user waits for is in the time.
    let program = std::env::current_exe()?;
    let program = program.ancestors().nth(2).unwrap_or(Path::new(".")).join("factline");
    let out = std::env::temp_dir().join(format!("factline-replay-speed-{}", std::process::id()));
    let started = Instant::now();
    let status =
        Command::new(program).args(["replay", "--otlp-file"]).arg(&out).args(&transcripts).status()?;
    let took = started.elapsed();
    let sessions = transcripts.len();
    println!("{sessions} sessions, {:.1} MB, {:.3} s ({status})", bytes as f64 / 1e6, took.as_secs_f64());
    std::fs::remove_dir_all(out)
}
