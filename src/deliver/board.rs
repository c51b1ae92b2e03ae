//! What the caller and the tasks of the routes tell each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// What a route is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteState {
    /// There is nothing to send.
    Idle,
    /// Records are on their way.
    Sending,
    /// It failed, or the destination asked for a pause.
    BackingOff {
        /// The next attempt.
        until: Instant,
    },
    /// The destination can't be used as it is configured. It is asked again every five minutes, and when
    /// delivery starts.
    Paused,
}

/// How one route is getting on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteReport {
    /// The queue that is read.
    pub queue: String,
    /// The destination: a URL without userinfo and query, or a file.
    pub destination: String,
    /// Records that were taken, since the start.
    pub delivered: u64,
    /// Requests that failed and were, or are to be, sent again.
    pub retried: u64,
    /// Records that were refused for good, by reason.
    pub lost: BTreeMap<&'static str, u64>,
    /// The latest thing that went wrong, safe to print. Stays when it goes well again.
    pub last_error: Option<String>,
    /// What it is doing now.
    pub state: RouteState,
}

/// What a flush came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushReport {
    /// Routes that had still something to send when the time was up, or that are paused.
    pub pending: Vec<RouteReport>,
}

impl FlushReport {
    /// Whether everything was delivered or refused.
    pub fn is_complete(&self) -> bool {
        self.pending.is_empty()
    }
}

/// A numbered wish for everything to be sent, and how far it was fulfilled.
#[derive(Debug, Default)]
struct Flush {
    wanted: u64,
    /// Wishes up to this one have their answer.
    answered: u64,
    /// The answer: nothing was left.
    drained: bool,
}

/// One route, as both sides see it.
#[derive(Debug)]
pub(crate) struct Line {
    report: Mutex<RouteReport>,
    flush: Mutex<Flush>,
    /// There may be something to do.
    pub(crate) wake: Notify,
}

impl Line {
    pub(crate) fn new(queue: String, destination: String) -> Self {
        let report = RouteReport {
            queue,
            destination,
            delivered: 0,
            retried: 0,
            lost: BTreeMap::new(),
            last_error: None,
            state: RouteState::Idle,
        };
        Self { report: Mutex::new(report), flush: Mutex::default(), wake: Notify::new() }
    }

    /// The report, to read or to change. Never held across an await or a call into foreign code.
    pub(crate) fn report(&self) -> MutexGuard<'_, RouteReport> {
        lock(&self.report)
    }

    /// The flush that waits for an answer.
    pub(crate) fn wanted(&self) -> Option<u64> {
        let flush = lock(&self.flush);
        (flush.wanted > flush.answered).then_some(flush.wanted)
    }
}

/// All routes of a deliverer.
#[derive(Debug, Default)]
pub(crate) struct Board {
    lines: Mutex<Vec<Arc<Line>>>,
    answered: Condvar,
    gate: Mutex<()>,
}

impl Board {
    pub(crate) fn add(&self, line: Arc<Line>) {
        lock(&self.lines).push(line);
    }

    pub(crate) fn lines(&self) -> Vec<Arc<Line>> {
        lock(&self.lines).clone()
    }

    /// Answers the flush `wanted` of a line, and all before it.
    pub(crate) fn answer(&self, line: &Line, wanted: u64, drained: bool) {
        {
            let mut flush = lock(&line.flush);
            flush.answered = flush.answered.max(wanted);
            flush.drained = drained;
        }
        let _gate = lock(&self.gate);
        self.answered.notify_all();
    }

    /// Asks every line to send all it has, and waits for their answers.
    pub(crate) fn flush(&self, deadline: Instant) -> FlushReport {
        let mut waiting: Vec<(Arc<Line>, u64)> = Vec::new();
        for line in self.lines() {
            let wanted = {
                let mut flush = lock(&line.flush);
                flush.wanted += 1;
                flush.wanted
            };
            line.wake.notify_one();
            waiting.push((line, wanted));
        }
        let mut pending = Vec::new();
        let mut gate = lock(&self.gate);
        loop {
            waiting.retain(|(line, wanted)| {
                let flush = lock(&line.flush);
                if flush.answered < *wanted {
                    return true;
                }
                if !flush.drained {
                    pending.push(line.report().clone());
                }
                false
            });
            let left = deadline.saturating_duration_since(Instant::now());
            if waiting.is_empty() || left.is_zero() {
                break;
            }
            gate = self.answered.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        pending.extend(waiting.iter().map(|(line, _)| line.report().clone()));
        FlushReport { pending }
    }
}

/// A panic elsewhere leaves numbers behind that are still the best there are.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
