//! One queue on its way to one destination.
//!
//! A window of batches is on its way at a time. Each batch is sent part by part ([`Cut`]); the batches are
//! settled in their order. A failure holds the whole destination, and what was not touched yet goes back to
//! the queue, so that after an outage the queue decides what there is to send.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::board::{Board, Line, RouteState};
use super::cut::Cut;
use super::outcome::{LOST_PARTIAL, LOST_REJECTED, Outcome, Split};
use super::pace::{Pace, Splits};
use super::sink::Sink;
use super::source::{Batch, Settled, Source};

/// As often as this a request may panic while it is made or sent, one time after the other, before it counts as
/// refused: what is wrong with one record must not hold up all behind it for ever.
const PANICS: u32 = 3;

/// A batch on its way.
struct Shipment {
    batch: Arc<Batch>,
    cut: Cut,
    settled: Settled,
    /// The task that sends the next part.
    job: Option<Id>,
}

impl Shipment {
    fn lose(&mut self, reason: &'static str, records: u64) {
        match self.settled.lost.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += records,
            None if records > 0 => self.settled.lost.push((reason, records)),
            None => {}
        }
    }
}

/// Why nothing is sent now.
struct Hold {
    until: Instant,
    why: Why,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// We chose to; a flush may try at once.
    Failed,
    /// The destination asked us to, or the search for bad records used up its budget; a flush waits too.
    Asked,
    /// It can't be used; a flush tries once.
    Paused,
}

pub(crate) struct Runner {
    pub(crate) source: Arc<Mutex<Box<dyn Source>>>,
    pub(crate) sink: Arc<Sink>,
    pub(crate) line: Arc<Line>,
    pub(crate) board: Arc<Board>,
    pace: Pace,
    batch_bytes: usize,
    batch_records: usize,
    backoff: Backoff,
    splits: Splits,
    window: VecDeque<Shipment>,
    jobs: JoinSet<Outcome>,
    /// Requests that panicked since the last that did not.
    panics: u32,
    /// The last request had no answer. It may have been taken all the same, and each that follows it into the
    /// silence as well: a single record finds out whether anybody is there.
    unanswered: bool,
    hold: Option<Hold>,
    /// When to read the queue; `None` when it was empty and nobody said that this has changed.
    due: Option<Instant>,
    /// The flush that is being worked on.
    flush: Option<u64>,
}

impl Runner {
    pub(crate) fn new(
        source: Box<dyn Source>,
        sink: Arc<Sink>,
        line: Arc<Line>,
        board: Arc<Board>,
        pace: Pace,
    ) -> Self {
        Self {
            source: Arc::new(Mutex::new(source)),
            batch_bytes: sink.batch_bytes(pace.batch_bytes),
            batch_records: sink.batch_records(pace.batch_records),
            backoff: Backoff::new(pace.first_wait, pace.longest_wait),
            splits: Splits::new(pace.splits_per_minute),
            sink,
            line,
            board,
            pace,
            window: VecDeque::new(),
            jobs: JoinSet::new(),
            panics: 0,
            unanswered: false,
            hold: None,
            due: None,
            flush: None,
        }
    }

    /// Delivers until the task is dropped.
    pub(crate) async fn run(mut self) {
        self.due = Some(Instant::now());
        loop {
            self.begin_flush();
            if self.hold.as_ref().is_some_and(|hold| hold.until <= Instant::now()) {
                self.hold = None;
            }
            self.settle().await;
            self.fill().await;
            self.launch();
            self.put_back().await;
            self.show_state();
            self.end_flush();
            let idle = self.hold.is_none() && self.due.is_none() && self.window.is_empty();
            let wake_at = match (&self.hold, self.due) {
                (Some(hold), _) => Some(hold.until),
                (None, Some(due)) if self.has_room() => Some(due),
                (None, _) if idle => Some(Instant::now() + self.pace.look_again),
                _ => None,
            };
            tokio::select! {
                Some(done) = self.jobs.join_next_with_id(), if !self.jobs.is_empty() => match done {
                    Ok((job, outcome)) => self.apply(job, outcome).await,
                    Err(error) => self.panicked(&error).await,
                },
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {
                    // A wake-up can get lost between two processes; nothing may wait for it for ever.
                    if idle { self.due = Some(Instant::now()); }
                }
                () = self.line.wake.notified() => {
                    let linger = if self.flush.is_some() { Duration::ZERO } else { self.pace.linger };
                    self.due.get_or_insert(Instant::now() + linger);
                }
            }
        }
    }

