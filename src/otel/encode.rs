//! Protobuf, as much of it as OTLP records need, written straight into a buffer.
//!
//! Wire format: <https://protobuf.dev/programming-guides/encoding/>; field numbers: opentelemetry-proto 1.x.

use super::out::Out;

/// Tag of an attribute in a log record (`LogRecord.attributes`, field 6).
pub(super) const LOG_ATTRIBUTE: u8 = 0x32;
/// Tag of an attribute in a span (`Span.attributes`, field 9).
pub(super) const SPAN_ATTRIBUTE: u8 = 0x4a;
/// Tag of an attribute in a resource (`Resource.attributes`, field 1).
pub(super) const RESOURCE_ATTRIBUTE: u8 = 0x0a;
/// Tag of an attribute in a link (`Link.attributes`, field 4).
pub(super) const LINK_ATTRIBUTE: u8 = 0x22;

/// Appends a number of variable length.
#[inline]
pub(super) fn varint(out: &mut Out, value: u64) {
    if value < 0x80 {
        return out.push(value as u8);
    }
    let (digits, len) = digits(value);
    out.chunk(|place| {
        *place = digits;
        len
    });
}

/// A number of variable length, and how many of these bytes it has.
#[inline]
fn digits(value: u64) -> ([u8; 10], usize) {
    let len = varint_len(value);
    let mut all = [0; 10];
    // Seven bits into each byte, for the lower 56 bits at once.
    let mut low = value & 0x00ff_ffff_ffff_ffff;
    low = low & 0x0000_0000_0fff_ffff | (low & 0x00ff_ffff_f000_0000) << 4;
    low = low & 0x0000_3fff_0000_3fff | (low & 0x0fff_c000_0fff_c000) << 2;
    low = low & 0x007f_007f_007f_007f | (low & 0x3f80_3f80_3f80_3f80) << 1;
    let going_on = 0x8080_8080_8080_8080;
    if len <= 8 {
        low |= going_on & !(u64::MAX << (8 * (len as u32 - 1)));
    } else {
        low |= going_on;
        all[8] = (value >> 56) as u8 & 0x7f | u8::from(len == 10) << 7;
        all[9] = (value >> 63) as u8;
    }
    if let Some(place) = all.first_chunk_mut() {
        *place = low.to_le_bytes();
    }
    (all, len)
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

/// A field of an encoded message.
pub(super) struct Field<'b> {
    pub number: u64,
    /// Its value, where that is a number of variable length.
    pub value: u64,
    /// Its bytes, where it has a length.
    pub content: Option<&'b [u8]>,
    /// All of it, tag included.
    pub whole: &'b [u8],
}

impl<'b> Field<'b> {
    fn first(bytes: &'b [u8]) -> Option<(Field<'b>, &'b [u8])> {
        let (tag, after) = read_varint(bytes)?;
        let (mut value, mut content) = (0, None);
        let rest = match tag & 7 {
            0 => {
                let (read, rest) = read_varint(after)?;
                value = read;
                rest
            }
            1 => after.get(8..)?,
            2 => {
                let (length, after) = read_varint(after)?;
                let (inner, rest) = after.split_at_checked(usize::try_from(length).ok()?)?;
                content = Some(inner);
                rest
            }
            5 => after.get(4..)?,
            _ => return None,
        };
        let whole = bytes.get(..bytes.len() - rest.len())?;
        Some((Field { number: tag >> 3, value, content, whole }, rest))
    }
}

/// The fields of an encoded message; none in place of one that does not hold, and then the end.
pub(super) fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<Field<'_>>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = Field::first(rest);
        rest = read.as_ref().map_or(&[][..], |(_, rest)| *rest);
        Some(read.map(|(field, _)| field))
    })
}

