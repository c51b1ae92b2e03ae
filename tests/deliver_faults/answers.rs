//! What a collector may answer over HTTP, and what becomes of the records.

use std::time::{Duration, Instant, SystemTime};

use factline::deliver::RouteState;

use super::collector::{Collector, Reply};
use super::{deliver, ledger, logs, only, soon};

#[test]
fn a_success_is_one_whatever_stands_in_its_body() {
    for protocol in ["http/protobuf", "http/json"] {
        for (kind, body) in [
            ("text/html", "<html>"),
            ("application/x-protobuf", "\u{1}\u{2}"),
            ("application/json", "{\"partialSuccess\":7}"),
            ("", ""),
        ] {
            let kind = vec![("content-type", kind.to_owned())];
            let collector = Collector::start(move |_, _| Reply::Status(200, kind.clone(), body.into()));
            let queue = logs(3);
            let deliverer = deliver(&queue, protocol, collector.address, 5000);
            assert!(deliverer.flush(soon()).is_complete());
            assert_eq!((collector.requests().len(), ledger(&queue)), (1, (3, 0, 0)), "{protocol} {body}");
        }
    }
}

#[test]
fn every_form_of_retry_after_is_waited_for_or_not() {
    let date = |offset: i64| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs((now + offset) as u64))
    };
    let capped = Duration::from_secs(600);
    for (text, waits) in [
        ("1", Some(Duration::from_secs(1))),
        ("in 2", Some(Duration::from_secs(1))),
        ("in -60", None),
        ("soon", None),
        ("-1", None),
        ("1000000000000", Some(capped)),
        ("in 400000000", Some(capped)),
    ] {
        for status in [429, 503] {
            // A date is made when it is used.
            let told = match text.strip_prefix("in ") {
                Some(offset) => date(offset.parse().unwrap()),
                None => text.to_owned(),
            };
            let header = vec![("retry-after", told)];
            let collector = Collector::start(move |number, _| match number {
                0 => Reply::Status(status, header.clone(), vec![]),
                _ => Reply::ok(),
            });
            let queue = logs(2);
            let deliverer = deliver(&queue, "http/protobuf", collector.address, 5000);
            if waits == Some(capped) {
                assert!(!deliverer.flush(Instant::now() + Duration::from_millis(300)).is_complete());
                let RouteState::BackingOff { until } = only(&deliverer).state else { panic!("{text}") };
                let left = until.saturating_duration_since(Instant::now());
                assert!(left <= capped && left > Duration::from_secs(590), "{text}: {left:?}");
                assert_eq!((collector.requests().len(), ledger(&queue)), (1, (0, 0, 2)));
                continue;
            }
            assert!(deliverer.flush(soon()).is_complete());
            let requests = collector.requests();
            let waited = requests[1].at - requests[0].at;
            assert!(waits.is_none_or(|least| waited >= least), "{text}: {waited:?}");
            assert!(waits.is_some() || waited < Duration::from_secs(1), "{text}: {waited:?}");
            assert_eq!((requests.len(), ledger(&queue)), (2, (2, 0, 0)));
        }
    }
}

#[test]
fn every_status_does_what_the_table_says() {
    // Requests, delivered, lost and queued, for two records and a collector that answers so once.
    for (status, expected) in [
        (502, (2, 2, 0, 0)),
        (504, (2, 2, 0, 0)),
        (429, (2, 2, 0, 0)),
        (503, (2, 2, 0, 0)),
        (500, (1, 0, 2, 0)),
        (408, (1, 0, 2, 0)),
        (501, (1, 0, 0, 2)),
        (404, (1, 0, 0, 2)),
        (401, (1, 0, 0, 2)),
        (403, (1, 0, 0, 2)),
        (301, (1, 0, 0, 2)),
        (400, (3, 2, 0, 0)),
        (413, (3, 2, 0, 0)),
    ] {
        for protocol in ["http/protobuf", "http/json"] {
            let collector =
                Collector::start(move |number, _| Reply::status(if number == 0 { status } else { 200 }));
            let queue = logs(2);
            let deliverer = deliver(&queue, protocol, collector.address, 5000);
            // A flush tries what is paused once more, so that the first request is waited for without one.
            collector.wait_for(1);
            while only(&deliverer).last_error.is_none() {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            let paused = expected.3 > 0;
            if !paused {
                assert!(deliverer.flush(soon()).is_complete());
            }
            let (delivered, lost, queued) = ledger(&queue);
            assert_eq!((collector.requests().len(), delivered, lost, queued), expected, "{status}");
            assert_eq!(queue.with(|inside| inside.dead.len()) as u64, lost, "each refused record is kept");
            if paused {
                assert!(deliverer.flush(soon()).is_complete(), "and when it is mended, they are sent");
                assert_eq!(ledger(&queue), (2, 0, 0));
            }
        }
    }
}

#[test]
fn a_message_of_a_megabyte_is_cut_and_made_harmless() {
    let said = format!("\u{1b}]0;title\u{7}{}", "é".repeat(1 << 19));
    let inner = [vec![8, 9, 18], varint(said.len()), said.into_bytes()].concat();
    let body = [vec![10], varint(inner.len()), inner].concat();
    let collector = Collector::start(move |_, _| Reply::Status(200, vec![], body.clone()));
    let queue = logs(3);
    let deliverer = deliver(&queue, "http/protobuf", collector.address, 5000);
    assert!(deliverer.flush(soon()).is_complete());
    let error = only(&deliverer).last_error.unwrap();
    assert!(error.len() < 1000 && !error.contains(['\u{1b}', '\u{7}']), "{error}");
    assert_eq!(ledger(&queue), (0, 3, 0), "nine of three were rejected: three");
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
