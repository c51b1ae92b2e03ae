//! Where the outbox lies: for root a small file system in memory that can be full.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A frame's header, and the file's.
const FRAME: usize = 36;
const FILE: usize = 128;

pub struct Disk {
    dir: TempDir,
    outbox: PathBuf,
    small: bool,
}

impl Disk {
    pub fn new() -> Result<Disk, Box<dyn Error>> {
        let dir = tempfile::tempdir()?;
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=192m", "tmpfs"]).arg(dir.path()).output();
        let small = mount.is_ok_and(|output| output.status.success());
        if !small {
            println!("without root: the disk is never full");
        }
        let outbox = dir.path().join("outbox");
        Ok(Disk { dir, outbox, small })
    }

    pub fn outbox(&self) -> &Path {
        &self.outbox
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("filler")
    }

    /// Takes all the space there is. False: that can't be done here.
    pub fn fill(&self) -> bool {
        if !self.small {
            return false;
        }
        let Ok(mut filler) = fs::File::create(self.filler()) else { return false };
        let block = vec![7; 1 << 20];
        while filler.write(&block).is_ok_and(|written| written > 0) {}
        true
    }

    pub fn give_back(&self) {
        let _ = fs::remove_file(self.filler());
    }

    /// Flips a bit in a record of a process that is dead, which is not its queue's last: the last one is only missed
    /// when something follows it. Takes the ring away, which would heal it. Says whether there was one.
    pub fn damage(&self, process: &str, random: u64) -> Result<bool, Box<dyn Error>> {
        let lanes = self.outbox.join("lanes");
        for entry in fs::read_dir(&lanes)? {
            let lane = entry?.path();
            let name = lane.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if name.split('-').nth(1) != Some(process) {
                continue;
            }
            let Ok(files) = fs::read_dir(lane.join("logs")) else { return Ok(false) };
            let mut segments: Vec<PathBuf> = files.flatten().map(|it| it.path()).collect();
            segments.retain(|path| path.extension().is_some_and(|it| it == "seg"));
            segments.sort();
            let Some(path) = segments.first() else { return Ok(false) };
            let mut bytes = fs::read(path)?;
            let places = frames(&bytes);
            // Behind the two headers of the segment, and before the last two records.
            let Some(usable) = places.len().checked_sub(5).filter(|usable| *usable > 0) else {
                return Ok(false);
            };
            let at = places[2 + random as usize % usable] + (random >> 32) as usize % FRAME;
            bytes[at] ^= 1 << (random % 8);
            fs::write(path, bytes)?;
            return Ok(true);
        }
        Ok(false)
    }
}

/// Where frames begin, as their lengths lead from one to the next.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut all) = (FILE, Vec::new());
    while bytes.get(at..at + 4) == Some(&[0xF5, 0x9C, 0xC1, 0xFE]) {
        let Some(length) = bytes.get(at + 4..at + 8).and_then(|four| four.try_into().ok()) else { break };
        all.push(at);
        at += FRAME + u32::from_le_bytes(length) as usize;
    }
    all
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.small {
            let _ = Command::new("umount").arg("-l").arg(self.dir.path()).output();
        }
    }
}
