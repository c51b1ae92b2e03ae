//! From a request to events, or to the reason why not: everything that is read here has a bound.

use std::io::Read;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

/// What every request's path ends with; what stands before it is the client's base URL.
const PATH: &str = "/codex/analytics-events/events";
/// A body that is too big is read on to its end, up to this, and thrown away: a client that is still sending
/// when the connection closes sees a reset, not the answer, and would send it all again.
const DISCARDED: usize = 64 << 20;

/// A request that is not taken.
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    close: bool,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), close: false }
    }

    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let mut response = json_response(self.status, &json!({"error": self.error}));
        let headers = response.headers_mut();
        match self.status {
            StatusCode::METHOD_NOT_ALLOWED => headers.insert(ALLOW, HeaderValue::from_static("POST")),
            StatusCode::SERVICE_UNAVAILABLE => headers.insert(RETRY_AFTER, HeaderValue::from_static("5")),
            _ => None,
        };
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

pub(super) fn json_response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Reads the events of a request.
pub(super) async fn events(
    request: Request<Incoming>,
    body_bytes: usize,
    body_time: Duration,
    most: usize,
) -> Result<Vec<Value>, Refusal> {
    if !request.uri().path().ends_with(PATH) {
        return Err(Refusal::new(StatusCode::NOT_FOUND, format!("events are posted to {PATH}")));
    }
    if request.method() != Method::POST {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "only POST"));
    }
    let gzip = encoding(request.headers())?;
    let body = match tokio::time::timeout(body_time, read(request.into_body(), body_bytes)).await {
        Ok(body) => body?,
        Err(_) => {
            let error = format!("the body did not arrive within {} s", body_time.as_secs_f32());
            return Err(Refusal { status: StatusCode::REQUEST_TIMEOUT, error, close: true });
        }
    };
    let body = if gzip { unzip(&body, body_bytes)? } else { body };
    parse(&body, most)
}

/// Whether the body is compressed. A browser's page can't send JSON to us without asking first, which is not
/// answered: that is why the content type is insisted on.
fn encoding(headers: &HeaderMap) -> Result<bool, Refusal> {
    let unsupported = |error: &str| Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return unsupported("the content type must be application/json");
    }
    match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None => Ok(false),
        Some(coding) if coding.eq_ignore_ascii_case(b"identity") => Ok(false),
        Some(coding) if coding.eq_ignore_ascii_case(b"gzip") => Ok(true),
        Some(_) => unsupported("the content encoding must be gzip or none"),
    }
}

fn too_large(limit: usize) -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {limit} bytes"))
}

async fn read(mut body: Incoming, limit: usize) -> Result<Vec<u8>, Refusal> {
    if body.size_hint().lower() > DISCARDED as u64 {
        return Err(Refusal { close: true, ..too_large(limit) });
    }
    let mut out = Vec::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal {
            close: true,
            ..Refusal::new(StatusCode::BAD_REQUEST, "the body ended before its end")
        })?;
        let Some(data) = frame.data_ref() else { continue };
        length = length.saturating_add(data.len());
        if length > DISCARDED {
            return Err(Refusal { close: true, ..too_large(limit) });
        }
        if length > limit {
            out = Vec::new();
        } else {
            out.extend_from_slice(data);
        }
    }
    if length > limit { Err(too_large(limit)) } else { Ok(out) }
}

fn unzip(body: &[u8], limit: usize) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(body).take(limit as u64 + 1).read_to_end(&mut out);
    match read {
        _ if out.len() > limit => Err(too_large(limit)),
        Ok(_) => Ok(out),
        Err(_) => Err(Refusal::new(StatusCode::BAD_REQUEST, "the body is no gzip")),
    }
}

/// The parser's own bound of 128 levels holds for nesting; its words are not repeated, they quote the body.
fn parse(body: &[u8], most: usize) -> Result<Vec<Value>, Refusal> {
    let bad = |error: String| Err(Refusal::new(StatusCode::BAD_REQUEST, error));
    let body: Value = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let deep = error.to_string().starts_with("recursion limit");
            let what = if deep { "is nested deeper than 128 levels" } else { "is no JSON" };
            return bad(format!("the body {what} (line {line}, column {column})"));
        }
    };
    let Value::Object(mut body) = body else { return bad("the body is no object".to_owned()) };
    match body.remove("events") {
        Some(Value::Array(events)) if events.len() > most => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("{} events in one request, at most {most} are taken", events.len()),
        )),
        Some(Value::Array(events)) => Ok(events),
        Some(_) => bad("`events` is no array".to_owned()),
        None => bad("the body has no `events`".to_owned()),
    }
}
