//! What was captured and may not be kept any more.

use std::path::Path;
use std::process::Command;

use factline::fact::{Capture, Kind};
use factline::otel::{self, Resource};
use factline::outbox::{Outbox, Settings, Settled};
use factline::protocol::{Ended, Observer, Transport};
use opentelemetry_proto::tonic::logs::v1::ScopeLogs;
use prost::Message as _;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::{THREAD, holds, session, word};

#[test]
fn content_of_a_process_that_is_gone_is_taken_out_for_whoever_does_not_want_it_and_the_facts_stay() {
    let (theirs, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings =
        |dir: &Path| Settings { queues: vec!["logs".into(), "traces".into()], ..Settings::new(dir) };
    {
        let outbox = Outbox::open(settings(theirs.path())).unwrap();
        let (logs, traces) = (outbox.queue("logs").unwrap(), outbox.queue("traces").unwrap());
        let sink = otel::OutboxSink::new(outbox.clone(), vec![logs], vec![traces]);
        let subscriber = tracing_subscriber::registry().with(otel::layer(sink, Resource::new("test")));
        tracing::subscriber::with_default(subscriber, || {
            let mut observer = Observer::new(Capture::all());
            observer.open(1, Transport::Stdio, 0);
            let session = session();
            for (sender, message) in &session[..session.len() - 1] {
                observer.message(1, *sender, 1_795_329_039_000_000, message.to_string().as_bytes());
            }
            // A copy has no owner: what a process leaves that is gone before the turn has ended.
            outbox.drain().unwrap();
            let mut copy = Command::new("cp");
            assert!(
                copy.arg("-a").arg(theirs.path().join("lanes")).arg(dir.path()).status().unwrap().success()
            );
            observer.finish(Ended::ClientClosed);
        });
        outbox.close().unwrap();
    }
    let on_disk = || -> Vec<u8> {
        let mut all = Vec::new();
        let mut dirs = vec![dir.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { dirs.push(path) } else { all.extend(std::fs::read(path).unwrap()) }
            }
        }
        all
    };
    let everywhere = || Kind::ALL.into_iter().filter(|kind| holds(&on_disk(), &word(*kind))).count();
    // The address of a user is said last, when the connection ends.
    assert_eq!(everywhere(), Kind::ALL.len() - 1, "it was there");
    let outbox = Outbox::open(settings(dir.path())).unwrap();
    let adopted = || outbox.adopt().into_iter().next().unwrap();
    // Some of it is delivered already, and some was refused.
    let lane = adopted();
    let mut reader = lane.reader("logs").unwrap();
    loop {
        let some = reader.next(1 << 20, 2).unwrap().unwrap();
        let refused = some.payloads().find(|record| holds(record, "pl4nted-"));
        let refused = refused.map(|record| reader.dead_letter(&some.header, record, "no").unwrap());
        reader.settle(&some, Settled::delivered(&some)).unwrap();
        if refused.is_some() {
            break;
        }
    }
    drop((reader, lane));
    let lane = adopted();
    let waiting = ["logs", "traces"].map(|queue| lane.backlog(queue).unwrap().records);
    let withdrawn = lane.withdraw_content(&otel::WITHOUT_CONTENT).unwrap();
    assert_eq!(everywhere(), 0, "anywhere below the outbox");
    assert!(withdrawn.changed.values().all(|records| *records > 2), "{withdrawn:?}");
    assert_eq!((withdrawn.changed.len(), withdrawn.lost.len(), withdrawn.dead_letters), (2, 0, 1));
    assert!(withdrawn.open > 0, "{withdrawn:?}");
    assert!(lane.withdraw_content(&otel::WITHOUT_CONTENT).unwrap().is_empty(), "once is enough");
    let queues = [lane.queue("logs").unwrap(), lane.queue("traces").unwrap()];
    assert_eq!(["logs", "traces"].map(|queue| lane.backlog(queue).unwrap().records), waiting);
    otel::recover(&lane, &queues[..1], &queues[1..], Capture::NONE).unwrap();
    let (mut left, mut bytes, mut dropped) = ([0, 0], Vec::new(), 0);
    for (at, queue) in ["logs", "traces"].into_iter().enumerate() {
        let mut reader = lane.reader(queue).unwrap();
        while let Some(batch) = reader.next(1 << 20, 100).unwrap() {
            left[at] += batch.len() as u64;
            bytes.extend_from_slice(&batch.bytes);
            if queue == "logs" {
                for record in batch.payloads() {
                    let of = ScopeLogs::decode(record).unwrap().log_records;
                    dropped += u64::from(of[0].dropped_attributes_count > 0);
                }
            }
            reader.settle(&batch, Settled::delivered(&batch)).unwrap();
        }
    }
    assert!(left[0] >= waiting[0] && left[1] > waiting[1], "{left:?} of {waiting:?}, and what was open");
    assert_eq!(dropped, withdrawn.changed["logs"], "each says that something is missing");
    assert!(holds(&bytes, "codex.turn.steered") && holds(&bytes, THREAD), "the facts are there");
    for kind in Kind::ALL {
        assert!(!holds(&bytes, &word(kind)), "{} is delivered", kind.name());
    }
    assert_eq!(outbox.counters().lost.total(), 0);
    assert!(lane.remove_if_empty().unwrap());
}
