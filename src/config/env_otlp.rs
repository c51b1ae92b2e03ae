//! What the environment says about each signal: where it goes, and how OTLP travels there.

use std::path::PathBuf;

use super::env::{Env, TIMEOUT, boolean, command, timeout};
use super::sources::Said;
use super::{Compression, ConfigError, Endpoint, Exporter, Origin, Protocol, Setting, Signal, SignalConfig};

/// OTLP exporter specification, "Configuration Options".
const HTTP: &str = "http://localhost:4318";
const GRPC: &str = "http://localhost:4317";
/// A collector nearby is kept busy by two; more are for one that is far away.
const IN_FLIGHT: usize = 2;
const MOST_IN_FLIGHT: usize = 32;

impl Env<'_> {
    pub(super) fn signal(&mut self, signal: Signal) -> Result<SignalConfig, ConfigError> {
        let names = |prefix: &str, what: &str| {
            let own = signal.name().to_ascii_uppercase();
            vec![format!("{prefix}_{own}_{what}"), format!("{prefix}_{what}")]
        };
        let both = |what: &str| names("OTEL_EXPORTER_OTLP", what);
        let protocol = self.first(&both("PROTOCOL"), protocol, Protocol::HttpProtobuf);
        let insecure = self.first(&both("INSECURE"), boolean, false);
        let endpoint = match protocol.value {
            Protocol::Grpc => self.grpc_endpoint(&both("ENDPOINT"), &insecure)?,
            _ => {
                if insecure.value {
                    self.warn(&insecure.origin.to_string(), "not used, because it is for gRPC alone");
                }
                self.endpoint(signal, &both("ENDPOINT"))?
            }
        };
        let exporter = self.exporter(signal, &endpoint.origin);
        let headers = self.headers(&both("HEADERS"));
        let headers_command = match self.said(&names("FACTLINE_OTLP", "HEADERS_COMMAND")).into_iter().next() {
            Some(Said { place, text, .. }) => {
                Setting { value: Some(command(&place, &text.value)?), origin: text.origin }
            }
            None => Setting::default_of(None),
        };
        let timeout = self.first(&both("TIMEOUT"), timeout, TIMEOUT);
        let compression = self.first(&both("COMPRESSION"), compression, Compression::None);
        let certificate = self.file(&both("CERTIFICATE"));
        let client_certificate = self.file(&both("CLIENT_CERTIFICATE"));
        let client_key = self.file(&both("CLIENT_KEY"));
        let in_flight = self.first(&names("FACTLINE_OTLP", "IN_FLIGHT"), in_flight, IN_FLIGHT);
        let filter = self.text(&format!("FACTLINE_{}_FILTER", signal.name().to_ascii_uppercase()));
        let config = SignalConfig {
            signal,
            exporter,
            endpoint,
            headers,
            headers_command,
            timeout,
            compression,
            protocol,
            certificate,
            client_certificate,
            client_key,
            in_flight,
            filter,
        };
        if config.exporter.value == Exporter::Otlp {
            self.risks(&config.endpoint);
            self.certificates(&config)?;
        }
        Ok(config)
    }

    /// `names` is the signal's own variable, used as it is, then the generic one, which is a base.
    fn endpoint(&self, signal: Signal, names: &[String]) -> Result<Setting<Endpoint>, ConfigError> {
        let wrong = |place: &str, own: bool, problem: String| ConfigError {
            variable: place.to_owned(),
            problem,
            example: if own { format!("{HTTP}/{}", signal.path()) } else { HTTP.to_owned() },
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
        let default =
            Endpoint::parse(HTTP).map_err(|problem| wrong("OTEL_EXPORTER_OTLP_ENDPOINT", false, problem))?;
        Ok(Setting::default_of(default.for_signal(signal)))
    }

    /// Scheme, host and port. Without a scheme it is `https`, unless `INSECURE` says otherwise (OTLP exporter
    /// specification, "Endpoint" and "Insecure"); where there is one, that counts.
    fn grpc_endpoint(
        &mut self,
        names: &[String],
        insecure: &Setting<bool>,
    ) -> Result<Setting<Endpoint>, ConfigError> {
        let (name, Setting { value, origin }) = match self.said(names).into_iter().next() {
            Some(Said { place, text, .. }) => (place, text),
            None => ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), Setting::default_of(GRPC.to_owned())),
        };
        let text = value.trim();
        let whole = match text.contains("://") {
            true => {
                if insecure.value {
                    let message = format!("not used, because the endpoint in {name} has a scheme");
                    self.warn(&insecure.origin.to_string(), message);
                }
                text.to_owned()
            }
            false => format!("{}://{text}", if insecure.value { "http" } else { "https" }),
        };
        let wrong = |problem| ConfigError { variable: name.clone(), problem, example: GRPC.to_owned() };
        let (value, more) = Endpoint::parse(&whole).map_err(wrong)?.without_path();
        if more {
            self.warn(&name, "gRPC knows no path, the one in the URL is ignored");
        }
        Ok(Setting { value, origin })
    }

    fn file(&self, names: &[String]) -> Setting<Option<PathBuf>> {
        match self.said(names).into_iter().next() {
            Some(Said { text, .. }) => {
                Setting { value: Some(PathBuf::from(text.value)), origin: text.origin }
            }
            None => Setting::default_of(None),
        }
    }

    /// Half of a client's certificate is an error: the server would be met without any.
    fn certificates(&mut self, config: &SignalConfig) -> Result<(), ConfigError> {
        let SignalConfig { certificate, client_certificate, client_key, .. } = config;
        match (&client_certificate.value, &client_key.value) {
            (Some(_), None) => {
                return Err(ConfigError {
                    variable: "OTEL_EXPORTER_OTLP_CLIENT_KEY".to_owned(),
                    problem: format!("is not set, and {} needs it", client_certificate.origin),
                    example: "/etc/factline/client.key".to_owned(),
                });
            }
            (None, Some(_)) => {
                return Err(ConfigError {
                    variable: "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE".to_owned(),
                    problem: format!("is not set, and {} is the key of one", client_key.origin),
                    example: "/etc/factline/client.pem".to_owned(),
                });
            }
            _ => {}
        }
        if config.endpoint.value.expose().scheme() == "http" {
            for setting in [certificate, client_certificate].into_iter().filter(|it| it.value.is_some()) {
                let name = setting.origin.to_string();
                self.warn(&name, format!("not used, because {} is http", config.endpoint.value));
            }
        } else if let Some(key) = &client_key.value
            && is_open(key)
        {
            let message = format!("{} can be read by other users; chmod 600 it", key.display());
            self.warn(&client_key.origin.to_string(), message);
        }
        Ok(())
    }

    /// A signal goes to files unless an endpoint that holds for it, or its exporter, was named.
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
                "console" => self.warn(
                    &name,
                    "console is not supported, for the terminal belongs to the command; ignored. `files` writes \
                     JSON lines, `factline replay --show` shows a session",
                ),
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
}

/// Whether others than owner and group can read the file, or others than the owner write to it.
fn is_open(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o026 != 0)
}

fn compression(text: &str) -> Result<Compression, String> {
    match text.to_ascii_lowercase().as_str() {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        "zstd" if cfg!(feature = "zstd") => Ok(Compression::Zstd),
        other => {
            let known = if cfg!(feature = "zstd") { "gzip, zstd and none" } else { "gzip and none" };
            Err(format!("unknown compression \"{}\", known are {known}", other.escape_debug()))
        }
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "http/protobuf" => Ok(Protocol::HttpProtobuf),
        "grpc" => Ok(Protocol::Grpc),
        "http/json" => Ok(Protocol::HttpJson),
        other => Err(format!(
            "unknown protocol \"{}\", known are http/protobuf, http/json and grpc",
            other.escape_debug()
        )),
    }
}

fn in_flight(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=MOST_IN_FLIGHT) => Ok(number),
        _ => Err(format!("\"{}\" is no number from 1 to {MOST_IN_FLIGHT}", text.escape_debug())),
    }
}
