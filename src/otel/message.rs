//! Messages: JSON texts in attributes of spans, structures in log records.
//!
//! The GenAI conventions allow a JSON string on a span and demand the structure on an event.

use serde_json::Value;

use super::encode::{self, LOG_ATTRIBUTE, read_varint};
use super::out::Out;

/// Attributes that hold messages.
const KEYS: [&str; 3] = ["gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"];

/// Where messages go (`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`). Arguments and output of tools are no
/// messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Messages {
    /// Into spans and log records.
    #[default]
    Both,
    /// Into spans only.
    Spans,
    /// Into log records only.
    Logs,
}

impl Messages {
    pub(super) const fn code(self) -> u8 {
        match self {
            Messages::Both => 0,
            Messages::Spans => 1,
            Messages::Logs => 2,
        }
    }

    pub(super) const fn from_code(code: u8) -> Messages {
        match code {
            1 => Messages::Spans,
            2 => Messages::Logs,
            _ => Messages::Both,
        }
    }
}

/// Whether an attribute holds messages.
pub(super) fn is_message(key: &str) -> bool {
    KEYS.contains(&key)
}

/// Appends messages as an attribute of a log record, if they belong there.
pub(super) fn to_log(out: &mut Out, key: &str, json: &str, messages: Messages) {
    if messages == Messages::Spans {
        return;
    }
    match serde_json::from_str::<Value>(json) {
        Ok(value @ (Value::Array(_) | Value::Object(_))) => {
            encode::any(out, LOG_ATTRIBUTE, key, &any(&value));
        }
        _ => encode::text(out, LOG_ATTRIBUTE, key, json),
    }
}

/// Copies attributes of a span into a log record.
pub(super) fn from_span(out: &mut Out, attributes: &[u8], messages: Messages) {
    for attribute in Attributes(attributes) {
        match attribute.text.filter(|_| is_message(attribute.key)) {
            Some(json) => to_log(out, attribute.key, json, messages),
            None => encode::bytes(out, LOG_ATTRIBUTE, attribute.content),
        }
    }
}

/// Copies attributes of a span, but not those of which `keep` says no.
pub(super) fn only(out: &mut Out, attributes: &[u8], keep: impl Fn(&str) -> bool) {
    for attribute in Attributes(attributes).filter(|attribute| keep(attribute.key)) {
        encode::bytes(out, encode::SPAN_ATTRIBUTE, attribute.content);
    }
}

/// Attributes as this module's encoder writes them, one after the other.
struct Attributes<'b>(&'b [u8]);

struct Attribute<'b> {
    key: &'b str,
    text: Option<&'b str>,
    content: &'b [u8],
}

impl<'b> Iterator for Attributes<'b> {
    type Item = Attribute<'b>;

    fn next(&mut self) -> Option<Attribute<'b>> {
        let (content, rest) = sized(self.0.get(1..)?)?;
        self.0 = rest;
        let (key, value) = sized(content.get(1..)?)?;
        let (value, _) = sized(value.get(1..)?)?;
        let text = value.strip_prefix(&[0x0a]).and_then(sized).map(|(text, _)| text);
        Some(Attribute {
            key: std::str::from_utf8(key).ok()?,
            text: text.and_then(|text| std::str::from_utf8(text).ok()),
            content,
        })
    }
}

fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = read_varint(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

// An `AnyValue`; serde_json has bounded its depth.
fn any(value: &Value) -> Out {
    let mut out = Out::new();
    match value {
        Value::Null => {}
        Value::Bool(flag) => out.extend([0x10, u8::from(*flag)]),
        Value::Number(number) => match number.as_i64() {
            Some(number) => {
                out.push(0x18);
                encode::varint(&mut out, number as u64);
            }
            None => encode::fixed64(&mut out, 0x21, number.as_f64().unwrap_or_default().to_bits()),
        },
        Value::String(text) => encode::bytes(&mut out, 0x0a, text.as_bytes()),
        Value::Array(all) => {
            let mut inner = Out::new();
            all.iter().for_each(|value| encode::bytes(&mut inner, 0x0a, &any(value)));
            encode::bytes(&mut out, 0x2a, &inner);
        }
        Value::Object(all) => {
            let mut inner = Out::new();
            all.iter().for_each(|(key, value)| encode::any(&mut inner, 0x0a, key, &any(value)));
            encode::bytes(&mut out, 0x32, &inner);
        }
    }
    out
}

#[cfg(all(test, feature = "deliver"))] // which brings the types that decode
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value as Otlp};
    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use prost::Message as _;

    fn plain(value: &AnyValue) -> Value {
        match &value.value {
            None => Value::Null,
            Some(Otlp::StringValue(text)) => text.as_str().into(),
            Some(Otlp::BoolValue(flag)) => (*flag).into(),
            Some(Otlp::IntValue(number)) => (*number).into(),
            Some(Otlp::DoubleValue(number)) => (*number).into(),
            Some(Otlp::ArrayValue(all)) => all.values.iter().map(plain).collect(),
            Some(Otlp::KvlistValue(all)) => {
                let each = all
                    .values
                    .iter()
                    .map(|kv| (kv.key.clone(), kv.value.as_ref().map_or(Value::Null, plain)));
                Value::Object(each.collect())
            }
            Some(other) => format!("{other:?}").into(),
        }
    }

    #[test]
    fn messages_of_a_span_are_structures_in_a_log_and_go_where_they_may() {
        let json = serde_json::json!([{"role": "user", "n": [1, -1, 1.5, true, null], "ü": {"a": "b"}}]);
        let mut span = Out::new();
        encode::text(&mut span, encode::SPAN_ATTRIBUTE, "before", "x");
        encode::text(&mut span, encode::SPAN_ATTRIBUTE, "gen_ai.input.messages", &json.to_string());
        encode::Key::new("after").signed(&mut span, encode::SPAN_ATTRIBUTE, 300);
        let log = |messages| {
            let mut out = Out::new();
            from_span(&mut out, &span, messages);
            LogRecord::decode(&out[..]).unwrap().attributes
        };
        let both = log(Messages::Both);
        assert_eq!(both.len(), 3);
        assert_eq!(plain(both[1].value.as_ref().unwrap()), json);
        assert_eq!(plain(both[2].value.as_ref().unwrap()), 300);
        assert_eq!(log(Messages::Logs), both);
        let keys: Vec<String> = log(Messages::Spans).into_iter().map(|kv| kv.key).collect();
        assert_eq!(keys, ["before", "after"]);
        let mut kept = Out::new();
        only(&mut kept, &span, |key| !is_message(key));
        let mut expected = Out::new();
        encode::text(&mut expected, encode::SPAN_ATTRIBUTE, "before", "x");
        encode::Key::new("after").signed(&mut expected, encode::SPAN_ATTRIBUTE, 300);
        assert_eq!(*kept, *expected);
    }
}
