//! The envelope: when a fact happened and where it belongs in a trace.
//!
//! A `tracing` event has neither a time nor a trace of its own, so every fact carries them as fields whose
//! names begin with `factline.`; layers consume them, and they never become attributes.

use std::fmt;

use super::field::Values;

/// Names of the envelope's fields, in the order in which every callsite declares them.
pub const ENVELOPE: [&str; 7] = [
    "factline.time",
    "factline.observed",
    "factline.trace",
    "factline.span",
    "factline.parent",
    "factline.remote",
    "factline.links",
];

/// When a fact happened and where it belongs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// When it happened (or began), ns since 1970.
    pub time: u64,
    /// When it was seen, ns since 1970.
    pub observed: u64,
    /// The trace it belongs to; 0 for none.
    pub trace: u128,
    /// Its own span, or for a point in time the span it happened in; 0 for none.
    pub span: u64,
    /// The parent of its own span; 0 for a root.
    pub parent: u64,
    /// Whether the parent lives in another process.
    pub remote: bool,
    /// Other spans it follows from.
    pub links: Vec<Link>,
}

impl Envelope {
    pub(crate) fn restore(values: &mut Values) -> Option<Envelope> {
        let wide = |value| match value {
            Some(super::Value::Wide(n)) => Some(n),
            None => Some(0),
            _ => None,
        };
        Some(Envelope {
            time: values.restore("factline.time")?,
            observed: values.restore("factline.observed")?,
            trace: wide(values.take("factline.trace"))?,
            span: values.restore::<Option<u64>>("factline.span")?.unwrap_or(0),
            parent: values.restore::<Option<u64>>("factline.parent")?.unwrap_or(0),
            remote: values.restore::<Option<bool>>("factline.remote")?.unwrap_or(false),
            links: match values.take("factline.links") {
                Some(super::Value::Text(text)) => parse_links(&text),
                _ => Vec::new(),
            },
        })
    }

    pub(crate) fn shown_links(&self) -> Option<tracing::field::DisplayValue<Links<'_>>> {
        (!self.links.is_empty()).then(|| tracing::field::display(Links(&self.links)))
    }
}

/// What is known of something that lasted when it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct End {
    /// When it ended, ns since 1970.
    pub time: u64,
    /// When that was seen, ns since 1970.
    pub observed: u64,
    /// When it really began, if that is known better now, ns since 1970; 0 keeps what was said.
    pub start: u64,
    /// Its parent, if that is known better now; 0 keeps what was said.
    pub parent: u64,
}

impl End {
    pub(crate) fn restore(values: &mut Values) -> Option<End> {
        Some(End {
            time: values.restore("factline.end")?,
            observed: values.restore::<Option<u64>>("factline.end_observed")?.unwrap_or(0),
            start: values.restore::<Option<u64>>("factline.start")?.unwrap_or(0),
            parent: values.restore::<Option<u64>>("factline.end_parent")?.unwrap_or(0),
        })
    }
}

/// A link to a span that is not the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The linked trace.
    pub trace: u128,
    /// The linked span.
    pub span: u64,
    /// Why it is linked.
    pub relation: Relation,
}

/// Why a span is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The turn before, in the same thread.
    PreviousTurn,
    /// The turn that a forked thread goes on from.
    ForkedFrom,
    /// The turn that a resumed thread goes on from.
    ResumedFrom,
    /// The span around the process that observed it (`TRACEPARENT`).
    Process,
}

impl Relation {
    const ALL: [Relation; 4] =
        [Relation::PreviousTurn, Relation::ForkedFrom, Relation::ResumedFrom, Relation::Process];

    /// The value of the attribute `codex.link.relation`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Relation::PreviousTurn => "previous_turn",
            Relation::ForkedFrom => "forked_from",
            Relation::ResumedFrom => "resumed_from",
            Relation::Process => "process",
        }
    }
}

/// Links as text: `TRACE-SPAN-relation`, separated by commas.
#[derive(Debug)]
pub struct Links<'b>(&'b [Link]);

impl fmt::Display for Links<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, link) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{:032x}-{:016x}-{}", link.trace, link.span, link.relation.as_str())?;
        }
        Ok(())
    }
}

/// Reads links as [`Envelope`] shows them; what is no link is left out.
pub fn parse_links(text: &str) -> Vec<Link> {
    let one = |part: &str| {
        let (trace, rest) = part.split_once('-')?;
        let (span, relation) = rest.split_once('-')?;
        Some(Link {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
            relation: Relation::ALL.into_iter().find(|known| known.as_str() == relation)?,
        })
    };
    text.split(',').filter_map(one).collect()
}
