//! Events in SQLite: one writer on a thread of its own, which commits before a request is answered.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use xxhash_rust::xxh3::xxh3_128;

/// Requests that are committed together, at most.
const TOGETHER: usize = 64;
/// Rows of `rejected` that are kept: they tell what is wrong, and must not fill a disk.
const REJECTED_KEPT: i64 = 10_000;
/// How long to wait for another process that has the database locked.
const BUSY: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    received_at_ms INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    thread_id TEXT,
    session_id TEXT,
    turn_id TEXT,
    product_client_id TEXT,
    originator TEXT,
    duplicates INTEGER NOT NULL DEFAULT 0,
    event TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_by_type ON events (event_type, received_at_ms);
CREATE INDEX IF NOT EXISTS events_by_thread ON events (thread_id);
CREATE TABLE IF NOT EXISTS rejected (
    id INTEGER PRIMARY KEY,
    received_at_ms INTEGER NOT NULL,
    event_type TEXT,
    reason TEXT NOT NULL
) STRICT;
PRAGMA user_version = 1;
";

/// A database that can't be used.
#[derive(Debug)]
pub enum StoreError {
    /// Its file or directory.
    File(io::Error),
    /// SQLite's words.
    Database(rusqlite::Error),
    /// It was written by a later version, with this number of the schema.
    Newer(i64),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Database(error) => error.fmt(f),
            Self::Newer(version) => write!(f, "written by a later version of factline (schema {version})"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// A valid event on its way to a row. As text, because parsed JSON takes up to thirty times the room, and many
/// requests may wait for the writer.
pub(super) struct Event {
    event_type: String,
    thread_id: Option<String>,
    session_id: Option<String>,
    turn_id: Option<String>,
    product: Option<String>,
    text: String,
}

impl Event {
    /// With the canonical name of its product.
    pub(super) fn new(event: &Value, product: Option<String>) -> Self {
        let of_params = |name: &str| Some(event.get("event_params")?.get(name)?.as_str()?.to_owned());
        Self {
            event_type: event.get("event_type").and_then(Value::as_str).unwrap_or_default().to_owned(),
            thread_id: of_params("thread_id"),
            session_id: of_params("session_id"),
            turn_id: of_params("turn_id"),
            product,
            // Members are sorted, so that equal events have equal texts.
            text: event.to_string(),
        }
    }
}

/// What a request asks to be kept.
pub(super) struct Job {
    pub(super) received_at_ms: u64,
    pub(super) originator: Option<String>,
    pub(super) events: Vec<Event>,
    /// Type, if there was one, and reason.
    pub(super) rejected: Vec<(Option<String>, String)>,
    /// Gets the number of events that were there already, once all is on the disk.
    pub(super) done: oneshot::Sender<Result<usize, String>>,
}

/// An open database.
pub(super) struct Store(Connection);

impl Store {
    /// Opens or creates the database, readable only by its owner.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        create(path).map_err(StoreError::File)?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version > 1 {
            return Err(StoreError::Newer(version));
        }
        // With a journal beside the database readers and the writer don't wait for each other; FULL makes a
        // commit survive power loss.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(connection))
    }

    /// Keeps everything in one transaction. Says for every event of every job whether it is new.
    fn keep(&mut self, jobs: &[Job]) -> rusqlite::Result<Vec<Vec<bool>>> {
        let transaction = self.0.transaction()?;
        let mut new = Vec::with_capacity(jobs.len());
        {
            let mut event = transaction.prepare(
                "INSERT INTO events (hash, received_at_ms, event_type, thread_id, session_id, turn_id,
                    product_client_id, originator, event)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (hash) DO UPDATE SET duplicates = duplicates + 1
                 RETURNING duplicates",
            )?;
            let mut rejected = transaction
                .prepare("INSERT INTO rejected (received_at_ms, event_type, reason) VALUES (?1, ?2, ?3)")?;
            for job in jobs {
                let at = i64::try_from(job.received_at_ms).unwrap_or(i64::MAX);
                let mut of_job = Vec::with_capacity(job.events.len());
                for kept in &job.events {
                    let Event { event_type, thread_id, session_id, turn_id, product, text } = kept;
                    let hash = xxh3_128(text.as_bytes()).to_be_bytes();
                    let row = params![
                        hash,
                        at,
                        event_type,
                        thread_id,
                        session_id,
                        turn_id,
                        product,
                        job.originator,
                        text
                    ];
                    let duplicates: i64 = event.query_row(row, |row| row.get(0))?;
                    of_job.push(duplicates == 0);
                }
                for (name, reason) in &job.rejected {
                    rejected.execute(params![at, name, reason])?;
                }
                new.push(of_job);
            }
            if jobs.iter().any(|job| !job.rejected.is_empty()) {
                let kept = "DELETE FROM rejected WHERE id <= (SELECT max(id) FROM rejected) - ?1";
                transaction.execute(kept, [REJECTED_KEPT])?;
            }
        }
        transaction.commit()?;
        Ok(new)
    }

    /// Keeps jobs until nobody can send one any more. `tell` hears of every new event after its request was
    /// answered.
    pub(super) fn run(
        mut self,
        mut jobs: mpsc::Receiver<Job>,
        mut tell: impl FnMut(&Value, Option<&str>, u64),
    ) {
        while let Some(first) = jobs.blocking_recv() {
            let mut together = vec![first];
            while together.len() < TOGETHER
                && let Ok(job) = jobs.try_recv()
            {
                together.push(job);
            }
            match self.keep(&together) {
                Ok(new) => {
                    let mut told = Vec::new();
                    for (job, new) in together.into_iter().zip(new) {
                        let duplicates = new.iter().filter(|new| !**new).count();
                        // A client that went away is answered by nobody.
                        let _ = job.done.send(Ok(duplicates));
                        told.push((job.received_at_ms, job.events, new));
                    }
                    for (at, events, new) in &told {
                        for (kept, _) in events.iter().zip(new).filter(|(_, new)| **new) {
                            if let Ok(event) = serde_json::from_str(&kept.text) {
                                tell(&event, kept.product.as_deref(), *at);
                            }
                        }
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    for job in together {
                        let _ = job.done.send(Err(error.clone()));
                    }
                }
            }
        }
    }
}

/// Makes the file before SQLite does, which gives its journals the same permissions.
fn create(path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::metadata(path)?.is_file() {
                Ok(())
            } else {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
            }
        }
        other => other.map(drop),
    }
}
