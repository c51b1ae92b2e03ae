//! Content through the providers of an OpenTelemetry SDK, with points as events of spans.

use factline::fact::{Capture, Class, Kind};
use factline::otel::{Messages, Spans, sdk_layer_with};
use factline::protocol::{Ended, Observer, Transport};
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use prost::Message as _;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::exported::{Exported, processor, provider, sorted};
use crate::{SECRETS, holds, observed, session, word};

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

/// In one order: that of maps, and that of records.
fn in_order(mut logs: Vec<LogRecord>, spans: Vec<Span>) -> [Vec<String>; 2] {
    let attributes = logs.iter_mut().flat_map(|log| &mut log.attributes);
    attributes.for_each(|attribute| put_in_order(&mut attribute.value));
    sorted(logs, spans).into()
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
            let (expected, got) = (in_order(kept.logs.clone(), kept.spans.clone()), in_order(logs, spans));
            for (expected, got) in expected.iter().zip(&got) {
                let different = expected.iter().zip(got).find(|(expected, got)| expected != got);
                assert!(different.is_none(), "{capture} {messages:?}: {different:#?}");
                assert_eq!(expected.len(), got.len(), "{capture}");
            }
        }
    }
}
