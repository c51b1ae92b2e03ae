//! One message of the app-server protocol: JSON-RPC 2.0 without its `jsonrpc` member, one object a line.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A message, with everything but its frame left as it came.
#[derive(Debug)]
pub enum Frame<'a> {
    /// Asks for an answer.
    Request(Call<'a>, RequestId),
    /// Asks for none.
    Notification(Call<'a>),
    /// Answers a request of the other side.
    Response(RequestId, Answer<'a>),
}

/// A method and what goes with it.
#[derive(Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Cow<'a, str>,
    /// Its parameters.
    pub params: Option<&'a RawValue>,
    /// When the server says it sent a notification, ms since 1970.
    pub emitted_ms: Option<u64>,
    /// W3C `traceparent` that came with a request.
    pub traceparent: Option<Cow<'a, str>>,
}

/// How a request was answered.
#[derive(Debug)]
pub enum Answer<'a> {
    /// With a result.
    Result(&'a RawValue),
    /// With an error.
    Error(Failure<'a>),
}

/// A JSON-RPC error.
#[derive(Debug, Default, Deserialize)]
pub struct Failure<'a> {
    /// Its code.
    #[serde(default)]
    pub code: i64,
    /// What it says; may hold content.
    #[serde(borrow, default)]
    pub message: Cow<'a, str>,
    /// What belongs to it.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
}

/// The id of a request: a number or a text, unique among the open ones of one sender on one connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestId {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestId::Number(number) => write!(f, "{number}"),
            RequestId::Text(text) => f.write_str(super::bounded(text, 128)),
        }
    }
}

impl RequestId {
    /// Reads an id; `None` for what the protocol does not allow (null, fractions, numbers beyond 64 bits).
    pub fn parse(raw: &RawValue) -> Option<RequestId> {
        let text = raw.get();
        if text.starts_with('"') {
            return serde_json::from_str(text).ok().map(RequestId::Text);
        }
        text.parse().ok().map(RequestId::Number)
    }
}

/// Why a line is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Not UTF-8.
    Encoding,
    /// Not a JSON object, or one with a member twice or of the wrong type.
    Json,
    /// An object that is neither request nor notification nor answer.
    Shape,
}

impl Malformed {
    /// A word for counters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Malformed::Encoding => "invalid_utf8",
            Malformed::Json => "not_json",
            Malformed::Shape => "no_message",
        }
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
    #[serde(borrow, rename = "emittedAtMs", default, deserialize_with = "present")]
    emitted: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    trace: Option<&'a RawValue>,
}

// `null` is a value here: a result may be null.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct Carrier<'a> {
    #[serde(borrow, default)]
    traceparent: Option<Cow<'a, str>>,
}

/// Reads one line.
///
/// # Errors
/// Says why it is no message; never echoes it.
pub fn parse(line: &[u8]) -> Result<Frame<'_>, Malformed> {
    let text = std::str::from_utf8(line).map_err(|_| Malformed::Encoding)?;
    if !text.trim_start().starts_with('{') {
        return Err(Malformed::Json);
    }
    let wire: Wire<'_> = serde_json::from_str(text).map_err(|_| Malformed::Json)?;
    let id = match wire.id {
        Some(raw) => Some(RequestId::parse(raw).ok_or(Malformed::Shape)?),
        None => None,
    };
    if let Some(method) = wire.method {
        let carrier = wire.trace.and_then(|raw| serde_json::from_str::<Carrier<'_>>(raw.get()).ok());
        let call = Call {
            method,
            params: wire.params,
            emitted_ms: wire.emitted.and_then(|raw| raw.get().parse().ok()),
            traceparent: carrier.and_then(|carrier| carrier.traceparent),
        };
        return Ok(match id {
            Some(id) => Frame::Request(call, id),
            None => Frame::Notification(call),
        });
    }
    let id = id.ok_or(Malformed::Shape)?;
    match (wire.result, wire.error) {
        (_, Some(error)) => {
            let failure = serde_json::from_str(error.get()).unwrap_or_default();
            Ok(Frame::Response(id, Answer::Error(failure)))
        }
        (Some(result), None) => Ok(Frame::Response(id, Answer::Result(result))),
        (None, None) => Err(Malformed::Shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_message_is_told_apart() {
        assert!(matches!(parse(br#"{"id":1,"method":"a"}"#), Ok(Frame::Request(_, RequestId::Number(1)))));
        assert!(matches!(
            parse(br#"{"method":"a","emittedAtMs":5}"#),
            Ok(Frame::Notification(Call { emitted_ms: Some(5), .. }))
        ));
        assert!(
            matches!(parse(br#"{"id":"x","result":null}"#), Ok(Frame::Response(_, Answer::Result(r))) if r.get() == "null")
        );
        assert!(matches!(
            parse(br#"{"error":{"code":-32600,"message":"m"},"id":0}"#),
            Ok(Frame::Response(RequestId::Number(0), Answer::Error(Failure { code: -32600, .. })))
        ));
    }

    #[test]
    fn what_is_no_message_says_why_and_never_panics() {
        for (line, why) in [
            (&b""[..], Malformed::Json),
            (b"  ", Malformed::Json),
            (b"null", Malformed::Json),
            (b"[1]", Malformed::Json),
            (b"{\"id\":1,\"id\":2,\"method\":\"a\"}", Malformed::Json),
            (b"{\"method\":5}", Malformed::Json),
            (b"{\"id\":1", Malformed::Json),
            (b"\xff\xfe", Malformed::Encoding),
            (b"{}", Malformed::Shape),
            (b"{\"id\":1}", Malformed::Shape),
            (b"{\"id\":null,\"method\":\"a\"}", Malformed::Shape),
            (b"{\"id\":1.5,\"method\":\"a\"}", Malformed::Shape),
            (b"{\"id\":99999999999999999999,\"method\":\"a\"}", Malformed::Shape),
        ] {
            assert_eq!(parse(line).err(), Some(why), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn nesting_of_any_depth_is_no_danger() {
        let deep = format!("{{\"method\":\"a\",\"params\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(parse(deep.as_bytes()), Ok(Frame::Notification(_))));
    }
}
