//! A second reader of the format, in another language, finds exactly what was appended.
#![cfg(feature = "outbox")]
// The lint knows test functions, not what they call.
#![allow(clippy::unwrap_used)]

#[path = "support/lanes.rs"]
mod lanes;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use factline::outbox::*;
use lanes::adopted;

const TRANSACTIONS: u64 = 300;

fn key(n: u64) -> Key {
    Key(std::array::from_fn(|i| (n >> (8 * (i % 8))) as u8))
}

fn payload(n: u64) -> Vec<u8> {
    (0..n * 7 % 150).map(|i| (i * n) as u8).collect()
}

/// Not a test by itself: what a child process does until it kills itself.
#[test]
fn child() {
    let Ok(dir) = std::env::var("OUTBOX_CHILD_DIR") else { return };
    let mut s = Settings::new(dir);
    s.queues = vec!["a".into(), "b.c-d".into()];
    s.segment_bytes = 8 << 10;
    if let Some(bytes) = std::env::var("OUTBOX_CHILD_RING").ok().and_then(|bytes| bytes.parse().ok()) {
        s.ring_bytes = bytes;
    }
    let outbox = Outbox::open(s).unwrap();
    let queues = ["a", "b.c-d"].map(|name| outbox.queue(name).unwrap());
    queues.iter().for_each(|queue| outbox.set_header(*queue, b"resource"));
    for n in 0..TRANSACTIONS {
        let payload = payload(n);
        let records =
            queues.map(|queue| Record { queue, time_ns: 1000 + n, content: n % 2 == 0, payload: &payload });
        let records = if n % 3 == 0 { &records[..] } else { &records[..1] };
        let end = n.checked_sub(1).map(key);
        outbox.append(Transaction { begin: Some((key(n), n, b"begun")), end, records }).unwrap();
        if n == TRANSACTIONS / 2 {
            outbox.drain().unwrap();
        }
    }
    let pid = rustix::process::getpid();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn expected(lane: &str) -> String {
    let (mut a, mut b, mut starts) = (String::new(), String::new(), String::new());
    let (mut b_sequence, mut start) = (0, 0);
    let hex = |bytes: &[u8]| {
        let hex = bytes.iter().fold(String::new(), |s, byte| s + &format!("{byte:02x}"));
        if hex.is_empty() { "-".into() } else { hex }
    };
    for n in 0..TRANSACTIONS {
        let (time, text) = (1000 + n, hex(&payload(n)));
        writeln!(a, "{lane} a {} {time} record {text}", n + 1).unwrap();
        if n % 3 == 0 {
            b_sequence += 1;
            writeln!(b, "{lane} b.c-d {b_sequence} {time} record {text}").unwrap();
        }
        start += 1;
        writeln!(starts, "{lane} starts {start} {n} begin {}{}", hex(&key(n).0), hex(b"begun")).unwrap();
        if n > 0 {
            start += 1;
            writeln!(starts, "{lane} starts {start} 0 end {}", hex(&key(n - 1).0)).unwrap();
        }
    }
    a + &b + &starts
}

fn read(dir: &Path) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/outbox_reader.py");
    let out = Command::new("python3").arg(script).arg(dir).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_reader_in_another_language_finds_what_a_killed_process_had_accepted() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no python3");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let me = std::env::current_exe().unwrap();
    let mut child = Command::new(me);
    child.args(["--exact", "child"]).env("OUTBOX_CHILD_DIR", dir.path());
    assert!(!child.output().unwrap().status.success());
    let lane = status(dir.path()).unwrap().remove(0).name;
    let expected = expected(&lane);
    assert_eq!(read(dir.path()), expected);
    // The ring alone: it is large enough that nothing was overwritten.
    let lane = dir.path().join("lanes").join(lane);
    for queue in ["a", "b.c-d", "starts"] {
        for entry in fs::read_dir(lane.join(queue)).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    assert_eq!(read(dir.path()), expected);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

// Made by `child`, with OUTBOX_CHILD_RING=131072, by the program of the day on which the format was fixed. It stays
// as it is: a program that can't read it has to have another version in its files' headers.
#[test]
fn what_an_earlier_program_of_this_format_left_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/outbox-format-1")), dir.path());
    let lane = status(dir.path()).unwrap().remove(0).name;
    if Command::new("python3").arg("--version").output().is_ok() {
        assert_eq!(read(dir.path()), expected(&lane));
    }
    let outbox = Outbox::open(Settings::new(dir.path())).unwrap();
    let adopted = adopted(&outbox);
    assert_eq!((adopted.name(), outbox.warnings()), (&*lane, Vec::new()));
    let each = |queue: &str| {
        let mut reader = adopted.reader(queue).unwrap();
        let mut got = Vec::new();
        while let Some(batch) = reader.next(1 << 20, 100).unwrap() {
            assert_eq!(&*batch.header, b"resource");
            got.extend(batch.payloads().map(<[u8]>::to_vec));
            reader.settle(&batch, Settled::delivered(&batch)).unwrap();
        }
        got
    };
    assert_eq!(each("a"), (0..TRANSACTIONS).map(payload).collect::<Vec<_>>());
    assert_eq!(each("b.c-d"), (0..TRANSACTIONS).step_by(3).map(payload).collect::<Vec<_>>());
    let open: Vec<_> = adopted.unfinished().into_iter().map(|left| (left.key, left.payload)).collect();
    assert_eq!(open, [(key(TRANSACTIONS - 1), b"begun".to_vec())]);
    assert_eq!(outbox.counters().lost.total(), 0);
}
