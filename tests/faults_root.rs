//! The faults that need root, strace, a file system of their own or a clock that lies: `docs/faults.md` has the
//! rows. They take minutes, so they run where `FACTLINE_FAULTS=1` asks for them and say `skipped:` elsewhere;
//! `.ci/run faults` skips none.
//!
//! FACTLINE_SWEEP=full does every call of the sweeps and not every few; FACTLINE_FAULT_ROUNDS,
//! FACTLINE_FAULT_SEED and FACTLINE_FAULT_LENGTH are as in `tests/faults.rs`.
#![cfg(all(feature = "cli", target_os = "linux"))]
// The exemption of tests does not reach their own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/emitter.rs"]
mod emitter;
#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/power.rs"]
mod power;
#[path = "support/program.rs"]
mod program;
#[path = "support/relay.rs"]
mod relay;

#[path = "faults/clock.rs"]
mod clock;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/stall.rs"]
mod stall;
#[path = "faults/sweep.rs"]
mod sweep;

use std::path::{Path, PathBuf};
use std::process::Command;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn seed() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("FACTLINE_FAULT_SEED").unwrap_or(now);
    println!("FACTLINE_FAULT_SEED={seed}");
    seed
}

/// Whether what lasts does so for as long as it is meant to in the worst case, and not only for a moment.
fn full_length() -> bool {
    std::env::var("FACTLINE_FAULT_LENGTH").is_ok_and(|text| text == "full")
}

/// Whether somebody wants to wait for them; says so where nobody does.
fn asked() -> bool {
    let asked = number("FACTLINE_FAULTS").is_some_and(|number| number > 0);
    if !asked {
        println!("skipped: set FACTLINE_FAULTS=1 to have it (it takes its time)");
    }
    asked
}

/// strace that may trace here; says so where there is none.
fn strace() -> bool {
    if !asked() {
        return false;
    }
    let found = Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).output();
    let works = found.is_ok_and(|output| output.status.success());
    if !works {
        println!("skipped: there is no strace, or it may not trace (`apt-get install strace`)");
    }
    works
}

fn is_root() -> bool {
    if !asked() {
        return false;
    }
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: only root can do this");
    }
    root
}

/// A file system of its own size, in memory; gone when it is dropped.
struct Small(tempfile::TempDir);

impl Small {
    /// `None`, and a word about it, where nothing can be mounted.
    fn mount(options: &str) -> Option<Small> {
        if !is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Small(dir));
        }
        println!("skipped: nothing can be mounted here");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all space but `left` bytes. Returns the file that holds it.
    fn fill(&self, left: u64) -> PathBuf {
        use std::io::Write;
        let path = self.path().join("filler");
        let mut filler = std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        while filler.write(&[7; 4096]).is_ok_and(|written| written > 0) {}
        let size = filler.metadata().unwrap().len();
        filler.set_len(size.saturating_sub(left)).unwrap();
        path
    }
}

/// A file system on a disk of its own, which can be damaged and repaired; gone when it is dropped.
struct Looped(tempfile::TempDir);

impl Looped {
    /// `None`, and a word about it, where nothing can be mounted.
    fn mount() -> Option<Looped> {
        if !is_root() {
            return None;
        }
        let disk = Looped(tempfile::tempdir().unwrap());
        std::fs::create_dir(disk.path()).unwrap();
        std::fs::File::create(disk.image()).unwrap().set_len(64 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(disk.image()).output();
        if made.is_ok_and(|output| output.status.success()) && disk.attach() {
            return Some(disk);
        }
        println!("skipped: no ext4 can be mounted from a file here");
        None
    }

    fn attach(&self) -> bool {
        let mount = Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.path()).output();
        mount.is_ok_and(|output| output.status.success())
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("image")
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("disk")
    }

    /// What the kernel does when it finds damage: read-only from now on, also for files that are open for writing.
    fn give_up(&self) {
        let mount = Command::new("mount").args(["-o", "remount,abort"]).arg(self.path()).status().unwrap();
        assert!(mount.success() && std::fs::write(self.path().join("new"), "").is_err(), "not read-only");
    }

    /// As an administrator would.
    fn repair(&self) {
        assert!(Command::new("umount").arg(self.path()).status().unwrap().success());
        Command::new("fsck.ext4").arg("-p").arg(self.image()).output().unwrap();
        assert!(self.attach());
    }
}

impl Drop for Looped {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}
