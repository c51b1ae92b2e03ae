//! Lines of a file, one at a time, within a bound: a longer one is skipped without ever being held.

use std::io::{self, BufRead, BufReader, Read};

const BUFFER: usize = 64 * 1024;

/// A line that was long is not kept beyond this.
const KEPT_CAPACITY: usize = 1024 * 1024;

/// What [`Reader::advance`] came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A line; `complete` when a newline ended it.
    Line { complete: bool },
    /// A line that is longer than the limit.
    Oversized,
    /// The end of the file.
    End,
}

/// A file, line by line.
pub(super) struct Reader<R> {
    from: BufReader<R>,
    limit: usize,
    line: Vec<u8>,
    number: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(from: R, limit: usize) -> Reader<R> {
        Reader { from: BufReader::with_capacity(BUFFER, from), limit, line: Vec::new(), number: 0 }
    }

    /// The number of the current line, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The current line, without its newline.
    pub(super) fn line(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(&self.line)
    }

    /// Goes to the next line.
    pub(super) fn advance(&mut self) -> io::Result<Next> {
        self.line.clear();
        self.line.shrink_to(KEPT_CAPACITY);
        // One more for the newline, and one more to see that it is too long.
        let bound = self.limit as u64 + 2;
        let read = (&mut self.from).take(bound).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(Next::End);
        }
        self.number += 1;
        let complete = self.line.ends_with(b"\n");
        if self.line().len() <= self.limit {
            return Ok(Next::Line { complete });
        }
        if !complete {
            self.from.skip_until(b'\n')?;
        }
        self.line = Vec::new();
        Ok(Next::Oversized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], limit: usize) -> Vec<(u64, Next, Vec<u8>)> {
        let mut reader = Reader::new(text, limit);
        let mut all = Vec::new();
        loop {
            match reader.advance().unwrap() {
                Next::End => return all,
                next => all.push((reader.number(), next, reader.line().to_vec())),
            }
        }
    }

    #[test]
    fn lines_at_and_over_the_limit() {
        let found = read(b"abc\nabcd\nabcde\n\nabcdefgh\nab", 4);
        let line = |number, text: &[u8], complete| (number, Next::Line { complete }, text.to_vec());
        let over = |number| (number, Next::Oversized, vec![]);
        let expected = [
            line(1, b"abc", true),
            line(2, b"abcd", true),
            over(3),
            line(4, b"", true),
            over(5),
            line(6, b"ab", false),
        ];
        assert_eq!(found, expected);
        assert_eq!(read(b"abcdefgh", 4), [over(1)]);
        assert_eq!(read(b"", 4), []);
    }

    #[test]
    fn a_long_line_is_not_held() {
        let mut reader = Reader::new(io::repeat(b'x').take(200 * 1024 * 1024), 1024);
        assert_eq!(reader.advance().unwrap(), Next::Oversized);
        assert!(reader.line.capacity() < 4096);
        assert_eq!(reader.advance().unwrap(), Next::End);
    }
}
