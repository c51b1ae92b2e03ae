//! What the reducer remembers of connections, threads and turns.

use std::sync::Arc;

use crate::analytics::event::{Client, ImagePreparation, Label, Runtime};
use crate::fact::Text;
use crate::fact::vocabulary::{
    ConnectionStart, ThreadInitialized, TurnCodexError, TurnConfigured, TurnProfile,
};

/// A client's connection. It outlives its end, because what it started may go on.
#[derive(Debug)]
pub(super) struct Connection {
    pub client: Arc<Client>,
    pub runtime: Arc<Runtime>,
    /// Whether the server behind it is logged in with an API key.
    pub api_key: bool,
}

/// What a turn runs with unless its own facts say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub model: Option<Label>,
    pub provider: Option<Label>,
    pub effort: Option<Label>,
    pub summary: Option<Label>,
    pub service_tier: Option<Label>,
    pub approval_policy: Option<Label>,
    pub approvals_reviewer: Option<Label>,
    pub sandbox: Option<Label>,
    pub network: Option<bool>,
    pub collaboration_mode: Option<Label>,
    pub personality: Option<Label>,
}

/// A thread. An idle one has no turns.
#[derive(Debug)]
pub(super) struct Thread {
    pub connection: u64,
    pub originator: Option<Label>,
    /// Root of its tree, where that is another thread.
    pub session: Option<Box<str>>,
    pub parent: Option<Box<str>>,
    pub source: Option<Label>,
    pub subagent_source: Option<Label>,
    pub mode: &'static str,
    pub ephemeral: Option<bool>,
    pub config: Arc<Config>,
    /// A model the server knows nothing of.
    pub unknown_model: Option<Label>,
    pub voice: Option<Box<str>>,
    pub goal: Option<Box<Goal>>,
    /// Whether its history has a turn that analytics knows.
    pub had_turn: bool,
    /// Whether it was used since eviction last looked at it.
    pub recent: bool,
    /// Turns that run, or whose items still do; the latest last.
    pub turns: Vec<Turn>,
}

/// A thread's goal, as it was last told.
#[derive(Debug, Clone, Default)]
pub(super) struct Goal {
    pub status: Box<str>,
    pub created_at: Option<i64>,
    pub budget: bool,
    pub tokens: i64,
    pub seconds: i64,
}

/// Tokens of a turn.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tokens {
    pub input: u64,
    pub cached: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
    pub total: u64,
}

/// Calls of tools that completed in a turn.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Calls {
    pub total: u64,
    pub command: u64,
    pub file_change: u64,
    pub mcp: u64,
    pub dynamic: u64,
    pub subagent: u64,
    pub web_search: u64,
    pub image: u64,
    /// Of tools that are no item, those that the stream shows.
    pub control_seen: u64,
    /// Of tools that are no item, those that the host told: all of them, if it tells any.
    pub control_told: u64,
}

/// What reviews of an item came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reviews {
    pub guardian: u64,
    pub user: u64,
    pub outcome: Option<&'static str>,
    pub permissions: bool,
    pub network: bool,
}

/// A turn that runs, or whose items do.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub id: Box<str>,
    pub kind: Kind,
    pub root: Option<Box<str>>,
    pub trigger: Option<Label>,
    pub source: Option<Box<str>>,
    pub connection: Option<u64>,
    pub by_request: bool,
    pub first: bool,
    pub started_at: Option<i64>,
    pub images: u64,
    pub plugins: Vec<String>,
    pub workspace_kind: Option<Label>,
    pub config: Option<Config>,
    pub tokens: Tokens,
    pub calls: Calls,
    /// Hashes of the ids of calls about other agents that were counted.
    pub agent_calls: Vec<u64>,
    pub steers: u64,
    pub samplings: u64,
    pub retries: u64,
    /// When tokens were last told, ns since 1970.
    pub sampled: u64,
    /// When something first interrupted it, ns since 1970.
    pub interrupted: Option<u64>,
    pub open_tools: u32,
    pub compacting: bool,
    /// A hook kept its prompt from the agent.
    pub blocked: bool,
    pub ended: bool,
    /// Whether its end made no event, because its server went with it.
    pub lost: bool,
    pub reviews: Vec<(Box<str>, Reviews)>,
    pub elicited: Vec<(Box<str>, Box<str>)>,
    /// What only a host can tell.
    pub profile: Option<Box<TurnProfile<'static>>>,
    pub error: Option<Box<TurnCodexError<'static>>>,
    pub prepared: Vec<ImagePreparation>,
}

/// What kind of turn it is: only regular ones have an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    #[default]
    Regular,
    Review,
    Compaction,
    UserShell,
}

pub(super) fn label(text: &Option<Text<'_>>) -> Option<Label> {
    text.as_deref().map(Label::from)
}

