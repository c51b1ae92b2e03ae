//! Delivery over real sockets, against a collector that answers as scripted.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/collector.rs"]
mod collector;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/memory.rs"]
mod memory;

use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpListener;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use collector::{Collector, Reply};
use factline::config::{Config, Destination};
use factline::deliver::{Deliverer, FileBounds, Pace, Route, RouteReport, RouteState};
use memory::{Memory, names};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;

/// What the environment says, as a user would set it.
fn destination(vars: &[(&str, &str)]) -> Destination {
    let vars = |name: &str| match vars.iter().find(|(known, _)| *known == name) {
        Some((_, value)) => Some((*value).to_owned()),
        None => (name == "HOME").then(|| "/nowhere".to_owned()),
    };
    Config::from_env(vars).unwrap().0.destinations().remove(0)
}

fn quick() -> Pace {
    Pace {
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_millis(40),
        linger: Duration::ZERO,
        ..Pace::default()
    }
}

fn route(queue: &Memory, destination: &Destination, pace: Pace) -> Route {
    Route::with("otlp/logs", Box::new(queue.clone()), destination, pace, FileBounds::default()).unwrap()
}

fn deliver_to(url: &str, queue: &Memory, pace: Pace) -> Deliverer {
    let destination = destination(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", url)]);
    Deliverer::start(vec![route(queue, &destination, pace)]).unwrap()
}

fn logs(count: usize) -> Memory {
    Memory::of_logs((0..count).map(|n| n.to_string()))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn only(deliverer: &Deliverer) -> RouteReport {
    deliverer.report().remove(0)
}

#[test]
fn records_arrive_in_one_request_of_the_specified_form() {
    let collector = Collector::start(|_, _| Reply::ok());
    let queue = logs(500);
    let destination = destination(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url("/base/")),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s%20ecret"),
    ]);
    let deliverer = Deliverer::start(vec![route(&queue, &destination, quick())]).unwrap();
    assert!(deliverer.flush(soon()).is_complete());

    let requests = collector.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(names(&requests[0].body), (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(requests[0].path, "/base/v1/logs");
    assert_eq!(requests[0].header("content-type"), Some("application/x-protobuf"));
    assert_eq!(requests[0].header("content-encoding"), None);
    assert_eq!(requests[0].header("accept-encoding"), None);
    assert_eq!(requests[0].header("x-key"), Some("s ecret"));
    let version = env!("CARGO_PKG_VERSION");
    let agent = format!("factline/{version} OTel-OTLP-Exporter-Rust/{version}");
    assert_eq!(requests[0].header("user-agent"), Some(&*agent));
    let report = only(&deliverer);
    assert_eq!((report.delivered, report.retried, report.state), (500, 0, RouteState::Idle));
    assert_eq!(report.destination, collector.url("/base/v1/logs"));
    assert_eq!(queue.with(|inside| inside.delivered), 500);
}

#[test]
fn requests_are_compressed_as_asked_for() {
    for compression in ["gzip", "zstd"] {
        let collector = Collector::start(|_, _| Reply::ok());
        let queue = logs(500);
        let url = collector.url("/v1/logs");
        let destination = destination(&[
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &url),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
        ]);
        let deliverer = Deliverer::start(vec![route(&queue, &destination, quick())]).unwrap();
        assert!(deliverer.flush(soon()).is_complete());
        let request = collector.requests().remove(0);
        assert_eq!(request.header("content-encoding"), Some(compression));
        let mut body = Vec::new();
        let sent = &request.body[..];
        match compression {
            "gzip" => flate2::read::GzDecoder::new(sent).read_to_end(&mut body).unwrap(),
            _ => zstd::stream::read::Decoder::new(sent).unwrap().read_to_end(&mut body).unwrap(),
        };
        assert_eq!(names(&body).len(), 500);
        assert!(request.body.len() * 2 < body.len());
    }
}

#[test]
fn json_is_the_same_request_and_its_answers_are_understood() {
    let partial = br#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"old"}}"#;
    let collector = Collector::start(|number, _| match number {
        0 => Reply::Status(200, vec![], partial.to_vec()),
        _ => Reply::status(400),
    });
    let queue = logs(5);
    let destination = destination(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url("")),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
    ]);
    let deliverer = Deliverer::start(vec![route(&queue, &destination, quick())]).unwrap();
    assert!(deliverer.flush(soon()).is_complete());
    let request = collector.requests().remove(0);
    assert_eq!((&*request.path, request.header("content-type")), ("/v1/logs", Some("application/json")));
    let decoded: ExportLogsServiceRequest = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(names(&decoded.encode_to_vec()), ["0", "1", "2", "3", "4"]);
    let report = only(&deliverer);
    assert_eq!((report.delivered, report.lost), (3, [("rejected_partial", 2)].into()));
    // Bytes that are no OTLP cost themselves alone.
    queue.push_raw(vec![0x12, 2, 0xff, 0xff]);
    assert!(deliverer.flush(soon()).is_complete());
    queue.with(|inside| assert!(inside.dead[0].1.contains("cannot be decoded"), "{:?}", inside.dead));
}

