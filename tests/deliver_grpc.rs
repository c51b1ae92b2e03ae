//! Delivery over gRPC, against the server of tonic and against what is no gRPC server.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/grpc_collector.rs"]
mod grpc_collector;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/memory.rs"]
mod memory;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use factline::config::{Config, Destination};
use factline::deliver::{Deliverer, FileBounds, Pace, Route, RouteReport, RouteState};
use grpc_collector::{GrpcCollector, taken};
use http_body_util::Full;
use memory::Memory;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

fn destination(endpoint: &str, more: &[(&str, &str)]) -> Destination {
    let vars = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some("grpc".to_owned()),
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.to_owned()),
        "HOME" => Some("/nowhere".to_owned()),
        _ => more.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
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

fn deliver(endpoint: &str, more: &[(&str, &str)], queue: &Memory, pace: Pace) -> Deliverer {
    let destination = destination(endpoint, more);
    let bounds = FileBounds::default();
    let route = Route::with("logs", Box::new(queue.clone()), &destination, pace, bounds).unwrap();
    Deliverer::start(vec![route]).unwrap()
}

fn logs(count: usize) -> Memory {
    Memory::of_logs((0..count).map(|n| n.to_string()))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn only(deliverer: &Deliverer) -> RouteReport {
    deliverer.report().remove(0)
}

/// Delivered, counted as lost, and still queued: what was put in, no more and no less.
fn ledger(queue: &Memory) -> (u64, u64, u64) {
    queue.with(|inside| {
        let lost: u64 = inside.lost.iter().map(|(_, count)| count).sum();
        (inside.delivered, lost, (inside.records.len() - inside.settled) as u64)
    })
}

#[test]
fn records_arrive_in_one_call_of_the_specified_form() {
    let collector = GrpcCollector::start(|_, _| taken());
    let queue = logs(500);
    let more = [("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s%20ecret"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "9000")];
    let deliverer = deliver(&collector.url(), &more, &queue, quick());
    assert!(deliverer.flush(soon()).is_complete(), "{:?}", only(&deliverer));
    let calls = collector.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].names(), (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    let version = env!("CARGO_PKG_VERSION");
    let agent = format!("factline/{version} OTel-OTLP-Exporter-Rust/{version}");
    for (name, value) in
        [("user-agent", &*agent), ("x-key", "s ecret"), ("te", "trailers"), ("grpc-timeout", "9000m")]
    {
        assert_eq!(calls[0].field(name), Some(value), "{name}");
    }
    assert_eq!(calls[0].field("grpc-accept-encoding"), None);
    assert_eq!(only(&deliverer).destination, format!("{}/", collector.url()));
    assert_eq!(ledger(&queue), (500, 0, 0));
}

#[test]
fn calls_are_compressed_as_asked_and_several_share_a_connection() {
    for compression in ["gzip", "zstd"] {
        let collector = GrpcCollector::start(|_, _| taken());
        let queue = logs(1000);
        let more = [("OTEL_EXPORTER_OTLP_COMPRESSION", compression)];
        let deliverer = deliver(&collector.url(), &more, &queue, Pace { batch_bytes: 2000, ..quick() });
        assert!(deliverer.flush(soon()).is_complete(), "{:?}", only(&deliverer));
        let calls = collector.calls();
        assert!(calls.len() >= 8);
        assert!(calls.iter().all(|call| call.field("grpc-encoding") == Some(compression)));
        let peers: BTreeSet<_> = calls.iter().map(|call| call.peer).collect();
        assert_eq!(peers.len(), 1);
        let names: BTreeSet<_> = calls.iter().flat_map(|call| call.names()).collect();
        assert_eq!((names.len(), ledger(&queue)), (1000, (1000, 0, 0)));
    }
}

/// Every code once, and then the collector takes everything: what becomes of two records.
#[test]
fn every_code_does_what_the_table_says() {
    for code in (1..=16).map(Code::from_i32) {
        for wait in [None, Some(Duration::ZERO), Some(Duration::from_millis(120))] {
            let collector = GrpcCollector::start(move |number, _| match (number, wait) {
                (0, None) => Err(Status::new(code, "s3cret \u{1b}[31m")),
                (0, Some(wait)) => {
                    Err(Status::with_error_details(code, "no", ErrorDetails::with_retry_info(Some(wait))))
                }
                _ => taken(),
            });
            let queue = logs(2);
            let start = Instant::now();
            let deliverer = deliver(&collector.url(), &[], &queue, quick());
            let said = format!("{code:?} {wait:?}");
            let (done, report) = (deliverer.flush(soon()).is_complete(), only(&deliverer));
            let calls = collector.calls();
            let error = report.last_error.clone().unwrap();
            assert!(error.contains(&format!("gRPC status {}", code as i32)), "{said} {error}");
            assert!(!error.contains("s3cret"), "{error}");
            match code {
                Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unavailable
                | Code::DataLoss => assert_eq!((calls.len(), ledger(&queue)), (2, (2, 0, 0)), "{said}"),
                Code::ResourceExhausted if wait.is_some() => {
                    assert_eq!((calls.len(), ledger(&queue)), (2, (2, 0, 0)), "{said}");
                }
                // Cut in two, and both halves are taken.
                Code::ResourceExhausted | Code::InvalidArgument => {
                    assert_eq!((calls.len(), ledger(&queue)), (3, (2, 0, 0)), "{said}");
                }
                Code::NotFound | Code::PermissionDenied | Code::Unimplemented | Code::Unauthenticated => {
                    assert_eq!((done, report.state, ledger(&queue)), (false, RouteState::Paused, (0, 0, 2)));
                    continue;
                }
                _ => {
                    assert_eq!((calls.len(), ledger(&queue)), (1, (0, 2, 0)), "{said}");
                    assert_eq!(queue.with(|inside| inside.dead.len()), 2);
                }
            }
            assert!(done, "{said}");
            if let (true, Some(wait)) = (calls.len() == 2, wait) {
                assert!(start.elapsed() >= wait, "{said}");
            }
        }
    }
}

#[test]
fn a_partial_success_is_counted_and_not_sent_again() {
    for (rejected, message, lost) in
        [(3, "\u{1b}[31mold", 3), (0, "slow down", 0), (99, "all", 10), (-1, "", 0)]
    {
        let collector = GrpcCollector::start(move |_, _| {
            let partial = ExportLogsPartialSuccess {
                rejected_log_records: rejected,
                error_message: message.to_owned(),
            };
            Ok(ExportLogsServiceResponse { partial_success: Some(partial) })
        });
        let queue = logs(10);
        let deliverer = deliver(&collector.url(), &[], &queue, quick());
        assert!(deliverer.flush(soon()).is_complete());
        assert_eq!((collector.calls().len(), ledger(&queue)), (1, (10 - lost, lost, 0)));
        let said = only(&deliverer).last_error.unwrap_or_default();
        assert!(!said.contains('\u{1b}') && said.contains(message.trim_start_matches('\u{1b}')), "{said}");
    }
}

#[test]
fn a_receivers_limit_costs_one_giant_alone() {
    let collector = GrpcCollector::start(|_, _| taken());
    let queue = Memory::of_logs((0..6).map(|n| format!("{n}{}", "x".repeat(1 << 20))));
    queue.push(["y".repeat(5 << 20), "after".to_owned()]);
    let deliverer = deliver(&collector.url(), &[], &queue, quick());
    assert!(deliverer.flush(soon()).is_complete(), "{:?}", only(&deliverer));
    assert_eq!(ledger(&queue), (7, 1, 0));
    let calls = collector.calls();
    let names: BTreeSet<_> = calls.iter().flat_map(|call| call.names()).collect();
    assert!(names.len() == 7 && names.contains("after"));
    let reason = queue.with(|inside| inside.dead[0].1.clone());
    assert!(reason.contains("OUT_OF_RANGE for a request of 52"), "{reason}");
}

#[test]
fn one_poison_record_is_isolated_and_all_others_arrive() {
    let poison = |names: &[String]| names.contains(&"77".to_owned());
    let collector = GrpcCollector::start(move |_, call| match poison(&call.names()) {
        true => Err(Status::invalid_argument("bad")),
        false => taken(),
    });
    let queue = logs(512);
    let deliverer = deliver(&collector.url(), &[], &queue, quick());
    assert!(deliverer.flush(soon()).is_complete());
    assert!(collector.calls().len() <= 9 + 3);
    assert_eq!(ledger(&queue), (511, 1, 0));
    queue.with(|inside| assert_eq!(inside.dead[0].0, inside.records[77]));
}

#[test]
fn a_collector_that_goes_away_and_comes_back_gets_everything() {
    let mut first = GrpcCollector::start(|_, _| taken());
    let queue = logs(5);
    let deliverer = deliver(&first.url(), &[], &queue, quick());
    queue.wait_settled();
    first.go_away();
    queue.push(["later".to_owned()]);
    deliverer.nudge();
    let second = GrpcCollector::on(TcpListener::bind(first.address).unwrap(), |_, _| taken());
    queue.wait_settled();
    assert_eq!((first.calls().len(), second.calls().len()), (1, 1));
    assert_eq!(ledger(&queue), (6, 0, 0));
}

#[test]
fn a_connection_without_a_word_is_given_up_and_a_new_one_made() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = GrpcCollector::start(|_, _| taken());
    let (address, target) = (listener.local_addr().unwrap(), collector.address);
    // The first connection is held open and never answered; what comes after leads to the collector.
    let relay = std::thread::spawn(move || {
        let silent = listener.accept().unwrap();
        let (near, _) = listener.accept().unwrap();
        let far = std::net::TcpStream::connect(target).unwrap();
        for (mut from, mut to) in [
            (near.try_clone().unwrap(), far.try_clone().unwrap()),
            (far.try_clone().unwrap(), near.try_clone().unwrap()),
        ] {
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
        silent
    });
    let queue = logs(3);
    let more = [("OTEL_EXPORTER_OTLP_TIMEOUT", "300")];
    let deliverer = deliver(&format!("http://{address}"), &more, &queue, quick());
    queue.wait_settled();
    // A single record asks whether anybody is there now.
    assert_eq!((collector.calls().len(), ledger(&queue)), (2, (3, 0, 0)));
    assert_eq!(only(&deliverer).last_error.as_deref(), Some("no answer within 300 ms"));
    relay.join().unwrap();
}

/// Serves HTTP/2 without gRPC: what a proxy or another server would answer.
fn http2(status: u16, headers: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = hyper::service::service_fn(move |_| async move {
                    let mut response = hyper::Response::builder().status(status);
                    for (name, value) in headers {
                        response = response.header(*name, *value);
                    }
                    Ok::<_, Infallible>(response.body(Full::new(&b"<html>"[..])).unwrap())
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                let executor = hyper_util::rt::TokioExecutor::new();
                tokio::spawn(hyper::server::conn::http2::Builder::new(executor).serve_connection(io, answer));
            }
        });
    });
    format!("http://{address}")
}