    /// A flush reads at once, and does not wait out what was our own decision to wait.
    fn begin_flush(&mut self) {
        let wanted = self.line.wanted();
        if wanted.is_some() && wanted != self.flush {
            self.flush = wanted;
            self.due = Some(Instant::now());
            if self.hold.as_ref().is_some_and(|hold| hold.why != Why::Asked) {
                self.hold = None;
            }
        }
    }

    fn end_flush(&mut self) {
        let Some(wanted) = self.flush else { return };
        let drained = self.hold.is_none() && self.window.is_empty() && self.due.is_none();
        let stuck = self.jobs.is_empty() && self.hold.as_ref().is_some_and(|hold| hold.why == Why::Paused);
        if drained || stuck {
            self.board.answer(&self.line, wanted, drained);
            self.flush = None;
        }
    }

    fn show_state(&self) {
        self.line.report().state = match &self.hold {
            Some(Hold { why: Why::Paused, .. }) => RouteState::Paused,
            Some(Hold { until, .. }) => RouteState::BackingOff { until: until.into_std() },
            None if self.window.is_empty() => RouteState::Idle,
            None => RouteState::Sending,
        };
    }

    /// Batches that may be on their way: after a failure one, until it is known whether the destination is
    /// back.
    fn has_room(&self) -> bool {
        let most = if self.backoff.failing() { 1 } else { self.pace.in_flight };
        self.window.len() < most.max(1)
    }

    async fn fill(&mut self) {
        while self.hold.is_none() && self.has_room() && self.due.is_some_and(|due| due <= Instant::now()) {
            let bytes = self.batch_bytes;
            let records = if self.unanswered { 1 } else { self.batch_records };
            match self.on_disk(move |source| source.next(bytes, records)).await {
                Ok(Some(batch)) => {
                    let (cut, settled) = (Cut::new(batch.len()), Settled::default());
                    self.window.push_back(Shipment { batch: Arc::new(batch), cut, settled, job: None });
                }
                Ok(None) => self.due = None,
                Err(error) => self.fail(None, &format!("outbox: {error}")),
            }
        }
    }

    fn launch(&mut self) {
        if self.hold.is_some() {
            return;
        }
        // After a failure one request alone finds out whether the destination is back.
        let most = if self.backoff.failing() { 1 } else { usize::MAX };
        for shipment in &mut self.window {
            if shipment.job.is_some() || self.jobs.len() >= most {
                continue;
            }
            let Some(part) = shipment.cut.part() else { continue };
            let (sink, batch) = (Arc::clone(&self.sink), Arc::clone(&shipment.batch));
            shipment.job = Some(self.jobs.spawn(async move { sink.send(&batch, part).await }).id());
        }
    }

    async fn apply(&mut self, job: Id, outcome: Outcome) {
        let Some(shipment) = self.window.iter_mut().find(|shipment| shipment.job == Some(job)) else {
            return;
        };
        shipment.job = None;
        let Some(part) = shipment.cut.part() else { return };
        let sent = part.len() as u64;
        match outcome {
            Outcome::Delivered => {
                shipment.settled.delivered += sent;
                shipment.cut.pass();
                self.worked();
            }
            Outcome::Partial { rejected, message } => {
                let rejected = rejected.min(sent);
                shipment.settled.delivered += sent - rejected;
                shipment.lose(LOST_PARTIAL, rejected);
                shipment.cut.pass();
                self.worked();
                self.say(&format!("partial success, {rejected} of {sent} rejected: {message}"));
            }
            Outcome::Retry { after, reason } => self.fail(after, &reason),
            Outcome::Unanswered { reason } => {
                self.unanswered = true;
                self.fail(None, &reason);
            }
            Outcome::Paused { reason } => {
                self.say(&reason);
                self.hold(self.pace.paused, Why::Paused);
            }
            Outcome::Rejected { split: Split::No, reason } => {
                shipment.lose(LOST_REJECTED, sent);
                shipment.cut.pass();
                let batch = Arc::clone(&shipment.batch);
                self.worked();
                self.bury(batch, part, reason).await;
            }
            Outcome::Rejected { split, reason } => {
                let batch = Arc::clone(&shipment.batch);
                let alone = shipment.cut.refuse(split);
                if alone.is_some() {
                    shipment.lose(LOST_REJECTED, 1);
                }
                self.worked();
                if let Some(record) = alone {
                    self.bury(batch, record..record + 1, reason).await;
                } else {
                    self.say(&format!("{reason} for {sent} records, which are cut in two"));
                    if split == Split::TooBig {
                        self.batch_bytes = self.pace.smaller(batch.frames(part).len());
                    }
                    if let Some(wait) = self.splits.spend() {
                        self.hold(wait, Why::Asked);
                    }
                }
            }
        }
    }

