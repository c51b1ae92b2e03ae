//! Reads single values, and remembers from where.
//!
//! Values are asked for by the names of their variables; the file's come under the same names (`sources.rs`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kind::Kind;
use super::row::entries;
use super::sources::{Said, Sources};
use super::{ConfigError, Endpoint, Header, Origin, Setting, Warning, pairs};

const SERVICE_NAME: &str = "codex-app-server";
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

    pub(super) fn error(&mut self, error: ConfigError) {
        self.errors.push(error);
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

    /// The share of turns that have spans: "Environment Variable Specification", `OTEL_TRACES_SAMPLER`.
    pub(super) fn sampled(&mut self) -> Setting<f64> {
        const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
        let share = |text: &str| match text.parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
            _ => Err("is no number from 0 to 1".to_owned()),
        };
        let argument = self.first(&[ARGUMENT.to_owned()], share, 1.0);
        let known = [
            ("always_on", Some(1.0)),
            ("parentbased_always_on", Some(1.0)),
            ("always_off", Some(0.0)),
            ("parentbased_always_off", Some(0.0)),
            ("traceidratio", None),
            ("parentbased_traceidratio", None),
        ];
        let sampler = self.choice("OTEL_TRACES_SAMPLER", &known, Some(1.0));
        match sampler.value {
            None => Setting { value: argument.value, origin: sampler.origin },
            Some(value) => {
                if argument.origin != Origin::Default {
                    self.warn(ARGUMENT, "not used, because it is for the samplers by ratio alone");
                }
                Setting { value, origin: sampler.origin }
            }
        }
    }

    pub(super) fn boolean(&mut self, name: &str) -> Setting<bool> {
        self.first(&[name.to_owned()], boolean, false)
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

/// True for `true` alone (environment variable specification, "Boolean value").
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("only \"true\" means true, anything else is false".to_owned()),
    }
}

/// A program and its arguments: a JSON array of strings, or words between blanks. No shell and so no quotes.
pub(super) fn command(place: &str, text: &str) -> Result<Vec<String>, ConfigError> {
    let words: Option<Vec<String>> = match text.trim().strip_prefix('[') {
        Some(_) => serde_json::from_str(text.trim()).ok(),
        None => Some(text.split_whitespace().map(str::to_owned).collect()),
    };
    words.filter(|words| words.first().is_some_and(|program| !program.is_empty())).ok_or_else(|| {
        ConfigError {
            variable: place.to_owned(),
            problem: "is neither words nor a JSON array of strings, with a program in front".to_owned(),
            example: r#"["/usr/local/bin/print-token","--short"]"#.to_owned(),
        }
    })
}

/// What the table says that a setting takes.
pub(super) fn kind_of(name: &str) -> Option<Kind> {
    entries().iter().find(|entry| entry.variable == name || entry.key == name).map(|entry| entry.row.kind)
}
