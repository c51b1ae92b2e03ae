//! One pass over a fact's fields: the envelope is taken out, everything else becomes attributes.

use std::fmt;

use tracing::field::{Field, Visit};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::encode::{self, LOG_ATTRIBUTE};
use super::message::{self, Messages};
use crate::fact::{Class, ENVELOPE, Entry, FieldInfo, Link, Shape, parse_links};

/// Fields that a span has between those of its start and those of its end.
const ENDING: usize = 4;

/// What a fact's fields say, once visited.
pub(super) struct Visited<'b> {
    entry: &'static Entry,
    tag: u8,
    /// The attributes, each with its tag.
    pub out: &'b mut Vec<u8>,
    /// Where in `out` the fields begin that the record at the end does not repeat.
    pub keys_end: Option<usize>,
    /// The value that the span's name shows.
    pub shown: String,
    /// A hash of every identifier.
    pub ids: u64,
    /// Whether there is an `error.type`.
    pub failed: bool,
    /// Whether there is content or environment in it.
    pub content: bool,
    /// Where messages go.
    pub messages: Messages,
    pub time: u64,
    pub observed: u64,
    pub trace: u128,
    pub span: u64,
    pub parent: u64,
    pub remote: bool,
    pub links: Vec<Link>,
    pub end: Option<u64>,
    pub end_observed: u64,
    pub start: u64,
    pub end_parent: u64,
}

enum Place {
    Envelope(usize),
    Attribute(&'static FieldInfo),
    End(usize),
    Unknown,
}

impl<'b> Visited<'b> {
    pub fn new(entry: &'static Entry, tag: u8, out: &'b mut Vec<u8>) -> Self {
        Visited {
            entry,
            tag,
            out,
            keys_end: None,
            shown: String::new(),
            ids: 0,
            failed: false,
            content: false,
            messages: Messages::default(),
            time: 0,
            observed: 0,
            trace: 0,
            span: 0,
            parent: 0,
            remote: false,
            links: Vec::new(),
            end: None,
            end_observed: 0,
            start: 0,
            end_parent: 0,
        }
    }

    // Every callsite of an entry declares its fields in the order of the table.
    fn place(&mut self, field: &Field) -> Place {
        let index = field.index();
        let Some(at) = index.checked_sub(ENVELOPE.len()) else { return Place::Envelope(index) };
        let fields = self.entry.fields;
        if let Some(info) = fields.get(at) {
            if let Some(lasting) = &self.entry.lasting
                && at >= lasting.keys
                && self.keys_end.is_none()
            {
                self.keys_end = Some(self.out.len());
            }
            return Place::Attribute(info);
        }
        let at = at - fields.len();
        if at < ENDING {
            return Place::End(at);
        }
        match self.entry.lasting.as_ref().and_then(|lasting| lasting.end_fields.get(at - ENDING)) {
            Some(info) => Place::Attribute(info),
            None => Place::Unknown,
        }
    }

    fn identify(&mut self, info: &FieldInfo, value: &[u8]) {
        if info.class == Class::Id {
            self.ids = xxh3_64_with_seed(value, self.ids ^ info.key.len() as u64);
        }
    }
}

impl Visit for Visited<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match self.place(field) {
            Place::Envelope(0) => self.time = value,
            Place::Envelope(1) => self.observed = value,
            Place::Envelope(3) => self.span = value,
            Place::Envelope(4) => self.parent = value,
            Place::End(0) => self.end = Some(value),
            Place::End(1) => self.end_observed = value,
            Place::End(2) => self.start = value,
            Place::End(3) => self.end_parent = value,
            Place::Attribute(info) => {
                self.identify(info, &value.to_le_bytes());
                encode::unsigned(self.out, self.tag, info.key, value);
            }
            _ => {}
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        if let Place::Envelope(2) = self.place(field) {
            self.trace = value;
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if let Place::Attribute(info) = self.place(field) {
            encode::signed(self.out, self.tag, info.key, value);
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if let Place::Attribute(info) = self.place(field) {
            encode::number(self.out, self.tag, info.key, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match self.place(field) {
            Place::Envelope(5) => self.remote = value,
            Place::Attribute(info) => encode::flag(self.out, self.tag, info.key, value),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if let Place::Attribute(info) = self.place(field) {
            self.identify(info, value.as_bytes());
            self.failed |= info.key == "error.type";
            if let Some(lasting) = &self.entry.lasting
                && shown_key(lasting.shown) == Some(info.key)
            {
                value.clone_into(&mut self.shown);
            }
            self.content |= info.class.is_private();
            if self.tag == LOG_ATTRIBUTE && message::is_message(info.key) {
                return message::to_log(self.out, info.key, value, self.messages);
            }
            encode::text(self.out, self.tag, info.key, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match self.place(field) {
            Place::Envelope(6) => self.links = parse_links(&format!("{value:?}")),
            Place::Attribute(info) if info.shape == Shape::List => {
                self.content |= info.class.is_private();
                let texts: Vec<String> = serde_json::from_str(&format!("{value:?}")).unwrap_or_default();
                encode::list(self.out, self.tag, info.key, &texts);
            }
            _ => {}
        }
    }
}

/// The key in `name {key}`.
pub(super) fn shown_key(shown: &str) -> Option<&str> {
    shown.split_once('{').and_then(|(_, rest)| rest.strip_suffix('}'))
}
