//! The events, in the form that the app server's own client sends: names, nesting, order of members and the
//! rules for `null` are those of codex 0.169.0.
//!
//! Units: members that end in `_at_ms` are milliseconds since 1970, `_at` seconds since 1970, `_ms`
//! milliseconds, `_count` a number of things, `_tokens` tokens. What is not known is `null`.

mod capability;
mod host;
mod review;
mod thread;
mod tool;

use std::sync::Arc;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

pub use capability::*;
pub use host::*;
pub use review::*;
pub use thread::*;
pub use tool::*;

use super::Family;

/// A name or label that many events share.
pub type Label = Arc<str>;

/// The client that a thread or turn belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Client {
    /// Originator of the thread, else of the process.
    pub product_client_id: Option<Label>,
    /// Name the client gave at `initialize`.
    pub client_name: Option<Label>,
    /// Version the client gave at `initialize`.
    pub client_version: Option<Label>,
    /// `stdio`, `websocket` or `in_process`.
    pub rpc_transport: &'static str,
    /// Whether it asked for the experimental API; `null` where it said nothing of capabilities.
    pub experimental_api_enabled: Option<bool>,
}

/// The server's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Runtime {
    /// Version of the server.
    pub codex_rs_version: Option<Label>,
    /// `linux`, `macos`, `windows`, ...
    pub runtime_os: Option<Label>,
    /// Version of the operating system.
    pub runtime_os_version: Option<Label>,
    /// `x86_64`, `aarch64`.
    pub runtime_arch: Option<Label>,
}

