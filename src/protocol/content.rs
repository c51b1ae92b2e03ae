//! Content, where its kind is switched on: prompts, answers, arguments and output, in the forms of the GenAI
//! conventions. Nothing is cut to its final length here: secrets are looked for first, at the emission.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::tool::{change_kind, given};
use super::wire::{Input, Item, TurnParams, some, text};
use super::{Observer, bounded};
use crate::fact::{Class, Kind};

/// The longest text that is kept to be let out; far above what may leave, so that secrets are seen whole.
pub(super) const KEPT: usize = 1 << 20;
/// Messages and thoughts of a turn that are kept.
const MESSAGES: usize = 256;

/// What was said in a turn up to now.
#[derive(Debug, Default)]
pub(super) struct Said {
    messages: Vec<String>,
    thoughts: Vec<String>,
    bytes: usize,
    pub findings: Option<String>,
    pub diff: Option<String>,
}

impl Observer {
    pub(super) fn captures(&self, kind: Kind) -> bool {
        self.capture.allows(Class::Content(kind))
    }

    /// An item that is no span may hold what the agent said.
    pub(super) fn said(&mut self, item: &Item<'_>, turn: &str) {
        let kind = match text(&item.kind) {
            "agentMessage" | "exitedReviewMode" => Kind::Messages,
            "reasoning" => Kind::Reasoning,
            _ => return,
        };
        if !self.captures(kind) {
            return;
        }
        let turn = self.aliases.get(turn).map_or(turn, String::as_str).to_owned();
        let Some(said) = self.turns.get_mut(&turn).map(|turn| &mut turn.said) else { return };
        match text(&item.kind) {
            "agentMessage" => said.message(text(&item.text)),
            "reasoning" => item.summary.iter().flatten().for_each(|part| said.thought(&part.0)),
            _ => said.findings = some(&item.review).map(|found| bounded(found, KEPT).to_owned()),
        }
    }

