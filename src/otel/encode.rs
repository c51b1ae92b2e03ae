//! Protobuf, as much of it as OTLP records need, written straight into a buffer.
//!
//! Wire format: <https://protobuf.dev/programming-guides/encoding/>; field numbers: opentelemetry-proto 1.x.

/// Tag of an attribute in a log record (`LogRecord.attributes`, field 6).
pub(super) const LOG_ATTRIBUTE: u8 = 0x32;
/// Tag of an attribute in a span (`Span.attributes`, field 9).
pub(super) const SPAN_ATTRIBUTE: u8 = 0x4a;
/// Tag of an attribute in a resource (`Resource.attributes`, field 1).
pub(super) const RESOURCE_ATTRIBUTE: u8 = 0x0a;
/// Tag of an attribute in a link (`Link.attributes`, field 4).
pub(super) const LINK_ATTRIBUTE: u8 = 0x22;

/// Appends a number of variable length.
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How long [`varint`] of a value is.
pub(super) const fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Reads a number of variable length and what follows it.
pub(super) fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

/// Appends a field of bytes: tag, length, content.
pub(super) fn bytes(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Appends a field of eight bytes.
pub(super) fn fixed64(out: &mut Vec<u8>, tag: u8, value: u64) {
    out.push(tag);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a field of four bytes.
pub(super) fn fixed32(out: &mut Vec<u8>, tag: u8, value: u32) {
    out.push(tag);
    out.extend_from_slice(&value.to_le_bytes());
}

fn sized(text: usize) -> usize {
    1 + varint_len(text as u64) + text
}

// Everything of a KeyValue but the value itself: `value` is the size of the encoded AnyValue.
fn key(out: &mut Vec<u8>, tag: u8, key: &str, value: usize) {
    out.push(tag);
    varint(out, (sized(key.len()) + sized(value)) as u64);
    bytes(out, 0x0a, key.as_bytes());
    out.push(0x12);
    varint(out, value as u64);
}

/// Appends an attribute that is a text.
pub(super) fn text(out: &mut Vec<u8>, tag: u8, name: &str, value: &str) {
    key(out, tag, name, sized(value.len()));
    bytes(out, 0x0a, value.as_bytes());
}

/// Appends an attribute whose value, an `AnyValue`, is encoded already.
pub(super) fn any(out: &mut Vec<u8>, tag: u8, name: &str, value: &[u8]) {
    key(out, tag, name, value.len());
    out.extend_from_slice(value);
}

/// Appends an attribute that is true or false.
pub(super) fn flag(out: &mut Vec<u8>, tag: u8, name: &str, value: bool) {
    key(out, tag, name, 2);
    out.extend_from_slice(&[0x10, u8::from(value)]);
}

/// Appends an attribute that is a whole number.
pub(super) fn signed(out: &mut Vec<u8>, tag: u8, name: &str, value: i64) {
    key(out, tag, name, 1 + varint_len(value as u64));
    out.push(0x18);
    varint(out, value as u64);
}

/// Appends an attribute that is a number without sign: decimal text where OTLP has no such number.
pub(super) fn unsigned(out: &mut Vec<u8>, tag: u8, name: &str, value: u64) {
    match i64::try_from(value) {
        Ok(value) => signed(out, tag, name, value),
        Err(_) => text(out, tag, name, &value.to_string()),
    }
}

/// Appends an attribute that is a floating-point number.
pub(super) fn number(out: &mut Vec<u8>, tag: u8, name: &str, value: f64) {
    key(out, tag, name, 9);
    fixed64(out, 0x21, value.to_bits());
}

/// Appends an attribute that is a list of texts.
pub(super) fn list(out: &mut Vec<u8>, tag: u8, name: &str, values: &[String]) {
    let elements: usize = values.iter().map(|value| sized(sized(value.len()))).sum();
    key(out, tag, name, sized(elements));
    out.push(0x2a);
    varint(out, elements as u64);
    for value in values {
        out.push(0x0a);
        varint(out, sized(value.len()) as u64);
        bytes(out, 0x0a, value.as_bytes());
    }
}

/// Copies attributes written with any tag, giving them another.
pub(super) fn retag(out: &mut Vec<u8>, mut attributes: &[u8], tag: u8) {
    while let Some((length, rest)) = attributes.get(1..).and_then(read_varint) {
        let Some(content) = rest.get(..length as usize) else { return };
        bytes(out, tag, content);
        attributes = rest.get(length as usize..).unwrap_or_default();
    }
}

/// Room for the tag and length of a record, which is only known when it is complete.
const PREFIX: usize = 11;

/// Begins a record in an empty buffer.
pub(super) fn begin_record(out: &mut Vec<u8>) {
    out.clear();
    out.resize(PREFIX, 0);
}

/// Completes the record that [`begin_record`] began: `0x12 varint(n) body`, the form it has in a request.
pub(super) fn complete_record(out: &mut [u8]) -> &[u8] {
    let length = (out.len() - PREFIX) as u64;
    let start = PREFIX - 1 - varint_len(length);
    let mut prefix = Vec::with_capacity(PREFIX);
    prefix.push(0x12);
    varint(&mut prefix, length);
    if let Some(place) = out.get_mut(start..PREFIX) {
        place.copy_from_slice(&prefix);
    }
    out.get(start..).unwrap_or_default()
}

#[cfg(all(test, feature = "deliver"))] // which brings the types that decode
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ScopeLogs};
    use prost::Message as _;

    #[test]
    fn every_attribute_decodes_to_what_was_written() {
        let mut out = Vec::new();
        begin_record(&mut out);
        text(&mut out, LOG_ATTRIBUTE, "text", "Grüße");
        flag(&mut out, LOG_ATTRIBUTE, "flag", true);
        signed(&mut out, LOG_ATTRIBUTE, "signed", -5);
        unsigned(&mut out, LOG_ATTRIBUTE, "unsigned", 5);
        unsigned(&mut out, LOG_ATTRIBUTE, "large", u64::MAX);
        number(&mut out, LOG_ATTRIBUTE, "number", 1.5);
        list(&mut out, LOG_ATTRIBUTE, "list", &["a".into(), String::new(), "c".repeat(300)]);
        let record = complete_record(&mut out).to_vec();
        let scope = ScopeLogs::decode(&record[..]).unwrap();
        let attributes = &scope.log_records[0].attributes;
        let value = |key: &str| {
            attributes.iter().find(|kv| kv.key == key).and_then(|kv| kv.value.clone()).unwrap().value.unwrap()
        };
        assert_eq!(value("text"), Value::StringValue("Grüße".into()));
        assert_eq!(value("flag"), Value::BoolValue(true));
        assert_eq!(value("signed"), Value::IntValue(-5));
        assert_eq!(value("unsigned"), Value::IntValue(5));
        assert_eq!(value("large"), Value::StringValue(u64::MAX.to_string()));
        assert_eq!(value("number"), Value::DoubleValue(1.5));
        let Value::ArrayValue(list) = value("list") else { panic!("no list") };
        let texts: Vec<_> = list.values.into_iter().map(|v| v.value.unwrap()).collect();
        assert_eq!(texts[1], Value::StringValue(String::new()));
        assert_eq!(texts[2], Value::StringValue("c".repeat(300)));
    }

    #[test]
    fn attributes_move_from_spans_to_logs_unchanged() {
        let mut span = Vec::new();
        text(&mut span, SPAN_ATTRIBUTE, "a", "b");
        signed(&mut span, SPAN_ATTRIBUTE, "c", 300);
        let mut log = Vec::new();
        retag(&mut log, &span, LOG_ATTRIBUTE);
        let log = LogRecord::decode(&log[..]).unwrap();
        assert_eq!(log.attributes.len(), 2);
        assert_eq!(log.attributes[1].key, "c");
    }

    #[test]
    fn lengths_of_numbers_are_known_beforehand() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(read_varint(&out), Some((value, &[][..])));
        }
    }
}
