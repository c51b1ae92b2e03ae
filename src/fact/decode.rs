//! From what `tracing` shows a layer back to the fact.

use tracing::{Event, Metadata, span};

use super::{End, Envelope, Fact, Values, vocabulary::ENTRIES};

/// The fields a layer saw, ready to become a fact again.
pub type Fields = Values;

fn ours(metadata: &Metadata<'_>) -> bool {
    ENTRIES.iter().any(|entry| entry.name == metadata.name() && entry.target == metadata.target())
}

/// The fact that this event is, `None` if it is not of the vocabulary.
pub fn event(event: &Event<'_>) -> Option<(Envelope, Fact<'static>)> {
    ours(event.metadata()).then_some(())?;
    let mut values = Fields::default();
    event.record(&mut values);
    Some((Envelope::restore(&mut values)?, Fact::restore_point(event.metadata().name(), &mut values)?))
}

/// The fact whose beginning this new span is, `None` if it is not of the vocabulary.
pub fn span_start(span: &span::Attributes<'_>) -> Option<(Envelope, Fact<'static>)> {
    ours(span.metadata()).then_some(())?;
    let mut values = Fields::default();
    span.record(&mut values);
    Some((Envelope::restore(&mut values)?, Fact::restore_start(span.metadata().name(), &mut values)?))
}

/// The fact whose end these recorded values are, `None` if they are something else.
pub fn span_end(metadata: &Metadata<'_>, record: &span::Record<'_>) -> Option<(End, Fact<'static>)> {
    ours(metadata).then_some(())?;
    let mut values = Fields::default();
    record.record(&mut values);
    Some((End::restore(&mut values)?, Fact::restore_end(metadata.name(), &mut values)?))
}
