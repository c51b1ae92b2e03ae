//! One record of ten attributes (texts and numbers), as a fact of ours and as an event or span of anybody.

use std::hint::black_box;
use std::time::{SystemTime, UNIX_EPOCH};

use factline::fact::vocabulary::{ApprovalRequested, ToolEnd, ToolStart};
use factline::fact::{Capture, End, Ends, Envelope, Point, Starts};

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn envelope() -> Envelope {
    let time = now_ns();
    Envelope { time, observed: time, trace: 7 << 64 | 9, span: 11, ..Envelope::default() }
}

pub fn log_fact(number: u64) {
    let thread = format!("thread-{number}");
    let request = format!("request-{number}");
    let fact = ApprovalRequested {
        thread_id: Some(thread.into()),
        turn_id: Some("01a201f3-bbc2-7210-93e3-c9061bfde670".into()),
        request_id: request.into(),
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
    let call = format!("call-{number}");
    let start = ToolStart {
        thread_id: "01a201f3-bb59-7381-9611-25e8d997799f".into(),
        turn_id: "01a201f3-bbc2-7210-93e3-c9061bfde670".into(),
        call_id: call.into(),
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
    let thread = format!("thread-{number}");
    let request = format!("request-{number}");
    tracing::info!(
        name: "approval.requested",
        subject = "command_execution",
        tool = "exec_command",
        thread_id = thread.as_str(),
        request_id = request.as_str(),
        started_at = 1_764_000_000_000 + number as i64,
        exit_code = -1_i64,
        connection_id = number,
        wait_s = 0.25_f64,
        execution_s = 1.5_f64,
        network = number.is_multiple_of(2),
    );
}

pub fn span_event(number: u64) {
    let thread = format!("thread-{number}");
    let call = format!("call-{number}");
    let span = tracing::info_span!(
        "execute_tool",
        subject = "command_execution",
        tool = "exec_command",
        thread_id = thread.as_str(),
        call_id = call.as_str(),
        started_at = 1_764_000_000_000 + number as i64,
        exit_code = -1_i64,
        connection_id = number,
        wait_s = 0.25_f64,
        execution_s = 1.5_f64,
        network = number.is_multiple_of(2),
    );
    drop(span.entered());
}
