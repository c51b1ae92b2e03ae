//! Moves what waits in one pipe into another, page by page. Nothing is copied but what the observer gets.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// A pipe of our own, through which the observer's copy comes. It is empty but for moments.
#[cfg(target_os = "linux")]
pub(super) struct Pages {
    copies: std::io::PipeReader,
    into: std::io::PipeWriter,
}

#[cfg(target_os = "linux")]
impl Pages {
    /// None where one of both is no pipe, no third one can be had, or somebody forbids the calls.
    pub(super) fn between(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Option<Pages> {
        use rustix::fs::{FileType, fstat};
        let is_pipe = |fd| fstat(fd).is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::Fifo);
        if !is_pipe(from) || !is_pipe(to) {
            return None;
        }
        let mut pages = std::io::pipe().map(|(copies, into)| Pages { copies, into }).ok()?;
        // Of nothing: whether they may be called is known before anything depends on it.
        pages.copy(from, 0).ok().and(Self::advance(from, to, 0).ok())?;
        Some(pages)
    }

    /// A copy of at most `most` of the bytes that wait in `from`; they stay there. Empty: no more will come.
    pub(super) fn copy(&mut self, from: BorrowedFd<'_>, most: usize) -> Result<Vec<u8>, Errno> {
        use rustix::{buffer::spare_capacity, pipe};
        let shown = pipe::tee(from, &self.into, most, pipe::SpliceFlags::NONBLOCK)?;
        let mut copy = Vec::with_capacity(shown);
        while copy.len() < shown {
            match rustix::io::read(&self.copies, spare_capacity(&mut copy)) {
                Err(Errno::INTR) => {}
                read => {
                    read?;
                }
            }
        }
        Ok(copy)
    }

    /// Moves at most `most` bytes; waits for the first of them, and for room. 0: no more will come.
    pub(super) fn advance(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
        rustix::pipe::splice(from, None, to, None, most, rustix::pipe::SpliceFlags::empty())
    }
}

/// Elsewhere pages stay where they are.
#[cfg(not(target_os = "linux"))]
pub(super) enum Pages {}

#[cfg(not(target_os = "linux"))]
impl Pages {
    pub(super) fn between(_: BorrowedFd<'_>, _: BorrowedFd<'_>) -> Option<Pages> {
        None
    }

    pub(super) fn copy(&mut self, _: BorrowedFd<'_>, _: usize) -> Result<Vec<u8>, Errno> {
        match *self {}
    }

    pub(super) fn advance(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: usize) -> Result<usize, Errno> {
        Err(Errno::NOSYS)
    }
}
