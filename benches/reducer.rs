//! Facts per second through the reducer on one core, with few threads and with a million, and what those weigh.
//!
//! `ratio reducer_growth`: the cost of a fact among a million threads to that among a hundred; each the median of
//! five rounds that take turns.

use std::time::Instant;

use factline::analytics::{Limits, Reducer};
use factline::fact::vocabulary::{
    ConnectionStart, Fact, ThreadInitialized, ToolEnd, ToolStart, TurnConfigured, TurnEnd, TurnStart,
    TurnUsage,
};
use factline::fact::{End, Envelope};

const THREADS: [usize; 3] = [100, 10_000, 1_000_000];
const TURNS: usize = 20_000;
const ROUNDS: usize = 5;

fn main() {
    let mut reducers = THREADS.map(|threads| {
        let before = resident_bytes();
        let reducer = with_threads(threads);
        if let (Some(before), Some(after)) = (before, resident_bytes()) {
            println!("{threads} idle threads take {} MB", after.saturating_sub(before) >> 20);
        }
        (threads, reducer, Vec::new())
    });
    for round in 0..ROUNDS {
        for (threads, reducer, costs) in &mut reducers {
            costs.push(one_round(reducer, *threads, round));
        }
    }
    let medians = reducers.map(|(threads, _, mut costs)| {
        costs.sort_by(f64::total_cmp);
        let median = costs[ROUNDS / 2];
        println!("{threads} threads: {median:.0} ns a fact, {:.0} facts/s", 1e9 / median);
        median
    });
    println!("ratio reducer_growth {:.2}", medians[2] / medians[0]);
}

fn with_threads(threads: usize) -> Reducer {
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
    reducer
}

/// Nanoseconds a fact.
fn one_round(reducer: &mut Reducer, threads: usize, round: usize) -> f64 {
    let turns: Vec<_> = (0..TURNS).map(|at| turn(round * TURNS + at, threads)).collect();
    let (mut facts, mut events) = (0, 0);
    let began = Instant::now();
    for (envelope, start, said, end) in &turns {
        events += reducer.reduce(envelope, start).len();
        for fact in said {
            events += reducer.reduce(envelope, fact).len();
        }
        let (ending, tool, tool_end, turn_end) = end;
        events += reducer.finish(envelope, tool, ending, tool_end).len();
        events += reducer.finish(envelope, start, ending, turn_end).len();
        facts += 3 + said.len();
    }
    let spent = began.elapsed().as_nanos() as f64;
    assert_eq!(events, 2 * TURNS, "a turn and its command each leave an event");
    spent / facts as f64
}

/// Where the system tells it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
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