    /// The input of a turn or steer as a message of the user.
    pub(super) fn input(&self, input: &[Input<'_>]) -> Option<String> {
        self.captures(Kind::Prompts).then(|| {
            let texts = input.iter().filter_map(|part| some(&part.text)).take(64);
            let parts: Vec<Value> = texts.map(|text| part("text", text)).collect();
            json!([{"role": "user", "parts": parts}]).to_string()
        })
    }

    /// The instructions that a client gives with a thread.
    pub(super) fn instructions(&self, params: &TurnParams<'_>) -> Option<String> {
        let all = [some(&params.base_instructions), some(&params.developer_instructions)];
        let parts: Vec<Value> = all.into_iter().flatten().map(|text| part("text", text)).collect();
        (self.captures(Kind::Prompts) && !parts.is_empty()).then(|| Value::Array(parts).to_string())
    }

    pub(super) fn arguments(&self, item: &Item<'_>) -> Option<String> {
        if !self.captures(Kind::Arguments) {
            return None;
        }
        let member = |name: &str, raw: Option<&RawValue>| {
            let value = value(raw).filter(|value| value.as_str() != Some(""))?;
            Some(json!({name: value}).to_string())
        };
        member("command", item.command)
            .or_else(|| item.arguments.filter(|raw| given(Some(*raw))).map(|raw| raw.get().to_owned()))
            .or_else(|| member("query", item.query))
            .or_else(|| member("prompt", item.prompt))
    }

    /// A command as the server shows it: a line, or words.
    pub(super) fn command_line(&self, command: Option<&RawValue>) -> Option<String> {
        let line = match value(command).filter(|_| self.captures(Kind::Arguments))? {
            Value::String(line) => line,
            Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            _ => return None,
        };
        Some(bounded(&line, KEPT).to_owned())
    }

    pub(super) fn search_query(&self, item: &Item<'_>) -> Option<String> {
        if text(&item.kind) != "webSearch" || !self.captures(Kind::Arguments) {
            return None;
        }
        let action = item.action.as_ref();
        let many = action.and_then(|action| action.queries.as_ref()).into_iter().flatten().copied();
        let one = action.and_then(|action| action.query).or(item.query);
        let mut all: Vec<String> = many.chain(one).filter_map(plain).take(64).collect();
        all.dedup();
        (!all.is_empty()).then(|| all.join("\n"))
    }

    pub(super) fn result(&self, item: &Item<'_>) -> Option<String> {
        if !self.captures(Kind::Output) {
            return None;
        }
        match text(&item.kind) {
            "fileChange" => {
                let paths = self.captures(Kind::Paths);
                let each = item.changes.iter().flatten().take(256).map(|change| {
                    let mut said = json!({
                        "kind": bounded(change_kind(change), 32), "diff": bounded(text(&change.diff), KEPT),
                    });
                    if paths && let Some(said) = said.as_object_mut() {
                        said.insert("path".to_owned(), text(&change.path).into());
                    }
                    said
                });
                let changes: Vec<Value> = each.collect();
                (!changes.is_empty()).then(|| json!({"changes": changes}).to_string())
            }
            "dynamicToolCall" => {
                let texts = item.content_items.iter().flatten().filter_map(|part| some(&part.text));
                let parts: Vec<Value> = texts.take(256).map(|text| part("text", text)).collect();
                (!parts.is_empty()).then(|| Value::Array(parts).to_string())
            }
            "mcpToolCall" => item.result.filter(|raw| given(Some(*raw))).map(|raw| raw.get().to_owned()),
            "commandExecution" => item.aggregated_output.and_then(plain),
            // The result of an image is the image.
            _ => None,
        }
    }

    pub(super) fn tool_error(&self, item: &Item<'_>) -> Option<String> {
        let error = value(item.error).filter(|_| self.captures(Kind::Output))?;
        let text = error.get("message").and_then(Value::as_str).or(error.as_str())?;
        Some(bounded(text, KEPT).to_owned())
    }
}

impl Said {
    fn take(&mut self, text: &str) -> Option<String> {
        let full = self.messages.len() + self.thoughts.len() >= MESSAGES || self.bytes + text.len() > KEPT;
        if text.is_empty() || full {
            return None;
        }
        self.bytes += text.len();
        Some(text.to_owned())
    }

    fn message(&mut self, text: &str) {
        let text = self.take(text);
        self.messages.extend(text);
    }

    fn thought(&mut self, text: &str) {
        let text = self.take(text);
        self.thoughts.extend(text);
    }

    /// What was said as messages of the agent; `status` is that of the turn.
    pub fn answer(&self, status: &str) -> Option<String> {
        let reason = match status {
            "completed" => "stop",
            "failed" => "error",
            other => other,
        };
        let each = self
            .messages
            .iter()
            .map(|text| json!({"role": "assistant", "parts": [part("text", text)], "finish_reason": reason}));
        let all: Vec<Value> = each.collect();
        (!all.is_empty()).then(|| Value::Array(all).to_string())
    }

    /// What was thought, as parts of a message.
    pub fn reasoned(&self) -> Option<String> {
        let all: Vec<Value> = self.thoughts.iter().map(|text| part("reasoning", text)).collect();
        (!all.is_empty()).then(|| Value::Array(all).to_string())
    }
}

fn part(kind: &str, text: &str) -> Value {
    json!({"type": kind, "content": bounded(text, KEPT)})
}

fn value(raw: Option<&RawValue>) -> Option<Value> {
    serde_json::from_str::<Value>(raw?.get()).ok().filter(|value| !value.is_null())
}

// A JSON string becomes what it says, anything else stays JSON.
fn plain(raw: &RawValue) -> Option<String> {
    match value(Some(raw))? {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(bounded(&text, KEPT).to_owned()),
        _ => Some(raw.get().to_owned()),
    }
}
