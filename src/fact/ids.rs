//! Ids that follow from what they identify, so that delivering or replaying twice gives the same ones.
//!
//! A turn's trace id is its root turn's UUID, so a turn id pasted into a trace viewer finds it; UUIDv7 keeps
//! 56 random low bits, as W3C Trace Context level 2 asks. Everything else is a hash (XXH3, seed 0).

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// What a span stands for: the part of its id that keeps a turn apart from an item of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SpanKind {
    /// A client's connection.
    Connection = 1,
    /// A turn.
    Turn = 2,
    /// An item: a tool call or a compaction.
    Item = 3,
    /// A run of a hook.
    Hook = 4,
}

/// The trace of a turn: the 16 bytes of its root turn's UUID, else a hash of thread and turn.
pub fn trace_id(root_turn: &str, thread: &str, turn: &str) -> u128 {
    uuid(root_turn).unwrap_or_else(|| hash_trace(&[thread, turn]))
}

/// A trace id that is a hash of `parts`; never zero, which W3C Trace Context forbids.
pub fn hash_trace(parts: &[&str]) -> u128 {
    let mut bytes = Vec::with_capacity(96);
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    xxh3_128(&bytes).max(1)
}

/// A span's id: a hash of trace, kind, turn and item; a turn has no item. Never zero.
pub fn span_id(trace: u128, kind: SpanKind, turn: &str, item: &str) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&trace.to_le_bytes());
    hash.update(&[kind as u8]);
    hash.update(&(turn.len() as u64).to_le_bytes());
    hash.update(turn.as_bytes());
    hash.update(item.as_bytes());
    hash.digest().max(1)
}

/// The number of a UUID in its usual form, with or without dashes, if it is one and not nil.
pub fn uuid(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    let dashed = match bytes.len() {
        36 => true,
        32 => false,
        _ => return None,
    };
    let mut number = 0u128;
    for (at, byte) in bytes.iter().enumerate() {
        if dashed && matches!(at, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        number = number << 4 | u128::from(char::from(*byte).to_digit(16)?);
    }
    (number != 0).then_some(number)
}

/// A W3C `traceparent`: trace id, parent span id and flags (Trace Context level 2, section 3.2).
pub fn traceparent(text: &str) -> Option<(u128, u64, u8)> {
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let sized = version.len() == 2 && trace.len() == 32 && span.len() == 16 && flags.len() == 2;
    if !sized || version == "ff" || ![version, trace, span, flags].into_iter().all(hex) {
        return None;
    }
    if version == "00" && parts.next().is_some() {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    let span = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
    Some((trace, span, u8::from_str_radix(flags, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_id_without_its_dashes_is_its_trace_id() {
        let turn = "01a201f3-bbc2-7210-93e3-c9061bfde670";
        assert_eq!(format!("{:032x}", trace_id(turn, "thread", turn)), turn.replace('-', ""));
    }

    #[test]
    fn what_is_no_uuid_gets_a_stable_hash_that_keeps_its_parts_apart() {
        assert_eq!(trace_id("r", "ab", "c"), trace_id("other", "ab", "c"));
        assert_ne!(trace_id("r", "ab", "c"), trace_id("r", "a", "bc"));
        // Both computed with another implementation of XXH3 (the Python package xxhash).
        assert_eq!(format!("{:032x}", hash_trace(&["thread", "turn"])), "0c788be2fcb28e6a40018c0416958b02");
        assert_eq!(format!("{:016x}", span_id(1, SpanKind::Turn, "t", "")), "ffc049ea96acecd3");
        for bad in ["", "01a201f3-bbc2-7210-93e3-c9061bfde67", "g1a201f3-bbc2-7210-93e3-c9061bfde670"] {
            assert_eq!(uuid(bad), None);
        }
        assert_eq!(uuid("00000000-0000-0000-0000-000000000000"), None);
    }

    #[test]
    fn kinds_and_items_have_spans_of_their_own() {
        let ids = [
            span_id(1, SpanKind::Turn, "t", ""),
            span_id(1, SpanKind::Item, "t", ""),
            span_id(1, SpanKind::Item, "t", "i"),
            span_id(1, SpanKind::Item, "ti", ""),
            span_id(2, SpanKind::Turn, "t", ""),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(ids.iter().skip(at + 1).all(|other| other != id));
        }
    }

    #[test]
    fn traceparent_follows_the_w3c_form() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(good), Some((0x4bf92f3577b34da6a3ce929d0e0e4736, 0x00f067aa0ba902b7, 1)));
        assert!(traceparent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-future").is_some());
        for bad in [
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf9-00f0-01",
            "",
        ] {
            assert_eq!(traceparent(bad), None, "{bad}");
        }
    }
}
