//! The mapped file of a ring: the only `unsafe` lines of the crate.

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::{MmapOptions, MmapRaw};

/// A mapping of a whole file, which one thread may fill in one place while another reads elsewhere.
///
/// Why the file is ours alone: this process has just created it (`O_EXCL`, mode 0600) in a directory that only
/// its user may enter, whose lane it holds locked; every other process of factline reads a ring only after it
/// got that lock, or read-only through a descriptor, never through a mapping. What remains is a user who
/// truncates the file of a running process by hand.
///
/// Why nobody reads what is being written: `Ring` writes only into free space (from its head to its tail in the
/// next lap), by `&mut` and so under its owner's lock, and reads only what is not free; a `Window` reads what
/// lies between where it is and where it ends, which `Ring` does not free before the window came back.
pub(super) struct Mapped(MmapRaw);

impl Mapped {
    pub(super) fn new(file: &File) -> io::Result<Self> {
        MmapOptions::new().populate().map_raw(file).map(Mapped)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn holds(&self, range: &Range<usize>) -> bool {
        range.start <= range.end && range.end <= self.0.len()
    }

    /// Bytes of frames; nothing where the range does not lie in the file.
    #[allow(unsafe_code)]
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        if !self.holds(&range) {
            return &[];
        }
        // SAFETY: inside the mapping, which lives as long as `self`; nobody writes there, see above.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(range.start), range.len()) }
    }

    /// Free space, to be filled; nothing where the range does not lie in the file. Only for `Ring`, for the
    /// ranges it says are free.
    #[allow(unsafe_code)]
    #[allow(clippy::mut_from_ref)] // What makes it exclusive is the range, not the whole.
    pub(super) fn free(&self, range: Range<usize>) -> &mut [u8] {
        if !self.holds(&range) {
            return &mut [];
        }
        // SAFETY: inside the mapping, which lives as long as `self`; nobody else looks at free space, see above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().add(range.start), range.len()) }
    }
}
