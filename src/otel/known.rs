//! The vocabulary as the layer needs it: what never changes is encoded once, and a callsite finds its entry
//! without a look-up by name, which would cost more than all that is written for a field.

use std::cell::Cell;
use std::ptr;
use std::sync::LazyLock;

use tracing::Metadata;

use super::encode::{Key, SPAN_ATTRIBUTE, text};
use super::message::is_message;
use super::out::Out;
use crate::fact::{Class, ENTRIES, Entry, FieldInfo, Shape};

/// Fields that a span has between those of its start and those of its end.
const ENDING: usize = 4;

/// An entry with all that is the same for each of its facts.
#[derive(Debug)]
pub(super) struct Known {
    pub entry: &'static Entry,
    /// By index behind the envelope; none where a span's end has fields of its own.
    pub attributes: Box<[Option<Attribute>]>,
    /// Of a span that shows one of its values, what its name begins with.
    pub shown: &'static str,
    /// Attributes that are the same every time, tagged as a span's.
    pub constant: Box<[u8]>,
}

/// A field that becomes an attribute.
#[derive(Debug)]
pub(super) struct Attribute {
    pub key: Key,
    /// Its value is written, and nothing else is done with it or behind it.
    pub is_plain: bool,
    pub is_id: bool,
    /// It is off unless somebody switches its kind on.
    pub is_content: bool,
    pub is_message: bool,
    pub is_list: bool,
    /// It says that something failed.
    pub is_failure: bool,
    /// The span's name shows its value.
    pub is_shown: bool,
    /// The record at the end of what lasts does not repeat it.
    pub is_behind_keys: bool,
}

impl Known {
    fn of(entry: &'static Entry) -> Known {
        let lasting = entry.lasting.as_ref();
        let shown = lasting.and_then(|lasting| lasting.shown.split_once('{'));
        let (shown, key) = shown.map_or(("", ""), |(before, rest)| (before, rest.trim_end_matches('}')));
        let attribute = |info: &FieldInfo, is_behind_keys: bool| {
            let (is_id, is_content) = (info.class == Class::Id, info.class.is_private());
            let (is_message, is_list) = (is_message(info.key), info.shape == Shape::List);
            let (is_failure, is_shown) = (info.key == "error.type", info.key == key);
            let is_plain =
                !(is_id || is_content || is_message || is_list || is_failure || is_shown || is_behind_keys);
            let key = Key::new(info.key);
            Some(Attribute {
                key,
                is_plain,
                is_id,
                is_content,
                is_message,
                is_list,
                is_failure,
                is_shown,
                is_behind_keys,
            })
        };
        let keys = lasting.map_or(usize::MAX, |lasting| lasting.keys);
        let first = entry.fields.iter().enumerate().map(|(at, info)| attribute(info, at >= keys));
        let ending = lasting.iter().flat_map(|lasting| {
            let fields = lasting.end_fields.iter().map(|info| attribute(info, false));
            std::iter::repeat_with(|| None).take(ENDING).chain(fields)
        });
        let mut constant = Out::new();
        for (key, value) in lasting.map_or(&[][..], |lasting| lasting.constant) {
            text(&mut constant, SPAN_ATTRIBUTE, key, value);
        }
        let attributes = first.chain(ending).collect();
        Known { entry, attributes, shown, constant: constant.into_vec().into() }
    }
}

static ALL: LazyLock<Box<[Known]>> = LazyLock::new(|| ENTRIES.iter().map(|entry| Known::of(entry)).collect());

const PLACES: usize = 64;

/// A callsite and what it emits.
type Callsite = Cell<(*const Metadata<'static>, Option<&'static Known>)>;

thread_local! {
    static CALLSITES: [Callsite; PLACES] = const { [const { Cell::new((ptr::null(), None)) }; PLACES] };
}

/// The entry of an event or span, if it is a fact that becomes telemetry.
pub(super) fn known(metadata: &'static Metadata<'static>) -> Option<&'static Known> {
    let address = ptr::from_ref(metadata);
    CALLSITES.with(|callsites| {
        // Callsites are static: none takes another's address.
        let place = &callsites[(address.addr() >> 4 ^ address.addr() >> 10) % PLACES];
        let (callsite, known) = place.get();
        if ptr::eq(callsite, address) {
            return known;
        }
        let known = look_up(metadata);
        place.set((address, known));
        known
    })
}

/// The entry of this name.
pub(super) fn named(name: &str) -> Option<&'static Known> {
    ALL.iter().find(|known| known.entry.name == name)
}

fn look_up(metadata: &Metadata<'_>) -> Option<&'static Known> {
    let (name, target) = (metadata.name(), metadata.target());
    ALL.iter().find(|known| known.entry.name == name && known.entry.target == target && known.entry.exported)
}
