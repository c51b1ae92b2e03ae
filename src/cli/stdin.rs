//! Standard input that stops waiting when the user asks to stop.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How soon a wish to stop is seen.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Standard input, which ends when `stopped` is set: a signal alone would not end a read that waits.
pub(super) struct Stdin {
    stopped: Arc<AtomicBool>,
}

impl Stdin {
    pub fn new(stopped: Arc<AtomicBool>) -> Stdin {
        Stdin { stopped }
    }
}

impl Read for Stdin {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // Straight from the descriptor: what a buffer holds, polling does not see.
        let stdin = rustix::stdio::stdin();
        while !self.stopped.load(Ordering::Relaxed) {
            let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
            match poll(&mut ready, Some(&LOOK)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(rustix::io::read(stdin, into)?),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }
}
