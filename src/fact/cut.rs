//! Values that are too long: cut inside their texts, so that JSON stays JSON.

use serde_json::Value;

use super::bounded;

/// The value cut to at most `limit` bytes; `None` where it is short enough.
///
/// What was cut says so: `[cut:N]` stands for N bytes, where the limit has room for it. An object or array of JSON is
/// cut inside its texts, then by its last elements; what is left is JSON of the same shape.
pub(super) fn cut(text: &str, limit: usize) -> Option<String> {
    if text.len() <= limit {
        return None;
    }
    let json = structured(text).map(|value| cut_json(value, text.len(), limit));
    Some(json.unwrap_or_else(|| cut_text(text, limit)))
}

/// The JSON object or array that a text is, if it is one.
pub(super) fn structured(text: &str) -> Option<Value> {
    matches!(text.trim_start().as_bytes().first(), Some(b'{' | b'['))
        .then(|| serde_json::from_str(text).ok())
        .flatten()
}

fn cut_text(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    // The number of bytes that are missing has as many digits as the text has at most.
    let room = format!("[cut:{}]", text.len()).len();
    let kept = bounded(text, limit.saturating_sub(room));
    if room > limit {
        return bounded(text, limit).to_owned();
    }
    format!("{kept}[cut:{}]", text.len() - kept.len())
}

fn cut_json(mut value: Value, whole: usize, limit: usize) -> String {
    // The longest texts go first: half as long each time, until all of it fits.
    let mut longest = limit;
    while longest >= 16 {
        let mut short = value.clone();
        shorten(&mut short, longest);
        let out = short.to_string();
        if out.len() <= limit {
            return out;
        }
        longest /= 2;
    }
    shorten(&mut value, longest);
    while lose_half(&mut value) {
        let out = value.to_string();
        if out.len() <= limit {
            return out;
        }
    }
    // Keys and numbers alone are too much.
    let said = Value::String(format!("[cut:{whole}]")).to_string();
    if said.len() <= limit { said } else { bounded("{}", limit).to_owned() }
}

fn shorten(value: &mut Value, longest: usize) {
    match value {
        Value::String(text) if text.len() > longest => *text = cut_text(text, longest),
        Value::Array(all) => all.iter_mut().for_each(|value| shorten(value, longest)),
        Value::Object(all) => all.values_mut().for_each(|value| shorten(value, longest)),
        _ => {}
    }
}

// Takes the second half of the outermost list away that has more than one element; false where there is none.
fn lose_half(value: &mut Value) -> bool {
    match value {
        Value::Array(all) if all.len() > 1 => {
            all.truncate(all.len() / 2);
            true
        }
        Value::Array(all) => all.iter_mut().any(lose_half),
        Value::Object(all) => all.values_mut().any(lose_half),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_values_stay_and_long_ones_say_how_much_is_missing() {
        assert_eq!(cut("short", 5), None);
        assert_eq!(cut(&"a".repeat(100), 20).unwrap(), format!("{}[cut:89]", "a".repeat(11)));
        assert_eq!(cut("abcdefghij", 4).unwrap(), "abcd");
        let umlauts = "ä".repeat(50);
        for limit in 1..100 {
            let out = cut(&umlauts, limit).unwrap();
            assert!(out.len() <= limit, "{limit}: {out}");
        }
    }

    #[test]
    fn json_stays_json_of_the_same_shape() {
        let long = serde_json::json!([{"role": "user", "parts": [
            {"type": "text", "content": "\"\u{1}ü".repeat(3000)}, {"type": "text", "content": "short"},
        ]}])
        .to_string();
        for limit in [200, 1000, 4000] {
            let out = cut(&long, limit).unwrap();
            assert!(out.len() <= limit, "{limit}");
            let out: Value = serde_json::from_str(&out).unwrap();
            assert_eq!(out[0]["parts"][1]["content"], "short");
            assert!(out[0]["parts"][0]["content"].as_str().unwrap().contains("[cut:"), "{limit}");
        }
    }

    #[test]
    fn json_of_many_elements_loses_the_last_and_json_of_nothing_else_becomes_a_word() {
        let many = serde_json::json!({"changes": (0..5000).map(|n| format!("file {n}")).collect::<Vec<_>>()});
        let out: Value = serde_json::from_str(&cut(&many.to_string(), 1000).unwrap()).unwrap();
        assert_eq!(out["changes"][0], "file 0");
        let keys: Value =
            (0..500).map(|n| (format!("key{n}"), Value::from(n))).collect::<serde_json::Map<_, _>>().into();
        let out = cut(&keys.to_string(), 100).unwrap();
        assert!(serde_json::from_str::<String>(&out).unwrap().starts_with("[cut:"));
        assert_eq!(cut(&keys.to_string(), 5).unwrap(), "{}");
    }
}
