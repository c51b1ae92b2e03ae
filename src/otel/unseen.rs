//! Facts that never reach a layer: a filter of the whole subscriber silences every layer, each layer's own filter
//! notwithstanding.

use tracing::callsite::{Callsite, Identifier};
use tracing::field::FieldSet;
use tracing::subscriber::Interest;
use tracing::{Dispatch, Level, Metadata};

use crate::fact::{ENTRIES, Entry};

/// Names of the facts that become telemetry and that no layer of `dispatch` gets to see, whatever filter the layer
/// itself has. For a host that wants to know after its subscriber is installed:
/// `tracing::dispatcher::get_default(otel::unseen)`. Empty where all is well.
pub fn unseen(dispatch: &Dispatch) -> Vec<&'static str> {
    let dispatch = dispatch.clone();
    // tracing-subscriber remembers per thread what was enabled last, until an event follows; none does here.
    let asked = std::thread::Builder::new().name("factline-unseen".to_owned()).spawn(move || {
        let hidden = |entry: &&&Entry| !dispatch.enabled(&metadata(entry));
        ENTRIES.iter().filter(|entry| entry.exported).filter(hidden).map(|entry| entry.name).collect()
    });
    // Without a thread there is nothing to be said.
    asked.ok().and_then(|asked| asked.join().ok()).unwrap_or_default()
}

/// What there is to say to an operator; only where nothing but failures gets through, for less may be meant.
pub(super) fn warning(dispatch: &Dispatch) -> Option<String> {
    let unseen = unseen(dispatch);
    let mut ordinary = ENTRIES.iter().filter(|entry| entry.exported && entry.level >= Level::INFO);
    ordinary.all(|entry| unseen.contains(&entry.name)).then(|| {
        "a filter of the whole tracing subscriber hides every fact, so that there is no telemetry: give that filter to \
         the layer that it is meant for (with_filter), or add `factline=debug` to it"
            .to_owned()
    })
}

fn metadata(entry: &Entry) -> Metadata<'static> {
    static NOWHERE: Nowhere = Nowhere;
    let kind = match entry.lasting {
        Some(_) => tracing::metadata::Kind::SPAN,
        None => tracing::metadata::Kind::EVENT,
    };
    let fields = FieldSet::new(&[], Identifier(&NOWHERE));
    Metadata::new(entry.name, entry.target, entry.level, None, None, None, fields, kind)
}

/// Where nothing is emitted.
struct Nowhere;

impl Callsite for Nowhere {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        static METADATA: Metadata<'static> = Metadata::new(
            "factline.unseen",
            "factline",
            Level::INFO,
            None,
            None,
            None,
            FieldSet::new(&[], Identifier(&Nowhere)),
            tracing::metadata::Kind::EVENT,
        );
        &METADATA
    }
}
