//! Settings as a person may see them.

use super::row::entries;
use super::sources::Sources;
use super::{Endpoint, Kind, Origin, pairs};

/// A setting, the value that holds, and who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The key in the file.
    pub key: String,
    /// The value, or the default in words. Never a credential.
    pub value: String,
    /// Who said it.
    pub origin: Origin,
    /// Who said something else, which does not hold.
    pub over: Vec<Origin>,
}

impl Sources<'_> {
    /// Every setting of the table, as it was said; a value that is no good is among them.
    pub fn shown(&self) -> Vec<Shown> {
        let each = entries().iter().map(|entry| {
            let name = if entry.variable.is_empty() { &entry.key } else { &entry.variable };
            let mut said = self.said(std::slice::from_ref(name)).into_iter().map(|said| said.text);
            match said.next() {
                None => Shown {
                    key: entry.key.clone(),
                    value: entry.row.default.replace('`', ""),
                    origin: Origin::Default,
                    over: Vec::new(),
                },
                Some(text) => Shown {
                    key: entry.key.clone(),
                    value: shown(entry.row.kind, text.value.trim()),
                    origin: text.origin,
                    over: said.map(|text| text.origin).collect(),
                },
            }
        });
        each.collect()
    }
}

fn shown(kind: Kind, text: &str) -> String {
    match kind {
        Kind::Secret => "[hidden]".to_owned(),
        Kind::Headers => {
            let (headers, _) = pairs::read_headers(text);
            let names: Vec<String> =
                headers.into_iter().map(|header| format!("{}=[hidden]", header.name)).collect();
            names.join(",")
        }
        // Without user and query; what is no URL may be anything.
        Kind::Url => Endpoint::parse(text).map_or_else(|_| "[no URL]".to_owned(), |url| url.to_string()),
        // Arguments may be credentials.
        Kind::Words => match text.starts_with('[') {
            true => {
                let words: Vec<String> = serde_json::from_str(text).unwrap_or_default();
                format!("{} ...", words.first().map_or("", String::as_str))
            }
            false => format!("{} ...", text.split_whitespace().next().unwrap_or_default()),
        },
        Kind::Duration { .. } if text.parse::<u64>().is_ok() => {
            text.parse().map_or_else(|_| text.to_owned(), super::quantity::shown_duration)
        }
        Kind::Size { .. } if text.parse::<u64>().is_ok() => {
            text.parse().map_or_else(|_| text.to_owned(), super::quantity::shown_size)
        }
        _ => text.escape_debug().to_string(),
    }
}
