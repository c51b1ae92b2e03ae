//! Content through the providers of an OpenTelemetry SDK, with points as events of spans.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use factline::fact::{Capture, Class, Kind};
use factline::otel::{DerivedIds, Messages, Spans, sdk_layer_with};
use factline::protocol::{Ended, Observer, Transport};
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord, SdkLoggerProvider};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanProcessor};
use prost::Message as _;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::{SECRETS, holds, observed, session, word};

/// What a host's exporters would be given, as OTLP.
#[derive(Clone, Debug, Default)]
struct Exported(Arc<Mutex<(Vec<LogRecord>, Vec<Span>)>>);

impl LogProcessor for Exported {
    fn emit(&self, record: &mut SdkLogRecord, _: &InstrumentationScope) {
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

fn through_sdk(
    capture: Capture,
    messages: Messages,
    spans: fn(Exported) -> Spans,
) -> (Vec<LogRecord>, Vec<Span>) {
    let exported = Exported::default();
    let logs = SdkLoggerProvider::builder().with_log_processor(exported.clone()).build();
    let warn = |warning: &str| panic!("{warning}");
    let layer =
        sdk_layer_with(&logs, spans(exported.clone()), warn).with_span_events(128).with_messages(messages);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let mut observer = Observer::new(capture);
        observer.open(1, Transport::Stdio, 0);
        for (n, (sender, message)) in session().into_iter().enumerate() {
            observer.message(1, sender, 1_795_329_039_000_000 + n as u64, message.to_string().as_bytes());
        }
        observer.finish(Ended::ClientClosed);
    });
    std::mem::take(&mut *exported.0.lock().unwrap())
}

fn provider(exported: Exported) -> Spans {
    let ids = DerivedIds::default();
    (&SdkTracerProvider::builder().with_id_generator(ids).with_span_processor(exported).build()).into()
}

fn processor(exported: Exported) -> Spans {
    (Box::new(exported) as Box<dyn SpanProcessor>).into()
}

/// The SDK's maps have no order.
fn put_in_order(value: &mut Option<AnyValue>) {
    match value.as_mut().and_then(|value| value.value.as_mut()) {
        Some(Value::ArrayValue(all)) => {
            all.values.iter_mut().for_each(|value| {
                let mut own = Some(std::mem::take(value));
                put_in_order(&mut own);
                *value = own.unwrap();
            });
        }
        Some(Value::KvlistValue(all)) => {
            all.values.iter_mut().for_each(|member| put_in_order(&mut member.value));
            all.values.sort_by(|one, other| one.key.cmp(&other.key));
        }
        _ => {}
    }
}

/// In an order of its own; an unset status and none are the same, as are no id and one of zeros.
fn sorted(mut logs: Vec<LogRecord>, mut spans: Vec<Span>) -> [Vec<String>; 2] {
    for log in &mut logs {
        log.attributes.iter_mut().for_each(|attribute| put_in_order(&mut attribute.value));
        if log.span_id.iter().all(|byte| *byte == 0) {
            log.span_id.clear();
        }
    }
    for span in &mut spans {
        span.status = Some(span.status.clone().unwrap_or_default());
    }
    let logs: Vec<String> = logs.iter().map(|log| format!("{log:?}")).collect();
    let mut all = [logs, spans.iter().map(|span| format!("{span:?}")).collect()];
    all.iter_mut().for_each(|of| of.sort());
    all
}

#[test]
fn an_sdk_is_given_the_kinds_that_are_on_no_secret_and_what_the_durable_way_writes() {
    let alone = Kind::ALL.map(|kind| Capture::NONE.with(kind));
    for capture in alone.into_iter().chain([Capture::NONE, Capture::all()]) {
        for (messages, spans) in [
            (Messages::Both, provider as fn(Exported) -> Spans),
            (Messages::Both, processor),
            (Messages::Spans, provider),
            (Messages::Logs, processor),
        ] {
            let (logs, spans) = through_sdk(capture, messages, spans);
            let events: usize = spans.iter().map(|span| span.events.len()).sum();
            assert!(events > 2 && logs.len() > 10, "{capture}: {events} events");
            let mut bytes: Vec<u8> = logs.iter().flat_map(|log| log.encode_to_vec()).collect();
            bytes.extend(spans.iter().flat_map(|span| span.encode_to_vec()));
            for kind in Kind::ALL {
                assert_eq!(
                    holds(&bytes, &word(kind)),
                    capture.allows(Class::Content(kind)),
                    "{capture}: {}",
                    kind.name()
                );
            }
            SECRETS.iter().for_each(|secret| assert!(!holds(&bytes, secret), "{capture}: {secret}"));
            let (kept, ..) = observed(capture, |layer| layer.with_span_events(128).with_messages(messages));
            let kept = kept.0.lock().unwrap();
            let (expected, got) = (sorted(kept.logs.clone(), kept.spans.clone()), sorted(logs, spans));
            for (expected, got) in expected.iter().zip(&got) {
                let different = expected.iter().zip(got).find(|(expected, got)| expected != got);
                assert!(different.is_none(), "{capture} {messages:?}: {different:#?}");
                assert_eq!(expected.len(), got.len(), "{capture}");
            }
        }
    }
}
