//! The one table of facts: for each its name, target, level, and for every field its type, attribute, data
//! class and meaning. To add a fact, add an entry here; where the protocol carries it, add a match arm in
//! [`protocol`](crate::protocol).
//!
//! Names are OpenTelemetry semantic conventions where one exists, `codex.*` where none does. Times that end
//! in `_s` are seconds, those that end in `_ms` milliseconds.

use Class::{Content, Environment, Id, Operational};
use Kind::{Arguments, Messages, Output, Paths, Prompts, Reasoning, Repository, User};
use tracing::Level;

use super::table::{Ends, Entry, Lasting, Point, Starts, Subject};
use super::{Capture, Class, End, Envelope, Kind, List, Text, Values};

facts! {
    points {
        /// A thread was started, resumed or forked, or a subagent's thread appeared.
        ThreadInitialized = "codex.thread.initialized", "factline::thread", INFO {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The root thread of its tree of subagents.
            session_id: Option<Text<'a>> = "session.id", Id;
            /// The connection that asked for it.
            connection_id: Option<u64> = "codex.connection.id", Id;
            /// `new`, `resumed` or `forked`.
            mode: Text<'a> = "codex.thread.initialization_mode", Operational;
            /// Model of the thread.
            model: Option<Text<'a>> = "gen_ai.request.model", Operational;
            /// Who serves the model.
            provider: Option<Text<'a>> = "gen_ai.provider.name", Operational;
            /// Name of the agent.
            agent: Option<Text<'a>> = "gen_ai.agent.name", Operational;
            /// Whether it is not kept.
            ephemeral: Option<bool> = "codex.thread.ephemeral", Operational;
            /// What the client says the thread is for: `user`, `subagent`, `automation`, ...
            source: Option<Text<'a>> = "codex.thread.source", Operational;
            /// Why a subagent exists: `thread_spawn`, `review`, `guardian`, ...
            subagent_source: Option<Text<'a>> = "codex.subagent.source", Operational;
            /// The thread that spawned it.
            parent_id: Option<Text<'a>> = "codex.thread.parent_id", Id;
            /// The thread it was forked from.
            forked_from_id: Option<Text<'a>> = "codex.thread.forked_from_id", Id;
            /// The last turn a fork keeps.
            fork_turn_id: Option<Text<'a>> = "codex.thread.fork_point_turn_id", Id;
            /// Whether its directory is a linked work tree of git; only known where files may be looked at.
            worktree: Option<bool> = "codex.thread.worktree", Operational;
            /// When the thread was born, seconds since 1970; older than the fact when it is resumed.
            created_at: Option<i64> = "codex.thread.created_at", Operational;
            /// The product that first made the thread.
            originator: Option<Text<'a>> = "codex.thread.originator", Operational;
            /// When the agent asks for approval.
            approval_policy: Option<Text<'a>> = "codex.approval.policy", Operational;
            /// Who approves.
            approvals_reviewer: Option<Text<'a>> = "codex.approval.reviewer", Operational;
            /// What the sandbox allows.
            sandbox_mode: Option<Text<'a>> = "codex.sandbox.mode", Operational;
            /// Whether the sandbox lets through to the network.
            network_access: Option<bool> = "codex.sandbox.network_access", Operational;
            /// How hard the model thinks.
            reasoning_effort: Option<Text<'a>> = "gen_ai.request.reasoning.level", Operational;
            /// Tier of service asked for.
            service_tier: Option<Text<'a>> = "openai.request.service_tier", Operational;
            /// Version of the agent that serves the thread.
            agent_version: Option<Text<'a>> = "codex.thread.cli_version", Operational;
            /// Turns the thread already had, where the answer lists them.
            turn_count: Option<u64> = "codex.thread.turn_count", Operational;
            /// Working directory.
            cwd: Option<Text<'a>> = "process.working_directory", Environment(Paths);
            /// Address of the repository.
            repository: Option<Text<'a>> = "vcs.repository.url.full", Environment(Repository);
            /// Branch.
            branch: Option<Text<'a>> = "vcs.ref.head.name", Environment(Repository);
            /// Commit.
            revision: Option<Text<'a>> = "vcs.ref.head.revision", Environment(Repository);
            /// Instructions that the client gives the agent, as JSON in the form of the GenAI conventions.
            instructions: Option<Text<'a>> = "gen_ai.system_instructions", Content(Prompts);
        }

        /// A thread was unloaded or deleted.
        ThreadClosed = "codex.thread.closed", "factline::thread", INFO {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// `closed`, `deleted` or `unsubscribed`.
            reason: Text<'a> = "codex.thread.close_reason", Operational;
            /// Turns that were observed on it.
            turn_count: Option<u64> = "codex.thread.turn_count", Operational;
        }

        /// A thread was archived, or taken out of the archive.
        ThreadArchived = "codex.thread.archived", "factline::thread", INFO {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// `archived` or `unarchived`.
            action: Text<'a> = "codex.thread.archive_action", Operational;
        }

        /// A prompt was submitted while a turn was running, and waits or joins it.
        TurnQueued = "codex.turn.queued", "factline::turn", INFO {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn that was running.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
            /// The request.
            request_id: Option<Text<'a>> = "jsonrpc.request.id", Id;
            /// The connection it came from.
            connection_id: Option<u64> = "codex.connection.id", Id;
            /// `default` or `queued`.
            submission_type: Text<'a> = "codex.turn.submission_type", Operational;
            /// From submission to acceptance, seconds.
            wait_s: Option<f64> = "codex.turn.queue_duration_s", Operational;
            /// Images in the prompt.
            image_count: Option<u64> = "codex.input.image_count", Operational;
            /// What the client says the prompt came from.
            source: Option<Text<'a>> = "codex.turn.source", Operational;
            /// The prompt, as JSON in the form of the GenAI conventions.
            prompt: Option<Text<'a>> = "gen_ai.input.messages", Content(Prompts);
        }

        /// The configuration a turn runs with.
        TurnConfigured = "codex.turn.configured", "factline::turn", DEBUG {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Text<'a> = "codex.turn.id", Id;
            /// Model.
            model: Option<Text<'a>> = "gen_ai.request.model", Operational;
            /// Who serves the model.
            provider: Option<Text<'a>> = "gen_ai.provider.name", Operational;
            /// How hard the model thinks.
            reasoning_effort: Option<Text<'a>> = "gen_ai.request.reasoning.level", Operational;
            /// Form of the reasoning summary.
            reasoning_summary: Option<Text<'a>> = "codex.reasoning.summary", Operational;
            /// Tier of service asked for.
            service_tier: Option<Text<'a>> = "openai.request.service_tier", Operational;
            /// When the agent asks for approval.
            approval_policy: Option<Text<'a>> = "codex.approval.policy", Operational;
            /// Who approves.
            approvals_reviewer: Option<Text<'a>> = "codex.approval.reviewer", Operational;
            /// What the sandbox allows.
            sandbox_mode: Option<Text<'a>> = "codex.sandbox.mode", Operational;
            /// Whether the sandbox lets through to the network.
            network_access: Option<bool> = "codex.sandbox.network_access", Operational;
            /// How user and agent work together: `default`, `plan`.
            collaboration_mode: Option<Text<'a>> = "codex.collaboration.mode", Operational;
            /// Tone of the agent.
            personality: Option<Text<'a>> = "codex.personality", Operational;
            /// Kind of workspace: `project` or `projectless`.
            workspace_kind: Option<Text<'a>> = "codex.workspace.kind", Operational;
            /// What the client says the prompt came from.
            source: Option<Text<'a>> = "codex.turn.source", Operational;
            /// Plugins active when the turn began.
            active_plugins: List<'a> = "codex.plugin.active_ids", Operational;
            /// Whether guardian reviews replace the user's approvals.
            guardian: Option<bool> = "codex.guardian.enabled", Operational;
        }

        /// Tokens used since the turn's fact of this name before; repeated totals are left out.
        TurnUsage = "codex.turn.usage", "factline::usage", DEBUG {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Text<'a> = "codex.turn.id", Id;
            /// Input tokens, cached ones included.
            input: u64 = "gen_ai.usage.input_tokens", Operational;
            /// Input tokens that came from the cache.
            cached: u64 = "gen_ai.usage.cache_read.input_tokens", Operational;
            /// Input tokens written to the cache.
            cache_write: u64 = "gen_ai.usage.cache_write.input_tokens", Operational;
            /// Output tokens, reasoning included.
            output: u64 = "gen_ai.usage.output_tokens", Operational;
            /// Output tokens spent on reasoning.
            reasoning: u64 = "gen_ai.usage.reasoning.output_tokens", Operational;
            /// All tokens.
            total: u64 = "codex.usage.total_tokens", Operational;
            /// Tokens that fit the model's window.
            context_window: Option<u64> = "codex.usage.context_window", Operational;
        }

        /// A running turn was given more input, or refused it.
        TurnSteered = "codex.turn.steered", "factline::turn", INFO, failing error_type {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn that took it, or was meant.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
            /// The turn the client expected to be running.
            expected_turn_id: Option<Text<'a>> = "codex.steer.expected_turn_id", Id;
            /// The request.
            request_id: Option<Text<'a>> = "jsonrpc.request.id", Id;
            /// The connection it came from.
            connection_id: Option<u64> = "codex.connection.id", Id;
            /// `accepted` or `rejected`.
            result: Text<'a> = "codex.steer.result", Operational;
            /// Why it was rejected: `no_active_turn`, `expected_turn_mismatch`, `non_steerable_review`,
            /// `non_steerable_compact`, `empty_input`, `input_too_large`, `_OTHER`.
            error_type: Option<Text<'a>> = "error.type", Operational;
            /// Images in the input.
            image_count: Option<u64> = "codex.input.image_count", Operational;
            /// What the client says the input came from.
            source: Option<Text<'a>> = "codex.turn.source", Operational;
            /// The input, as JSON in the form of the GenAI conventions.
            input: Option<Text<'a>> = "gen_ai.input.messages", Content(Prompts);
        }

        /// The server asked somebody to approve a command, a patch or a permission.
        ApprovalRequested = "codex.approval.requested", "factline::approval", INFO {
            /// The thread.
            thread_id: Option<Text<'a>> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
            /// The call that waits.
            call_id: Option<Text<'a>> = "gen_ai.tool.call.id", Id;
            /// The request.
            request_id: Text<'a> = "jsonrpc.request.id", Id;
            /// The connection that was asked.
            connection_id: Option<u64> = "codex.connection.id", Id;
            /// What is asked for: `command_execution`, `file_change`, `permissions`, `network_access`,
            /// `write_stdin`.
            subject: Text<'a> = "codex.approval.subject", Operational;
            /// The tool that asks.
            tool: Option<Text<'a>> = "gen_ai.tool.name", Operational;
            /// Why: `initial`, `sandbox_denial`, `network_policy_denial`, `execve_intercept`.
            trigger: Text<'a> = "codex.approval.trigger", Operational;
            /// When the server says it began to wait, ms since 1970.
            started_at_ms: Option<i64> = "codex.approval.started_at_ms", Operational;
            /// Whether more permissions are wanted.
            additional_permissions: Option<bool> = "codex.approval.additional_permissions", Operational;
            /// Whether the network is wanted.
            network: Option<bool> = "codex.approval.network_access", Operational;
            /// The command.
            command: Option<Text<'a>> = "codex.approval.command", Content(Arguments);
            /// The reason the agent gives.
            reason: Option<Text<'a>> = "codex.approval.reason", Content(Messages);
            /// Where the command is to run.
            cwd: Option<Text<'a>> = "process.working_directory", Environment(Paths);
            /// The directory that is to become writable.
            grant_root: Option<Text<'a>> = "codex.approval.grant_root", Environment(Paths);
        }

        /// An approval was answered, or will not be.
        ApprovalResolved = "codex.approval.resolved", "factline::approval", INFO {
            /// The thread.
            thread_id: Option<Text<'a>> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
            /// The call that waited.
            call_id: Option<Text<'a>> = "gen_ai.tool.call.id", Id;
            /// The request.
            request_id: Text<'a> = "jsonrpc.request.id", Id;
            /// The connection that was asked.
            connection_id: Option<u64> = "codex.connection.id", Id;
            /// What was asked for.
            subject: Text<'a> = "codex.approval.subject", Operational;
            /// `approved`, `denied` or `aborted`; `unknown` where the answer was none of the protocol's.
            decision: Text<'a> = "codex.approval.decision", Operational;
            /// How far it reaches: `none`, `session_approval`, `exec_policy_amendment`,
            /// `network_policy_amendment`.
            resolution: Text<'a> = "codex.approval.resolution", Operational;
            /// Who decided: `user`, or `none` where it was never answered.
            source: Text<'a> = "codex.approval.source", Operational;
            /// Why nobody is left to answer: `client_closed`, `server_exited` or `killed`.
            end_reason: Option<Text<'a>> = "codex.approval.end_reason", Operational;
            /// From question to answer, seconds.
            wait_s: Option<f64> = "codex.approval.duration_s", Operational;
        }

        /// A review asked for with `review/start` came to its end.
        ReviewCompleted = "codex.review.completed", "factline::review", INFO, failing error_type {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The review's turn, as `review/start` answered it.
            turn_id: Text<'a> = "codex.turn.id", Id;
            /// `completed`, `failed` or `interrupted`.
            status: Text<'a> = "codex.review.status", Operational;
            /// What was reviewed: `uncommittedChanges`, `commit`, `baseBranch`, `custom`.
            review_target: Option<Text<'a>> = "codex.review.target", Operational;
            /// How long it took, seconds.
            duration_s: Option<f64> = "codex.review.duration_s", Operational;
            /// Why it failed.
            error_type: Option<Text<'a>> = "error.type", Operational;
            /// What the review found.
            findings: Option<Text<'a>> = "codex.review.findings", Content(Messages);
        }

        /// The guardian, another agent, decided in the user's place.
        GuardianReviewed = "codex.guardian.reviewed", "factline::guardian", INFO {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
            /// The call that was reviewed.
            call_id: Option<Text<'a>> = "gen_ai.tool.call.id", Id;
            /// The review.
            review_id: Option<Text<'a>> = "codex.guardian.review_id", Id;
            /// `approved`, `denied`, `timedOut` or `aborted`.
            decision: Text<'a> = "codex.guardian.decision", Operational;
            /// What was asked for.
            subject: Option<Text<'a>> = "codex.guardian.subject", Operational;
            /// Where the action came from, as the server names it.
            action_source: Option<Text<'a>> = "codex.guardian.action_source", Operational;
            /// The tool that was reviewed, where it is one of MCP.
            tool: Option<Text<'a>> = "gen_ai.tool.name", Operational;
            /// How dangerous it was judged.
            risk_level: Option<Text<'a>> = "codex.guardian.risk_level", Operational;
            /// How clearly the user had allowed it.
            user_authorization: Option<Text<'a>> = "codex.guardian.user_authorization", Operational;
            /// Where the decision came from.
            decision_source: Option<Text<'a>> = "codex.guardian.decision_source", Operational;
            /// How long it took, seconds.
            duration_s: Option<f64> = "codex.guardian.duration_s", Operational;
            /// When it began, ms since 1970.
            started_at_ms: Option<u64> = "codex.guardian.started_at_ms", Operational;
            /// When it ended, ms since 1970.
            completed_at_ms: Option<u64> = "codex.guardian.completed_at_ms", Operational;
            /// The guardian's reasons.
            rationale: Option<Text<'a>> = "codex.guardian.rationale", Content(Messages);
        }

        /// A thread's goal was set, changed or cleared.
        GoalChanged = "codex.goal.changed", "factline::goal", INFO {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn that changed it, if it was one.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
            /// `updated` or `cleared`.
            action: Text<'a> = "codex.goal.action", Operational;
            /// `active`, `paused`, `complete`, ...
            status: Option<Text<'a>> = "codex.goal.status", Operational;
            /// Tokens it may use.
            token_budget: Option<i64> = "codex.goal.token_budget", Operational;
            /// Tokens it has used.
            tokens_used: Option<i64> = "codex.goal.tokens_used", Operational;
            /// Time it has used, seconds.
            time_used_s: Option<i64> = "codex.goal.time_used_s", Operational;
            /// When it was set, seconds since 1970.
            created_at: Option<i64> = "codex.goal.created_at", Operational;
            /// When it last changed, seconds since 1970.
            updated_at: Option<i64> = "codex.goal.updated_at", Operational;
            /// What it is.
            objective: Option<Text<'a>> = "codex.goal.objective", Content(Prompts);
        }

        /// A skill was put to use.
        SkillInvoked = "codex.skill.invoked", "factline::skill", INFO {
            /// The thread.
            thread_id: Option<Text<'a>> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
            /// The skill's name.
            skill_name: Text<'a> = "gen_ai.skill.name", Operational;
            /// The skill's id: a hash of where it comes from and its name.
            skill_id: Option<Text<'a>> = "codex.skill.id", Id;
            /// `explicit` or `implicit`.
            invocation_type: Option<Text<'a>> = "codex.skill.invocation_type", Operational;
            /// Where it is defined: `user`, `repo`, `system`, `admin`.
            scope: Option<Text<'a>> = "codex.skill.scope", Operational;
            /// The plugin it belongs to.
            plugin_id: Option<Text<'a>> = "codex.plugin.id", Operational;
            /// Model of the turn.
            model: Option<Text<'a>> = "gen_ai.request.model", Operational;
            /// Product that runs the thread.
            product_client_id: Option<Text<'a>> = "codex.client.product_id", Operational;
            /// Where its text lies.
            path: Option<Text<'a>> = "gen_ai.skill.source.uri", Environment(Paths);
        }

        /// The user named an app.
        AppMentioned = "codex.app.mentioned", "factline::connector", INFO {
            /// The thread.
            thread_id: Option<Text<'a>> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
            /// The connector.
            connector_id: Option<Text<'a>> = "codex.app.connector_id", Operational;
            /// The app's name.
            app_name: Option<Text<'a>> = "codex.app.name", Operational;
            /// `explicit` or `implicit`.
            invocation_type: Option<Text<'a>> = "codex.app.invocation_type", Operational;
            /// Model of the turn.
            model: Option<Text<'a>> = "gen_ai.request.model", Operational;
            /// Product that runs the thread.
            product_client_id: Option<Text<'a>> = "codex.client.product_id", Operational;
        }

        /// A tool of an app was called.
        AppUsed = "codex.app.used", "factline::connector", INFO {
            /// The thread.
            thread_id: Option<Text<'a>> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
            /// The call.
            call_id: Option<Text<'a>> = "gen_ai.tool.call.id", Id;
            /// The connector.
            connector_id: Option<Text<'a>> = "codex.app.connector_id", Operational;
            /// The app's name.
            app_name: Option<Text<'a>> = "codex.app.name", Operational;
            /// `explicit` or `implicit`.
            invocation_type: Option<Text<'a>> = "codex.app.invocation_type", Operational;
            /// Model of the turn.
            model: Option<Text<'a>> = "gen_ai.request.model", Operational;
            /// Product that runs the thread.
            product_client_id: Option<Text<'a>> = "codex.client.product_id", Operational;
        }

        /// A plugin was used in a turn.
        PluginUsed = "codex.plugin.used", "factline::plugin", INFO {
            /// The thread.
            thread_id: Option<Text<'a>> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
            /// The plugin, as `name@marketplace`.
            plugin_id: Text<'a> = "codex.plugin.id", Operational;
            /// Its id at the marketplace.
            remote_plugin_id: Option<Text<'a>> = "codex.plugin.remote_id", Operational;
            /// Its name.
            plugin_name: Option<Text<'a>> = "codex.plugin.name", Operational;
            /// Where it was got.
            marketplace: Option<Text<'a>> = "codex.plugin.marketplace", Operational;
            /// Whether it brings skills.
            has_skills: Option<bool> = "codex.plugin.has_skills", Operational;
            /// MCP servers it brings.
            mcp_server_count: Option<u64> = "codex.plugin.mcp_server_count", Operational;
            /// Connectors it brings.
            connector_ids: List<'a> = "codex.plugin.connector_ids", Operational;
            /// Names of the MCP servers it brings.
            mcp_servers: List<'a> = "codex.plugin.mcp_server_names", Operational;
            /// Model of the turn.
            model: Option<Text<'a>> = "gen_ai.request.model", Operational;
            /// Product that runs the thread.
            product_client_id: Option<Text<'a>> = "codex.client.product_id", Operational;
        }

        /// A plugin was installed, uninstalled, enabled or disabled.
        PluginStateChanged = "codex.plugin.state_changed", "factline::plugin", INFO {
            /// The plugin, as `name@marketplace`.
            plugin_id: Text<'a> = "codex.plugin.id", Operational;
            /// `installed`, `uninstalled`, `enabled` or `disabled`.
            state: Text<'a> = "codex.plugin.state", Operational;
            /// False where the server itself makes no event of it: a setting whose key was quoted.
            reported: Option<bool> = "codex.plugin.reported", Operational;
            /// Its id at the marketplace.
            remote_plugin_id: Option<Text<'a>> = "codex.plugin.remote_id", Operational;
            /// Its name.
            plugin_name: Option<Text<'a>> = "codex.plugin.name", Operational;
            /// Where it was got.
            marketplace: Option<Text<'a>> = "codex.plugin.marketplace", Operational;
            /// Whether it brings skills.
            has_skills: Option<bool> = "codex.plugin.has_skills", Operational;
            /// MCP servers it brings.
            mcp_server_count: Option<u64> = "codex.plugin.mcp_server_count", Operational;
            /// Connectors it brings.
            connector_ids: List<'a> = "codex.plugin.connector_ids", Operational;
            /// Names of the MCP servers it brings.
            mcp_servers: List<'a> = "codex.plugin.mcp_server_names", Operational;
            /// Product that did it.
            product_client_id: Option<Text<'a>> = "codex.client.product_id", Operational;
        }

        /// A plugin could not be installed.
        PluginInstallFailed = "codex.plugin.install_failed", "factline::plugin", WARN {
            /// The plugin, as `name@marketplace`.
            plugin_id: Option<Text<'a>> = "codex.plugin.id", Operational;
            /// Its name.
            plugin_name: Option<Text<'a>> = "codex.plugin.name", Operational;
            /// Where it was to be got.
            marketplace: Option<Text<'a>> = "codex.plugin.marketplace", Operational;
            /// Whether it brings skills.
            has_skills: Option<bool> = "codex.plugin.has_skills", Operational;
            /// MCP servers it brings.
            mcp_server_count: Option<u64> = "codex.plugin.mcp_server_count", Operational;
            /// Connectors it brings.
            connector_ids: List<'a> = "codex.plugin.connector_ids", Operational;
            /// What went wrong.
            error_type: Text<'a> = "error.type", Operational;
            /// Product that tried.
            product_client_id: Option<Text<'a>> = "codex.client.product_id", Operational;
        }

        /// Another agent's configuration was imported; one fact for each kind of item.
        ImportCompleted = "codex.import.completed", "factline::import", INFO {
            /// The import.
            import_id: Text<'a> = "codex.import.id", Id;
            /// Kind of item.
            item_type: Text<'a> = "codex.import.item_type", Operational;
            /// Items imported.
            success_count: u64 = "codex.import.success_count", Operational;
            /// Items that failed.
            failure_count: u64 = "codex.import.failure_count", Operational;
            /// Agent it came from.
            provider: Option<Text<'a>> = "codex.import.provider", Operational;
            /// Where the import was started.
            source: Option<Text<'a>> = "codex.import.source", Operational;
            /// Product that did it.
            product_client_id: Option<Text<'a>> = "codex.client.product_id", Operational;
        }

        /// The server told how it is logged in.
        AccountChanged = "codex.account.changed", "factline::account", DEBUG {
            /// The connection it was told on.
            connection_id: u64 = "codex.connection.id", Id;
            /// How it is logged in: `chatgpt`, `apikey`, ...; absent where it is not.
            auth_mode: Option<Text<'a>> = "codex.account.auth_mode", Operational;
            /// Address of the account.
            email: Option<Text<'a>> = "user.email", Environment(User);
        }

        /// How much of the account's rate limit is used, one fact for each of its windows.
        RateLimitReported = "codex.rate_limit.reported", "factline::limit", DEBUG {
            /// The limit.
            limit_id: Option<Text<'a>> = "codex.rate_limit.id", Operational;
            /// `primary` or `secondary`.
            window: Text<'a> = "codex.rate_limit.window", Operational;
            /// How much of it is used, percent.
            used_percent: Option<f64> = "codex.rate_limit.used_percent", Operational;
            /// Length of the window, minutes.
            window_minutes: Option<i64> = "codex.rate_limit.window_minutes", Operational;
            /// When the window begins anew, seconds since 1970.
            resets_at: Option<i64> = "codex.rate_limit.resets_at", Operational;
        }

        /// A model, as the server lists it.
        ModelListed = "codex.model.listed", "factline::model", DEBUG {
            /// The model.
            model: Text<'a> = "gen_ai.request.model", Operational;
            /// How hard it thinks unless it is told otherwise.
            default_effort: Option<Text<'a>> = "codex.model.default_reasoning_level", Operational;
        }

        /// The server knows nothing of a thread's model, and works with assumptions.
        ModelUnknown = "codex.model.unknown", "factline::model", DEBUG {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The model.
            model: Option<Text<'a>> = "gen_ai.request.model", Operational;
        }

        /// A thread is spoken with.
        VoiceStarted = "codex.voice.started", "factline::voice", INFO {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The session of speech.
            voice_session_id: Option<Text<'a>> = "codex.voice.session_id", Id;
        }

        /// An MCP server asked the user something while one of its tools ran.
        ToolElicited = "codex.tool.elicited", "factline::elicitation", DEBUG {
            /// The thread.
            thread_id: Option<Text<'a>> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
            /// The call, where the server runs only one.
            call_id: Option<Text<'a>> = "gen_ai.tool.call.id", Id;
            /// `auth_or_link` or `approval`.
            elicitation: Text<'a> = "codex.mcp.elicitation_type", Operational;
        }

        /// One item of another agent's configuration could not be imported.
        ImportFailed = "codex.import.failed", "factline::import", WARN {
            /// The import.
            import_id: Text<'a> = "codex.import.id", Id;
            /// Kind of item.
            item_type: Text<'a> = "codex.import.item_type", Operational;
            /// Where it failed.
            stage: Option<Text<'a>> = "codex.import.failure_stage", Operational;
            /// What went wrong.
            error_type: Text<'a> = "error.type", Operational;
            /// What went wrong in detail.
            sub_error_type: Option<Text<'a>> = "codex.import.sub_error_type", Operational;
            /// Agent it came from.
            provider: Option<Text<'a>> = "codex.import.provider", Operational;
            /// Where the import was started.
            source: Option<Text<'a>> = "codex.import.source", Operational;
            /// Product that did it.
            product_client_id: Option<Text<'a>> = "codex.client.product_id", Operational;
        }

        /// How a turn's time was spent, and what it asked of the model; only a host can tell, before the turn ends.
        TurnProfile = "codex.turn.profile", "factline::profile", DEBUG {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Text<'a> = "codex.turn.id", Id;
            /// Until the first request to the model, ms.
            before_first_sampling_ms: u64 = "codex.turn.before_first_sampling_ms", Operational;
            /// In requests to the model, ms.
            sampling_ms: u64 = "codex.turn.sampling_ms", Operational;
            /// In compaction, ms.
            compaction_ms: u64 = "codex.turn.compaction_ms", Operational;
            /// Between requests, and in no tool, ms.
            between_sampling_overhead_ms: u64 = "codex.turn.between_sampling_overhead_ms", Operational;
            /// Waiting for tools, ms.
            tool_blocking_ms: u64 = "codex.turn.tool_blocking_ms", Operational;
            /// After the last request, ms.
            after_last_sampling_ms: u64 = "codex.turn.after_last_sampling_ms", Operational;
            /// Requests to the model.
            sampling_request_count: u64 = "codex.turn.sampling_request_count", Operational;
            /// Requests that were tried again.
            sampling_retry_count: u64 = "codex.turn.sampling_retry_count", Operational;
            /// Changes between requests of the tools the model was offered.
            tools_change_count: u64 = "codex.turn.tools_change_count", Operational;
        }

        /// The error of a turn by its own name; only a host can tell, before the turn ends.
        TurnCodexError = "codex.turn.codex_error", "factline::fault", WARN {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Text<'a> = "codex.turn.id", Id;
            /// Kind of error, finer than the protocol names it.
            error_kind: Text<'a> = "codex.error.kind", Operational;
            /// Status the model's server answered with.
            http_status: Option<u64> = "http.response.status_code", Operational;
            /// Length of the window whose limit was reached, minutes.
            usage_limit_window_minutes: Option<u64> = "codex.error.usage_limit_window_minutes", Operational;
        }

        /// An image was made ready for the model; only a host can tell, before the turn ends.
        ImagePreparation = "codex.image.preparation", "factline::image", DEBUG {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Text<'a> = "codex.turn.id", Id;
            /// Whose message it is in: `user`.
            message_role: Option<Text<'a>> = "codex.image.message_role", Operational;
            /// The call whose output it is in.
            item_id: Option<Text<'a>> = "gen_ai.tool.call.id", Id;
            /// `high` or `original`.
            effective_detail: Text<'a> = "codex.image.effective_detail", Operational;
            /// Width it had, pixels.
            source_width: u64 = "codex.image.source_width", Operational;
            /// Height it had, pixels.
            source_height: u64 = "codex.image.source_height", Operational;
            /// Width it was given, pixels.
            prepared_width: u64 = "codex.image.prepared_width", Operational;
            /// Height it was given, pixels.
            prepared_height: u64 = "codex.image.prepared_height", Operational;
        }

        /// A call of a tool that is no item ended: `get_goal`, `update_plan`, ...; only a host can tell.
        ControlToolCall = "codex.control_tool.call", "factline::control", INFO {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Text<'a> = "codex.turn.id", Id;
            /// The turn that caused it; absent where it is that of the turn.
            root_id: Option<Text<'a>> = "codex.turn.root_id", Id;
            /// Why its turn began; absent where it is that of the turn.
            trigger: Option<Text<'a>> = "codex.turn.trigger", Operational;
            /// The call.
            call_id: Text<'a> = "gen_ai.tool.call.id", Id;
            /// The cell of code it was called from.
            cell_id: Option<Text<'a>> = "codex.control_tool.cell_id", Id;
            /// Name of the tool.
            tool: Text<'a> = "gen_ai.tool.name", Operational;
            /// When it began, ms since 1970.
            started_at_ms: u64 = "codex.control_tool.started_at_ms", Operational;
            /// When it ended, ms since 1970.
            completed_at_ms: u64 = "codex.control_tool.completed_at_ms", Operational;
            /// `completed`, `failed`, `rejected` or `interrupted`.
            status: Text<'a> = "codex.item.status", Operational;
        }

        /// A guardian of the second version classified an action; only a host can tell.
        GuardianV2Classification = "codex.guardian_v2.classification", "factline::guardian", INFO {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Text<'a> = "codex.turn.id", Id;
            /// The call that was classified.
            call_id: Option<Text<'a>> = "gen_ai.tool.call.id", Id;
            /// Model that classified.
            model: Option<Text<'a>> = "gen_ai.request.model", Operational;
            /// When, ms since 1970; absent where it is when the fact is told.
            occurred_at_ms: Option<u64> = "codex.guardian.occurred_at_ms", Operational;
            /// What came of it.
            outcome: Text<'a> = "codex.guardian.outcome", Operational;
            /// How dangerous it was judged.
            risk_level: Option<Text<'a>> = "codex.guardian.risk_level", Operational;
            /// How long it took, ms.
            duration_ms: u64 = "codex.guardian.duration_ms", Operational;
        }

        /// A guardian of the second version decided at once; only a host can tell.
        GuardianV2FastDecision = "codex.guardian_v2.fast_decision", "factline::guardian", INFO {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Text<'a> = "codex.turn.id", Id;
            /// The call that was decided on.
            call_id: Option<Text<'a>> = "gen_ai.tool.call.id", Id;
            /// Model that decided.
            model: Option<Text<'a>> = "gen_ai.request.model", Operational;
            /// When, ms since 1970; absent where it is when the fact is told.
            occurred_at_ms: Option<u64> = "codex.guardian.occurred_at_ms", Operational;
            /// What it decided.
            decision: Text<'a> = "codex.guardian.decision", Operational;
        }

        /// Hints for a thread were looked for; only a host can tell.
        ThreadHintStatus = "codex.thread.hint_status", "factline::thread", INFO {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// `succeeded` or `failed`.
            status: Text<'a> = "codex.thread.hint.status", Operational;
            /// When, ms since 1970; absent where it is when the fact is told.
            occurred_at_ms: Option<u64> = "codex.thread.hint.occurred_at_ms", Operational;
        }

        /// The model suggested plugins, and the user was asked; only a host can tell.
        PluginInstallRequested = "codex.plugin.install_requested", "factline::plugin", INFO {
            /// The suggestion.
            suggestion_id: Text<'a> = "codex.plugin.suggestion_id", Id;
            /// The plugins, each as JSON in the words of the event: `plugin_id`, `remote_plugin_id`,
            /// `plugin_name`, `connector_ids`.
            plugins: List<'a> = "codex.plugin.suggested", Operational;
            /// `endpoint_recommendation` or `legacy_discovery`.
            source: Text<'a> = "codex.plugin.suggestion_source", Operational;
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Text<'a> = "codex.turn.id", Id;
            /// Model of the turn.
            model: Option<Text<'a>> = "gen_ai.request.model", Operational;
            /// Product that runs the thread.
            product_client_id: Option<Text<'a>> = "codex.client.product_id", Operational;
        }

        /// A plugin's script reported a number, one fact for each; only a host can tell.
        PluginMeasurement = "codex.plugin.measurement", "factline::plugin", INFO {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Text<'a> = "codex.turn.id", Id;
            /// The call that ran the script.
            call_id: Text<'a> = "gen_ai.tool.call.id", Id;
            /// The plugin, as `name@marketplace`.
            plugin_id: Text<'a> = "codex.plugin.id", Operational;
            /// The run of the script.
            execution_id: Text<'a> = "codex.plugin.execution_id", Id;
            /// What was done: `a-z`, then `a-z`, `0-9` and `_`, at most 64 bytes.
            operation: Text<'a> = "codex.plugin.operation", Operational;
            /// What was measured; a name as before.
            measurement_name: Text<'a> = "codex.plugin.measurement.name", Operational;
            /// The number.
            number_value: f64 = "codex.plugin.measurement.value", Operational;
            /// What it is split by, each as `name=value`; at most 8.
            dimensions: List<'a> = "codex.plugin.measurement.dimensions", Operational;
            /// Model of the turn.
            model: Option<Text<'a>> = "gen_ai.request.model", Operational;
            /// How hard it thinks.
            reasoning_effort: Option<Text<'a>> = "gen_ai.request.reasoning.level", Operational;
            /// Product that runs the thread.
            product_client_id: Option<Text<'a>> = "codex.client.product_id", Operational;
        }

        /// A plugin began to work on an artifact; only a host can tell.
        ArtifactOperation = "codex.artifact.operation", "factline::artifact", INFO {
            /// The thread.
            thread_id: Text<'a> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Text<'a> = "codex.turn.id", Id;
            /// The call that runs the script.
            call_id: Text<'a> = "gen_ai.tool.call.id", Id;
            /// `started`.
            lifecycle: Text<'a> = "codex.artifact.lifecycle", Operational;
            /// When, ms since 1970; absent where it is when the fact is told.
            occurred_at_ms: Option<u64> = "codex.artifact.occurred_at_ms", Operational;
            /// The plugin, as `name@marketplace`.
            plugin_id: Text<'a> = "codex.plugin.id", Operational;
            /// The script, relative to the plugin.
            script: Text<'a> = "codex.plugin.script_path", Operational;
            /// The skill it belongs to.
            skill: Text<'a> = "gen_ai.skill.name", Operational;
            /// Kind of artifact.
            artifact_type: Text<'a> = "codex.artifact.type", Operational;
            /// What is done to it.
            operation: Text<'a> = "codex.artifact.operation_kind", Operational;
            /// Artifacts that are to come out.
            expected_output_count: u64 = "codex.artifact.expected_output_count", Operational;
            /// Format they are to have.
            output_format: Text<'a> = "codex.artifact.output_format", Operational;
            /// Where it runs.
            execution_backend: Text<'a> = "codex.artifact.execution_backend", Operational;
            /// Model of the turn.
            model: Option<Text<'a>> = "gen_ai.request.model", Operational;
            /// Product that runs the thread.
            product_client_id: Option<Text<'a>> = "codex.client.product_id", Operational;
        }

        /// The server reported an error of a turn; it may try again.
        Error = "codex.error", "factline::error", WARN {
            /// The thread.
            thread_id: Option<Text<'a>> = "gen_ai.conversation.id", Id;
            /// The turn.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
            /// Kind of error.
            error_type: Text<'a> = "error.type", Operational;
            /// Status the model's server answered with.
            http_status: Option<u64> = "http.response.status_code", Operational;
            /// Whether the server tries again.
            will_retry: Option<bool> = "codex.error.will_retry", Operational;
            /// What it says.
            message: Option<Text<'a>> = "exception.message", Content(Messages);
        }

        /// A request of the protocol, in either direction.
        Request = "codex.rpc.request", "factline::rpc", DEBUG {
            /// The connection.
            connection_id: u64 = "codex.connection.id", Id;
            /// The request's id, in its sender's space of ids.
            request_id: Option<Text<'a>> = "jsonrpc.request.id", Id;
            /// Who sent it: `client` or `server`.
            sender: Text<'a> = "codex.rpc.sender", Operational;
            /// Method, `_OTHER` for one that is not known.
            method: Text<'a> = "rpc.method", Operational;
            /// The method that is not known, at most 128 bytes.
            original_method: Option<Text<'a>> = "rpc.method_original", Operational;
            /// The thread it is about.
            thread_id: Option<Text<'a>> = "gen_ai.conversation.id", Id;
            /// The turn it is about.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
        }

        /// A response of the protocol, in either direction.
        Response = "codex.rpc.response", "factline::rpc", DEBUG, failing error_type {
            /// The connection.
            connection_id: u64 = "codex.connection.id", Id;
            /// The request's id, in the space of ids of the request's sender.
            request_id: Option<Text<'a>> = "jsonrpc.request.id", Id;
            /// Who sent the response: `client` or `server`.
            sender: Text<'a> = "codex.rpc.sender", Operational;
            /// Method of the request; absent if there was no such request.
            method: Option<Text<'a>> = "rpc.method", Operational;
            /// The thread the request was about.
            thread_id: Option<Text<'a>> = "gen_ai.conversation.id", Id;
            /// From request to response, seconds.
            duration_s: Option<f64> = "codex.rpc.duration_s", Operational;
            /// JSON-RPC error code.
            error_code: Option<Text<'a>> = "rpc.response.status_code", Operational;
            /// The same where it is an error.
            error_type: Option<Text<'a>> = "error.type", Operational;
            /// What the error says.
            message: Option<Text<'a>> = "exception.message", Content(Messages);
        }

        /// A notification of the protocol, in either direction.
        Notification = "codex.rpc.notification", "factline::rpc", DEBUG {
            /// The connection.
            connection_id: u64 = "codex.connection.id", Id;
            /// Who sent it: `client` or `server`.
            sender: Text<'a> = "codex.rpc.sender", Operational;
            /// Method, `_OTHER` for one that is not known.
            method: Text<'a> = "rpc.method", Operational;
            /// The method that is not known, at most 128 bytes.
            original_method: Option<Text<'a>> = "rpc.method_original", Operational;
            /// The thread it is about.
            thread_id: Option<Text<'a>> = "gen_ai.conversation.id", Id;
            /// The turn it is about.
            turn_id: Option<Text<'a>> = "codex.turn.id", Id;
        }

        /// A piece of streamed text or output went by. Never becomes telemetry.
        Delta = "codex.rpc.delta", "factline::delta", TRACE, exported false {
            /// The connection.
            connection_id: u64 = "codex.connection.id", Id;
            /// Method.
            method: Text<'a> = "rpc.method", Operational;
            /// Bytes of the message.
            size: u64 = "codex.rpc.size", Operational;
        }
    }
    lasting {
        /// A client's connection, from the moment its `initialize` was sent.
        ConnectionStart .. ConnectionEnd = "codex.connection", "factline::client", INFO,
        shown "initialize", kind 2, logs(Some("codex.client.initialized"), None),
        constant { "rpc.system.name" = "jsonrpc", "rpc.method" = "initialize" } {
            keys {
                /// The connection, counted from 1.
                connection_id: u64 = "codex.connection.id", Id;
            }
            start {
                /// The request that opened it.
                request_id: Option<Text<'a>> = "jsonrpc.request.id", Id;
                /// `stdio`, `websocket`, `unix` or `in_process`.
                transport: Text<'a> = "codex.rpc.transport", Operational;
                /// The same in OpenTelemetry's words: `pipe`, `tcp`, `unix`.
                network_transport: Option<Text<'a>> = "network.transport", Operational;
                /// Name of the client.
                client_name: Option<Text<'a>> = "user_agent.name", Operational;
                /// Version of the client.
                client_version: Option<Text<'a>> = "user_agent.version", Operational;
                /// Product that first connected to the process.
                product_client_id: Option<Text<'a>> = "codex.client.product_id", Operational;
                /// Whether the client asked for the experimental API.
                experimental_api: Option<bool> = "codex.client.experimental_api", Operational;
                /// Notifications the client does not want.
                opted_out: List<'a> = "codex.client.opted_out", Operational;
                /// How the server calls itself towards others.
                user_agent: Option<Text<'a>> = "user_agent.original", Operational;
                /// Version of the server.
                server_version: Option<Text<'a>> = "codex.server.version", Operational;
                /// Kind of operating system.
                os_type: Option<Text<'a>> = "os.type", Operational;
                /// Name of the operating system.
                os_name: Option<Text<'a>> = "os.name", Operational;
                /// Version of the operating system.
                os_version: Option<Text<'a>> = "os.version", Operational;
                /// Processor architecture.
                arch: Option<Text<'a>> = "host.arch", Operational;
            }
            end {
                /// `client_closed`, `server_exited` or `killed`.
                ended: Text<'a> = "codex.connection.end", Operational;
            }
        }

        /// A turn: the agent works on one request until it is done, fails or is interrupted.
        TurnStart .. TurnEnd = "codex.turn", "factline::turn", INFO,
        shown "invoke_agent {gen_ai.agent.name}", kind 1,
        logs(Some("codex.turn.started"), Some("codex.turn.completed")),
        constant { "gen_ai.operation.name" = "invoke_agent" } {
            keys {
                /// The thread.
                thread_id: Text<'a> = "gen_ai.conversation.id", Id;
                /// The turn; of a review the one that `review/start` answered.
                turn_id: Text<'a> = "codex.turn.id", Id;
            }
            start {
                /// Name of the agent: `codex`, a subagent's role, or `review`.
                agent: Text<'a> = "gen_ai.agent.name", Operational;
                /// Of a review the id that its `turn/started` has.
                inner_id: Option<Text<'a>> = "codex.turn.inner_id", Id;
                /// The turn that caused it.
                root_id: Option<Text<'a>> = "codex.turn.root_id", Id;
                /// The connection that asked for it.
                connection_id: Option<u64> = "codex.connection.id", Id;
                /// The request that asked for it.
                request_id: Option<Text<'a>> = "jsonrpc.request.id", Id;
                /// Its thread's parent.
                parent_thread_id: Option<Text<'a>> = "codex.thread.parent_id", Id;
                /// Model of the thread.
                model: Option<Text<'a>> = "gen_ai.request.model", Operational;
                /// `default` or `queued`.
                submission_type: Option<Text<'a>> = "codex.turn.submission_type", Operational;
                /// From submission to start, seconds.
                queue_s: Option<f64> = "codex.turn.queue_duration_s", Operational;
                /// Why it began without a request: `goal`, `queue`, ...
                trigger: Option<Text<'a>> = "codex.turn.trigger", Operational;
                /// `regular`, `review`, `compaction` (asked for by itself) or `user_shell`.
                kind: Option<Text<'a>> = "codex.turn.kind", Operational;
                /// Turns of the thread observed before it.
                index: Option<u64> = "codex.turn.index", Operational;
                /// When the server says it began, seconds since 1970.
                started_at: Option<i64> = "codex.turn.started_at", Operational;
                /// Images in the prompt.
                image_count: Option<u64> = "codex.input.image_count", Operational;
                /// The prompt, as JSON in the form of the GenAI conventions.
                prompt: Option<Text<'a>> = "gen_ai.input.messages", Content(Prompts);
                /// Working directory of the thread.
                cwd: Option<Text<'a>> = "process.working_directory", Environment(Paths);
                /// Address of the thread's repository.
                repository: Option<Text<'a>> = "vcs.repository.url.full", Environment(Repository);
                /// Branch when the thread began.
                branch: Option<Text<'a>> = "vcs.ref.head.name", Environment(Repository);
                /// Commit when the thread began.
                revision: Option<Text<'a>> = "vcs.ref.head.revision", Environment(Repository);
            }
            end {
                /// `completed`, `failed` or `interrupted`.
                status: Text<'a> = "codex.turn.status", Operational;
                /// False where nobody saw it end.
                end_observed: Option<bool> = "codex.turn.end_observed", Operational;
                /// Why nobody saw it end: `client_closed`, `server_exited`, `killed` or `thread_closed`.
                end_reason: Option<Text<'a>> = "codex.turn.end_reason", Operational;
                /// How long the server says it took, seconds.
                duration_s: Option<f64> = "codex.turn.duration_s", Operational;
                /// When the server says it ended, seconds since 1970.
                completed_at: Option<i64> = "codex.turn.completed_at", Operational;
                /// When the server says at its end that it began, seconds since 1970.
                began_at: Option<i64> = "codex.turn.began_at", Operational;
                /// Why it failed.
                error_type: Option<Text<'a>> = "error.type", Operational;
                /// Status the model's server answered with.
                http_status: Option<u64> = "http.response.status_code", Operational;
                /// The error as JSON in the words of the protocol: kind, and status where it has one.
                error_info: Option<Text<'a>> = "codex.turn.error_info", Operational;
                /// Kind of error, finer than the protocol names it.
                error_kind: Option<Text<'a>> = "codex.error.kind", Operational;
                /// Input tokens, cached ones included.
                input: Option<u64> = "gen_ai.usage.input_tokens", Operational;
                /// Output tokens, reasoning included.
                output: Option<u64> = "gen_ai.usage.output_tokens", Operational;
                /// Input tokens that came from the cache.
                cached: Option<u64> = "gen_ai.usage.cache_read.input_tokens", Operational;
                /// Input tokens written to the cache.
                cache_write: Option<u64> = "gen_ai.usage.cache_write.input_tokens", Operational;
                /// Output tokens spent on reasoning.
                reasoning: Option<u64> = "gen_ai.usage.reasoning.output_tokens", Operational;
                /// Tokens that fit the model's window.
                context_window: Option<u64> = "codex.usage.context_window", Operational;
                /// Inputs that steered it.
                steer_count: Option<u64> = "codex.turn.steer_count", Operational;
                /// Tool calls that completed in it.
                tool_count: Option<u64> = "codex.turn.tool_count", Operational;
                /// Lines that its changes add, by its last diff.
                lines_added: Option<u64> = "codex.turn.lines.added", Operational;
                /// Lines that its changes remove, by its last diff.
                lines_removed: Option<u64> = "codex.turn.lines.removed", Operational;
                /// Hash of the repository its thread works in.
                repository_hash: Option<Text<'a>> = "codex.repository.hash", Id;
                /// When a client asked to interrupt it, ms since 1970.
                interrupt_requested_at_ms: Option<u64> = "codex.turn.interrupt_requested_at_ms", Operational;
                /// From start to the first text of the agent, seconds.
                first_token_s: Option<f64> = "codex.turn.time_to_first_token_s", Operational;
                /// What the error says.
                message: Option<Text<'a>> = "exception.message", Content(Messages);
                /// What the agent said, as JSON in the form of the GenAI conventions.
                answer: Option<Text<'a>> = "gen_ai.output.messages", Content(Messages);
                /// What it thought, as far as the server shows it: a JSON list of `reasoning` parts.
                reasoned: Option<Text<'a>> = "codex.turn.reasoning", Content(Reasoning);
                /// The diff of all its changes.
                diff: Option<Text<'a>> = "codex.turn.diff", Content(Output);
            }
        }

        /// A call of a tool: a command, a patch, an MCP tool, a search, an image, another agent.
        ToolStart .. ToolEnd = "codex.tool", "factline::tool", INFO,
        shown "execute_tool {gen_ai.tool.name}", kind 1, logs(None, None),
        constant { "gen_ai.operation.name" = "execute_tool" } {
            keys {
                /// The thread.
                thread_id: Text<'a> = "gen_ai.conversation.id", Id;
                /// The turn.
                turn_id: Text<'a> = "codex.turn.id", Id;
                /// The call.
                call_id: Text<'a> = "gen_ai.tool.call.id", Id;
            }
            start {
                /// Name of the tool.
                tool: Text<'a> = "gen_ai.tool.name", Operational;
                /// `function`, or `extension` where the model's side runs it.
                tool_type: Option<Text<'a>> = "gen_ai.tool.type", Operational;
                /// Type of the item in the protocol.
                item_type: Text<'a> = "codex.item.type", Operational;
                /// Name of the agent that calls.
                agent: Option<Text<'a>> = "gen_ai.agent.name", Operational;
                /// MCP method.
                mcp_method: Option<Text<'a>> = "mcp.method.name", Operational;
                /// MCP server.
                mcp_server: Option<Text<'a>> = "codex.mcp.server.name", Operational;
                /// The plugin that brings the tool.
                plugin_id: Option<Text<'a>> = "codex.plugin.id", Operational;
                /// The app behind the tool.
                connector_id: Option<Text<'a>> = "codex.app.connector_id", Operational;
                /// Arguments as JSON: those of an MCP or dynamic tool as they are, else `command`, `query` or `prompt`.
                arguments: Option<Text<'a>> = "gen_ai.tool.call.arguments", Content(Arguments);
                /// The command as the server shows it.
                command_line: Option<Text<'a>> = "process.command_line", Content(Arguments);
                /// Working directory.
                cwd: Option<Text<'a>> = "process.working_directory", Environment(Paths);
                /// The file that is looked at.
                path: Option<Text<'a>> = "file.path", Environment(Paths);
            }
            end {
                /// `completed`, `failed`, `declined` or `interrupted`.
                status: Text<'a> = "codex.item.status", Operational;
                /// False where nobody saw it end.
                end_observed: Option<bool> = "codex.item.end_observed", Operational;
                /// Why it failed: `exit_code`, `denied`, `tool_error`, ...
                error_type: Option<Text<'a>> = "error.type", Operational;
                /// What the tool itself took, seconds.
                execution_s: Option<f64> = "codex.tool.execution_duration_s", Operational;
                /// Exit code of the command.
                exit_code: Option<i64> = "process.exit.code", Operational;
                /// Who asked for the command: `agent`, `userShell`, `unifiedExecStartup`, ...
                source: Option<Text<'a>> = "codex.command.source", Operational;
                /// Script of the plugin that was run, relative to the plugin.
                script: Option<Text<'a>> = "codex.plugin.script_path", Operational;
                /// Whether the tool says that it succeeded.
                success: Option<bool> = "codex.tool.success", Operational;
                /// Whether the MCP server answered with an error.
                mcp_error: Option<bool> = "codex.mcp.error", Operational;
                /// Parts of the output.
                output_count: Option<u64> = "codex.tool.output.count", Operational;
                /// Parts of the output that are text.
                output_text_count: Option<u64> = "codex.tool.output.text_count", Operational;
                /// Parts of the output that are images.
                output_image_count: Option<u64> = "codex.tool.output.image_count", Operational;
                /// Parts of the output that are audio.
                output_audio_count: Option<u64> = "codex.tool.output.audio_count", Operational;
                /// Threads of the agents it was about.
                agents: List<'a> = "codex.subagent.thread_ids", Id;
                /// Model of the agent it started.
                agent_model: Option<Text<'a>> = "codex.subagent.model", Operational;
                /// How hard that agent thinks.
                agent_effort: Option<Text<'a>> = "codex.subagent.reasoning_level", Operational;
                /// The thread that called the agents.
                sender_id: Option<Text<'a>> = "codex.subagent.sender_thread_id", Id;
                /// Agents whose state the call tells.
                agent_count: Option<u64> = "codex.subagent.state_count", Operational;
                /// Those of them that completed.
                agents_completed: Option<u64> = "codex.subagent.completed_count", Operational;
                /// Those of them that failed, were shut down or not found.
                agents_failed: Option<u64> = "codex.subagent.failed_count", Operational;
                /// Files added.
                added: Option<u64> = "codex.file_change.added_count", Operational;
                /// Files changed.
                modified: Option<u64> = "codex.file_change.modified_count", Operational;
                /// Files deleted.
                deleted: Option<u64> = "codex.file_change.deleted_count", Operational;
                /// Files moved.
                moved: Option<u64> = "codex.file_change.moved_count", Operational;
                /// Lines added.
                lines_added: Option<u64> = "codex.file_change.lines.added", Operational;
                /// Lines removed.
                lines_removed: Option<u64> = "codex.file_change.lines.removed", Operational;
                /// Actions the command was parsed into, by kind: `read`, `listFiles`, `search`, `unknown`.
                actions: List<'a> = "codex.command.actions", Operational;
                /// Kind of web search.
                search_action: Option<Text<'a>> = "codex.web_search.action", Operational;
                /// Whether a web search had a query.
                query: Option<bool> = "codex.web_search.query_present", Operational;
                /// Queries of a web search.
                query_count: Option<u64> = "codex.web_search.query_count", Operational;
                /// Whether the prompt of an image was revised.
                revised_prompt: Option<bool> = "codex.image.revised_prompt", Operational;
                /// Whether an image was saved.
                saved: Option<bool> = "codex.image.saved", Operational;
                /// Whether an image has a transparent background.
                transparent: Option<bool> = "codex.image.transparent_background", Operational;
                /// Id of the generation of an image.
                generation_id: Option<Text<'a>> = "codex.image.generation_id", Id;
                /// Output of a command, JSON of an MCP or dynamic tool's result or of the diffs of a patch.
                result: Option<Text<'a>> = "gen_ai.tool.call.result", Content(Output);
                /// What an MCP tool's error says.
                message: Option<Text<'a>> = "exception.message", Content(Output);
                /// What was searched for.
                search_query: Option<Text<'a>> = "codex.web_search.query", Content(Arguments);
                /// Files it touched.
                paths: List<'a> = "codex.file_change.paths", Environment(Paths);
            }
        }

        /// The thread's history was compacted to fit the model's window.
        CompactionStart .. CompactionEnd = "codex.compaction", "factline::compaction", INFO,
        shown "codex.compaction", kind 1, logs(None, Some("codex.thread.compacted")),
        constant { } {
            keys {
                /// The thread.
                thread_id: Text<'a> = "gen_ai.conversation.id", Id;
                /// The turn.
                turn_id: Text<'a> = "codex.turn.id", Id;
            }
            start {
                /// The item.
                item_id: Text<'a> = "codex.item.id", Id;
                /// `manual` or `auto`.
                trigger: Text<'a> = "codex.compaction.trigger", Operational;
                /// When in a turn: `standalone_turn`, `pre_turn` or `mid_turn`.
                phase: Text<'a> = "codex.compaction.phase", Operational;
                /// Tokens in use before.
                tokens_before: Option<u64> = "codex.compaction.context_tokens.before", Operational;
            }
            end {
                /// `completed`, `failed` or `interrupted`.
                status: Text<'a> = "codex.compaction.status", Operational;
                /// False where nobody saw it end.
                end_observed: Option<bool> = "codex.item.end_observed", Operational;
                /// Why it failed.
                error_type: Option<Text<'a>> = "error.type", Operational;
                /// Kind of error, finer than the protocol names it.
                error_kind: Option<Text<'a>> = "codex.error.kind", Operational;
                /// Status the model's server answered with.
                http_status: Option<u64> = "http.response.status_code", Operational;
                /// Tokens in use after.
                tokens_after: Option<u64> = "codex.compaction.context_tokens.after", Operational;
            }
        }

        /// A hook of the user ran.
        HookStart .. HookEnd = "codex.hook", "factline::hook", INFO,
        shown "codex.hook {codex.hook.event}", kind 1, logs(None, Some("codex.hook.completed")),
        constant { } {
            keys {
                /// The thread.
                thread_id: Text<'a> = "gen_ai.conversation.id", Id;
                /// The turn.
                turn_id: Option<Text<'a>> = "codex.turn.id", Id;
                /// The event it hangs on: `sessionStart`, `preToolUse`, ...
                event: Text<'a> = "codex.hook.event", Operational;
                /// Occurrence of this run of this hook on the thread, counted from 0.
                occurrence: u64 = "codex.hook.occurrence", Id;
            }
            start {
                /// `command`, `prompt` or `agent`.
                handler_type: Option<Text<'a>> = "codex.hook.handler_type", Operational;
                /// `sync` or `async`.
                execution_mode: Option<Text<'a>> = "codex.hook.execution_mode", Operational;
                /// `thread` or `turn`.
                scope: Option<Text<'a>> = "codex.hook.scope", Operational;
                /// Who set it up: `user`, `project`, `plugin`, ...
                source: Option<Text<'a>> = "codex.hook.source", Operational;
                /// File it is defined in.
                path: Option<Text<'a>> = "codex.hook.path", Environment(Paths);
            }
            end {
                /// `completed`, `failed`, `blocked`, `stopped` or `interrupted`.
                status: Text<'a> = "codex.hook.status", Operational;
                /// False where nobody saw it end.
                end_observed: Option<bool> = "codex.item.end_observed", Operational;
                /// Why it failed.
                error_type: Option<Text<'a>> = "error.type", Operational;
                /// How long the server says it took, seconds.
                duration_s: Option<f64> = "codex.hook.duration_s", Operational;
            }
        }
    }
}

/// The entry whose event or span has this name.
pub fn entry(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().copied().find(|entry| entry.name == name)
}
