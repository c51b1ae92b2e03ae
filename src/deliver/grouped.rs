//! A queue of analytics events, given out in the groups that travel together.
//!
//! Codex's own client sends events of different products in different requests, unless there are more than 16 of
//! them, and the fingerprints of accepted lines alone. A batch of the queue is therefore given out in parts, and
//! settled in the queue when all of them are.

use std::collections::VecDeque;
use std::io;

use serde::Deserialize;

use super::source::{Batch, Settled, Source};

/// With more products than this in a batch they travel together, as the original's do.
const PRODUCTS: usize = 16;
/// Event types that travel alone.
const ALONE: [&str; 1] = ["codex_accepted_line_fingerprints"];

/// Gives out an inner source's batches by group.
pub(super) struct Grouped {
    inner: Box<dyn Source>,
    open: VecDeque<Open>,
}

/// A batch of the inner source.
struct Open {
    whole: Batch,
    groups: Vec<Batch>,
    given: usize,
    settled_groups: usize,
    settled: Settled,
}

impl Grouped {
    pub(super) fn new(inner: Box<dyn Source>) -> Self {
        Self { inner, open: VecDeque::new() }
    }

    fn give(&mut self) -> Option<Batch> {
        let open = self.open.iter_mut().find(|open| open.given < open.groups.len())?;
        let group = open.groups.get(open.given).cloned();
        open.given += 1;
        group
    }
}

impl Source for Grouped {
    fn next(&mut self, max_bytes: usize, max_records: usize) -> io::Result<Option<Batch>> {
        if let Some(group) = self.give() {
            return Ok(Some(group));
        }
        let Some(whole) = self.inner.next(max_bytes, max_records)? else { return Ok(None) };
        let groups = groups(&whole);
        self.open.push_back(Open { whole, groups, given: 0, settled_groups: 0, settled: Settled::default() });
        Ok(self.give())
    }

    fn settle(&mut self, _: &Batch, settled: Settled) -> io::Result<()> {
        let Some(first) = self.open.front_mut() else { return Ok(()) };
        let mut sum = first.settled.clone();
        sum.delivered += settled.delivered;
        sum.lost.extend(settled.lost);
        if first.settled_groups + 1 < first.groups.len() {
            first.settled = sum;
            first.settled_groups += 1;
            return Ok(());
        }
        self.inner.settle(&first.whole, sum)?;
        self.open.pop_front();
        Ok(())
    }

    /// When part of a batch was settled already, the rest is given out again from here: the queue would give out
    /// all of it, and what was delivered would be delivered twice.
    fn rewind(&mut self) {
        if self.open.front().is_none_or(|first| first.settled_groups == 0) {
            self.open.clear();
            return self.inner.rewind();
        }
        for open in &mut self.open {
            open.given = open.settled_groups;
        }
    }

    fn dead_letter(&mut self, header: &[u8], payload: &[u8], reason: &str) -> io::Result<()> {
        self.inner.dead_letter(header, payload, reason)
    }
}

/// What of an event decides with which others it travels.
#[derive(Deserialize)]
struct Head {
    event_type: String,
    #[serde(default)]
    event_params: Params,
}

#[derive(Default, Deserialize)]
struct Params {
    product_client_id: Option<String>,
    app_server_client: Option<Client>,
}

#[derive(Deserialize)]
struct Client {
    product_client_id: Option<String>,
}

#[derive(PartialEq, Eq)]
enum Group {
    Of(Option<String>),
    Alone,
}

fn group(event: &[u8]) -> Group {
    // What can't be read travels alone, where it can spoil nothing.
    let Ok(Head { event_type, event_params }) = serde_json::from_slice(event) else { return Group::Alone };
    if ALONE.contains(&event_type.as_str()) {
        return Group::Alone;
    }
    let Params { product_client_id, app_server_client } = event_params;
    Group::Of(app_server_client.and_then(|client| client.product_client_id).or(product_client_id))
}

/// The batches that `whole` is sent as: products in the order in which their first events were accepted, then
/// what travels alone.
fn groups(whole: &Batch) -> Vec<Batch> {
    let of: Vec<Group> = (0..whole.len()).map(|record| group(whole.frames(record..record + 1))).collect();
    let mut groups: Vec<(&Group, Vec<usize>)> = Vec::new();
    for (record, group) in of.iter().enumerate() {
        match groups.iter_mut().find(|(known, _)| *known == group && **known != Group::Alone) {
            Some((_, records)) => records.push(record),
            None => groups.push((group, vec![record])),
        }
    }
    let (alone, products): (Vec<_>, Vec<_>) =
        groups.into_iter().partition(|(group, _)| **group == Group::Alone);
    let mut parts: Vec<Vec<usize>> = products.into_iter().map(|(_, records)| records).collect();
    if parts.len() > PRODUCTS {
        let mut together = parts.concat();
        together.sort_unstable();
        parts = vec![together];
    }
    parts.extend(alone.into_iter().map(|(_, records)| records));
    match parts.len() {
        0 | 1 => vec![whole.clone()],
        _ => parts.iter().map(|records| pick(whole, records)).collect(),
    }
}

