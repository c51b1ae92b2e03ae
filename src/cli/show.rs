//! `factline outbox show`: the records that wait, or those that destinations refused.

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Common, FAILED, OK, PARTLY, terminal};
use crate::config::Signal;
use crate::deliver::json_line;
use crate::outbox;
use crate::telemetry::{ANALYTICS_QUEUE, queue_name};

#[derive(clap::Args)]
#[command(after_help = "\
A line per record: OTLP as JSON, as the collector's otlpjsonfile receiver reads it, and analytics events as they
are. Nothing is delivered or changed. Records that can't be decoded are told on standard error (exit code 3).

Examples:
  factline outbox show --queue logs | head -n 1 | jq .
  factline outbox show --json | jq -c '[.process, .queue, .sequence]'
  factline outbox show --dead --json | jq -r .reason | sort | uniq -c")]
pub(super) struct Arguments {
    /// Only this queue: logs, traces, metrics or analytics
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,

    /// What destinations refused, instead of what waits
    #[arg(long)]
    dead: bool,

    /// Also say where each record lies: process, queue, sequence, time, and why it was refused
    #[arg(long)]
    json: bool,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> u8 {
    let Ok(config) = common.config(true).inspect_err(|error| terminal::error(error)) else { return FAILED };
    let dir = &config.outbox_dir.value;
    let queue = arguments.queue.as_deref();
    let mut out = Out { to: BufWriter::new(io::stdout().lock()), json: arguments.json, undecodable: 0 };
    let shown = if arguments.dead {
        outbox::dead_letters(dir, queue, |letter| {
            let place = json!({
                "process": letter.lane, "queue": letter.queue, "time_ns": letter.time_ns, "reason": letter.reason,
            });
            out.record(place, letter.queue, letter.header, letter.payload)
        })
        .map(|()| Vec::new())
    } else {
        outbox::show(dir, queue, |record| {
            let place = json!({
                "process": record.lane, "queue": record.queue, "sequence": record.sequence,
                "time_ns": record.time_ns, "content": record.content,
            });
            out.record(place, record.queue, record.header, record.payload)
        })
    };
    let shown = shown.and_then(|unreadable| out.to.flush().map(|()| unreadable));
    match shown {
        Ok(unreadable) => {
            unreadable.iter().for_each(|why| terminal::warn(why));
            if unreadable.is_empty() && out.undecodable == 0 { OK } else { PARTLY }
        }
        // Whoever read this has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => OK,
        Err(error) => {
            terminal::outbox_error(dir, &error);
            FAILED
        }
    }
}

struct Out {
    to: BufWriter<io::StdoutLock<'static>>,
    json: bool,
    undecodable: u64,
}

impl Out {
    fn record(&mut self, mut place: Value, queue: &str, header: &[u8], payload: &[u8]) -> io::Result<()> {
        let decoded = decoded(queue, header, payload);
        if let Err(why) = &decoded {
            self.undecodable += 1;
            if !self.json {
                terminal::warn(&format!("{place}: {why}"));
                return Ok(());
            }
        }
        let line = match decoded {
            Ok(record) if self.json => {
                let Ok(record) = RawValue::from_string(record) else { return Ok(()) };
                // The record last, as it is: its numbers and the order of its members are not touched.
                let mut place = place.to_string();
                place.pop();
                format!("{place},\"record\":{record}}}")
            }
            Ok(record) => record,
            Err(why) => {
                place["error"] = why.into();
                place["bytes"] = hex(payload).into();
                place.to_string()
            }
        };
        let line = if io::stdout().is_terminal() { terminal::printable(&line) } else { line };
        writeln!(self.to, "{line}")
    }
}

/// A stored record as one JSON text, or why there is none.
fn decoded(queue: &str, header: &[u8], payload: &[u8]) -> Result<String, String> {
    let signals = [Signal::Logs, Signal::Traces, Signal::Metrics];
    let json = match signals.into_iter().find(|signal| queue_name(*signal) == queue) {
        Some(signal) => json_line(signal, header, payload).map_err(|error| error.to_string())?,
        None if queue == ANALYTICS_QUEUE => payload.to_vec(),
        None => return Err(format!("what is in a queue {queue:?} is not known here")),
    };
    let json = String::from_utf8(json).map_err(|_| "the record is no text".to_owned())?;
    let json = json.trim_end();
    match serde_json::from_str::<&RawValue>(json) {
        Ok(_) if !json.contains('\n') => Ok(json.to_owned()),
        _ => Err("the record is no JSON on one line".to_owned()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
