//! `key=value,key=value` lists, as `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_EXPORTER_OTLP_HEADERS` have them.

use percent_encoding::percent_decode_str;

use super::{Header, Secret};

/// The good pairs, percent-decoded, and one sentence per bad one. Values are not repeated in a sentence: in a
/// header list they are credentials.
///
/// Keys and values are in the form of W3C baggage without properties (environment variable specification,
/// resource SDK specification). The specification advises to drop a whole list for one bad pair; a resource
/// without its good attributes is harder to find the mistake in, so only the bad pair goes.
pub(super) fn read(text: &str) -> (Vec<(String, String)>, Vec<String>) {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut problems = Vec::new();
    for (index, pair) in text.split(',').enumerate() {
        if pair.trim().is_empty() {
            continue;
        }
        let number = index + 1;
        let Some((key, value)) = pair.split_once('=') else {
            problems.push(format!("pair {number} has no \"=\" and is ignored"));
            continue;
        };
        let (Some(key), Some(value)) = (decode(key.trim()), decode(value.trim())) else {
            problems.push(format!("pair {number} is not UTF-8 after percent-decoding and is ignored"));
            continue;
        };
        if key.is_empty() {
            problems.push(format!("pair {number} has no key and is ignored"));
            continue;
        }
        match pairs.iter_mut().find(|(known, _)| *known == key) {
            Some(known) => known.1 = value,
            None => pairs.push((key, value)),
        }
    }
    (pairs, problems)
}

/// The pairs as HTTP headers.
pub(super) fn read_headers(text: &str) -> (Vec<Header>, Vec<String>) {
    let (pairs, mut problems) = read(text);
    let headers = headers(pairs, &mut problems);
    (headers, problems)
}

/// Headers as a program prints them: a JSON object of texts, or the same list as in a variable.
///
/// # Errors
/// The first thing that is wrong with it; a half-read credential is none. Values are not repeated.
pub(crate) fn printed_headers(text: &str) -> Result<Vec<Header>, String> {
    let (pairs, mut problems) = match text.trim_start().starts_with('{') {
        true => {
            let members: std::collections::BTreeMap<String, String> =
                serde_json::from_str(text).map_err(|_| "is no JSON object of texts".to_owned())?;
            (members.into_iter().collect(), Vec::new())
        }
        false => read(text.trim()),
    };
    let headers = headers(pairs, &mut problems);
    match problems.into_iter().next() {
        Some(problem) => Err(problem),
        None if headers.is_empty() => Err("is empty".to_owned()),
        None => Ok(headers),
    }
}

/// Header names are case-insensitive, and those that frame the message are ours.
fn headers(pairs: Vec<(String, String)>, problems: &mut Vec<String>) -> Vec<Header> {
    const OURS: [&str; 8] = [
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "te",
        "grpc-encoding",
        "grpc-timeout",
    ];
    let mut headers: Vec<Header> = Vec::new();
    for (name, value) in pairs {
        let name = name.to_ascii_lowercase();
        if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
            problems.push("a name is not one of an HTTP header, and its pair is ignored".to_owned());
        } else if reqwest::header::HeaderValue::from_str(&value).is_err() {
            problems
                .push(format!("the value of {name} cannot be sent in an HTTP header, the pair is ignored"));
        } else if OURS.contains(&name.as_str()) {
            problems.push(format!("{name} cannot be set, the pair is ignored"));
        } else {
            headers.retain(|known| known.name != name);
            headers.push(Header { name, value: Secret::new(value) });
        }
    }
    headers
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned())
}
