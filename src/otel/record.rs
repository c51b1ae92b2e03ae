//! One pass over a fact's fields: the envelope is taken out, everything else becomes attributes.

use std::fmt;
use std::ops::Range;

use tracing::field::{Field, Visit};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::encode::LOG_ATTRIBUTE;
use super::known::{Attribute, Known};
use super::message::{self, Messages};
use super::out::Out;
use crate::fact::{ENVELOPE, Entry, Link, parse_links};

/// What a fact's fields say, once visited.
pub(super) struct Visited<'b> {
    known: &'static Known,
    tag: u8,
    /// The attributes, each with its tag.
    pub out: &'b mut Out,
    /// Where in `out` the fields begin that the record at the end does not repeat.
    pub keys_end: Option<usize>,
    /// Where in `out` the value is that the span's name shows.
    shown: Range<usize>,
    /// Whether there is content or environment in it.
    pub content: bool,
    /// Where messages go.
    pub messages: Messages,
    /// A hash of every identifier.
    pub ids: u64,
    /// Whether there is an `error.type`.
    pub failed: bool,
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

/// What a span is called.
#[derive(Debug)]
pub(super) enum Name {
    Fixed(&'static str),
    /// So, and then the value that is there in the attributes: kept without an allocation.
    Shows(&'static str, Range<usize>),
    Restored(String),
}

enum Place {
    Envelope(usize),
    Attribute(&'static Attribute),
    End(usize),
    Unknown,
}

impl<'b> Visited<'b> {
    pub fn new(known: &'static Known, tag: u8, out: &'b mut Out) -> Self {
        Visited {
            known,
            tag,
            out,
            keys_end: None,
            shown: 0..0,
            content: false,
            messages: Messages::default(),
            ids: 0,
            failed: false,
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
    #[inline]
    fn place(&mut self, field: &Field) -> Place {
        let index = field.index();
        let Some(at) = index.checked_sub(ENVELOPE.len()) else { return Place::Envelope(index) };
        match self.known.attributes.get(at) {
            Some(Some(attribute)) => {
                if !attribute.is_plain {
                    if attribute.is_behind_keys && self.keys_end.is_none() {
                        self.keys_end = Some(self.out.len());
                    }
                    self.content |= attribute.is_content;
                }
                Place::Attribute(attribute)
            }
            Some(None) => Place::End(at - self.known.entry.fields.len()),
            None => Place::Unknown,
        }
    }

    /// The span's name.
    pub fn name(&self) -> Name {
        let Entry { name, lasting, .. } = self.known.entry;
        match self.known.shown {
            "" => Name::Fixed(lasting.as_ref().map_or(*name, |lasting| lasting.shown)),
            before if self.shown.is_empty() => Name::Fixed(before.trim_end()),
            before => Name::Shows(before, self.shown.clone()),
        }
    }

    #[inline]
    fn identify(&mut self, attribute: &Attribute, value: &[u8]) {
        if attribute.is_id {
            self.ids = xxh3_64_with_seed(value, self.ids ^ attribute.key.name_len() as u64);
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
            Place::Attribute(attribute) => {
                self.identify(attribute, &value.to_le_bytes());
                attribute.key.unsigned(self.out, self.tag, value);
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
        if let Place::Attribute(attribute) = self.place(field) {
            attribute.key.signed(self.out, self.tag, value);
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if let Place::Attribute(attribute) = self.place(field) {
            attribute.key.number(self.out, self.tag, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match self.place(field) {
            Place::Envelope(5) => self.remote = value,
            Place::Attribute(attribute) => attribute.key.flag(self.out, self.tag, value),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if let Place::Attribute(attribute) = self.place(field) {
            if !attribute.is_plain {
                self.identify(attribute, value.as_bytes());
                self.failed |= attribute.is_failure;
                if attribute.is_message && self.tag == LOG_ATTRIBUTE {
                    return message::to_log(self.out, attribute.key.name(), value, self.messages);
                }
            }
            attribute.key.text(self.out, self.tag, value);
            if attribute.is_shown {
                let begin = self.out.len() - value.len();
                self.shown = begin..begin + value.trim_end().len();
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match self.place(field) {
            Place::Envelope(6) => self.links = parse_links(&format!("{value:?}")),
            Place::Attribute(attribute) if attribute.is_list => {
                let texts: Vec<String> = serde_json::from_str(&format!("{value:?}")).unwrap_or_default();
                attribute.key.list(self.out, self.tag, &texts);
            }
            _ => {}
        }
    }
}
