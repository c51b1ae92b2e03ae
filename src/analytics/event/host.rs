//! Events whose facts never cross the protocol: only a host that runs the agent itself can tell them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Label, Runtime, members};

members! {
    /// A plugin that was suggested.
    SuggestedPlugin {
        plugin_id: String, remote_plugin_id: Option<String>, plugin_name: String, connector_ids: Vec<String>,
    }

    /// Members of `codex_plugin_install_requested`.
    PluginInstallRequested {
        suggestion_id: String, plugins: Vec<SuggestedPlugin>, source: String, thread_id: String, turn_id: String,
        model_slug: Option<Label>, product_client_id: Option<Label>,
    }

    /// Members of `codex_plugin_measurement_event`.
    PluginMeasurement {
        thread_id: String, turn_id: String, item_id: String, originator: Option<Label>,
        model_slug: Option<Label>, reasoning_effort: Option<Label>, plugin_id: String, execution_id: String,
        operation: String, measurement_name: String, number_value: f64,
        dimensions: Option<BTreeMap<String, String>>,
    }

    /// Members of `codex_artifact_operation`.
    ArtifactOperation {
        thread_id: String, turn_id: String, item_id: String, lifecycle: String, occurred_at_ms: u64,
        product_client_id: Option<Label>, runtime: Arc<Runtime>, model_slug: Option<Label>, plugin_id: String,
        script_path: String, skill: String, artifact_type: String, operation_kind: String,
        expected_output_count: u64, output_format: String, execution_backend: String,
    }
}
