//! Meeting a destination over the network, step by step.

use std::time::{Duration, Instant, SystemTime};

use super::check::{Check, Report};
use super::record;
use crate::config::Config;
use crate::deliver::outcome::{Outcome, Split};
use crate::deliver::probe::{self, Peer, Spoken};

/// Telemetry of two clocks further apart than this does not fit together.
const SKEW: Duration = Duration::from_secs(5);

/// Collectors and the like: each connection once, then a record for each signal.
pub(super) fn destinations(config: &Config, limit: Duration, report: &mut Report) {
    let mut left: Vec<_> = config
        .destinations()
        .into_iter()
        .filter_map(|destination| Some((Peer::of(&destination)?, destination)))
        .collect();
    while let Some((peer, _)) = left.first() {
        let peer = peer.clone();
        let (same, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|(other, _)| peer.is_like(other));
        left = others;
        let signals: Vec<&str> = same.iter().map(|(_, destination)| destination.signal.name()).collect();
        report.about(format!("{} ({})", peer.name(), signals.join(", ")));
        if !meet(&peer, limit, report) {
            continue;
        }
        for (_, destination) in same {
            report.about(destination.shown());
            report.doing("a record");
            let since = Instant::now();
            let sent = probe::send(&destination, record::batch(config, destination.signal));
            let check = match sent {
                Ok(outcome) => outcome_of_record(destination.signal.name(), outcome),
                Err(error) => Check::fail(destination.signal.name(), error.to_string(), ""),
            };
            report.timed(since, check);
        }
    }
}

/// A backend for analytics events. It gets a request without events: a made-up one would be counted by whoever
/// counts there.
pub(super) fn analytics(config: &Config, limit: Duration, report: &mut Report) {
    let Some(sink) = config.analytics_sink() else { return };
    let Some(peer) = Peer::of_events(sink) else { return };
    report.about(format!("{} (analytics)", peer.name()));
    if !meet(&peer, limit, report) {
        return;
    }
    report.about(sink.shown());
    report.doing("a request without events");
    let since = Instant::now();
    let check = match probe::send_no_events(sink) {
        Ok(Outcome::Rejected { split: Split::BadRecord, reason }) => {
            let said = format!("it answers, and refuses a request without events ({reason})");
            Check::ok("analytics", format!("{said}; that says nothing about real ones"))
        }
        Ok(Outcome::Delivered) => Check::ok("analytics", "it acknowledged a request without events"),
        Ok(outcome) => outcome_of_record("analytics", outcome),
        Err(error) => Check::fail("analytics", error.to_string(), ""),
    };
    report.timed(since, check);
}

/// Whether it makes sense to send something.
fn meet(peer: &Peer, limit: Duration, report: &mut Report) -> bool {
    if let Some(proxy) = peer.proxy() {
        // What is behind it only the proxy sees.
        report.add(Check::ok("proxy", format!("requests go through {proxy}")));
        return true;
    }
    report.doing("its name");
    let since = Instant::now();
    let addresses = match peer.addresses(limit) {
        Ok(addresses) => addresses,
        Err(error) => {
            let advice = "look at the host in the endpoint, and at the network of this machine";
            report.timed(since, Check::fail("name", format!("cannot be resolved: {error}"), advice));
            return false;
        }
    };
    let found: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    report.timed(since, Check::ok("name", found.join(", ")));
    report.doing("a connection");
    let since = Instant::now();
    let (stream, address) = match peer.connect(&addresses, limit) {
        Ok(connected) => connected,
        Err(error) => {
            let advice = "is it running, is it this port, and does a firewall lie between?";
            report.timed(since, Check::fail("connection", error, advice));
            return false;
        }
    };
    report.timed(since, Check::ok("connection", format!("to {address}")));
    report.doing("its certificate");
    let since = Instant::now();
    let connection = match peer.secure(stream, limit) {
        Ok((connection, version)) => {
            let plain = "none: telemetry travels in plain text";
            let check = match version {
                Some(version) => Check::ok("certificate", format!("trusted, {}", version.replace('_', "."))),
                None => Check::ok("certificate", plain),
            };
            report.timed(since, check);
            connection
        }
        Err((what, advice)) => {
            report.timed(since, Check::fail("certificate", what, advice));
            return false;
        }
    };
    report.doing("its protocol");
    let since = Instant::now();
    match peer.speak(connection, limit) {
        Ok(spoken) => {
            let (check, date) = protocol(peer, spoken);
            let fine = check.verdict != super::check::Verdict::Fail;
            report.timed(since, check);
            if let Some(date) = date {
                report.add(clock(date));
            }
            fine
        }
        Err((what, advice)) => {
            report.timed(since, Check::fail("certificate", what, advice));
            false
        }
    }
}