/// Structs whose members are those of the wire, in its order.
macro_rules! members {
    ($( $(#[doc = $doc:literal])+ $Name:ident { $( $(#[$meta:meta])* $member:ident: $type:ty, )* } )*) => { $(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        #[allow(missing_docs)] // members are described by their names and the module's rule of units
        pub struct $Name { $( $(#[$meta])* pub $member: $type, )* }
    )* };
}
pub(super) use members;

macro_rules! events {
    ($( $(#[doc = $doc:literal])+ $Name:ident = $type:literal, $family:ident; )*) => {
        /// One analytics event.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event { $( $(#[doc = $doc])+ $Name(Box<$Name>), )* }

        impl Event {
            /// Every event type, in the order of documentation.
            pub const TYPES: &'static [&'static str] = &[$( $type ),*];

            /// The event's type, as the wire names it.
            pub const fn event_type(&self) -> &'static str {
                match self { $( Event::$Name(_) => $type, )* }
            }

            /// The family it is switched on and off with.
            pub const fn family(&self) -> Family {
                match self { $( Event::$Name(_) => Family::$family, )* }
            }
        }

        impl Serialize for Event {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $( Event::$Name(event) => event.wire($type, serializer), )* }
            }
        }

        $( impl From<$Name> for Event {
            fn from(event: $Name) -> Event { Event::$Name(Box::new(event)) }
        } )*
        $( events!(@wire $Name); )*
    };
    (@wire SkillInvocation) => {};
    (@wire $Name:ident) => {
        impl $Name {
            fn wire<S: Serializer>(&self, name: &'static str, serializer: S) -> Result<S::Ok, S::Error> {
                let mut event = serializer.serialize_struct("Event", 2)?;
                event.serialize_field("event_type", name)?;
                event.serialize_field("event_params", self)?;
                event.end()
            }
        }
    };
}

events! {
    /// A thread was started, resumed or forked, or a subagent's thread appeared.
    ThreadInitialized = "codex_thread_initialized", Thread;
    /// A thread was archived, or taken out of the archive.
    ThreadArchive = "codex_thread_archive_event", Thread;
    /// A turn ended.
    Turn = "codex_turn_event", Turn;
    /// A running turn was given more input, or refused it.
    TurnSteer = "codex_turn_steer_event", Turn;
    /// A thread's history was compacted.
    Compaction = "codex_compaction_event", Thread;
    /// A thread's goal was set, worked on, changed or cleared.
    Goal = "codex_goal_event", Goal;
    /// A command ended.
    CommandExecution = "codex_command_execution_event", Tool;
    /// A patch ended.
    FileChange = "codex_file_change_event", Tool;
    /// A call of an MCP tool ended.
    McpToolCall = "codex_mcp_tool_call_event", Tool;
    /// A call of a tool of the client ended.
    DynamicToolCall = "codex_dynamic_tool_call_event", Tool;
    /// A call of a tool without an item ended; only a host can tell.
    ControlToolCall = "codex_control_tool_call_event", Tool;
    /// A call about other agents ended.
    CollabAgentToolCall = "codex_collab_agent_tool_call_event", Tool;
    /// A web search ended.
    WebSearch = "codex_web_search_event", Tool;
    /// An image was made.
    ImageGeneration = "codex_image_generation_event", Tool;
    /// The user or the guardian answered an approval, or nobody did.
    Review = "codex_review_event", Review;
    /// The guardian reviewed an approval.
    GuardianReview = "codex_guardian_review", Review;
    /// A guardian of the second version classified an action; only a host can tell.
    GuardianV2Classification = "codex_guardian_v2_classification", Review;
    /// A guardian of the second version decided at once; only a host can tell.
    GuardianV2FastDecision = "codex_guardian_v2_fast_decision", Review;
    /// Hints for a thread were looked for; only a host can tell.
    ThreadHintStatus = "codex_thread_hint_status", Thread;
    /// A skill was put to use.
    SkillInvocation = "skill_invocation", Capability;
    /// The user named an app.
    AppMentioned = "codex_app_mentioned", Capability;
    /// A tool of an app was called.
    AppUsed = "codex_app_used", Capability;
    /// A plugin was used.
    PluginUsed = "codex_plugin_used", Capability;
    /// A plugin was installed.
    PluginInstalled = "codex_plugin_installed", Plugin;
    /// A plugin was uninstalled.
    PluginUninstalled = "codex_plugin_uninstalled", Plugin;
    /// A plugin was enabled.
    PluginEnabled = "codex_plugin_enabled", Plugin;
    /// A plugin was disabled.
    PluginDisabled = "codex_plugin_disabled", Plugin;
    /// A plugin could not be installed.
    PluginInstallFailed = "codex_plugin_install_failed", Plugin;
    /// The model suggested plugins; only a host can tell.
    PluginInstallRequested = "codex_plugin_install_requested", Plugin;
    /// A plugin measured something; only a host can tell.
    PluginMeasurement = "codex_plugin_measurement_event", Capability;
    /// A plugin works on an artifact; only a host can tell.
    ArtifactOperation = "codex_artifact_operation", Capability;
    /// A hook ran.
    HookRun = "codex_hook_run", Capability;
    /// Lines that a turn added and removed.
    AcceptedLines = "codex_accepted_line_fingerprints", Diff;
    /// Items of another agent's configuration were imported.
    ImportComplete = "codex_onboarding_external_agent_import_complete", Onboarding;
    /// An item of another agent's configuration could not be imported.
    ImportFailure = "codex_onboarding_external_agent_import_failure", Onboarding;
}

impl Event {
    /// Whether the server sends it also when it is logged in with an API key: those that tell of a plugin.
    pub fn is_sent_with_api_key(&self) -> bool {
        match self {
            Event::SkillInvocation(event) => event.event_params.plugin_id.is_some(),
            Event::PluginUsed(event) => event.plugin.plugin_id.is_some(),
            Event::McpToolCall(event) => event.plugin_id.is_some(),
            Event::ArtifactOperation(_) | Event::PluginMeasurement(_) => true,
            _ => false,
        }
    }
}

impl SkillInvocation {
    // The only event with members beside `event_params`.
    fn wire<S: Serializer>(&self, name: &'static str, serializer: S) -> Result<S::Ok, S::Error> {
        let mut event = serializer.serialize_struct("Event", 4)?;
        event.serialize_field("event_type", name)?;
        event.serialize_field("skill_id", &self.skill_id)?;
        event.serialize_field("skill_name", &self.skill_name)?;
        event.serialize_field("event_params", &self.event_params)?;
        event.end()
    }
}
