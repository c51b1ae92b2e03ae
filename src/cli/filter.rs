//! Filters that users write.

use std::fmt;

use tracing_subscriber::EnvFilter;

/// A filter that can't be used.
#[derive(Debug)]
pub(super) struct BadFilter {
    origin: &'static str,
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

/// Reads a filter in the syntax of `EnvFilter`.
pub(super) fn parse(text: &str, origin: &'static str) -> Result<EnvFilter, BadFilter> {
    EnvFilter::try_new(text).map_err(|error| BadFilter { origin, problem: error.to_string() })
}
