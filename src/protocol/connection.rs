//! Connections: who is at the other end, what was asked and not answered yet, and how it ended.

use std::collections::{HashMap, VecDeque};

use serde_json::value::RawValue;
use tracing::Span;

use super::approval::Approval;
use super::frame::RequestId;
use super::wire::{InitializeParams, InitializeResult, RateLimitsNotice, read, some, text};
use super::{Ended, Now, Observer, Sender, Transport, bounded};
use crate::fact::ids::{self, SpanKind};
use crate::fact::vocabulary::{AccountChanged, ConnectionEnd, ConnectionStart, RateLimitReported};
use crate::fact::{End, Ends, Envelope, Point, Starts, Text};

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub transport: Transport,
    pub opted_out_of_turn_started: bool,
    pub span: Option<Span>,
    asked_by_client: Requests,
    asked_by_server: Requests,
    pub approvals: HashMap<RequestId, Approval>,
}

// A client may use an id twice, and both are answered, in order.
#[derive(Debug, Default)]
struct Requests {
    open: HashMap<RequestId, VecDeque<Asked>>,
    order: VecDeque<RequestId>,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub method: &'static str,
    /// When it was seen, ns since 1970.
    pub at: u64,
    /// Its parameters, of methods whose answer needs them.
    pub params: Option<String>,
    pub thread: Option<String>,
    /// Trace, span and flags that came with it.
    pub traceparent: Option<(u128, u64, u8)>,
}

impl Asked {
    /// Whether the parameters are needed when the answer comes.
    pub fn keeps(method: &str) -> bool {
        matches!(
            method,
            "initialize"
                | "thread/start"
                | "thread/resume"
                | "thread/fork"
                | "thread/queue/add"
                | "thread/queue/update"
                | "thread/queue/delete"
                | "thread/queue/reorder"
                | "turn/start"
                | "turn/steer"
                | "turn/interrupt"
                | "review/start"
                | "plugin/install"
                | "plugin/uninstall"
                | "config/value/write"
                | "config/batchWrite"
                | "externalAgentConfig/import"
        )
    }

    /// The parameters, all empty where they were not kept.
    pub fn read<'a, T: Default + serde::Deserialize<'a>>(&'a self) -> T {
        self.params.as_deref().and_then(|params| serde_json::from_str(params).ok()).unwrap_or_default()
    }
}

impl Connection {
    pub fn new(transport: Transport) -> Self {
        Connection { transport, ..Connection::default() }
    }

    /// Remembers a request; true if another had to be forgotten for it.
    pub fn remember(&mut self, sender: Sender, id: RequestId, asked: Asked, limit: usize) -> bool {
        let requests = match sender {
            Sender::Client => &mut self.asked_by_client,
            Sender::Server => &mut self.asked_by_server,
        };
        requests.order.push_back(id.clone());
        requests.open.entry(id).or_default().push_back(asked);
        requests.order.len() > limit && requests.drop_oldest()
    }

    /// The request that an answer of `sender` belongs to: one of the other side.
    pub fn recall(&mut self, sender: Sender, id: &RequestId) -> Option<Asked> {
        let requests = match sender {
            Sender::Client => &mut self.asked_by_server,
            Sender::Server => &mut self.asked_by_client,
        };
        requests.take(id)
    }
}

impl Requests {
    fn take(&mut self, id: &RequestId) -> Option<Asked> {
        let queue = self.open.get_mut(id)?;
        let asked = queue.pop_front();
        if queue.is_empty() {
            self.open.remove(id);
        }
        // Answers mostly come in order, so the search ends at once.
        if let Some(at) = self.order.iter().position(|other| other == id) {
            self.order.remove(at);
        }
        asked
    }

    fn drop_oldest(&mut self) -> bool {
        match self.order.front().cloned() {
            Some(id) => self.take(&id).is_some(),
            None => false,
        }
    }
}

impl Observer {
    pub(super) fn initialized(
        &mut self,
        connection: u64,
        now: Now,
        asked: &Asked,
        id: &RequestId,
        result: &RawValue,
    ) {
        let params: InitializeParams<'_> = asked.read();
        let result: InitializeResult<'_> = read(Some(result));
        let info = params.client_info.unwrap_or_default();
        let capabilities = params.capabilities;
        let opted_out: Vec<&str> = capabilities
            .iter()
            .flat_map(|wanted| wanted.opt_out_notification_methods.iter().flatten())
            .map(|method| bounded(&method.0, 128))
            .take(64)
            .collect();
        let agent = UserAgent::parse(text(&result.user_agent));
        if self.originator.is_none() {
            self.originator = agent.originator.or(some(&info.name)).map(|name| bounded(name, 128).to_owned());
        }
        let trace = ids::hash_trace(&[
            "connection",
            text(&info.name),
            &connection.to_string(),
            &asked.at.to_string(),
        ]);
        let span_id = ids::span_id(trace, SpanKind::Connection, &connection.to_string(), "");
        self.home = some(&result.codex_home).map(|home| bounded(home, 1024).to_owned()).or(self.home.take());
        let capture = self.capture;
        let Some(state) = self.connections.get_mut(&connection) else { return };
        state.opted_out_of_turn_started = opted_out.contains(&"turn/started");
        if state.span.is_some() {
            return;
        }
        let network = match state.transport {
            Transport::Stdio => Some("pipe"),
            Transport::WebSocket => Some("tcp"),
            Transport::Unix => Some("unix"),
            Transport::InProcess => None,
        };
        let start = ConnectionStart {
            connection_id: connection,
            request_id: Some(id.to_string().into()),
            transport: state.transport.as_str().into(),
            network_transport: network.map(Text::from),
            client_name: some(&info.name).map(|name| bounded(name, 128).into()),
            client_version: some(&info.version).map(|version| bounded(version, 128).into()),
            product_client_id: self.originator.as_deref().map(Text::from),
            experimental_api: capabilities.as_ref().map(|wanted| wanted.experimental_api.unwrap_or(false)),
            opted_out: opted_out.into_iter().collect(),
            user_agent: some(&result.user_agent).map(|agent| bounded(agent, 512).into()),
            server_version: agent.version.map(Text::from),
            os_type: some(&result.platform_os).map(|os| if os == "macos" { "darwin" } else { os }.into()),
            os_name: agent.os_name.map(Text::from),
            os_version: agent.os_version.map(Text::from),
            arch: agent.arch.map(|arch| match arch {
                "x86_64" => "amd64".into(),
                "aarch64" => "arm64".into(),
                other => other.into(),
            }),
        };
        let envelope =
            Envelope { time: asked.at, observed: now.observed, trace, span: span_id, ..Envelope::default() };
        state.span = Some(start.start(&envelope, capture));
    }

