//! Files of JSON lines, appended to by any number of processes, rotated by size.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

/// How big the files of one destination may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileBounds {
    /// Bytes in one file. A longer line gets a file of its own.
    pub bytes: u64,
    /// Files, the current one included; the oldest is removed. At least 1.
    pub files: u32,
}

impl Default for FileBounds {
    /// 256 MiB, 4 files.
    fn default() -> Self {
        Self { bytes: 256 << 20, files: 4 }
    }
}

/// `<name>.jsonl`, and `<name>.1.jsonl` and so on for the files before it.
pub(crate) struct FileSink {
    path: PathBuf,
    bounds: FileBounds,
    open: Option<File>,
}

impl FileSink {
    pub(crate) fn new(path: PathBuf, bounds: FileBounds) -> Self {
        Self { path, bounds, open: None }
    }

    /// Appends whole lines. When this returns, they are on the disk.
    ///
    /// Blocks while another process writes to the file. Nothing of a failed write stays, unless the process
    /// dies in it; a line cut short that way is ended by the next write, so that it spoils no other.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let result = self.try_append(lines);
        if result.is_err() {
            // Closing it also gives up the lock, wherever the error came from.
            self.open = None;
        }
        result
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        let (mut file, mut length) = self.locked()?;
        if length > 0 && length.saturating_add(lines.len() as u64) > self.bounds.bytes {
            self.rotate()?;
            // The lock on the old file is still held, so that nobody else rotates meanwhile.
            let old = file;
            self.open = None;
            (file, length) = self.locked()?;
            drop(old);
        }
        let result = write(&mut file, length, lines);
        if result.is_err() {
            // The error to report is that of the write.
            let _ = file.set_len(length);
        }
        // The lock belongs to the open file, of which `self.open` is another handle: dropping ours would keep
        // it.
        let _ = flock(&file, FlockOperation::Unlock);
        result
    }

    /// The current file, locked, and its length.
    fn locked(&mut self) -> io::Result<(File, u64)> {
        loop {
            let file = match &self.open {
                Some(file) => file.try_clone()?,
                None => {
                    let file = self.create()?;
                    self.open = Some(file.try_clone()?);
                    file
                }
            };
            lock(&file)?;
            let ours = file.metadata()?;
            // Another process may have rotated the file, or a person removed it.
            match fs::symlink_metadata(self.path(0)) {
                Ok(theirs) if (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) => {
                    return Ok((file, ours.len()));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let _ = flock(&file, FlockOperation::Unlock);
            self.open = None;
        }
    }

    fn create(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.dir())?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(self.path(0))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        self.sync_dir()?;
        Ok(file)
    }

    fn rotate(&self) -> io::Result<()> {
        let last = self.bounds.files.max(1) - 1;
        if last == 0 {
            fs::remove_file(self.path(0))?;
        }
        for number in (0..last).rev() {
            match fs::rename(self.path(number), self.path(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.sync_dir()
    }

    /// A new or renamed file is only found after a power loss when its directory was synced too.
    fn sync_dir(&self) -> io::Result<()> {
        File::open(self.dir())?.sync_all()
    }

    fn dir(&self) -> &Path {
        match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        }
    }

    fn path(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = self.path.file_stem().unwrap_or_default().to_owned();
        name.push(format!(".{number}"));
        if let Some(extension) = self.path.extension() {
            name.push(".");
            name.push(extension);
        }
        self.path.with_file_name(name)
    }
}

fn write(file: &mut File, length: u64, lines: &[u8]) -> io::Result<()> {
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    file.write_all(lines)?;
    file.sync_data()
}

/// Takes the lock, but does not wait for ever: its owner may be a stopped process. On a thread of its own.
fn lock(file: &File) -> io::Result<()> {
    const TRIES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "another process holds the lock of the file"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn sink(dir: &Path, bytes: u64, files: u32) -> FileSink {
        FileSink::new(dir.join("otlp/traces.jsonl"), FileBounds { bytes, files })
    }

    fn read(dir: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(dir.join("otlp")).unwrap().map(Result::unwrap);
        let mut files: Vec<_> = entries
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn files_are_private_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        sink(dir.path(), 100, 4).append(b"one\n").unwrap();
        sink(dir.path(), 100, 4).append(b"two\n").unwrap();
        assert_eq!(read(dir.path()), [("traces.jsonl".into(), "one\ntwo\n".into())]);
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(dir.path().join("otlp/traces.jsonl")), 0o600);
        assert_eq!(mode(dir.path().join("otlp")), 0o700);
    }

    #[test]
    fn a_full_file_is_rotated_and_the_oldest_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = sink(dir.path(), 8, 3);
        for line in ["aaa\n", "bbb\n", "ccc\n", "a long line of its own\n", "ddd\n", "eee\n"] {
            sink.append(line.as_bytes()).unwrap();
        }
        assert_eq!(
            read(dir.path()),
            [
                ("traces.1.jsonl".into(), "a long line of its own\n".into()),
                ("traces.2.jsonl".into(), "ccc\n".into()),
                ("traces.jsonl".into(), "ddd\neee\n".into()),
            ]
        );
    }

    #[test]
    fn one_file_alone_starts_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = sink(dir.path(), 8, 1);
        for line in [b"aaa\n", b"bbb\n", b"ccc\n"] {
            sink.append(line).unwrap();
        }
        assert_eq!(read(dir.path()), [("traces.jsonl".into(), "ccc\n".into())]);
    }

    #[test]
    fn two_writers_lose_nothing_when_one_of_them_rotates() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: char| {
            let mut sink = sink(dir.path(), 200, 1000);
            move || (0..100).for_each(|n| sink.append(format!("{name}{n}\n").as_bytes()).unwrap())
        };
        let (a, b) = (write('a'), write('b'));
        std::thread::scope(|scope| {
            scope.spawn(a);
            scope.spawn(b);
        });
        let files = read(dir.path());
        assert!(files.len() > 2 && files.iter().all(|(_, text)| text.len() <= 200));
        let mut lines: Vec<_> = files.iter().flat_map(|(_, text)| text.lines()).collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), 200);
    }

    #[test]
    fn a_line_that_a_crash_cut_short_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        sink(dir.path(), 100, 4).append(b"{\"torn").unwrap();
        sink(dir.path(), 100, 4).append(b"{}\n").unwrap();
        assert_eq!(read(dir.path())[0].1, "{\"torn\n{}\n");
    }

    #[test]
    fn a_removed_file_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = sink(dir.path(), 100, 4);
        sink.append(b"one\n").unwrap();
        fs::remove_dir_all(dir.path().join("otlp")).unwrap();
        sink.append(b"two\n").unwrap();
        assert_eq!(read(dir.path())[0].1, "two\n");
    }

    #[test]
    fn a_symlink_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("otlp")).unwrap();
        symlink("/dev/null", dir.path().join("otlp/traces.jsonl")).unwrap();
        assert!(sink(dir.path(), 100, 4).append(b"x\n").is_err());
    }

    #[test]
    fn a_lock_that_is_never_released_is_an_error_and_not_a_wait_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        sink(dir.path(), 100, 4).append(b"one\n").unwrap();
        let other = File::open(dir.path().join("otlp/traces.jsonl")).unwrap();
        flock(&other, FlockOperation::LockExclusive).unwrap();
        let error = sink(dir.path(), 100, 4).append(b"two\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
