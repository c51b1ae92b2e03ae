//! TLS: who is trusted, and what a mistake does.
#![cfg(feature = "deliver")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/memory.rs"]
mod memory;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use factline::config::Config;
use factline::deliver::{Deliverer, Route, RouteState};
use memory::Memory;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The child process of a test finds the port of its server here.
const PORT: &str = "FACTLINE_TEST_TLS_PORT";

// Made for this file, valid for `localhost` until 2126. The authority's key is thrown away.
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBjjCCATOgAwIBAgIUUNuxjC3CrZzdCNNxm6j63Dv2/WMwCgYIKoZIzj0EAwIw
GzEZMBcGA1UEAwwQZmFjdGxpbmUgdGVzdCBDQTAgFw0yNjExMjIxNjQ5NTRaGA8y
MTI2MTAyOTE2NDk1NFowGzEZMBcGA1UEAwwQZmFjdGxpbmUgdGVzdCBDQTBZMBMG
ByqGSM49AgEGCCqGSM49AwEHA0IABDwOhAWAyVn/99d4b7hLG3eWW7afzr2mbNEL
A+Vycx7Y56dEKglSymeveGigliBwAJEw6PSLED5rvI0f9wd4ocmjUzBRMB0GA1Ud
DgQWBBT5ttQAHkApilXPIwtODX92UbEeSDAfBgNVHSMEGDAWgBT5ttQAHkApilXP
IwtODX92UbEeSDAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQDS
oXHoSwIi/5ED/3IX9eZC0LPyUWEvij7GPAzZU3VBdgIhAIJrQXfG/9H84rSmhyqA
YO2oT4WCLolsIjTqKixMpNXj
-----END CERTIFICATE-----";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBqzCCAVGgAwIBAgIUC4riuYN2Ix/LY3mByT26M6umwJAwCgYIKoZIzj0EAwIw
GzEZMBcGA1UEAwwQZmFjdGxpbmUgdGVzdCBDQTAgFw0yNjExMjIxNjQ5NTRaGA8y
MTI2MTAyOTE2NDk1NFowFDESMBAGA1UEAwwJbG9jYWxob3N0MFkwEwYHKoZIzj0C
AQYIKoZIzj0DAQcDQgAErPQsaPRB5O/YJuSJCNs9hPWt3pKkqBi/J5JdNZmSvxLA
GFwXd0ggwWMoyopTFdOr9pKrifGPflrtOQQbhjcyZKN4MHYwFAYDVR0RBA0wC4IJ
bG9jYWxob3N0MAkGA1UdEwQCMAAwEwYDVR0lBAwwCgYIKwYBBQUHAwEwHQYDVR0O
BBYEFN8s6qaxJ06oDYXws3oSdpGSiXV0MB8GA1UdIwQYMBaAFPm21AAeQCmKVc8j
C04Nf3ZRsR5IMAoGCCqGSM49BAMCA0gAMEUCICLgNlNEt5bESLh0QbgMFKwzEMGh
haUhGD9v1xE4uBMpAiEAny5y/Tu+Cv0LV+/0o3K9JpCp9Jp55RA/2VkdH03lSlM=
-----END CERTIFICATE-----";
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg5Fkm8tK5NeXZLWgt
pDLO8TEpM4fwQ5Sxr4ipEBydY2yhRANCAASs9Cxo9EHk79gm5IkI2z2E9a3ekqSo
GL8nkl01mZK/EsAYXBd3SCDBYyjKilMV06v2kquJ8Y9+Wu05BBuGNzJk
-----END PRIVATE KEY-----";

/// Answers one connection after another with status 200 over TLS.
fn serve() -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            // Some of the request is enough; a client that does not trust us sends none.
            if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        }
    });
    port
}

/// Whether everything was delivered to a server on this port, the route's state and its last error.
fn deliver(url: &str) -> (bool, RouteState, String) {
    let vars = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT" => Some(url.to_owned()),
        "HOME" => Some("/nowhere".to_owned()),
        _ => None,
    };
    let destination = Config::from_env(vars).unwrap().0.destinations().remove(0);
    let route = Route::new("q", Box::new(Memory::of_logs(["a".to_owned()])), &destination).unwrap();
    let deliverer = Deliverer::start(vec![route]).unwrap();
    let complete = deliverer.flush(Instant::now() + Duration::from_secs(10)).is_complete();
    let report = deliverer.report().remove(0);
    (complete, report.state, report.last_error.unwrap_or_default())
}

/// Runs `test` of this file once more, in a process where our authority is trusted.
fn with_authority(test: &str, port: u16) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("authority.pem");
    std::fs::write(&file, AUTHORITY).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("SSL_CERT_FILE", &file)
        .env_remove("SSL_CERT_DIR")
        // A proxy is none of a collector's on this machine, or the child would fail.
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env(PORT, port.to_string())
        .status()
        .unwrap();
    assert!(status.success());
}

/// The server's port, in the process that `with_authority` made.
fn port() -> Option<String> {
    std::env::var(PORT).ok()
}

#[test]
fn a_server_of_an_authority_in_ssl_cert_file_is_trusted() {
    let Some(port) = port() else {
        return with_authority("a_server_of_an_authority_in_ssl_cert_file_is_trusted", serve());
    };
    let (complete, state, error) = deliver(&format!("https://localhost:{port}/"));
    assert!(complete, "{state:?} {error}");
}

#[test]
fn a_server_of_another_name_pauses_the_route() {
    let Some(port) = port() else {
        return with_authority("a_server_of_another_name_pauses_the_route", serve());
    };
    let (_, state, error) = deliver(&format!("https://127.0.0.1:{port}/"));
    assert_eq!(state, RouteState::Paused, "{error}");
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn a_server_that_speaks_no_tls_pauses_the_route_and_gets_no_plain_text() {
    if let Some(port) = port() {
        let (_, state, error) = deliver(&format!("https://127.0.0.1:{port}/"));
        return assert_eq!(state, RouteState::Paused, "{error}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
        first[0]
    });
    with_authority("a_server_that_speaks_no_tls_pauses_the_route_and_gets_no_plain_text", port);
    assert_eq!(heard.join().unwrap(), 22, "a TLS handshake record, and nothing else");
}
