//! One line of a transcript, parsed as far as its envelope: the message stays the text that it is.

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::protocol::{Ended, Sender, Transport};

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) t_us: u64,
    pub(super) conn: u32,
    pub(super) kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Open(Transport),
    End(Ended),
    Message(Message),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) dir: Sender,
    pub(super) off: Option<u64>,
    pub(super) len: Option<u64>,
    /// Where the text of `msg` lies in the line; None for null.
    pub(super) text: Option<Range<usize>>,
}

#[derive(Deserialize)]
struct Members<'a> {
    t_us: Option<u64>,
    conn: Option<u32>,
    #[serde(borrow)]
    dir: Option<Cow<'a, str>>,
    off: Option<u64>,
    len: Option<u64>,
    // A null is something else here than no member at all.
    #[serde(borrow, default, deserialize_with = "present")]
    msg: Option<&'a RawValue>,
    #[serde(borrow)]
    open: Option<Cow<'a, str>>,
    #[serde(borrow)]
    end: Option<Cow<'a, str>>,
}

fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Parses a line, or says why not, in words that hold nothing of it (serde's own would).
pub(super) fn parse(line: &[u8]) -> Result<Envelope, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    // A structure could also come as an array of its members; not here.
    if !line.trim_start().starts_with('{') {
        return Err("it is not a JSON object");
    }
    let members: Members<'_> = serde_json::from_str(line).map_err(|error| match error.classify() {
        Category::Data => "a member has the wrong type, or is there twice",
        Category::Eof => "it is cut off",
        Category::Syntax | Category::Io => "it is not JSON",
    })?;
    let t_us = members.t_us.ok_or("it has no t_us")?;
    let conn = members.conn.filter(|conn| *conn > 0).ok_or("it has no conn from 1")?;
    let kind = if let Some(open) = &members.open {
        Kind::Open(Transport::from_name(open).ok_or("its open is no known transport")?)
    } else if let Some(end) = &members.end {
        Kind::End(Ended::from_name(end).ok_or("its end is no known one")?)
    } else {
        let dir = members.dir.as_deref().and_then(Sender::from_name);
        let dir = dir.ok_or("its dir is neither client nor server")?;
        let msg = members.msg.ok_or("it has no msg")?.get();
        let text = (msg != "null").then(|| {
            let start = msg.as_ptr() as usize - line.as_ptr() as usize;
            start..start + msg.len()
        });
        Kind::Message(Message { dir, off: members.off, len: members.len, text })
    };
    Ok(Envelope { t_us, conn, kind })
}
