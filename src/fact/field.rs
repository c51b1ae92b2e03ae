//! How a field of a fact becomes a value of a `tracing` field, and comes back.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use tracing::field::{DisplayValue, Field as TracingField, Visit, display};

use super::Text;

/// The shape of a field's value, as attributes know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Text.
    Text,
    /// A whole number of 64 bits. Above `i64::MAX` it is written as decimal text, OTLP has no larger number.
    Integer,
    /// A floating-point number.
    Number,
    /// True or false.
    Flag,
    /// A list of texts; travels as JSON text that is only made when somebody visits the field.
    List,
}

/// A type that a field of a fact may have.
pub trait Field: Sized + Clone {
    /// The shape of its values.
    const SHAPE: Shape;
    /// Whether a fact can do without it.
    const OPTIONAL: bool;
    /// What `tracing` records; absent values record nothing.
    type Recorded<'b>: tracing::Value
    where
        Self: 'b;
    /// The value to record, if it may leave.
    fn recorded(&self, allowed: bool) -> Self::Recorded<'_>;
    /// The value, of a field that is a text.
    fn text(&self) -> Option<&str> {
        None
    }
    /// The value with its texts as `clean` wants them; `None` where it leaves all as they are.
    fn changed(&self, _: Clean<'_>) -> Option<Self> {
        None
    }
    /// Whether there is nothing to record.
    fn absent(&self) -> bool {
        false
    }
    /// The value as it came back, `None` if it is missing and must not be.
    fn restored(value: Option<Value>) -> Option<Self>;
}

/// Answers with another text where one may not leave as it is.
pub type Clean<'c> = &'c dyn Fn(&str) -> Option<String>;

/// A value as a visitor saw it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text, also of lists.
    Text(String),
    /// A number that is not negative.
    Unsigned(u64),
    /// A number.
    Signed(i64),
    /// A number of 128 bits.
    Wide(u128),
    /// A floating-point number.
    Number(f64),
    /// True or false.
    Flag(bool),
}

macro_rules! field {
    ($own:ty, $shape:ident, $recorded:ty, |$it:ident| $record:expr, $text:expr, $changed:expr,
        $($pattern:pat => $value:expr),+) => {
        impl Field for $own {
            const SHAPE: Shape = Shape::$shape;
            const OPTIONAL: bool = false;
            type Recorded<'b> = Option<$recorded> where Self: 'b;
            #[inline]
            fn recorded(&self, allowed: bool) -> Self::Recorded<'_> {
                let $it = self;
                allowed.then(|| $record)
            }
            fn text(&self) -> Option<&str> {
                let of: fn(&Self) -> Option<&str> = $text;
                of(self)
            }
            fn changed(&self, clean: Clean<'_>) -> Option<Self> {
                let of: fn(&Self, Clean<'_>) -> Option<Self> = $changed;
                of(self, clean)
            }
            fn restored(value: Option<Value>) -> Option<Self> {
                match value? { $($pattern => $value,)+ _ => None }
            }
        }
        impl Field for Option<$own> {
            const SHAPE: Shape = Shape::$shape;
            const OPTIONAL: bool = true;
            type Recorded<'b> = Option<$recorded> where Self: 'b;
            #[inline]
            fn recorded(&self, allowed: bool) -> Self::Recorded<'_> {
                self.as_ref().filter(|_| allowed).map(|$it| $record)
            }
            fn text(&self) -> Option<&str> {
                self.as_ref().and_then(Field::text)
            }
            fn changed(&self, clean: Clean<'_>) -> Option<Self> {
                self.as_ref().and_then(|it| it.changed(clean)).map(Some)
            }
            fn absent(&self) -> bool {
                self.is_none()
            }
            fn restored(value: Option<Value>) -> Option<Self> {
                match value { None => Some(None), some => <$own>::restored(some).map(Some) }
            }
        }
    };
}

field!(Text<'_>, Text, &'b str, |it| &**it, |it| Some(it), |it, clean| clean(it).map(Text::Owned), Value::Text(text) => Some(Text::Owned(text)));
field!(u64, Integer, u64, |it| *it, |_| None, |_, _| None, Value::Unsigned(n) => Some(n), Value::Signed(n) => n.try_into().ok());
field!(i64, Integer, i64, |it| *it, |_| None, |_, _| None, Value::Signed(n) => Some(n), Value::Unsigned(n) => n.try_into().ok());
field!(f64, Number, f64, |it| *it, |_| None, |_, _| None, Value::Number(n) => Some(n));
field!(bool, Flag, bool, |it| *it, |_| None, |_, _| None, Value::Flag(flag) => Some(flag));

/// A list of texts; empty is the same as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct List<'a>(pub Vec<Text<'a>>);

impl<'de> Deserialize<'de> for List<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default();
        Ok(texts.into_iter().collect())
    }
}

impl<'a, T: Into<Text<'a>>> FromIterator<T> for List<'a> {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        List(texts.into_iter().map(Into::into).collect())
    }
}

impl Field for List<'_> {
    const SHAPE: Shape = Shape::List;
    const OPTIONAL: bool = true;
    type Recorded<'b>
        = Option<DisplayValue<Json<'b, Self>>>
    where
        Self: 'b;
    fn recorded(&self, allowed: bool) -> Self::Recorded<'_> {
        (allowed && !self.0.is_empty()).then(|| display(Json(self)))
    }
    fn changed(&self, clean: Clean<'_>) -> Option<Self> {
        let cleaned: Vec<Option<String>> = self.0.iter().map(|text| clean(text)).collect();
        cleaned.iter().any(Option::is_some).then(|| {
            let each = self.0.iter().zip(cleaned);
            List(each.map(|(text, clean)| clean.map_or_else(|| text.clone(), Text::Owned)).collect())
        })
    }
    fn absent(&self) -> bool {
        self.0.is_empty()
    }
    fn restored(value: Option<Value>) -> Option<Self> {
        match value {
            None => Some(List::default()),
            Some(Value::Text(text)) => serde_json::from_str(&text).ok(),
            Some(_) => None,
        }
    }
}

/// Displays a value as JSON, when and only when it is asked to.
pub struct Json<'b, T>(&'b T);

impl<T: Serialize> fmt::Display for Json<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

/// Collects what `tracing` shows a subscriber.
#[derive(Debug, Default)]
pub struct Values(Vec<(&'static str, Value)>);

impl Values {
    /// Takes the value of a field out.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| *name == key)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes a field out as the type it has.
    pub fn restore<F: Field>(&mut self, key: &str) -> Option<F> {
        F::restored(self.take(key))
    }

    fn put(&mut self, field: &TracingField, value: Value) {
        self.0.push((field.name(), value));
    }
}

impl Visit for Values {
    fn record_f64(&mut self, field: &TracingField, value: f64) {
        self.put(field, Value::Number(value));
    }
    fn record_i64(&mut self, field: &TracingField, value: i64) {
        self.put(field, Value::Signed(value));
    }
    fn record_u64(&mut self, field: &TracingField, value: u64) {
        self.put(field, Value::Unsigned(value));
    }
    fn record_u128(&mut self, field: &TracingField, value: u128) {
        self.put(field, Value::Wide(value));
    }
    fn record_bool(&mut self, field: &TracingField, value: bool) {
        self.put(field, Value::Flag(value));
    }
    fn record_str(&mut self, field: &TracingField, value: &str) {
        self.put(field, Value::Text(value.to_owned()));
    }
    fn record_debug(&mut self, field: &TracingField, value: &dyn fmt::Debug) {
        self.put(field, Value::Text(format!("{value:?}")));
    }
}
