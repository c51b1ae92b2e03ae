//! Reads single values from the environment, and remembers from where.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    Compression, ConfigError, Endpoint, Exporter, Header, Origin, Protocol, Setting, Signal, SignalConfig,
    Warning, pairs,
};

const SERVICE_NAME: &str = "codex-app-server";
const ENDPOINT: &str = "http://localhost:4318";
/// OTLP exporter specification, `OTEL_EXPORTER_OTLP_TIMEOUT`.
pub(super) const TIMEOUT: Duration = Duration::from_millis(10_000);

pub(super) struct Env<F> {
    vars: F,
    warnings: Vec<Warning>,
}

impl<F: Fn(&str) -> Option<String>> Env<F> {
    pub(super) fn new(vars: F) -> Self {
        Self { vars, warnings: Vec::new() }
    }

    /// What there was to say, each thing once: a generic variable is read again for every signal.
    pub(super) fn warnings(self) -> Vec<Warning> {
        let mut warnings: Vec<Warning> = Vec::new();
        for warning in self.warnings {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        warnings
    }

    pub(super) fn text(&self, name: &str) -> Option<Setting<String>> {
        let value = (self.vars)(name).filter(|value| !value.trim().is_empty())?;
        Some(Setting { value, origin: Origin::Env(name.to_owned()) })
    }

    pub(super) fn warn(&mut self, variable: &str, message: impl Into<String>) {
        self.warnings.push(Warning { variable: variable.to_owned(), message: message.into() });
    }

    /// The first of `names` that is set and good. A bad one is a warning, and the next one holds.
    pub(super) fn first<T>(
        &mut self,
        names: &[String],
        read: impl Fn(&str) -> Result<T, String>,
        default: T,
    ) -> Setting<T> {
        for name in names {
            let Some(text) = self.text(name) else { continue };
            match read(text.value.trim()) {
                Ok(value) => return Setting { value, origin: text.origin },
                Err(problem) => self.warn(name, format!("{problem}; ignored")),
            }
        }
        Setting::default_of(default)
    }

    pub(super) fn boolean(&mut self, name: &str) -> Setting<bool> {
        let read = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("only \"true\" means true, anything else is false".to_owned()),
        };
        self.first(&[name.to_owned()], read, false)
    }

    /// `service.name` and the other attributes: `OTEL_SERVICE_NAME` wins over `OTEL_RESOURCE_ATTRIBUTES`.
    pub(super) fn resource(&mut self) -> (Setting<String>, Setting<Vec<(String, String)>>) {
        const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
        let mut attributes = match self.text(NAME) {
            None => Setting::default_of(Vec::new()),
            Some(text) => {
                let (value, problems) = pairs::read(&text.value);
                for problem in problems {
                    self.warn(NAME, problem);
                }
                Setting { value, origin: text.origin }
            }
        };
        let mut service = Setting::default_of(SERVICE_NAME.to_owned());
        if let Some(at) = attributes.value.iter().position(|(key, _)| key == "service.name") {
            let (_, value) = attributes.value.remove(at);
            if !value.is_empty() {
                service = Setting { value, origin: attributes.origin.clone() };
            }
        }
        (self.text("OTEL_SERVICE_NAME").unwrap_or(service), attributes)
    }

    /// A directory: `name`, or `leaf` below the user's state directory. The XDG base directory specification
    /// says that a relative `XDG_STATE_HOME` is to be ignored.
    pub(super) fn directory(&self, name: &str, leaf: &str) -> Result<Setting<PathBuf>, ConfigError> {
        if let Some(Setting { value, origin }) = self.text(name) {
            return Ok(Setting { value: PathBuf::from(value), origin });
        }
        let absolute = |name: &str| {
            self.text(name).map(|text| PathBuf::from(text.value)).filter(|path| path.is_absolute())
        };
        let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
        match state {
            Some(state) => Ok(Setting::default_of(state.join(Path::new("factline")).join(leaf))),
            None => Err(ConfigError {
                variable: name.to_owned(),
                problem: "not set, and there is no home directory to choose a place in".to_owned(),
                example: format!("/var/lib/factline/{leaf}"),
            }),
        }
    }

