//! The account that does not believe the program's own counters: what was claimed by whoever made it, what was
//! accepted as a reader in another language finds it on disk, and what came out.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use factline::outbox::{Outbox, Settings, Settled, status, totals};

use crate::emitter::{Id, Log, Running, header, id_of_payload};

/// What is in an outbox, taken out of it.
#[derive(Debug, Default)]
pub struct Taken {
    /// In the order in which it came.
    pub records: Vec<Id>,
    /// As the outbox counts it, over all lanes and what is gone.
    pub lost: u64,
    pub delivered: u64,
    pub waiting: u64,
    /// Lanes that were adopted.
    pub lanes: usize,
    /// From opening to having adopted.
    pub took: Duration,
    pub warnings: Vec<String>,
}

/// Opens it as the next process would, and takes everything out.
pub fn take(dir: &Path) -> Taken {
    let mut settings = Settings::new(dir);
    settings.queues = vec!["logs".into()];
    settings.ring_bytes = 16 << 10;
    let began = Instant::now();
    let outbox = Outbox::open(settings).unwrap();
    let lanes = outbox.adopt();
    let mut taken = Taken { lanes: lanes.len(), took: began.elapsed(), ..Taken::default() };
    for lane in lanes {
        // Killed before it had a queue.
        let Ok(mut reader) = lane.reader("logs") else { continue };
        while let Some(batch) = reader.next(1 << 20, 1000).unwrap() {
            assert_eq!(&*batch.header, header(), "mangled header");
            taken.records.extend(batch.payloads().map(id_of_payload));
            reader.settle(&batch, Settled::delivered(&batch)).unwrap();
        }
        assert_eq!(reader.waiting().records, 0);
        drop(reader);
        assert!(lane.remove_if_empty().unwrap());
    }
    taken.warnings = outbox.warnings();
    drop(outbox);
    let sums = account(dir);
    (taken.delivered, taken.lost, taken.waiting) = sums;
    taken
}

/// Delivered, lost and waiting by the outbox's own account.
pub fn account(dir: &Path) -> (u64, u64, u64) {
    let lanes = status(dir).unwrap();
    let gone = totals(dir).unwrap();
    let queues = lanes.iter().flat_map(|lane| &lane.queues);
    let (mut delivered, mut lost, mut waiting) = (0, 0, 0);
    for queue in queues {
        delivered += queue.delivered;
        lost += queue.lost.total();
        waiting += queue.waiting.records;
    }
    for total in gone.values() {
        delivered += total.delivered;
        lost += total.lost.total();
    }
    (delivered, lost, waiting)
}

/// A record as the reader in Python finds it.
pub struct OnDisk {
    pub queue: String,
    pub kind: String,
    pub payload: Vec<u8>,
}

/// What the reader in Python finds; `None` where there is no Python.
pub fn read_by_python(dir: &Path) -> Option<Vec<OnDisk>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/outbox_reader.py");
    let output = match Command::new("python3").arg(script).arg(dir).output() {
        Ok(output) => output,
        Err(_) => {
            println!("skipped: the second reader, there is no python3");
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let of = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let hex = words[5].trim_matches('-').as_bytes();
        let payload = hex.chunks(2).map(byte).collect();
        OnDisk { queue: words[1].to_owned(), kind: words[4].to_owned(), payload }
    };
    Some(text.lines().map(of).collect())
}

/// Whose records these are, of the queue `logs`.
pub fn ids(on_disk: &[OnDisk]) -> BTreeSet<Id> {
    let records = on_disk.iter().filter(|it| it.queue == "logs" && it.kind == "record");
    records.map(|it| id_of_payload(&it.payload)).collect()
}

/// How the account comes out.
#[derive(Debug, Default)]
pub struct Identity {
    pub accepted: u64,
    pub came: u64,
    pub missing: u64,
    pub twice: u64,
}

/// Holds what came out against what the emitters said: nothing that was accepted is missing without being
/// counted, nothing came that nobody appended, nothing changed (`id_of` has seen to that).
///
/// # Panics
/// When that is not so.
pub fn identity(log: &Log, emitters: &[&Running], threads: u64, came: &[Id], counted: u64) -> Identity {
    let mut times: BTreeMap<Id, u64> = BTreeMap::new();
    came.iter().for_each(|id| *times.entry(*id).or_default() += 1);
    let mut of = Identity { came: times.len() as u64, ..Identity::default() };
    of.twice = times.values().map(|times| times - 1).sum();
    let by: Vec<u64> = emitters.iter().map(|emitter| emitter.writer).collect();
    log.said(&by, |said| {
        let mut phantoms: Vec<Id> = Vec::new();
        let writers: BTreeSet<u64> =
            emitters.iter().flat_map(|emitter| emitter.writer..emitter.writer + threads).collect();
        for (writer, number) in times.keys() {
            // One more than was said: it was accepted and the kill came before the word.
            let known = said.accepted.get(writer).copied().unwrap_or(0) + 1;
            if !writers.contains(writer) || *number >= known {
                phantoms.push((*writer, *number));
            }
        }
        assert!(phantoms.is_empty(), "phantoms: {phantoms:?}");
        for writer in &writers {
            let accepted = said.accepted.get(writer).copied().unwrap_or(0);
            of.accepted += accepted;
            of.missing += accepted - times.range((*writer, 0)..(*writer, accepted)).count() as u64;
        }
    });
    assert!(
        of.missing <= counted,
        "silently lost: {} of {} counted: {of:?}",
        of.missing - counted,
        of.missing
    );
    of
}