    /// The destination answers. That ends a back-off, but not the wait that another request ran into
    /// meanwhile.
    fn worked(&mut self) {
        self.panics = 0;
        self.unanswered = false;
        if self.hold.is_none() {
            self.backoff.reset();
        }
    }

    fn fail(&mut self, asked: Option<Duration>, reason: &str) {
        self.say(reason);
        self.line.report().retried += 1;
        // Requests that fail together are one failure.
        let wait = match &self.hold {
            Some(_) => asked.unwrap_or_default(),
            None => self.backoff.after_failure(asked),
        };
        self.hold(wait, if asked.is_some() { Why::Asked } else { Why::Failed });
    }

    fn hold(&mut self, wait: Duration, why: Why) {
        let until = Instant::now() + wait;
        if self.hold.as_ref().is_none_or(|hold| hold.until < until) {
            self.hold = Some(Hold { until, why });
        }
    }

    fn say(&self, error: &str) {
        self.line.report().last_error = Some(error.to_owned());
    }

    /// A panic that stays with the same records is taken for their refusal, so that the one at fault is searched
    /// for and put aside. The halves of the search have one try, since a wrong turn there costs nothing; a record
    /// alone has all of them. What the panic says is not repeated: it may quote the record.
    async fn panicked(&mut self, error: &JoinError) {
        let job = error.id();
        let Some(shipment) = self.window.iter_mut().find(|shipment| shipment.job == Some(job)) else {
            return;
        };
        let alone = shipment.cut.part().is_none_or(|part| part.len() == 1);
        self.panics += 1;
        let outcome = if self.panics >= PANICS || shipment.cut.searching() && !alone {
            Outcome::Rejected { split: Split::BadRecord, reason: "delivery panicked".to_owned() }
        } else {
            Outcome::Retry { after: None, reason: "delivery panicked".to_owned() }
        };
        self.apply(job, outcome).await;
    }

    /// Gives the window back to the queue when nothing is sent for a while, unless some of it was already
    /// settled in part.
    async fn put_back(&mut self) {
        let whole = self.window.iter().all(|shipment| shipment.cut.untouched() && !shipment.batch.is_empty());
        if self.hold.is_some() && self.jobs.is_empty() && !self.window.is_empty() && whole {
            self.window.clear();
            self.due = Some(Instant::now());
            self.on_disk(|source| source.rewind()).await;
        }
    }

    /// Settles what is finished, in order.
    async fn settle(&mut self) {
        while let Some(first) = self.window.front() {
            if first.job.is_some() || first.cut.part().is_some() {
                return;
            }
            let (batch, settled) = (Arc::clone(&first.batch), first.settled.clone());
            let (now, kept) = (settled.clone(), batch);
            match self.on_disk(move |source| source.settle(&kept, now)).await {
                Ok(()) => {
                    self.window.pop_front();
                    let mut report = self.line.report();
                    report.delivered += settled.delivered;
                    for (reason, records) in settled.lost {
                        *report.lost.entry(reason).or_default() += records;
                    }
                }
                Err(error) => return self.fail(None, &format!("outbox: {error}")),
            }
        }
    }

    /// Keeps refused records aside. They are counted already; that a full disk can't keep them must not stop
    /// the queue.
    async fn bury(&mut self, batch: Arc<Batch>, records: Range<usize>, reason: String) {
        self.say(&reason);
        let result: io::Result<()> = self
            .on_disk(move |source| {
                records.into_iter().try_for_each(|record| {
                    source.dead_letter(&batch.header, batch.frames(record..record + 1), &reason)
                })
            })
            .await;
        if let Err(error) = result {
            self.say(&format!("a refused record could not be kept: {error}"));
        }
    }

    /// Runs a call that may block on the disk where it delays no other route.
    async fn on_disk<T: Send + 'static + FromPanic>(
        &self,
        call: impl FnOnce(&mut Box<dyn Source>) -> T + Send + 'static,
    ) -> T {
        let source = Arc::clone(&self.source);
        let call = move || call(&mut source.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(call).await.unwrap_or_else(|_| T::from_panic())
    }
}

/// What a call that panicked comes to.
trait FromPanic {
    fn from_panic() -> Self;
}

impl FromPanic for () {
    fn from_panic() {}
}

impl<T> FromPanic for io::Result<T> {
    fn from_panic() -> Self {
        Err(io::Error::other("reading or settling panicked"))
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "route_day_tests.rs"]
mod day_tests;

#[cfg(test)]
#[path = "route_poison_tests.rs"]
mod poison_tests;
