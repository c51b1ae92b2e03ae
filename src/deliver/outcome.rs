//! What an answer means for the records in the request. Pure: a table of the OTLP specification ("OTLP/HTTP
//! Response", "Failures") and of our documented deviations from it:
//!
//! - A refused request of more than one record is cut in two. The specification forbids to send the refused
//!   request again, but one bad record must not take all others along.
//! - What points to a configuration mistake (credentials, URL, redirect) pauses the destination instead of
//!   throwing its queue away.

use std::time::{Duration, SystemTime};

use prost::Message;

/// `Retry-After` beyond this is shortened to it, or a wrong header could stop delivery for a year.
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(600);

/// The reason under which a refused record is counted. The dead letter says which answer it was.
pub const LOST_REJECTED: &str = "rejected";
/// The reason for records that a partial success left out; which ones they were, nobody says.
pub const LOST_PARTIAL: &str = "rejected_partial";

const SHOWN_CHARS: usize = 200;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Taken.
    Delivered,
    /// Taken, with something to say. Never sent again.
    Partial {
        /// Records that were left out; at most as many as were sent matter.
        rejected: u64,
        /// The destination's words, safe to print.
        message: String,
    },
    /// Not taken now; to be sent again.
    Retry {
        /// How long the destination wants to be left alone, at most [`RETRY_AFTER_CAP`].
        after: Option<Duration>,
        /// Why, safe to print.
        reason: String,
    },
    /// Sent, and nobody said in time whether it was taken; to be sent again.
    Unanswered {
        /// How long it was waited for, safe to print.
        reason: String,
    },
    /// Never to be taken.
    Rejected {
        /// Whether fewer records might be.
        split: Split,
        /// Why, safe to print.
        reason: String,
    },
    /// Nothing will be taken until somebody changes a configuration; the records are kept.
    Paused {
        /// Why, safe to print.
        reason: String,
    },
}

/// Whether to try a refused request in smaller parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// No: the answer says nothing about the records.
    No,
    /// Yes: some record in it is bad.
    BadRecord,
    /// Yes: together they are too big.
    TooBig,
}

/// An HTTP answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// The `Retry-After` header.
    pub retry_after: Option<&'a [u8]>,
    /// The body; `None` when it was longer than the limit, and not read to its end.
    pub body: Option<&'a [u8]>,
}

/// What an answer of OTLP/HTTP with protobuf means.
pub fn classify(answer: &Answer<'_>, now: SystemTime) -> Outcome {
    classify_with(answer, now, accepted)
}

/// What an answer of OTLP/HTTP with JSON means.
pub fn classify_otlp_json(answer: &Answer<'_>, now: SystemTime) -> Outcome {
    classify_with(answer, now, accepted_json)
}

fn classify_with(
    answer: &Answer<'_>,
    now: SystemTime,
    accepted: impl Fn(Option<&[u8]>) -> Outcome,
) -> Outcome {
    let status = answer.status;
    let reason = || format!("HTTP status {status}");
    match status {
        200..=299 => accepted(answer.body),
        429 | 502 | 503 | 504 => {
            let after = answer.retry_after.and_then(|text| retry_after(text, now));
            Outcome::Retry { after, reason: reason() }
        }
        400 | 422 => Outcome::Rejected { split: Split::BadRecord, reason: reason() },
        413 => Outcome::Rejected { split: Split::TooBig, reason: reason() },
        // A redirect is not followed: headers of any name and the records would go to a host nobody
        // configured.
        300..=399 => Outcome::Paused { reason: format!("{}, a redirect, is not followed", reason()) },
        401 | 403 | 407 => {
            Outcome::Paused { reason: format!("{}: credentials missing or refused", reason()) }
        }
        // Nothing about the records: the URL or the protocol is wrong. 415 and 501 are what 404 and 405 are
        // to a receiver of another form of OTLP.
        404 | 405 | 415 | 501 => {
            Outcome::Paused { reason: format!("{}: no OTLP receiver at this URL", reason()) }
        }
        // Not a final answer, so that no answer was given.
        0..=199 => Outcome::Retry { after: None, reason: reason() },
        _ => Outcome::Rejected { split: Split::No, reason: reason() },
    }
}

