//! What was said about content: which kinds may leave, how long they may be, what is taken out of them.

use super::env::{Env, kind_of};
use super::kind::Kind;
use super::{ConfigError, Setting, pairs};

/// What the standard variable switches on: what was said and done, and nothing of where or for whom.
const STANDARD: [&str; 5] = ["prompts", "messages", "reasoning", "arguments", "output"];

const CAPTURE: &str = "FACTLINE_CAPTURE";
const MESSAGES: &str = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";
const RULES: &str = "FACTLINE_REDACT";
const LIMIT: u64 = 16 * 1024;

/// What may leave, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentConfig {
    /// Names of the kinds that are on (`FACTLINE_CAPTURE`, else what the standard variable means).
    pub capture: Setting<Vec<&'static str>>,
    /// Where messages go (`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`).
    pub messages: Setting<MessageContent>,
    /// The longest value in bytes (`FACTLINE_CONTENT_LIMIT`).
    pub limit: Setting<u64>,
    /// Further bounds: on log records, on spans (`OTEL_*ATTRIBUTE_VALUE_LENGTH_LIMIT`).
    pub value_length: [Option<u64>; 2],
    /// Names and patterns of the user's own rules (`FACTLINE_REDACT`).
    pub rules: Setting<Vec<(String, String)>>,
    /// Whether points in time are events of spans as well (`FACTLINE_SPAN_EVENTS`).
    pub span_events: Setting<bool>,
    /// Events of one span at most (`OTEL_SPAN_EVENT_COUNT_LIMIT`).
    pub span_event_count: Setting<u64>,
}

/// Where messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageContent {
    /// Nowhere, unless a kind is switched on by our own setting.
    None,
    /// Into spans.
    Spans,
    /// Into log records.
    Logs,
    /// Into both.
    Both,
}

impl ContentConfig {
    /// The longest value in bytes: in log records, in spans.
    pub fn limits(&self) -> [u32; 2] {
        self.value_length.map(|more| self.limit.value.min(more.unwrap_or(u64::MAX)) as u32)
    }
}

impl Env<'_> {
    pub(super) fn content(&mut self) -> ContentConfig {
        const WHERE: [(&str, MessageContent); 9] = [
            ("no_content", MessageContent::None),
            ("false", MessageContent::None),
            ("span_only", MessageContent::Spans),
            ("span", MessageContent::Spans),
            ("event_only", MessageContent::Logs),
            ("event", MessageContent::Logs),
            ("span_and_event", MessageContent::Both),
            ("both", MessageContent::Both),
            ("true", MessageContent::Both),
        ];
        let messages = self.choice(MESSAGES, &WHERE, MessageContent::None);
        let standard = match messages.value {
            MessageContent::None => Vec::new(),
            _ => STANDARD.to_vec(),
        };
        let mut capture = self.first(&[CAPTURE.to_owned()], kinds, Vec::new());
        if self.said(&[CAPTURE.to_owned()]).is_empty() {
            capture = Setting { value: standard, origin: messages.origin.clone() };
        }
        let own = |name: &str| name.to_owned();
        let mut bound = |names: [String; 2]| {
            let read = |text: &str| text.parse().map(Some).map_err(|_| "is no whole number".to_owned());
            self.first(&names, read, None).value
        };
        let generic = own("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT");
        let value_length = [
            bound([own("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT"), generic.clone()]),
            bound([own("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"), generic]),
        ];
        ContentConfig {
            capture,
            messages,
            limit: self.number("FACTLINE_CONTENT_LIMIT", LIMIT),
            value_length,
            rules: self.rules(),
            span_events: self.boolean("FACTLINE_SPAN_EVENTS"),
            span_event_count: self.number("OTEL_SPAN_EVENT_COUNT_LIMIT", 128),
        }
    }

    // A rule that was not understood would let something through: an error, wherever it was said.
    fn rules(&mut self) -> Setting<Vec<(String, String)>> {
        let Some(said) = self.said(&[RULES.to_owned()]).into_iter().next() else {
            return Setting::default_of(Vec::new());
        };
        let (value, problems) = pairs::read(&said.text.value);
        if let Some(problem) = problems.into_iter().next() {
            self.error(ConfigError {
                variable: said.place,
                problem,
                example: "ticket=TICKET-%5B0-9%5D%2B".to_owned(),
            });
        }
        Setting { value, origin: said.text.origin }
    }
}

fn kinds(text: &str) -> Result<Vec<&'static str>, String> {
    let Some(Kind::Names(known)) = kind_of(CAPTURE) else { return Ok(Vec::new()) };
    let mut on = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match known.iter().find(|known| known.eq_ignore_ascii_case(name)).copied() {
            Some("none") => {}
            Some("all") => {
                on = known.iter().copied().filter(|name| !["all", "none"].contains(name)).collect()
            }
            Some(name) if on.contains(&name) => {}
            Some(name) => on.push(name),
            None => return Err(format!("\"{}\" is none of {}", name.escape_debug(), known.join(", "))),
        }
    }
    Ok(on)
}
