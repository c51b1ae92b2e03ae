//! Facts per second through the reducer on one core, with few threads and with many.

use std::time::Instant;

use factline::analytics::{Limits, Reducer};
use factline::fact::vocabulary::{
    ConnectionStart, Fact, ThreadInitialized, ToolEnd, ToolStart, TurnConfigured, TurnEnd, TurnStart,
    TurnUsage,
};
use factline::fact::{End, Envelope};

fn main() {
    for threads in [100, 10_000, 100_000] {
        let mut reducer = Reducer::new(Limits { threads, ..Limits::default() });
        let connection =
            ConnectionStart { connection_id: 1, transport: "stdio".into(), ..ConnectionStart::default() };
        reducer.reduce(&Envelope::default(), &Fact::ConnectionStart(connection));
        for at in 0..threads {
            let fact = ThreadInitialized {
                thread_id: id("thread", at).into(),
                connection_id: Some(1),
                mode: "new".into(),
                model: Some("gpt-5.5".into()),
                ..ThreadInitialized::default()
            };
            reducer.reduce(&envelope(at), &Fact::ThreadInitialized(fact));
        }
        let turns: Vec<_> = (0..30_000).map(|at| turn(at, threads)).collect();
        let (mut facts, mut events) = (0u64, 0usize);
        let began = Instant::now();
        for (envelope, start, said, end) in &turns {
            events += reducer.reduce(envelope, start).len();
            for fact in said {
                events += reducer.reduce(envelope, fact).len();
            }
            let (ending, tool, tool_end, turn_end) = end;
            events += reducer.finish(envelope, tool, ending, tool_end).len();
            events += reducer.finish(envelope, start, ending, turn_end).len();
            facts += 3 + said.len() as u64;
        }
        let seconds = began.elapsed().as_secs_f64();
        let rate = facts as f64 / seconds;
        println!(
            "{threads} threads: {facts} facts, {events} events, {rate:.0} facts/s, {:.2} us each",
            1e6 / rate
        );
    }
}

type Ends = (End, Fact<'static>, Fact<'static>, Fact<'static>);

fn turn(at: usize, threads: usize) -> (Envelope, Fact<'static>, Vec<Fact<'static>>, Ends) {
    let (thread, turn) = (id("thread", at * 7919 % threads), id("turn", at));
    let start =
        TurnStart { thread_id: thread.clone().into(), turn_id: turn.clone().into(), ..TurnStart::default() };
    let configured = TurnConfigured {
        thread_id: thread.clone().into(),
        turn_id: turn.clone().into(),
        model: Some("gpt-5.5".into()),
        ..TurnConfigured::default()
    };
    let tool = Fact::ToolStart(ToolStart {
        thread_id: thread.clone().into(),
        turn_id: turn.clone().into(),
        call_id: "call_1".into(),
        tool: "shell".into(),
        item_type: "commandExecution".into(),
        ..ToolStart::default()
    });
    let usage = |total| {
        let (thread_id, turn_id) = (thread.clone().into(), turn.clone().into());
        Fact::TurnUsage(TurnUsage {
            thread_id,
            turn_id,
            input: total,
            output: 9,
            total,
            ..TurnUsage::default()
        })
    };
    let said = vec![Fact::TurnConfigured(configured), tool.clone(), usage(1000), usage(2000)];
    let ending = End { time: at as u64 + 5, observed: at as u64 + 5, ..End::default() };
    let tool_end = ToolEnd { status: "completed".into(), exit_code: Some(0), ..ToolEnd::default() };
    let end = TurnEnd { status: "completed".into(), duration_s: Some(1.5), ..TurnEnd::default() };
    (envelope(at), Fact::TurnStart(start), said, (ending, tool, Fact::ToolEnd(tool_end), Fact::TurnEnd(end)))
}

fn envelope(at: usize) -> Envelope {
    Envelope { time: at as u64, observed: at as u64, span: at as u64 + 1, ..Envelope::default() }
}

fn id(kind: &str, at: usize) -> String {
    format!("01a201f3-{kind}-7603-bce4-{at:012x}")
}
