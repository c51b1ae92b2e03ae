//! What whoever runs the tap may want to know, said in a bounded number of lines.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Address;

/// After so many, only what changes is said: clients can cause as many as they like.
const MOST: u32 = 1000;

pub(super) struct Notices {
    say: Box<dyn Fn(&str) + Send + Sync>,
    left: AtomicU32,
    /// How many clients found the server away since it was there last.
    away: Mutex<u64>,
}

impl Notices {
    pub(super) fn new(say: Box<dyn Fn(&str) + Send + Sync>) -> Notices {
        Notices { say, left: AtomicU32::new(MOST), away: Mutex::new(0) }
    }

    pub(super) fn say(&self, what: &str) {
        let take = |left: u32| left.checked_sub(1);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(1) => (self.say)(&format!("{what} (no more is said about clients)")),
            Ok(_) => (self.say)(what),
            Err(_) => {}
        }
    }

    /// The server could not be reached. Said once, until it can.
    pub(super) fn away(&self, server: &Address, error: &io::Error) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        *away += 1;
        if *away == 1 {
            (self.say)(&format!(
                "no server at {server} ({error}): clients find their connection closed until there is one; start \
                 it, or check --connect"
            ));
        }
    }

    pub(super) fn there(&self, server: &Address) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let count = std::mem::take(&mut *away);
        if count > 0 {
            (self.say)(&format!(
                "the server at {server} is there again; {count} connections were closed meanwhile"
            ));
        }
    }
}