#[test]
fn batches_are_cut_by_bytes_and_several_are_in_flight() {
    let both = Barrier::new(2);
    let collector = Collector::start(move |number, _| {
        if number < 2 {
            both.wait();
        }
        Reply::ok()
    });
    let queue = logs(1000);
    let deliverer = deliver_to(&collector.url("/"), &queue, Pace { batch_bytes: 2000, ..quick() });
    assert!(deliverer.flush(soon()).is_complete());
    let requests = collector.requests();
    assert!(requests.len() >= 8 && requests.iter().all(|request| request.body.len() < 2200));
    let connections: BTreeSet<_> = requests.iter().map(|request| request.connection).collect();
    assert!(connections.len() <= 2, "connections are kept: {connections:?}");
    let mut all: Vec<usize> =
        requests.iter().flat_map(|request| names(&request.body)).map(|name| name.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_collector_that_comes_up_late_gets_everything() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let queue = logs(10);
    let deliverer = deliver_to(&format!("http://{address}/v1/logs"), &queue, quick());
    assert!(!deliverer.flush(Instant::now() + Duration::from_millis(200)).is_complete());
    let report = only(&deliverer);
    assert!(report.retried >= 3, "{report:?}");
    assert!(report.last_error.unwrap().contains("refused"));
    let collector = Collector::on(TcpListener::bind(address).unwrap(), |_, _| Reply::ok());
    queue.wait_settled();
    assert_eq!(names(&collector.requests()[0].body).len(), 10);
}

#[test]
fn retry_after_is_kept_and_then_the_records_arrive() {
    let collector = Collector::start(|number, _| match number {
        0 => Reply::Status(503, vec![("retry-after", "1".into())], vec![]),
        _ => Reply::ok(),
    });
    let queue = logs(3);
    let deliverer = deliver_to(&collector.url("/"), &queue, quick());
    assert!(deliverer.flush(soon()).is_complete());
    let requests = collector.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(only(&deliverer).retried, 1);
}

#[test]
fn one_poison_record_is_isolated_and_all_others_arrive() {
    let poison = |body: &[u8]| names(body).contains(&"77".to_owned());
    let collector =
        Collector::start(move |_, request| Reply::status(if poison(&request.body) { 400 } else { 200 }));
    let queue = logs(512);
    let deliverer = deliver_to(&collector.url("/"), &queue, quick());
    assert!(deliverer.flush(soon()).is_complete());
    let requests = collector.requests();
    assert!(requests.len() <= 9 + 3, "{}", requests.len());
    let taken: usize = requests.iter().filter(|r| !poison(&r.body)).map(|r| names(&r.body).len()).sum();
    assert_eq!(taken, 511);
    queue.with(|inside| {
        assert_eq!((inside.delivered, inside.lost.clone()), (511, vec![("rejected", 1)]));
        let (payload, reason) = &inside.dead[0];
        assert_eq!(payload, &inside.records[77]);
        assert_eq!(reason, "HTTP status 400");
    });
}

#[test]
fn a_request_that_is_too_big_goes_in_parts() {
    let collector =
        Collector::start(|_, request| Reply::status(if request.body.len() > 1500 { 413 } else { 200 }));
    let queue = logs(500);
    queue.push(["x".repeat(2000)]);
    let deliverer = deliver_to(&collector.url("/"), &queue, quick());
    assert!(deliverer.flush(soon()).is_complete());
    queue.with(|inside| {
        assert_eq!(inside.delivered, 500);
        assert_eq!(inside.lost.iter().map(|(_, count)| count).sum::<u64>(), 1);
        assert_eq!(inside.dead[0].1, "HTTP status 413");
    });
}

#[test]
fn refused_credentials_pause_the_route_and_keep_the_records() {
    let collector = Collector::start(|number, _| Reply::status(if number < 2 { 401 } else { 200 }));
    let queue = logs(5);
    let deliverer = deliver_to(&collector.url("/"), &queue, quick());
    collector.wait_for(1);
    let flush = deliverer.flush(soon());
    assert_eq!(flush.pending.len(), 1, "a flush tries once and does not wait for what will not come");
    assert_eq!(flush.pending[0].state, RouteState::Paused);
    assert!(flush.pending[0].last_error.as_deref().unwrap().contains("401"));
    assert_eq!(queue.with(|inside| inside.settled), 0);
    while !deliverer.flush(soon()).is_complete() {}
    assert_eq!(only(&deliverer).delivered, 5);
}

#[test]
fn a_partial_success_is_counted_and_not_sent_again() {
    let body = b"\x0a\x09\x08\x03\x12\x05\x1b[31m".to_vec();
    let collector = Collector::start(move |_, _| Reply::Status(200, vec![], body.clone()));
    let queue = logs(10);
    let deliverer = deliver_to(&collector.url("/"), &queue, quick());
    assert!(deliverer.flush(soon()).is_complete());
    assert_eq!(collector.requests().len(), 1);
    let report = only(&deliverer);
    assert_eq!((report.delivered, report.lost), (7, [("rejected_partial", 3)].into()));
    let said = report.last_error.unwrap();
    assert!(said.contains("\\u{1b}[31m") && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn a_silent_collector_is_timed_out_and_delays_no_other_route() {
    let slow = Collector::start(|number, _| if number == 0 { Reply::Silence } else { Reply::ok() });
    let fast = Collector::start(|_, _| Reply::ok());
    let (left, right) = (logs(3), logs(1000));
    let slow_url = slow.url("/");
    let to_slow = destination(&[
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &slow_url),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "700"),
    ]);
    let began = Instant::now();
    let deliverer = Deliverer::start(vec![route(&left, &to_slow, quick())]).unwrap();
    slow.wait_for(1);
    let to_fast = destination(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &fast.url("/"))]);
    deliverer.add(route(&right, &to_fast, Pace { batch_bytes: 500, ..quick() }));
    right.wait_settled();
    assert_eq!(left.with(|inside| inside.settled), 0, "the other one was still waiting");
    left.wait_settled();
    let requests = slow.requests();
    // A single record asks whether it answers now.
    assert_eq!(requests.len(), 3);
    assert!(requests[1].at - began >= Duration::from_millis(700));
    assert_eq!(deliverer.report()[0].last_error.as_deref(), Some("no answer within 700 ms"));
}