/// Appends a field of bytes: tag, length, content.
pub(super) fn bytes(out: &mut Out, tag: u8, content: &[u8]) {
    if content.len() <= SHORT {
        return out.chunk::<{ 2 + SHORT }>(|place| {
            (place[0], place[1]) = (tag, content.len() as u8);
            copy_short(&mut place[2..], content);
            2 + content.len()
        });
    }
    out.push(tag);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Appends a field of eight bytes.
#[inline]
pub(super) fn fixed64(out: &mut Out, tag: u8, value: u64) {
    let mut field = [tag; 9];
    field[1..].copy_from_slice(&value.to_le_bytes());
    out.extend(field);
}

/// Appends a field of four bytes.
#[inline]
pub(super) fn fixed32(out: &mut Out, tag: u8, value: u32) {
    let mut field = [tag; 5];
    field[1..].copy_from_slice(&value.to_le_bytes());
    out.extend(field);
}

/// Appends a field of `N` bytes, fewer than 128.
#[inline]
pub(super) fn id<const N: usize>(out: &mut Out, tag: u8, id: [u8; N]) {
    out.extend([tag, N as u8]);
    out.extend(id);
}

fn sized(text: usize) -> usize {
    1 + varint_len(text as u64) + text
}

/// The key of an attribute, encoded once: `TAG SIZE 0A length key 12`, all that stands before its value.
///
/// Copied whole, and so is a value that is short: a copy of a fixed size is a few instructions, where one of any size
/// is a call.
#[derive(Debug)]
pub(super) struct Key {
    name: Box<str>,
    head: [u8; HEAD],
    len: usize,
}

/// Room for a key with what stands before it.
const HEAD: usize = 56;
/// A value up to this length is short.
const SHORT: usize = 56;
/// A value with what stands before it: its size, what it is, and of a text the length.
const VALUE: usize = 16 + SHORT;

/// Copies a short value to where there is room for it, in two pieces that overlap.
#[inline]
fn copy_short(place: &mut [u8], value: &[u8]) {
    #[inline(always)]
    fn both<const N: usize>(place: &mut [u8], value: &[u8]) {
        let (Some(first), Some(last)) = (value.first_chunk::<N>(), value.last_chunk::<N>()) else { return };
        let behind = value.len() - N;
        if let Some(place) = place.first_chunk_mut::<N>() {
            *place = *first;
        }
        if let Some(place) = place.get_mut(behind..).and_then(|rest| rest.first_chunk_mut::<N>()) {
            *place = *last;
        }
    }
    match value.len() {
        0..4 => place.iter_mut().zip(value).for_each(|(place, byte)| *place = *byte),
        4..8 => both::<4>(place, value),
        8..16 => both::<8>(place, value),
        16..32 => both::<16>(place, value),
        _ => both::<32>(place, value),
    }
}

impl Key {
    pub fn new(name: &str) -> Key {
        let mut whole = Out::new();
        whole.extend([0, 0]);
        bytes(&mut whole, 0x0a, name.as_bytes());
        whole.push(0x12);
        let mut head = [0; HEAD];
        // A longer one is encoded each time.
        let len = head.get_mut(..whole.len()).map_or(0, |place| {
            place.copy_from_slice(&whole);
            whole.len()
        });
        Key { name: name.into(), head, len }
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length of the key's name in bytes.
    pub fn name_len(&self) -> usize {
        self.name.len()
    }

    /// Appends an attribute, its value being the first `used` bytes of `start` and then a short `content`. False: it
    /// is too long, and nothing is done.
    #[inline(always)]
    fn quick<const K: usize>(
        &self,
        out: &mut Out,
        tag: u8,
        (start, used): ([u8; K], usize),
        content: &[u8],
    ) -> bool {
        let value = used + content.len();
        let inner = self.len + value - 1;
        if self.len == 0 || content.len() > SHORT || inner >= 0x80 {
            return false;
        }
        out.chunk::<{ HEAD + VALUE }>(|whole| {
            if let Some(head) = whole.first_chunk_mut() {
                *head = self.head;
            }
            (whole[0], whole[1]) = (tag, inner as u8);
            let place = whole.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut::<VALUE>);
            if let Some((size, place)) = place.and_then(|place| place.split_first_mut()) {
                *size = value as u8;
                if let Some((first, rest)) = place.split_first_chunk_mut() {
                    *first = start;
                    copy_short(rest, content);
                }
            }
            inner + 2
        });
        true
    }

    // The same for an attribute of any size: `value` is the size of the encoded AnyValue.
    fn begin(&self, out: &mut Out, tag: u8, value: usize) {
        out.push(tag);
        varint(out, (sized(self.name.len()) + sized(value)) as u64);
        bytes(out, 0x0a, self.name.as_bytes());
        out.push(0x12);
        varint(out, value as u64);
    }

    /// Appends an attribute that is a text.
    #[inline(always)]
    pub fn text(&self, out: &mut Out, tag: u8, value: &str) {
        let value = value.as_bytes();
        if !self.quick(out, tag, ([0x0a, value.len() as u8], 2), value) {
            self.long(out, tag, value);
        }
    }

    #[cold]
    fn long(&self, out: &mut Out, tag: u8, value: &[u8]) {
        self.begin(out, tag, sized(value.len()));
        bytes(out, 0x0a, value);
    }

    /// Appends an attribute that is true or false.
    pub fn flag(&self, out: &mut Out, tag: u8, value: bool) {
        self.fixed(out, tag, [0x10, u8::from(value)]);
    }

    /// Appends an attribute that is a whole number.
    #[inline]
    pub fn signed(&self, out: &mut Out, tag: u8, value: i64) {
        let (digits, len) = digits(value as u64);
        let mut start = [0x18; 11];
        start[1..].copy_from_slice(&digits);
        if !self.quick(out, tag, (start, 1 + len), &[]) {
            self.begin(out, tag, 1 + len);
            out.chunk(|place| {
                *place = start;
                1 + len
            });
        }
    }

    /// Appends an attribute that is a number without sign: decimal text where OTLP has no such number.
    #[inline]
    pub fn unsigned(&self, out: &mut Out, tag: u8, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.signed(out, tag, value),
            Err(_) => self.text(out, tag, &value.to_string()),
        }
    }

    /// Appends an attribute that is a floating-point number.
    #[inline]
    pub fn number(&self, out: &mut Out, tag: u8, value: f64) {
        let mut all = [0x21; 9];
        all[1..].copy_from_slice(&value.to_bits().to_le_bytes());
        self.fixed(out, tag, all);
    }

    #[inline]
    fn fixed<const N: usize>(&self, out: &mut Out, tag: u8, value: [u8; N]) {
        if !self.quick(out, tag, (value, N), &[]) {
            self.begin(out, tag, N);
            out.extend(value);
        }
    }

    /// Appends an attribute that is a list of texts.
    pub fn list(&self, out: &mut Out, tag: u8, values: &[String]) {
        let elements: usize = values.iter().map(|value| sized(sized(value.len()))).sum();
        self.begin(out, tag, sized(elements));
        out.push(0x2a);
        varint(out, elements as u64);
        for value in values {
            out.push(0x0a);
            varint(out, sized(value.len()) as u64);
            bytes(out, 0x0a, value.as_bytes());
        }
    }
}

