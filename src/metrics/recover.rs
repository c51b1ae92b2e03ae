//! Metrics that a dead process had measured and not exported.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_proto::tonic::metrics::v1::ScopeMetrics;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use prost::Message as _;

use super::encode::frames;
use crate::outbox::{Key, Lane, Queue, Record, Transaction};

const PREFIX: &[u8; 16] = b"factline.metrics";

/// The key of one exporter's checkpoint. No span has it: the first half is no trace id that comes of a UUID.
pub(super) fn key() -> Key {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut key = [0; 24];
    let (prefix, number) = key.split_at_mut(16);
    prefix.copy_from_slice(PREFIX);
    number.copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Key(key)
}

/// Makes records of what the owner of `lane` measured and did not export, and returns how many there were. What it
/// counted as running runs no longer.
///
/// # Errors
/// The lane could not be written.
pub fn recover(lane: &Lane, queue: Option<Queue>) -> io::Result<usize> {
    let mut count = 0;
    for left in lane.unfinished().into_iter().filter(|left| left.key.0.starts_with(PREFIX)) {
        let metrics = stopped(&left.payload);
        let record =
            queue.map(|queue| Record { queue, time_ns: left.time_ns, content: false, payload: &metrics });
        let records = record.as_slice();
        lane.finish(Transaction { begin: None, end: Some(left.key), records })?;
        count += 1;
    }
    Ok(count)
}

fn stopped(payload: &[u8]) -> Vec<u8> {
    // The entries of a scope are a scope without a name.
    let Ok(mut scope) = ScopeMetrics::decode(payload) else { return payload.to_vec() };
    for metric in &mut scope.metrics {
        if let Some(Data::Sum(sum)) = &mut metric.data
            && !sum.is_monotonic
        {
            sum.data_points.iter_mut().for_each(|point| point.value = Some(Value::AsInt(0)));
        }
    }
    frames(scope.metrics.iter())
}
