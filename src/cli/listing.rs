//! The same as a waterfall shows, as JSON.

use serde_json::{Value, json};

use super::shown::{Kind, Span};
use super::tree::Tree;

/// `threads` and `turns`, each turn with its tools; spans of other kinds are in `others`.
pub(super) fn json(tree: &Tree) -> Value {
    let totals = tree.totals();
    let threads: Vec<Value> = tree
        .order()
        .into_iter()
        .filter_map(|thread| {
            let sum = totals.get(thread)?;
            Some(json!({
                "thread_id": thread, "agent": sum.agent, "turns": sum.turns, "tools": sum.tools,
                "tokens": {"input": sum.input, "output": sum.output},
            }))
        })
        .collect();
    let roots = tree.threads.iter().flat_map(|(_, roots)| roots).chain(&tree.connections);
    let spans: Vec<&Span> =
        roots.flat_map(|root| tree.walk(*root)).filter_map(|visit| tree.spans.get(visit.at)).collect();
    let turns: Vec<&&Span> = spans.iter().filter(|span| span.kind == Kind::Turn).collect();
    let places: std::collections::HashMap<(u128, u64), usize> =
        turns.iter().enumerate().map(|(at, turn)| ((turn.trace, turn.span), at)).collect();
    let mut tools: Vec<Vec<Value>> = turns.iter().map(|_| Vec::new()).collect();
    let mut others = Vec::new();
    for span in spans.iter().filter(|span| span.kind != Kind::Turn) {
        let home = places.get(&(span.trace, span.parent)).and_then(|at| tools.get_mut(*at));
        match home.filter(|_| span.kind == Kind::Tool) {
            Some(home) => home.push(tool(tree, span)),
            None => others.push(common(span)),
        }
    }
    let turns: Vec<Value> = turns.iter().zip(tools).map(|(span, tools)| turn(span, tools)).collect();
    json!({"threads": threads, "turns": turns, "others": others})
}

fn common(span: &Span) -> Value {
    let some = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    json!({
        "name": span.name,
        "trace_id": format!("{:032x}", span.trace),
        "span_id": format!("{:016x}", span.span),
        "parent_span_id": if span.parent == 0 { Value::Null } else { json!(format!("{:016x}", span.parent)) },
        // Beyond what a JavaScript number holds, so a text, as OTLP has it.
        "start_unix_nano": span.start.to_string(),
        "duration_ns": span.end - span.start,
        "status": some(&span.status),
        "error_type": span.error.as_deref().map_or(Value::Null, some),
    })
}

fn with(mut value: Value, more: Value) -> Value {
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

fn turn(span: &Span, tools: Vec<Value>) -> Value {
    let more = json!({
        "thread_id": span.thread, "turn_id": span.turn, "agent": span.agent, "index": span.index,
        "tokens": {"input": span.input, "output": span.output}, "tools": tools,
    });
    with(common(span), more)
}

fn tool(tree: &Tree, span: &Span) -> Value {
    let approval = tree.approval(span).map(|approval| {
        json!({"decision": approval.decision, "resolution": approval.resolution, "wait_s": approval.wait_s})
    });
    with(common(span), json!({"tool": span.tool, "call_id": span.call, "approval": approval}))
}