/// A number as 16 hexadecimal digits.
pub(super) fn hex(value: u64) -> [u8; 16] {
    // Every half byte in a byte of its own, the highest first, then all of them made digits at once.
    let mut halves = u128::from(value);
    halves = (halves | halves << 32) & 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;
    halves = (halves | halves << 16) & 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff;
    halves = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff;
    halves = (halves | halves << 4) & 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f;
    let ones = 0x0101_0101_0101_0101_0101_0101_0101_0101;
    let letters = (halves + 6 * ones) >> 4 & ones;
    let digits = halves + u128::from(b'0') * ones + letters * u128::from(b'a' - b'9' - 1);
    digits.to_be_bytes()
}

/// Appends an attribute that is a text, with a key that is not worth keeping.
pub(super) fn text(out: &mut Out, tag: u8, name: &str, value: &str) {
    Key::new(name).text(out, tag, value);
}

/// Appends an attribute whose value, an `AnyValue`, is encoded already.
pub(super) fn any(out: &mut Out, tag: u8, name: &str, value: &[u8]) {
    Key::new(name).begin(out, tag, value.len());
    out.extend_from_slice(value);
}

/// Copies attributes written with any tag, giving them another.
pub(super) fn retag(out: &mut Out, mut attributes: &[u8], tag: u8) {
    while let Some((length, rest)) = attributes.get(1..).and_then(read_varint) {
        let Some(content) = rest.get(..length as usize) else { return };
        bytes(out, tag, content);
        attributes = rest.get(length as usize..).unwrap_or_default();
    }
}

/// Room for the tag and length of a record, which is only known when it is complete.
const PREFIX: usize = 11;

/// Begins a record in an empty buffer.
pub(super) fn begin_record(out: &mut Out) {
    out.clear();
    out.extend([0; PREFIX]);
}

