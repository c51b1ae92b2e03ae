//! A queue in memory with real OTLP log records in it.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use factline::deliver::{Batch, Settled, Source};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

#[derive(Default)]
pub struct Inside {
    pub records: Vec<Vec<u8>>,
    given: usize,
    pub settled: usize,
    pub delivered: u64,
    pub lost: Vec<(&'static str, u64)>,
    pub dead: Vec<(Vec<u8>, String)>,
}

/// Clones are the same queue.
#[derive(Clone, Default)]
pub struct Memory(Arc<(Mutex<Inside>, Condvar)>);

impl Memory {
    pub fn of_logs(names: impl IntoIterator<Item = String>) -> Self {
        let memory = Self::default();
        memory.push(names);
        memory
    }

    pub fn push(&self, names: impl IntoIterator<Item = String>) {
        let frames = names.into_iter().map(|name| frame(&log(&name)));
        self.0.0.lock().unwrap().records.extend(frames);
    }

    pub fn push_raw(&self, frame: Vec<u8>) {
        self.0.0.lock().unwrap().records.push(frame);
    }

    pub fn with<T>(&self, call: impl FnOnce(&Inside) -> T) -> T {
        call(&self.0.0.lock().unwrap())
    }

    /// Waits until every record has an end.
    pub fn wait_settled(&self) {
        let (inside, changed) = &*self.0;
        let limit = Duration::from_secs(10);
        let unsettled = |inside: &mut Inside| inside.settled < inside.records.len();
        let (inside, late) = changed.wait_timeout_while(inside.lock().unwrap(), limit, unsettled).unwrap();
        assert!(!late.timed_out(), "{} of {} settled", inside.settled, inside.records.len());
    }
}

impl Source for Memory {
    fn next(&mut self, max_bytes: usize, max_records: usize) -> io::Result<Option<Batch>> {
        let mut inside = self.0.0.lock().unwrap();
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        while let Some(record) = inside.records.get(inside.given) {
            if ends.len() == max_records || (!ends.is_empty() && bytes.len() + record.len() > max_bytes) {
                break;
            }
            bytes.extend_from_slice(record);
            ends.push(bytes.len());
            inside.given += 1;
        }
        Ok((!ends.is_empty()).then(|| Batch { header: header().into(), bytes, ends }))
    }

    fn settle(&mut self, batch: &Batch, settled: Settled) -> io::Result<()> {
        let mut inside = self.0.0.lock().unwrap();
        let lost: u64 = settled.lost.iter().map(|(_, count)| count).sum();
        assert_eq!(settled.delivered + lost, batch.len() as u64);
        inside.settled += batch.len();
        inside.delivered += settled.delivered;
        inside.lost.extend(settled.lost);
        self.0.1.notify_all();
        Ok(())
    }

    fn rewind(&mut self) {
        let mut inside = self.0.0.lock().unwrap();
        inside.given = inside.settled;
    }

    fn dead_letter(&mut self, _: &[u8], payload: &[u8], reason: &str) -> io::Result<()> {
        self.0.0.lock().unwrap().dead.push((payload.to_vec(), reason.to_owned()));
        Ok(())
    }
}

pub fn frame(record: &impl Message) -> Vec<u8> {
    [vec![0x12], record.encode_length_delimited_to_vec()].concat()
}

pub fn header_of(resource: &impl Message, scope: &impl Message) -> Vec<u8> {
    let resource = resource.encode_to_vec();
    [(resource.len() as u32).to_le_bytes().to_vec(), resource, scope.encode_to_vec()].concat()
}

pub fn attribute(key: &str, value: Option<Value>) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value }), ..Default::default() }
}

fn header() -> Vec<u8> {
    let attributes = vec![attribute("service.name", Some(Value::StringValue("codex".into())))];
    let resource = Some(Resource { attributes, ..Default::default() });
    let scope = Some(InstrumentationScope { name: "factline".into(), ..Default::default() });
    header_of(&ResourceLogs { resource, ..Default::default() }, &ScopeLogs { scope, ..Default::default() })
}

fn log(name: &str) -> LogRecord {
    LogRecord { event_name: name.to_owned(), time_unix_nano: 1, ..Default::default() }
}

/// The event names in a request body.
pub fn names(body: &[u8]) -> Vec<String> {
    let request = ExportLogsServiceRequest::decode(body).unwrap();
    let scopes = request.resource_logs.into_iter().flat_map(|logs| logs.scope_logs);
    scopes.flat_map(|scope| scope.log_records).map(|record| record.event_name).collect()
}