#[test]
fn an_answer_without_a_grpc_status_follows_the_table_of_http() {
    for (status, headers, state, words) in [
        (200, &[("content-type", "text/html")][..], RouteState::Paused, "no gRPC receiver"),
        (404, &[], RouteState::Paused, "HTTP status 404"),
        (401, &[], RouteState::Paused, "credentials"),
        (307, &[("location", "http://127.0.0.1:1/")], RouteState::Paused, "a redirect"),
    ] {
        let queue = logs(2);
        let deliverer = deliver(&http2(status, headers), &[], &queue, quick());
        deliverer.flush(soon());
        let report = only(&deliverer);
        assert_eq!((report.state, ledger(&queue)), (state, (0, 0, 2)), "{status}");
        assert!(report.last_error.as_deref().unwrap().contains(words), "{report:?}");
    }
    for (status, headers) in
        [(503, &[("retry-after", "1")][..]), (429, &[]), (200, &[("content-type", "application/grpc")])]
    {
        let queue = logs(2);
        let deliverer = deliver(&http2(status, headers), &[], &queue, quick());
        assert!(!deliverer.flush(Instant::now() + Duration::from_millis(300)).is_complete());
        let report = only(&deliverer);
        // Between two tries, or in the middle of one.
        let goes_on = matches!(report.state, RouteState::BackingOff { .. } | RouteState::Sending);
        assert!(report.retried >= 1 && goes_on, "{report:?}");
        assert_eq!(ledger(&queue), (0, 0, 2));
    }
}

