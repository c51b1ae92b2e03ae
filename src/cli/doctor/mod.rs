//! `factline doctor`: what is configured, who said so, and whether it works.

mod check;
mod outbox;
mod peer;
mod places;
mod record;
mod settings;

use std::time::Duration;

use serde_json::json;

use super::{Common, FAILED, OK};
use crate::config::{Config, Sources};
use check::{Check, Report};

#[derive(clap::Args)]
#[command(after_help = "\
Each destination is met step by step: name, connection, certificate, protocol, and one record or span named
factline.probe. `ok` there means that the far end acknowledged it; whether it keeps what it acknowledged, no protocol
tells: look for factline.probe where your telemetry is shown. Nothing is sent with --offline. Values of secrets are
never shown. Exit code 1 when anything failed.

Examples:
  factline doctor
  factline doctor --all                      # every setting, defaults too
  factline doctor --offline                  # only what is on this machine
  factline doctor --json | jq '.checks[] | select(.verdict == \"fail\")'
  factline --config other.toml doctor --timeout 2")]
pub(super) struct Arguments {
    /// Print it as JSON
    #[arg(long)]
    json: bool,

    /// Show settings that nobody set as well
    #[arg(long)]
    all: bool,

    /// Look at no destination over the network
    #[arg(long)]
    offline: bool,

    /// The longest that one step may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> u8 {
    let mut report = Report::new(arguments.json);
    let shown = match common.sources() {
        Ok(sources) => examine(&sources, arguments, &mut report),
        Err(errors) => {
            report.about("configuration");
            for error in &errors.0 {
                report.add(Check::fail("file", error.to_string(), "mend it: nothing of it holds until then"));
            }
            json!({})
        }
    };
    if report.end(shown) { OK } else { FAILED }
}

fn examine(sources: &Sources<'_>, arguments: &Arguments, report: &mut Report) -> serde_json::Value {
    let shown = settings::show(sources, arguments.all, report);
    report.about("configuration");
    let (mut config, warnings) = match Config::load(sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            report.add(Check::fail("settings", error.to_string(), ""));
            return shown;
        }
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let warnings: Vec<_> = warnings.into_iter().chain(Sources::unknown_variables(names)).collect();
    if warnings.is_empty() {
        report.add(Check::ok("settings", "all are understood"));
    }
    for warning in warnings {
        report.add(Check::warn("settings", warning.to_string(), ""));
    }
    settings::filters(sources, report);
    if config.disabled.value {
        let advice = "`tap` only relays until it is set to false";
        report.add(Check::warn("telemetry", format!("switched off by {}", config.disabled.origin), advice));
    }
    places::log(&config, report);
    outbox::health(&config, report);
    if config.disabled.value {
        return shown;
    }
    let limit = Duration::from_secs(arguments.timeout);
    for signal in &mut config.signals {
        signal.timeout.value = signal.timeout.value.min(limit);
    }
    places::files(&config, report);
    if !arguments.offline {
        peer::destinations(&config, limit, report);
        peer::analytics(&config, limit, report);
    }
    shown
}
