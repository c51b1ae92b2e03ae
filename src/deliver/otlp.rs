//! OTLP in its three forms: one request, one answer.
//!
//! Headers that a command prints are fetched again once per request when they are refused; when there are no
//! others, or those are refused too, the destination is paused.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use prost::bytes::Bytes;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, TE, USER_AGENT,
};
use reqwest::{Client, Url};

use super::aside::aside;
use super::compress::{compress, encoding};
use super::credential::Renewable;
use super::grpc::{self, Ended, PREFIX};
use super::json::json_line;
use super::outcome::{Answer, Outcome, Split, classify, classify_otlp_json};
use super::request::request_behind;
use super::source::Batch;
use super::{SinkError, http, token};
use crate::config::{Compression, Otlp, Protocol, Signal};

/// OTLP specification 1.11, "OTLP/HTTP Request": the recommended limit, before and after compression.
const REQUEST_LIMIT: usize = 64 << 20;
/// OTLP exporter specification, "User Agent": the exporter's own identifier behind the product's.
const AGENT: &str =
    concat!("factline/", env!("CARGO_PKG_VERSION"), " OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Sends requests to one receiver.
pub(crate) struct OtlpSink {
    signal: Signal,
    otlp: Otlp,
    url: Url,
    headers: HeaderMap,
    printed: Option<Renewable<HeaderMap>>,
    /// `None` after a failure: the next request connects anew, with names looked up and files read again.
    client: Mutex<Option<Client>>,
}

impl OtlpSink {
    pub(crate) fn new(signal: Signal, otlp: &Otlp) -> Result<Self, SinkError> {
        let otlp = otlp.clone();
        let mut headers = http::headers(&otlp.headers)?;
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        let encoding = encoding(otlp.compression).map(HeaderValue::from_static);
        let mut url = otlp.url.expose().clone();
        let (kind, encoded) = match otlp.protocol {
            Protocol::HttpProtobuf => ("application/x-protobuf", CONTENT_ENCODING),
            Protocol::HttpJson => ("application/json", CONTENT_ENCODING),
            Protocol::Grpc => {
                url.set_path(&format!("/{}/Export", signal.service()));
                url.set_query(None);
                headers.insert(TE, HeaderValue::from_static("trailers"));
                if let Ok(limit) = HeaderValue::from_str(&grpc::timeout(otlp.timeout)) {
                    headers.insert(GRPC_TIMEOUT, limit);
                }
                ("application/grpc", GRPC_ENCODING)
            }
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(encoding) = encoding {
            headers.insert(encoded, encoding);
        }
        let printed = otlp.headers_command.clone().map(token::headers);
        let sink = Self { signal, otlp, url, headers, printed, client: Mutex::default() };
        sink.client()?;
        Ok(sink)
    }

    fn client(&self) -> Result<Client, SinkError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let version = match self.otlp.protocol {
            Protocol::Grpc => http::Version::Http2,
            _ => http::Version::Http1,
        };
        Ok(client.insert(http::client(&self.otlp.url, &self.otlp.tls, version)?).clone())
    }

    fn reconnect(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Sends some records of a batch.
    pub(crate) async fn send(&self, batch: &Arc<Batch>, part: Range<usize>) -> Outcome {
        let body = match self.body(batch, part).await {
            Ok(body) => body,
            Err(outcome) => return outcome,
        };
        let Some(printed) = &self.printed else { return self.exchange(self.headers.clone(), body).await.1 };
        let more = match printed.current().await {
            Ok(more) => more,
            // The command may have needed a network that is not there now.
            Err(reason) => return Outcome::Retry { after: None, reason },
        };
        let (refused, outcome) = self.exchange(self.headers_with(more.clone()), body.clone()).await;
        if !refused {
            return outcome;
        }
        match printed.renewed(&more).await {
            Ok(Some(others)) => self.exchange(self.headers_with(others), body).await.1,
            Ok(None) => outcome,
            Err(reason) => Outcome::Paused { reason: format!("the headers were refused, and {reason}") },
        }
    }

    /// What a command prints wins over what was configured.
    fn headers_with(&self, more: HeaderMap) -> HeaderMap {
        let mut headers = self.headers.clone();
        for (name, value) in more {
            if let Some(name) = name {
                headers.insert(name, value);
            }
        }
        headers
    }

    /// The body of a request, or what became of it without being sent.
    async fn body(&self, batch: &Arc<Batch>, part: Range<usize>) -> Result<Bytes, Outcome> {
        let (signal, protocol, compression) = (self.signal, self.otlp.protocol, self.otlp.compression);
        if protocol != Protocol::HttpJson && compression == Compression::None {
            return body(signal, protocol, compression, batch, part);
        }
        // This takes a while, in which other routes have something to do.
        let batch = Arc::clone(batch);
        aside(move || body(signal, protocol, compression, &batch, part)).await
    }

    /// Whether credentials were refused, and what became of the request.
    async fn exchange(&self, headers: HeaderMap, body: Bytes) -> (bool, Outcome) {
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => return (false, Outcome::Paused { reason: error.to_string() }),
        };
        let sent = body.len();
        let exchange = async {
            let request = client.post(self.url.clone()).headers(headers).body(body);
            let mut response = request.send().await?;
            if self.otlp.protocol == Protocol::Grpc {
                let ended = Ended::read(response).await?;
                return Ok((ended.refused(), ended.outcome(sent, SystemTime::now())));
            }
            let body = http::read(&mut response).await?;
            let answer = Answer {
                status: response.status().as_u16(),
                retry_after: response.headers().get(RETRY_AFTER).map(HeaderValue::as_bytes),
                body: body.as_deref(),
            };
            let classify = match self.otlp.protocol {
                Protocol::HttpJson => classify_otlp_json,
                _ => classify,
            };
            Ok((matches!(answer.status, 401 | 403), classify(&answer, SystemTime::now())))
        };
        http::within(self.otlp.timeout, exchange).await.unwrap_or_else(|outcome| {
            // Over HTTP/2 a connection whose other end is gone would be used again and again.
            self.reconnect();
            (false, outcome)
        })
    }
}

fn body(
    signal: Signal,
    protocol: Protocol,
    compression: Compression,
    batch: &Batch,
    part: Range<usize>,
) -> Result<Bytes, Outcome> {
    let too_big = |bytes: usize| Outcome::Rejected {
        split: Split::TooBig,
        reason: format!("a request of {bytes} bytes is over the limit of {REQUEST_LIMIT}"),
    };
    let wrong = |split: Split| move |reason: String| Outcome::Rejected { split, reason };
    let frames = batch.frames(part);
    let plain = compression == Compression::None;
    let prefix = match protocol {
        Protocol::Grpc if plain => &[0; PREFIX][..],
        _ => &[],
    };
    let message = match protocol {
        Protocol::HttpJson => json_line(signal, &batch.header, frames)
            .map_err(|error| error.to_string())
            .map_err(wrong(Split::BadRecord))?,
        _ => request_behind(prefix, &batch.header, frames)
            .map_err(|error| error.to_string())
            .map_err(wrong(Split::No))?,
    };
    if message.len() > REQUEST_LIMIT {
        return Err(too_big(message.len()));
    }
    let failed =
        |error: std::io::Error| Outcome::Retry { after: None, reason: format!("compression: {error}") };
    let mut message = compress(compression, message).map_err(failed)?;
    if protocol == Protocol::Grpc {
        if !plain {
            message.splice(0..0, [0; PREFIX]);
        }
        grpc::frame(&mut message, !plain);
    }
    if message.len() > REQUEST_LIMIT {
        return Err(too_big(message.len()));
    }
    Ok(message.into())
}
