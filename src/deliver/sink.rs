//! The kinds of destination behind one call.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::file::{FileBounds, FileSink};
use super::json::json_lines;
use super::otlp_http::HttpSink;
use super::outcome::{Outcome, Split};
use super::request::request;
use super::source::Batch;
use crate::config::{self, Destination, Signal};

/// A destination that can't be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkError(pub(super) String);

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SinkError {}

/// Takes parts of batches.
pub(crate) enum Sink {
    Http(Box<HttpSink>),
    File {
        signal: Signal,
        file: Arc<Mutex<FileSink>>,
    },
    #[cfg(test)]
    Scripted(Scripted),
}

/// A destination that answers as a test says.
#[cfg(test)]
pub(crate) type Scripted = Box<dyn Fn(&Batch, Range<usize>) -> Outcome + Send + Sync>;

impl Sink {
    pub(crate) fn new(destination: &Destination, bounds: FileBounds) -> Result<Self, SinkError> {
        let signal = destination.signal;
        match &destination.sink {
            config::Sink::Http { url, headers, timeout, compression } => {
                Ok(Self::Http(Box::new(HttpSink::new(url, headers, *timeout, *compression)?)))
            }
            config::Sink::File { dir } => {
                let file = FileSink::new(dir.join(format!("{signal}.jsonl")), bounds);
                Ok(Self::File { signal, file: Arc::new(Mutex::new(file)) })
            }
        }
    }

    /// The records that a batch for this destination should have at most, in bytes.
    pub(crate) fn batch_bytes(&self, asked: usize) -> usize {
        match self {
            // A line of JSON is one to three times its protobuf, and must stay below 1 MiB
            // (`json::LINE_LIMIT`).
            Self::File { .. } => asked.min(384 << 10),
            _ => asked,
        }
    }

    pub(crate) async fn send(&self, batch: &Arc<Batch>, part: Range<usize>) -> Outcome {
        match self {
            Self::Http(http) => match request(&batch.header, batch.frames(part)) {
                Ok(body) => http.send(body).await,
                Err(error) => Outcome::Rejected { split: Split::No, reason: error.to_string() },
            },
            Self::File { signal, file } => {
                let (signal, file, batch) = (*signal, Arc::clone(file), Arc::clone(batch));
                let write = tokio::task::spawn_blocking(move || append(signal, &file, &batch, part));
                write.await.unwrap_or_else(|error| Outcome::Retry { after: None, reason: error.to_string() })
            }
            #[cfg(test)]
            Self::Scripted(answer) => answer(batch, part),
        }
    }
}

fn append(signal: Signal, file: &Mutex<FileSink>, batch: &Batch, part: Range<usize>) -> Outcome {
    let mut lines = Vec::new();
    if let Err(error) = json_lines(signal, batch, part, &mut lines) {
        return Outcome::Rejected { split: Split::BadRecord, reason: error.to_string() };
    }
    match file.lock().unwrap_or_else(PoisonError::into_inner).append(&lines) {
        Ok(()) => Outcome::Delivered,
        Err(error) => Outcome::Retry { after: None, reason: error.to_string() },
    }
}
