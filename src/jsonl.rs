//! OTLP JSON lines straight from the layers, without an outbox: `DIR/logs.jsonl`, `traces.jsonl` and `metrics.jsonl`.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::config::Signal;
use crate::deliver::{Batch, json_lines};
use crate::otel::{self, Accepted, Sink};

/// Records in one line of a file.
const RECORDS: usize = 512;
/// Bytes of records in one line of a file, encoded.
const BYTES: usize = 1024 * 1024;

/// A sink that writes what it accepts into files. The same records give the same bytes.
#[derive(Debug)]
pub struct JsonLines {
    logs: Mutex<Output>,
    traces: Mutex<Output>,
    metrics: Mutex<Output>,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Log records.
    pub logs: u64,
    /// Spans.
    pub spans: u64,
    /// Collections of metrics.
    pub collections: u64,
}

#[derive(Debug)]
struct Output {
    signal: Signal,
    file: BufWriter<File>,
    batch: Batch,
    written: u64,
    error: Option<io::Error>,
}

impl JsonLines {
    /// Begins `logs.jsonl`, `traces.jsonl` and `metrics.jsonl` in `dir`, which is made if it is not there; what they held is gone.
    ///
    /// # Errors
    /// The directory or a file can't be made.
    pub fn create(dir: &Path) -> io::Result<JsonLines> {
        std::fs::create_dir_all(dir)?;
        let output = |signal: Signal| {
            let file = private_file(&dir.join(format!("{signal}.jsonl")))?;
            let batch = Batch { header: Vec::new().into(), bytes: Vec::new(), ends: Vec::new() };
            Ok::<_, io::Error>(Mutex::new(Output {
                signal,
                file: BufWriter::new(file),
                batch,
                written: 0,
                error: None,
            }))
        };
        Ok(JsonLines {
            logs: output(Signal::Logs)?,
            traces: output(Signal::Traces)?,
            metrics: output(Signal::Metrics)?,
        })
    }

    /// Writes what is left, and says how much there was.
    ///
    /// # Errors
    /// The first thing that went wrong with a file, which it names; nothing was written to that one after it.
    pub fn finish(&self) -> io::Result<Written> {
        let finish = |output: &Mutex<Output>| {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.flush();
            let written = match output.error.take() {
                Some(error) => Err(error),
                None => output.file.flush().map(|()| output.written),
            };
            written.map_err(|error| io::Error::new(error.kind(), format!("{}.jsonl: {error}", output.signal)))
        };
        // All, before any is asked how it went: one that fails takes nothing from the others.
        let [logs, spans, collections] = [&self.logs, &self.traces, &self.metrics].map(finish);
        Ok(Written { logs: logs?, spans: spans?, collections: collections? })
    }

    fn output(&self, signal: otel::Signal) -> &Mutex<Output> {
        match signal {
            otel::Signal::Logs => &self.logs,
            otel::Signal::Traces => &self.traces,
            otel::Signal::Metrics => &self.metrics,
        }
    }
}

impl Output {
    fn push(&mut self, record: &[u8]) {
        self.batch.bytes.extend_from_slice(record);
        self.batch.ends.push(self.batch.bytes.len());
        self.written += 1;
        if self.batch.len() >= RECORDS || self.batch.bytes.len() >= BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() || self.error.is_some() {
            return;
        }
        let mut lines = Vec::new();
        let written = json_lines(self.signal, &self.batch, 0..self.batch.len(), &mut lines)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            .and_then(|()| self.file.write_all(&lines));
        self.error = written.err();
        self.batch.bytes.clear();
        self.batch.ends.clear();
    }
}

impl Sink for JsonLines {
    fn set_header(&self, signal: otel::Signal, header: &[u8]) {
        let mut output = self.output(signal).lock().unwrap_or_else(PoisonError::into_inner);
        if *output.batch.header != *header {
            output.flush();
            output.batch.header = header.into();
        }
    }

    fn accept(&self, accepted: Accepted<'_>) {
        for (signal, _, record) in accepted.records {
            self.output(*signal).lock().unwrap_or_else(PoisonError::into_inner).push(record);
        }
    }
}

/// Creates or empties a file that only its owner may read.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}
