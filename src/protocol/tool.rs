//! What an item of a turn says about itself: its tool, its changes, its texts.

use super::bounded;
use super::errors::snake_case;
use super::wire::{Change, Item, some, text};

pub(super) enum ToolName {
    Tool(String, &'static str),
    Compaction,
}

// What an item's span is called; `None` for items that are no spans.
pub(super) fn tool_name(item: &Item<'_>) -> Option<ToolName> {
    let own = |word, otherwise: &str| bounded(some(word).unwrap_or(otherwise), 128).to_owned();
    let (name, tool_type) = match text(&item.kind) {
        "commandExecution" if text(&item.source) == "userShell" => ("user_shell".to_owned(), "function"),
        "commandExecution" => ("shell".to_owned(), "function"),
        "fileChange" => ("apply_patch".to_owned(), "function"),
        "mcpToolCall" => (own(&item.tool, "mcp"), "function"),
        "dynamicToolCall" => (own(&item.tool, "dynamic"), "function"),
        "webSearch" => ("web_search".to_owned(), "extension"),
        "imageGeneration" => ("image_generation".to_owned(), "extension"),
        "imageView" => ("view_image".to_owned(), "function"),
        "collabAgentToolCall" => (snake_case(text(&item.tool)), "function"),
        "subAgentActivity" => {
            (format!("subagent.{}", bounded(some(&item.activity).unwrap_or("activity"), 64)), "function")
        }
        "contextCompaction" => return Some(ToolName::Compaction),
        _ => return None,
    };
    Some(ToolName::Tool(name, tool_type))
}

// Calls that make a subagent work; others only name it.
pub(super) fn wakes(item: &Item<'_>) -> bool {
    match text(&item.kind) {
        "collabAgentToolCall" => !matches!(text(&item.tool), "wait" | "closeAgent" | "listAgents"),
        "subAgentActivity" => !matches!(text(&item.activity), "completed" | "interrupted"),
        _ => false,
    }
}

pub(super) fn change_kind<'b>(change: &'b Change<'_>) -> &'b str {
    change.kind.as_ref().map_or("", |kind| text(&kind.kind))
}

pub(super) fn moved(change: &Change<'_>) -> bool {
    change.kind.as_ref().is_some_and(|kind| kind.move_path.is_some())
}

// Lines added and removed: a whole file for add and delete, the marked lines of a diff for update.
pub(super) fn lines(change: &Change<'_>) -> (u64, u64) {
    let diff = text(&change.diff);
    match change_kind(change) {
        "add" => (diff.lines().count() as u64, 0),
        "delete" => (0, diff.lines().count() as u64),
        _ => {
            let marked = |mark: char| diff.lines().filter(|line| line.starts_with(mark)).count() as u64;
            (marked('+'), marked('-'))
        }
    }
}

// A path that stays inside what it is relative to.
pub(super) fn safe(path: &str) -> bool {
    let absolute = path.starts_with(['/', '\\']) || path.as_bytes().get(1) == Some(&b':');
    !absolute && path.len() <= 512 && !path.split(['/', '\\']).any(|part| part == "..")
}

pub(super) fn given(raw: Option<&serde_json::value::RawValue>) -> bool {
    raw.is_some_and(|raw| raw.get() != "null")
}

pub(super) fn has_text(raw: Option<&serde_json::value::RawValue>) -> bool {
    raw.is_some_and(|raw| !matches!(raw.get(), "null") && !raw.get().trim_matches('"').trim().is_empty())
}
