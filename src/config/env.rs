//! Reads single values from the environment, and remembers from where.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ConfigError, Endpoint, Header, Origin, Setting, Warning, pairs};

const SERVICE_NAME: &str = "codex-app-server";
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

/// A program and its arguments: a JSON array of strings, or words between blanks. No shell and so no quotes.
pub(super) fn command(variable: &str, text: &str) -> Result<Vec<String>, ConfigError> {
    let words: Option<Vec<String>> = match text.trim().strip_prefix('[') {
        Some(_) => serde_json::from_str(text.trim()).ok(),
        None => Some(text.split_whitespace().map(str::to_owned).collect()),
    };
    words.filter(|words| words.first().is_some_and(|program| !program.is_empty())).ok_or_else(|| {
        ConfigError {
            variable: variable.to_owned(),
            problem: "is neither words nor a JSON array of strings, with a program in front".to_owned(),
            example: r#"["/usr/local/bin/print-token","--short"]"#.to_owned(),
        }
    })
}
