//! What the table in [`vocabulary`](super::vocabulary) is made into.

use std::borrow::Cow;

use tracing::Level;

use super::{Capture, Class, End, Envelope, Shape};

/// One fact of the vocabulary.
#[derive(Debug)]
pub struct Entry {
    /// Name of the `tracing` event or span; of an event also its OpenTelemetry EventName.
    pub name: &'static str,
    /// Target, for filters. No target is a prefix of another.
    pub target: &'static str,
    /// Level, for filters. A failure is emitted one level louder, as WARN.
    pub level: Level,
    /// What it says.
    pub doc: &'static str,
    /// Whether it becomes telemetry; deltas never do.
    pub exported: bool,
    /// The fields of a point in time, or those known at the start of what lasts.
    pub fields: &'static [FieldInfo],
    /// What lasts has more fields, known at its end.
    pub lasting: Option<Lasting>,
}

/// The part of an entry that only what lasts has.
#[derive(Debug)]
pub struct Lasting {
    /// Name of the OpenTelemetry span; `{key}` stands for a field's value.
    pub shown: &'static str,
    /// OpenTelemetry span kind: 1 internal, 2 server.
    pub kind: u8,
    /// EventName of the log record at the start, if there is one.
    pub start_event: Option<&'static str>,
    /// EventName of the log record at the end, if there is one.
    pub end_event: Option<&'static str>,
    /// How many of the first fields the record at the end repeats, so that it can be found.
    pub keys: usize,
    /// Attributes that are the same every time.
    pub constant: &'static [(&'static str, &'static str)],
    /// The fields known at the end.
    pub end_fields: &'static [FieldInfo],
}

/// One field of a fact.
#[derive(Debug)]
pub struct FieldInfo {
    /// Name in the struct.
    pub name: &'static str,
    /// Name of the attribute.
    pub key: &'static str,
    /// What it may reveal.
    pub class: Class,
    /// Shape of its values.
    pub shape: Shape,
    /// Whether a fact can do without it.
    pub optional: bool,
    /// What it says, with unit.
    pub doc: &'static str,
}

/// A fact about a point in time.
pub trait Point {
    /// Its entry in the table.
    const ENTRY: &'static Entry;
    /// Emits it as one `tracing` event. `envelope` is only asked for if somebody wants the fact: when nobody does,
    /// it costs the filter's check and nothing else.
    fn emit_with<'e>(&self, envelope: impl Fn() -> Cow<'e, Envelope>, capture: Capture);
    /// The same with an envelope that is at hand.
    fn emit(&self, envelope: &Envelope, capture: Capture) {
        self.emit_with(|| Cow::Borrowed(envelope), capture);
    }
    /// What it is about.
    fn subject(&self) -> Subject<'_>;
}

/// What a fact is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The thread.
    pub thread: Option<&'a str>,
    /// The turn.
    pub turn: Option<&'a str>,
    /// The call or other item.
    pub item: Option<&'a str>,
}

impl<'a> Subject<'a> {
    pub(crate) fn learn(&mut self, key: &str, text: Option<&'a str>) {
        match key {
            "gen_ai.conversation.id" => self.thread = text,
            "codex.turn.id" => self.turn = text,
            "gen_ai.tool.call.id" | "codex.item.id" | "codex.hook.event" => self.item = text,
            _ => {}
        }
    }
}

/// The beginning of something that lasts.
pub trait Starts {
    /// Its entry in the table.
    const ENTRY: &'static Entry;
    /// What is said of it at the end.
    type End: Ends;
    /// Opens one `tracing` span; `envelope` is only asked for if somebody wants it.
    fn start_with<'e>(&self, envelope: impl Fn() -> Cow<'e, Envelope>, capture: Capture) -> tracing::Span;
    /// The same with an envelope that is at hand.
    fn start(&self, envelope: &Envelope, capture: Capture) -> tracing::Span {
        self.start_with(|| Cow::Borrowed(envelope), capture)
    }
    /// What it is about.
    fn subject(&self) -> Subject<'_>;
}

/// The end of something that lasts.
pub trait Ends {
    /// Records the end on the span that [`Starts::start`] opened; only the first end counts.
    fn end(&self, span: &tracing::Span, end: &End, capture: Capture);
}

