//! Bytes written one after the other, as a `Vec` has them, but in memory that holds something already.
//!
//! A piece whose length is only known afterwards is written as a whole chunk of fixed size, of which only the first
//! bytes count. In a `Vec` the chunk would have to be zeroed first, which costs as much as all that is written.

use std::ops::Deref;

/// Grows by itself, and keeps its memory when it is cleared.
#[derive(Debug, Default)]
pub(super) struct Out {
    memory: Vec<u8>,
    len: usize,
}

impl Out {
    pub const fn new() -> Out {
        Out { memory: Vec::new(), len: 0 }
    }

    /// What it can hold before it has to grow.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Lets `fill` write into the next `N` bytes and say how many of them count.
    #[inline]
    pub fn chunk<const N: usize>(&mut self, fill: impl FnOnce(&mut [u8; N]) -> usize) {
        if self.memory.len() - self.len < N {
            self.grow(N);
        }
        if let Some(chunk) = self.memory.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut) {
            self.len += fill(chunk).min(N);
        }
    }

    #[inline]
    pub fn push(&mut self, byte: u8) {
        self.chunk(|place| {
            *place = [byte];
            1
        });
    }

    /// The same as [`extend_from_slice`](Out::extend_from_slice), for what is always of one length.
    #[inline]
    pub fn extend<const N: usize>(&mut self, bytes: [u8; N]) {
        self.chunk(|place| {
            *place = bytes;
            N
        });
    }

    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        if self.memory.len() - self.len < bytes.len() {
            self.grow(bytes.len());
        }
        if let Some(place) = self.memory.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    /// Takes bytes out from the middle.
    pub fn remove(&mut self, range: std::ops::Range<usize>) {
        if range.start <= range.end && range.end <= self.len {
            self.memory.copy_within(range.end..self.len, range.start);
            self.len -= range.len();
        }
    }

    /// What was written first, to be changed.
    #[inline]
    pub fn first_mut<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.memory.get_mut(..self.len).and_then(<[u8]>::first_chunk_mut)
    }

    /// What was written, in memory of that length.
    pub fn into_vec(mut self) -> Vec<u8> {
        self.memory.truncate(self.len);
        self.memory
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let len = (self.len + more).max(self.memory.len() * 2).max(256);
        self.memory.resize(len, 0);
    }
}

impl Deref for Out {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.memory.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_counts_is_there_and_it_is_in_order_whatever_was_there_before() {
        let mut out = Out::new();
        for _ in 0..3 {
            out.clear();
            let mut expected = Vec::new();
            for n in 0..200u8 {
                out.chunk::<32>(|place| {
                    place.fill(n);
                    usize::from(n) % 33
                });
                expected.extend(vec![n; usize::from(n) % 33]);
                out.push(n);
                out.extend([n, 1, 2]);
                out.extend_from_slice(&vec![n; usize::from(n)]);
                expected.extend([n, n, 1, 2]);
                expected.extend(vec![n; usize::from(n)]);
            }
            out.remove(5..9);
            expected.drain(5..9);
            assert_eq!(*out, *expected);
            *out.first_mut::<4>().unwrap() = [9; 4];
            assert!(out.starts_with(&[9; 4]) && out[4..] == expected[4..]);
        }
        assert!(out.first_mut::<1_000_000>().is_none());
        out.remove(1..1_000_000);
        let whole = out.to_vec();
        assert_eq!(out.into_vec(), whole);
    }
}
