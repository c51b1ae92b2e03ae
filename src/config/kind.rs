//! What settings take, and how a value of the file becomes the text that the variable would hold.

use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use toml::de::DeValue;

use super::quantity;

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Bool,
    /// Any text.
    Text,
    /// A credential: shown nowhere.
    Secret,
    /// A file or directory.
    Path,
    /// An `http` or `https` URL.
    Url,
    /// Directives of an `EnvFilter`.
    Filter,
    /// One of these.
    Choice(&'static [&'static str]),
    /// Some of these, or all but some.
    Names(&'static [&'static str]),
    /// A time in milliseconds, with its bounds.
    Duration {
        /// The shortest.
        least: u64,
        /// The longest.
        most: u64,
    },
    /// A number of bytes, with its bounds.
    Size {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// A whole number, with its bounds.
    Number {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// A program and its arguments.
    Words,
    /// Names and values.
    Pairs,
    /// Names and values that are credentials: shown by name.
    Headers,
}

/// Where relative paths of the file begin, and what `~` means in it.
pub(super) struct Base<'a> {
    pub dir: &'a Path,
    pub home: Option<&'a Path>,
}

impl Kind {
    /// What is allowed, in words.
    pub fn allowed(&self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Text | Self::Secret => "text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Url => "an http or https URL".to_owned(),
            Self::Filter => "filter directives".to_owned(),
            Self::Choice(names) => format!("one of {}", names.join(", ")),
            Self::Names(names) => format!("a list of {}", names.join(", ")),
            Self::Duration { least, most } => {
                let (least, most) = (quantity::shown_duration(*least), quantity::shown_duration(*most));
                format!("a time from {least} to {most}")
            }
            Self::Size { least, most } => {
                format!("a size from {} to {}", quantity::shown_size(*least), quantity::shown_size(*most))
            }
            Self::Number { least, most } => format!("a whole number from {least} to {most}"),
            Self::Words => "a list of texts, the first a program".to_owned(),
            Self::Pairs | Self::Headers => "a table of texts".to_owned(),
        }
    }

    /// A value as it stands in the file.
    pub fn example(&self) -> String {
        match self {
            Self::Bool => "true".to_owned(),
            Self::Text | Self::Secret => "\"text\"".to_owned(),
            Self::Path => "\"~/.local/state/factline\"".to_owned(),
            Self::Url => "\"http://localhost:4318\"".to_owned(),
            Self::Filter => "\"info,factline::hook=off\"".to_owned(),
            Self::Choice(names) => format!("\"{}\"", names.first().unwrap_or(&"")),
            Self::Names(names) => format!("[\"{}\"]", names.first().unwrap_or(&"")),
            Self::Duration { least, most } => {
                format!("\"{}\"", quantity::shown_duration(10_000.clamp(*least, *most)))
            }
            Self::Size { least, most } => {
                format!("\"{}\"", quantity::shown_size((256 << 20).clamp(*least, *most)))
            }
            Self::Number { least, most } => 100.clamp(*least, *most).to_string(),
            Self::Words => "[\"program\", \"argument\"]".to_owned(),
            Self::Pairs | Self::Headers => "{ name = \"value\" }".to_owned(),
        }
    }

    /// Whether the value may never be shown.
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::Secret | Self::Headers)
    }

    /// The text that the variable would hold, or what is wrong with the value. It is not repeated where it may
    /// be a credential.
    pub(super) fn text(&self, value: &DeValue<'_>, base: &Base<'_>) -> Result<String, String> {
        let wrong = || format!("is {}, but must be {}", name(value), self.allowed());
        match (self, value) {
            (Self::Bool, DeValue::Boolean(value)) => Ok(value.to_string()),
            (Self::Path, DeValue::String(text)) => Ok(path(text, base)),
            (Self::Choice(names), DeValue::String(text)) => names
                .iter()
                .find(|name| name.eq_ignore_ascii_case(text))
                .map(|name| (*name).to_owned())
                .ok_or_else(|| format!("is {}, but must be {}", quoted(text), self.allowed())),
            (Self::Names(names), DeValue::Array(items)) => {
                let mut all = Vec::new();
                for item in items.iter() {
                    let DeValue::String(text) = item.get_ref() else { return Err(wrong()) };
                    if !names.contains(&text.trim_start_matches('-')) {
                        return Err(format!("has {}, but must be {}", quoted(text), self.allowed()));
                    }
                    all.push(text.as_ref());
                }
                Ok(all.join(","))
            }
            (Self::Duration { .. } | Self::Size { .. }, DeValue::String(text)) => self.quantity(text),
            (Self::Duration { .. } | Self::Size { .. } | Self::Number { .. }, DeValue::Integer(number)) => {
                let text: String = number.as_str().chars().filter(|c| *c != '_').collect();
                match number.radix() {
                    10 => self.quantity(&text),
                    _ => Err(wrong()),
                }
            }
            (Self::Words, DeValue::Array(items)) => {
                let words = items.iter().map(|item| match item.get_ref() {
                    DeValue::String(text) => Some(text.as_ref()),
                    _ => None,
                });
                let words: Vec<&str> = words.collect::<Option<_>>().ok_or_else(wrong)?;
                serde_json::to_string(&words).map_err(|error| error.to_string())
            }
            (Self::Pairs | Self::Headers, DeValue::Table(table)) => {
                let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
                let mut pairs = Vec::new();
                for (key, value) in table.iter() {
                    let DeValue::String(value) = value.get_ref() else {
                        return Err(format!(
                            "{}: {}, but must be a text",
                            quoted(key.get_ref()),
                            name(value.get_ref())
                        ));
                    };
                    pairs.push(format!("{}={}", encoded(key.get_ref()), encoded(value)));
                }
                Ok(pairs.join(","))
            }
            (Self::Text | Self::Secret | Self::Url | Self::Filter, DeValue::String(text)) => {
                Ok(text.to_string())
            }
            _ => Err(wrong()),
        }
    }

    /// A quantity as its plain number, checked against the bounds.
    pub(super) fn quantity(&self, text: &str) -> Result<String, String> {
        let (number, least, most) = match self {
            Self::Duration { least, most } => (quantity::duration(text), least, most),
            Self::Size { least, most } => (quantity::size(text), least, most),
            Self::Number { least, most } => (text.parse().ok(), least, most),
            _ => return Ok(text.to_owned()),
        };
        match number {
            Some(number) if (*least..=*most).contains(&number) => Ok(number.to_string()),
            _ => Err(format!("is {}, but must be {}", quoted(text), self.allowed())),
        }
    }
}

fn path(text: &str, base: &Base<'_>) -> String {
    let home = match (text.strip_prefix("~/"), base.home) {
        (Some(rest), Some(home)) => Some(home.join(rest)),
        _ => None,
    };
    let path = home.unwrap_or_else(|| base.dir.join(PathBuf::from(text)));
    path.to_string_lossy().into_owned()
}

fn quoted(text: &str) -> String {
    match text.len() {
        0..=100 => format!("\"{}\"", text.escape_debug()),
        _ => "a long text".to_owned(),
    }
}

fn name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
