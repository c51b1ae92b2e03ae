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
use rustls::{AlertDescription, CertificateError, ClientConnection, StreamOwned};

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
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
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
        let failed = |error: io::Error| (plain(&error), String::new());
        stream
            .set_read_timeout(Some(limit))
            .and_then(|()| stream.set_write_timeout(Some(limit)))
            .map_err(failed)?;
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
        let deadline = Instant::now() + limit;
        while stream.conn.is_handshaking() {
            if Instant::now() > deadline {
                return Err(("the handshake does not end".to_owned(), String::new()));
            }
            stream.conn.complete_io(&mut stream.sock).map_err(|error| tls_problem(&error))?;
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
        let (stream, socket): (&mut dyn ReadWrite, Option<TcpStream>) = match &mut wire {
            Wire::Plain(stream) => {
                let socket = stream.try_clone().ok();
                (stream, socket)
            }
            Wire::Tls(stream) => {
                let socket = stream.sock.try_clone().ok();
                (stream.as_mut(), socket)
            }
        };
        // What can't be written is found out by reading.
        let _ = stream.write_all(&greeting).and_then(|()| stream.flush());
        let deadline = Instant::now() + limit;
        let mut answer = Vec::new();
        let mut chunk = [0; 1024];
        let end = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || answer.len() >= ANSWER || is_whole(&answer) {
                break None;
            }
            if let Some(socket) = &socket {
                let _ = socket.set_read_timeout(Some(left));
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
            (None, Some(Some(error))) if rustls_error(&error).is_some() => Err(tls_problem(&error)),
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

fn plain(error: &io::Error) -> String {
    match is_timeout(error) {
        true => "no answer in time".to_owned(),
        false => printable(&error.to_string()),
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// What is wrong, and what to do.
fn tls_problem(error: &io::Error) -> (String, String) {
    let Some(error) = rustls_error(error) else {
        let advice = "the port may not speak TLS: try http://, or another port";
        return (format!("the TLS handshake failed: {}", plain(error)), advice.to_owned());
    };
    let day = |time: rustls::pki_types::UnixTime| {
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
    };
    let renew = "renew it at the other side, or look at the clock of this machine";
    let trust = "name the authority's certificate with otlp.certificate (OTEL_EXPORTER_OTLP_CERTIFICATE), or install \
                 it in the system";
    let client = "look at otlp.client_certificate and otlp.client_key";
    let (what, advice) = match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired => ("the certificate expired".to_owned(), renew),
            CertificateError::ExpiredContext { not_after, .. } => {
                (format!("the certificate expired on {}", day(*not_after)), renew)
            }
            CertificateError::NotValidYet => ("the certificate is not valid yet".to_owned(), renew),
            CertificateError::NotValidYetContext { not_before, .. } => {
                (format!("the certificate is not valid before {}", day(*not_before)), renew)
            }
            CertificateError::NotValidForName => (
                "the certificate is for another name".to_owned(),
                "use the name that is in the certificate as the endpoint",
            ),
            CertificateError::NotValidForNameContext { expected, presented } => {
                // They come as `DnsName("x")`.
                let name = |text: &String| text.split('"').nth(1).unwrap_or(text).to_owned();
                let names: Vec<String> = presented.iter().map(name).collect();
                (
                    format!("the certificate is for {}, not for {}", names.join(", "), expected.to_str()),
                    "use the name that is in the certificate as the endpoint",
                )
            }
            CertificateError::UnknownIssuer => {
                ("the certificate is signed by an authority that is not trusted here".to_owned(), trust)
            }
            CertificateError::Revoked => ("the certificate was revoked".to_owned(), renew),
            other => (format!("the certificate is not good: {other}"), trust),
        },
        rustls::Error::InvalidMessage(_) => {
            ("the other side does not speak TLS".to_owned(), "try http:// in the endpoint, or another port")
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            ("the other side wants a certificate of ours".to_owned(), client)
        }
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => (
            "the other side does not speak HTTP/2 through TLS, which gRPC needs".to_owned(),
            "set otlp.protocol to http/protobuf, or use the port for gRPC",
        ),
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied),
        ) => (format!("the other side refuses our certificate ({alert:?})"), client),
        other => (format!("the TLS handshake failed: {other}"), ""),
    };
    (printable(&what), advice.to_owned())
}
