//! What only a host can tell: facts that never cross the protocol.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::state::{Turn, label, owned};
use super::{Context, Reducer};
use crate::analytics::event::{self, Label, SuggestedPlugin, ToolBase};
use crate::fact::vocabulary::{
    ArtifactOperation, ControlToolCall, GuardianV2Classification, GuardianV2FastDecision, ImagePreparation,
    PluginInstallRequested, PluginMeasurement, ThreadHintStatus, TurnCodexError, TurnProfile,
};
use crate::fact::{Envelope, Text};

/// Images of one turn; more would be a host that repeats itself.
const IMAGES: usize = 256;
/// Longest identifier of a measurement, bytes.
const IDENTIFIER: usize = 64;
/// Dimensions of a measurement.
const DIMENSIONS: usize = 8;

impl Reducer {
    // What belongs to the turn's own event: after its end there is nothing to add to.
    fn add_to_turn(&mut self, thread: &str, turn: &str, add: impl FnOnce(&mut Turn)) {
        match self.threads.get_mut(thread).and_then(|thread| thread.running(turn)) {
            Some(turn) => add(turn),
            None => self.count("turn_not_running"),
        }
    }

    pub(super) fn turn_profiled(&mut self, fact: &TurnProfile<'static>) {
        self.add_to_turn(&fact.thread_id, &fact.turn_id, |turn| turn.profile = Some(Box::new(fact.clone())));
    }

    pub(super) fn turn_failed(&mut self, fact: &TurnCodexError<'static>) {
        self.add_to_turn(&fact.thread_id, &fact.turn_id, |turn| turn.error = Some(Box::new(fact.clone())));
    }

    pub(super) fn image_prepared(&mut self, fact: &ImagePreparation<'static>) {
        self.add_to_turn(&fact.thread_id, &fact.turn_id, |turn| {
            if turn.prepared.len() < IMAGES {
                turn.prepared.push(event::ImagePreparation {
                    message_role: owned(&fact.message_role),
                    item_id: owned(&fact.item_id),
                    effective_detail: fact.effective_detail.to_string(),
                    source_width: fact.source_width,
                    source_height: fact.source_height,
                    prepared_width: fact.prepared_width,
                    prepared_height: fact.prepared_height,
                });
            }
        });
    }

    pub(super) fn control_tool_called(&mut self, fact: &ControlToolCall<'static>) {
        let turn = self.threads.get_mut(&*fact.thread_id).and_then(|thread| thread.turn(&fact.turn_id));
        let (mut root, mut trigger, mut connection) = (owned(&fact.root_id), label(&fact.trigger), None);
        if let Some(turn) = turn {
            // As with items: after its turn a call has an event, and is not counted.
            turn.calls.control_told += u64::from(!turn.ended);
            root = root.or_else(|| turn.root.as_deref().map(str::to_owned));
            trigger = trigger.or_else(|| turn.trigger.clone());
            connection = turn.connection;
        }
        let Some(Context { session, client, runtime, source, subagent_source, parent }) =
            self.context(&fact.thread_id, connection)
        else {
            return;
        };
        let (terminal_status, failure_kind) = match &*fact.status {
            "completed" => ("completed", None),
            "rejected" => ("rejected", Some("policy_forbidden")),
            "interrupted" => ("interrupted", None),
            _ => ("failed", Some("tool_error")),
        };
        let duration = fact.completed_at_ms.checked_sub(fact.started_at_ms);
        let event = event::ControlToolCall {
            base: ToolBase {
                turn_trigger: trigger,
                thread_id: fact.thread_id.to_string(),
                session_id: session,
                turn_id: fact.turn_id.to_string(),
                root_turn_id: root,
                item_id: fact.call_id.to_string(),
                cell_id: owned(&fact.cell_id),
                parent_call_id: None,
                originating_response_id: None,
                subsequent_response_id: None,
                app_server_client: client,
                runtime,
                thread_source: source,
                subagent_source,
                parent_thread_id: parent,
                tool_name: fact.tool.to_string(),
                // The child of a cell is called by code, not by the model.
                tool_event_type: Some(match fact.cell_id {
                    Some(_) => "inner_tool_call",
                    None => "model_tool_call",
                }),
                started_at_ms: fact.started_at_ms,
                completed_at_ms: fact.completed_at_ms,
                duration_ms: duration,
                execution_duration_ms: duration,
                review_count: 0,
                guardian_review_count: 0,
                user_review_count: 0,
                final_approval_outcome: "unknown",
                terminal_status,
                failure_kind,
                requested_additional_permissions: false,
                requested_network_access: false,
            },
            success: terminal_status == "completed",
        };
        self.out.push(event.into());
    }

