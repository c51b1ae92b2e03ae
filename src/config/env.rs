//! Reads single values, and remembers from where.
//!
//! Values are asked for by the names of their variables; the file's come under the same names (`sources.rs`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kind::Kind;
use super::sources::{Said, Sources};
use super::table::entries;
use super::{
    Compression, ConfigError, Endpoint, Exporter, Header, Origin, Protocol, Setting, Signal, SignalConfig,
    Warning, pairs,
};

const SERVICE_NAME: &str = "codex-app-server";
const ENDPOINT: &str = "http://localhost:4318";
/// OTLP exporter specification, `OTEL_EXPORTER_OTLP_TIMEOUT`.
pub(super) const TIMEOUT: Duration = Duration::from_millis(10_000);

pub(super) struct Env<'a> {
    sources: &'a Sources<'a>,
    warnings: Vec<Warning>,
    errors: Vec<ConfigError>,
}

impl<'a> Env<'a> {
    pub(super) fn new(sources: &'a Sources<'a>) -> Self {
        let warnings = sources.file().map(|file| file.warnings().to_vec()).unwrap_or_default();
        Self { sources, warnings, errors: Vec::new() }
    }

    /// What there was to say, each thing once: a generic variable is read again for every signal.
    ///
    /// # Errors
    /// The first value of the file or of a flag that can't be used. One of the environment is a warning.
    pub(super) fn finish(self) -> Result<Vec<Warning>, ConfigError> {
        if let Some(error) = self.errors.into_iter().next() {
            return Err(error);
        }
        let mut warnings: Vec<Warning> = Vec::new();
        for warning in self.warnings {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        Ok(warnings)
    }

    pub(super) fn text(&self, name: &str) -> Option<Setting<String>> {
        self.said(&[name.to_owned()]).into_iter().next().map(|said| said.text)
    }

    /// What was said under these names, the one that holds first.
    pub(super) fn said(&self, names: &[String]) -> Vec<Said> {
        self.sources.said(names)
    }

    /// What to call a setting in a sentence.
    pub(super) fn place(&self, name: &str) -> String {
        self.said(&[name.to_owned()]).into_iter().next().map_or(name.to_owned(), |said| said.place)
    }

    pub(super) fn warn(&mut self, place: &str, message: impl Into<String>) {
        self.warnings.push(Warning { variable: place.to_owned(), message: message.into() });
    }

    /// The first of `names` that is set and good. A bad one is a warning, and the next one holds; in the file
    /// or on the command line it is an error.
    pub(super) fn first<T>(
        &mut self,
        names: &[String],
        read: impl Fn(&str) -> Result<T, String>,
        default: T,
    ) -> Setting<T> {
        for Said { name, place, text } in self.said(names) {
            match read(text.value.trim()) {
                Ok(value) => return Setting { value, origin: text.origin },
                Err(problem) if matches!(text.origin, Origin::Env(_)) => {
                    self.warn(&place, format!("{problem}; ignored"));
                }
                Err(problem) => {
                    let kind = kind_of(&name).unwrap_or(Kind::Text);
                    self.errors.push(ConfigError { variable: place, problem, example: kind.example() });
                }
            }
        }
        Setting::default_of(default)
    }

    /// One of `names`, in any case.
    pub(super) fn choice<T: Copy>(&mut self, name: &str, names: &[(&str, T)], default: T) -> Setting<T> {
        let read = |text: &str| {
            let found = names.iter().find(|(known, _)| known.eq_ignore_ascii_case(text));
            found.map(|(_, value)| *value).ok_or_else(|| {
                let known: Vec<&str> = names.iter().map(|(known, _)| *known).collect();
                format!("\"{}\" is none of {}", text.escape_debug(), known.join(", "))
            })
        };
        self.first(&[name.to_owned()], read, default)
    }

    /// A time of ours: milliseconds, or a number with its unit, within the bounds of the table.
    pub(super) fn duration(&mut self, name: &str, default: Duration) -> Setting<Duration> {
        let millis = self.number(name, default.as_millis() as u64);
        Setting { value: Duration::from_millis(millis.value), origin: millis.origin }
    }

    /// A number of ours, with or without a unit, within the bounds of the table.
    pub(super) fn number(&mut self, name: &str, default: u64) -> Setting<u64> {
        let kind = kind_of(name).unwrap_or(Kind::Number { least: 0, most: u64::MAX });
        let read = |text: &str| kind.quantity(text)?.parse().map_err(|_| "is no number".to_owned());
        self.first(&[name.to_owned()], read, default)
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
        let absolute = |name: &str| self.sources.absolute(name);
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
        let filter = self.text(&format!("FACTLINE_{}_FILTER", signal.name().to_ascii_uppercase()));
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
        Ok(SignalConfig { signal, exporter, endpoint, headers, timeout, compression, protocol, filter })
    }

    /// `names` is the signal's own variable, used as it is, then the generic one, which is a base.
    fn endpoint(&self, signal: Signal, names: &[String]) -> Result<Setting<Endpoint>, ConfigError> {
        let wrong = |place: &str, own: bool, problem: String| ConfigError {
            variable: place.to_owned(),
            problem,
            example: if own { format!("{ENDPOINT}/{}", signal.path()) } else { ENDPOINT.to_owned() },
        };
        let parse = |said: &Said, text: &str| {
            let own = names.first() == Some(&said.name);
            Endpoint::parse(text.trim()).map_err(|problem| wrong(&said.place, own, problem))
        };
        if let Some(said) = self.said(names).into_iter().next() {
            let own = names.first() == Some(&said.name);
            let value = parse(&said, &said.text.value)?;
            return Ok(Setting {
                value: if own { value } else { value.for_signal(signal) },
                origin: said.text.origin,
            });
        }
        let default = Endpoint::parse(ENDPOINT)
            .map_err(|problem| wrong("OTEL_EXPORTER_OTLP_ENDPOINT", false, problem))?;
        Ok(Setting::default_of(default.for_signal(signal)))
    }

    /// A signal goes to files unless an endpoint that holds for it, or its exporter, was named (DESIGN 8).
    fn exporter(&mut self, signal: Signal, endpoint: &Origin) -> Setting<Exporter> {
        let name = format!("OTEL_{}_EXPORTER", signal.name().to_ascii_uppercase());
        let unset = match endpoint {
            Origin::Default => Setting::default_of(Exporter::Files),
            origin => Setting { value: Exporter::Otlp, origin: origin.clone() },
        };
        let Some(text) = self.text(&name) else { return unset };
        let (mut otlp, mut files, mut none) = (false, false, false);
        for item in text.value.split(',').map(|item| item.trim().to_ascii_lowercase()) {
            match item.as_str() {
                "" => {}
                "otlp" => otlp = true,
                "none" => none = true,
                "files" => files = true,
                "console" => self.warn(&name, "console is not supported; ignored"),
                other => self.warn(&name, format!("unknown exporter \"{}\"; ignored", other.escape_debug())),
            }
        }
        if none && (otlp || files) {
            self.warn(&name, "none beside another exporter; none is ignored");
        }
        if otlp && files {
            self.warn(&name, "a signal goes to one place; files is ignored");
        }
        let value = match (otlp, files, none) {
            (true, _, _) => Exporter::Otlp,
            (false, true, _) => Exporter::Files,
            (false, false, true) => Exporter::None,
            (false, false, false) => return unset,
        };
        if value != Exporter::Otlp
            && matches!(endpoint, Origin::Env(_) | Origin::Flag(_))
            && matches!(text.origin, Origin::File { .. })
        {
            self.warn(
                &endpoint.to_string(),
                format!("not used for {signal}, because {} says otherwise", text.origin),
            );
        }
        Setting { value, origin: text.origin }
    }

    pub(super) fn headers(&mut self, names: &[String]) -> Setting<Vec<Header>> {
        let Some(Said { place, text, .. }) = self.said(names).into_iter().next() else {
            return Setting::default_of(Vec::new());
        };
        let (value, problems) = pairs::read_headers(&text.value);
        for problem in problems {
            self.warn(&place, problem);
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

/// What the table says that a setting takes.
pub(super) fn kind_of(name: &str) -> Option<Kind> {
    entries()
        .into_iter()
        .find(|entry| entry.variable == name || entry.key == name)
        .map(|entry| entry.row.kind)
}