    pub(super) fn signal(&mut self, signal: Signal) -> Result<SignalConfig, ConfigError> {
        let both = |what: &str| {
            let own = signal.name().to_ascii_uppercase();
            vec![format!("OTEL_EXPORTER_OTLP_{own}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")]
        };
        let endpoint = self.endpoint(signal, &both("ENDPOINT"))?;
        let exporter = self.exporter(signal, &endpoint.origin);
        let headers = self.headers(&both("HEADERS"));
        let timeout = self.first(&both("TIMEOUT"), timeout, TIMEOUT);
        let compression = self.first(&both("COMPRESSION"), compression, Compression::None);
        let protocol = self.first(&both("PROTOCOL"), protocol, Protocol::HttpProtobuf);
        if exporter.value == Exporter::Otlp {
            if protocol.value != Protocol::HttpProtobuf {
                return Err(ConfigError {
                    variable: protocol.origin.to_string(),
                    problem: format!("{} is not supported yet", protocol.value),
                    example: Protocol::HttpProtobuf.to_string(),
                });
            }
            self.risks(&endpoint);
            for name in ["CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"].into_iter().flat_map(both) {
                if self.text(&name).is_some() {
                    self.warn(&name, "not supported yet; the certificates of the system are used");
                }
            }
        }
        Ok(SignalConfig { signal, exporter, endpoint, headers, timeout, compression, protocol })
    }

    /// `names` is the signal's own variable, used as it is, then the generic one, which is a base.
    fn endpoint(&self, signal: Signal, names: &[String]) -> Result<Setting<Endpoint>, ConfigError> {
        let parse = |name: &str, text: &str| {
            Endpoint::parse(text.trim()).map_err(|problem| ConfigError {
                variable: name.to_owned(),
                problem,
                example: if names.first().is_some_and(|own| own == name) {
                    format!("{ENDPOINT}/{}", signal.path())
                } else {
                    ENDPOINT.to_owned()
                },
            })
        };
        for (index, name) in names.iter().enumerate() {
            if let Some(Setting { value, origin }) = self.text(name) {
                let value = parse(name, &value)?;
                return Ok(Setting {
                    value: if index == 0 { value } else { value.for_signal(signal) },
                    origin,
                });
            }
        }
        Ok(Setting::default_of(parse("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT)?.for_signal(signal)))
    }

    /// A signal goes to files unless an endpoint that holds for it, or its exporter, was named (DESIGN 8).
    fn exporter(&mut self, signal: Signal, endpoint: &Origin) -> Setting<Exporter> {
        let name = format!("OTEL_{}_EXPORTER", signal.name().to_ascii_uppercase());
        let unset = match endpoint {
            Origin::Default => Setting::default_of(Exporter::Files),
            origin => Setting { value: Exporter::Otlp, origin: origin.clone() },
        };
        let Some(text) = self.text(&name) else { return unset };
        let (mut otlp, mut none) = (false, false);
        for item in text.value.split(',').map(|item| item.trim().to_ascii_lowercase()) {
            match item.as_str() {
                "" => {}
                "otlp" => otlp = true,
                "none" => none = true,
                "console" => self.warn(&name, "console is not supported; ignored"),
                other => self.warn(&name, format!("unknown exporter \"{}\"; ignored", other.escape_debug())),
            }
        }
        match (otlp, none) {
            (true, false) => Setting { value: Exporter::Otlp, origin: text.origin },
            (false, true) => Setting { value: Exporter::None, origin: text.origin },
            (true, true) => {
                self.warn(&name, "none beside another exporter; none is ignored");
                Setting { value: Exporter::Otlp, origin: text.origin }
            }
            (false, false) => unset,
        }
    }

    pub(super) fn headers(&mut self, names: &[String]) -> Setting<Vec<Header>> {
        let Some((name, text)) = names.iter().find_map(|name| Some((name, self.text(name)?))) else {
            return Setting::default_of(Vec::new());
        };
        let (value, problems) = pairs::read_headers(&text.value);
        for problem in problems {
            self.warn(name, problem);
        }
        Setting { value, origin: text.origin }
    }

    pub(super) fn risks(&mut self, endpoint: &Setting<Endpoint>) {
        let name = endpoint.origin.to_string();
        if endpoint.value.is_plain_and_remote() {
            self.warn(&name, format!("{} is not encrypted and not on this machine", endpoint.value));
        }
        if endpoint.value.is_link_local() {
            self.warn(
                &name,
                format!("{} is a link-local address, as metadata services have", endpoint.value),
            );
        }
    }
}

/// Milliseconds. No limit (0) would let a silent collector hold a request for ever.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(0) => Err("no limit (0) is not supported".to_owned()),
        Ok(millis) => Ok(Duration::from_millis(millis)),
        Err(_) => Err(format!("\"{}\" is no number of milliseconds", text.escape_debug())),
    }
}

fn compression(text: &str) -> Result<Compression, String> {
    match text.to_ascii_lowercase().as_str() {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        other => Err(format!("unknown compression \"{}\", known are gzip and none", other.escape_debug())),
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "http/protobuf" => Ok(Protocol::HttpProtobuf),
        "grpc" => Ok(Protocol::Grpc),
        "http/json" => Ok(Protocol::HttpJson),
        other => Err(format!("unknown protocol \"{}\", known is http/protobuf", other.escape_debug())),
    }
}