    pub(super) fn account_changed(
        &mut self,
        connection: u64,
        now: Now,
        mode: Option<&str>,
        email: Option<&str>,
    ) {
        let mode = mode.map(|mode| bounded(mode, 64).to_ascii_lowercase().into());
        let fact =
            AccountChanged { connection_id: connection, auth_mode: mode, email: email.map(Text::from) };
        fact.emit(&self.envelope(now, None), self.capture);
    }

    pub(super) fn limits_reported(&mut self, now: Now, notice: &RateLimitsNotice<'_>) {
        let Some(limits) = &notice.rate_limits else { return };
        let windows = [("primary", &limits.primary), ("secondary", &limits.secondary)];
        for (name, window) in windows {
            let Some(window) = window else { continue };
            let fact = RateLimitReported {
                limit_id: some(&limits.limit_id).map(|id| bounded(id, 64).into()),
                window: name.into(),
                used_percent: window.used_percent,
                window_minutes: window.window_duration_mins,
                resets_at: window.resets_at,
            };
            fact.emit(&self.envelope(now, None), self.capture);
        }
    }

    /// A connection ended. Turns end with it where the server process does: always over stdio.
    pub fn end(&mut self, connection: u64, t_us: u64, ended: Ended) {
        self.last_ns = self.last_ns.max(t_us.saturating_mul(1_000));
        let now = Now::at(t_us, None);
        self.abort_approvals(connection, now, ended);
        let Some(state) = self.connections.remove(&connection) else { return };
        let server_is_gone = matches!(state.transport, Transport::Stdio) || ended != Ended::ClientClosed;
        if server_is_gone {
            self.close_turns(now, Some(connection), ended);
        }
        if let Some(span) = state.span {
            let end = End { time: now.time, observed: now.observed, ..End::default() };
            ConnectionEnd { ended: ended.as_str().into() }.end(&span, &end, self.capture);
        }
    }

    /// Nothing more will come: whatever is still open ends at the last time anything was seen.
    pub fn finish(&mut self, ended: Ended) {
        let t_us = self.last_ns / 1_000;
        for connection in self.connections.keys().copied().collect::<Vec<_>>() {
            self.end(connection, t_us, ended);
        }
        self.close_turns(Now::at(t_us, None), None, ended);
    }
}

/// `ORIGINATOR/VERSION (OS_NAME OS_VERSION; ARCH) ...`, as the server calls itself.
#[derive(Debug, Default, PartialEq)]
struct UserAgent<'a> {
    originator: Option<&'a str>,
    version: Option<&'a str>,
    os_name: Option<&'a str>,
    os_version: Option<&'a str>,
    arch: Option<&'a str>,
}

impl<'a> UserAgent<'a> {
    fn parse(text: &'a str) -> Self {
        let text = bounded(text, 512);
        let Some((product, rest)) = text.split_once(" (") else { return UserAgent::default() };
        let (originator, version) = match product.rsplit_once('/') {
            Some((name, version)) => (Some(name), Some(version)),
            None => (None, None),
        };
        let (os, arch) = match rest.split_once(')').map(|(inside, _)| inside).and_then(|i| i.split_once("; "))
        {
            Some((os, arch)) => (Some(os), Some(arch)),
            None => (None, None),
        };
        let (os_name, os_version) = match os.and_then(|os| os.rsplit_once(' ')) {
            Some((name, version)) => (Some(name), Some(version)),
            None => (os, None),
        };
        UserAgent { originator, version, os_name, os_version, arch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_says_its_version_and_system_in_its_user_agent() {
        let agent =
            UserAgent::parse("codex_vscode/0.169.0 (Debian 12.0.0; x86_64) dumb (codex_vscode; 1.2.3)");
        assert_eq!(
            agent,
            UserAgent {
                originator: Some("codex_vscode"),
                version: Some("0.169.0"),
                os_name: Some("Debian"),
                os_version: Some("12.0.0"),
                arch: Some("x86_64"),
            }
        );
        assert_eq!(UserAgent::parse("Mac OS X agent"), UserAgent::default());
        assert_eq!(UserAgent::parse("a/1 (Mac OS 26.4; arm64)").os_name, Some("Mac OS"));
    }
}
