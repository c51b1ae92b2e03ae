//! Stored events, each a JSON text of its own, put together for a destination.

use std::ops::Range;

use super::source::Batch;
use crate::config::BodyForm;

/// A stored event that would break the lines around it.
pub(super) const NOT_ONE_LINE: &str = "a stored event is not one line";

/// The content type of a body.
pub(super) fn content_type(form: BodyForm) -> &'static str {
    match form {
        BodyForm::Events | BodyForm::Array => "application/json",
        BodyForm::Lines => "application/x-ndjson",
    }
}

/// A request's body. The events are not looked into: one that is no JSON makes a request that the backend
/// refuses, and the search for the bad one finds it.
pub(super) fn body(form: BodyForm, batch: &Batch, part: Range<usize>) -> Result<Vec<u8>, &'static str> {
    let (open, close): (&[u8], &[u8]) = match form {
        BodyForm::Events => (b"{\"events\":[", b"]}"),
        BodyForm::Array => (b"[", b"]"),
        BodyForm::Lines => return lines(batch, part),
    };
    let size = batch.frames(part.clone()).len() + part.len();
    let mut out = Vec::with_capacity(open.len() + size + close.len());
    out.extend_from_slice(open);
    for record in part.clone() {
        if record > part.start {
            out.push(b',');
        }
        out.extend_from_slice(batch.frames(record..record + 1));
    }
    out.extend_from_slice(close);
    Ok(out)
}

/// One event per line.
pub(super) fn lines(batch: &Batch, part: Range<usize>) -> Result<Vec<u8>, &'static str> {
    let stored = batch.frames(part.clone());
    if stored.contains(&b'\n') {
        return Err(NOT_ONE_LINE);
    }
    let mut out = Vec::with_capacity(stored.len() + part.len());
    for record in part {
        out.extend_from_slice(batch.frames(record..record + 1));
        out.push(b'\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(events: &[&str]) -> Batch {
        let bytes = events.concat().into_bytes();
        let ends = events.iter().scan(0, |end, event| {
            *end += event.len();
            Some(*end)
        });
        Batch { header: [].into(), bytes, ends: ends.collect() }
    }

    #[test]
    fn each_form_has_its_body() {
        let batch = batch(&["{\"a\":1}", "{}", "{\"c\":[]}"]);
        let text = |form, part| String::from_utf8(body(form, &batch, part).unwrap()).unwrap();
        assert_eq!(text(BodyForm::Events, 0..3), r#"{"events":[{"a":1},{},{"c":[]}]}"#);
        assert_eq!(text(BodyForm::Events, 1..2), r#"{"events":[{}]}"#);
        assert_eq!(text(BodyForm::Array, 1..3), r#"[{},{"c":[]}]"#);
        assert_eq!(text(BodyForm::Lines, 0..2), "{\"a\":1}\n{}\n");
    }

    #[test]
    fn an_event_with_a_line_break_is_refused_as_a_line() {
        let batch = batch(&["{}", "{\n}"]);
        assert_eq!(lines(&batch, 0..2), Err(NOT_ONE_LINE));
        assert_eq!(lines(&batch, 0..1).unwrap(), b"{}\n");
    }
}
