//! A tap in front of a server that says back what it hears, and how long that takes.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use factline::outbox::{status, totals};

use crate::program::{busy, factline, run, until};

/// Nobody listens there.
pub const AWAY: &str = "http://127.0.0.1:1";

/// The tap, and what its client says and hears.
pub struct Relay {
    pub process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    lines: u64,
}

impl Relay {
    pub fn start(command: &mut Command) -> Relay {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Relay { input: process.stdin.take().unwrap(), output, process, lines: 0 }
    }

    /// Says lines and hears them again, each before the next, as many a second at most; how long each took.
    pub fn relay(&mut self, time: Duration, a_second: u32) -> Took {
        let (began, pace) = (Instant::now(), Duration::from_secs(1) / a_second);
        let (mut took, mut due, mut back) = (Vec::new(), began, String::new());
        // No turn is left open.
        while began.elapsed() < time || !self.lines.is_multiple_of(2) {
            let turn = format!("01a201f3-0001-7000-8000-{:012x}", self.lines / 2);
            let (what, more) = match self.lines % 2 {
                0 => ("started", ""),
                _ => ("completed", r#","status":"completed","durationMs":5"#),
            };
            let at = 1_795_329_039_590 + self.lines;
            let line = format!(
                r#"{{"method":"turn/{what}","params":{{"threadId":"t","turn":{{"id":"{turn}"{more}}}}},"emittedAtMs":{at}}}"#
            );
            self.lines += 1;
            let one = Instant::now();
            self.input.write_all(format!("{line}\n").as_bytes()).unwrap();
            back.clear();
            self.output.read_line(&mut back).unwrap();
            took.push(one.elapsed());
            assert_eq!(back.trim_end(), line);
            due += pace;
            let ahead = due.saturating_duration_since(Instant::now());
            if ahead > Duration::from_millis(1) {
                std::thread::sleep(ahead);
            }
        }
        took.sort_unstable();
        Took(took)
    }

    /// Turns that were said from beginning to end.
    pub fn turns(&self) -> u64 {
        self.lines / 2
    }

    /// Waits until the observer has come to the end, by what the outbox says of itself.
    pub fn until_observed(&self, outbox: &Path) {
        until("the observer", || {
            let seen = spans(outbox)?;
            if seen >= self.turns() { Ok(()) } else { Err(format!("{seen} of {}", self.turns())) }
        });
    }

    /// Waits until all that was said is in segments, so that the ring is not needed for it.
    pub fn until_written(&self, outbox: &Path) {
        until("the writer", || {
            let lanes = status(outbox).map_err(|error| error.to_string())?;
            let queues = lanes.iter().flat_map(|lane| &lane.queues).filter(|queue| queue.name == "traces");
            let written: u64 = queues.map(|it| it.written).sum();
            if written >= self.turns() { Ok(()) } else { Err(format!("{written} of {}", self.turns())) }
        });
    }

    /// Ends it; how long that took.
    pub fn leave(mut self) -> Duration {
        let began = Instant::now();
        drop(self.input);
        assert!(self.process.wait().unwrap().success());
        began.elapsed()
    }
}

/// Spans that were accepted, as far as those who ask can see.
pub fn spans(outbox: &Path) -> Result<u64, String> {
    let lanes = status(outbox).map_err(|error| error.to_string())?;
    let queues = lanes.iter().flat_map(|lane| &lane.queues).filter(|queue| queue.name == "traces");
    Ok(queues.map(|it| it.delivered + it.lost.total() + it.waiting.records).sum())
}

/// Delivers what lies there into files below `dir`; spans of turns that came, and spans counted as lost.
pub fn flushed(dir: &Path, outbox: &Path) -> (u64, u64) {
    run(factline(dir).env("FACTLINE_OUTBOX_DIR", outbox).args(["outbox", "flush"]));
    let files = std::fs::read_to_string(dir.join("files/traces.jsonl")).unwrap();
    let came = files.matches(r#""name":"invoke_agent"#).count() as u64;
    (came, totals(outbox).unwrap()["traces"].lost.total())
}

/// How long lines took there and back.
pub struct Took(Vec<Duration>);

impl Took {
    /// Whether it was about as quick as usual, unless others have the processor.
    pub fn is_as_usual(&self, usual: &Took) -> bool {
        self.p99() < usual.p99() * 4 + Duration::from_millis(1) || busy()
    }

    pub fn p99(&self) -> Duration {
        self.0[self.0.len() * 99 / 100]
    }

    pub fn most(&self) -> Duration {
        self.0[self.0.len() - 1]
    }
}

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lines there and back, p99 {:?}, most {:?}", self.0.len(), self.p99(), self.most())
    }
}
