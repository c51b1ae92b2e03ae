//! The effective configuration: a file, then the standard `OTEL_*` variables and our own `FACTLINE_*` ones, then
//! flags. [`TABLE`] has every setting.
//!
//! Reading rules (OpenTelemetry specification, "Environment Variable Specification"): an empty variable is an
//! unset one, names of choices are case-insensitive, a boolean is true only for `true`, and a bad value is a
//! warning and the default. Some mistakes are errors instead, because the default would send telemetry
//! somewhere the user did not ask for, or nowhere: an endpoint that is no URL, half of a client's certificate, a
//! command that can't be read. In the file every mistake is an error that names the line.

mod analytics;
mod content;
mod endpoint;
mod env;
mod env_analytics;
mod env_otlp;
mod file;
mod kind;
mod metrics;
mod outbox;
mod page;
mod pairs;
mod quantity;
mod row;
mod secret;
mod shown;
mod sources;
mod standard;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use analytics::{ANALYTICS_PATH, Analytics, AnalyticsSink, Backend, BodyForm, Families, Token};
pub use content::{ContentConfig, MessageContent};
pub use endpoint::Endpoint;
pub use file::{ConfigFile, FileError};
pub use kind::Kind;
pub use metrics::{MetricsConfig, Temporality, TokenNames};
pub use outbox::{Accept, OutboxConfig, WhenFull};
pub use page::page;
pub(crate) use pairs::printed_headers;
pub use row::{Entry, Row, entries};
pub use secret::Secret;
pub use shown::Shown;
pub use sources::Sources;
pub use table::TABLE;

use env::Env;

/// What kind of telemetry a queue, a request or a file carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Log records.
    Logs,
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
}

impl Signal {
    /// Those that are sent, in the order of [`Config::signals`].
    pub const ALL: [Signal; 3] = [Self::Logs, Self::Traces, Self::Metrics];

    /// `logs`, `traces` or `metrics`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    /// The service of OTLP/gRPC that takes it.
    pub const fn service(self) -> &'static str {
        match self {
            Self::Logs => "opentelemetry.proto.collector.logs.v1.LogsService",
            Self::Traces => "opentelemetry.proto.collector.trace.v1.TraceService",
            Self::Metrics => "opentelemetry.proto.collector.metrics.v1.MetricsService",
        }
    }

    /// The path below an OTLP/HTTP base URL, without a leading slash.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Logs => "v1/logs",
            Self::Traces => "v1/traces",
            Self::Metrics => "v1/metrics",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The environment variable of this name.
    Env(String),
    /// The command line flag of this name.
    Flag(String),
    /// The configuration file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line of the key, from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Env(name) | Self::Flag(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// A value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value that holds.
    pub value: T,
    /// Who said so.
    pub origin: Origin,
}

impl<T> Setting<T> {
    fn default_of(value: T) -> Self {
        Self { value, origin: Origin::Default }
    }
}

/// Where one signal goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exporter {
    /// Nowhere.
    None,
    /// To a collector.
    Otlp,
    /// As OTLP JSON lines into files.
    Files,
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, level 1.
    Gzip,
    /// zstd, level 1; not in the specification, but many receivers take it.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// How OTLP travels (`OTEL_EXPORTER_OTLP_PROTOCOL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Protobuf in HTTP requests.
    HttpProtobuf,
    /// Unary calls over HTTP/2.
    Grpc,
    /// JSON in HTTP requests.
    HttpJson,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HttpProtobuf => "http/protobuf",
            Self::Grpc => "grpc",
            Self::HttpJson => "http/json",
        })
    }
}

/// A request header. The value is a credential until proven otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name in lower case.
    pub name: String,
    /// The value.
    pub value: Secret,
}

/// Certificates in PEM files. Without any of them the system's authorities are trusted, and none is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities to trust, instead of the system's (`OTEL_EXPORTER_OTLP_CERTIFICATE`).
    pub certificate: Option<PathBuf>,
    /// The chain to show to the server (`OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`), which needs `client_key`.
    pub client_certificate: Option<PathBuf>,
    /// Its key (`OTEL_EXPORTER_OTLP_CLIENT_KEY`).
    pub client_key: Option<PathBuf>,
}

