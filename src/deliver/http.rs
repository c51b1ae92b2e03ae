//! What every HTTP destination needs: a client, headers, a bounded answer, and words for a failure.

use std::error::Error;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, redirect};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use tracing::subscriber::{NoSubscriber, with_default};

use super::SinkError;
use super::outcome::Outcome;
use crate::config::{Endpoint, Header};

/// OTLP specification 1.11, on responses; no other backend has more to say.
const ANSWER_LIMIT: usize = 4 << 20;

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

/// Runs one exchange. The limit covers all of it: connecting, sending and reading the answer.
pub(super) async fn within(
    limit: Duration,
    exchange: impl Future<Output = Result<Outcome, reqwest::Error>>,
) -> Outcome {
    match tokio::time::timeout(limit, exchange).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => failed(error),
        Err(_) => {
            Outcome::Retry { after: None, reason: format!("no answer within {} ms", limit.as_millis()) }
        }
    }
}

/// A client for one URL: no redirects, our own TLS, silent.
pub(super) fn client(url: &Endpoint) -> Result<Client, SinkError> {
    // reqwest reports through `tracing` and `log` while it builds, and we may be on a thread of the host.
    with_default(NoSubscriber::default(), || build(url))
}

fn build(url: &Endpoint) -> Result<Client, SinkError> {
    // The provider is named here and not taken from the process, where nobody may have installed one, or a
    // host may have installed another.
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = |error: rustls::Error| SinkError(format!("TLS cannot be set up: {error}"));
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(tls)?;
    let config = if url.expose().scheme() == "https" {
        config.with_platform_verifier().map_err(tls)?.with_no_client_auth()
    } else {
        // Never used: an http URL stays one, for redirects are not followed. The system's certificates are
        // not read, so that a machine without any can still deliver to itself.
        config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
    };
    let builder = Client::builder().tls_backend_preconfigured(config).redirect(redirect::Policy::none());
    // HTTP_PROXY would hold for localhost as well, unlike in other exporters; a proxy cannot reach our
    // loopback.
    let builder = if url.is_loopback() { builder.no_proxy() } else { builder };
    let failed = |error: reqwest::Error| chain(&error.without_url());
    builder.build().map_err(|error| SinkError(format!("the HTTP client cannot be set up: {}", failed(error))))
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
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        current = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
