//! What a collector or a backend may answer: status, `Retry-After`, body.
#![no_main]

use std::time::{Duration, SystemTime};

use factline::deliver::classify_json;
use factline::deliver::outcome::{
    Answer, Outcome, RETRY_AFTER_CAP, classify, classify_grpc, classify_otlp_json, retry_after,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((head, rest)) = input.split_first_chunk::<4>() else { return };
    let (length, body) = rest.split_at(rest.len().min(usize::from(head[2])));
    let answer = Answer {
        status: u16::from_le_bytes([head[0], head[1]]) % 700,
        retry_after: (head[3] & 1 == 0).then_some(length),
        body: (head[3] & 2 == 0).then_some(body),
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_329_039);
    let seconds = body.first_chunk().map(|eight| Duration::from_secs(u64::from_le_bytes(*eight)));
    let outcomes = [
        classify(&answer, now),
        classify_otlp_json(&answer, now),
        classify_json(&answer, now),
        classify_grpc(u32::from(head[0]), seconds),
    ];
    for outcome in outcomes {
        let words = match outcome {
            Outcome::Delivered => continue,
            Outcome::Partial { message, .. } => message,
            Outcome::Retry { after, reason } => {
                assert!(after.is_none_or(|after| after <= RETRY_AFTER_CAP), "{after:?}");
                reason
            }
            Outcome::Unanswered { reason }
            | Outcome::Rejected { reason, .. }
            | Outcome::Paused { reason } => reason,
        };
        assert!(!words.contains(char::is_control), "{words:?}");
        assert!(words.chars().count() < 500, "{words:?}");
    }
    assert!(retry_after(length, now).is_none_or(|after| after <= RETRY_AFTER_CAP));
});