#[test]
fn a_huge_answer_is_cut_and_counts_as_the_success_it_says_it_is() {
    let collector = Collector::start(|_, _| Reply::Flood(1 << 30));
    let queue = logs(3);
    let deliverer = deliver_to(&collector.url("/"), &queue, quick());
    assert!(deliverer.flush(soon()).is_complete());
    let report = only(&deliverer);
    assert_eq!(report.delivered, 3);
    assert!(report.last_error.unwrap().contains("over its limit"));
    assert!(collector.written() < 32 << 20, "{}", collector.written());
}

#[test]
fn a_redirect_is_not_followed() {
    let other = Collector::start(|_, _| Reply::ok());
    let target = other.url("/v1/logs");
    let collector =
        Collector::start(move |_, _| Reply::Status(307, vec![("location", target.clone())], vec![]));
    let queue = logs(3);
    let deliverer = deliver_to(&collector.url("/"), &queue, quick());
    assert_eq!(deliverer.flush(soon()).pending[0].state, RouteState::Paused);
    assert!(other.requests().is_empty());
    assert_eq!(queue.with(|inside| inside.settled), 0);
}

#[test]
fn a_connection_that_breaks_in_an_answer_means_one_more_request() {
    for broken in [Reply::Half, Reply::Hangup] {
        let script = broken.clone();
        let collector =
            Collector::start(move |number, _| if number == 0 { script.clone() } else { Reply::ok() });
        let queue = logs(3);
        let deliverer = deliver_to(&collector.url("/"), &queue, quick());
        assert!(deliverer.flush(soon()).is_complete());
        let requests = collector.requests();
        assert_eq!(requests.len(), 2, "{broken:?}");
        assert_eq!(requests[0].body, requests[1].body, "a duplicate is recognisable");
        assert_eq!(only(&deliverer).delivered, 3);
    }
}

#[test]
fn a_kept_connection_that_was_closed_meanwhile_does_no_harm() {
    let collector = Collector::start(|_, _| Reply::AndClose(Box::new(Reply::ok())));
    let queue = logs(1);
    let deliverer = deliver_to(&collector.url("/"), &queue, quick());
    queue.wait_settled();
    for n in 0..20 {
        queue.push([format!("more {n}")]);
        deliverer.nudge();
        queue.wait_settled();
    }
    let mut seen: Vec<_> = collector.requests().iter().flat_map(|request| names(&request.body)).collect();
    assert!(seen.len() <= 21 + only(&deliverer).retried as usize);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 21);
}

#[test]
fn stopping_waits_for_no_network() {
    let black_hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = Collector::start(|_, _| Reply::Silence);
    let (a, b) = (logs(3), logs(3));
    let to = |url: String| destination(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &url)]);
    let nowhere = to(format!("http://{}/", black_hole.local_addr().unwrap()));
    let routes = vec![route(&a, &nowhere, quick()), route(&b, &to(silent.url("/")), quick())];
    let deliverer = Deliverer::start(routes).unwrap();
    silent.wait_for(1);
    let start = Instant::now();
    deliverer.stop();
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    assert_eq!(a.with(|inside| inside.settled) + b.with(|inside| inside.settled), 0);
}

#[test]
fn a_deliverer_without_routes_has_nothing_to_flush() {
    let deliverer = Deliverer::start(vec![]).unwrap();
    assert!(deliverer.flush(soon()).is_complete());
    assert!(deliverer.report().is_empty());
}

#[test]
fn no_credential_is_in_any_report() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://ada:hunter2@{address}/v1/logs?key=hunter3");
    let destination = destination(&[
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter4"),
    ]);
    let deliverer = Deliverer::start(vec![route(&logs(1), &destination, quick())]).unwrap();
    let flush = deliverer.flush(Instant::now() + Duration::from_millis(100));
    let printed = format!("{flush:?} {:?} {destination:?}", deliverer.report());
    assert!(printed.contains("refused") && !printed.contains("hunter"), "{printed}");
}
