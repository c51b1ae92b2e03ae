//! Looking at a destination step by step, for a person who wants to know why nothing arrives: name, connection,
//! certificate, protocol, and one record.
//!
//! Steps before the record use a connection of their own and a few bytes, because the HTTP client tells only that
//! something failed, not which of these. Everything is bounded in time and bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::file::FileBounds;
use super::outcome::{Outcome, printable};
use super::sink::Sink;
use super::source::Batch;
use super::{SinkError, http, silence, tls};
use crate::config::{self, AnalyticsSink, Destination, Endpoint, Protocol, Tls};

/// As much of an answer as its head may be.
const ANSWER: usize = 8 << 10;

/// Another machine, as far as a connection to it is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    url: Endpoint,
    tls: Tls,
    http2: bool,
}

/// What the other side spoke when it was spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1, and the time that its answer has in `Date`, if any.
    Http1(Option<SystemTime>),
    /// HTTP/2, as gRPC needs it.
    Http2,
    /// TLS, though it was spoken to in plain text.
    Tls,
    /// The connection was closed without a word.
    Closed,
    /// Nothing, for as long as was waited.
    Silence,
    /// Something else.
    Other,
}

/// An open connection, through TLS where the URL says so.
pub struct Connection(Wire);

enum Wire {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

/// A stream that ends at a time, however slowly the other side goes on.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(into)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Peer {
    /// Whom records for `destination` are sent to; `None` for files.
    pub fn of(destination: &Destination) -> Option<Peer> {
        match &destination.sink {
            config::Sink::Otlp(otlp) => Some(Peer {
                url: otlp.url.clone(),
                tls: otlp.tls.clone(),
                http2: otlp.protocol == Protocol::Grpc,
            }),
            config::Sink::File { .. } => None,
        }
    }

    /// The same for analytics events.
    pub fn of_events(sink: &AnalyticsSink) -> Option<Peer> {
        match sink {
            AnalyticsSink::Backend(backend) => {
                Some(Peer { url: backend.url.clone(), tls: Tls::default(), http2: false })
            }
            AnalyticsSink::File(_) => None,
        }
    }

    /// Whether one connection to them is like one to the other.
    pub fn is_like(&self, other: &Peer) -> bool {
        (self.name(), self.is_https(), self.http2, &self.tls)
            == (other.name(), other.is_https(), other.http2, &other.tls)
    }

    /// Host and port.
    pub fn name(&self) -> String {
        format!("{}:{}", self.url.expose().host_str().unwrap_or_default(), self.port())
    }

    /// Whether it is spoken to through TLS.
    pub fn is_https(&self) -> bool {
        self.url.expose().scheme() == "https"
    }

    /// Whether it has to speak HTTP/2.
    pub fn wants_http2(&self) -> bool {
        self.http2
    }

    /// The proxy between, without its credentials.
    pub fn proxy(&self) -> Option<String> {
        http::proxy_of(&self.url)
    }

    fn host(&self) -> &str {
        self.url.expose().host_str().unwrap_or_default().trim_matches(['[', ']'])
    }

    fn port(&self) -> u16 {
        self.url.expose().port_or_known_default().unwrap_or_default()
    }

    /// The addresses of its name.
    ///
    /// # Errors
    /// There are none, in the resolver's words, or it took longer than `limit`.
    pub fn addresses(&self, limit: Duration) -> Result<Vec<SocketAddr>, String> {
        let (sender, receiver) = channel();
        let (host, port) = (self.host().to_owned(), self.port());
        // The system's resolver can't be stopped; a thread that it holds ends with the process.
        std::thread::Builder::new()
            .name("factline-resolve".to_owned())
            .spawn(move || {
                let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
                let _ = sender.send(found);
            })
            .map_err(|error| error.to_string())?;
        match receiver.recv_timeout(limit) {
            Ok(Ok(found)) if found.is_empty() => Err("it has no address".to_owned()),
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(printable(&error.to_string())),
            Err(_) => Err(format!("no answer within {} s", limit.as_secs_f32())),
        }
    }

    /// A connection to the first of `addresses` that takes one, all within `limit`.
    ///
    /// # Errors
    /// The last one's reason.
    pub fn connect(
        &self,
        addresses: &[SocketAddr],
        limit: Duration,
    ) -> Result<(TcpStream, SocketAddr), String> {
        let deadline = Instant::now() + limit;
        let mut last = "there is no address".to_owned();
        for (at, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            // The first may be a black hole, and the second an open door.
            let share = left / (addresses.len() - at) as u32;
            if share.is_zero() {
                break;
            }
            match TcpStream::connect_timeout(address, share) {
                Ok(stream) => return Ok((stream, *address)),
                Err(error) => last = format!("{address}: {}", plain(&error)),
            }
        }
        Err(last)
    }

