//! Checks events against the table of the reference release (`events.json`).
//!
//! A member of the table must be there and be of one of its kinds. One that may be null may also be missing, as
//! older releases leave some out, and members that the table lacks are let through, as newer ones add some;
//! a strict check allows neither.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value};

const TABLE: &str = include_str!("events.json");
/// Characters of a name from outside in a reason.
const SHOWN: usize = 64;

/// One event type.
struct EventType {
    beside: Vec<Member>,
    /// In the order in which the original writes them.
    members: Vec<Member>,
}

struct Member {
    name: String,
    optional: bool,
    kinds: Vec<Kind>,
}

enum Kind {
    Null,
    String,
    Integer,
    Number,
    Boolean,
    Object,
    Any,
    /// This very text.
    Text(String),
    Shape(String),
    List(Box<Kind>),
}

/// The table of all events.
pub struct Validator {
    events: HashMap<String, EventType>,
    shapes: BTreeMap<String, Vec<Member>>,
    strict: bool,
}

impl Validator {
    /// The table that is compiled in.
    ///
    /// # Errors
    /// What is wrong with it; nothing is, a test says.
    pub fn new(strict: bool) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Table {
            shapes: BTreeMap<String, Vec<String>>,
            events: Vec<Row>,
        }
        #[derive(Deserialize)]
        struct Row {
            r#type: String,
            #[serde(default)]
            beside: Vec<String>,
            members: Vec<String>,
        }
        let table: Table = serde_json::from_str(TABLE).map_err(|error| error.to_string())?;
        let shapes = table.shapes.into_iter().map(|(name, rows)| Ok((name, members(&rows)?)));
        let events = table.events.into_iter().map(|row| {
            Ok((row.r#type, EventType { beside: members(&row.beside)?, members: members(&row.members)? }))
        });
        let (shapes, events) =
            (shapes.collect::<Result<_, String>>()?, events.collect::<Result<_, String>>()?);
        Ok(Self { events, shapes, strict })
    }

    /// The types of events that are known, in no order.
    pub fn event_types(&self) -> impl Iterator<Item = &str> {
        self.events.keys().map(String::as_str)
    }

    /// Whether there is an event type of this name.
    pub(super) fn knows(&self, event_type: &str) -> bool {
        self.events.contains_key(event_type)
    }

    /// The members of an event type in the order of the original; of an unknown one none.
    pub(super) fn order(&self, event_type: &str) -> impl Iterator<Item = &str> {
        let members = self.events.get(event_type).map(|event| event.members.as_slice());
        members.unwrap_or_default().iter().map(|member| member.name.as_str())
    }

    /// Checks one event.
    ///
    /// # Errors
    /// The first thing that is wrong, with the path of the member. Values are not repeated; names, of types and
    /// unknown members, are shortened and safe to print.
    pub fn check(&self, event: &Value) -> Result<(), String> {
        let Value::Object(event) = event else { return Err("the event is no object".to_owned()) };
        let name = match event.get("event_type") {
            Some(Value::String(name)) => name,
            Some(_) => return Err("event_type: not a string".to_owned()),
            None => return Err("event_type: missing".to_owned()),
        };
        let Some(known) = self.events.get(name) else {
            return Err(format!("event_type: unknown: {}", shown(name)));
        };
        let params = match event.get("event_params") {
            Some(Value::Object(params)) => params,
            Some(_) => return Err("event_params: not an object".to_owned()),
            None => return Err("event_params: missing".to_owned()),
        };
        self.members(&known.beside, event, "")?;
        self.members(&known.members, params, "event_params.")?;
        if self.strict {
            let outer = ["event_type", "event_params"];
            let more = event.keys().find(|key| {
                !outer.contains(&key.as_str()) && !known.beside.iter().any(|member| member.name == **key)
            });
            more.map_or(Ok(()), |key| Err(format!("{}: unknown member", shown(key))))?;
        }
        Ok(())
    }

    fn members(&self, table: &[Member], object: &Map<String, Value>, path: &str) -> Result<(), String> {
        for member in table {
            let name = &member.name;
            match object.get(name) {
                Some(value) => self
                    .kinds(&member.kinds, value, &format!("{path}{name}."))
                    .map_err(|problem| problem.unwrap_or_else(|wrong| format!("{path}{name}: {wrong}")))?,
                None if member.optional => {}
                None if !self.strict && member.kinds.iter().any(|kind| matches!(kind, Kind::Null)) => {}
                None => return Err(format!("{path}{name}: missing")),
            }
        }
        // Names by which nothing is known can't be complete.
        if self.strict && path == "event_params." && !table.is_empty() {
            let more = object.keys().find(|key| !table.iter().any(|member| member.name == **key));
            return more.map_or(Ok(()), |key| Err(format!("{path}{}: unknown member", shown(key))));
        }
        Ok(())
    }

    /// `Err(Ok(_))` is a whole sentence about a member further inside, `Err(Err(_))` what is wrong here.
    fn kinds(&self, kinds: &[Kind], value: &Value, path: &str) -> Result<(), Result<String, String>> {
        for kind in kinds {
            match (kind, value) {
                (Kind::Shape(shape), Value::Object(inner)) => {
                    let shape = self.shapes.get(shape).map(Vec::as_slice).unwrap_or_default();
                    return self.members(shape, inner, path).map_err(Ok);
                }
                (Kind::List(kind), Value::Array(list)) => {
                    let kind = std::slice::from_ref(&**kind);
                    let stem = path.trim_end_matches('.');
                    return list.iter().enumerate().try_for_each(|(at, value)| {
                        self.kinds(kind, value, &format!("{stem}[{at}]."))
                            .map_err(|problem| problem.or_else(|wrong| Ok(format!("{stem}[{at}]: {wrong}"))))
                    });
                }
                _ if matches(kind, value) => return Ok(()),
                _ => {}
            }
        }
        Err(Err(wrong(kinds, value)))
    }
}

fn matches(kind: &Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Any, _)
        | (Kind::Null, Value::Null)
        | (Kind::String, Value::String(_))
        | (Kind::Number, Value::Number(_))
        | (Kind::Boolean, Value::Bool(_))
        | (Kind::Object, Value::Object(_)) => true,
        (Kind::Integer, Value::Number(number)) => number.is_i64() || number.is_u64(),
        (Kind::Text(text), Value::String(value)) => text == value,
        _ => false,
    }
}

