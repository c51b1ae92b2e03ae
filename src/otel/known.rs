//! Which entry of the vocabulary a callsite emits, remembered by the thread: the look-up by name costs more than
//! all that is written for a field.

use std::cell::Cell;
use std::ptr;

use tracing::Metadata;

use crate::fact::{Entry, entry};

const PLACES: usize = 64;

/// A callsite and what it emits.
type Known = Cell<(*const Metadata<'static>, Option<&'static Entry>)>;

thread_local! {
    static KNOWN: [Known; PLACES] = const { [const { Cell::new((ptr::null(), None)) }; PLACES] };
}

/// The entry of an event or span, if it is a fact that becomes telemetry.
pub(super) fn known(metadata: &'static Metadata<'static>) -> Option<&'static Entry> {
    let address = ptr::from_ref(metadata);
    KNOWN.with(|known| {
        // Callsites are static, so that none can take another's address.
        let place = &known[(address.addr() >> 4 ^ address.addr() >> 10) % PLACES];
        let (callsite, entry) = place.get();
        if ptr::eq(callsite, address) {
            return entry;
        }
        let entry = look_up(metadata);
        place.set((address, entry));
        entry
    })
}

fn look_up(metadata: &Metadata<'_>) -> Option<&'static Entry> {
    if !metadata.target().starts_with("factline::") {
        return None;
    }
    entry(metadata.name()).filter(|entry| entry.exported && entry.target == metadata.target())
}
