//! The layer: facts that `tracing` shows become events, and leave through [`Events`].

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterFn, Filtered, filter_fn};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::{Event, Families, Limits, Reducer};
use crate::fact::{Envelope, Fact, event, span_end, span_start};

/// Takes events further. It is called under the layer's lock, so that events keep the order of their facts: it
/// must not wait for a network, and must not emit.
pub trait Events: Send + Sync + 'static {
    /// Takes the events of one fact, at least one.
    fn accept(&self, events: &[Event]);
    /// A server says who it is: the product it runs for, and how it calls itself. What follows comes from it.
    fn server(&self, _originator: Option<&str>, _user_agent: Option<&str>) {}
}

impl<E: Events + ?Sized> Events for Arc<E> {
    fn accept(&self, events: &[Event]) {
        (**self).accept(events);
    }
    fn server(&self, originator: Option<&str>, user_agent: Option<&str>) {
        (**self).server(originator, user_agent);
    }
}

/// The filter of the layer: facts up to DEBUG; deltas, the most frequent, are not looked at.
pub type OnlyFacts = FilterFn<fn(&Metadata<'_>) -> bool>;

/// Lets through what the layer needs and nothing else.
pub fn only_facts() -> OnlyFacts {
    let wanted: fn(&Metadata<'_>) -> bool =
        |metadata| *metadata.level() <= tracing::Level::DEBUG && metadata.target().starts_with("factline::");
    filter_fn(wanted).with_max_level_hint(LevelFilter::DEBUG)
}

/// The layer with its own filter, ready for a registry. To switch analytics off, leave it out: then a fact
/// costs nothing more.
pub fn layer<S>(events: impl Events, families: Families) -> Filtered<AnalyticsLayer, OnlyFacts, S>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    AnalyticsLayer::new(events, families, Limits::default()).with_filter(only_facts())
}

/// Reduces facts to events.
pub struct AnalyticsLayer {
    reducer: Arc<Mutex<Reducer>>,
    events: Box<dyn Events>,
    families: Families,
}

impl fmt::Debug for AnalyticsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnalyticsLayer").field("families", &self.families).finish_non_exhaustive()
    }
}

/// What a layer's reducer counted.
#[derive(Debug, Clone)]
pub struct Counters(Arc<Mutex<Reducer>>);

impl Counters {
    /// Facts that gave no event though they might have, by reason: see [`Reducer::counts`].
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts()
    }
}

/// What a span said when it began, and whether it ended, for each layer that saw it.
struct Begun(Vec<(usize, Envelope, Fact<'static>, bool)>);

impl AnalyticsLayer {
    /// A layer without a filter.
    pub fn new(events: impl Events, families: Families, limits: Limits) -> Self {
        let reducer = Arc::new(Mutex::new(Reducer::new(limits)));
        AnalyticsLayer { reducer, events: Box::new(events), families }
    }

    /// A view of what is counted, to keep when the layer goes into a subscriber.
    pub fn counters(&self) -> Counters {
        Counters(Arc::clone(&self.reducer))
    }

    /// Tells layers of one subscriber apart.
    fn id(&self) -> usize {
        Arc::as_ptr(&self.reducer).addr()
    }

    fn reduce(&self, reduce: impl FnOnce(&mut Reducer) -> Vec<Event>) {
        let mut reducer = self.reducer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = reduce(&mut reducer);
        events.retain(|event| self.families.has(event.family()));
        if !events.is_empty() {
            self.events.accept(&events);
        }
    }
}

impl<S: Subscriber + for<'lookup> LookupSpan<'lookup>> Layer<S> for AnalyticsLayer {
    fn on_event(&self, seen: &tracing::Event<'_>, _: Context<'_, S>) {
        if let Some((envelope, fact)) = event(seen) {
            self.reduce(|reducer| reducer.reduce(&envelope, &fact));
        }
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let Some((envelope, fact)) = span_start(attributes) else { return };
        if let Fact::ConnectionStart(start) = &fact {
            self.events.server(start.product_client_id.as_deref(), start.user_agent.as_deref());
        }
        self.reduce(|reducer| reducer.reduce(&envelope, &fact));
        if let Some(span) = context.span(id) {
            let own = (self.id(), envelope, fact, false);
            let mut extensions = span.extensions_mut();
            match extensions.get_mut::<Begun>() {
                Some(others) => others.0.push(own),
                None => extensions.insert(Begun(vec![own])),
            }
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(Begun(all)) = extensions.get_mut::<Begun>() else { return };
        let own = all.iter_mut().find(|(layer, ..)| *layer == self.id());
        let Some((_, envelope, start, ended)) = own.filter(|(.., ended)| !ended) else { return };
        let Some((end, fact)) = span_end(span.metadata(), values) else { return };
        *ended = true;
        self.reduce(|reducer| reducer.finish(envelope, start, &end, &fact));
    }
}

/// Writes events as JSON, one a line.
pub struct Lines<W>(Mutex<(W, Option<io::Error>)>);

impl<W> fmt::Debug for Lines<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

impl<W: Write + Send + 'static> Lines<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Lines(Mutex::new((out, None)))
    }

    /// Flushes.
    ///
    /// # Errors
    /// The first thing that went wrong; nothing was written after it.
    pub fn finish(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.1.take() {
            Some(error) => Err(error),
            None => state.0.flush(),
        }
    }
}

impl<W: Write + Send + 'static> Events for Lines<W> {
    fn accept(&self, events: &[Event]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (out, failed) = &mut *state;
        for event in events {
            if failed.is_some() {
                return;
            }
            let line = serde_json::to_vec(event).map_err(io::Error::from).and_then(|mut line| {
                line.push(b'\n');
                out.write_all(&line)
            });
            *failed = line.err();
        }
    }
}
