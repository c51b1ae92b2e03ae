//! What all records of a process have in common: resource and instrumentation scope.

use super::encode::{self, RESOURCE_ATTRIBUTE};
use super::out::Out;
use super::sink::Signal;
use crate::fact::Capture;
use crate::fact::vocabulary::ConnectionStart;

/// Which kinds of content and environment are captured: `none`, `all`, or their names.
const CAPTURE_MODE: &str = "codex.capture.mode";

/// The resource: attributes that describe the observed process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    attributes: Vec<(String, String)>,
}

impl Resource {
    /// A resource with a `service.name`.
    pub fn new(service_name: &str) -> Self {
        let own = [
            ("service.name", service_name),
            ("telemetry.distro.name", "factline"),
            ("telemetry.distro.version", env!("CARGO_PKG_VERSION")),
            (CAPTURE_MODE, "none"),
        ];
        Resource { attributes: own.map(|(key, value)| (key.to_owned(), value.to_owned())).into() }
    }

    /// The same with an attribute set, in the place of one of that name.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.set(key, value);
        self
    }

    /// The same with what is captured said on it (`codex.capture.mode`), so that an absent attribute can be told
    /// from one that was not let out.
    #[must_use]
    pub fn with_capture(self, capture: Capture) -> Self {
        self.with(CAPTURE_MODE, &capture.to_string())
    }

    /// Sets an attribute.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.attributes.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => value.clone_into(known),
            None => self.attributes.push((key.to_owned(), value.to_owned())),
        }
    }

    /// Takes over what a server says of itself when a client connects; whether that changed anything.
    pub(crate) fn learn_from(&mut self, start: &ConnectionStart<'_>) -> bool {
        let before = self.clone();
        self.learn("service.version", start.server_version.as_deref());
        self.learn("os.type", start.os_type.as_deref());
        self.learn("os.name", start.os_name.as_deref());
        self.learn("os.version", start.os_version.as_deref());
        self.learn("host.arch", start.arch.as_deref());
        *self != before
    }

    // Sets an attribute that the observed process told, unless the user did.
    fn learn(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value
            && (!self.attributes.iter().any(|(known, _)| known == key) || LEARNT.contains(&key))
        {
            self.set(key, value);
        }
    }
}

// Told again by each process that is observed.
const LEARNT: [&str; 5] = ["service.version", "os.type", "os.name", "os.version", "host.arch"];

/// The encoded head of a request: resource and scope, without records.
///
/// Layout: length of R as u32 (little-endian), R, C, where R is `ResourceLogs`, `ResourceSpans` or `ResourceMetrics`
/// without scopes and C is `ScopeLogs`, `ScopeSpans` or `ScopeMetrics` without records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header(pub Vec<u8>);

impl Header {
    /// The header of records of `resource`, in factline's own scope.
    pub fn new(resource: &Resource, signal: Signal) -> Self {
        // All signals have the same numbers here: resource and scope are field 1, scopes and records field 2.
        let (Signal::Logs | Signal::Traces | Signal::Metrics) = signal;
        let mut attributes = Out::new();
        for (key, value) in &resource.attributes {
            encode::text(&mut attributes, RESOURCE_ATTRIBUTE, key, value);
        }
        let mut head = Out::new();
        encode::bytes(&mut head, 0x0a, &attributes);
        let mut scope = Out::new();
        encode::bytes(&mut scope, 0x0a, b"factline");
        encode::bytes(&mut scope, 0x12, env!("CARGO_PKG_VERSION").as_bytes());
        let mut out = Out::new();
        out.extend((head.len() as u32).to_le_bytes());
        out.extend_from_slice(&head);
        encode::bytes(&mut out, 0x0a, &scope);
        Header(out.into_vec())
    }
}
