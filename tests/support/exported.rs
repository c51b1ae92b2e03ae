//! What an OpenTelemetry SDK of a host gives to exporters, kept in memory as OTLP.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use factline::otel::{DerivedIds, Spans};
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanProcessor};

/// What a host's exporters would be given, as OTLP.
#[derive(Clone, Debug, Default)]
pub struct Exported(pub Arc<Mutex<(Vec<LogRecord>, Vec<Span>)>>);

impl LogProcessor for Exported {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        assert_eq!(scope.name(), "factline");
        self.0.lock().unwrap().0.push(LogRecord::from(&*record));
    }
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl SpanProcessor for Exported {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}
    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().1.push(Span::from(span));
    }
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

pub fn provider(exported: Exported) -> Spans {
    let ids = DerivedIds::default();
    (&SdkTracerProvider::builder().with_id_generator(ids).with_span_processor(exported).build()).into()
}

pub fn processor(exported: Exported) -> Spans {
    (Box::new(exported) as Box<dyn SpanProcessor>).into()
}

/// In an order of its own; an unset status and none are the same, as are no id and one of zeros.
pub fn sorted(mut logs: Vec<LogRecord>, mut spans: Vec<Span>) -> (Vec<String>, Vec<String>) {
    for log in &mut logs {
        if log.span_id.iter().all(|byte| *byte == 0) {
            log.span_id.clear();
        }
    }
    for span in &mut spans {
        span.status = Some(span.status.clone().unwrap_or_default());
    }
    let (mut logs, mut spans): (Vec<_>, Vec<_>) = (
        logs.iter().map(|log| format!("{log:?}")).collect(),
        spans.iter().map(|span| format!("{span:?}")).collect(),
    );
    logs.sort();
    spans.sort();
    (logs, spans)
}
