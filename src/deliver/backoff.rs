//! How long to leave a destination alone after it failed.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Doubling waits with jitter, up to a cap, without an end: retrying ends by the bounds of the queue.
///
/// Each wait is between half of its step and all of it, so that many agents which lost the same collector do
/// not come back together (OTLP specification, "All Retryable Errors": exponential back-off with jitter).
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
    random: RandomState,
}

impl Backoff {
    pub(crate) fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, failures: 0, random: RandomState::new() }
    }

    /// The wait after one more failure. `asked` is what the destination asked for (`Retry-After`), which
    /// holds; but one that asks for nothing, again and again, gets our own wait from the second time on.
    pub(crate) fn after_failure(&mut self, asked: Option<Duration>) -> Duration {
        let step = self.first.saturating_mul(1 << self.failures.min(20)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        let own = step / 2 + (step / 2).mul_f64(self.fraction());
        match asked {
            Some(asked) if asked.is_zero() && self.failures > 1 => own,
            Some(asked) => asked,
            None => own,
        }
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether the last attempt failed.
    pub(crate) fn failing(&self) -> bool {
        self.failures > 0
    }

    /// A number in 0..1, from the seed that the standard library draws for every hash map: no reason for a
    /// crate.
    fn fraction(&self) -> f64 {
        let mut hasher = self.random.build_hasher();
        hasher.write_u32(self.failures);
        (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_with_jitter_up_to_the_cap_and_never_end() {
        let mut backoff = Backoff::new(SECOND, 60 * SECOND);
        for failure in 0..10_000_u32 {
            let step = (SECOND * (1 << failure.min(10))).min(60 * SECOND);
            let wait = backoff.after_failure(None);
            assert!(wait >= step / 2 && wait <= step, "{failure} {wait:?}");
        }
        backoff.reset();
        assert!(!backoff.failing());
        assert!(backoff.after_failure(None) <= SECOND);
    }

    #[test]
    fn two_destinations_do_not_wait_in_step() {
        let waits = || -> Vec<_> {
            let mut backoff = Backoff::new(SECOND, 60 * SECOND);
            (0..8).map(|_| backoff.after_failure(None)).collect()
        };
        assert_ne!(waits(), waits());
    }

    #[test]
    fn what_the_destination_asks_for_holds_but_nothing_at_all_only_once() {
        let mut backoff = Backoff::new(SECOND, 60 * SECOND);
        assert_eq!(backoff.after_failure(Some(Duration::ZERO)), Duration::ZERO);
        assert!(backoff.after_failure(Some(Duration::ZERO)) >= SECOND);
        assert_eq!(backoff.after_failure(Some(300 * SECOND)), 300 * SECOND);
    }
}