#[test]
fn a_server_of_http_1_and_one_of_nothing_are_tried_again_and_nothing_is_lost() {
    for answer in
        [&b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..], b"\0\0\0\0\0\0\0\0\0\0", b""]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // Its preface; that it closes before we answer is fine.
                let _ = stream.read(&mut [0; 24]);
                let _ = stream.write_all(answer);
            }
        });
        let queue = logs(2);
        let deliverer = deliver(&url, &[], &queue, quick());
        assert!(!deliverer.flush(Instant::now() + Duration::from_millis(200)).is_complete());
        assert!(only(&deliverer).retried >= 1);
        assert_eq!(ledger(&queue), (0, 0, 2));
    }
}

#[test]
fn trailers_without_an_end_are_not_held() {
    const HUGE: &str = "the value of this header alone is repeated until it is far over the limit";
    let collector = GrpcCollector::start(|number, _| match number {
        0 => {
            let mut status = Status::unavailable("");
            for n in 0..2000 {
                let name = tonic::metadata::MetadataKey::from_bytes(format!("x-{n}").as_bytes()).unwrap();
                status.metadata_mut().insert(name, HUGE.parse().unwrap());
            }
            Err(status)
        }
        _ => taken(),
    });
    let queue = logs(2);
    let deliverer = deliver(&collector.url(), &[], &queue, quick());
    assert!(deliverer.flush(soon()).is_complete(), "{:?}", only(&deliverer));
    assert_eq!((collector.calls().len(), ledger(&queue)), (2, (2, 0, 0)));
}

#[test]
fn headers_of_a_command_are_printed_again_when_they_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("print");
    std::fs::write(
        &program,
        "#!/bin/sh\nprintf 1 >> \"$0.count\"\nprintf '{\"authorization\":\"Bearer %s\"}' \"$(cat \"$0.count\")\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let program = program.to_str().unwrap();
    let collector = GrpcCollector::start(|_, call| match call.field("authorization") {
        Some("Bearer 11") => taken(),
        _ => Err(Status::unauthenticated("expired")),
    });
    let queue = logs(2);
    let more = [("FACTLINE_OTLP_HEADERS_COMMAND", program)];
    let deliverer = deliver(&collector.url(), &more, &queue, quick());
    assert!(deliverer.flush(soon()).is_complete(), "{:?}", only(&deliverer));
    queue.push(["more".to_owned()]);
    assert!(deliverer.flush(soon()).is_complete());
    let seen: Vec<_> =
        collector.calls().iter().map(|call| call.field("authorization").unwrap().to_owned()).collect();
    assert_eq!(seen, ["Bearer 1", "Bearer 11", "Bearer 11"]);
    assert_eq!(ledger(&queue), (3, 0, 0));
}
