//! The layer: facts that `tracing` shows become finished OTLP records.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{Dispatch, Event, Level, Metadata, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::encode::{self, LOG_ATTRIBUTE, SPAN_ATTRIBUTE};
use super::known::{Known, known};
use super::message::{self, Messages};
use super::open::{Ending, Log, OpenSpan, with_records};
use super::out::Out;
use super::points::Points;
use super::record::Visited;
use super::resource::{Header, Resource};
use super::sink::{Accepted, Only, Signal, Sink};
use super::uid::{Equal, uid};
use crate::fact::vocabulary::{ConnectionStart, Fact};
use crate::fact::{Starts, span_start};

/// Writes facts as OTLP log records and spans to a [`Sink`].
///
/// It looks at facts only: whatever else the process emits, the exporters' own events included, passes by.
pub struct OtelLayer {
    /// Tells layers of one subscriber apart: each keeps what it has open with the span.
    id: u64,
    sink: Box<dyn Sink>,
    /// What it writes, where that is not everything.
    only: Option<Signal>,
    resource: Mutex<Resource>,
    equal: Equal,
    pool: Mutex<Vec<Out>>,
    messages: Messages,
    points: Option<Points>,
}

/// What each layer has open of a span; mostly there is one, for which a list would cost an allocation.
struct Open {
    first: (u64, OpenSpan),
    others: Vec<(u64, OpenSpan)>,
}

impl Open {
    fn of(&mut self, layer: u64) -> Option<&mut OpenSpan> {
        let mut all = std::iter::once(&mut self.first).chain(&mut self.others);
        let own = all.find(|(id, _)| *id == layer).map(|(_, open)| open);
        own.filter(|open| !open.ended)
    }
}

/// Buffers kept for spans to come.
const POOLED: usize = 64;
/// A buffer that grew beyond this is not kept.
const POOLED_BYTES: usize = 16 * 1024;

thread_local! {
    static BUFFERS: RefCell<[Out; 3]> = const { RefCell::new([Out::new(), Out::new(), Out::new()]) };
}

impl fmt::Debug for OtelLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtelLayer").finish_non_exhaustive()
    }
}

/// A filter that lets facts through and nothing else.
pub fn only_facts() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    filter_fn(|metadata| metadata.target().starts_with("factline::"))
}

impl OtelLayer {
    pub(super) fn new(sink: impl Sink, resource: Resource) -> Self {
        for signal in [Signal::Logs, Signal::Traces] {
            sink.set_header(signal, &Header::new(&resource, signal).0);
        }
        static LAYERS: AtomicU64 = AtomicU64::new(0);
        OtelLayer {
            id: LAYERS.fetch_add(1, Ordering::Relaxed),
            sink: Box::new(sink),
            only: None,
            resource: Mutex::new(resource),
            equal: Equal::default(),
            pool: Mutex::new(Vec::new()),
            messages: Messages::default(),
            points: None,
        }
    }

    /// Where captured messages go: spans, log records, or both.
    #[must_use]
    pub fn with_messages(mut self, messages: Messages) -> Self {
        self.messages = messages;
        self
    }

    /// Facts that are points in time, INFO and louder, are also events of the span that they happen in, at most
    /// `most` on one; 0 makes none. They are log records all the same.
    #[must_use]
    pub fn with_span_events(mut self, most: usize) -> Self {
        self.points = (most > 0 && self.only != Some(Signal::Logs)).then(|| Points::new(most));
        self
    }

    pub(super) fn of(signal: Signal, sink: impl Sink, resource: Resource) -> Self {
        OtelLayer { only: Some(signal), ..Self::new(Only(signal, sink), resource) }
    }

    fn uid(&self, event: &str, ids: u64, time: u64) -> u64 {
        let first = uid(event, ids, time, 0);
        match self.equal.occurrence(first) {
            0 => first,
            occurrence => uid(event, ids, time, occurrence),
        }
    }

    fn buffer(&self) -> Out {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, mut buffer: Out) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < POOLED && buffer.capacity() <= POOLED_BYTES {
            buffer.clear();
            pool.push(buffer);
        }
    }

    // A server says who it is when a client connects; what follows belongs to it.
    fn learn(&self, start: &ConnectionStart<'_>) {
        let mut resource = self.resource.lock().unwrap_or_else(PoisonError::into_inner);
        if resource.learn_from(start) {
            for signal in [Signal::Logs, Signal::Traces] {
                self.sink.set_header(signal, &Header::new(&resource, signal).0);
            }
        }
    }

    /// Attributes of a point as a span has them: messages as texts, if they belong there.
    fn of_span(&self, known: &'static Known, event: &Event<'_>) -> Out {
        let (mut all, mut kept) = (Out::new(), Out::new());
        event.record(&mut Visited::new(known, SPAN_ATTRIBUTE, &mut all));
        message::only(&mut kept, &all, |key| self.messages != Messages::Logs || !message::is_message(key));
        kept
    }

    fn points_of(&self, open: &mut OpenSpan) -> Out {
        let taken = self.points.as_ref().map(|points| points.take((open.trace, open.span)));
        let (points, content) = taken.unwrap_or_default();
        open.content |= content;
        points
    }

    fn end(&self, open: &mut OpenSpan, end: &Ending<'_>, span: &mut Out, log: &mut Out) {
        open.ended = true;
        with_records(open, end, span, log, |accepted| self.sink.accept(accepted));
        self.give_back(std::mem::take(&mut open.attributes));
    }
}