/// What was said about one signal. The fields after `exporter` matter only where it is [`Exporter::Otlp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalConfig {
    /// The signal.
    pub signal: Signal,
    /// Where it goes.
    pub exporter: Setting<Exporter>,
    /// The full URL for this signal; for gRPC its scheme, host and port.
    pub endpoint: Setting<Endpoint>,
    /// Headers of every request.
    pub headers: Setting<Vec<Header>>,
    /// A program and its arguments that print further headers (`FACTLINE_OTLP_HEADERS_COMMAND`).
    pub headers_command: Setting<Option<Vec<String>>>,
    /// The time an export may take, answer included.
    pub timeout: Setting<Duration>,
    /// How requests are compressed.
    pub compression: Setting<Compression>,
    /// How OTLP travels.
    pub protocol: Setting<Protocol>,
    /// The authorities to trust (`OTEL_EXPORTER_OTLP_CERTIFICATE`).
    pub certificate: Setting<Option<PathBuf>>,
    /// The chain to show (`OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`).
    pub client_certificate: Setting<Option<PathBuf>>,
    /// Its key (`OTEL_EXPORTER_OTLP_CLIENT_KEY`).
    pub client_key: Setting<Option<PathBuf>>,
    /// Requests on their way at the same time (`FACTLINE_OTLP_IN_FLIGHT`).
    pub in_flight: Setting<usize>,
    /// Which facts the signal is made of, in EnvFilter syntax, where it differs from [`Config::filter`].
    pub filter: Option<Setting<String>>,
}

/// The effective configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// No telemetry at all (`OTEL_SDK_DISABLED`).
    pub disabled: Setting<bool>,
    /// `service.name` of the resource (`OTEL_SERVICE_NAME`).
    pub service_name: Setting<String>,
    /// Further attributes of the resource, without `service.name` (`OTEL_RESOURCE_ATTRIBUTES`).
    pub resource_attributes: Setting<Vec<(String, String)>>,
    /// Where the durable queues are (`FACTLINE_OUTBOX_DIR`).
    pub outbox_dir: Setting<PathBuf>,
    /// How they behave (`FACTLINE_OUTBOX_*`).
    pub outbox: OutboxConfig,
    /// Where OTLP JSON lines are written (`FACTLINE_FILES_DIR`).
    pub files_dir: Setting<PathBuf>,
    /// Which facts are kept, in EnvFilter syntax (`FACTLINE_FILTER`); not read here.
    pub filter: Option<Setting<String>>,
    /// Where `tap` says what is wrong (`FACTLINE_LOG`).
    pub log: Option<Setting<PathBuf>>,
    /// Each signal that we send.
    pub signals: Vec<SignalConfig>,
    /// What may leave of what was said and done.
    pub content: ContentConfig,
    /// The share of turns that have spans, from 0 to 1 (`OTEL_TRACES_SAMPLER`).
    pub sampled: Setting<f64>,
    /// How metrics are made.
    pub metrics: MetricsConfig,
    /// Analytics events (`FACTLINE_ANALYTICS*`).
    pub analytics: Analytics,
}

/// A queue's other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What it takes.
    pub signal: Signal,
    /// How it takes it.
    pub sink: Sink,
}

/// The kinds of destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// An OTLP receiver.
    Otlp(Box<Otlp>),
    /// OTLP JSON lines, in `<dir>/<signal>.jsonl`.
    File {
        /// The directory.
        dir: PathBuf,
    },
}

/// An OTLP receiver, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// How OTLP travels.
    pub protocol: Protocol,
    /// The URL that requests go to, used as it is; for gRPC only its scheme, host and port count.
    pub url: Endpoint,
    /// Headers of every request.
    pub headers: Vec<Header>,
    /// A program and its arguments that print further headers, run again when they are refused.
    pub headers_command: Option<Vec<String>>,
    /// The time one export may take, answer included.
    pub timeout: Duration,
    /// How requests are compressed.
    pub compression: Compression,
    /// Certificates.
    pub tls: Tls,
    /// Requests on their way at the same time.
    pub in_flight: usize,
}

