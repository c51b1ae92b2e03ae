//! A host that already runs the OpenTelemetry SDK: facts go through its providers, beside everything else it sends.
//!
//! `cargo run --example sdk` sends to `OTEL_EXPORTER_OTLP_ENDPOINT`, else to http://localhost:4318.

use std::error::Error;

use factline::fact::vocabulary::{TurnEnd, TurnStart};
use factline::host::Facts;
use factline::otel::{self, DerivedIds, only_facts, sdk_layer};
use factline::protocol::Observer;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{LogExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let resource = Resource::builder().with_service_name("my-agent").build();
    let logs = SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(LogExporter::builder().with_http().build()?)
        .build();
    let traces = SdkTracerProvider::builder()
        .with_resource(resource)
        // A turn's id is its trace id; everything else gets the ids that it always had.
        .with_id_generator(DerivedIds::default())
        .with_batch_exporter(SpanExporter::builder().with_http().build()?)
        .build();

    let own_spans = tracing_opentelemetry::layer()
        .with_tracer(traces.tracer("my-agent"))
        .with_filter(filter_fn(|it| !it.target().starts_with("factline::")));
    tracing_subscriber::registry()
        .with(own_spans)
        .with(sdk_layer(&logs, &traces).with_filter(only_facts()))
        .init();

    // A turn that begins within a span of the host lies below it.
    let capture = factline::fact::Capture::NONE;
    let facts = Facts::with_observer(Observer::new(capture).with_host_parent(otel::current_span), capture);
    let request = tracing::info_span!("POST /agent");
    request.in_scope(|| {
        let turn = facts.begin(&TurnStart {
            thread_id: "01a201f3-bb59-7381-9611-25e8d997799f".into(),
            turn_id: "01a201f3-bbc2-7210-93e3-c9061bfde670".into(),
            agent: "my-agent".into(),
            ..TurnStart::default()
        });
        turn.end(&TurnEnd { status: "completed".into(), ..TurnEnd::default() });
    });
    drop(request);

    logs.shutdown()?;
    traces.shutdown()?;
    Ok(())
}
