//! Where analytics events go: a product's backend, or a file.

use std::path::PathBuf;
use std::time::Duration;

use super::{Endpoint, Header, Secret, Setting};

/// The path below the base URL where Codex's own backend takes events.
pub const ANALYTICS_PATH: &str = "codex/analytics-events/events";

/// What was said about analytics events. Where `enabled` is false no destination was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analytics {
    /// Whether events are made at all (`FACTLINE_ANALYTICS`). By default they are where a destination is
    /// named.
    pub enabled: Setting<bool>,
    /// The one destination; a URL wins over a file.
    pub sink: Option<Setting<AnalyticsSink>>,
    /// Which events are made (`FACTLINE_ANALYTICS_FAMILIES`).
    pub families: Setting<Families>,
    /// Which facts they are made of, in EnvFilter syntax (`FACTLINE_ANALYTICS_FILTER`); not read here.
    pub filter: Option<Setting<String>>,
    /// Whether files of skills and repositories are read for their hashes (`FACTLINE_ANALYTICS_READ_FILES`).
    pub read_files: Setting<bool>,
}

/// Families of events by their names in configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Families {
    /// All of them.
    All,
    /// These.
    Only(Vec<&'static str>),
    /// All but these.
    Without(Vec<&'static str>),
}

/// The kinds of destination for events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnalyticsSink {
    /// Requests to a backend.
    Backend(Box<Backend>),
    /// One event per line, appended to this file.
    File(PathBuf),
}

impl AnalyticsSink {
    /// How a person would name it: the URL without userinfo and query, or the file.
    pub fn shown(&self) -> String {
        match self {
            Self::Backend(backend) => backend.url.to_string(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// An HTTP backend that takes events as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The URL that events are posted to: base and path.
    pub url: Endpoint,
    /// `chatgpt-account-id`.
    pub account_id: Option<Secret>,
    /// Where the bearer token comes from.
    pub token: Option<Token>,
    /// Further headers of every request; they win over those that we would set.
    pub headers: Vec<Header>,
    /// The form of a request's body.
    pub form: BodyForm,
    /// The time a request may take, answer included.
    pub timeout: Duration,
}

/// Where a bearer token comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// The token itself.
    Value(Secret),
    /// A file that holds it, read again when it was refused.
    File(PathBuf),
    /// A program and its arguments that print it, run again when it was refused.
    Command(Vec<String>),
}

impl std::fmt::Debug for Token {
    /// Without the arguments of a command, which may be credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value([hidden])"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Command(command) => write!(f, "Command({:?}, ..)", command.first()),
        }
    }
}

/// How events stand in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyForm {
    /// `{"events":[...]}`, as Codex sends them.
    Events,
    /// `[...]`.
    Array,
    /// One event per line.
    Lines,
}
