//! A collector with moods.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message as _;

use crate::ledger::Ledger;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    Good,
    /// Connections are closed at once.
    Away,
    /// 503, with and without a word about when to come again.
    Busy,
    /// 429 with odd words about when to come again.
    Later,
    /// Takes all but the last few records of a request.
    Parts,
    /// Answers a byte at a time, slower than anybody waits.
    Slow,
    /// Takes the request and breaks the connection.
    Breaks,
    /// Takes the connection and says nothing.
    Silent,
}

const MOODS: [Mood; 8] =
    [Mood::Good, Mood::Away, Mood::Busy, Mood::Later, Mood::Parts, Mood::Slow, Mood::Breaks, Mood::Silent];

impl Mood {
    pub fn name(self) -> &'static str {
        match self {
            Mood::Good => "calm",
            Mood::Away => "collector away",
            Mood::Busy => "503",
            Mood::Later => "429",
            Mood::Parts => "partial success",
            Mood::Slow => "slow answer",
            Mood::Breaks => "broken connection",
            Mood::Silent => "no answer",
        }
    }
}

pub struct Collector {
    url: String,
    mood: Arc<AtomicU8>,
}

impl Collector {
    pub fn start(ledger: Ledger, seed: u64) -> io::Result<Collector> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let mood = Arc::new(AtomicU8::new(0));
        let (now, count) = (Arc::clone(&mood), Arc::new(AtomicU64::new(seed)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (ledger, mood, count) = (ledger.clone(), Arc::clone(&now), Arc::clone(&count));
                std::thread::spawn(move || serve(&ledger, &mood, &count, stream));
            }
        });
        Ok(Collector { url, mood })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn mood(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::Release);
    }
}

fn serve(ledger: &Ledger, mood: &AtomicU8, count: &AtomicU64, stream: TcpStream) {
    // Whoever went away is nobody's fault.
    let _ = answer_all(ledger, mood, count, stream);
}

fn answer_all(ledger: &Ledger, mood: &AtomicU8, count: &AtomicU64, mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let now = || MOODS.get(usize::from(mood.load(Ordering::Acquire))).copied().unwrap_or(Mood::Good);
    loop {
        if now() == Mood::Away {
            return Ok(());
        }
        let Some(records) = request(&mut reader)? else { return Ok(()) };
        let number = count.fetch_add(1, Ordering::Relaxed);
        match now() {
            Mood::Away => return Ok(()),
            Mood::Good => {
                ledger.received(&records, 0);
                status(&mut stream, "200 OK", "", &[])?;
            }
            Mood::Busy => {
                let word = ["", "retry-after: 0\r\n", "retry-after: 1\r\n"][(number % 3) as usize];
                status(&mut stream, "503 Busy", word, b"busy \x1b[31m")?;
            }
            Mood::Later => {
                let words = [
                    "retry-after: -5\r\n",
                    "retry-after: soon\r\n",
                    "retry-after: 1\r\n",
                    "retry-after: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
                ];
                status(&mut stream, "429 Later", words[(number % 4) as usize], &[])?;
            }
            Mood::Parts => {
                let refused = (number % 4).min(records.len() as u64);
                ledger.received(&records, refused as usize);
                let word = "the last ones are not wanted".to_owned();
                let partial =
                    ExportLogsPartialSuccess { rejected_log_records: refused as i64, error_message: word };
                let body = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
                status(&mut stream, "200 OK", "content-type: application/x-protobuf\r\n", &body)?;
            }
            Mood::Slow => {
                for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n" {
                    stream.write_all(&[*byte])?;
                    std::thread::sleep(Duration::from_millis(60));
                }
                return Ok(());
            }
            Mood::Breaks => {
                // Half of the time it was kept, and only the word about it is lost.
                if number.is_multiple_of(2) {
                    ledger.received(&records, 0);
                }
                let half = b"HTTP/1.1 200 OK\r\nconte";
                let _ = stream.write_all(&half[..(number % half.len() as u64) as usize]);
                return Ok(());
            }
            Mood::Silent => {
                // Until the client gives up.
                let _ = stream.read(&mut [0; 1]);
                return Ok(());
            }
        }
    }
}

fn status(stream: &mut TcpStream, line: &str, headers: &str, body: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 {line}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())
}

/// The records of a request; none when the connection ended.
fn request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<LogRecord>>> {
    let (mut line, mut length) = (String::new(), 0);
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = ExportLogsServiceRequest::decode(&body[..]).map_err(io::Error::other)?;
    let scopes = request.resource_logs.into_iter().flat_map(|it| it.scope_logs);
    Ok(Some(scopes.flat_map(|it| it.log_records).collect()))
}