macro_rules! fields {
    ($( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $key:literal, $class:expr; )*) => {
        &[$( $crate::fact::FieldInfo {
            name: stringify!($field),
            key: $key,
            class: $class,
            shape: <$type as $crate::fact::Field>::SHAPE,
            optional: <$type as $crate::fact::Field>::OPTIONAL,
            doc: concat!($($doc),+),
        } ),*]
    };
}

macro_rules! record {
    ($(#[doc = $doc:literal])+ $Name:ident {
        $( $(#[doc = $field_doc:literal])+ $field:ident: $type:ty = $key:literal, $class:expr; )*
    }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Default, PartialEq, serde::Deserialize)]
        pub struct $Name<'a> {
            $( $(#[doc = $field_doc])+ pub $field: $type, )*
        }

        impl serde::Serialize for $Name<'_> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                $( if !matches!($class, Class::Secret) && !$crate::fact::Field::absent(&self.$field) {
                    map.serialize_entry(stringify!($field), &self.$field)?;
                } )*
                map.end()
            }
        }

        // Content and environment are not for debug prints, whatever is captured.
        impl std::fmt::Debug for $Name<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut shown = f.debug_struct(stringify!($Name));
                $( if Capture::NONE.allows($class) {
                    shown.field(stringify!($field), &self.$field);
                } )*
                shown.finish_non_exhaustive()
            }
        }
    };
}

