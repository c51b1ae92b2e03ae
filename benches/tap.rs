//! What `factline tap` adds to the stream it relays: beside the same child without it, in turns.
//!
//! `cargo bench --bench tap`. The child is `cat`: every message passes the tap on its way in and on its way back.
//! `tap_latency_p99` is in us, per message and direction (half of what a round trip takes longer), while the tap
//! observes and stores what it sees; `tap_throughput` is the share of the bytes per second that a plain pipe moves.

// The lint knows tests, not benches.
#![allow(clippy::expect_used)]

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use support::{median, ratio, setting};

const MESSAGES: usize = 5_000;
const BYTES: usize = 128 << 20;

fn main() {
    let place = std::env::temp_dir().join(format!("factline-bench-tap-{}", std::process::id()));
    std::fs::create_dir_all(&place).expect("a directory");
    let rounds = setting("FACTLINE_BENCH_ROUNDS", 5);
    let (mut added, mut share) = (Vec::new(), Vec::new());
    println!("{:>5} {:>12} {:>12} {:>12} {:>12}", "", "p50 us", "p99 us", "with tap", "with tap");
    for round in 1..=rounds {
        let [plain, tapped] = [latencies(plain()), latencies(tapped(&place))];
        let at = |all: &[f64], share: f64| all[(all.len() as f64 * share) as usize];
        println!(
            "{round:>5} {:>12.1} {:>12.1} {:>12.1} {:>12.1}   a round trip",
            at(&plain, 0.5),
            at(&plain, 0.99),
            at(&tapped, 0.5),
            at(&tapped, 0.99)
        );
        added.push((at(&tapped, 0.99) - at(&plain, 0.99)) / 2.0);
    }
    for round in 1..=rounds {
        let [plain, tapped] = [throughput(plain()), throughput(tapped(&place))];
        println!("{round:>5} {plain:>12.0} {:>12} {tapped:>12.0} {:>12}   MB/s", "", "");
        share.push(tapped / plain);
    }
    let _ = std::fs::remove_dir_all(&place);
    ratio("tap_latency_p99", median(added));
    ratio("tap_throughput", median(share));
}

fn plain() -> Child {
    start(Command::new("cat"))
}

fn tapped(place: &Path) -> Child {
    let program = std::env::var_os("FACTLINE_BENCH_PROGRAM")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_factline")), PathBuf::from);
    let mut command = Command::new(program);
    command.args(["tap", "--", "cat"]).env("HOME", place).env("FACTLINE_OUTBOX_DIR", place.join("outbox"));
    for name in ["XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        command.env(name, place);
    }
    start(command)
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a child")
}

/// A line as the app server writes them.
fn message(number: usize) -> String {
    let params = format!(
        r#"{{"threadId":"01a201f3-bb59-7381-9611-25e8d997799f","turnId":"01a201f3-bbc2-7210-93e3-c9061bfde670","itemId":"item_{number}","delta":"{}"}}"#,
        "a few words, ".repeat(8)
    );
    format!("{{\"method\":\"item/agentMessage/delta\",\"params\":{params}}}\n")
}

/// Times of round trips, us, ascending.
fn latencies(mut child: Child) -> Vec<f64> {
    let mut to = child.stdin.take().expect("its input");
    let mut from = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    let mut times: Vec<f64> = (0..MESSAGES + 200)
        .map(|number| {
            let message = message(number);
            line.clear();
            let began = Instant::now();
            to.write_all(message.as_bytes()).expect("a write");
            from.read_line(&mut line).expect("a read");
            let took = began.elapsed();
            assert_eq!(line, message);
            took.as_nanos() as f64 / 1000.0
        })
        .skip(200)
        .collect();
    drop(to);
    child.wait().expect("its end");
    times.sort_by(f64::total_cmp);
    times
}

/// MB/s of a stream of lines through the child.
fn throughput(mut child: Child) -> f64 {
    let mut to = child.stdin.take().expect("its input");
    let mut from = child.stdout.take().expect("its output");
    let block: String = (0..256).map(message).collect();
    let blocks = BYTES / block.len();
    let began = Instant::now();
    let writer = std::thread::spawn({
        let block = block.clone();
        move || (0..blocks).for_each(|_| to.write_all(block.as_bytes()).expect("a write"))
    });
    let (mut buffer, mut seen) = (vec![0; 256 << 10], 0);
    while seen < blocks * block.len() {
        match from.read(&mut buffer).expect("a read") {
            0 => break,
            n => seen += n,
        }
    }
    let took = began.elapsed();
    writer.join().expect("the writer");
    assert_eq!(seen, blocks * block.len(), "every byte came back");
    child.wait().expect("its end");
    seen as f64 / 1e6 / took.as_secs_f64()
}