pub(super) fn owned(text: &Option<Text<'_>>) -> Option<String> {
    text.as_deref().map(str::to_owned)
}

impl Connection {
    pub fn of(fact: &ConnectionStart<'_>) -> Self {
        let transport = match &*fact.transport {
            "stdio" => "stdio",
            "in_process" => "in_process",
            // A unix socket carries WebSocket frames, and says so.
            _ => "websocket",
        };
        // Facts name systems and processors as OpenTelemetry does, events as the compiler does.
        let os = fact.os_type.as_deref().map(|os| if os == "darwin" { "macos" } else { os });
        let arch = fact.arch.as_deref().map(|arch| match arch {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            other => other,
        });
        Connection {
            client: Arc::new(Client {
                product_client_id: label(&fact.product_client_id),
                client_name: label(&fact.client_name),
                client_version: label(&fact.client_version),
                rpc_transport: transport,
                experimental_api_enabled: fact.experimental_api,
            }),
            runtime: Arc::new(Runtime {
                codex_rs_version: label(&fact.server_version),
                runtime_os: os.map(Label::from),
                runtime_os_version: label(&fact.os_version),
                runtime_arch: arch.map(Label::from),
            }),
            api_key: false,
        }
    }
}

impl Config {
    pub fn of_thread(fact: &ThreadInitialized<'_>) -> Self {
        Config {
            model: label(&fact.model),
            provider: label(&fact.provider),
            effort: label(&fact.reasoning_effort),
            service_tier: label(&fact.service_tier),
            approval_policy: label(&fact.approval_policy),
            approvals_reviewer: label(&fact.approvals_reviewer),
            sandbox: label(&fact.sandbox_mode),
            network: fact.network_access,
            ..Config::default()
        }
    }

    pub fn of_turn(fact: &TurnConfigured<'_>) -> Self {
        Config {
            model: label(&fact.model),
            provider: label(&fact.provider),
            effort: label(&fact.reasoning_effort),
            summary: label(&fact.reasoning_summary),
            service_tier: label(&fact.service_tier),
            approval_policy: label(&fact.approval_policy),
            approvals_reviewer: label(&fact.approvals_reviewer),
            sandbox: label(&fact.sandbox_mode),
            network: fact.network_access,
            collaboration_mode: label(&fact.collaboration_mode),
            personality: label(&fact.personality),
        }
    }

    /// What a subagent runs with: everything but model and effort is its parent's.
    pub fn inherited(&self, model: Option<Label>, effort: Option<Label>) -> Self {
        Config { model: model.or_else(|| self.model.clone()), effort, ..self.clone() }
    }

    /// The same, with the gaps filled: a subagent's turn may begin before anyone knows whose it is.
    pub fn filled(self, from: &Config) -> Self {
        Config {
            model: self.model.or_else(|| from.model.clone()),
            provider: self.provider.or_else(|| from.provider.clone()),
            effort: self.effort.or_else(|| from.effort.clone()),
            summary: self.summary.or_else(|| from.summary.clone()),
            service_tier: self.service_tier.or_else(|| from.service_tier.clone()),
            approval_policy: self.approval_policy.or_else(|| from.approval_policy.clone()),
            approvals_reviewer: self.approvals_reviewer.or_else(|| from.approvals_reviewer.clone()),
            sandbox: self.sandbox.or_else(|| from.sandbox.clone()),
            network: self.network.or(from.network),
            collaboration_mode: self.collaboration_mode.or_else(|| from.collaboration_mode.clone()),
            personality: self.personality.or_else(|| from.personality.clone()),
        }
    }
}

impl Thread {
    pub fn turn(&mut self, id: &str) -> Option<&mut Turn> {
        self.turns.iter_mut().rev().find(|turn| &*turn.id == id)
    }

    /// The turn of this id while it runs.
    pub fn running(&mut self, id: &str) -> Option<&mut Turn> {
        self.turn(id).filter(|turn| !turn.ended)
    }

    /// Model of a turn, else of the thread.
    pub fn model(&self, turn: &str) -> Option<Label> {
        let of_turn =
            self.turns.iter().rev().find(|it| &*it.id == turn).and_then(|turn| turn.config.as_ref());
        of_turn.and_then(|config| config.model.clone()).or_else(|| self.config.model.clone())
    }
}

impl Turn {
    pub fn review(&mut self, item: &str) -> &mut Reviews {
        let at = match self.reviews.iter().position(|(of, _)| &**of == item) {
            Some(at) => at,
            None => {
                // Items that never end must not pile up.
                if self.reviews.len() >= 256 {
                    self.reviews.remove(0);
                }
                self.reviews.push((item.into(), Reviews::default()));
                self.reviews.len() - 1
            }
        };
        &mut self.reviews[at].1
    }
}
