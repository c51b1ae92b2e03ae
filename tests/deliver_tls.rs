//! TLS: who is trusted, who we are, and what a mistake does. It never ends in plain text.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/certificates.rs"]
mod certificates;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/collector.rs"]
mod collector;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/grpc_collector.rs"]
mod grpc_collector;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/memory.rs"]
mod memory;
#[path = "support/tls_front.rs"]
mod tls_front;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use certificates::{Authority, Pair};
use collector::{Collector, Reply};
use factline::config::Config;
use factline::deliver::{Deliverer, Route, RouteState};
use grpc_collector::{GrpcCollector, taken};
use memory::Memory;
use tls_front::front;

/// The child process of a test finds the port of its server here.
const PORT: &str = "FACTLINE_TEST_TLS_PORT";

/// Whether everything was delivered, the route's state and its last error.
fn deliver(url: &str, more: &[(&str, &Path)], protocol: &str) -> (bool, RouteState, String) {
    let vars = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT" => Some(url.to_owned()),
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some(protocol.to_owned()),
        "HOME" => Some("/nowhere".to_owned()),
        _ => more.iter().find(|(known, _)| *known == name).map(|(_, path)| path.to_str().unwrap().to_owned()),
    };
    let destination = Config::from_env(vars).unwrap().0.destinations().remove(0);
    let queue = Memory::of_logs(["a".to_owned()]);
    let route = Route::new("q", Box::new(queue.clone()), &destination).unwrap();
    let deliverer = Deliverer::start(vec![route]).unwrap();
    let complete = deliverer.flush(Instant::now() + Duration::from_secs(10)).is_complete();
    let report = deliverer.report().remove(0);
    assert_eq!(queue.with(|inside| inside.delivered), u64::from(complete), "delivered or still there");
    (complete, report.state, report.last_error.unwrap_or_default())
}

/// A server of each kind, to be put behind TLS: how it is spoken to, and where it is.
struct Servers(Collector, GrpcCollector);

impl Servers {
    fn start() -> Self {
        Self(Collector::start(|_, _| Reply::ok()), GrpcCollector::start(|_, _| taken()))
    }

    fn each(&self) -> [(&'static str, SocketAddr); 3] {
        [("http/protobuf", self.0.address), ("http/json", self.0.address), ("grpc", self.1.address)]
    }

    fn requests(&self) -> usize {
        self.0.requests().len() + self.1.calls().len()
    }
}

const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";

#[test]
fn a_server_of_the_named_authority_is_trusted_over_every_protocol() {
    let (dir, servers) = (tempfile::tempdir().unwrap(), Servers::start());
    let authority = Authority::new(dir.path(), "ca");
    let server = authority.server("server", "localhost", 2100);
    for (protocol, target) in servers.each() {
        let port = front(target, &server, None);
        let url = format!("https://localhost:{port}/");
        let (complete, state, error) = deliver(&url, &[(CERTIFICATE, &authority.file)], protocol);
        assert!(complete, "{protocol} {state:?} {error}");
    }
    assert_eq!(servers.requests(), 3);
}

#[test]
fn a_client_shows_its_certificate_where_it_has_one() {
    let (dir, servers) = (tempfile::tempdir().unwrap(), Servers::start());
    let authority = Authority::new(dir.path(), "ca");
    let (server, client) = (authority.server("server", "localhost", 2100), authority.client("client"));
    let stranger = Authority::new(dir.path(), "other").client("stranger");
    let with = |pair: &Pair| {
        [
            (CERTIFICATE, authority.file.clone()),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", pair.certificate.clone()),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", pair.key.clone()),
        ]
    };
    for (protocol, target) in servers.each() {
        let port = front(target, &server, Some(&authority.file));
        let url = format!("https://localhost:{port}/");
        let deliver = |files: &[(&'static str, std::path::PathBuf)]| {
            let files: Vec<_> = files.iter().map(|(name, path)| (*name, path.as_path())).collect();
            deliver(&url, &files, protocol)
        };
        let (complete, state, error) = deliver(&with(&client));
        assert!(complete, "{protocol} {state:?} {error}");
        for files in [&with(&client)[..1], &with(&stranger)] {
            let (complete, state, error) = deliver(files);
            // With TLS 1.3 the handshake is over for the client before the server says no: what the client has sent
            // by then makes the system drop the answer with the connection, and then there is no reason to pause.
            let told = error.contains("received fatal alert");
            assert_eq!(
                (complete, state == RouteState::Paused),
                (false, told),
                "{protocol} {state:?} {error}"
            );
            assert!(told || error.contains("error sending request"), "{protocol} {error}");
        }
    }
    assert_eq!(servers.requests(), 3);
}

#[test]
fn a_server_that_is_not_who_it_should_be_pauses_the_route_and_hears_nothing() {
    let (dir, servers) = (tempfile::tempdir().unwrap(), Servers::start());
    let authority = Authority::new(dir.path(), "ca");
    let other = Authority::new(dir.path(), "other");
    for (server, words) in [
        (authority.server("expired", "localhost", 2021), "expired"),
        (authority.server("named", "elsewhere.example", 2100), "not valid for name"),
        (other.server("stranger", "localhost", 2100), "UnknownIssuer"),
    ] {
        for (protocol, target) in servers.each() {
            let port = front(target, &server, None);
            let url = format!("https://localhost:{port}/");
            let (complete, state, error) = deliver(&url, &[(CERTIFICATE, &authority.file)], protocol);
            assert_eq!((complete, state), (false, RouteState::Paused), "{protocol} {error}");
            assert!(error.contains("certificate") && error.contains(words), "{protocol} {words}: {error}");
        }
    }
    assert_eq!(servers.requests(), 0);
}

/// Accepts one connection, answers what it says first with `answer`, and hands back all it said.
fn answering(answer: &'static [u8]) -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut said = vec![0; 4096];
        let read = stream.read(&mut said).unwrap();
        said.truncate(read);
        stream.write_all(answer).unwrap();
        // All until it hangs up; a reset is a way to do that.
        let _ = stream.read_to_end(&mut said);
        said
    });
    (port, heard)
}

