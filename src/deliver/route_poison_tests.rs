//! Records that make their delivery panic, over a real outbox, on a clock that jumps.

use std::collections::BTreeMap;

use super::super::stored::Stored;
use super::*;
use crate::outbox::{Loss, Outbox, Record, Settings, Settled, Transaction, dead_letters};

const RECORDS: u8 = 200;

/// How often each record was tried and how often it came through, one byte each.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<u8, (u32, u32)>>>);

fn filled(dir: &std::path::Path) -> Outbox {
    let mut settings = Settings::new(dir);
    settings.queues = vec!["logs".to_owned()];
    let outbox = Outbox::open(settings).unwrap();
    let queue = outbox.queue("logs").unwrap();
    outbox.set_header(queue, b"header");
    for n in 0..RECORDS {
        let records = [Record { queue, time_ns: 1, content: false, payload: &[n] }];
        outbox.append(Transaction { records: &records, ..Transaction::default() }).unwrap();
    }
    outbox.drain().unwrap();
    outbox
}

fn route(
    outbox: &Outbox,
    breaks: impl Fn(usize, &[u8]) -> bool + Send + Sync + 'static,
) -> (Seen, JoinSet<()>) {
    let seen = Seen::default();
    let (all, requests) = (seen.clone(), std::sync::atomic::AtomicUsize::new(0));
    let sink = Sink::Scripted(Box::new(move |batch, part| {
        let records = batch.frames(part);
        let number = requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let broken = breaks(number, records);
        for record in records {
            let mut all = all.0.lock().unwrap();
            let (tried, came) = all.entry(*record).or_default();
            (*tried, *came) = (*tried + 1, *came + u32::from(!broken));
        }
        assert!(!broken, "as told, and with what it found: {records:?}");
        Outcome::Delivered
    }));
    let (line, board) = (Arc::new(Line::new("logs".into(), "d".into())), Arc::<Board>::default());
    board.add(Arc::clone(&line));
    let source = Box::new(Stored::new(outbox.own().reader("logs").unwrap()));
    let mut task = JoinSet::new();
    task.spawn(Runner::new(source, Arc::new(sink), line, board, Pace::default()).run());
    (seen, task)
}

async fn emptied(outbox: &Outbox) -> Duration {
    let began = Instant::now();
    while outbox.own().reader("logs").unwrap().waiting().records > 0 {
        assert!(began.elapsed() < Duration::from_secs(3600), "the queue is held up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_record_that_always_panics_is_put_aside_after_three_tries_and_all_others_arrive_once() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = filled(dir.path());
    let poison = [57, 130];
    let (seen, _task) = route(&outbox, move |_, records| records.iter().any(|it| poison.contains(it)));
    let took = emptied(&outbox).await;
    println!("two of {RECORDS} records put aside, the queue empty after {took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    for (record, (tried, came)) in seen.0.lock().unwrap().iter() {
        let is_poison = poison.contains(record);
        assert_eq!(*came, u32::from(!is_poison), "record {record}");
        assert!(!is_poison || *tried >= 3, "record {record} was tried {tried} times");
    }
    let lost = outbox.counters().lost;
    assert_eq!((lost.by(Loss::Rejected), lost.total()), (2, 2));
    let mut letters = Vec::new();
    dead_letters(dir.path(), None, |letter| {
        letters.push((letter.payload.to_vec(), letter.reason.to_owned()));
        Ok(())
    })
    .unwrap();
    let reason = "delivery panicked".to_owned();
    assert_eq!(letters, [(vec![57], reason.clone()), (vec![130], reason)]);
}

#[tokio::test(start_paused = true)]
async fn panics_that_stay_with_no_record_cost_retries_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = filled(dir.path());
    let (seen, _task) = route(&outbox, |request, _| request % 3 != 2);
    emptied(&outbox).await;
    assert!(seen.0.lock().unwrap().values().all(|times| *times == (3, 1)));
    assert_eq!(outbox.counters().lost.total(), 0);
    // What is settled stays settled.
    let mut reader = outbox.own().reader("logs").unwrap();
    assert_eq!(reader.next(1 << 20, 1000).unwrap().map(|batch| Settled::delivered(&batch)), None);
}
