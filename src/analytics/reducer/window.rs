//! The facts seen lately, so that a fact that comes twice changes nothing.

use std::collections::{HashSet, VecDeque};
use std::io;

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

/// A bounded set of hashes; the oldest is forgotten first.
#[derive(Debug, Default)]
pub(super) struct Window {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Window {
    /// Whether this is new; remembers at most `most`.
    pub fn is_new(&mut self, hash: u64, most: usize) -> bool {
        if !self.known.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > most
            && let Some(old) = self.order.pop_front()
        {
            self.known.remove(&old);
        }
        true
    }
}

struct Hashed(Xxh3);

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tells one fact from another: when and where it happened, and all that it says.
pub(super) fn identity(numbers: &[u64], ids: &[&str], fact: &impl Serialize) -> u64 {
    let mut hash = Hashed(Xxh3::new());
    for id in ids {
        hash.0.update(&(id.len() as u64).to_le_bytes());
        hash.0.update(id.as_bytes());
    }
    for number in numbers {
        hash.0.update(&number.to_le_bytes());
    }
    // Facts are plain values: serialising them can't fail, and if it did, the numbers would still tell.
    let _ = serde_json::to_writer(&mut hash, fact);
    hash.0.digest()
}