    fn context_in_turn(&mut self, thread: &str, turn: &str) -> Option<Context> {
        let connection = self.connection_of_turn(thread, turn);
        self.context(thread, connection)
    }

    pub(super) fn guardian_v2_classified(
        &mut self,
        envelope: &Envelope,
        fact: &GuardianV2Classification<'static>,
    ) {
        let Some(Context { session, client, runtime, source, subagent_source, parent }) =
            self.context_in_turn(&fact.thread_id, &fact.turn_id)
        else {
            return;
        };
        let event = event::GuardianV2Classification {
            session_id: session,
            app_server_client: client,
            runtime,
            thread_source: source,
            subagent_source,
            parent_thread_id: parent,
            thread_id: fact.thread_id.to_string(),
            turn_id: fact.turn_id.to_string(),
            item_id: owned(&fact.call_id),
            model: owned(&fact.model),
            occurred_at_ms: occurred(envelope, fact.occurred_at_ms),
            outcome: fact.outcome.to_string(),
            risk_level: owned(&fact.risk_level),
            duration_ms: fact.duration_ms,
        };
        self.out.push(event.into());
    }

    pub(super) fn guardian_v2_decided(
        &mut self,
        envelope: &Envelope,
        fact: &GuardianV2FastDecision<'static>,
    ) {
        let Some(Context { session, client, runtime, source, subagent_source, parent }) =
            self.context_in_turn(&fact.thread_id, &fact.turn_id)
        else {
            return;
        };
        let event = event::GuardianV2FastDecision {
            session_id: session,
            app_server_client: client,
            runtime,
            thread_source: source,
            subagent_source,
            parent_thread_id: parent,
            thread_id: fact.thread_id.to_string(),
            turn_id: fact.turn_id.to_string(),
            item_id: owned(&fact.call_id),
            model: owned(&fact.model),
            occurred_at_ms: occurred(envelope, fact.occurred_at_ms),
            decision: fact.decision.to_string(),
        };
        self.out.push(event.into());
    }

    pub(super) fn thread_hinted(&mut self, envelope: &Envelope, fact: &ThreadHintStatus<'static>) {
        let Some(Context { session, client, runtime, source, subagent_source, parent }) =
            self.context(&fact.thread_id, None)
        else {
            return;
        };
        let event = event::ThreadHintStatus {
            thread_id: fact.thread_id.to_string(),
            session_id: session,
            app_server_client: client,
            runtime,
            thread_source: source,
            subagent_source,
            parent_thread_id: parent,
            status: fact.status.to_string(),
            occurred_at_ms: occurred(envelope, fact.occurred_at_ms),
        };
        self.out.push(event.into());
    }

    pub(super) fn plugin_install_requested(&mut self, fact: &PluginInstallRequested<'static>) {
        let plugins = fact.plugins.0.iter().map(|plugin| suggested(plugin)).collect();
        let Some(plugins) = plugins else { return self.count("malformed") };
        let event = event::PluginInstallRequested {
            suggestion_id: fact.suggestion_id.to_string(),
            plugins,
            source: fact.source.to_string(),
            thread_id: fact.thread_id.to_string(),
            turn_id: fact.turn_id.to_string(),
            model_slug: self.model_told(&fact.thread_id, &fact.turn_id, &fact.model),
            product_client_id: self.product_told(&fact.thread_id, &fact.product_client_id),
        };
        self.out.push(event.into());
    }

