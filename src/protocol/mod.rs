//! The protocol observer: messages of the app server, in either direction, become facts.
//!
//! It correlates requests with answers (ids of client and server are different spaces, each connection has
//! its own), follows threads, turns, items and approvals, and emits a fact for each thing that happened. It
//! never fails: what is odd is counted, and the rest is observed all the same. State is bounded by
//! [`Limits`].

mod approval;
mod connection;
mod content;
mod errors;
mod extension;
mod frame;
mod hash;
mod hook;
mod item;
mod known;
mod local;
mod mention;
mod methods;
mod nesting;
mod queue;
mod running;
mod starting;
mod thread;
mod tool;
mod turn;
mod wire;

use std::collections::{BTreeMap, HashMap, VecDeque};

use xxhash_rust::xxh3::xxh3_64;

pub use frame::{Answer, Call, Failure, Frame, Malformed, RequestId, parse};

use crate::fact::vocabulary::{Delta, Notification, Request, Response};
use crate::fact::{Capture, Envelope, Link, Point, Text, bounded};
use connection::{Asked, Connection};
use item::OpenItem;
use thread::Thread;
use turn::{Finished, Turn};
use wire::{AccountNotice, AccountResult, Subject, read, some};

/// Who sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The client: an editor, a terminal, a script.
    Client,
    /// The app server.
    Server,
}

impl Sender {
    /// `client` or `server`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Sender::Client => "client",
            Sender::Server => "server",
        }
    }

    /// The sender with this name.
    pub fn from_name(name: &str) -> Option<Sender> {
        [Sender::Client, Sender::Server].into_iter().find(|it| it.as_str() == name)
    }
}

/// How a connection reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// Pipes of a process: the connection ends when the process does.
    #[default]
    Stdio,
    /// WebSocket over TCP.
    WebSocket,
    /// WebSocket frames over a unix socket.
    Unix,
    /// Within the host's own process.
    InProcess,
}

impl Transport {
    /// `stdio`, `websocket`, `unix` or `in_process`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Transport::Stdio => "stdio",
            Transport::WebSocket => "websocket",
            Transport::Unix => "unix",
            Transport::InProcess => "in_process",
        }
    }

    /// The transport with this name.
    pub fn from_name(name: &str) -> Option<Transport> {
        let all = [Transport::Stdio, Transport::WebSocket, Transport::Unix, Transport::InProcess];
        all.into_iter().find(|it| it.as_str() == name)
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The client closed it.
    ClientClosed,
    /// The server's process ended.
    ServerExited,
    /// The server's process was killed.
    Killed,
}

impl Ended {
    /// The word that facts and transcripts use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Ended::ClientClosed => "client_closed",
            Ended::ServerExited => "server_exited",
            Ended::Killed => "killed",
        }
    }

    /// The end with this name.
    pub fn from_name(name: &str) -> Option<Ended> {
        [Ended::ClientClosed, Ended::ServerExited, Ended::Killed].into_iter().find(|it| it.as_str() == name)
    }
}

/// How much the observer remembers; beyond it the oldest is forgotten, and counted under `forgotten`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests without an answer, per connection and direction.
    pub requests: usize,
    /// Threads that have no open turn.
    pub threads: usize,
    /// Turns that ended, remembered for what refers to them later.
    pub turns: usize,
    /// Items that are open.
    pub items: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { requests: 4096, threads: 16_384, turns: 16_384, items: 65_536 }
    }
}

/// When a message was seen and when its sender says it was sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Now {
    /// ns since 1970 by the observer's clock.
    observed: u64,
    /// ns since 1970 by the server's clock where the message has it, else the same.
    time: u64,
}

impl Now {
    fn at(t_us: u64, emitted_ms: Option<u64>) -> Now {
        let observed = t_us.saturating_mul(1_000);
        Now { observed, time: emitted_ms.map_or(observed, |ms| ms.saturating_mul(1_000_000)) }
    }
}

/// Says which trace and span the host is in.
pub type HostSpan = fn() -> Option<(u128, u64)>;

