//! Leaves out of OTLP JSON what means nothing.
//!
//! Works on the text that `serde_json` writes, in one pass: a tree of values made for this costs several
//! times the rest of the work. What carries meaning although it looks empty stays (`"stringValue":""`,
//! `"values":[]`, `"status":{}`), so that reading the result gives exactly what was written.

/// `json`, compact and well-formed, without members whose absence means the same. Text that is not
/// well-formed comes out as far as it is.
pub(super) fn prune(json: &[u8]) -> Vec<u8> {
    let mut pruner = Pruner { rest: json, out: Vec::with_capacity(json.len()) };
    pruner.value();
    pruner.out
}

struct Pruner<'a> {
    rest: &'a [u8],
    out: Vec<u8>,
}

impl<'a> Pruner<'a> {
    fn value(&mut self) {
        match self.rest.first() {
            Some(b'{') => self.members(),
            Some(b'[') => self.items(),
            _ => {
                let scalar = self.take(scalar_length(self.rest));
                self.out.extend_from_slice(scalar);
            }
        }
    }

    fn items(&mut self) {
        self.copy(1);
        while let Some(next) = self.rest.first() {
            match next {
                b']' => return self.copy(1),
                b',' => self.copy(1),
                _ => self.value(),
            }
        }
    }

    fn members(&mut self) {
        self.copy(1);
        let mut first = true;
        while let Some(next) = self.rest.first() {
            match next {
                b'}' => return self.copy(1),
                b',' => {
                    self.take(1);
                }
                _ => self.member(&mut first),
            }
        }
    }

    fn member(&mut self, first: &mut bool) {
        let key = self.take(scalar_length(self.rest));
        self.take(1); // the colon
        let scalar = match self.rest {
            [b'[', b']', ..] => 2,
            rest => scalar_length(rest),
        };
        if means_nothing(key, self.rest.get(..scalar).unwrap_or_default()) {
            self.take(scalar);
            return;
        }
        if !std::mem::take(first) {
            self.out.push(b',');
        }
        self.out.extend_from_slice(key);
        self.out.push(b':');
        // `EntityRef` has no defaults in the types of `opentelemetry-proto` that read it back.
        if key == b"\"entityRefs\"" { self.verbatim() } else { self.value() }
    }

    /// Copies a value as it is.
    fn verbatim(&mut self) {
        let mut depth = 0_usize;
        while let Some(next) = self.rest.first() {
            let length = match next {
                b'{' | b'[' => {
                    depth += 1;
                    1
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    1
                }
                b',' | b':' => 1,
                _ => scalar_length(self.rest),
            };
            self.copy(length);
            if depth == 0 {
                return;
            }
        }
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    fn copy(&mut self, length: usize) {
        let taken = self.take(length);
        self.out.extend_from_slice(taken);
    }
}

/// The length of the string, number or name at the front; never 0 where there is text, so that every step is
/// one forward.
fn scalar_length(text: &[u8]) -> usize {
    if text.first() != Some(&b'"') {
        let end = text.iter().position(|byte| matches!(byte, b',' | b':' | b'{' | b'}' | b'[' | b']'));
        return end.unwrap_or(text.len()).max(1);
    }
    let mut escaped = false;
    for (index, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

fn means_nothing(key: &[u8], value: &[u8]) -> bool {
    match value {
        b"null" => true,
        b"[]" => key != b"\"values\"",
        b"\"0\"" => matches!(key, b"\"timeUnixNano\"" | b"\"observedTimeUnixNano\""),
        b"\"\"" => matches!(
            key,
            b"\"traceId\""
                | b"\"spanId\""
                | b"\"parentSpanId\""
                | b"\"traceState\""
                | b"\"schemaUrl\""
                | b"\"severityText\""
                | b"\"eventName\""
                | b"\"message\""
                | b"\"version\""
                | b"\"description\""
                | b"\"unit\""
        ),
        b"0" => matches!(
            key,
            b"\"droppedAttributesCount\""
                | b"\"droppedEventsCount\""
                | b"\"droppedLinksCount\""
                | b"\"flags\""
                | b"\"severityNumber\""
                | b"\"code\""
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pruned(json: &str) -> String {
        String::from_utf8(prune(json.as_bytes())).unwrap()
    }

    #[test]
    fn only_what_means_nothing_is_left_out() {
        for (json, expected) in [
            (r#"{"flags":0,"a":null,"b":[],"c":1}"#, r#"{"c":1}"#),
            (r#"{"c":1,"flags":0}"#, r#"{"c":1}"#),
            (r#"{"c":1,"flags":0,"d":2}"#, r#"{"c":1,"d":2}"#),
            (r#"{"flags":0}"#, "{}"),
            (r#"[{"flags":0},{"flags":1},[]]"#, r#"[{},{"flags":1},[]]"#),
            (
                r#"{"stringValue":"","values":[],"status":{}}"#,
                r#"{"stringValue":"","values":[],"status":{}}"#,
            ),
            (r#"{"k":"\"flags\":0,{","flags":0}"#, r#"{"k":"\"flags\":0,{"}"#),
            (r#"{"k":"\\","flags":0}"#, r#"{"k":"\\"}"#),
            (
                r#"{"entityRefs":[{"schemaUrl":"","idKeys":[]}],"schemaUrl":""}"#,
                r#"{"entityRefs":[{"schemaUrl":"","idKeys":[]}]}"#,
            ),
        ] {
            assert_eq!(pruned(json), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_to_an_end(text in "[\\[\\]{},:\"\\\\a0 ]{0,60}") {
            prop_assert!(prune(text.as_bytes()).len() <= 2 * text.len() + 2);
        }
    }
}