    pub(super) fn plugin_measured(&mut self, fact: &PluginMeasurement<'static>) {
        let names = [&fact.operation, &fact.measurement_name];
        let dimensions = dimensions(&fact.dimensions.0);
        let Some(dimensions) = dimensions.filter(|_| names.iter().all(|name| is_identifier(name))) else {
            return self.count("malformed");
        };
        if !fact.number_value.is_finite() {
            return self.count("malformed");
        }
        let event = event::PluginMeasurement {
            thread_id: fact.thread_id.to_string(),
            turn_id: fact.turn_id.to_string(),
            item_id: fact.call_id.to_string(),
            originator: self.product_told(&fact.thread_id, &fact.product_client_id),
            model_slug: self.model_told(&fact.thread_id, &fact.turn_id, &fact.model),
            reasoning_effort: label(&fact.reasoning_effort)
                .or_else(|| self.effort_of(&fact.thread_id, &fact.turn_id)),
            plugin_id: fact.plugin_id.to_string(),
            execution_id: fact.execution_id.to_string(),
            operation: fact.operation.to_string(),
            measurement_name: fact.measurement_name.to_string(),
            number_value: fact.number_value,
            dimensions: (!dimensions.is_empty()).then_some(dimensions),
        };
        self.out.push(event.into());
    }

    pub(super) fn artifact_operated(&mut self, envelope: &Envelope, fact: &ArtifactOperation<'static>) {
        let Some(context) = self.context_in_turn(&fact.thread_id, &fact.turn_id) else { return };
        let event = event::ArtifactOperation {
            thread_id: fact.thread_id.to_string(),
            turn_id: fact.turn_id.to_string(),
            item_id: fact.call_id.to_string(),
            lifecycle: fact.lifecycle.to_string(),
            occurred_at_ms: occurred(envelope, fact.occurred_at_ms),
            product_client_id: self.product_told(&fact.thread_id, &fact.product_client_id),
            runtime: context.runtime,
            model_slug: self.model_told(&fact.thread_id, &fact.turn_id, &fact.model),
            plugin_id: fact.plugin_id.to_string(),
            script_path: fact.script.to_string(),
            skill: fact.skill.to_string(),
            artifact_type: fact.artifact_type.to_string(),
            operation_kind: fact.operation.to_string(),
            expected_output_count: fact.expected_output_count,
            output_format: fact.output_format.to_string(),
            execution_backend: fact.execution_backend.to_string(),
        };
        self.out.push(event.into());
    }

    fn product_told(&self, thread: &str, told: &Option<Text<'_>>) -> Option<Label> {
        label(told).or_else(|| self.product_of_connection(thread))
    }

    // The host knows the model of a turn also when the turn is over.
    fn model_told(&self, thread: &str, turn: &str, told: &Option<Text<'_>>) -> Option<Label> {
        label(told).or_else(|| self.threads.get(thread)?.model(turn))
    }

    fn effort_of(&mut self, thread: &str, turn: &str) -> Option<Label> {
        let thread = self.threads.get_mut(thread)?;
        let of_turn = thread.turn(turn).and_then(|turn| turn.config.as_ref()?.effort.clone());
        of_turn.or_else(|| thread.config.effort.clone())
    }
}

fn occurred(envelope: &Envelope, told: Option<u64>) -> u64 {
    told.unwrap_or(envelope.time / 1_000_000)
}

fn suggested(text: &str) -> Option<SuggestedPlugin> {
    #[derive(Deserialize)]
    struct Plugin {
        plugin_id: String,
        remote_plugin_id: Option<String>,
        plugin_name: String,
        #[serde(default)]
        connector_ids: Vec<String>,
    }
    let Plugin { plugin_id, remote_plugin_id, plugin_name, connector_ids } =
        serde_json::from_str(text).ok()?;
    Some(SuggestedPlugin { plugin_id, remote_plugin_id, plugin_name, connector_ids })
}

// A script may write what it likes; only names that cannot hold anything private are passed on.
fn is_identifier(text: &str) -> bool {
    text.len() <= IDENTIFIER
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn dimensions(told: &[Text<'_>]) -> Option<BTreeMap<String, String>> {
    if told.len() > DIMENSIONS {
        return None;
    }
    let pair = |text: &Text<'_>| {
        let (name, value) = text.split_once('=')?;
        (is_identifier(name) && is_identifier(value)).then(|| (name.to_owned(), value.to_owned()))
    };
    told.iter().map(pair).collect()
}
