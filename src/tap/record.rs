//! `tap --record FILE`: an observer that writes a transcript (the format is in [`crate::transcript`]).
//!
//! Beside the transcript lie the raw bytes of both directions (`client.raw`, `server.raw`, `client.2.raw` for
//! connection 2, ...), at their own positions, so that what is no JSON object or too long to be a message can be
//! replayed as well. Of a WebSocket they hold the messages, each as one line. Existing files are never touched; all are 0600, because a session holds everything that was
//! said in it. A failing disk ends the recording, at a whole line, and nothing else: [`Recording::error`] has it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;

use super::queue::now_us;
use super::{Line, Observer, Seen};
use crate::protocol::{Ended, Sender, Transport};

/// How much is collected before it is written in any case.
const FLUSH_BYTES: usize = 64 * 1024;

/// The recording could not be made.
#[derive(Debug)]
pub struct RecordError {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match self.source.kind() {
            io::ErrorKind::AlreadyExists => write!(
                f,
                "can't record to {path:?}: it exists, and a recording overwrites nothing; \
                 give a file in a new directory, one per recording"
            ),
            io::ErrorKind::NotFound => {
                write!(f, "can't record to {path:?}: its directory does not exist; create it first")
            }
            _ => write!(
                f,
                "can't record to {path:?}: {}; give a file in a directory that this user may write to",
                self.source
            ),
        }
    }
}

impl std::error::Error for RecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A transcript being written: ask it, from any thread, how it goes.
#[derive(Clone, Debug)]
pub struct Recording {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    out: Out,
    error: Option<String>,
}

/// The observer that writes it.
#[derive(Debug)]
pub struct Recorder {
    recording: Recording,
    dir: PathBuf,
    /// The raw files of the first connection, which are made before it is there.
    first: Option<[Out; 2]>,
    raw: BTreeMap<u32, [Out; 2]>,
}

impl Recording {
    /// What ended the recording before its time, if anything did: then the transcript ends at an earlier line.
    pub fn error(&self) -> Option<String> {
        self.lock().error.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it unless the recording has failed already; a failure is kept, and ends the recording.
    fn attempt(&self, write: impl FnOnce(&mut Out) -> io::Result<()>) {
        let mut state = self.lock();
        if state.error.is_none() {
            state.error = write(&mut state.out).err().map(|error| error.to_string());
        }
    }
}

impl Recorder {
    /// Begins a transcript at that path, and the raw files of its first connection in the same directory; those of
    /// further ones as they come.
    ///
    /// # Errors
    ///
    /// The transcript or a raw file of any connection exists, or they can't be created.
    pub fn create(path: &Path) -> Result<Recorder, RecordError> {
        let out = Out::create(path)?;
        let dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let first = raw_left_in(&dir).and_then(|()| raw_files(&dir, 1)).inspect_err(|_| {
            // Ours, and just made: the next attempt must not stumble over it.
            let _ = std::fs::remove_file(path);
        })?;
        let recording = Recording { state: Arc::new(Mutex::new(State { out, error: None })) };
        Ok(Recorder { recording, dir, first: Some(first), raw: BTreeMap::new() })
    }

    /// The recording; keep a clone to ask it for its error at the end.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    fn write(&self, line: &[u8], flush: bool) {
        self.recording.attempt(|out| {
            out.append(line)?;
            out.append(b"\n")?;
            if flush || out.pending.len() >= FLUSH_BYTES { out.flush() } else { Ok(()) }
        });
    }

    fn flush(&mut self) {
        // The raw files first: a line must not point at bytes that are not there yet.
        let raw = self.raw.values_mut().flatten();
        self.recording.attempt(|out| {
            let flushed = raw.map(Out::flush).fold(Ok(()), io::Result::and);
            flushed.and(out.flush())
        });
    }
}

