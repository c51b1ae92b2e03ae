//! Errors of a turn in the words of analytics: the kind that the agent's core knows, which is finer than the
//! protocol's, and the protocol's own as JSON. Both are names and numbers; the message stays where it is.

use serde_json::Value;

use super::bounded;
use super::wire::{TurnError, text};

/// `codexErrorInfo` as compact JSON, if it is a name, or a name with names and numbers below it.
pub(super) fn info(error: &TurnError<'_>) -> Option<String> {
    let info = error.codex_error_info.as_ref()?;
    let plain = |value: &Value| match value {
        Value::String(word) => word.len() <= 64,
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::Array(_) | Value::Object(_) => false,
    };
    let fits = match info {
        Value::String(word) => word.len() <= 64,
        Value::Object(map) => map.iter().all(|(name, inner)| {
            name.len() <= 64
                && (plain(inner) || inner.as_object().is_some_and(|inner| inner.values().all(plain)))
        }),
        _ => false,
    };
    fits.then(|| info.to_string()).filter(|text| text.len() <= 512)
}

/// The kind of error, `None` where the protocol does not show it.
pub(super) fn kind(error: &TurnError<'_>) -> Option<String> {
    let message = text(&error.message);
    let name = match error.codex_error_info.as_ref()? {
        Value::String(name) => name.as_str(),
        Value::Object(map) => map.keys().next()?.as_str(),
        _ => return None,
    };
    let kind = match name {
        "usageLimitExceeded" if message.contains("Quota exceeded") => "quota_exceeded",
        "usageLimitExceeded" if message.contains("upgrade to") => "usage_not_included",
        "usageLimitExceeded" => "usage_limit_reached",
        "badRequest" => "invalid_request",
        "unauthorized" => "refresh_token_failed",
        "httpConnectionFailed" if message.contains("unexpected status") => "unexpected_status",
        "httpConnectionFailed" => "connection_failed",
        "responseStreamConnectionFailed" => "response_stream_failed",
        "responseStreamDisconnected" => "stream",
        "responseTooManyFailedAttempts" => "retry_limit",
        "other" => return other(message).map(str::to_owned),
        name => return Some(snake_case(name)),
    };
    Some(kind.to_owned())
}

// The protocol calls many kinds `other`; they differ in what they say.
fn other(message: &str) -> Option<&'static str> {
    const SAID: [(&str, &str); 8] = [
        ("reason: content_filter", "content_filter"),
        ("Invalid prompt", "invalid_prompt"),
        ("stream disconnected", "stream"),
        ("Incomplete response", "response_incomplete"),
        ("error sending request", "io"),
        ("exceeded retry limit", "retry_limit"),
        ("unexpected status", "unexpected_status"),
        ("timed out", "request_timeout"),
    ];
    if message.trim_start().starts_with('{') {
        return Some("invalid_request");
    }
    SAID.iter().find(|(part, _)| message.contains(part)).map(|(_, kind)| *kind)
}

pub(super) fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    for letter in bounded(name, 64).chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
