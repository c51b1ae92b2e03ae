//! Facts through an OpenTelemetry SDK that the host already runs.
//!
//! A [`Sink`] that hands finished records to the SDK's providers: what they hold was made by the same code as in the
//! durable mode, so that both say the same. The resource is the provider's.

mod convert;
mod ids;
mod sampler;

use std::fmt;
use std::sync::Once;

use opentelemetry::logs::{LogRecord as _, Logger as _, LoggerProvider as _};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_proto::tonic::logs::v1::ScopeLogs;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData, SpanProcessor};
use prost::Message as _;

pub use ids::DerivedIds;
pub use sampler::TurnSampler;

use super::resource::Resource;
use super::sink::{Accepted, Signal, Sink};
use super::{OtelLayer, layer};

/// Where spans go.
pub enum Spans {
    /// To a provider. Spans keep their derived ids where it was built with [`DerivedIds`]; its sampler decides.
    Provider(SdkTracerProvider),
    /// To a processor, as finished spans with their derived ids, past every sampler and limit. It has to know its
    /// resource (`SpanProcessor::set_resource`).
    Processor(Box<dyn SpanProcessor>),
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provider(_) => "Provider",
            Self::Processor(_) => "Processor",
        })
    }
}

impl From<&SdkTracerProvider> for Spans {
    fn from(provider: &SdkTracerProvider) -> Self {
        Self::Provider(provider.clone())
    }
}

impl From<Box<dyn SpanProcessor>> for Spans {
    fn from(processor: Box<dyn SpanProcessor>) -> Self {
        Self::Processor(processor)
    }
}

/// A layer that hands facts to the providers of an OpenTelemetry SDK: the same log records and spans that
/// [`layer`](super::layer) writes, with the same names, times and ids.
///
/// A span is made when its end is known. Nothing is durable before the SDK's exporter has it: what is open or queued
/// when the process dies is lost, which the [durable mode](super::layer) prevents.
///
/// Two mistakes are said once each on standard error: a provider without [`DerivedIds`], whose spans get random ids
/// (a turn can then not be found by its id, and its tools are in another trace), and a sampler by ratio of the SDK's
/// own, which looks at bits that are not random in our trace ids (see [`TurnSampler`]).
pub fn sdk_layer(logs: &SdkLoggerProvider, spans: impl Into<Spans>) -> OtelLayer {
    sdk_layer_with(logs, spans, |warning| eprintln!("factline: {warning}"))
}

/// The same, with somebody else to be told of mistakes. Must not emit through `tracing`.
pub fn sdk_layer_with(
    logs: &SdkLoggerProvider,
    spans: impl Into<Spans>,
    warn: impl Fn(&str) + Send + Sync + 'static,
) -> OtelLayer {
    let scope = InstrumentationScope::builder("factline").with_version(env!("CARGO_PKG_VERSION")).build();
    let target = match spans.into() {
        Spans::Provider(provider) => {
            // There is no way to ask; the provider shows its configuration.
            if format!("{provider:?}").contains("TraceIdRatioBased") {
                warn(
                    "the tracer provider samples with TraceIdRatioBased, which looks at the bits of a trace id that \
                     hold its time here, and keeps all turns or none; use factline::otel::TurnSampler",
                );
            }
            Target::Tracer(provider.tracer_with_scope(scope.clone()))
        }
        Spans::Processor(processor) => Target::Processor(processor),
    };
    let logger = logs.logger_with_scope(scope.clone());
    layer(SdkSink { logger, scope, target, warn: Box::new(warn), warned: Once::new() }, Resource::new(""))
}

enum Target {
    Tracer(SdkTracer),
    Processor(Box<dyn SpanProcessor>),
}

struct SdkSink {
    logger: SdkLogger,
    scope: InstrumentationScope,
    target: Target,
    warn: Box<dyn Fn(&str) + Send + Sync>,
    warned: Once,
}

impl Sink for SdkSink {
    // The providers have a resource of their own.
    fn set_header(&self, _: Signal, _: &[u8]) {}

    fn accept(&self, accepted: Accepted<'_>) {
        for (signal, _, record) in accepted.records {
            match signal {
                // Written by this crate a moment ago: what doesn't decode can't be there.
                Signal::Logs => {
                    let records = ScopeLogs::decode(*record).unwrap_or_default().log_records;
                    records.into_iter().for_each(|record| self.log(record));
                }
                Signal::Traces => {
                    let spans = ScopeSpans::decode(*record).unwrap_or_default().spans;
                    spans.into_iter().for_each(|span| self.span(span));
                }
                // The layer of facts makes none.
                Signal::Metrics => {}
            }
        }
    }
}

impl SdkSink {
    fn log(&self, record: opentelemetry_proto::tonic::logs::v1::LogRecord) {
        let mut log = self.logger.create_log_record();
        if let Some(name) = convert::event_name(&record.event_name) {
            log.set_event_name(name);
        }
        log.set_timestamp(convert::time(record.time_unix_nano));
        log.set_observed_timestamp(convert::time(record.observed_time_unix_nano));
        if let Some(severity) = convert::severity(record.severity_number) {
            log.set_severity_number(severity);
        }
        if let Some(body) = record.body.and_then(convert::log_value) {
            log.set_body(body);
        }
        for attribute in record.attributes {
            if let Some(value) = attribute.value.and_then(convert::log_value) {
                log.add_attribute(attribute.key, value);
            }
        }
        let (trace, span) = (convert::trace_id(&record.trace_id), convert::span_id(&record.span_id));
        if trace != TraceId::INVALID {
            log.set_trace_context(trace, span, Some(TraceFlags::new(record.flags as u8)));
        }
        // Or a record of no trace would be given the host's.
        let _none = Context::new().attach();
        self.logger.emit(log);
    }

    fn span(&self, span: Span) {
        match &self.target {
            Target::Tracer(tracer) => self.start_and_end(tracer, span),
            Target::Processor(processor) => processor.on_end(self.data(span)),
        }
    }

    fn start_and_end(&self, tracer: &SdkTracer, span: Span) {
        let data = self.data(span);
        let wanted = (data.span_context.trace_id(), data.span_context.span_id());
        let parent = if data.parent_span_id == SpanId::INVALID {
            Context::new()
        } else {
            Context::new().with_remote_span_context(SpanContext::new(
                wanted.0,
                data.parent_span_id,
                TraceFlags::SAMPLED,
                data.parent_span_is_remote,
                TraceState::default(),
            ))
        };
        let builder = SpanBuilder::from_name(data.name)
            .with_kind(data.span_kind)
            .with_start_time(data.start_time)
            .with_attributes(data.attributes)
            .with_links(data.links.links)
            .with_events(data.events.events);
        let mut span = ids::with(wanted, || tracer.build_with_context(builder, &parent));
        if span.span_context().span_id() != wanted.1 {
            self.warned.call_once(|| {
                (self.warn)(
                    "the tracer provider draws span ids at random, so no turn can be found by its id and no call lies \
                     below its turn; build it with .with_id_generator(factline::otel::DerivedIds::default())",
                );
            });
        }
        span.set_status(data.status);
        span.end_with_timestamp(data.end_time);
    }

    fn data(&self, span: Span) -> SpanData {
        convert::span_data(span, self.scope.clone())
    }
}