impl Observer for Recorder {
    fn open(&mut self, conn: u32, transport: Transport, t_us: u64) {
        let raw = self.first.take().filter(|_| conn == 1).map_or_else(|| raw_files(&self.dir, conn), Ok);
        match raw {
            Ok(raw) => drop(self.raw.insert(conn, raw)),
            Err(error) => self.recording.attempt(|_| Err(io::Error::other(error.to_string()))),
        }
        let line = format!(r#"{{"t_us":{t_us},"conn":{conn},"open":"{}"}}"#, transport.as_str());
        self.write(line.as_bytes(), true);
    }

    fn bytes(&mut self, conn: u32, dir: Sender, off: u64, bytes: &[u8]) {
        let Some(raw) = self.raw.get_mut(&conn) else { return };
        let raw = &mut raw[super::index(dir)];
        self.recording.attempt(|_| {
            raw.seek(off)?;
            raw.append(bytes)?;
            if raw.pending.len() >= FLUSH_BYTES { raw.flush() } else { Ok(()) }
        });
    }

    fn line(&mut self, seen: Seen<'_>) {
        let Seen { conn, dir, t_us, off, len, line } = seen;
        let message = match line {
            Line::Whole(line) => object(line),
            Line::Oversized { .. } => Err("too long"),
        };
        let dir = dir.as_str();
        let head = format!(r#"{{"t_us":{t_us},"dir":"{dir}","conn":{conn},"off":{off},"len":{len},"msg":"#);
        let line = match message {
            Ok(message) => [&head, &*message, "}"].concat(),
            Err(why) => format!(r#"{head}null,"unparsed":"{why}"}}"#),
        };
        self.write(line.as_bytes(), false);
    }

    fn missed(&mut self, conn: u32, dir: Sender, chunks: u64, bytes: u64) {
        // No position: the raw file has a hole there, whose zeros nobody sent.
        let (t_us, dir) = (now_us(), dir.as_str());
        let why = format!("not recorded: {bytes} bytes in {chunks} reads");
        let line = format!(r#"{{"t_us":{t_us},"dir":"{dir}","conn":{conn},"msg":null,"unparsed":"{why}"}}"#);
        self.write(line.as_bytes(), false);
    }

    fn end(&mut self, conn: u32, t_us: u64, end: Ended) {
        let line = format!(r#"{{"t_us":{t_us},"conn":{conn},"end":"{}"}}"#, end.as_str());
        self.write(line.as_bytes(), false);
        self.flush();
        self.raw.remove(&conn);
    }

    fn idle(&mut self) {
        self.flush();
    }
}

fn raw_files(dir: &Path, conn: u32) -> Result<[Out; 2], RecordError> {
    let raw = |sender| Out::create(&dir.join(raw_name(sender, conn)));
    Ok([raw(Sender::Client)?, raw(Sender::Server)?])
}

/// Fails where an earlier recording left raw files that a later connection of this one would meet.
fn raw_left_in(dir: &Path) -> Result<(), RecordError> {
    // Without a name the directory is the working one.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let entries = std::fs::read_dir(dir).map_err(|source| RecordError { path: dir.into(), source })?;
    let left = entries.filter_map(Result::ok).map(|entry| entry.file_name()).find(|name| {
        let name = name.as_encoded_bytes();
        (name.starts_with(b"client.") || name.starts_with(b"server.")) && name.ends_with(b".raw")
    });
    left.map_or(Ok(()), |name| {
        Err(RecordError { path: dir.join(name), source: io::ErrorKind::AlreadyExists.into() })
    })
}

/// The name of the raw file of that direction and connection: `client.raw`, `server.raw`, `client.2.raw`, ...
///
/// Made of nothing else, so that no transcript can point anywhere else.
pub fn raw_name(dir: Sender, conn: u32) -> String {
    let dir = dir.as_str();
    if conn == 1 { format!("{dir}.raw") } else { format!("{dir}.{conn}.raw") }
}

/// The text of a line that is one JSON object, without the white space around it, as one line.
fn object(line: &[u8]) -> Result<Cow<'_, str>, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
    let message: &RawValue = serde_json::from_str(text).map_err(|_| "not JSON")?;
    let message = message.get();
    match message.starts_with('{') {
        false => Err("not a JSON object"),
        // Within JSON it is white space and nothing else; but some readers end a line there.
        true if message.contains('\r') => Ok(message.replace('\r', " ").into()),
        true => Ok(message.into()),
    }
}

/// A file that is appended to in large writes, and left at a whole write when one fails.
#[derive(Debug)]
struct Out {
    file: File,
    pending: Vec<u8>,
    /// Where the pending bytes belong.
    written: u64,
}

impl Out {
    fn create(path: &Path) -> Result<Out, RecordError> {
        let failed = |source| RecordError { path: path.into(), source };
        let options = OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
        let file = options.open(path).map_err(failed)?;
        // Also where the umask would have taken our own right to read it.
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Out { file, pending: Vec::new(), written: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// The next byte belongs there, possibly after a hole.
    fn seek(&mut self, position: u64) -> io::Result<()> {
        if position == self.written + self.pending.len() as u64 {
            return Ok(());
        }
        self.flush()?;
        self.written = self.file.seek(SeekFrom::Start(position))?;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.write_all(&self.pending) {
            // What was pending are whole lines, so cutting a torn write off leaves whole lines.
            let _ = self.file.set_len(self.written);
            return Err(error);
        }
        self.written += self.pending.len() as u64;
        self.pending.clear();
        // One long line must not be paid for until the end.
        self.pending.shrink_to(2 * FLUSH_BYTES);
        Ok(())
    }
}
