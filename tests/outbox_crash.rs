//! What survives the death of a process, and who may take it over.
#![cfg(feature = "outbox")]
// The lint knows test functions, not what they call.
#![allow(clippy::unwrap_used)]

#[path = "support/lanes.rs"]
mod lanes;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use factline::outbox::*;
use lanes::adopted;

fn open(dir: &Path) -> Outbox {
    let mut s = Settings::new(dir);
    s.queues = vec!["a".into(), "b".into()];
    s.ring_bytes = 128 << 10;
    s.segment_bytes = 64 << 10;
    Outbox::open(s).unwrap()
}

fn key(n: u64) -> Key {
    let mut k = [0; 24];
    k[..8].copy_from_slice(&n.to_le_bytes());
    Key(k)
}

fn all(lane: &Lane, queue: &str) -> Vec<Vec<u8>> {
    let mut reader = lane.reader(queue).unwrap();
    let mut got = Vec::new();
    while let Some(batch) = reader.next(1 << 20, 1000).unwrap() {
        assert_eq!(&*batch.header, b"res");
        got.extend(batch.payloads().map(<[u8]>::to_vec));
        reader.settle(&batch, Settled::delivered(&batch)).unwrap();
    }
    got
}

/// Not a test by itself: what a child process does until it is killed.
#[test]
fn child() {
    let Ok(dir) = std::env::var("OUTBOX_CHILD_DIR") else { return };
    let outbox = open(Path::new(&dir));
    let (a, b) = (outbox.queue("a").unwrap(), outbox.queue("b").unwrap());
    outbox.set_header(a, b"res");
    outbox.set_header(b, b"res");
    if std::env::var("OUTBOX_CHILD_IDLE").is_ok() {
        let begin = Some((key(1), 50, &b"turn"[..]));
        let records = [Record { queue: a, time_ns: 99, content: false, payload: b"one" }];
        outbox.append(Transaction { begin, records: &records, ..Default::default() }).unwrap();
        outbox.append(Transaction { begin: Some((key(2), 60, b"tool")), ..Default::default() }).unwrap();
        outbox.append(Transaction { end: Some(key(2)), ..Default::default() }).unwrap();
        println!("\nready");
        std::io::stdout().flush().unwrap();
        let _ = std::io::stdin().lines().next();
        std::process::abort();
    }
    // Killed in the middle of it: the other thread waits for the same lock, the writer drains.
    let limit: u64 = std::env::var("OUTBOX_CHILD_LIMIT").unwrap().parse().unwrap();
    let told = std::sync::Mutex::new(0u64);
    std::thread::scope(|s| {
        for t in 0..2u64 {
            let (outbox, told) = (&outbox, &told);
            s.spawn(move || {
                for i in 0..u64::MAX {
                    let payload = [t.to_le_bytes(), i.to_le_bytes()].concat().repeat(1 + (i % 40) as usize);
                    let records = [
                        Record { queue: a, time_ns: i, content: false, payload: &payload },
                        Record { queue: b, time_ns: i, content: true, payload: &payload[..16] },
                    ];
                    let mut told = told.lock().unwrap();
                    outbox.append(Transaction { records: &records, ..Default::default() }).unwrap();
                    *told += 1;
                    if *told == limit {
                        println!("\naccepted {limit}");
                        std::io::stdout().flush().unwrap();
                        let pid = rustix::process::getpid();
                        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                    }
                }
            });
        }
    });
}

fn spawn(dir: &Path, env: (&str, &str)) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env("OUTBOX_CHILD_DIR", dir)
        .env(env.0, env.1)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn until(child: &mut Child, word: &str) {
    let out = BufReader::new(child.stdout.take().unwrap());
    assert!(out.lines().map_while(Result::ok).any(|l| l.starts_with(word)), "the child said no {word}");
}

