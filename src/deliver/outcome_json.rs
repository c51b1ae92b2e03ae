//! What the answer of a JSON backend means for the events in the request.
//!
//! There is no specification to follow, as OTLP has one. The rule is that an answer may only cost an event when
//! it can be about the event:
//!
//! | answer | outcome |
//! |---|---|
//! | 2xx | delivered; with a `rejected` array in its body, partial |
//! | 408, 425, 429, 5xx except 501 and 505 | retry, after `Retry-After` where it is given |
//! | no answer, transport error, 1xx | retry |
//! | 3xx | paused: redirects are not followed |
//! | 401, 403 | paused, after the token was renewed once ([`super::backend`]) |
//! | 402, 404, 405, 406, 407, 410, 411, 415, 421, 431, 451, 501, 505 | paused: URL, headers or form are wrong |
//! | 413 | too big: cut in two, and further batches are smaller |
//! | 400, 422, any other 4xx | cut in two until the bad event is alone, which becomes a dead letter |

use std::time::SystemTime;

use serde::Deserialize;

use super::outcome::{Answer, Outcome, Split, printable, retry_after};

/// What an HTTP answer of a JSON backend means.
pub fn classify_json(answer: &Answer<'_>, now: SystemTime) -> Outcome {
    let status = answer.status;
    let reason = || format!("HTTP status {status}");
    match status {
        200..=299 => accepted(answer.body),
        300..=399 => Outcome::Paused { reason: format!("{}, a redirect, is not followed", reason()) },
        401 | 403 | 407 => {
            Outcome::Paused { reason: format!("{}: credentials missing or refused", reason()) }
        }
        402 | 404 | 405 | 406 | 410 | 411 | 415 | 421 | 431 | 451 | 501 | 505 => {
            Outcome::Paused { reason: format!("{}: no backend for these requests at this URL", reason()) }
        }
        408 | 425 | 429 | 500..=599 => {
            let after = answer.retry_after.and_then(|text| retry_after(text, now));
            Outcome::Retry { after, reason: reason() }
        }
        413 => Outcome::Rejected { split: Split::TooBig, reason: reason() },
        400..=499 => Outcome::Rejected { split: Split::BadRecord, reason: reason() },
        // Not a final answer, so that no answer was given.
        _ => Outcome::Retry { after: None, reason: reason() },
    }
}

/// What a backend may say about single events; `factline backend` does.
#[derive(Deserialize)]
struct Body {
    rejected: Vec<Rejected>,
}

#[derive(Deserialize)]
struct Rejected {
    #[serde(default)]
    reason: String,
}

fn accepted(body: Option<&[u8]>) -> Outcome {
    let Some(Ok(Body { rejected })) = body.map(serde_json::from_slice) else { return Outcome::Delivered };
    match rejected.first() {
        None => Outcome::Delivered,
        Some(first) => {
            Outcome::Partial { rejected: rejected.len() as u64, message: printable(&first.reason) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &[u8]) -> Outcome {
        classify_json(&Answer { status, retry_after: Some(b"3"), body: Some(body) }, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn every_status_has_the_outcome_of_the_table() {
        for status in 100..=599 {
            let is = match answer(status, b"") {
                Outcome::Delivered => "delivered",
                Outcome::Partial { .. } => "partial",
                Outcome::Retry { after: Some(after), .. } if after.as_secs() == 3 => "retry after",
                Outcome::Retry { .. } | Outcome::Unanswered { .. } => "retry",
                Outcome::Rejected { split: Split::No, .. } => "rejected",
                Outcome::Rejected { split: Split::TooBig, .. } => "too big",
                Outcome::Rejected { split: Split::BadRecord, .. } => "cut",
                Outcome::Paused { .. } => "paused",
            };
            let should = match status {
                100..=199 => "retry",
                200..=299 => "delivered",
                300..=399 => "paused",
                401..=407 | 410 | 411 | 415 | 421 | 431 | 451 | 501 | 505 => "paused",
                413 => "too big",
                408 | 425 | 429 | 500.. => "retry after",
                _ => "cut",
            };
            assert_eq!(is, should, "{status}");
        }
    }

    #[test]
    fn refused_events_are_counted_and_their_reason_is_made_harmless() {
        let body = br#"{"accepted":1,"rejected":[{"index":0,"reason":"a\u001b[1m"},{"index":2}]}"#;
        assert_eq!(answer(200, body), Outcome::Partial { rejected: 2, message: "a\\u{1b}[1m".into() });
    }

    #[test]
    fn a_success_with_any_other_body_is_a_success() {
        let bodies: [&[u8]; 6] = [b"", b"ok", b"{}", b"{\"rejected\":[]}", b"{\"rejected\":3}", b"\xff{"];
        for body in bodies {
            assert_eq!(answer(202, body), Outcome::Delivered);
        }
        let unread = Answer { status: 200, retry_after: None, body: None };
        assert_eq!(classify_json(&unread, SystemTime::UNIX_EPOCH), Outcome::Delivered);
    }
}
