//! Where a collector listens: a URL that prints without what may be a credential in it.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use super::Signal;

/// An `http` or `https` URL with a host. `Debug` and `Display` leave out userinfo, query and fragment, where
/// people put tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it. The text itself is not repeated when it may hold a
    /// credential.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shown = shown(text);
        let url = Url::parse(text).map_err(|error| format!("{shown} is no URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            let hint = if text.contains("://") {
                "the scheme must be http or https"
            } else {
                "http:// is missing in front"
            };
            return Err(format!("{shown} is no http or https URL: {hint}"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(format!("{shown} names no host"));
        }
        Ok(Self(url))
    }

    /// The URL of `signal` below this base: `v1/<signal>` appended to its path (OTLP exporter specification,
    /// "Endpoint URLs for OTLP/HTTP").
    pub fn for_signal(&self, signal: Signal) -> Self {
        self.below(signal.path())
    }

    /// Scheme, host and port alone, and whether there was more of a path than `/`.
    pub(super) fn without_path(mut self) -> (Self, bool) {
        let more = self.0.path() != "/";
        self.0.set_path("");
        (self, more)
    }

    /// The URL of `path` below this base; an empty path is the base itself.
    pub fn below(&self, path: &str) -> Self {
        let mut url = self.0.clone();
        if !path.is_empty() {
            let path = format!("{}/{path}", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        Self(url)
    }

    /// The whole URL, with userinfo and query, for the one place that connects.
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// Whether telemetry would travel unencrypted to another machine.
    pub fn is_plain_and_remote(&self) -> bool {
        self.0.scheme() == "http" && !self.is_loopback()
    }

    /// Whether the host is a link-local address, as cloud metadata services are.
    pub fn is_link_local(&self) -> bool {
        match self.ip() {
            Some(IpAddr::V4(ip)) => ip.is_link_local(),
            Some(IpAddr::V6(ip)) => ip.is_unicast_link_local(),
            None => false,
        }
    }

    /// Whether the host is this machine, by address or by name.
    pub fn is_loopback(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        host == "localhost" || host.ends_with(".localhost") || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    fn ip(&self) -> Option<IpAddr> {
        self.0.host_str()?.trim_matches(['[', ']']).parse().ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

/// `text` in quotes for an error message, unless it has a part that could be a credential.
fn shown(text: &str) -> String {
    if text.contains(['@', '?', '#']) || text.len() > 100 {
        return "the value (not shown, it may hold a credential)".to_owned();
    }
    format!("\"{}\"", text.escape_debug())
}