#[test]
fn old_tls_and_no_tls_pause_the_route_and_get_no_plain_text() {
    const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    // What a server says that knows nothing later than TLS 1.0: a fatal alert, protocol_version (RFC 5246, 7.2).
    const OLD: &[u8] = &[21, 3, 1, 0, 2, 2, 70];
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    for (answer, words) in [(PLAIN, "corrupt message"), (OLD, "ProtocolVersion")] {
        for protocol in ["http/protobuf", "http/json", "grpc"] {
            let (port, heard) = answering(answer);
            let url = format!("https://localhost:{port}/");
            let (_, state, error) = deliver(&url, &[(CERTIFICATE, &authority.file)], protocol);
            assert_eq!(state, RouteState::Paused, "{protocol} {error}");
            assert!(error.contains(words), "{words}: {error}");
            let said = heard.join().unwrap();
            assert_eq!(said[0], 22, "a TLS handshake record");
            assert!(!said.windows(4).any(|four| four == b"POST" || four == b"PRI "), "and no request");
        }
    }
}

#[test]
fn files_that_are_no_certificates_are_said_so_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let client = authority.client("client");
    let (empty, missing) = (dir.path().join("empty"), dir.path().join("missing"));
    std::fs::write(&empty, "s3cret").unwrap();
    let start = |ca: &Path, certificate: &Path, key: &Path| {
        let vars = |name: &str| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("https://localhost:1".to_owned()),
            CERTIFICATE => Some(ca.to_str().unwrap().to_owned()),
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE" => Some(certificate.to_str().unwrap().to_owned()),
            "OTEL_EXPORTER_OTLP_CLIENT_KEY" => Some(key.to_str().unwrap().to_owned()),
            "HOME" => Some("/nowhere".to_owned()),
            _ => None,
        };
        let destination = Config::from_env(vars).unwrap().0.destinations().remove(0);
        Route::new("q", Box::new(Memory::default()), &destination).err().unwrap().to_string()
    };
    let (ca, certificate, key) = (&authority.file, &client.certificate, &client.key);
    for (error, file, words) in [
        (start(&empty, certificate, key), "empty", "no certificate"),
        (start(&missing, certificate, key), "missing", "No such file"),
        (start(ca, &empty, key), "empty", "no certificate"),
        (start(ca, certificate, &empty), "empty", "no private key"),
        (start(ca, certificate, &authority.client("another").key), "client.pem", "keys"),
    ] {
        assert!(error.contains(file) && error.contains(words) && !error.contains("s3cret"), "{error}");
    }
}

/// Runs `test` of this file once more, in a process where `authority` is trusted by the system.
fn with_authority(test: &str, authority: &Path, port: u16) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("SSL_CERT_FILE", authority)
        .env_remove("SSL_CERT_DIR")
        // A proxy is none of a collector's on this machine, or the child would fail.
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env(PORT, port.to_string())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn without_a_named_authority_those_of_the_system_are_trusted() {
    const THIS: &str = "without_a_named_authority_those_of_the_system_are_trusted";
    if let Ok(port) = std::env::var(PORT) {
        let (complete, state, error) = deliver(&format!("https://localhost:{port}/"), &[], "http/protobuf");
        assert!(complete, "{state:?} {error}");
        let (_, state, error) = deliver(&format!("https://127.0.0.1:{port}/"), &[], "http/protobuf");
        assert!(state == RouteState::Paused && error.contains("certificate"), "{error}");
        return;
    }
    let (dir, servers) = (tempfile::tempdir().unwrap(), Servers::start());
    let authority = Authority::new(dir.path(), "ca");
    let port = front(servers.0.address, &authority.server("server", "localhost", 2100), None);
    with_authority(THIS, &authority.file, port);
    assert_eq!(servers.requests(), 1);
}
