//! What is read of the protocol's parameters and results. Everything may be missing: versions differ, and
//! what one lacks or adds must not break observation. Content is only read where it may be captured.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::bounded;

/// A member that is read if it has the expected type and is left out otherwise.
fn lax<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let raw = <&'de RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

macro_rules! wire {
    ($( $(#[$meta:meta])* $Name:ident { $( $(#[$field_meta:meta])* $field:ident: $type:ty, )* } )*) => { $(
        $(#[$meta])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(remote = "Self", rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
        pub(super) struct $Name<'a> {
            $( #[serde(deserialize_with = "lax")] $(#[$field_meta])* pub $field: Option<$type>, )*
            #[serde(skip)]
            pub lifetime: std::marker::PhantomData<&'a ()>,
        }

        impl<'de: 'a, 'a> Deserialize<'de> for $Name<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::deserialize(Members(deserializer))
            }
        }
    )* };
}

/// Reads a structure from an object only. serde also takes an array for its members one after the other, and then
/// whatever stands first, content or not, would be taken for an id.
struct Members<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Members<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

// `Cow` borrows only where serde is told so by name, which `lax` hides; a newtype says it.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Word<'a>(#[serde(borrow)] pub Cow<'a, str>);

wire! {
    Subject { thread_id: Word<'a>, turn_id: Word<'a>, }
    InitializeParams { client_info: ClientInfo<'a>, capabilities: Capabilities<'a>, }
    ClientInfo { name: Word<'a>, version: Word<'a>, }
    Capabilities { experimental_api: bool, opt_out_notification_methods: Vec<Word<'a>>, }
    InitializeResult { user_agent: Word<'a>, platform_os: Word<'a>, codex_home: Word<'a>, }
    ThreadResult {
        thread: Thread<'a>, model: Word<'a>, model_provider: Word<'a>, service_tier: Word<'a>, cwd: Word<'a>,
        approval_policy: Value, approvals_reviewer: Word<'a>, sandbox: Value, reasoning_effort: Word<'a>,
        disabled_plugin_ids: Vec<Word<'a>>,
    }
    Thread {
        id: Word<'a>, session_id: Word<'a>, forked_from_id: Word<'a>, parent_thread_id: Word<'a>, ephemeral: bool,
        created_at: i64, source: Value, thread_source: Word<'a>, originator: Word<'a>, cli_version: Word<'a>,
        git_info: GitInfo<'a>, turns: Vec<Turn<'a>>, agent_role: Word<'a>,
    }
    GitInfo { sha: Word<'a>, branch: Word<'a>, origin_url: Word<'a>, }
    Turn {
        id: Word<'a>, root_turn_id: Word<'a>, status: Word<'a>, error: TurnError<'a>, started_at: i64,
        completed_at: i64, duration_ms: u64,
    }
    TurnError { message: Word<'a>, codex_error_info: Value, }
    TurnNotice { thread_id: Word<'a>, turn: Turn<'a>, }
    TurnResult { turn: Turn<'a>, turn_id: Word<'a>, }
    TurnParams {
        thread_id: Word<'a>, turn_id: Word<'a>, expected_turn_id: Word<'a>, last_turn_id: Word<'a>,
        input: Vec<Input<'a>>, turn_trigger: Word<'a>, model: Word<'a>, effort: Word<'a>, summary: Word<'a>,
        service_tier: Word<'a>, service_tier_for_turn: Word<'a>, personality: Word<'a>, approval_policy: Value,
        approvals_reviewer: Word<'a>, sandbox_policy: Value, collaboration_mode: Value,
        responsesapi_client_metadata: ClientMetadata<'a>, target: Input<'a>, base_instructions: Word<'a>,
        developer_instructions: Word<'a>, config: ThreadConfig<'a>, disabled_plugin_ids: Vec<Word<'a>>,
    }
    QueueParams { queued_submission_id: Word<'a>, queued_submission_ids: Vec<Word<'a>>, }
    QueueResult { queued_submission: QueuedSubmission<'a>, }
    QueuedSubmission { id: Word<'a>, }
    ThreadConfig {
        #[serde(rename = "model_reasoning_summary")] summary: Word<'a>, personality: Word<'a>,
    }
    ClientMetadata { #[serde(rename = "workspace_kind")] workspace_kind: Word<'a>, source: Word<'a>, }
    SettingsNotice { thread_id: Word<'a>, thread_settings: Settings<'a>, }
    Settings {
        model: Word<'a>, model_provider: Word<'a>, service_tier: Word<'a>, effort: Word<'a>, summary: Word<'a>,
        approval_policy: Value, approvals_reviewer: Word<'a>, sandbox_policy: Value, collaboration_mode: Value,
        personality: Word<'a>, disabled_plugin_ids: Vec<Word<'a>>,
    }
    Input {
        #[serde(rename = "type")] kind: Word<'a>, text: Word<'a>, name: Word<'a>, path: Word<'a>,
    }
    UsageNotice { thread_id: Word<'a>, turn_id: Word<'a>, token_usage: TokenUsage<'a>, }
    TokenUsage { total: Tokens, last: Tokens, model_context_window: u64, }
    ItemNotice {
        thread_id: Word<'a>, turn_id: Word<'a>, item: Item<'a>, started_at_ms: u64, completed_at_ms: u64,
    }
    Item {
        id: Word<'a>, #[serde(rename = "type")] kind: Word<'a>, #[serde(rename = "kind")] activity: Word<'a>,
        status: Word<'a>, started_at_ms: u64, completed_at_ms: u64, duration_ms: u64, source: Word<'a>, exit_code: i64, server: Word<'a>, tool: Word<'a>,
        plugin_id: Word<'a>, app_context: AppContext<'a>, error: &'a RawValue, receiver_thread_ids: Vec<Word<'a>>,
        agent_thread_id: Word<'a>, model: Word<'a>, reasoning_effort: Word<'a>, changes: Vec<Change<'a>>,
        command_actions: Vec<Input<'a>>, action: SearchAction<'a>, success: bool, script_path: Word<'a>,
        content_items: Vec<Input<'a>>, sender_thread_id: Word<'a>, agents_states: BTreeMap<String, AgentState<'a>>,
        revised_prompt: &'a RawValue, saved_path: &'a RawValue, transparent_background: bool, generation_id: Word<'a>,
        command: &'a RawValue, arguments: &'a RawValue, query: &'a RawValue, prompt: &'a RawValue,
        aggregated_output: &'a RawValue, result: &'a RawValue, text: Word<'a>, cwd: Word<'a>, summary: Vec<Word<'a>>, path: Word<'a>, review: Word<'a>,
    }
    SearchAction { #[serde(rename = "type")] kind: Word<'a>, query: &'a RawValue, queries: Vec<&'a RawValue>, }
    AgentState { status: Word<'a>, }
    AppContext { connector_id: Word<'a>, app_name: Word<'a>, }
    Change { path: Word<'a>, kind: ChangeKind<'a>, diff: Word<'a>, }
    ChangeKind { #[serde(rename = "type")] kind: Word<'a>, #[serde(rename = "move_path")] move_path: Word<'a>, }
    ApprovalParams {
        thread_id: Word<'a>, turn_id: Word<'a>, item_id: Word<'a>, started_at_ms: i64, kind: Word<'a>,
        approval_id: &'a RawValue, network_approval_context: Value, proposed_network_policy_amendments: Value,
        additional_permissions: Value, grant_root: Value, permissions: Value, command: &'a RawValue,
        reason: Word<'a>, cwd: Word<'a>,
    }
    DiffNotice { turn_id: Word<'a>, diff: Word<'a>, }
    VoiceNotice { thread_id: Word<'a>, realtime_session_id: Word<'a>, }
    WarningNotice { thread_id: Word<'a>, message: Word<'a>, }
    Elicitation {
        thread_id: Word<'a>, turn_id: Word<'a>, server_name: Word<'a>, mode: Word<'a>,
        #[serde(rename = "_meta")] meta: Value,
    }
    AccountNotice { auth_mode: Word<'a>, }
    AccountResult { account: AccountKind<'a>, }
    RateLimitsNotice { rate_limits: RateLimits<'a>, }
    RateLimits { limit_id: Word<'a>, primary: RateWindow<'a>, secondary: RateWindow<'a>, }
    RateWindow { used_percent: f64, window_duration_mins: i64, resets_at: i64, }
    AccountKind { #[serde(rename = "type")] kind: Word<'a>, email: Word<'a>, }
    ListedModel { id: Word<'a>, model: Word<'a>, default_reasoning_effort: Word<'a>, }
    Resolved { thread_id: Word<'a>, request_id: &'a RawValue, }
    ErrorNotice { error: TurnError<'a>, will_retry: bool, thread_id: Word<'a>, turn_id: Word<'a>, }
    HookNotice { thread_id: Word<'a>, turn_id: Word<'a>, run: HookRun<'a>, }
    HookRun {
        id: Word<'a>, event_name: Word<'a>, handler_type: Word<'a>, execution_mode: Word<'a>, scope: Word<'a>,
        source: Word<'a>, source_path: Word<'a>, status: Word<'a>, duration_ms: u64,
    }
    GoalNotice { thread_id: Word<'a>, turn_id: Word<'a>, goal: Goal<'a>, }
    Goal {
        status: Word<'a>, token_budget: i64, tokens_used: i64, time_used_seconds: i64, created_at: i64,
        updated_at: i64, objective: Word<'a>,
    }
    GuardianNotice {
        thread_id: Word<'a>, turn_id: Word<'a>, target_item_id: Word<'a>, review_id: Word<'a>, started_at_ms: u64,
        completed_at_ms: u64, review: GuardianReview<'a>, action: GuardianAction<'a>, decision_source: Word<'a>,
    }
    GuardianAction {
        #[serde(rename = "type")] kind: Word<'a>, source: Word<'a>, tool: Word<'a>, tool_name: Word<'a>,
    }
    GuardianReview { status: Word<'a>, risk_level: Word<'a>, user_authorization: Word<'a>, rationale: Word<'a>, }
    ImportNotice { import_id: Word<'a>, item_type_results: Vec<ImportResult<'a>>, }
    ImportResult { item_type: Word<'a>, successes: Vec<&'a RawValue>, failures: Vec<Value>, }
    SteerErrorData { #[serde(rename = "input_error_code")] input_error_code: Word<'a>, codex_error_info: Value, }
}

/// Token counts as the protocol gives them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Tokens {
    pub total_tokens: u64,
    pub input_tokens: u64,
    pub cached_input_tokens: u64,
    pub cache_write_input_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_output_tokens: u64,
}

impl Tokens {
    pub fn add(&mut self, more: Tokens) {
        let sum = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        sum(&mut self.total_tokens, more.total_tokens);
        sum(&mut self.input_tokens, more.input_tokens);
        sum(&mut self.cached_input_tokens, more.cached_input_tokens);
        sum(&mut self.cache_write_input_tokens, more.cache_write_input_tokens);
        sum(&mut self.output_tokens, more.output_tokens);
        sum(&mut self.reasoning_output_tokens, more.reasoning_output_tokens);
    }
}

/// The text of a member, empty where it is missing.
pub(super) fn text<'b>(word: &'b Option<Word<'_>>) -> &'b str {
    word.as_ref().map_or("", |word| &word.0)
}

/// The text of a member, `None` where it is missing or empty.
pub(super) fn some<'b>(word: &'b Option<Word<'_>>) -> Option<&'b str> {
    Some(text(word)).filter(|text| !text.is_empty())
}

/// The same to keep, at most 128 bytes of it.
pub(super) fn owned(word: &Option<Word<'_>>) -> Option<String> {
    some(word).map(|text| bounded(text, 128).to_owned())
}

/// A list of ids to keep, `None` where it is missing.
pub(super) fn names(words: &Option<Vec<Word<'_>>>) -> Option<Vec<String>> {
    let words = words.as_ref()?;
    Some(words.iter().take(256).map(|word| bounded(&word.0, 256).to_owned()).collect())
}

/// Parameters or a result; all empty where they are of another shape.
pub(super) fn read<'a, T: Default + Deserialize<'a>>(raw: Option<&'a RawValue>) -> T {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// Whether a sandbox lets commands into the network: `sandbox` is its policy, `mode` the policy's name.
pub(super) fn network_access(sandbox: &Option<Value>, mode: Option<&str>) -> Option<bool> {
    match (sandbox, mode) {
        (_, Some("dangerFullAccess" | "danger-full-access")) => Some(true),
        // Without the member it is off.
        (Some(Value::Object(map)), _) => map.get("networkAccess").map_or(Some(false), network),
        _ => None,
    }
}

fn network(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => Some(text == "enabled"),
        _ => None,
    }
}

/// The name in a member that is either a text or an object with one member (`{"granular": {..}}`) or a
/// `type`.
pub(super) fn label(value: &Option<Value>) -> Option<String> {
    match value.as_ref()? {
        Value::String(text) => Some(text.clone()),
        Value::Object(map) => match map.get("type").or_else(|| map.get("mode")) {
            Some(Value::String(kind)) => Some(kind.clone()),
            _ => map.keys().next().cloned(),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_no_structure() {
        let read = |text: &str| {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            let notice: TurnNotice<'_> = read(Some(&raw));
            (some(&notice.thread_id).map(str::to_owned), notice.turn.is_some())
        };
        assert_eq!(read(r#"{"threadId":"t","turn":{"id":"u"}}"#), (Some("t".to_owned()), true));
        assert_eq!(read(r#"{"threadId":"t","turn":["u","v"]}"#), (Some("t".to_owned()), false));
        assert_eq!(read(r#"["t",{"id":"u"}]"#), (None, false));
    }
}
