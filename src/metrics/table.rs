//! The one table of instruments.

/// What an instrument does with its measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// A sum that grows and shrinks.
    UpDownCounter,
    /// The latest value.
    Gauge,
    /// How measurements are spread over these upper bounds.
    Histogram(&'static [f64]),
}

/// When there is something to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Wherever facts are.
    Always,
    /// Token counters under the newer names.
    LatestTokens,
    /// Tokens under the names of semantic conventions 1.41.
    OldTokens,
    /// Where a host tells it; the protocol does not show it.
    Host,
    /// In a running process, never in a replay into files.
    Live,
}

/// Under which names tokens are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenNames {
    /// Counters, `gen_ai.client.inference.usage.*`.
    #[default]
    Latest,
    /// The histogram of semantic conventions 1.41, `gen_ai.client.token.usage`.
    Old,
    /// Both.
    Both,
    /// Not at all.
    None,
}

impl TokenNames {
    /// Whether instruments of this kind are wanted.
    pub const fn wants(self, when: When) -> bool {
        match when {
            When::LatestTokens => matches!(self, TokenNames::Latest | TokenNames::Both),
            When::OldTokens => matches!(self, TokenNames::Old | TokenNames::Both),
            When::Always | When::Host | When::Live => true,
        }
    }
}

/// What is fixed about an instrument.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// What it does with measurements.
    pub kind: Kind,
    /// Its unit, in UCUM.
    pub unit: &'static str,
    /// When it has any.
    pub when: When,
    /// The only dimensions it may have.
    pub attributes: &'static [&'static str],
    /// What it measures.
    pub doc: &'static str,
}

/// GenAI conventions: advice for `gen_ai.invoke_agent.duration`.
const AGENT_SECONDS: &[f64] = &[0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6];
/// GenAI conventions: advice for `gen_ai.execute_tool.duration`.
const TOOL_SECONDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// GenAI conventions: advice for numbers of calls.
const CALLS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
/// Semantic conventions 1.41: advice for `gen_ai.client.token.usage`.
const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// People answer in seconds, or after lunch.
const PERSON_SECONDS: &[f64] =
    &[0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

macro_rules! instruments {
    ($( $Id:ident = $name:literal, $kind:expr, $unit:literal, $when:ident, [$($attribute:literal),*], $doc:literal; )*) => {
        /// An instrument, by its place in [`TABLE`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the table says what each is")]
        pub enum Instrument { $( $Id, )* }

        impl Instrument {
            /// All of them, in the order of the table.
            pub const ALL: &[Instrument] = &[$( Instrument::$Id, )*];

            /// What is fixed about it.
            pub const fn described(self) -> &'static Described {
                match self { $( Instrument::$Id => {
                    const IT: Described = Described {
                        name: $name, kind: $kind, unit: $unit, when: When::$when, attributes: &[$($attribute),*],
                        doc: $doc,
                    };
                    &IT
                } )* }
            }
        }

        /// Every instrument.
        pub const TABLE: &[&Described] = &[$( Instrument::$Id.described(), )*];
    };
}

use Kind::{Counter, Gauge, Histogram, UpDownCounter};

