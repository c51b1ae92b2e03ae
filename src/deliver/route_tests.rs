//! The loop of a route on a clock that jumps, against a destination that answers as told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;

/// A queue in memory: each record is one byte.
#[derive(Default)]
struct Queue {
    records: Vec<u8>,
    given: usize,
    settled: usize,
    delivered: u64,
    lost: Vec<(&'static str, u64)>,
    dead: Vec<Vec<u8>>,
    rewinds: usize,
    refuse_settling: usize,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Queue>>);

impl Shared {
    fn with<T>(&self, call: impl FnOnce(&mut Queue) -> T) -> T {
        call(&mut self.0.lock().unwrap())
    }
}

impl Source for Shared {
    fn next(&mut self, max_bytes: usize, max_records: usize) -> io::Result<Option<Batch>> {
        self.with(|queue| {
            let left = queue.records.get(queue.given..).unwrap_or_default();
            let bytes = left[..left.len().min(max_bytes).min(max_records)].to_vec();
            queue.given += bytes.len();
            let ends = (1..=bytes.len()).collect::<Vec<_>>();
            Ok((!bytes.is_empty()).then(|| Batch { header: Arc::from(&[0; 4][..]), bytes, ends }))
        })
    }

    fn settle(&mut self, batch: &Batch, settled: Settled) -> io::Result<()> {
        self.with(|queue| {
            if queue.refuse_settling > 0 {
                queue.refuse_settling -= 1;
                return Err(io::Error::other("disk on fire"));
            }
            assert_eq!(batch.bytes, queue.records[queue.settled..queue.settled + batch.len()], "order");
            let lost: u64 = settled.lost.iter().map(|(_, count)| count).sum();
            assert_eq!(settled.delivered + lost, batch.len() as u64, "every record has an end");
            queue.settled += batch.len();
            queue.delivered += settled.delivered;
            queue.lost.extend(settled.lost);
            Ok(())
        })
    }

    fn rewind(&mut self) {
        self.with(|queue| {
            queue.given = queue.settled;
            queue.rewinds += 1;
        });
    }

    fn dead_letter(&mut self, _: &[u8], payload: &[u8], _: &str) -> io::Result<()> {
        self.with(|queue| queue.dead.push(payload.to_vec()));
        Ok(())
    }
}

/// When a request was made, and with which records.
type Request = (Instant, Vec<u8>);

struct Stage {
    queue: Shared,
    line: Arc<Line>,
    board: Arc<Board>,
    requests: Arc<Mutex<Vec<Request>>>,
    _task: JoinSet<()>,
}

impl Stage {
    fn new(
        records: Vec<u8>,
        pace: Pace,
        answer: impl Fn(usize, &[u8]) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        let queue = Shared::default();
        queue.with(|queue| queue.records = records);
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let log = Arc::clone(&requests);
        let sink = Sink::Scripted(Box::new(move |batch, part| {
            let mut log = log.lock().unwrap();
            log.push((Instant::now(), batch.frames(part.clone()).to_vec()));
            answer(log.len() - 1, batch.frames(part))
        }));
        let (line, board) = (Arc::new(Line::new("q".into(), "d".into())), Arc::<Board>::default());
        board.add(Arc::clone(&line));
        let source = Box::new(queue.clone());
        let runner = Runner::new(source, Arc::new(sink), Arc::clone(&line), Arc::clone(&board), pace);
        let mut task = JoinSet::new();
        task.spawn(runner.run());
        Self { queue, line, board, requests, _task: task }
    }

