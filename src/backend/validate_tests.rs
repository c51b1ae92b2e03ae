//! Damage of every kind, to events that the real client sent.

use std::path::Path;

use serde_json::json;

use super::*;

fn recorded() -> Vec<Value> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut events = Vec::new();
    for session in std::fs::read_dir(corpus).unwrap() {
        let Ok(text) = std::fs::read_to_string(session.unwrap().path().join("analytics.jsonl")) else {
            continue;
        };
        for line in text.lines() {
            let request: Value = serde_json::from_str(line).unwrap();
            events.extend(request["body"]["events"].as_array().unwrap().iter().cloned());
        }
    }
    assert!(events.len() > 500);
    events
}

/// A recorded event of this type.
fn event(event_type: &str) -> Value {
    recorded().into_iter().find(|event| event["event_type"] == event_type).unwrap()
}

fn reason(event: &Value) -> String {
    Validator::new(false).unwrap().check(event).unwrap_err()
}

#[test]
fn the_table_has_every_event_type_and_only_known_shapes() {
    let table = Validator::new(true).unwrap();
    assert_eq!(table.event_types().count(), 36);
    fn known(table: &Validator, members: &[Member]) {
        for member in members {
            for kind in &member.kinds {
                let kind = if let Kind::List(item) = kind { item } else { kind };
                assert!(!matches!(kind, Kind::Shape(shape) if !table.shapes.contains_key(shape)));
            }
        }
    }
    table.shapes.values().for_each(|shape| known(&table, shape));
    for (name, event) in &table.events {
        known(&table, &event.members);
        assert!(!event.members.is_empty() || name == "codex_cua_tool_call_started", "{name}");
    }
}

#[test]
fn every_recorded_event_passes_also_the_strict_check() {
    let (lenient, strict) = (Validator::new(false).unwrap(), Validator::new(true).unwrap());
    for event in recorded() {
        assert_eq!(lenient.check(&event), Ok(()), "{event}");
        assert_eq!(strict.check(&event), Ok(()), "{event}");
    }
}

#[test]
fn each_member_that_is_missing_or_of_another_kind_is_found_and_named() {
    let strict = Validator::new(true).unwrap();
    let mut damaged = 0;
    let mut seen = std::collections::BTreeSet::new();
    for event in recorded() {
        let name = event["event_type"].as_str().unwrap().to_owned();
        if !seen.insert(name.clone()) {
            continue;
        }
        for member in &strict.events[&name].members {
            let path = format!("event_params.{}", member.name);
            let mut without = event.clone();
            if without["event_params"].as_object_mut().unwrap().remove(&member.name).is_some()
                && !member.optional
            {
                assert_eq!(strict.check(&without), Err(format!("{path}: missing")));
                damaged += 1;
            }
            let list = member.kinds.iter().any(|kind| matches!(kind, Kind::List(_)));
            let mut other = event.clone();
            other["event_params"][&member.name] = if list { json!(7.5) } else { json!([[]]) };
            let reason = strict.check(&other).unwrap_err();
            assert!(reason.starts_with(&format!("{path}: not ")), "{reason}");
            damaged += 1;
        }
    }
    assert!(damaged > 800, "{damaged}");
}

#[test]
fn reasons_say_what_is_wrong_and_where() {
    let mut thread = event("codex_thread_initialized");
    let mut with = |path: &str, value: Value| {
        let old = std::mem::replace(thread.pointer_mut(path).unwrap(), value);
        let reason = reason(&thread);
        *thread.pointer_mut(path).unwrap() = old;
        reason
    };
    for (path, value, expected) in [
        ("/event_type", json!("codex_nothing"), "event_type: unknown: codex_nothing"),
        ("/event_type", json!("\u{1b}[1m\n"), "event_type: unknown: \\u{1b}[1m\\n"),
        ("/event_type", json!(3), "event_type: not a string"),
        ("/event_params", json!([]), "event_params: not an object"),
        ("/event_params/model", json!(null), "event_params.model: not a string"),
        ("/event_params/created_at", json!(1.5), "event_params.created_at: not an integer"),
        ("/event_params/created_at", json!("1"), "event_params.created_at: not an integer"),
        ("/event_params/is_worktree", json!("yes"), "event_params.is_worktree: not a boolean or null"),
        (
            "/event_params/initialization_mode",
            json!("born"),
            "event_params.initialization_mode: not one of new, forked, resumed",
        ),
        ("/event_params/initialization_mode", json!(1), "event_params.initialization_mode: not a string"),
        ("/event_params/runtime", json!(null), "event_params.runtime: not an object"),
        ("/event_params/runtime", json!({}), "event_params.runtime.codex_rs_version: missing"),
        (
            "/event_params/app_server_client/rpc_transport",
            json!("pigeon"),
            "event_params.app_server_client.rpc_transport: not one of stdio, websocket, in_process",
        ),
    ] {
        assert_eq!(with(path, value), expected);
    }
    assert_eq!(reason(&json!([])), "the event is no object");
    assert_eq!(reason(&json!({})), "event_type: missing");
    assert_eq!(reason(&json!({"event_type": "codex_hook_run"})), "event_params: missing");
    let mut skill = event("skill_invocation");
    skill.as_object_mut().unwrap().remove("skill_id");
    assert_eq!(reason(&skill), "skill_id: missing");
    let mut turn = event("codex_turn_event");
    turn["event_params"]["active_plugin_ids_at_turn_start"] = json!(["a", 3]);
    assert_eq!(reason(&turn), "event_params.active_plugin_ids_at_turn_start[1]: not a string");
    turn["event_params"]["active_plugin_ids_at_turn_start"] = json!(null);
    turn["event_params"]["image_preparations"] = json!([{"message_role": "user"}]);
    let first = "event_params.image_preparations[0].effective_detail: missing";
    assert_eq!(reason(&turn), first);
}

#[test]
fn only_the_strict_check_minds_other_releases() {
    let (lenient, strict) = (Validator::new(false).unwrap(), Validator::new(true).unwrap());
    let mut older = event("codex_compaction_event");
    older["event_params"].as_object_mut().unwrap().remove("voice_session_id");
    let mut newer = event("codex_hook_run");
    newer["event_params"]["since_next_year"] = json!(1);
    let mut beside = event("codex_hook_run");
    beside["id"] = json!(1);
    for (event, reason) in [
        (older, "event_params.voice_session_id: missing"),
        (newer, "event_params.since_next_year: unknown member"),
        (beside, "id: unknown member"),
    ] {
        assert_eq!(lenient.check(&event), Ok(()));
        assert_eq!(strict.check(&event), Err(reason.to_owned()));
    }
    assert_eq!(shown(&"é".repeat(100)).len(), "\\u{e9}".len() * 64 + 3);
}
