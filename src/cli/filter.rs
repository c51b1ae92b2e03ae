//! Filters that users write.

use std::fmt;

use tracing_subscriber::EnvFilter;

use crate::config::Sources;

/// A filter that can't be used.
#[derive(Debug)]
pub(super) struct BadFilter {
    origin: String,
    problem: String,
}

impl fmt::Display for BadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}; for example `info`, or `info,factline::usage=debug,factline::rpc=off`",
            self.origin, self.problem
        )
    }
}

/// The filter that was said first under one of these names, else `info`.
pub(super) fn of(sources: &Sources<'_>, names: &[&str]) -> Result<EnvFilter, BadFilter> {
    match sources.text(names) {
        Some((place, text)) => parse(&text.value, place),
        None => parse("info", "default".to_owned()),
    }
}

/// Reads a filter in the syntax of `EnvFilter`.
fn parse(text: &str, origin: String) -> Result<EnvFilter, BadFilter> {
    EnvFilter::try_new(text).map_err(|error| BadFilter { origin, problem: error.to_string() })
}