/// Completes the record that [`begin_record`] began: `0x12 varint(n) body`, the form it has in a request.
pub(super) fn complete_record(out: &mut Out) -> &[u8] {
    let (digits, len) = digits((out.len() - PREFIX) as u64);
    let start = PREFIX - 1 - len;
    if let Some(prefix) = out.first_mut::<PREFIX>() {
        prefix[start] = 0x12;
        prefix[start + 1..].copy_from_slice(&digits[..len]);
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
        let mut out = Out::new();
        begin_record(&mut out);
        Key::new("text").text(&mut out, LOG_ATTRIBUTE, "Grüße");
        Key::new("flag").flag(&mut out, LOG_ATTRIBUTE, true);
        Key::new("signed").signed(&mut out, LOG_ATTRIBUTE, -5);
        Key::new("unsigned").unsigned(&mut out, LOG_ATTRIBUTE, 5);
        Key::new("large").unsigned(&mut out, LOG_ATTRIBUTE, u64::MAX);
        Key::new("number").number(&mut out, LOG_ATTRIBUTE, 1.5);
        text(&mut out, LOG_ATTRIBUTE, "hex", std::str::from_utf8(&hex(0x0123_4567_89ab_cdef)).unwrap());
        Key::new("list").list(&mut out, LOG_ATTRIBUTE, &["a".into(), String::new(), "c".repeat(300)]);
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
        assert_eq!(value("hex"), Value::StringValue("0123456789abcdef".into()));
        let long = "k".repeat(100);
        for (name, length) in
            [("short", 127), ("short", 128), (&long, 3), (&long, 300), (&"k".repeat(200), 1)]
        {
            let mut out = Out::new();
            begin_record(&mut out);
            text(&mut out, LOG_ATTRIBUTE, name, &"v".repeat(length));
            Key::new(name).signed(&mut out, LOG_ATTRIBUTE, i64::MIN);
            Key::new(name).number(&mut out, LOG_ATTRIBUTE, -0.5);
            let decoded = ScopeLogs::decode(complete_record(&mut out)).unwrap();
            let values =
                [Value::StringValue("v".repeat(length)), Value::IntValue(i64::MIN), Value::DoubleValue(-0.5)];
            for (attribute, expected) in decoded.log_records[0].attributes.iter().zip(values) {
                assert_eq!(attribute.key, name);
                assert_eq!(attribute.value.clone().unwrap().value, Some(expected));
            }
            assert_eq!(decoded.log_records[0].attributes.len(), 3);
        }
        let Value::ArrayValue(list) = value("list") else { panic!("no list") };
        let texts: Vec<_> = list.values.into_iter().map(|v| v.value.unwrap()).collect();
        assert_eq!(texts[1], Value::StringValue(String::new()));
        assert_eq!(texts[2], Value::StringValue("c".repeat(300)));
    }

    #[test]
    fn keys_and_texts_of_every_length_are_copied_whole() {
        let source = "0123456789abcdefghijklmnopqrstuvwxyz".repeat(4);
        for (key, value) in (1..80).flat_map(|key| (0..140).map(move |value| (key, value))) {
            let (key, value) = (&source[..key], &source[..value]);
            let mut out = Out::new();
            begin_record(&mut out);
            text(&mut out, LOG_ATTRIBUTE, key, value);
            let attribute =
                ScopeLogs::decode(complete_record(&mut out)).unwrap().log_records[0].attributes.remove(0);
            assert_eq!(attribute.key, key);
            assert_eq!(attribute.value.unwrap().value, Some(Value::StringValue(value.into())));
        }
    }

    #[test]
    fn attributes_move_from_spans_to_logs_unchanged() {
        let mut span = Out::new();
        text(&mut span, SPAN_ATTRIBUTE, "a", "b");
        Key::new("c").signed(&mut span, SPAN_ATTRIBUTE, 300);
        let mut log = Out::new();
        retag(&mut log, &span, LOG_ATTRIBUTE);
        let log = LogRecord::decode(&log[..]).unwrap();
        assert_eq!(log.attributes.len(), 2);
        assert_eq!(log.attributes[1].key, "c");
    }

    #[test]
    fn numbers_of_every_length_are_as_prost_writes_them() {
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1, !(1 << bit)]);
        for value in edges {
            let (mut out, mut theirs) = (Out::new(), Vec::new());
            varint(&mut out, value);
            prost::encoding::encode_varint(value, &mut theirs);
            assert_eq!(*out, *theirs, "{value}");
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(read_varint(&out), Some((value, &[][..])));
        }
    }
}