impl Destination {
    /// How a person would name it: the URL without userinfo and query, or the file.
    pub fn shown(&self) -> String {
        match &self.sink {
            Sink::Otlp(otlp) => otlp.url.to_string(),
            Sink::File { dir } => dir.join(format!("{}.jsonl", self.signal)).display().to_string(),
        }
    }
}

/// Something in the configuration that was ignored, or is risky.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The variable, the flag, or the place in the file.
    pub variable: String,
    /// What is wrong, and what holds instead. Never holds a header value or a URL's credentials.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.message)
    }
}

/// A configuration that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable, the flag, or the place in the file: `path:line: key`.
    pub variable: String,
    /// What is wrong with it.
    pub problem: String,
    /// A value that would do, or what to do; empty where the problem says it.
    pub example: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.problem)?;
        match self.variable.contains(char::is_whitespace) || self.variable.contains('/') {
            _ if self.example.is_empty() => Ok(()),
            true => write!(f, "; for example {}", self.example),
            false => write!(f, "; for example {}={}", self.variable, self.example),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the configuration from variables alone, usually `|name| std::env::var(name).ok()`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_env(vars: impl Fn(&str) -> Option<String>) -> Result<(Self, Vec<Warning>), ConfigError> {
        Self::load(&Sources::environment(vars))
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// An endpoint that is no URL, half of a client's certificate for a signal that goes to a collector, a
    /// command or body form that can't be used, a value of the file or of a flag that means
    /// nothing, or no place for the outbox (neither `FACTLINE_OUTBOX_DIR` nor a home directory).
    pub fn load(sources: &Sources<'_>) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut env = Env::new(sources);
        let disabled = env.boolean("OTEL_SDK_DISABLED");
        let (service_name, resource_attributes) = env.resource();
        let outbox_dir = env.outbox_dir()?;
        let outbox = env.outbox();
        let files_dir = env.directory("FACTLINE_FILES_DIR", "otlp")?;
        let filter = env.text("FACTLINE_FILTER");
        let log = env.text("FACTLINE_LOG");
        let log = log.map(|text| Setting { value: PathBuf::from(text.value), origin: text.origin });
        let signals = Signal::ALL.into_iter().map(|signal| env.signal(signal)).collect::<Result<_, _>>()?;
        let content = env.content();
        let sampled = env.sampled();
        let metrics = env.metrics();
        let analytics = env.analytics()?;
        env.standard();
        let config = Self {
            disabled,
            service_name,
            resource_attributes,
            outbox_dir,
            outbox,
            files_dir,
            filter,
            log,
            signals,
            content,
            sampled,
            metrics,
            analytics,
        };
        Ok((config, env.finish()?))
    }

    /// Where each signal goes. Empty when disabled.
    pub fn destinations(&self) -> Vec<Destination> {
        if self.disabled.value {
            return Vec::new();
        }
        let sink = |config: &SignalConfig| match config.exporter.value {
            Exporter::None => None,
            Exporter::Files => Some(Sink::File { dir: self.files_dir.value.clone() }),
            Exporter::Otlp => Some(Sink::Otlp(Box::new(Otlp {
                protocol: config.protocol.value,
                url: config.endpoint.value.clone(),
                headers: config.headers.value.clone(),
                headers_command: config.headers_command.value.clone(),
                timeout: config.timeout.value,
                compression: config.compression.value,
                tls: Tls {
                    certificate: config.certificate.value.clone(),
                    client_certificate: config.client_certificate.value.clone(),
                    client_key: config.client_key.value.clone(),
                },
                in_flight: config.in_flight.value,
            }))),
        };
        self.signals
            .iter()
            .filter_map(|config| sink(config).map(|sink| Destination { signal: config.signal, sink }))
            .collect()
    }

    /// Where analytics events go. `None` when they are off, or everything is.
    pub fn analytics_sink(&self) -> Option<&AnalyticsSink> {
        let on = self.analytics.enabled.value && !self.disabled.value;
        self.analytics.sink.as_ref().filter(|_| on).map(|sink| &sink.value)
    }
}
