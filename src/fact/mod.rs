//! Facts: typed statements of what happened in an agent's app server.
//!
//! A fact names no destination. [`vocabulary`] holds the one table from which come, for every fact, its
//! struct, its emission as a `tracing` event or span, its decoding in a layer, and the catalogue in
//! `docs/facts.md`. This module knows `tracing` and nothing else of this crate.

mod catalogue;
mod class;
mod cut;
mod decode;
mod envelope;
mod field;
pub mod ids;
#[cfg(feature = "content")]
pub mod redact;
#[macro_use]
mod table;
pub mod vocabulary;

pub use catalogue::catalogue;
pub use class::{Capture, Class, Kind, VALUE_BYTES};
pub use decode::{Fields, event, span_end, span_start};
pub use envelope::{ENVELOPE, End, Envelope, Link, Relation, parse_links};
pub use field::{Clean, Field, List, Shape, Value, Values};
pub use table::{Ends, Entry, FieldInfo, Lasting, Point, Starts, Subject};
pub use vocabulary::{ENTRIES, Fact, entry};

/// Text of a fact: borrowed where the host has it, owned where a layer decoded it.
pub type Text<'a> = std::borrow::Cow<'a, str>;

/// Bounds a text that came from outside to `max` bytes, on a character boundary.
pub fn bounded(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}