    /// Lets the clock jump from timer to timer until all records have an end.
    async fn settled(&self) {
        let all = async {
            while self.queue.with(|queue| queue.settled < queue.records.len()) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(100_000), all).await.expect("the queue is never drained");
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    fn gaps(&self) -> Vec<Duration> {
        self.requests().windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

fn retry(after: Option<u64>) -> Outcome {
    Outcome::Retry { after: after.map(Duration::from_secs), reason: "not now".into() }
}

fn refused() -> Outcome {
    Outcome::Rejected { split: Split::BadRecord, reason: "bad".into() }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_hours_is_waited_out_and_then_everything_is_delivered_in_order() {
    let pace = Pace { batch_records: 10, ..Pace::default() };
    let stage = Stage::new((0..100).collect(), pace, |request, _| match request {
        0..300 => retry(None),
        _ => Outcome::Delivered,
    });
    stage.settled().await;
    let gaps = stage.gaps();
    assert!(gaps[..299].iter().all(|gap| *gap <= Duration::from_secs(61)));
    assert!(gaps[20..299].iter().all(|gap| *gap >= Duration::from_secs(30)), "{gaps:?}");
    assert!(gaps[20..299].iter().collect::<std::collections::BTreeSet<_>>().len() > 100, "jitter");
    let sent: Vec<u8> = stage.requests()[300..].iter().flat_map(|(_, records)| records.clone()).collect();
    assert_eq!(sent, (0..100).collect::<Vec<u8>>());
    let report = stage.line.report().clone();
    assert_eq!((report.delivered, report.retried), (100, 300));
    assert_eq!(report.last_error.as_deref(), Some("not now"));
}

#[tokio::test(start_paused = true)]
async fn records_that_the_queue_drops_in_an_outage_are_not_sent_afterwards() {
    let stage = Stage::new((0..10).collect(), Pace::default(), |request, _| match request {
        0..5 => retry(None),
        _ => Outcome::Delivered,
    });
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(stage.queue.with(|queue| queue.rewinds) > 0);
    stage.queue.with(|queue| {
        queue.records.drain(..4);
    });
    stage.settled().await;
    assert_eq!(stage.requests().last().unwrap().1, [4, 5, 6, 7, 8, 9]);
    assert_eq!(stage.queue.with(|queue| queue.delivered), 6);
}

#[tokio::test(start_paused = true)]
async fn what_had_no_answer_is_sent_again_once_a_single_record_had_one() {
    let pace = Pace { batch_records: 30, ..Pace::default() };
    let stage = Stage::new((0..90).collect(), pace, |request, _| match request {
        0..6 => Outcome::Unanswered { reason: "no answer within 10000 ms".into() },
        _ => Outcome::Delivered,
    });
    stage.settled().await;
    let sizes: Vec<usize> = stage.requests().iter().map(|(_, records)| records.len()).collect();
    assert_eq!(sizes, [30, 30, 1, 1, 1, 1, 1, 30, 30, 29]);
    assert_eq!(stage.line.report().delivered, 90);
    assert!(stage.queue.with(|queue| queue.lost.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn the_destination_is_left_alone_for_as_long_as_it_asks() {
    let stage = Stage::new(vec![1], Pace::default(), |request, _| match request {
        0 => retry(Some(77)),
        _ => Outcome::Delivered,
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(matches!(stage.line.report().state, RouteState::BackingOff { .. }));
    stage.board.flush(std::time::Instant::now());
    stage.settled().await;
    let gap = stage.gaps()[0];
    assert!(gap >= Duration::from_secs(77) && gap < Duration::from_secs(78), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_destination_keeps_its_records_and_is_asked_every_five_minutes() {
    let stage = Stage::new(vec![1, 2], Pace::default(), |request, _| match request {
        0..3 => Outcome::Paused { reason: "HTTP status 401".into() },
        _ => Outcome::Delivered,
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.line.report().state, RouteState::Paused);
    assert_eq!(stage.queue.with(|queue| queue.settled), 0);
    stage.settled().await;
    assert!(stage.gaps().iter().all(|gap| gap.as_secs() == 300), "{:?}", stage.gaps());
    assert_eq!(stage.line.report().delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn one_bad_record_is_found_given_up_and_counted_and_the_others_arrive() {
    let stage = Stage::new((0..200).collect(), Pace::default(), |_, records| {
        if records.contains(&137) { refused() } else { Outcome::Delivered }
    });
    stage.settled().await;
    assert!(stage.requests().len() <= 11, "{}", stage.requests().len());
    stage.queue.with(|queue| {
        assert_eq!(queue.dead, [[137]]);
        assert_eq!((queue.delivered, queue.lost.clone()), (199, vec![("rejected", 1)]));
    });
    assert_eq!(stage.line.report().lost, [("rejected", 1)].into());
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_the_search_for_a_bad_record_sends_nothing_twice() {
    let stage = Stage::new((0..64).collect(), Pace::default(), |request, records| match request {
        2 | 5 => retry(None),
        _ if records.contains(&40) => refused(),
        _ => Outcome::Delivered,
    });
    stage.settled().await;
    let requests = stage.requests();
    let taken = requests.iter().enumerate().filter(|(n, (_, r))| *n != 2 && *n != 5 && !r.contains(&40));
    let mut taken: Vec<u8> = taken.flat_map(|(_, (_, records))| records.clone()).collect();
    taken.push(40);
    taken.sort_unstable();
    assert_eq!(taken, (0..64).collect::<Vec<u8>>());
    assert_eq!(stage.queue.with(|queue| queue.dead.clone()), [[40]]);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_refuses_everything_is_not_flooded() {
    let pace = Pace { splits_per_minute: 20, ..Pace::default() };
    let stage = Stage::new((0..200).collect(), pace, |_, _| refused());
    stage.settled().await;
    let requests = stage.requests();
    for (start, _) in &requests {
        let minute = *start..*start + Duration::from_secs(60);
        assert!(requests.iter().filter(|(at, _)| minute.contains(at)).count() <= 90);
    }
    assert_eq!(stage.queue.with(|queue| queue.dead.len()), 200);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_big_together_goes_in_parts_and_later_batches_are_smaller() {
    let records = vec![7; 1_000_000];
    let stage = Stage::new(records, Pace { batch_records: 400_000, ..Pace::default() }, |_, records| {
        let too_big = Outcome::Rejected { split: Split::TooBig, reason: "HTTP status 413".into() };
        if records.len() > 150_000 { too_big } else { Outcome::Delivered }
    });
    stage.settled().await;
    assert_eq!(stage.line.report().delivered, 1_000_000);
    let refusals = stage.requests().iter().filter(|(_, records)| records.len() > 150_000).count();
    assert!(refusals <= 4, "{refusals}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_says_nothing_about_the_records_costs_one_request() {
    let stage = Stage::new((0..9).collect(), Pace::default(), |_, _| Outcome::Rejected {
        split: Split::No,
        reason: "HTTP status 500".into(),
    });
    stage.settled().await;
    assert_eq!(stage.requests().len(), 1);
    assert_eq!(stage.queue.with(|queue| queue.dead.len()), 9);
    assert_eq!(stage.line.report().lost, [("rejected", 9)].into());
}

#[tokio::test(start_paused = true)]
async fn a_partial_success_is_counted_up_to_what_was_sent_and_not_sent_again() {
    let stage = Stage::new((0..9).collect(), Pace::default(), |_, _| Outcome::Partial {
        rejected: 1000,
        message: "no".into(),
    });
    stage.settled().await;
    assert_eq!(stage.requests().len(), 1);
    assert_eq!(stage.line.report().lost, [("rejected_partial", 9)].into());
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_cannot_settle_is_asked_again_and_nothing_is_sent_twice() {
    let stage = Stage::new((0..9).collect(), Pace::default(), |_, _| Outcome::Delivered);
    stage.queue.with(|queue| queue.refuse_settling = 3);
    stage.settled().await;
    assert_eq!(stage.requests().len(), 1);
    assert_eq!(stage.line.report().delivered, 9);
    assert!(stage.line.report().last_error.as_deref().unwrap().contains("disk on fire"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_on_the_way_to_the_destination_does_not_end_delivery() {
    let first = AtomicBool::new(true);
    let queue = Shared::default();
    queue.with(|queue| queue.records = (0..9).collect());
    let sink = Sink::Scripted(Box::new(move |_, _| {
        assert!(!first.swap(false, Ordering::Relaxed), "on purpose");
        Outcome::Delivered
    }));
    let line = Arc::new(Line::new("q".into(), "d".into()));
    let runner = Runner::new(
        Box::new(queue.clone()),
        Arc::new(sink),
        Arc::clone(&line),
        Arc::default(),
        Pace::default(),
    );
    let mut task = JoinSet::new();
    task.spawn(runner.run());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(line.report().delivered, 9);
}

#[tokio::test(start_paused = true)]
async fn new_records_are_found_after_a_nudge_and_without_one_too() {
    let stage = Stage::new(vec![1], Pace::default(), |_, _| Outcome::Delivered);
    stage.settled().await;
    stage.queue.with(|queue| queue.records.push(2));
    let start = Instant::now();
    stage.line.wake.notify_one();
    stage.settled().await;
    assert!(start.elapsed() <= Duration::from_millis(300));
    stage.queue.with(|queue| queue.records.push(3));
    let start = Instant::now();
    stage.settled().await;
    assert!(start.elapsed() <= Duration::from_millis(5200));
}