/// Turns messages into facts.
#[derive(Debug, Default)]
pub struct Observer {
    capture: Capture,
    limits: Limits,
    files: bool,
    process: Option<Link>,
    parent_of_host: Option<HostSpan>,
    originator: Option<String>,
    connections: BTreeMap<u64, Connection>,
    threads: HashMap<String, Thread>,
    turns: HashMap<String, Turn>,
    aliases: HashMap<String, String>,
    finished: HashMap<String, Finished>,
    finished_order: VecDeque<String>,
    items: HashMap<(String, String), OpenItem>,
    hooks: HashMap<String, hook::OpenHook>,
    home: Option<String>,
    imports: VecDeque<(String, Option<String>, Option<String>)>,
    catalogue: known::Catalogue,
    wakes: HashMap<String, Vec<item::Wake>>,
    waiting: Vec<nesting::Waiting>,
    without_token: usize,
    mirrored: HashMap<u64, Vec<(u64, u32)>>,
    mirrored_order: VecDeque<u64>,
    last_ns: u64,
    counts: BTreeMap<&'static str, u64>,
}

impl Observer {
    /// An observer that lets out what `capture` allows.
    pub fn new(capture: Capture) -> Self {
        Observer { capture, ..Observer::default() }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether the disk may be asked which repository a thread works in and where a skill lies; it leaves as
    /// hashes only. Right only where the server runs on the same machine, so it is off unless switched on.
    #[must_use]
    pub fn with_files(mut self, files: bool) -> Self {
        self.files = files;
        self
    }

    /// The span around the observing process (`TRACEPARENT`): linked from every turn that is a root.
    #[must_use]
    pub fn with_process_link(mut self, link: Option<Link>) -> Self {
        self.process = link;
        self
    }

    /// In a host: where to find the trace and span that a turn without a carrier of its own belongs to.
    #[must_use]
    pub fn with_host_parent(mut self, current: HostSpan) -> Self {
        self.parent_of_host = Some(current);
        self
    }

    /// What was counted: messages by kind, and everything odd by its reason.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// Turns that are open now.
    pub fn open_turns(&self) -> usize {
        self.turns.len()
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A connection began. Without this call the first message begins one over stdio.
    pub fn open(&mut self, connection: u64, transport: Transport, t_us: u64) {
        self.last_ns = self.last_ns.max(t_us.saturating_mul(1_000));
        self.connections.insert(connection, Connection::new(transport));
    }

    /// One line (or WebSocket message), without its line end.
    pub fn message(&mut self, connection: u64, sender: Sender, t_us: u64, line: &[u8]) {
        self.last_ns = self.last_ns.max(t_us.saturating_mul(1_000));
        self.connections.entry(connection).or_default();
        match parse(line) {
            Ok(Frame::Notification(call)) => {
                let now = Now::at(t_us, call.emitted_ms);
                self.notification(connection, sender, now, &call, line.len());
            }
            Ok(Frame::Request(call, id)) => {
                self.count("request");
                self.request(connection, sender, Now::at(t_us, None), call, id);
            }
            Ok(Frame::Response(id, answer)) => {
                self.count("response");
                self.response(connection, sender, Now::at(t_us, None), &id, &answer);
            }
            Err(why) => self.count(why.as_str()),
        }
    }

    /// A line that could not be looked at: longer than the limit, or missing from a recording.
    pub fn unseen(&mut self, reason: &'static str) {
        self.count(reason);
    }

    fn envelope(&self, now: Now, turn: Option<(u128, u64)>) -> Envelope {
        let (trace, span) = turn.unwrap_or_default();
        Envelope { time: now.time, observed: now.observed, trace, span, ..Envelope::default() }
    }

    fn request(&mut self, connection: u64, sender: Sender, now: Now, call: Call<'_>, id: RequestId) {
        let subject: Subject<'_> = read(call.params);
        let (method, known) = methods::shown(&call.method);
        if !known {
            self.count("unknown_method");
        }
        let request = Request {
            connection_id: connection,
            request_id: Some(id.to_string().into()),
            sender: sender.as_str().into(),
            method: method.into(),
            original_method: (!known).then(|| bounded(&call.method, 128).into()),
            thread_id: some(&subject.thread_id).map(Text::from),
            turn_id: some(&subject.turn_id).map(Text::from),
        };
        let place = some(&subject.turn_id).and_then(|turn| self.place_of_turn(turn));
        request.emit(&self.envelope(now, place), self.capture);
        let asked = Asked {
            method,
            at: now.observed,
            params: call.params.filter(|_| Asked::keeps(method)).map(|raw| raw.get().to_owned()),
            thread: some(&subject.thread_id).map(str::to_owned),
            traceparent: call.traceparent.as_deref().and_then(crate::fact::ids::traceparent),
        };
        match sender {
            Sender::Server if method == "mcpServer/elicitation/request" => {
                self.elicited(now, &read(call.params))
            }
            Sender::Server => self.server_asked(connection, now, &call, &id),
            Sender::Client if method == "turn/start" => self.turn_requested(connection, now, &asked, &id),
            Sender::Client if method == "thread/compact/start" => self.turn_asked_alone(&asked, "compaction"),
            Sender::Client if method == "thread/shellCommand" => self.turn_asked_alone(&asked, "user_shell"),
            Sender::Client => {}
        }
        let limit = self.limits.requests;
        if let Some(state) = self.connections.get_mut(&connection)
            && state.remember(sender, id, asked, limit)
        {
            self.count("forgotten");
        }
    }

    fn response(&mut self, connection: u64, sender: Sender, now: Now, id: &RequestId, answer: &Answer<'_>) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let asked = state.recall(sender, id);
        if asked.is_none() {
            self.count("response_without_request");
        }
        let failure = match answer {
            Answer::Error(failure) => Some(failure),
            Answer::Result(_) => None,
        };
        let code = failure.map(|failure| failure.code.to_string());
        let response = Response {
            connection_id: connection,
            request_id: Some(id.to_string().into()),
            sender: sender.as_str().into(),
            method: asked.as_ref().map(|asked| asked.method.into()),
            thread_id: asked.as_ref().and_then(|asked| asked.thread.as_deref()).map(Text::from),
            duration_s: asked.as_ref().map(|asked| seconds(now.observed.saturating_sub(asked.at))),
            error_code: code.as_deref().map(Text::from),
            error_type: code.as_deref().map(Text::from),
            message: failure.map(|failure| bounded(&failure.message, content::KEPT).into()),
        };
        response.emit(&self.envelope(now, None), self.capture);
        match sender {
            Sender::Client => self.server_answered(connection, now, id, answer),
            Sender::Server => {
                if let Some(asked) = asked {
                    self.client_answered(connection, now, &asked, id, answer);
                }
            }
        }
    }

    fn client_answered(
        &mut self,
        connection: u64,
        now: Now,
        asked: &Asked,
        id: &RequestId,
        answer: &Answer<'_>,
    ) {
        match (asked.method, answer) {
            ("initialize", Answer::Result(result)) => self.initialized(connection, now, asked, id, result),
            ("thread/start" | "thread/resume" | "thread/fork", Answer::Result(result)) => {
                self.thread_answered(connection, now, asked, result);
            }
            ("turn/start", _) => self.turn_answered(connection, now, asked, id, answer),
            ("review/start", Answer::Result(result)) => self.review_answered(asked, result),
            ("turn/steer", _) => self.steer_answered(connection, now, asked, id, answer),
            ("turn/interrupt", Answer::Result(_)) => self.interrupt_answered(asked),
            ("thread/compact/start", Answer::Result(_)) => self.compaction_asked(asked),
            ("thread/compact/start", Answer::Error(_)) => self.turn_refused_alone(asked, "compaction"),
            ("thread/shellCommand", Answer::Error(_)) => self.turn_refused_alone(asked, "user_shell"),
            ("thread/queue/add" | "thread/queue/update", Answer::Result(result)) => {
                self.prompt_queued(connection, now, asked, result);
            }
            ("thread/queue/delete", Answer::Result(_)) => self.prompt_withdrawn(asked),
            ("thread/queue/reorder", Answer::Result(_)) => self.queue_reordered(asked),
            ("thread/unsubscribe", Answer::Result(_)) => {}
            ("account/read", Answer::Result(result)) => {
                let account = read::<AccountResult<'_>>(Some(result)).account.unwrap_or_default();
                if let Some(kind) = some(&account.kind) {
                    self.account_changed(connection, now, Some(kind), some(&account.email));
                }
            }
            ("account/rateLimits/read", Answer::Result(result)) => {
                self.limits_reported(now, &read(Some(result)));
            }
            ("model/list", Answer::Result(result)) => self.models_listed(now, result),
            (method, _) => self.extension_answered(method, now, asked, answer),
        }
    }

    fn notification(&mut self, connection: u64, sender: Sender, now: Now, call: &Call<'_>, size: usize) {
        let (method, known) = methods::shown(&call.method);
        if known && methods::is_delta(method) {
            self.count("delta");
            self.delta(now, method, call);
            let delta = Delta { connection_id: connection, method: method.into(), size: size as u64 };
            delta.emit(&self.envelope(now, None), self.capture);
            return;
        }
        self.count("notification");
        if self.is_mirrored(connection, call) {
            self.count("mirrored");
            return;
        }
        if !known {
            self.count("unknown_method");
        }
        let subject: Subject<'_> = read(call.params);
        let place = some(&subject.turn_id).and_then(|turn| self.place_of_turn(turn));
        let notification = Notification {
            connection_id: connection,
            sender: sender.as_str().into(),
            method: method.into(),
            original_method: (!known).then(|| bounded(&call.method, 128).into()),
            thread_id: some(&subject.thread_id).map(Text::from),
            turn_id: some(&subject.turn_id).map(Text::from),
        };
        notification.emit(&self.envelope(now, place), self.capture);
        if sender == Sender::Server {
            self.server_notified(connection, now, method, call);
        }
    }

    fn server_notified(&mut self, connection: u64, now: Now, method: &str, call: &Call<'_>) {
        match method {
            "turn/started" => self.turn_started(connection, now, &read(call.params)),
            "turn/completed" => self.turn_completed(connection, now, &read(call.params)),
            "thread/tokenUsage/updated" => self.tokens_used(now, &read(call.params)),
            "item/started" => self.item_started(now, &read(call.params)),
            "item/completed" => self.item_completed(now, &read(call.params)),
            "serverRequest/resolved" => self.server_request_resolved(connection, now, &read(call.params)),
            "error" => self.error_reported(now, &read(call.params)),
            "hook/started" => self.hook_started(now, &read(call.params)),
            "hook/completed" => self.hook_completed(now, &read(call.params)),
            "item/autoApprovalReview/completed" => self.guardian_reviewed(now, &read(call.params)),
            "thread/goal/updated" => self.goal_changed(now, &read(call.params), "updated"),
            "thread/goal/cleared" => self.goal_changed(now, &read(call.params), "cleared"),
            "thread/archived" => self.thread_archived(now, call, "archived"),
            "thread/unarchived" => self.thread_archived(now, call, "unarchived"),
            "thread/closed" => self.thread_closed(now, call, "closed"),
            "thread/deleted" => self.thread_closed(now, call, "deleted"),
            "turn/diff/updated" => self.diff_updated(&read(call.params)),
            "account/updated" => {
                let notice: AccountNotice<'_> = read(call.params);
                self.account_changed(connection, now, some(&notice.auth_mode), None);
            }
            "account/rateLimits/updated" => self.limits_reported(now, &read(call.params)),
            "thread/settings/updated" => self.settings_updated(now, &read(call.params)),
            "thread/realtime/started" => self.voice_started(now, &read(call.params)),
            "warning" => self.warned(now, &read(call.params)),
            "externalAgentConfig/import/completed" => self.imported(now, &read(call.params)),
            _ => {}
        }
    }

    // Two clients of one thread both get its notifications: the n-th of one is the n-th of the other.
    fn is_mirrored(&mut self, connection: u64, call: &Call<'_>) -> bool {
        if self.connections.len() < 2 {
            return false;
        }
        let mut bytes = call.method.as_bytes().to_vec();
        bytes.extend_from_slice(call.params.map_or("", |raw| raw.get()).as_bytes());
        let hash = xxh3_64(&bytes);
        if !self.mirrored.contains_key(&hash) {
            self.mirrored_order.push_back(hash);
            if self.mirrored_order.len() > 4096
                && let Some(old) = self.mirrored_order.pop_front()
            {
                self.mirrored.remove(&old);
            }
        }
        let seen = self.mirrored.entry(hash).or_default();
        let most = seen.iter().filter(|(other, _)| *other != connection).map(|(_, times)| *times).max();
        let at = match seen.iter().position(|(other, _)| *other == connection) {
            Some(at) => at,
            None => {
                seen.push((connection, 0));
                seen.len() - 1
            }
        };
        let Some((_, times)) = seen.get_mut(at) else { return false };
        *times += 1;
        *times <= most.unwrap_or(0)
    }
}

/// Seconds from nanoseconds.
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
