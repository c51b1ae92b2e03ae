//! OTLP over HTTP: one request, one answer.

use std::io::Write;
use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, Url};

use super::outcome::{Answer, Outcome, Split, classify};
use super::{SinkError, http};
use crate::config::{Compression, Endpoint, Header};

/// OTLP specification 1.11, "OTLP/HTTP Request": the recommended limit, before and after compression.
const REQUEST_LIMIT: usize = 64 << 20;
/// OTLP exporter specification, "User Agent": the exporter's own identifier behind the product's.
const AGENT: &str =
    concat!("factline/", env!("CARGO_PKG_VERSION"), " OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));

/// Sends requests to one URL.
pub(crate) struct HttpSink {
    client: Client,
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
    compression: Compression,
}

impl HttpSink {
    pub(crate) fn new(
        url: &Endpoint,
        headers: &[Header],
        timeout: Duration,
        compression: Compression,
    ) -> Result<Self, SinkError> {
        let client = http::client(url)?;
        let mut map = http::headers(headers)?;
        map.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        map.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        if compression == Compression::Gzip {
            map.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Self { client, url: url.expose().clone(), headers: map, timeout, compression })
    }

    /// One exchange. The timeout covers all of it: connecting, sending and reading the answer.
    pub(crate) async fn send(&self, body: Vec<u8>) -> Outcome {
        let too_big = |bytes: usize| Outcome::Rejected {
            split: Split::TooBig,
            reason: format!("a request of {bytes} bytes is over the limit of {REQUEST_LIMIT}"),
        };
        if body.len() > REQUEST_LIMIT {
            return too_big(body.len());
        }
        let body = match self.compression {
            Compression::None => body,
            Compression::Gzip => match gzip(&body) {
                Ok(body) => body,
                Err(error) => return Outcome::Retry { after: None, reason: format!("compression: {error}") },
            },
        };
        if body.len() > REQUEST_LIMIT {
            return too_big(body.len());
        }
        http::within(self.timeout, self.exchange(body)).await
    }

    async fn exchange(&self, body: Vec<u8>) -> Result<Outcome, reqwest::Error> {
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body);
        let mut response = request.send().await?;
        let body = http::read(&mut response).await?;
        let answer = Answer {
            status: response.status().as_u16(),
            retry_after: response.headers().get(RETRY_AFTER).map(HeaderValue::as_bytes),
            body: body.as_deref(),
        };
        Ok(classify(&answer, SystemTime::now()))
    }
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
