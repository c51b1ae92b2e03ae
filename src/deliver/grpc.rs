//! A unary gRPC call, as much of it as OTLP needs, on top of an HTTP/2 client: the request is finished bytes, and
//! no part of the answer needs generated code (gRPC over HTTP2, "Requests" and "Responses").

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http_body_util::BodyExt as _;
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};

use super::http::ANSWER_LIMIT;
use super::outcome::{self, Answer, Outcome, Split, accepted, classify_grpc};

/// In front of each message: a byte that says whether it is compressed, and its length.
pub(super) const PREFIX: usize = 5;
/// What a stock receiver takes (gRPC's default in Go, Java and Rust).
const STOCK_LIMIT: usize = 4 << 20;

/// Fills in the first bytes of `framed`, which are kept free for them.
pub(super) fn frame(framed: &mut [u8], compressed: bool) {
    let length = u32::try_from(framed.len().saturating_sub(PREFIX)).unwrap_or(u32::MAX);
    if let Some(prefix) = framed.first_chunk_mut::<PREFIX>() {
        let [l1, l2, l3, l4] = length.to_be_bytes();
        *prefix = [u8::from(compressed), l1, l2, l3, l4];
    }
}

/// `grpc-timeout`: at most eight digits and a unit.
pub(super) fn timeout(limit: Duration) -> String {
    match limit.as_millis() {
        millis @ 0..=99_999_999 => format!("{millis}m"),
        millis => format!("{}S", (millis / 1000).min(99_999_999)),
    }
}

/// A call that came to its end.
pub(super) struct Ended {
    status: u16,
    headers: HeaderMap,
    trailers: HeaderMap,
    /// `None` when it was over the limit, and not read to its end.
    body: Option<Vec<u8>>,
}

impl Ended {
    /// Reads the answer to its trailers.
    pub(super) async fn read(response: reqwest::Response) -> Result<Self, reqwest::Error> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let (mut body, mut trailers) = (Some(Vec::new()), HeaderMap::new());
        let mut frames = reqwest::Body::from(response);
        while let Some(frame) = frames.frame().await {
            match (frame?.into_data(), &mut body) {
                (Ok(data), Some(known)) if known.len() + data.len() <= ANSWER_LIMIT => {
                    known.extend_from_slice(&data);
                }
                (Ok(_), _) => {
                    body = None;
                    break;
                }
                (Err(frame), _) => trailers.extend(frame.into_trailers().unwrap_or_default()),
            }
        }
        Ok(Self { status, headers, trailers, body })
    }

    fn code(&self) -> Option<u32> {
        let text = self.field("grpc-status")?;
        // UNKNOWN is what the specification makes of a status that is no number.
        Some(text.to_str().ok().and_then(|text| text.trim().parse().ok()).unwrap_or(2))
    }

    /// An answer without a message has its status among the headers.
    fn field(&self, name: &str) -> Option<&HeaderValue> {
        self.trailers.get(name).or_else(|| self.headers.get(name))
    }

    /// Whether credentials were refused.
    pub(super) fn refused(&self) -> bool {
        matches!((self.code(), self.status), (Some(7 | 16), _) | (None, 401 | 403))
    }

    /// What it means for a request of `sent` bytes.
    pub(super) fn outcome(&self, sent: usize, now: SystemTime) -> Outcome {
        let Some(code) = self.code() else { return self.without_status(now) };
        let outcome = match code {
            0 => match &self.body {
                Some(body) => accepted(body.get(PREFIX..)),
                None => accepted(None),
            },
            _ => classify_grpc(code, self.retry_info()),
        };
        // tonic says OUT_OF_RANGE to a message over its limit, which would be sent again for ever.
        if code == 11 && sent > STOCK_LIMIT {
            let reason = format!("gRPC status 11 OUT_OF_RANGE for a request of {sent} bytes");
            return Outcome::Rejected { split: Split::TooBig, reason };
        }
        outcome
    }

    /// Something between us and the receiver answered, or no receiver of gRPC.
    fn without_status(&self, now: SystemTime) -> Outcome {
        if self.status != 200 {
            let retry_after = self.headers.get(RETRY_AFTER).map(HeaderValue::as_bytes);
            return outcome::classify(&Answer { status: self.status, retry_after, body: None }, now);
        }
        let grpc =
            self.headers.get(CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"));
        match grpc {
            true => Outcome::Retry { after: None, reason: "the gRPC call ended without a status".to_owned() },
            false => Outcome::Paused { reason: "no gRPC receiver at this address".to_owned() },
        }
    }

    fn retry_info(&self) -> Option<Duration> {
        let details = self.field("grpc-status-details-bin")?;
        let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let bytes = GeneralPurpose::new(&STANDARD, lenient).decode(details.as_bytes()).ok()?;
        let status = RpcStatus::decode(&bytes[..]).ok()?;
        let info = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
        let delay = RetryInfo::decode(&info.value[..]).ok()?.retry_delay.unwrap_or_default();
        let seconds = u64::try_from(delay.seconds).unwrap_or(0);
        let nanos = u32::try_from(delay.nanos).unwrap_or(0).min(999_999_999);
        Some(Duration::new(seconds, nanos))
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}