// No name here is one that Codex's own export uses (`codex.turn.token_usage`, `codex.tool.call`, `codex.thread.started`,
// `codex.turn.e2e_duration_ms`, ...): both may arrive at one back end.
instruments! {
    TurnDuration = "gen_ai.invoke_agent.duration", Histogram(AGENT_SECONDS), "s", Always,
        ["gen_ai.agent.name", "gen_ai.request.model", "codex.turn.status", "error.type"],
        "How long turns took, as long as their spans.";
    TurnFirstToken = "codex.turn.time_to_first_token", Histogram(TOOL_SECONDS), "s", Always,
        ["gen_ai.agent.name", "gen_ai.request.model"],
        "From the start of a turn to the first text of the agent.";
    Turns = "codex.turns", Counter, "{turn}", Always,
        ["codex.turn.status", "codex.turn.kind", "gen_ai.agent.name", "gen_ai.request.model", "user_agent.name",
         "error.type"],
        "Turns that ended.";
    ActiveTurns = "codex.turn.active", UpDownCounter, "{turn}", Always, ["gen_ai.agent.name"],
        "Turns that are running.";
    Steers = "codex.turn.steers", Counter, "{steer}", Always, ["codex.steer.result", "error.type"],
        "Inputs given to running turns.";
    ToolDuration = "gen_ai.execute_tool.duration", Histogram(TOOL_SECONDS), "s", Always,
        ["gen_ai.tool.name", "gen_ai.tool.type", "gen_ai.agent.name", "error.type"],
        "How long tool calls took, as long as their spans.";
    Tools = "codex.tool.executions", Counter, "{call}", Always,
        ["gen_ai.tool.name", "gen_ai.tool.type", "codex.mcp.server.name", "codex.item.status", "error.type"],
        "Tool calls that ended.";
    InputTokens = "gen_ai.client.inference.usage.input_tokens", Counter, "{token}", LatestTokens,
        ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.modality"],
        "Input tokens, cached ones included. A fork, a resume or a replay of history counts nothing again.";
    OutputTokens = "gen_ai.client.inference.usage.output_tokens", Counter, "{token}", LatestTokens,
        ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.modality"],
        "Output tokens, reasoning included.";
    CacheReadTokens = "gen_ai.client.inference.usage.cache_read.input_tokens", Counter, "{token}", LatestTokens,
        ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.modality"],
        "Those of the input tokens that came from the cache.";
    CacheWriteTokens = "gen_ai.client.inference.usage.cache_write.input_tokens", Counter, "{token}", LatestTokens,
        ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.modality"],
        "Those of the input tokens that were written to the cache.";
    ReasoningTokens = "gen_ai.client.inference.usage.reasoning.output_tokens", Counter, "{token}", LatestTokens,
        ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.modality"],
        "Those of the output tokens that were spent on reasoning.";
    OldTokens = "gen_ai.client.token.usage", Histogram(TOKENS), "{token}", OldTokens,
        ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.type"],
        "Tokens of each model call that the stream shows, `gen_ai.token.type` = `input` or `output`.";
    Approvals = "codex.approvals", Counter, "{approval}", Always,
        ["codex.approval.subject", "codex.approval.decision", "codex.approval.resolution", "codex.approval.source"],
        "Questions for approval that were answered, or will not be.";
    ApprovalWait = "codex.approval.wait.duration", Histogram(PERSON_SECONDS), "s", Always,
        ["codex.approval.subject", "codex.approval.decision"],
        "From the question for approval to its answer.";
    Threads = "codex.threads", Counter, "{thread}", Always,
        ["codex.thread.initialization_mode", "codex.thread.source", "codex.subagent.source", "user_agent.name"],
        "Threads that were started, resumed or forked.";
    Compactions = "codex.compactions", Counter, "{compaction}", Always,
        ["codex.compaction.trigger", "codex.compaction.phase", "codex.compaction.status", "error.type"],
        "Compactions of a thread's history.";
    Errors = "codex.errors", Counter, "{error}", Always, ["error.type", "codex.error.will_retry"],
        "Errors that the server reported, also those after which it tried again.";
    Skills = "codex.skill.invocations", Counter, "{invocation}", Always,
        ["gen_ai.skill.name", "codex.skill.invocation_type", "codex.skill.scope"],
        "Skills that were put to use.";
    RateLimitUtilization = "codex.rate_limit.utilization", Gauge, "1", Always,
        ["codex.rate_limit.id", "codex.rate_limit.window"],
        "How much of the account's rate limit is used, from 0 to 1, as the server last said.";
    RateLimitReset = "codex.rate_limit.reset_time", Gauge, "s", Always,
        ["codex.rate_limit.id", "codex.rate_limit.window"],
        "When the window of the rate limit begins anew, seconds since 1970.";
    InferenceCalls = "gen_ai.invoke_agent.inference_calls", Histogram(CALLS), "{call}", Host, ["gen_ai.agent.name"],
        "Requests to the model in a turn.";
    PhaseDuration = "codex.turn.phase.duration", Histogram(AGENT_SECONDS), "s", Host,
        ["codex.turn.phase", "gen_ai.agent.name"],
        "How a turn's time was spent: `before_first_sampling`, `sampling` (in requests to the model), `compaction`, \
         `between_sampling`, `tool_blocking`, `after_last_sampling`.";
    Accepted = "factline.records.accepted", Counter, "{record}", Live, [],
        "Records that the outbox accepted.";
    Written = "factline.records.written", Counter, "{record}", Live, [],
        "Accepted records that are in segments.";
    Delivered = "factline.records.delivered", Counter, "{record}", Live, ["factline.queue"],
        "Records that their destination took, also those that ended processes left.";
    Lost = "factline.records.lost", Counter, "{record}", Live, ["factline.loss.reason"],
        "Accepted records that will not be delivered.";
    Refused = "factline.transactions.refused", Counter, "{transaction}", Live, [],
        "What the outbox refused, and so never accepted.";
    Retried = "factline.requests.retried", Counter, "{request}", Live, ["factline.queue"],
        "Requests that failed and are sent again.";
    QueueRecords = "factline.queue.records", Gauge, "{record}", Live, ["factline.queue"],
        "Records that wait for delivery.";
    QueueBytes = "factline.queue.size", Gauge, "By", Live, ["factline.queue"],
        "Bytes on disk of what waits for delivery.";
    RingUtilization = "factline.ring.utilization", Gauge, "1", Live, [],
        "How full the ring is through which records are accepted, from 0 to 1.";
}

/// Every dimension, and how many of its values are told apart; the others become [`OTHER`](super::OTHER).
pub const ATTRIBUTES: &[(&str, usize)] = &[
    ("gen_ai.agent.name", 32),
    ("gen_ai.request.model", 32),
    ("gen_ai.provider.name", 16),
    ("gen_ai.operation.name", 4),
    ("gen_ai.token.modality", 4),
    ("gen_ai.token.type", 4),
    ("gen_ai.tool.name", 64),
    ("gen_ai.tool.type", 8),
    ("codex.mcp.server.name", 32),
    ("user_agent.name", 16),
    ("error.type", 32),
    ("codex.turn.status", 8),
    ("codex.turn.kind", 8),
    ("codex.turn.phase", 8),
    ("codex.steer.result", 4),
    ("codex.item.status", 8),
    ("codex.approval.subject", 16),
    ("codex.approval.decision", 8),
    ("codex.approval.resolution", 8),
    ("codex.approval.source", 8),
    ("codex.thread.initialization_mode", 8),
    ("codex.thread.source", 16),
    ("codex.subagent.source", 16),
    ("codex.compaction.trigger", 8),
    ("codex.compaction.phase", 8),
    ("codex.compaction.status", 8),
    ("codex.error.will_retry", 2),
    ("gen_ai.skill.name", 64),
    ("codex.skill.invocation_type", 4),
    ("codex.skill.scope", 8),
    ("codex.rate_limit.id", 16),
    ("codex.rate_limit.window", 4),
    ("factline.queue", 16),
    ("factline.loss.reason", 16),
];