/// What the end of a gRPC call means: `code` as in `grpc-status`, `retry_info` from the `RetryInfo` of its
/// details.
pub fn classify_grpc(code: u32, retry_info: Option<Duration>) -> Outcome {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code)).copied().unwrap_or("UNKNOWN");
    let reason = format!("gRPC status {code} {name}");
    let after = retry_info.map(|after| after.min(RETRY_AFTER_CAP));
    match name {
        "OK" => Outcome::Delivered,
        "CANCELLED" | "DEADLINE_EXCEEDED" | "ABORTED" | "OUT_OF_RANGE" | "UNAVAILABLE" | "DATA_LOSS" => {
            Outcome::Retry { after, reason }
        }
        "RESOURCE_EXHAUSTED" if after.is_some() => Outcome::Retry { after, reason },
        // Without a RetryInfo it is what a receiver says to a message over its limit.
        "RESOURCE_EXHAUSTED" => Outcome::Rejected { split: Split::TooBig, reason },
        "INVALID_ARGUMENT" => Outcome::Rejected { split: Split::BadRecord, reason },
        "NOT_FOUND" | "PERMISSION_DENIED" | "UNIMPLEMENTED" | "UNAUTHENTICATED" => Outcome::Paused { reason },
        _ => Outcome::Rejected { split: Split::No, reason },
    }
}

/// How long to wait. `None` for what is neither a number of seconds nor an HTTP date (RFC 9110, 10.2.3).
pub fn retry_after(text: &[u8], now: SystemTime) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_CAP));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(RETRY_AFTER_CAP))
}

/// Text of a stranger, made safe for a terminal and a log line: no control characters, at most 200
/// characters.
pub fn printable(text: &str) -> String {
    let mut out = String::new();
    for (count, char) in text.chars().enumerate() {
        if count == SHOWN_CHARS {
            out.push('…');
            break;
        }
        // Format characters (right-to-left override and its kin) reorder a line as control characters do.
        let reorders =
            matches!(char, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
        if char.is_control() || reorders {
            out.extend(char.escape_unicode());
        } else {
            out.push(char);
        }
    }
    out
}

/// An `Export*ServiceResponse`: the three are the same on the wire. The message is read as bytes because one
/// that is no UTF-8 must not hide the count beside it.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(bytes = "vec", tag = "2")]
    message: Vec<u8>,
}

/// What a success says in its body; `None` when it was over its limit.
pub(super) fn accepted(body: Option<&[u8]>) -> Outcome {
    told(body, |body| {
        let partial = ExportResponse::decode(body).ok()?.partial_success?;
        Some((partial.rejected, partial.message))
    })
}

/// An `Export*ServiceResponse` as JSON, of any signal. 64-bit numbers are texts there, or numbers.
fn accepted_json(body: Option<&[u8]>) -> Outcome {
    told(body, |body| {
        let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
        let partial = answer.get("partialSuccess")?;
        let count = |name: &str| match partial.get(name)? {
            serde_json::Value::String(text) => text.parse().ok(),
            other => other.as_i64(),
        };
        let rejected =
            ["rejectedLogRecords", "rejectedSpans", "rejectedDataPoints"].into_iter().find_map(count);
        let message = partial.get("errorMessage").and_then(|it| it.as_str()).unwrap_or_default();
        Some((rejected.unwrap_or(0), message.as_bytes().to_vec()))
    })
}

