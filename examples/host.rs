//! A host: the messages of its protocol as they pass, and a fact of its own, to files or a collector.
//!
//! `cargo run --example host` writes OTLP JSON lines below a directory that it prints; with
//! `OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318` they go to a collector.

use std::error::Error;
use std::time::{Duration, Instant};

use factline::config::Config;
use factline::fact::vocabulary::SkillInvoked;
use factline::host::Facts;
use factline::otel::only_facts;
use factline::protocol::{Ended, Sender, Transport};
use factline::telemetry::Telemetry;
use tracing_subscriber::prelude::*;

const THREAD: &str = "01a201f3-bb59-7381-9611-25e8d997799f";
const TURN: &str = "01a201f3-bbc2-7210-93e3-c9061bfde670";

fn main() -> Result<(), Box<dyn Error>> {
    let (mut config, warnings) = Config::from_env(|name| std::env::var(name).ok())?;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    let dir = std::env::temp_dir().join(format!("factline-host-{}", std::process::id()));
    config.outbox_dir.value = dir.join("outbox");
    config.files_dir.value = dir.join("otlp");

    // Outbox and delivery. What an earlier process left is delivered as well.
    let telemetry = Telemetry::start(&config)?;
    telemetry.adopt()?;
    tracing_subscriber::registry().with(telemetry.layer().with_filter(only_facts())).init();

    let facts = Facts::new();
    facts.track_connection_opened(1, Transport::Stdio);
    let said = [
        (
            Sender::Client,
            r#"{"id":1,"method":"initialize","params":{"clientInfo":{"name":"example","version":"1.0"}}}"#
                .to_owned(),
        ),
        (Sender::Server, r#"{"id":1,"result":{"userAgent":"my-agent/1.0"}}"#.to_owned()),
        (Sender::Server, notification("turn/started", "inProgress")),
        (Sender::Server, notification("turn/completed", "completed")),
    ];
    for (sender, line) in &said {
        facts.track_line(1, *sender, line.as_bytes());
    }
    facts.track_skill_invoked(&SkillInvoked {
        thread_id: Some(THREAD.into()),
        turn_id: Some(TURN.into()),
        skill_name: "review".into(),
        ..SkillInvoked::default()
    });
    facts.track_connection_closed(1, Ended::ClientClosed);

    // A process that lives on needs no flush, and none has to wait for the network: what is left goes next time.
    telemetry.flush(Instant::now() + Duration::from_secs(2));
    telemetry.stop()?;
    println!("{}", dir.display());
    Ok(())
}

fn notification(method: &str, status: &str) -> String {
    format!(
        r#"{{"method":"{method}","params":{{"threadId":"{THREAD}","turn":{{"id":"{TURN}","status":"{status}"}}}},"emittedAtMs":1790000000000}}"#
    )
}