macro_rules! facts {
    (
        points { $(
            $(#[doc = $doc:literal])+
            $Point:ident = $name:literal, $target:literal, $level:ident
            $(, failing $failing:ident)? $(, exported $exported:literal)? {
                $( $(#[doc = $field_doc:literal])+ $field:ident: $type:ty = $key:literal, $class:expr; )*
            }
        )* }
        lasting { $(
            $(#[doc = $span_doc:literal])+
            $Start:ident .. $End:ident = $span_name:literal, $span_target:literal, $span_level:ident,
            shown $shown:literal, kind $kind:literal, logs($start_event:expr, $end_event:expr),
            constant { $( $constant:literal = $constant_value:literal ),* } {
                keys { $( $(#[doc = $key_doc:literal])+ $key_field:ident: $key_type:ty = $key_key:literal, $key_class:expr; )* }
                start { $( $(#[doc = $start_doc:literal])+ $start_field:ident: $start_type:ty = $start_key:literal, $start_class:expr; )* }
                end { $( $(#[doc = $end_doc:literal])+ $end_field:ident: $end_type:ty = $end_key:literal, $end_class:expr; )* }
            }
        )* }
    ) => {
        /// Every fact there is.
        // A fact is handed on by reference; boxing the larger ones would cost an allocation for each.
        #[allow(clippy::large_enum_variant)]
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "fact", rename_all = "snake_case")]
        pub enum Fact<'a> {
            $( $(#[doc = $doc])+ $Point($Point<'a>), )*
            $( $(#[doc = $span_doc])+ $Start($Start<'a>),
               /// The end of what the variant before began.
               $End($End<'a>), )*
        }

        /// The whole vocabulary, in the order of the table.
        pub static ENTRIES: &[&Entry] = &[
            $( <$Point<'static> as Point>::ENTRY, )*
            $( <$Start<'static> as Starts>::ENTRY, )*
        ];

        $(
            record! { $(#[doc = $doc])+ $Point {
                $( $(#[doc = $field_doc])+ $field: $type = $key, $class; )*
            } }

            impl<'a> Point for $Point<'a> {
                const ENTRY: &'static Entry = &Entry {
                    name: $name,
                    target: $target,
                    level: Level::$level,
                    doc: concat!($($doc),+),
                    exported: true $( && $exported )?,
                    fields: fields! { $( $(#[doc = $field_doc])+ $field: $type = $key, $class; )* },
                    lasting: None,
                };

                fn emit_with<'e>(
                    &self,
                    envelope: impl Fn() -> std::borrow::Cow<'e, Envelope>,
                    capture: Capture,
                ) {
                    let made = std::cell::OnceCell::new();
                    let envelope = || made.get_or_init(&envelope);
                    macro_rules! emit_at {
                        ($at:ident) => {
                            tracing::event!(name: $name, target: $target, tracing::Level::$at, {
                                "factline.time" = envelope().time,
                                "factline.observed" = envelope().observed,
                                "factline.trace" = (envelope().trace != 0).then_some(envelope().trace),
                                "factline.span" = (envelope().span != 0).then_some(envelope().span),
                                "factline.parent" = (envelope().parent != 0).then_some(envelope().parent),
                                "factline.remote" = envelope().remote.then_some(true),
                                "factline.links" = envelope().shown_links(),
                                $( $key = $crate::fact::Field::recorded(&*capture.point(&self.$field, $class), capture.allows($class)), )*
                            })
                        };
                    }
                    let failed = false $( || self.$failing.is_some() )?;
                    if failed { emit_at!(WARN) } else { emit_at!($level) }
                }

                fn subject(&self) -> Subject<'_> {
                    let mut subject = Subject::default();
                    $( subject.learn($key, $crate::fact::Field::text(&self.$field)); )*
                    subject
                }
            }

            impl $Point<'_> {
                pub(crate) fn restore(values: &mut Values) -> Option<Self> {
                    Some($Point { $( $field: values.restore($key)?, )* })
                }
            }
        )*

        $(
            record! { $(#[doc = $span_doc])+ $Start {
                $( $(#[doc = $key_doc])+ $key_field: $key_type = $key_key, $key_class; )*
                $( $(#[doc = $start_doc])+ $start_field: $start_type = $start_key, $start_class; )*
            } }

            record! {
                /// What is known at the end of what the type of the same name with `Start` began.
                $End { $( $(#[doc = $end_doc])+ $end_field: $end_type = $end_key, $end_class; )* }
            }

            impl<'a> Starts for $Start<'a> {
                type End = $End<'static>;
                const ENTRY: &'static Entry = &Entry {
                    name: $span_name,
                    target: $span_target,
                    level: Level::$span_level,
                    doc: concat!($($span_doc),+),
                    exported: true,
                    fields: fields! {
                        $( $(#[doc = $key_doc])+ $key_field: $key_type = $key_key, $key_class; )*
                        $( $(#[doc = $start_doc])+ $start_field: $start_type = $start_key, $start_class; )*
                    },
                    lasting: Some(Lasting {
                        shown: $shown,
                        kind: $kind,
                        start_event: $start_event,
                        end_event: $end_event,
                        keys: [$( stringify!($key_field) ),*].len(),
                        constant: &[$( ($constant, $constant_value) ),*],
                        end_fields: fields! {
                            $( $(#[doc = $end_doc])+ $end_field: $end_type = $end_key, $end_class; )*
                        },
                    }),
                };

                // A parent in tracing would be held open by what lasts, so there is none.
                fn start_with<'e>(
                    &self,
                    envelope: impl Fn() -> std::borrow::Cow<'e, Envelope>,
                    capture: Capture,
                ) -> tracing::Span {
                    let made = std::cell::OnceCell::new();
                    let envelope = || made.get_or_init(&envelope);
                    tracing::span!(target: $span_target, parent: None, tracing::Level::$span_level, $span_name,
                        "factline.time" = envelope().time,
                        "factline.observed" = envelope().observed,
                        "factline.trace" = (envelope().trace != 0).then_some(envelope().trace),
                        "factline.span" = (envelope().span != 0).then_some(envelope().span),
                        "factline.parent" = (envelope().parent != 0).then_some(envelope().parent),
                        "factline.remote" = envelope().remote.then_some(true),
                        "factline.links" = envelope().shown_links(),
                        $( $key_key = $crate::fact::Field::recorded(&*capture.lasting(&self.$key_field, $key_class), capture.allows($key_class)), )*
                        $( $start_key = $crate::fact::Field::recorded(&*capture.lasting(&self.$start_field, $start_class), capture.allows($start_class)), )*
                        "factline.end" = tracing::field::Empty,
                        "factline.end_observed" = tracing::field::Empty,
                        "factline.start" = tracing::field::Empty,
                        "factline.end_parent" = tracing::field::Empty,
                        $( $end_key = tracing::field::Empty, )*
                    )
                }

                fn subject(&self) -> Subject<'_> {
                    let mut subject = Subject::default();
                    $( subject.learn($key_key, $crate::fact::Field::text(&self.$key_field)); )*
                    $( subject.learn($start_key, $crate::fact::Field::text(&self.$start_field)); )*
                    subject
                }
            }

            impl<'a> Ends for $End<'a> {
                // Not by `record_all!`, which looks every field up by its name, nor by a list of all that the span has,
                // most of which is nothing of an end's. Its own fields are the last ones, in the order of the table.
                fn end(&self, span: &tracing::Span, end: &End, capture: Capture) {
                    static FIELDS: std::sync::OnceLock<Vec<tracing::field::Field>> = std::sync::OnceLock::new();
                    let metadata = span.metadata().filter(|it| !span.is_disabled() && it.name() == $span_name);
                    let Some(metadata) = metadata else { return };
                    let known = |value: u64| (value != 0).then_some(value);
                    let (time, observed) = (Some(end.time), known(end.observed));
                    let (start, parent) = (known(end.start), known(end.parent));
                    $( let $end_field = capture.lasting(&self.$end_field, $end_class); )*
                    $( let $end_field = $crate::fact::Field::recorded(&*$end_field, capture.allows($end_class)); )*
                    let values = [
                        time.as_ref().map(|it| it as &dyn tracing::Value),
                        observed.as_ref().map(|it| it as &dyn tracing::Value),
                        start.as_ref().map(|it| it as &dyn tracing::Value),
                        parent.as_ref().map(|it| it as &dyn tracing::Value),
                        $( $end_field.as_ref().map(|it| it as &dyn tracing::Value), )*
                    ];
                    let all = metadata.fields();
                    let before = $crate::fact::ENVELOPE.len() + <$Start<'_> as Starts>::ENTRY.fields.len();
                    if all.len() != before + values.len() {
                        return;
                    }
                    let mut fields = FIELDS.get_or_init(|| all.iter().skip(before).collect()).iter();
                    let Some(first) = fields.as_slice().first() else { return };
                    let values = values.map(|value| (fields.next().unwrap_or(first), value));
                    span.record_all(&all.value_set(&values));
                }
            }

            impl $Start<'_> {
                pub(crate) fn restore(values: &mut Values) -> Option<Self> {
                    Some($Start {
                        $( $key_field: values.restore($key_key)?, )*
                        $( $start_field: values.restore($start_key)?, )*
                    })
                }
            }

            impl $End<'_> {
                pub(crate) fn restore(values: &mut Values) -> Option<Self> {
                    Some($End { $( $end_field: values.restore($end_key)?, )* })
                }
            }
        )*

        impl Fact<'_> {
            pub(crate) fn restore_point(name: &str, values: &mut Values) -> Option<Fact<'static>> {
                match name {
                    $( $name => $Point::restore(values).map(Fact::$Point), )*
                    _ => None,
                }
            }

            pub(crate) fn restore_start(name: &str, values: &mut Values) -> Option<Fact<'static>> {
                match name {
                    $( $span_name => $Start::restore(values).map(Fact::$Start), )*
                    _ => None,
                }
            }

            pub(crate) fn restore_end(name: &str, values: &mut Values) -> Option<Fact<'static>> {
                match name {
                    $( $span_name => $End::restore(values).map(Fact::$End), )*
                    _ => None,
                }
            }

            /// Emits a point in time, or opens the span of something that lasts. An end belongs to a span
            /// that is open: it is emitted by [`Fact::end`].
            pub fn emit(&self, envelope: &Envelope, capture: Capture) -> Option<tracing::Span> {
                match self {
                    $( Fact::$Point(fact) => { fact.emit(envelope, capture); None } )*
                    $( Fact::$Start(fact) => Some(fact.start(envelope, capture)),
                       Fact::$End(_) => None, )*
                }
            }

            /// Records an end on its span; does nothing for any other fact.
            pub fn end(&self, span: &tracing::Span, end: &End, capture: Capture) {
                match self {
                    $( Fact::$End(fact) => fact.end(span, end, capture), )*
                    _ => {}
                }
            }
        }
    };
}
