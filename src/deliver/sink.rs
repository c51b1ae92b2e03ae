//! The kinds of destination behind one call.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::aside::aside;
use super::backend::{self, BackendSink};
use super::file::{FileBounds, FileSink};
use super::json::json_lines;
use super::json_lines::lines;
use super::otlp::OtlpSink;
use super::outcome::{Outcome, Split};
use super::source::Batch;
use crate::config::{self, AnalyticsSink, Destination, Signal};

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
    Otlp(Box<OtlpSink>),
    File {
        signal: Signal,
        file: Arc<Mutex<FileSink>>,
    },
    Backend(Box<BackendSink>),
    Events(Arc<Mutex<FileSink>>),
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
            config::Sink::Otlp(otlp) => Ok(Self::Otlp(Box::new(OtlpSink::new(signal, otlp)?))),
            config::Sink::File { dir } => {
                let file = FileSink::new(dir.join(format!("{signal}.jsonl")), bounds);
                Ok(Self::File { signal, file: Arc::new(Mutex::new(file)) })
            }
        }
    }

    pub(crate) fn of_events(sink: &AnalyticsSink, bounds: FileBounds) -> Result<Self, SinkError> {
        match sink {
            AnalyticsSink::Backend(backend) => Ok(Self::Backend(Box::new(BackendSink::new(backend)?))),
            AnalyticsSink::File(path) => {
                Ok(Self::Events(Arc::new(Mutex::new(FileSink::new(path.clone(), bounds)))))
            }
        }
    }

    /// The records that a batch for this destination should have at most, in bytes.
    pub(crate) fn batch_bytes(&self, asked: usize) -> usize {
        match self {
            // A line of JSON is one to three times its protobuf, and must stay below 1 MiB
            // (`json::LINE_LIMIT`).
            Self::File { .. } => asked.min(384 << 10),
            Self::Backend(_) => asked.min(backend::BATCH_BYTES),
            _ => asked,
        }
    }

    /// The records that a batch for this destination should have at most.
    pub(crate) fn batch_records(&self, asked: usize) -> usize {
        match self {
            Self::Backend(_) => asked.min(backend::BATCH_RECORDS),
            _ => asked,
        }
    }

    pub(crate) async fn send(&self, batch: &Arc<Batch>, part: Range<usize>) -> Outcome {
        match self {
            Self::Otlp(otlp) => otlp.send(batch, part).await,
            Self::File { signal, file } => {
                let (signal, batch) = (*signal, Arc::clone(batch));
                append(file, move || {
                    let mut lines = Vec::new();
                    json_lines(signal, &batch, part, &mut lines).map_err(|error| error.to_string())?;
                    Ok(lines)
                })
                .await
            }
            Self::Backend(backend) => backend.send(batch, part).await,
            Self::Events(file) => {
                let batch = Arc::clone(batch);
                append(file, move || lines(&batch, part).map_err(str::to_owned)).await
            }
            #[cfg(test)]
            Self::Scripted(answer) => answer(batch, part),
        }
    }
}

/// Writes what `lines` makes, where making and writing delay no other route.
async fn append(
    file: &Arc<Mutex<FileSink>>,
    lines: impl FnOnce() -> Result<Vec<u8>, String> + Send + 'static,
) -> Outcome {
    let file = Arc::clone(file);
    aside(move || {
        let lines = match lines() {
            Ok(lines) => lines,
            Err(reason) => return Outcome::Rejected { split: Split::BadRecord, reason },
        };
        match file.lock().unwrap_or_else(PoisonError::into_inner).append(&lines) {
            Ok(()) => Outcome::Delivered,
            Err(error) => Outcome::Retry { after: None, reason: error.to_string() },
        }
    })
    .await
}