fn protocol(peer: &Peer, spoken: Spoken) -> (Check, Option<SystemTime>) {
    let grpc = "set otlp.protocol to grpc, or use its port for HTTP (4318 unless it was changed)";
    let http = "set otlp.protocol to http/protobuf, or use its port for gRPC (4317 unless it was changed)";
    let check = match (spoken, peer.wants_http2()) {
        (Spoken::Http1(date), false) => return (Check::ok("protocol", "HTTP"), date),
        (Spoken::Http2, true) => Check::ok("protocol", "HTTP/2, as gRPC needs it"),
        (Spoken::Http2, false) => Check::fail(
            "protocol",
            "it speaks HTTP/2 alone, as a receiver for gRPC does, and was spoken to in HTTP",
            grpc,
        ),
        (Spoken::Http1(_), true) => {
            Check::fail("protocol", "it speaks HTTP/1, and was spoken to in HTTP/2, as gRPC needs it", http)
        }
        (Spoken::Tls, _) => Check::fail(
            "protocol",
            "it speaks TLS, and was spoken to in plain text",
            "write https:// in the endpoint",
        ),
        (Spoken::Silence, _) => Check::fail(
            "protocol",
            "it takes connections and answers nothing",
            "is it a collector? is it overloaded?",
        ),
        (Spoken::Closed, _) => Check::fail(
            "protocol",
            "it closed the connection without an answer",
            "is it this port? one that wants TLS, or gRPC instead of HTTP, may do so",
        ),
        (Spoken::Other, _) => Check::fail("protocol", "it speaks neither HTTP nor gRPC", "is it this port?"),
    };
    (check, None)
}

fn clock(theirs: SystemTime) -> Check {
    let ours = SystemTime::now();
    let (apart, which) = match ours.duration_since(theirs) {
        Ok(behind) => (behind, "behind"),
        Err(error) => (error.duration(), "ahead"),
    };
    // Theirs is in whole seconds.
    if apart <= SKEW {
        return Check::ok("clock", "as ours, to a few seconds");
    }
    let said = format!("theirs is {} s {which} of ours", apart.as_secs());
    Check::warn("clock", said, "set both by NTP: with clocks apart, spans of one trace do not fit together")
}

fn outcome_of_record(step: &'static str, outcome: Outcome) -> Check {
    match outcome {
        Outcome::Delivered => Check::ok(step, format!("acknowledged; look for {} there", record::NAME)),
        Outcome::Partial { rejected: 0, message } => {
            Check::warn(step, format!("acknowledged, with a warning: {message}"), "")
        }
        Outcome::Partial { message, .. } => Check::fail(
            step,
            format!("the request was taken and the record in it rejected: {message}"),
            "the far end's own settings say why (limits, age, what it accepts)",
        ),
        Outcome::Retry { reason, .. } | Outcome::Unanswered { reason } => {
            Check::fail(step, format!("not now: {reason}"), "records wait in the outbox and are sent again")
        }
        Outcome::Rejected { reason, .. } => Check::fail(
            step,
            format!("refused: {reason}"),
            "records like it would be lost and counted as rejected",
        ),
        Outcome::Paused { reason } => {
            let credentials = ["credentials", "UNAUTHENTICATED", "PERMISSION_DENIED", "token", "header"];
            let advice = match credentials.iter().any(|word| reason.contains(word)) {
                true if step == "analytics" => "look at analytics.token_file, token_command and account_id",
                true => "look at otlp.headers (OTEL_EXPORTER_OTLP_HEADERS)",
                false => "look at the endpoint and its path, and at otlp.protocol",
            };
            Check::fail(step, reason, format!("{advice}; records wait in the outbox until then"))
        }
    }
}