fn told(body: Option<&[u8]>, read: impl Fn(&[u8]) -> Option<(i64, Vec<u8>)>) -> Outcome {
    // The status is the acknowledgement. A body that can't be read can't take it back: sending again what was
    // taken would double it.
    let Some(body) = body else {
        let message = "accepted, but the answer was over its limit and was not read".to_owned();
        return Outcome::Partial { rejected: 0, message };
    };
    match read(body) {
        Some((rejected, message)) if rejected > 0 || !message.is_empty() => {
            let rejected = u64::try_from(rejected).unwrap_or(0);
            // Cut as bytes first: escaping a megabyte to keep 200 characters is work for nothing.
            let bytes = message.get(..4 * (SHOWN_CHARS + 1)).unwrap_or(&message);
            Outcome::Partial { rejected, message: printable(&String::from_utf8_lossy(bytes)) }
        }
        _ => Outcome::Delivered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Outcome {
        classify(&Answer { status, retry_after: None, body: Some(b"") }, SystemTime::UNIX_EPOCH)
    }

    fn partial(rejected: i64, message: &[u8]) -> Outcome {
        let partial_success = Some(PartialSuccess { rejected, message: message.to_vec() });
        let body = ExportResponse { partial_success }.encode_to_vec();
        classify(&Answer { status: 200, retry_after: None, body: Some(&body) }, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn every_http_status_has_the_outcome_of_the_table() {
        for status in 100..=599 {
            let is = match answer(status) {
                Outcome::Delivered => "delivered",
                Outcome::Partial { .. } => "partial",
                Outcome::Retry { .. } | Outcome::Unanswered { .. } => "retry",
                Outcome::Rejected { split: Split::No, .. } => "rejected",
                Outcome::Rejected { .. } => "split",
                Outcome::Paused { .. } => "paused",
            };
            let should = match status {
                100..=199 => "retry",
                200..=299 => "delivered",
                300..=399 => "paused",
                401 | 403 | 404 | 405 | 407 | 415 | 501 => "paused",
                400 | 413 | 422 => "split",
                429 | 502 | 503 | 504 => "retry",
                _ => "rejected",
            };
            assert_eq!(is, should, "{status}");
        }
        assert!(matches!(answer(408), Outcome::Rejected { split: Split::No, .. }));
        assert!(matches!(answer(500), Outcome::Rejected { split: Split::No, .. }));
        assert!(matches!(answer(413), Outcome::Rejected { split: Split::TooBig, .. }));
        assert!(matches!(answer(400), Outcome::Rejected { split: Split::BadRecord, .. }));
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_a_date_and_capped() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 12:00:00 GMT").unwrap();
        let seconds = |text: &str| retry_after(text.as_bytes(), now).map(|after| after.as_secs());
        for (text, expected) in [
            ("0", Some(0)),
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("1000000000000", Some(600)),
            ("99999999999999999999999999", Some(600)),
            ("Sun, 22 Nov 2026 12:00:30 GMT", Some(30)),
            ("Sun, 22 Nov 2026 11:00:00 GMT", Some(0)),
            ("Sun, 22 Nov 2099 12:00:00 GMT", Some(600)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text:?}");
        }
        assert_eq!(retry_after(b"\xff\xfe", now), None);
    }

    #[test]
    fn retry_after_belongs_to_a_retry_alone() {
        let with = |status| {
            classify(&Answer { status, retry_after: Some(b"3"), body: None }, SystemTime::UNIX_EPOCH)
        };
        for status in [429, 502, 503, 504] {
            assert!(
                matches!(with(status), Outcome::Retry { after: Some(after), .. } if after.as_secs() == 3)
            );
        }
        assert!(matches!(with(500), Outcome::Rejected { .. }));
    }

    #[test]
    fn a_partial_success_is_counted_and_its_text_made_harmless() {
        assert_eq!(partial(0, b""), Outcome::Delivered);
        assert_eq!(partial(3, b"too old"), Outcome::Partial { rejected: 3, message: "too old".into() });
        assert_eq!(partial(0, b"hm"), Outcome::Partial { rejected: 0, message: "hm".into() });
        assert_eq!(partial(-4, b""), Outcome::Delivered);
        let Outcome::Partial { rejected: 2, message } = partial(2, b"\x1b[31mred\r\n\xff") else { panic!() };
        assert_eq!(message, "\\u{1b}[31mred\\u{d}\\u{a}\u{fffd}");
        let Outcome::Partial { message, .. } = partial(1, "é".repeat(1 << 20).as_bytes()) else { panic!() };
        assert_eq!(message.chars().count(), 201);
    }

    #[test]
    fn a_partial_success_in_json_is_read_like_one_in_protobuf() {
        let json = |body: &str| {
            let answer = Answer { status: 200, retry_after: None, body: Some(body.as_bytes()) };
            classify_otlp_json(&answer, SystemTime::UNIX_EPOCH)
        };
        for (body, rejected, message) in [
            (r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"old"}}"#, 3, "old"),
            (r#"{"partialSuccess":{"rejectedSpans":2}}"#, 2, ""),
            (r#"{"partialSuccess":{"rejectedDataPoints":"1","errorMessage":"\u001b[1m"}}"#, 1, "\\u{1b}[1m"),
            (r#"{"partialSuccess":{"errorMessage":"hm"}}"#, 0, "hm"),
        ] {
            assert_eq!(json(body), Outcome::Partial { rejected, message: message.into() }, "{body}");
        }
        for body in ["", "{}", "[]", r#"{"partialSuccess":{}}"#, r#"{"partialSuccess":null}"#, "\u{0}"] {
            assert_eq!(json(body), Outcome::Delivered, "{body}");
        }
        for status in 100..=599 {
            let answer = Answer { status, retry_after: Some(b"3"), body: Some(b"") };
            let (json, protobuf) = (
                classify_otlp_json(&answer, SystemTime::UNIX_EPOCH),
                classify(&answer, SystemTime::UNIX_EPOCH),
            );
            assert_eq!(json, protobuf, "{status}");
        }
    }

    #[test]
    fn a_success_without_a_readable_body_is_a_success() {
        for body in [&b"not protobuf"[..], b"{}", b"\x0a\xff", b""] {
            let answer = Answer { status: 200, retry_after: None, body: Some(body) };
            assert_eq!(classify(&answer, SystemTime::UNIX_EPOCH), Outcome::Delivered);
        }
        let cut = classify(&Answer { status: 200, retry_after: None, body: None }, SystemTime::UNIX_EPOCH);
        assert!(matches!(cut, Outcome::Partial { rejected: 0, .. }));
    }

    #[test]
    fn every_grpc_code_has_the_outcome_of_the_table() {
        for code in 0..=20 {
            let (bare, told) = (classify_grpc(code, None), classify_grpc(code, Some(Duration::from_secs(9))));
            match code {
                0 => assert_eq!(bare, Outcome::Delivered),
                1 | 4 | 10 | 11 | 14 | 15 => {
                    assert!(matches!(bare, Outcome::Retry { after: None, .. }), "{code}");
                    assert!(matches!(told, Outcome::Retry { after: Some(_), .. }), "{code}");
                }
                8 => {
                    assert!(matches!(bare, Outcome::Rejected { split: Split::TooBig, .. }));
                    assert!(matches!(told, Outcome::Retry { after: Some(_), .. }));
                }
                3 => assert!(matches!(bare, Outcome::Rejected { split: Split::BadRecord, .. })),
                5 | 7 | 12 | 16 => assert!(matches!(bare, Outcome::Paused { .. }), "{code}"),
                _ => assert!(matches!(bare, Outcome::Rejected { split: Split::No, .. }), "{code}"),
            }
        }
        let told = classify_grpc(14, Some(Duration::from_secs(1 << 40)));
        assert!(matches!(told, Outcome::Retry { after: Some(RETRY_AFTER_CAP), .. }));
    }
}
