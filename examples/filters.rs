//! A host with filters: ordinary logging to standard error, every fact to OpenTelemetry, plugin facts to a second destination.
//!
//! `cargo run --example filters` writes OTLP JSON lines below a directory that it prints; with
//! `OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318` the first destination is a collector.

use std::error::Error;
use std::io;

use factline::config::{Config, Setting};
use factline::fact::vocabulary::{PluginStateChanged, SkillInvoked, TurnEnd, TurnStart};
use factline::host::Facts;
use factline::otel::only_facts;
use factline::telemetry::Telemetry;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("factline-filters-{}", std::process::id()));
    let (mut config, _) = Config::from_env(|name| std::env::var(name).ok())?;
    config.outbox_dir = Setting { value: dir.join("outbox"), ..config.outbox_dir };
    config.files_dir = Setting { value: dir.join("all"), ..config.files_dir };
    let everything = Telemetry::start(&config)?;

    let (mut only_files, _) =
        Config::from_env(|name| std::env::var(name).ok().filter(|_| !name.starts_with("OTEL_")))?;
    only_files.outbox_dir.value = dir.join("outbox-plugins");
    only_files.files_dir.value = dir.join("plugins");
    let plugins = Telemetry::start(&only_files)?;

    // Each layer has its own filter: what one rejects the others still see.
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_writer(io::stderr).with_filter(LevelFilter::WARN))
        .with(everything.layer().with_filter(only_facts()))
        .with(plugins.layer().with_filter(Targets::new().with_target("factline::plugin", Level::INFO)))
        .init();

    let facts = Facts::new();
    let turn = facts.begin(&TurnStart {
        thread_id: "01a201f3-bb59-7381-9611-25e8d997799f".into(),
        turn_id: "01a201f3-bbc2-7210-93e3-c9061bfde670".into(),
        agent: "codex".into(),
        model: Some("gpt-5.5".into()),
        ..TurnStart::default()
    });
    facts.track_skill_invoked(&SkillInvoked {
        thread_id: Some("01a201f3-bb59-7381-9611-25e8d997799f".into()),
        turn_id: Some("01a201f3-bbc2-7210-93e3-c9061bfde670".into()),
        skill_name: "review".into(),
        ..SkillInvoked::default()
    });
    facts.track_plugin_enabled(&PluginStateChanged {
        plugin_id: "demo@market".into(),
        ..PluginStateChanged::default()
    });
    turn.end(&TurnEnd {
        status: "completed".into(),
        input: Some(1200),
        output: Some(310),
        ..TurnEnd::default()
    });

    everything.stop()?;
    plugins.stop()?;
    println!("{}", dir.display());
    Ok(())
}
