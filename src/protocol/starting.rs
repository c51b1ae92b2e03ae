//! Turns that were asked for and have not started: what their start will need to know.

use serde_json::value::RawValue;

use super::connection::Asked;
use super::frame::{Answer, RequestId};
use super::wire::{
    Input, TurnNotice, TurnParams, TurnResult, label, names, network_access, owned, read, some, text,
};
use super::{Now, Observer, bounded, seconds};
use crate::fact::vocabulary::TurnQueued;
use crate::fact::{Point, Text};

/// A `turn/start` whose turn has not started.
#[derive(Debug, Default, Clone)]
pub(super) struct Starting {
    pub request: Option<String>,
    pub connection: u64,
    pub at: u64,
    pub turn: Option<String>,
    pub trigger: Option<String>,
    pub images: u64,
    pub prompt: Option<String>,
    pub carrier: Option<(u128, u64, u8)>,
    pub config: Config,
    pub uses: Vec<super::known::Use>,
}

/// What a request says of the turn it asks for.
#[derive(Debug, Default, Clone)]
pub(super) struct Config {
    pub model: Option<String>,
    pub effort: Option<String>,
    pub summary: Option<String>,
    pub service_tier: Option<String>,
    /// Of this turn alone.
    pub tier_of_turn: Option<String>,
    pub personality: Option<String>,
    pub approval_policy: Option<String>,
    pub approvals_reviewer: Option<String>,
    pub sandbox_mode: Option<String>,
    pub network_access: Option<bool>,
    pub collaboration_mode: Option<String>,
    pub disabled_plugins: Option<Vec<String>>,
    pub workspace_kind: Option<String>,
    pub source: Option<String>,
}

impl Observer {
    /// What the parameters of a request say of the turn it is for.
    pub(super) fn starting(&mut self, connection: u64, now: Now, asked: &Asked) -> Starting {
        let params: TurnParams<'_> = asked.read();
        let input = params.input.as_deref().unwrap_or_default();
        let metadata = params.responsesapi_client_metadata.as_ref();
        let prompt = self.input(input);
        let sandbox_mode = label(&params.sandbox_policy);
        Starting {
            request: None,
            connection,
            at: now.observed,
            turn: None,
            trigger: owned(&params.turn_trigger),
            images: image_count(input),
            prompt,
            carrier: asked.traceparent,
            config: Config {
                model: owned(&params.model),
                effort: owned(&params.effort),
                summary: owned(&params.summary),
                service_tier: owned(&params.service_tier),
                tier_of_turn: owned(&params.service_tier_for_turn),
                personality: owned(&params.personality),
                approval_policy: label(&params.approval_policy),
                approvals_reviewer: owned(&params.approvals_reviewer),
                network_access: network_access(&params.sandbox_policy, sandbox_mode.as_deref()),
                sandbox_mode,
                collaboration_mode: label(&params.collaboration_mode),
                disabled_plugins: names(&params.disabled_plugin_ids),
                workspace_kind: metadata.and_then(|it| owned(&it.workspace_kind)),
                source: metadata.and_then(|it| owned(&it.source)),
            },
            uses: self.uses(input),
        }
    }

    pub(super) fn turn_requested(&mut self, connection: u64, now: Now, asked: &Asked, id: &RequestId) {
        let Some(thread) = asked.thread.as_deref() else { return };
        let starting = Starting { request: Some(id.to_string()), ..self.starting(connection, now, asked) };
        let state = self.thread(thread, now);
        // Requests that are never answered must not pile up.
        if state.starting.len() >= 64 {
            state.starting.remove(0);
        }
        state.starting.push(starting);
    }

    pub(super) fn turn_answered(
        &mut self,
        connection: u64,
        now: Now,
        asked: &Asked,
        id: &RequestId,
        answer: &Answer<'_>,
    ) {
        let Some(thread) = asked.thread.as_deref() else { return };
        let request = id.to_string();
        let known = |starting: &Starting| {
            starting.connection == connection && starting.request.as_deref() == Some(&request)
        };
        let Some(state) = self.threads.get_mut(thread) else { return };
        let at = state.starting.iter().position(known);
        let Answer::Result(result) = answer else {
            if let Some(at) = at {
                state.starting.remove(at);
            }
            return;
        };
        let result: TurnResult<'_> = read(Some(result));
        let turn = result.turn.unwrap_or_default();
        let Some(turn_id) = some(&turn.id) else { return };
        let Some(at) = at else {
            // Its turn started before the answer came.
            return;
        };
        if self.turns.contains_key(turn_id) {
            let Some(starting) = self.threads.get_mut(thread).map(|state| state.starting.remove(at)) else {
                return;
            };
            return self.turn_joined(now, thread, turn_id, &starting);
        }
        if let Some(starting) = self.threads.get_mut(thread).and_then(|state| state.starting.get_mut(at)) {
            starting.turn = Some(turn_id.to_owned());
        }
        // A client that does not want `turn/started` still has turns.
        if self.connections.get(&connection).is_some_and(|it| it.opted_out_of_turn_started) {
            let notice = TurnNotice {
                thread_id: Some(super::wire::Word(thread.into())),
                turn: Some(turn),
                ..TurnNotice::default()
            };
            self.turn_started(connection, now, &notice);
        }
    }

    /// The thread was busy: the prompt went into the turn that runs.
    pub(super) fn turn_joined(&mut self, now: Now, thread: &str, turn: &str, starting: &Starting) {
        self.thread(thread, now).hold(&starting.config);
        let fact = TurnQueued {
            thread_id: thread.into(),
            turn_id: Some(turn.into()),
            request_id: starting.request.as_deref().map(Text::from),
            connection_id: Some(starting.connection),
            submission_type: "queued".into(),
            wait_s: Some(seconds(now.observed.saturating_sub(starting.at))),
            image_count: Some(starting.images),
            source: starting.config.source.as_deref().map(Text::from),
            prompt: starting.prompt.as_deref().map(Text::from),
        };
        let place = self.place_of_turn(turn);
        fact.emit(&self.envelope(now, place), self.capture);
    }

    pub(super) fn review_answered(&mut self, asked: &Asked, result: &RawValue) {
        let params: TurnParams<'_> = asked.read();
        let result: TurnResult<'_> = read(Some(result));
        let turn = result.turn.unwrap_or_default();
        let (Some(thread), Some(turn)) = (some(&params.thread_id), some(&turn.id)) else { return };
        let target = params.target.and_then(|target| some(&target.kind).map(|it| bounded(it, 64).to_owned()));
        if let Some(state) = self.threads.get_mut(thread)
            && state.reviews.len() < 64
        {
            state.reviews.push((turn.to_owned(), target));
        }
    }

    /// A turn that begins without `turn/start` was asked for.
    pub(super) fn turn_asked_alone(&mut self, asked: &Asked, what: &'static str) {
        let Some(state) = asked.thread.as_deref().and_then(|thread| self.threads.get_mut(thread)) else {
            return;
        };
        // A command of the user joins the turn that runs.
        if (what == "compaction" || state.active.is_none()) && state.asked_alone.len() < 64 {
            state.asked_alone.push((what, asked.at));
        }
    }

    pub(super) fn turn_refused_alone(&mut self, asked: &Asked, what: &'static str) {
        let Some(state) = asked.thread.as_deref().and_then(|thread| self.threads.get_mut(thread)) else {
            return;
        };
        state.asked_alone.retain(|(other, at)| *other != what || *at != asked.at);
    }
}

pub(super) fn image_count(input: &[Input<'_>]) -> u64 {
    input.iter().filter(|part| matches!(text(&part.kind), "image" | "localImage")).count() as u64
}
