//! `factline outbox flush`: delivers what waits.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Common, FAILED, OK, terminal};
use crate::telemetry::Telemetry;

#[derive(clap::Args)]
#[command(after_help = "\
Also takes over what ended processes left, and closes what they had open.

Examples:
  factline outbox flush
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 factline outbox flush --timeout 60")]
pub(super) struct Arguments {
    /// Give up after this many seconds; what was not delivered stays
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,

    /// Say what came of it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> u8 {
    let stopped = super::replay::stop_on_signals();
    let started = common
        .config(true)
        .map_err(|error| error.to_string())
        .and_then(|config| Telemetry::start(&config).map_err(|error| error.to_string()));
    let telemetry = match started {
        Ok(telemetry) => telemetry,
        Err(error) => {
            terminal::error(&error);
            return FAILED;
        }
    };
    let adopted = telemetry.adopt();
    if let Err(error) = &adopted {
        terminal::error(&error.to_string());
    }
    let deadline = Instant::now() + Duration::from_secs(arguments.timeout);
    let mut progress = terminal::Progress::new();
    let (began, waiting) = (Instant::now(), waiting(&telemetry));
    let complete = loop {
        if telemetry.flush(deadline.min(Instant::now() + Duration::from_millis(200))).is_complete() {
            break true;
        }
        let delivered: u64 = telemetry.report().iter().map(|route| route.delivered).sum();
        progress.tell(|| {
            let rate = delivered as f64 / began.elapsed().as_secs_f64();
            format!("{delivered} of {} records delivered, {rate:.0} a second", waiting.max(delivered))
        });
        if Instant::now() >= deadline || stopped.load(Ordering::Relaxed) {
            break false;
        }
    };
    progress.end();
    // The end tries once more, and what it meets belongs to the report.
    let closed = telemetry.stop();
    let report = telemetry.report();
    let delivered: u64 = report.iter().map(|route| route.delivered).sum();
    let lost: u64 = report.iter().flat_map(|route| route.lost.values()).sum();
    if arguments.json {
        let lanes = adopted.as_ref().ok();
        let said =
            serde_json::json!({"delivered": delivered, "lost": lost, "complete": complete, "lanes": lanes});
        terminal::print(&format!("{said}\n"));
    } else {
        let rest = if complete { "" } else { "; more is waiting" };
        terminal::tell(&format!("{delivered} records delivered, {lost} refused{rest}"));
        let mut said: Vec<&str> = Vec::new();
        for route in &report {
            let Some(error) = route.last_error.as_deref().filter(|_| !complete || lost > 0) else { continue };
            if !said.contains(&error) {
                terminal::warn(&format!("{}: {error}", route.destination));
                said.push(error);
            }
        }
    }
    if let Err(error) = &closed {
        terminal::error(&format!("the outbox could not be closed: {error}"));
    }
    if complete && lost == 0 && adopted.is_ok() && closed.is_ok() { OK } else { FAILED }
}

/// What there was to deliver when it began.
fn waiting(telemetry: &Telemetry) -> u64 {
    // Only for the eye: without it the numbers tell less.
    let lanes = crate::outbox::status(telemetry.outbox().dir()).unwrap_or_default();
    lanes.iter().flat_map(|lane| &lane.queues).map(|queue| queue.waiting.records).sum()
}
