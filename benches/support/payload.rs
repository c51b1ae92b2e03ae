//! One record of ten attributes (texts and numbers), as a fact of ours and as an event or span of anybody: the names
//! and values are the same.

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use factline::fact::vocabulary::{ApprovalRequested, ToolEnd, ToolStart};
use factline::fact::{Capture, End, Ends, Envelope, Point, Starts};

const THREAD: &str = "01a201f3-bb59-7381-9611-25e8d997799f";
const TURN: &str = "01a201f3-bbc2-7210-93e3-c9061bfde670";

/// Texts that only the run knows; made beforehand, because making them is nobody's emission.
fn texts(number: u64) -> &'static [String; 2] {
    static TEXTS: LazyLock<Vec<[String; 2]>> =
        LazyLock::new(|| (0..1024).map(|n| [format!("thread-{n:04}"), format!("request-{n:04}")]).collect());
    &TEXTS[number as usize % TEXTS.len()]
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn envelope() -> Envelope {
    let time = now_ns();
    Envelope { time, observed: time, trace: 7 << 64 | 9, span: 11, ..Envelope::default() }
}

pub fn log_fact(number: u64) {
    let [thread, request] = texts(number);
    let fact = ApprovalRequested {
        thread_id: Some(thread.as_str().into()),
        turn_id: Some(TURN.into()),
        request_id: request.as_str().into(),
        connection_id: Some(number),
        subject: "command_execution".into(),
        tool: Some("exec_command".into()),
        trigger: "sandbox_denial".into(),
        started_at_ms: Some(1_764_000_000_000 + number as i64),
        additional_permissions: Some(number.is_multiple_of(2)),
        network: Some(true),
        ..ApprovalRequested::default()
    };
    fact.emit(black_box(&envelope()), Capture::NONE);
}

pub fn span_fact(number: u64) {
    let envelope = Envelope { span: number + 1, ..envelope() };
    let [_, call] = texts(number);
    let start = ToolStart {
        thread_id: THREAD.into(),
        turn_id: TURN.into(),
        call_id: call.as_str().into(),
        tool: "exec_command".into(),
        item_type: "commandExecution".into(),
        ..ToolStart::default()
    };
    let span = start.start(black_box(&envelope), Capture::NONE);
    let end = ToolEnd {
        status: "completed".into(),
        execution_s: Some(0.25),
        exit_code: Some(-1),
        output_count: Some(number),
        success: Some(true),
        ..ToolEnd::default()
    };
    let time = now_ns();
    end.end(&span, &End { time, observed: time, ..End::default() }, Capture::NONE);
}

pub fn log_event(number: u64) {
    let [thread, request] = texts(number);
    tracing::event!(name: "codex.approval.requested", tracing::Level::INFO, {
        "gen_ai.conversation.id" = thread.as_str(),
        "codex.turn.id" = TURN,
        "jsonrpc.request.id" = request.as_str(),
        "codex.connection.id" = number,
        "codex.approval.subject" = "command_execution",
        "gen_ai.tool.name" = "exec_command",
        "codex.approval.trigger" = "sandbox_denial",
        "codex.approval.started_at_ms" = 1_764_000_000_000 + number as i64,
        "codex.approval.additional_permissions" = number.is_multiple_of(2),
        "codex.approval.network_access" = true,
    });
}

pub fn span_event(number: u64) {
    let [_, call] = texts(number);
    let span = tracing::span!(
        tracing::Level::INFO,
        "execute_tool",
        "gen_ai.conversation.id" = THREAD,
        "codex.turn.id" = TURN,
        "gen_ai.tool.call.id" = call.as_str(),
        "gen_ai.tool.name" = "exec_command",
        "codex.item.type" = "commandExecution",
        "codex.item.status" = "completed",
        "codex.tool.execution_duration_s" = 0.25_f64,
        "process.exit.code" = -1_i64,
        "codex.tool.output.count" = number,
        "codex.tool.success" = true,
    );
    drop(span.entered());
}
