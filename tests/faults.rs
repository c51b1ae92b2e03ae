//! The faults that need neither root nor tools: `docs/faults.md` has the rows. What is lost is held against an
//! account that does not believe the program's own.
//!
//! FACTLINE_FAULT_ROUNDS says how often what is random is done, FACTLINE_FAULT_SEED repeats what a failed run
//! printed. FACTLINE_FAULT_LENGTH=full lets what lasts last for as long as the rows say.
#![cfg(feature = "cli")]
// The exemption of tests does not reach their own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/collector.rs"]
#[allow(dead_code)]
mod collector;
#[path = "support/emitter.rs"]
mod emitter;
#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/program.rs"]
mod program;
#[path = "support/received.rs"]
mod received;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/watched.rs"]
mod watched;

#[path = "faults/crash.rs"]
mod crash;
#[path = "faults/earlier.rs"]
mod earlier;
#[path = "faults/host.rs"]
mod host;
#[path = "faults/look.rs"]
mod look;
#[path = "faults/tap.rs"]
mod tap;

use std::path::Path;

use program::busy;

/// Numbers that are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mut mixed = self.0 ^ self.0 >> 32;
        mixed = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 33) % n
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Whether what lasts does so for as long as it is meant to in the worst case, and not only for a moment.
fn full_length() -> bool {
    std::env::var("FACTLINE_FAULT_LENGTH").is_ok_and(|text| text == "full")
}

fn rounds(usual: u64) -> u64 {
    number("FACTLINE_FAULT_ROUNDS").unwrap_or(usual)
}

fn seed() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("FACTLINE_FAULT_SEED").unwrap_or(now);
    println!("FACTLINE_FAULT_SEED={seed}");
    seed
}

/// Bytes in all files below; those that vanish meanwhile count nothing.
fn usage(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => usage(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