    /// Makes `stream` what the URL asks for; the version of TLS, if any.
    ///
    /// # Errors
    /// What is wrong with the certificate or with our side, and what to do about it.
    pub fn secure(
        &self,
        stream: TcpStream,
        limit: Duration,
    ) -> Result<(Connection, Option<String>), (String, String)> {
        let stream = Timed { stream, deadline: Instant::now() + limit };
        if !self.is_https() {
            return Ok((Connection(Wire::Plain(stream)), None));
        }
        let setup = |error: String| (error, "see the certificate settings of [otlp]".to_owned());
        let mut config = tls::config(&self.url, &self.tls).map_err(|SinkError(error)| setup(error))?;
        if self.http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let name = ServerName::try_from(self.host().to_owned()).map_err(|error| setup(error.to_string()))?;
        let session =
            ClientConnection::new(Arc::new(config), name).map_err(|error| setup(error.to_string()))?;
        let mut stream = StreamOwned::new(session, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| tls::problem(&error))?;
        }
        let version = stream.conn.protocol_version().and_then(|version| version.as_str().map(str::to_owned));
        Ok((Connection(Wire::Tls(Box::new(stream))), version))
    }

    /// Speaks first, in the protocol that is configured, and looks at what comes back.
    ///
    /// # Errors
    /// TLS ended the connection, for a reason that comes only now: a client certificate that is missing or
    /// refused.
    pub fn speak(&self, connection: Connection, limit: Duration) -> Result<Spoken, (String, String)> {
        let greeting = match self.http2 {
            // Preface and empty SETTINGS, RFC 9113 3.4.
            true => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
            false => {
                let path = self.url.expose().path();
                let agent = concat!("factline/", env!("CARGO_PKG_VERSION"));
                format!(
                    "GET {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: {agent}\r\nconnection: close\r\n\r\n",
                    self.name()
                )
                .into_bytes()
            }
        };
        let mut wire = connection.0;
        let stream: &mut dyn ReadWrite = match &mut wire {
            Wire::Plain(stream) => {
                stream.deadline = Instant::now() + limit;
                stream
            }
            Wire::Tls(stream) => {
                stream.sock.deadline = Instant::now() + limit;
                stream.as_mut()
            }
        };
        // What can't be written is found out by reading.
        let _ = stream.write_all(&greeting).and_then(|()| stream.flush());
        let (mut answer, mut chunk) = (Vec::new(), [0; 1024]);
        let end = loop {
            if answer.len() >= ANSWER || is_whole(&answer) {
                break None;
            }
            match stream.read(&mut chunk) {
                Ok(0) => break Some(None),
                Ok(read) => answer.extend_from_slice(chunk.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => break None,
                Err(error) => break Some(Some(error)),
            }
        };
        match (spoken(&answer), end) {
            (Some(spoken), _) => Ok(spoken),
            (None, None) => Ok(Spoken::Silence),
            (None, Some(Some(error))) if tls::cause(&error).is_some() => Err(tls::problem(&error)),
            (None, Some(_)) => Ok(Spoken::Closed),
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// Sends one batch and says what became of it. The destination's own time limit holds.
///
/// # Errors
/// The destination can't be set up.
pub fn send(destination: &Destination, batch: Batch) -> Result<Outcome, SinkError> {
    run(Sink::new(destination, FileBounds::default())?, batch)
}

/// Sends a request without events and says what became of it.
///
/// # Errors
/// The destination can't be set up.
pub fn send_no_events(sink: &AnalyticsSink) -> Result<Outcome, SinkError> {
    let nothing = Batch { header: (*b"{}").into(), bytes: Vec::new(), ends: Vec::new() };
    run(Sink::of_events(sink, FileBounds::default())?, nothing)
}

fn run(sink: Sink, batch: Batch) -> Result<Outcome, SinkError> {
    let (sender, receiver) = channel();
    // A thread of its own: without a subscriber, and outside of any runtime that the caller has.
    let work = move || {
        silence();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let sent = runtime.map(|runtime| {
            let records = batch.len();
            let outcome = runtime.block_on(sink.send(&Arc::new(batch), 0..records));
            runtime.shutdown_background();
            outcome
        });
        let _ = sender.send(sent);
    };
    let failed = |error: &dyn std::fmt::Display| SinkError(error.to_string());
    std::thread::Builder::new()
        .name("factline-probe".to_owned())
        .spawn(work)
        .map_err(|error| failed(&error))?;
    receiver.recv().map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

/// Whether more of the answer would tell nothing new.
fn is_whole(answer: &[u8]) -> bool {
    match answer.starts_with(b"HTTP/1") {
        true => answer.windows(4).any(|four| four == b"\r\n\r\n"),
        false => answer.len() >= 9,
    }
}

fn spoken(answer: &[u8]) -> Option<Spoken> {
    match answer {
        [] => None,
        _ if answer.starts_with(b"HTTP/1") => Some(Spoken::Http1(date(answer))),
        // A frame of type SETTINGS on stream 0, RFC 9113 6.5.
        [_, _, _, 4, _, 0, 0, 0, 0, ..] => Some(Spoken::Http2),
        // An alert record, RFC 8446 5.1.
        [21, 3, ..] => Some(Spoken::Tls),
        _ => Some(Spoken::Other),
    }
}

fn date(answer: &[u8]) -> Option<SystemTime> {
    let text = String::from_utf8_lossy(answer);
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, date) = fields.find(|(name, _)| name.eq_ignore_ascii_case("date"))?;
    httpdate::parse_http_date(date.trim()).ok()
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// An error in words.
pub(super) fn plain(error: &io::Error) -> String {
    match is_timeout(error) {
        true => "no answer in time".to_owned(),
        false => printable(&error.to_string()),
    }
}
