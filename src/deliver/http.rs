//! What every HTTP destination needs: a client, headers, a bounded answer, and words for a failure.

use std::error::Error;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, redirect};
use tracing::subscriber::{NoSubscriber, with_default};

use super::outcome::Outcome;
use super::{SinkError, tls};
use crate::config::{Endpoint, Header, Tls};

/// OTLP specification 1.11, on responses; no other backend has more to say.
pub(super) const ANSWER_LIMIT: usize = 4 << 20;
/// Headers and trailers of an answer over HTTP/2; over HTTP/1 hyper ends at 100 headers and 400 KiB.
const HEADERS_LIMIT: u32 = 64 << 10;
const ANSWER_WINDOW: u32 = 64 << 10;

/// The user's headers, marked as sensitive.
pub(super) fn headers(headers: &[Header]) -> Result<HeaderMap, SinkError> {
    let mut map = HeaderMap::new();
    for header in headers {
        let wrong = || SinkError(format!("the header {} cannot be sent", header.name));
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(header.value.expose()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        map.insert(name, value);
    }
    Ok(map)
}

/// Runs one exchange. The limit covers all of it: connecting, sending and reading the answer. The error is what
/// the lack of an answer means.
pub(super) async fn within<T>(
    limit: Duration,
    exchange: impl Future<Output = Result<T, reqwest::Error>>,
) -> Result<T, Outcome> {
    match tokio::time::timeout(limit, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(Outcome::Unanswered { reason: format!("no answer within {} ms", limit.as_millis()) }),
    }
}

/// What is spoken on a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    /// As gRPC needs it: from the first byte, without an upgrade.
    Http2,
}

/// A client for one URL: no redirects, our own TLS, silent.
pub(super) fn client(url: &Endpoint, tls: &Tls, version: Version) -> Result<Client, SinkError> {
    // reqwest reports through `tracing` and `log` while it builds, and we may be on a thread of the host.
    with_default(NoSubscriber::default(), || build(url, tls, version))
}

fn build(url: &Endpoint, tls: &Tls, version: Version) -> Result<Client, SinkError> {
    let mut config = tls::config(url, tls)?;
    if version == Version::Http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let builder = Client::builder().tls_backend_preconfigured(config).redirect(redirect::Policy::none());
    let builder = match version {
        Version::Http1 => builder.http1_only(),
        Version::Http2 => builder
            .http2_prior_knowledge()
            .http2_max_header_list_size(HEADERS_LIMIT)
            // Answers are short. What is announced is what a collector may make us hold.
            .http2_initial_stream_window_size(ANSWER_WINDOW)
            .http2_initial_connection_window_size(ANSWER_WINDOW),
    };
    // HTTP_PROXY would hold for localhost as well, unlike in other exporters; a proxy cannot reach our
    // loopback.
    let builder = if url.is_loopback() { builder.no_proxy() } else { builder };
    let failed = |error: reqwest::Error| chain(&error.without_url());
    builder.build().map_err(|error| SinkError(format!("the HTTP client cannot be set up: {}", failed(error))))
}

/// The proxy that requests to `url` go through (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, and the
/// system's settings where it has some), without its credentials.
pub fn proxy_of(url: &Endpoint) -> Option<String> {
    if url.is_loopback() {
        return None;
    }
    let wanted = url.expose().as_str().parse().ok()?;
    let proxy = Matcher::from_system().intercept(&wanted)?;
    let (scheme, host) = (proxy.uri().scheme_str()?, proxy.uri().host()?);
    let port = proxy.uri().port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}://{host}{port}"))
}

/// The body; `None` when it is longer than the limit. What is longer is not read, and the connection is given
/// up.
pub(super) async fn read(response: &mut Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// No answer. A certificate or protocol that TLS refuses is a configuration mistake; all else may pass.
fn failed(error: reqwest::Error) -> Outcome {
    let error = error.without_url();
    let reason = super::outcome::printable(&chain(&error));
    if is_tls(&error) { Outcome::Paused { reason } } else { Outcome::Retry { after: None, reason } }
}

/// The error and its causes in one line, as each level alone says too little ("error sending request").
fn chain(error: &dyn Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !out.ends_with(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        cause = error.source();
    }
    out
}

fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        // An `io::Error` gives its content's source as its own, and so skips the content itself.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        // Of an error that ends a connection, h2 keeps the words alone.
        let told = error.is::<std::io::Error>() && error.to_string().starts_with("received fatal alert: ");
        if told || error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        current = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
