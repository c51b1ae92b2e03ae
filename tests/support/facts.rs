//! Recorded sessions as facts and as analytics events.
#![allow(dead_code)] // each suite uses its part

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use factline::analytics::{AnalyticsLayer, Counters, Event, Events, Families, Limits, Reducer, only_facts};
use factline::fact::{Capture, End, Envelope, Fact, event, span_end, span_start};
use factline::protocol::{Observer, Sender};
use factline::replay::replay;
use factline::transcript::Transcript;
use tracing::{Subscriber, span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// One thing said to a reducer.
#[allow(clippy::large_enum_variant)] // boxes would only be noise here
#[derive(Debug, Clone)]
pub enum Said {
    Fact(Envelope, Fact<'static>),
    End(Envelope, Fact<'static>, End, Fact<'static>),
}

impl Said {
    pub fn tell(&self, reducer: &mut Reducer) -> Vec<Event> {
        match self {
            Said::Fact(envelope, fact) => reducer.reduce(envelope, fact),
            Said::End(begun, start, end, fact) => reducer.finish(begun, start, end, fact),
        }
    }

    /// The thread it is about, if it is about one.
    pub fn thread(&self) -> Option<String> {
        let (Said::Fact(_, fact) | Said::End(_, fact, ..)) = self;
        serde_json::to_value(fact).unwrap()["thread_id"].as_str().map(str::to_owned)
    }
}

#[derive(Default, Clone)]
struct Collect(Arc<Mutex<Vec<Said>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collect {
    fn on_event(&self, seen: &tracing::Event<'_>, _: Context<'_, S>) {
        if let Some((envelope, fact)) = event(seen) {
            self.0.lock().unwrap().push(Said::Fact(envelope, fact));
        }
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some((envelope, fact)) = span_start(attributes) {
            self.0.lock().unwrap().push(Said::Fact(envelope.clone(), fact.clone()));
            context.span(id).unwrap().extensions_mut().insert((envelope, fact));
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let extensions = span.extensions();
        let begun: Option<&(Envelope, Fact<'static>)> = extensions.get();
        if let (Some((envelope, start)), Some((end, fact))) = (begun, span_end(span.metadata(), values)) {
            self.0.lock().unwrap().push(Said::End(envelope.clone(), start.clone(), end, fact));
        }
    }
}

/// All that a recorded session says, in its order.
pub fn facts(session: &str) -> Vec<Said> {
    let collect = Collect::default();
    let subscriber = tracing_subscriber::registry().with(collect.clone().with_filter(only_facts()));
    tracing::subscriber::with_default(subscriber, || run(&corpus().join(session)));
    let facts = std::mem::take(&mut *collect.0.lock().unwrap());
    assert!(!facts.is_empty(), "{session}");
    facts
}

/// Keeps events.
#[derive(Default, Clone)]
pub struct Kept(pub Arc<Mutex<Vec<Event>>>);

impl Events for Kept {
    fn accept(&self, events: &[Event]) {
        self.0.lock().unwrap().extend_from_slice(events);
    }
}

impl Kept {
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// The events of a recorded session, and what was counted.
pub fn events(session: &str) -> (Vec<Event>, Counters) {
    observed(|| run(&corpus().join(session)))
}

/// The events of what `run` emits.
pub fn observed(run: impl FnOnce()) -> (Vec<Event>, Counters) {
    let kept = Kept::default();
    let layer = AnalyticsLayer::new(kept.clone(), Families::default(), Limits::default());
    let counters = layer.counters();
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(only_facts()));
    tracing::subscriber::with_default(subscriber, run);
    (kept.take(), counters)
}

/// The events of messages, `>` from the client and `<` from the server, one millisecond apart.
pub fn told(lines: &[&str]) -> (Vec<Event>, Counters) {
    observed(|| {
        let mut observer = Observer::new(Capture::NONE);
        for (at, line) in lines.iter().enumerate() {
            let sender = if line.starts_with('>') { Sender::Client } else { Sender::Server };
            observer.message(1, sender, 1_795_000_000_000_000 + at as u64 * 1_000, &line.as_bytes()[1..]);
        }
        observer.finish(factline::protocol::Ended::ClientClosed);
    })
}

fn run(folder: &Path) {
    let mut transcript = Transcript::open(&folder.join("transcript.jsonl")).unwrap();
    replay(&mut transcript, Capture::NONE, |_| true).unwrap();
}

pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}
