//! An application's own telemetry through the outbox: what an OpenTelemetry SDK hands to a processor or exporter is
//! stored, and delivered as facts are.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::logs::LogRecord as _;
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{SpanData, SpanExporter, SpanProcessor};
use prost::Message;

use crate::outbox::{Outbox, Queue, Record, Transaction};

/// Log records of an application, into the outbox.
///
/// As a [`LogProcessor`] (`with_log_processor`) a record is accepted, as safe as the outbox's policy makes it, when
/// the call that emitted it returns; nothing queues in memory. As a [`LogExporter`] it is when its batch is
/// exported, for what has to pass another processor first. `force_flush` returns when everything survives a loss of
/// power; it waits for no network, and neither does `shutdown`. What the outbox refuses is counted there; an export
/// then fails, with everything else of its batch accepted.
///
/// The queue must have no other writer: a batch belongs to one resource and scope, which this sets as it goes.
#[derive(Debug)]
pub struct DurableLogs(Writer);

/// Spans of an application, into the outbox, when they end. As [`DurableLogs`] otherwise; a span that is open when
/// the process dies is lost.
#[derive(Debug)]
pub struct DurableSpans(Writer);

impl DurableLogs {
    /// Writes to `queue` of `outbox`, which must be delivered as logs.
    pub fn new(outbox: Outbox, queue: Queue) -> Self {
        Self(Writer::new(outbox, queue))
    }

    fn store(&self, record: &SdkLogRecord, scope: &InstrumentationScope) -> Result<(), OTelSdkError> {
        let time = record.timestamp().or(record.observed_timestamp()).map_or(0, ns);
        self.0.store(scope, record.target(), time, &LogRecord::from(record))
    }
}

impl DurableSpans {
    /// Writes to `queue` of `outbox`, which must be delivered as traces.
    pub fn new(outbox: Outbox, queue: Queue) -> Self {
        Self(Writer::new(outbox, queue))
    }

    fn store(&self, span: SpanData) -> Result<(), OTelSdkError> {
        let (scope, time) = (span.instrumentation_scope.clone(), ns(span.end_time));
        self.0.store(&scope, None, time, &Span::from(span))
    }
}

impl LogProcessor for DurableLogs {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if record.observed_timestamp().is_none() {
            record.set_observed_timestamp(SystemTime::now());
        }
        // What is refused is counted by the outbox; there is nobody here to tell.
        let _ = self.store(record, scope);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.flush()
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        self.0.flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

impl LogExporter for DurableLogs {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let mut outcome = Ok(());
        for (record, scope) in batch.iter() {
            let stored = if record.observed_timestamp().is_some() {
                self.store(record, scope)
            } else {
                let mut record = record.clone();
                record.set_observed_timestamp(SystemTime::now());
                self.store(&record, scope)
            };
            outcome = outcome.and(stored);
        }
        outcome
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        self.0.flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

impl SpanProcessor for DurableSpans {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            // As above.
            let _ = self.store(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.flush()
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        self.0.flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

impl SpanExporter for DurableSpans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut outcome = Ok(());
        for span in batch {
            outcome = outcome.and(self.store(span));
        }
        outcome
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        self.0.flush()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// Instrumentation scope, and the target that stands in its place.
type Scope = (InstrumentationScope, Option<Cow<'static, str>>);

struct Writer {
    outbox: Outbox,
    queue: Queue,
    resource: ResourceAttributesWithSchema,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the records that follow belong to, as the outbox knows it.
    scope: Option<Scope>,
    record: Vec<u8>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Writer {
    fn new(outbox: Outbox, queue: Queue) -> Self {
        Self { outbox, queue, resource: Default::default(), state: Mutex::default() }
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
        self.state = Mutex::default();
    }

    fn store(
        &self,
        scope: &InstrumentationScope,
        target: Option<&Cow<'static, str>>,
        time_ns: u64,
        record: &impl Message,
    ) -> Result<(), OTelSdkError> {
        // Held over both: between a header and its records nobody else's may come.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { scope: known, record: payload } = &mut *state;
        if !known.as_ref().is_some_and(|(known, of)| known == scope && of.as_ref() == target) {
            self.outbox.set_header(self.queue, &self.header(scope, target));
            *known = Some((scope.clone(), target.cloned()));
        }
        payload.clear();
        payload.push(RECORD);
        prost::encoding::encode_varint(record.encoded_len() as u64, payload);
        record.encode_raw(payload);
        let records = [Record { queue: self.queue, time_ns, content: false, payload }];
        let stored = self.outbox.append(Transaction { records: &records, ..Transaction::default() });
        stored.map_err(|refused| OTelSdkError::InternalFailure(format!("the outbox: {refused}")))
    }

    /// As [`Header`](super::Header) has it; logs and spans have the same numbers in it.
    fn header(&self, scope: &InstrumentationScope, target: Option<&Cow<'static, str>>) -> Vec<u8> {
        let resource = opentelemetry_proto::tonic::resource::v1::Resource {
            attributes: self.resource.attributes.0.clone(),
            ..Default::default()
        };
        let schema_url = self.resource.schema_url.clone().unwrap_or_default();
        let head =
            ResourceLogs { resource: Some(resource), schema_url, ..Default::default() }.encode_to_vec();
        let schema_url = scope.schema_url().unwrap_or_default().to_owned();
        let scope = Some((scope, target.cloned()).into());
        let inner = ScopeLogs { scope, schema_url, ..Default::default() }.encode_to_vec();
        let mut header = (head.len() as u32).to_le_bytes().to_vec();
        header.extend(head);
        header.extend(inner);
        header
    }

    fn flush(&self) -> OTelSdkResult {
        let failed = |error: io::Error| OTelSdkError::InternalFailure(format!("the outbox: {error}"));
        self.outbox.sync().map_err(failed)
    }
}

/// `ScopeLogs.log_records` and `ScopeSpans.spans`: field 2, of variable length.
const RECORD: u8 = 0x12;

fn ns(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
