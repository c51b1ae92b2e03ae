//! Finished records without what is private in them.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::encode::{self, fields, read_varint};
use super::open;
use super::out::Out;
use crate::fact::ENTRIES;
use crate::outbox::Without;

/// How content is taken out of what this module's layer wrote. Attributes that are gone count as dropped
/// (`dropped_attributes_count`), which tells them from such as were never captured.
pub const WITHOUT_CONTENT: Without = Without { record: without_content, begin: open::without_content };

/// Attributes that are content or environment.
static PRIVATE: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let ends =
        ENTRIES.iter().filter_map(|entry| entry.lasting.as_ref()).flat_map(|lasting| lasting.end_fields);
    let all = ENTRIES.iter().flat_map(|entry| entry.fields).chain(ends);
    all.filter(|field| field.class.is_private()).map(|field| field.key).collect()
});

/// Numbers of the fields that matter in a message.
#[derive(Clone, Copy)]
struct Form {
    attributes: u64,
    dropped: u64,
    /// Messages in it that have attributes of their own.
    events: Option<u64>,
}

const LOG: Form = Form { attributes: 6, dropped: 7, events: None };
const SPAN: Form = Form { attributes: 9, dropped: 10, events: Some(11) };
const EVENT: Form = Form { attributes: 3, dropped: 4, events: None };

fn without_content(record: &[u8]) -> Option<Vec<u8>> {
    let (length, body) = read_varint(record.strip_prefix(&[0x12])?)?;
    if body.len() as u64 != length {
        return None;
    }
    // The first field of a span has a length (its trace), that of a log record none (its time).
    let mut first = None;
    for field in fields(body) {
        let field = field?;
        first = first.or((field.number == 1).then_some(field.content.is_some()));
    }
    let kept = cleaned(body, if first? { SPAN } else { LOG })?;
    let mut out = Out::new();
    encode::bytes(&mut out, 0x12, &kept);
    Some(out.into_vec())
}

fn cleaned(message: &[u8], form: Form) -> Option<Out> {
    let mut out = Out::new();
    let mut dropped = 0;
    for field in fields(message) {
        let field = field?;
        match field.content {
            Some(attribute) if field.number == form.attributes => {
                let key = fields(attribute).flatten().find(|it| it.number == 1)?.content?;
                if PRIVATE.contains(std::str::from_utf8(key).ok()?) {
                    dropped += 1;
                } else {
                    out.extend_from_slice(field.whole);
                }
            }
            Some(event) if Some(field.number) == form.events => {
                encode::bytes(&mut out, (field.number << 3 | 2) as u8, &cleaned(event, EVENT)?);
            }
            _ if field.number == form.dropped => dropped += field.value,
            _ => out.extend_from_slice(field.whole),
        }
    }
    if dropped > 0 {
        out.push((form.dropped << 3) as u8);
        encode::varint(&mut out, dropped);
    }
    Some(out)
}

#[cfg(all(test, feature = "deliver"))] // which brings the types that decode
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ScopeLogs};
    use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, span::Event};
    use prost::Message as _;

    fn attributes(keys: &[&str]) -> Vec<KeyValue> {
        let value = || Some(AnyValue { value: Some(Value::StringValue("x".into())) });
        keys.iter().map(|key| KeyValue { key: (*key).into(), value: value(), ..Default::default() }).collect()
    }

    const ALL: [&str; 3] = ["gen_ai.conversation.id", "process.command_line", "gen_ai.input.messages"];

    #[test]
    fn a_span_and_its_events_and_a_log_record_lose_what_is_private_count_it_and_keep_all_else() {
        let event =
            Event { time_unix_nano: 7, name: "e".into(), attributes: attributes(&ALL), ..Default::default() };
        let span = Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            name: "s".into(),
            kind: 1,
            start_time_unix_nano: 3,
            end_time_unix_nano: 4,
            attributes: attributes(&ALL),
            dropped_attributes_count: 5,
            events: vec![event.clone()],
            dropped_events_count: 6,
            flags: 0x101,
            ..Default::default()
        };
        let spans =
            |span: &Span| ScopeSpans { spans: vec![span.clone()], ..Default::default() }.encode_to_vec();
        let kept = attributes(&ALL[..1]);
        let expected = Span {
            attributes: kept.clone(),
            dropped_attributes_count: 7,
            events: vec![Event { attributes: kept.clone(), dropped_attributes_count: 2, ..event }],
            ..span.clone()
        };
        let cleaned = without_content(&spans(&span)).unwrap();
        assert_eq!(ScopeSpans::decode(&cleaned[..]).unwrap().spans, std::slice::from_ref(&expected));
        let again = without_content(&cleaned).unwrap();
        assert_eq!(ScopeSpans::decode(&again[..]).unwrap().spans, [expected], "twice is once");
        let log = LogRecord {
            time_unix_nano: 1,
            severity_number: 9,
            attributes: attributes(&ALL),
            trace_id: vec![1; 16],
            event_name: "codex.turn.started".into(),
            ..Default::default()
        };
        let logs = |log: &LogRecord| {
            ScopeLogs { log_records: vec![log.clone()], ..Default::default() }.encode_to_vec()
        };
        let cleaned = without_content(&logs(&log)).unwrap();
        let expected = LogRecord { attributes: kept, dropped_attributes_count: 2, ..log };
        assert_eq!(ScopeLogs::decode(&cleaned[..]).unwrap().log_records, [expected]);
    }

    #[test]
    fn what_is_no_record_is_told() {
        let log = LogRecord { time_unix_nano: 1, attributes: attributes(&ALL), ..Default::default() };
        let whole = ScopeLogs { log_records: vec![log], ..Default::default() }.encode_to_vec();
        assert!(without_content(&whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(without_content(&whole[..end]), None, "{end}");
        }
        assert_eq!(without_content(b"{\"json\":1}"), None);
    }
}
