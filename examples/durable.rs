//! Any application on the OpenTelemetry SDK: its own logs and spans through the outbox, so that neither a collector
//! that is away nor a crash loses them.
//!
//! `cargo run --example durable` writes OTLP JSON lines below a directory that it prints; with
//! `OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318` they go to a collector.

use std::error::Error;

use factline::config::Config;
use factline::telemetry::Telemetry;
use opentelemetry::logs::{LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::trace::{Tracer as _, TracerProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut config, _) = Config::from_env(|name| std::env::var(name).ok())?;
    let dir = std::env::temp_dir().join(format!("factline-durable-{}", std::process::id()));
    config.outbox_dir.value = dir.join("outbox");
    config.files_dir.value = dir.join("otlp");
    let telemetry = Telemetry::start_with_application(&config)?;

    let resource = Resource::builder().with_service_name("shop").build();
    let mut logs = SdkLoggerProvider::builder().with_resource(resource.clone());
    let mut traces = SdkTracerProvider::builder().with_resource(resource);
    if let (Some(records), Some(spans)) = (telemetry.log_processor(), telemetry.span_processor()) {
        (logs, traces) = (logs.with_log_processor(records), traces.with_span_processor(spans));
    }
    let (logs, traces) = (logs.build(), traces.build());

    let (logger, tracer) = (logs.logger("till"), traces.tracer("till"));
    tracer.in_span("sale", |_| {
        let mut record = logger.create_log_record();
        record.set_event_name("sold");
        record.set_severity_number(Severity::Info);
        record.add_attribute("articles", 3);
        // When this returns, the record survives the process.
        logger.emit(record);
    });

    // Both wait for the disk, not for the network.
    logs.shutdown()?;
    traces.shutdown()?;
    telemetry.stop()?;
    println!("{}", dir.display());
    Ok(())
}
