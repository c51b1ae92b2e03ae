//! Content that may not be kept any more: its records are overwritten where they lie.

use std::io;
use std::os::unix::fs::FileExt as _;

use super::frame::{FLAG_CONTENT, Meta, kind};
use super::lane::Lane;
use super::place;
use super::queue::lock;
use super::record::Loss;
use super::scan::{Found, Scan};

impl Lane {
    /// Overwrites every record of this lane that carries content, and says how many there were. Each becomes a frame
    /// that says a record was purged, so that readers count it as lost. To be called before there are readers; a crash
    /// in the middle leaves one damaged frame.
    ///
    /// What destinations refused (`dead.seg`) carries no such mark and stays.
    ///
    /// # Errors
    /// The disk's.
    pub fn withdraw_content(&self) -> io::Result<u64> {
        let _nobody_writes = lock(&self.0.store);
        let mut withdrawn = 0;
        for queue in &self.0.names {
            let dir = self.0.dir.join(queue);
            for number in place::segments(&dir)? {
                let path = dir.join(place::segment_name(number));
                let mut scan = match Scan::open(&path) {
                    Err(e) if e.kind() == io::ErrorKind::InvalidData => continue,
                    scan => scan?,
                };
                let seal = scan.seal();
                let mut file = None;
                loop {
                    let (at, meta, len) = match scan.next()? {
                        Found::End => break,
                        Found::Frame { at, meta, len } if meta.flags & FLAG_CONTENT != 0 => (at, meta, len),
                        _ => continue,
                    };
                    let mut lost = vec![0; len];
                    let said = [&[Loss::Purged as u8][..], &1_u64.to_le_bytes()].concat();
                    for (to, from) in lost.iter_mut().zip(said) {
                        *to = from;
                    }
                    let mut frame = Vec::new();
                    seal.push(&mut frame, at, Meta { kind: kind::LOST, flags: 0, ..meta }, &lost);
                    if file.is_none() {
                        file = Some(place::open_or_create(&path)?);
                    }
                    if let Some(file) = &file {
                        file.write_all_at(&frame, at)?;
                    }
                    withdrawn += 1;
                }
                if let Some(file) = file {
                    file.sync_data()?;
                }
            }
        }
        Ok(withdrawn)
    }
}