impl<S: Subscriber + for<'lookup> LookupSpan<'lookup>> Layer<S> for OtelLayer {
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        if let Some(warning) = super::unseen::warning(dispatch) {
            self.sink.warn(&warning);
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let Some(known) = known(metadata) else { return };
        let entry = known.entry;
        BUFFERS.with_borrow_mut(|[record, ..]| {
            encode::begin_record(record);
            let begun = record.len();
            let mut visited = Visited::new(known, LOG_ATTRIBUTE, record);
            visited.messages = self.messages;
            event.record(&mut visited);
            let (ids, time, observed) = (visited.ids, visited.time, visited.observed);
            let (content, place) = (visited.content, (visited.trace, visited.span));
            if let Some(points) = self.points.as_ref().filter(|_| *metadata.level() <= Level::INFO) {
                let attributes = match content {
                    false => Cow::Borrowed(record.get(begun..).unwrap_or_default()),
                    true => Cow::Owned(self.of_span(known, event).into_vec()),
                };
                points.add(place, entry.name, time, &attributes, content);
            }
            let severity = severity(*metadata.level());
            let log =
                Log { event: entry.name, time, observed, severity, uid: self.uid(entry.name, ids, time) };
            let written = log.complete(place, record);
            let records = &[(Signal::Logs, time, written)];
            self.sink.accept(Accepted { begin: None, end: None, content, records });
        });
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let Some(known) = known(attributes.metadata()) else { return };
        let entry = known.entry;
        if entry.name == ConnectionStart::ENTRY.name
            && let Some((_, Fact::ConnectionStart(start))) = span_start(attributes)
        {
            self.learn(&start);
        }
        let mut buffer = self.buffer();
        let mut visited = Visited::new(known, SPAN_ATTRIBUTE, &mut buffer);
        visited.messages = self.messages;
        attributes.record(&mut visited);
        let observed = visited.observed;
        let started = visited.out.len();
        let open = OpenSpan::new(known, self.only, visited);
        if let Some(points) = &self.points {
            points.open((open.trace, open.span));
        }
        BUFFERS.with_borrow_mut(|[stored, record, _]| {
            open.store(stored);
            let begin = Some((open.key(), open.time, &stored[..]));
            let content = open.content;
            let Some(event) = entry.lasting.as_ref().and_then(|lasting| lasting.start_event) else {
                return self.sink.accept(Accepted { begin, end: None, content, records: &[] });
            };
            let uid = self.uid(event, open.ids, open.time);
            let log = Log { event, time: open.time, observed, severity: severity(entry.level), uid };
            let said = [open.attributes.get(..started).unwrap_or_default(), &[]];
            let records = &[(Signal::Logs, open.time, open.log(&log, said, record))];
            self.sink.accept(Accepted { begin, end: None, content, records });
        });
        if let Some(span) = context.span(id) {
            let mut extensions = span.extensions_mut();
            match extensions.get_mut::<Open>() {
                Some(open_by) => open_by.others.push((self.id, open)),
                None => extensions.insert(Open { first: (self.id, open), others: Vec::new() }),
            }
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<Open>().and_then(|open| open.of(self.id)) else { return };
        BUFFERS.with_borrow_mut(|[attributes, record, log]| {
            attributes.clear();
            let mut visited = Visited::new(open.known, SPAN_ATTRIBUTE, attributes);
            values.record(&mut visited);
            let Some(time) = visited.end else { return };
            let (observed, start, parent, failed) =
                (visited.end_observed, visited.start, visited.end_parent, visited.failed);
            open.content |= visited.content;
            let event = open.lasting().and_then(|lasting| lasting.end_event);
            let uid = event.map_or(0, |event| self.uid(event, open.ids, time));
            let points = &self.points_of(open);
            let end = Ending { time, observed, start, parent, failed, attributes, points, uid };
            self.end(open, &end, record, log);
        });
    }

    // A host dropped it without saying how it ended.
    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<Open>().and_then(|open| open.of(self.id)) else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let attributes = open.unobserved();
        let time = now.max(open.time);
        let uid = uid("end", open.ids, time, 0);
        let points = &self.points_of(open);
        let end = Ending { points, ..Ending::unobserved(time, now, &attributes, uid) };
        BUFFERS.with_borrow_mut(|[_, record, log]| self.end(open, &end, record, log));
    }
}

/// Severity numbers of the log data model.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 17,
        Level::WARN => 13,
        Level::INFO => 9,
        Level::DEBUG => 5,
        Level::TRACE => 1,
    }
}
