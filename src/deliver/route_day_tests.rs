//! One destination down for a day, three up, over a real outbox with a bound, on a clock that jumps.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::stored::Stored;
use super::*;
use crate::outbox::{Loss, Outbox, Record, Settings, Transaction, status};

const QUEUES: [&str; 4] = ["down", "a", "b", "c"];
const TEN_MINUTES: Duration = Duration::from_secs(600);
const ROUNDS: u64 = 24 * 6;
const EACH: u64 = 20;

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_down_for_a_day_costs_no_other_and_what_it_loses_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(dir.path());
    settings.queues = QUEUES.map(str::to_owned).to_vec();
    settings.segment_bytes = 64 << 10;
    settings.ring_bytes = 256 << 10;
    settings.max_bytes = 2 << 20;
    let outbox = Outbox::open(settings).unwrap();
    let down = Arc::new(AtomicBool::new(true));
    let pace = Pace { look_again: TEN_MINUTES, longest_wait: TEN_MINUTES, ..Pace::default() };
    let mut tasks = JoinSet::new();
    let board = Arc::<Board>::default();
    let mut taken: Vec<Arc<Mutex<BTreeSet<u64>>>> = Vec::new();
    for name in QUEUES {
        outbox.set_header(outbox.queue(name).unwrap(), b"header");
        let (ids, down) = (Arc::<Mutex<BTreeSet<u64>>>::default(), Arc::clone(&down));
        taken.push(Arc::clone(&ids));
        let sink = Sink::Scripted(Box::new(move |batch, part| {
            if name == "down" && down.load(Ordering::SeqCst) {
                return Outcome::Retry { after: None, reason: "connection refused".into() };
            }
            for record in part {
                let id = batch.frames(record..record + 1)[..8].try_into().unwrap();
                assert!(ids.lock().unwrap().insert(u64::from_le_bytes(id)), "nothing twice");
            }
            Outcome::Delivered
        }));
        let line = Arc::new(Line::new(name.into(), "d".into()));
        board.add(Arc::clone(&line));
        let source = Box::new(Stored::new(outbox.own().reader(name).unwrap()));
        tasks.spawn(Runner::new(source, Arc::new(sink), line, Arc::clone(&board), pace).run());
    }
    for round in 0..ROUNDS {
        for (queue, record) in QUEUES.iter().flat_map(|name| (0..EACH).map(move |record| (name, record))) {
            let mut payload = [7; 1024];
            payload[..8].copy_from_slice(&(round * EACH + record).to_le_bytes());
            let queue = outbox.queue(queue).unwrap();
            let records = [Record { queue, time_ns: 1, content: false, payload: &payload }];
            outbox.append(Transaction { records: &records, ..Transaction::default() }).unwrap();
        }
        outbox.drain().unwrap();
        for line in board.lines() {
            line.wake.notify_one();
        }
        tokio::time::sleep(TEN_MINUTES).await;
        for (name, ids) in QUEUES.iter().zip(&taken).skip(1) {
            let count = ids.lock().unwrap().len() as u64;
            assert_eq!(count, (round + 1) * EACH, "{name} stays current in round {round}");
        }
        let held: u64 =
            status(dir.path()).unwrap().iter().flat_map(|lane| &lane.queues).map(|it| it.waiting.bytes).sum();
        assert!(held <= 2 << 20, "{held}");
    }
    assert!(taken[0].lock().unwrap().is_empty());
    down.store(false, Ordering::SeqCst);
    for _ in 0..20 {
        tokio::time::sleep(TEN_MINUTES).await;
    }
    let (emitted, ids) = (ROUNDS * EACH, taken[0].lock().unwrap().clone());
    let lost = outbox.counters().lost;
    assert_eq!(ids.len() as u64 + lost.total(), emitted, "delivered and counted, and nothing in silence");
    assert_eq!(lost.by(Loss::Full), lost.total());
    assert!(lost.total() > 0 && ids.len() > 500, "{lost:?}");
    assert_eq!(
        ids.into_iter().collect::<Vec<_>>(),
        (lost.total()..emitted).collect::<Vec<_>>(),
        "the oldest went"
    );
}