fn wrong(kinds: &[Kind], value: &Value) -> String {
    let texts: Vec<&str> = kinds
        .iter()
        .filter_map(|kind| if let Kind::Text(text) = kind { Some(text.as_str()) } else { None })
        .collect();
    if value.is_string() && !texts.is_empty() {
        return format!("not one of {}", texts.join(", "));
    }
    let mut out = String::new();
    for kind in kinds {
        let name = match kind {
            Kind::Null => "null",
            Kind::String | Kind::Text(_) => "a string",
            Kind::Integer => "an integer",
            Kind::Number => "a number",
            Kind::Boolean => "a boolean",
            Kind::Object | Kind::Shape(_) => "an object",
            Kind::List(_) => "an array",
            Kind::Any => "anything",
        };
        if !out.ends_with(name) {
            let _ = write!(out, "{}{name}", if out.is_empty() { "not " } else { " or " });
        }
    }
    out
}

/// Text from outside, cut short and without what could drive a terminal.
fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN).flat_map(char::escape_default).collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push_str("...");
    }
    out
}

fn members(rows: &[String]) -> Result<Vec<Member>, String> {
    let member = |row: &String| {
        let (name, kinds) = row.split_once(": ").ok_or_else(|| format!("no kinds in {row:?}"))?;
        let (name, optional) = match name.strip_suffix('?') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let kinds = kinds.split(" | ").map(kind).collect::<Result<_, _>>()?;
        Ok(Member { name: name.to_owned(), optional, kinds })
    };
    rows.iter().map(member).collect()
}

fn kind(text: &str) -> Result<Kind, String> {
    if let Some(item) = text.strip_suffix("[]") {
        return Ok(Kind::List(Box::new(kind(item)?)));
    }
    if let Some(shape) = text.strip_prefix('@') {
        return Ok(Kind::Shape(shape.to_owned()));
    }
    if let Some(value) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return Ok(Kind::Text(value.to_owned()));
    }
    Ok(match text {
        "null" => Kind::Null,
        "string" => Kind::String,
        "integer" => Kind::Integer,
        "number" => Kind::Number,
        "boolean" => Kind::Boolean,
        "object" => Kind::Object,
        "any" => Kind::Any,
        _ => return Err(format!("unknown kind {text:?}")),
    })
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