fn pick(whole: &Batch, records: &[usize]) -> Batch {
    let mut part = Batch { header: whole.header.clone(), bytes: Vec::new(), ends: Vec::new() };
    for record in records {
        part.bytes.extend_from_slice(whole.frames(*record..record + 1));
        part.ends.push(part.bytes.len());
    }
    part
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Default)]
    struct Log {
        given: usize,
        settled: Vec<Settled>,
        fail: bool,
    }

    /// Gives out its batches one after the other.
    struct Fixed(Vec<Batch>, Arc<Mutex<Log>>);

    impl Source for Fixed {
        fn next(&mut self, _: usize, _: usize) -> io::Result<Option<Batch>> {
            let mut log = self.1.lock().unwrap();
            log.given += 1;
            Ok(self.0.get(log.given - 1).cloned())
        }

        fn settle(&mut self, batch: &Batch, settled: Settled) -> io::Result<()> {
            let mut log = self.1.lock().unwrap();
            if std::mem::take(&mut log.fail) {
                return Err(io::Error::other("disk"));
            }
            assert_eq!(settled.delivered as usize + settled.lost.len(), batch.len());
            log.settled.push(settled);
            Ok(())
        }

        fn rewind(&mut self) {
            let mut log = self.1.lock().unwrap();
            log.given = log.settled.len();
        }

        fn dead_letter(&mut self, _: &[u8], _: &[u8], _: &str) -> io::Result<()> {
            Ok(())
        }
    }

    fn of(product: &str) -> String {
        format!(r#"{{"event_type":"t","event_params":{{"product_client_id":"{product}"}}}}"#)
    }

    fn batch(events: &[String]) -> Batch {
        let mut out = Batch { header: [7].into(), bytes: vec![], ends: vec![] };
        for event in events {
            out.bytes.extend_from_slice(event.as_bytes());
            out.ends.push(out.bytes.len());
        }
        out
    }

    fn grouped(batches: Vec<Batch>) -> (Grouped, Arc<Mutex<Log>>) {
        let log = Arc::default();
        (Grouped::new(Box::new(Fixed(batches, Arc::clone(&log)))), log)
    }

    fn done(records: u64) -> Settled {
        Settled { delivered: records, lost: vec![] }
    }

    #[test]
    fn products_travel_apart_and_line_fingerprints_and_the_unreadable_alone() {
        let nested = r#"{"event_type":"t","event_params":{"app_server_client":{"product_client_id":"a"}}}"#;
        let lines = r#"{"event_type":"codex_accepted_line_fingerprints","event_params":{}}"#;
        let events = [&of("a"), &of("b"), lines, "broken", nested, lines, &of("b")].map(str::to_owned);
        let lengths: Vec<_> = groups(&batch(&events)).iter().map(Batch::len).collect();
        assert_eq!(lengths, [2, 2, 1, 1, 1]);
        assert_eq!(groups(&batch(&events))[0], batch(&[of("a"), nested.to_owned()]));
    }

    #[test]
    fn more_than_sixteen_products_travel_together() {
        let lines = r#"{"event_type":"codex_accepted_line_fingerprints","event_params":{}}"#.to_owned();
        let mut events: Vec<_> = (0..17).map(|product| of(&product.to_string())).collect();
        assert_eq!(groups(&batch(&events[..16])).len(), 16);
        events.insert(3, lines);
        let lengths: Vec<_> = groups(&batch(&events)).iter().map(Batch::len).collect();
        assert_eq!(lengths, [17, 1]);
    }

    #[test]
    fn the_queue_is_told_once_all_groups_are_settled_and_again_after_an_error() {
        let whole = batch(&[of("a"), of("b"), of("a")]);
        let (mut source, log) = grouped(vec![whole.clone(), whole]);
        let (a, b) = (source.next(1, 1).unwrap().unwrap(), source.next(1, 1).unwrap().unwrap());
        assert_eq!((a.len(), b.len()), (2, 1));
        source.settle(&a, done(2)).unwrap();
        assert!(log.lock().unwrap().settled.is_empty());
        log.lock().unwrap().fail = true;
        let refused = Settled { delivered: 0, lost: vec![("rejected", 1)] };
        source.settle(&b, refused.clone()).unwrap_err();
        source.settle(&b, refused).unwrap();
        assert_eq!(log.lock().unwrap().settled, [Settled { delivered: 2, lost: vec![("rejected", 1)] }]);
        assert_eq!(source.next(1, 1).unwrap().unwrap().len(), 2);
    }

    #[test]
    fn what_was_settled_is_not_given_out_again() {
        let whole = batch(&[of("a"), of("b")]);
        let (mut source, log) = grouped(vec![whole.clone(), whole]);
        let next = |source: &mut Grouped| source.next(1, 1).unwrap();
        let a = next(&mut source).unwrap();
        source.rewind();
        assert_eq!(next(&mut source).unwrap(), a);
        source.settle(&a, done(1)).unwrap();
        let rest: Vec<_> = (0..3).map(|_| next(&mut source).unwrap()).collect();
        assert_eq!(next(&mut source), None);
        source.rewind();
        let again: Vec<_> = (0..3).map(|_| next(&mut source).unwrap()).collect();
        assert_eq!(again, rest);
        for group in &again {
            source.settle(group, done(1)).unwrap();
        }
        assert_eq!(log.lock().unwrap().settled, [done(2), done(2)]);
    }
}