#[test]
fn after_sigkill_exactly_the_accepted_transactions_are_there_once() {
    for limit in [1u64, 2, 37, 150, 999, 2500, 6001] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = spawn(dir.path(), ("OUTBOX_CHILD_LIMIT", &limit.to_string()));
        until(&mut child, "accepted");
        child.wait().unwrap();
        let before: u64 = status(dir.path()).unwrap()[0].queues[0].waiting.records;
        assert_eq!(before, limit, "status sees the ring too");
        let outbox = open(dir.path());
        let lanes = outbox.adopt();
        assert_eq!(lanes.len(), 1);
        let (got, short) = (all(&lanes[0], "a"), all(&lanes[0], "b"));
        assert_eq!(got.len() as u64, limit);
        assert_eq!(short.len() as u64, limit, "both records of a transaction or none");
        let mut next = [0u64; 2];
        for (payload, short) in got.iter().zip(&short) {
            assert_eq!(payload[..16], short[..]);
            let (t, i) = (payload[0], u64::from_le_bytes(payload[8..16].try_into().unwrap()));
            assert_eq!(i, next[usize::from(t)]);
            assert_eq!(payload.len() as u64, 16 * (1 + i % 40));
            next[usize::from(t)] += 1;
        }
        assert!(outbox.adopt().is_empty(), "adopted by one only");
        let lane = lanes.into_iter().next().unwrap();
        assert!(lane.remove_if_empty().unwrap());
        assert_eq!(status(dir.path()).unwrap().len(), 1);
    }
}

#[test]
fn a_live_lane_is_never_adopted_and_a_dead_one_by_exactly_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn(dir.path(), ("OUTBOX_CHILD_IDLE", "1"));
    until(&mut child, "ready");
    let (one, two) = (open(dir.path()), open(dir.path()));
    assert!(one.adopt().is_empty() && two.adopt().is_empty());
    assert_eq!(purge(dir.path(), &Purge::default()).unwrap().lanes, Vec::<String>::new());
    child.kill().unwrap();
    child.wait().unwrap();
    let adopted: Vec<usize> = std::thread::scope(|s| {
        let both = [&one, &two].map(|o| s.spawn(|| o.adopt()));
        let lanes: Vec<_> = both.into_iter().map(|t| t.join().unwrap()).collect();
        lanes.iter().map(Vec::len).collect()
    });
    assert_eq!(adopted.iter().sum::<usize>(), 1);
}

#[test]
fn what_never_ended_is_closed_once_also_when_the_closer_dies() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn(dir.path(), ("OUTBOX_CHILD_IDLE", "1"));
    until(&mut child, "ready");
    child.kill().unwrap();
    child.wait().unwrap();
    let outbox = open(dir.path());
    let lane = adopted(&outbox);
    let expected = Unfinished { key: key(1), time_ns: 50, payload: b"turn".to_vec(), last_seen_ns: 99 };
    assert_eq!(lane.unfinished(), [expected]);
    // Another adoption, so that what is closed gets a segment of its own.
    drop(lane);
    let lane = adopted(&outbox);
    let a = lane.queue("a").unwrap();
    assert_eq!(lane.header(a).unwrap(), b"res");
    let records = [Record { queue: a, time_ns: 99, content: false, payload: b"closed" }];
    lane.finish(Transaction { end: Some(key(1)), records: &records, ..Default::default() }).unwrap();
    assert!(lane.unfinished().is_empty());
    // The closer dies after the whole was logged but before its parts were written: the parts go.
    let path = dir.path().join("lanes").join(lane.name()).join("a");
    drop(lane);
    let mut segments: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).collect();
    segments.retain(|p| p.extension().is_some_and(|e| e == "seg"));
    segments.sort();
    std::fs::remove_file(segments.last().unwrap()).unwrap();
    let lane = adopted(&outbox);
    assert!(lane.unfinished().is_empty());
    assert_eq!(all(&lane, "a"), [b"one".to_vec(), b"closed".to_vec()]);
    drop(lane);
    let lane = adopted(&outbox);
    assert_eq!(all(&lane, "a").len(), 0, "nothing comes twice");
    assert!(lane.remove_if_empty().unwrap());
}

#[test]
fn ended_starts_take_no_space_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    outbox.append(Transaction { begin: Some((key(0), 5, b"stays")), ..Default::default() }).unwrap();
    for i in 1..6000 {
        outbox.append(Transaction { begin: Some((key(i), i, &[3; 500])), ..Default::default() }).unwrap();
        outbox.append(Transaction { end: Some(key(i)), ..Default::default() }).unwrap();
    }
    outbox.sync().unwrap();
    let starts = dir.path().join("lanes").join(outbox.own().name()).join("starts");
    let bytes: u64 = std::fs::read_dir(starts).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 2 << 20, "{bytes} bytes");
    outbox.close().unwrap();
    drop(outbox);
    let unfinished = adopted(&open(dir.path())).unfinished();
    assert_eq!((unfinished.len(), unfinished[0].key), (1, key(0)));
}
