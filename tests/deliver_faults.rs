//! Delivery over networks and to collectors that fail in every way, over each protocol. After every fault the ledger
//! is even: what was put in is delivered, counted as lost, or still queued; and afterwards everything arrives.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "deliver_faults/answers.rs"]
mod answers;
#[path = "support/bad_network.rs"]
mod bad_network;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/collector.rs"]
mod collector;
#[path = "deliver_faults/ending.rs"]
mod ending;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/grpc_collector.rs"]
mod grpc_collector;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/memory.rs"]
mod memory;
#[path = "support/program.rs"]
mod program;
#[path = "support/received.rs"]
mod received;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bad_network::{BlackHole, Switch, read_request, relay, reset, serve};
use collector::{Collector, Reply};
use factline::config::{Config, Endpoint};
use factline::deliver::{Deliverer, FileBounds, Pace, Route, RouteReport, proxy_of};
use grpc_collector::{GrpcCollector, taken};
use memory::{Memory, names};

const PROTOCOLS: [&str; 3] = ["http/protobuf", "http/json", "grpc"];

fn pace() -> Pace {
    Pace {
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_millis(40),
        linger: Duration::ZERO,
        ..Pace::default()
    }
}

fn route(queue: &Memory, protocol: &str, endpoint: &str, timeout_ms: u64) -> Route {
    let vars = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some(protocol.to_owned()),
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.to_owned()),
        "OTEL_EXPORTER_OTLP_TIMEOUT" => Some(timeout_ms.to_string()),
        "OTEL_EXPORTER_OTLP_HEADERS" => Some("x-api-key=s3cret".to_owned()),
        "HOME" => Some("/nowhere".to_owned()),
        _ => None,
    };
    let destination = Config::from_env(vars).unwrap().0.destinations().remove(0);
    Route::with("q", Box::new(queue.clone()), &destination, pace(), FileBounds::default()).unwrap()
}

fn deliver(queue: &Memory, protocol: &str, address: SocketAddr, timeout_ms: u64) -> Deliverer {
    Deliverer::start(vec![route(queue, protocol, &format!("http://{address}"), timeout_ms)]).unwrap()
}

fn logs(count: usize) -> Memory {
    Memory::of_logs((0..count).map(|n| n.to_string()))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn only(deliverer: &Deliverer) -> RouteReport {
    deliverer.report().remove(0)
}

/// Delivered, counted as lost, still queued.
fn ledger(queue: &Memory) -> (u64, u64, u64) {
    queue.with(|inside| {
        let lost: u64 = inside.lost.iter().map(|(_, count)| count).sum();
        (inside.delivered, lost, (inside.records.len() - inside.settled) as u64)
    })
}

/// A collector that takes everything, over one protocol.
enum Taking {
    Http(Collector),
    Grpc(GrpcCollector),
}

impl Taking {
    /// `each` is called at every request, before it is answered.
    fn start(protocol: &str, each: impl Fn(usize) + Send + Sync + 'static) -> Self {
        if protocol == "grpc" {
            return Self::Grpc(GrpcCollector::start(move |number, _| {
                each(number);
                taken()
            }));
        }
        Self::Http(Collector::start(move |number, _| {
            each(number);
            Reply::ok()
        }))
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Http(collector) => collector.address,
            Self::Grpc(collector) => collector.address,
        }
    }

    fn requests(&self) -> usize {
        match self {
            Self::Http(collector) => collector.requests().len(),
            Self::Grpc(collector) => collector.calls().len(),
        }
    }
}

#[test]
fn a_reset_after_the_request_was_taken_means_the_same_records_once_more() {
    for protocol in PROTOCOLS {
        let switch = Switch::default();
        let at_first = switch.clone();
        let collector = Taking::start(protocol, move |number| {
            if number == 0 {
                at_first.cut();
            }
        });
        let queue = logs(3);
        let deliverer = deliver(&queue, protocol, relay(collector.address(), &switch), 5000);
        assert!(deliverer.flush(soon()).is_complete(), "{protocol} {:?}", only(&deliverer));
        assert_eq!(
            (collector.requests(), ledger(&queue)),
            (3, (3, 0, 0)),
            "{protocol}: a single record asked whether it is back, and duplicates were seen"
        );
        assert!(only(&deliverer).retried >= 1);
    }
}

#[test]
fn a_reset_in_the_middle_of_a_request_loses_nothing() {
    for protocol in PROTOCOLS {
        let collector = Taking::start(protocol, |_| ());
        let target = collector.address();
        let through = relay(target, &Switch::default());
        let address = serve(move |number, mut near| {
            if number == 0 {
                near.read_exact(&mut [0; 100]).unwrap();
                return reset(near);
            }
            let mut far = std::net::TcpStream::connect(through).unwrap();
            let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let there = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let _ = std::io::copy(&mut far, &mut near);
            let _ = there.join();
        });
        let queue = logs(2000);
        let deliverer = deliver(&queue, protocol, address, 5000);
        assert!(deliverer.flush(soon()).is_complete(), "{protocol} {:?}", only(&deliverer));
        assert_eq!((collector.requests(), ledger(&queue)), (1, (2000, 0, 0)), "{protocol}");
        assert!(only(&deliverer).retried >= 1);
    }
}

#[test]
fn a_peer_that_vanishes_while_idle_is_noticed_by_the_time_out_and_left() {
    for protocol in PROTOCOLS {
        let collector = Taking::start(protocol, |_| ());
        let switch = Switch::default();
        let queue = logs(1);
        let deliverer = deliver(&queue, protocol, relay(collector.address(), &switch), 400);
        queue.wait_settled();
        switch.freeze();
        let start = Instant::now();
        queue.push(["fresh".to_owned()]);
        deliverer.nudge();
        queue.wait_settled();
        assert!(start.elapsed() < Duration::from_secs(10), "live again");
        assert_eq!((collector.requests(), ledger(&queue)), (2, (2, 0, 0)), "{protocol}");
        assert_eq!(only(&deliverer).last_error.as_deref(), Some("no answer within 400 ms"));
    }
}

#[test]
fn a_black_hole_is_given_up_after_the_time_out_and_delays_no_other_route() {
    let hole = BlackHole::new();
    for protocol in PROTOCOLS {
        let collector = Taking::start(protocol, |_| ());
        let (lost_way, other) = (logs(3), logs(1));
        let deliverer = deliver(&lost_way, protocol, hole.address, 300);
        deliverer.add(route(&other, protocol, &format!("http://{}", collector.address()), 5000));
        for n in 0..50 {
            let start = Instant::now();
            other.push([n.to_string()]);
            deliverer.nudge();
            other.wait_settled();
            assert!(start.elapsed() < Duration::from_secs(2));
        }
        lost_way.push(["more".to_owned()]);
        deliverer.flush(Instant::now() + Duration::from_millis(400));
        let report = only(&deliverer);
        assert_eq!(ledger(&lost_way), (0, 0, 4), "{protocol}");
        // Over HTTP/2 a second call waits for the connection of the first, and ends with it.
        let error = report.last_error.unwrap();
        assert!(error == "no answer within 300 ms" || error.contains("canceled"), "{error}");
    }
}

#[test]
fn a_collector_that_reads_or_answers_a_byte_at_a_time_holds_up_itself_alone() {
    for protocol in ["http/protobuf", "http/json"] {
        for reads_slowly in [true, false] {
            let address = serve(move |_, mut stream| {
                if !reads_slowly {
                    read_request(&mut stream);
                }
                let (answer, mut some) =
                    (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".iter().cycle(), [0; 10]);
                // Until the other side has enough of it.
                for byte in answer {
                    std::thread::park_timeout(Duration::from_millis(100));
                    let gone = match reads_slowly {
                        true => !matches!(stream.read(&mut some), Ok(1..)),
                        false => stream.write_all(&[*byte]).is_err(),
                    };
                    if gone {
                        return;
                    }
                }
            });
            let fast = Taking::start(protocol, |_| ());
            let (queue, other) = (Memory::of_logs(["x".repeat(3 << 20)]), logs(1));
            let deliverer = deliver(&queue, protocol, address, 500);
            deliverer.add(route(&other, protocol, &format!("http://{}", fast.address()), 5000));
            other.wait_settled();
            while only(&deliverer).retried < 2 {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            assert_eq!(ledger(&queue), (0, 0, 1));
            assert_eq!(only(&deliverer).last_error.as_deref(), Some("no answer within 500 ms"));
        }
    }
}

#[test]
fn a_backend_that_takes_four_tenths_of_a_second_gets_everything() {
    for protocol in PROTOCOLS {
        let collector = Taking::start(protocol, |_| std::thread::park_timeout(Duration::from_millis(400)));
        let queue = Memory::default();
        let deliverer = deliver(&queue, protocol, collector.address(), 10_000);
        for n in 0..164 {
            queue.push([n.to_string()]);
            deliverer.nudge();
        }
        queue.wait_settled();
        assert_eq!(ledger(&queue), (164, 0, 0));
        assert!(collector.requests() < 164, "they gather meanwhile");
    }
}

/// What the peak of this process's memory is, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn answers_without_an_end_are_cut_and_held_by_nobody() {
    // A gigabyte of zeros, as gzip has it: a member for each megabyte.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![0; 1 << 20]).unwrap();
    let bomb = bomb.finish().unwrap().repeat(1024);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
    let chunk = [&b"10000\r\n"[..], &[0xaa; 1 << 16], b"\r\n"].concat();
    let (chunked, line) =
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(), b"x-more: of this\r\n");
    let before = peak();
    for (first, again, taken) in [
        ([head.into_bytes(), bomb].concat(), Vec::new(), true),
        (chunked, chunk, true),
        // No answer yet: it is tried again, and the second time there is one.
        (b"HTTP/1.1 200 OK\r\n".to_vec(), line.repeat(1000), false),
    ] {
        let written = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&written);
        let address = serve(move |number, mut stream| {
            while read_request(&mut stream) {
                if number > 0 {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                    continue;
                }
                let mut next = &first;
                while stream.write_all(next).is_ok()
                    && !again.is_empty()
                    && count.load(Ordering::SeqCst) < 1 << 30
                {
                    count.fetch_add(next.len(), Ordering::SeqCst);
                    next = &again;
                }
            }
        });
        let queue = logs(3);
        let deliverer = deliver(&queue, "http/protobuf", address, 20_000);
        assert!(deliverer.flush(soon()).is_complete(), "{:?}", only(&deliverer));
        assert_eq!((ledger(&queue), only(&deliverer).retried > 0), ((3, 0, 0), !taken));
        // What was on the way in buffers of the system is beyond us.
        assert!(written.load(Ordering::SeqCst) < 32 << 20, "{}", written.load(Ordering::SeqCst));
    }
    assert!(peak() < before.max(64 << 20) + (64 << 20), "{} to {}", before, peak());
}

/// Runs `test` of this file once more in a process of its own, which finds `at` in `FACTLINE_TEST_AT`.
fn again(command: &mut Command, test: &str, at: &str) {
    let status = command.args(["--exact", test, "--nocapture"]).env("FACTLINE_TEST_AT", at).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_proxy_is_used_and_shown_without_its_credentials_and_not_for_this_machine() {
    const THIS: &str = "a_proxy_is_used_and_shown_without_its_credentials_and_not_for_this_machine";
    let remote = "http://collector.invalid:4318";
    if let Ok(local) = std::env::var("FACTLINE_TEST_AT") {
        let (queue, near) = (logs(2), logs(1));
        let deliverer = Deliverer::start(vec![route(&queue, "http/protobuf", remote, 5000)]).unwrap();
        deliverer.add(route(&near, "http/protobuf", &local, 5000));
        near.wait_settled();
        let spared = std::env::var_os("NO_PROXY").is_some();
        assert_eq!(deliverer.flush(Instant::now() + Duration::from_secs(3)).is_complete(), !spared);
        let shown = proxy_of(&Endpoint::parse(remote).unwrap());
        assert_eq!(shown.is_some(), !spared);
        assert!(
            shown.is_none_or(|proxy| proxy.starts_with("http://127.0.0.1:") && !proxy.contains("hunter"))
        );
        assert_eq!(proxy_of(&Endpoint::parse(&local).unwrap()), None);
        return;
    }
    let (proxy, local) = (Collector::start(|_, _| Reply::ok()), Collector::start(|_, _| Reply::ok()));
    let own = std::env::current_exe().unwrap();
    let with_proxy = || {
        let mut command = Command::new(&own);
        command.env("http_proxy", format!("http://ada:hunter2@{}", proxy.address)).env_remove("no_proxy");
        command
    };
    again(&mut with_proxy(), THIS, &local.url(""));
    let requests = proxy.requests();
    assert_eq!((requests.len(), &*requests[0].path), (1, "http://collector.invalid:4318/v1/logs"));
    assert_eq!(names(&requests[0].body), ["0", "1"]);
    again(with_proxy().env("NO_PROXY", "collector.invalid"), THIS, &local.url(""));
    assert_eq!((proxy.requests().len(), local.requests().len()), (1, 2));
}

#[test]
fn a_name_that_is_not_known_yet_and_one_that_moves_are_looked_up_again() {
    const THIS: &str = "a_name_that_is_not_known_yet_and_one_that_moves_are_looked_up_again";
    if let Ok(hosts) = std::env::var("FACTLINE_TEST_AT") {
        let point = |address: &str| std::fs::write(&hosts, format!("{address} collector.test\n")).unwrap();
        for protocol in PROTOCOLS {
            std::fs::write(&hosts, "").unwrap();
            let first = Taking::start(protocol, |_| ());
            let (queue, port, switch) = (logs(2), first.address().port(), Switch::default());
            let through = relay(first.address(), &switch);
            let url = format!("http://collector.test:{}", through.port());
            let deliverer = Deliverer::start(vec![route(&queue, protocol, &url, 500)]).unwrap();
            assert!(!deliverer.flush(Instant::now() + Duration::from_millis(500)).is_complete());
            assert!(only(&deliverer).retried >= 1 && ledger(&queue) == (0, 0, 2), "{:?}", only(&deliverer));
            point("127.0.0.1");
            queue.wait_settled();
            assert_eq!(first.requests(), 1, "{protocol} {port}");
            // The machine is gone, another one has its name.
            switch.freeze();
            let second = match protocol {
                "grpc" => Taking::Grpc(GrpcCollector::on(at(through.port()), |_, _| taken())),
                _ => Taking::Http(Collector::on(at(through.port()), |_, _| Reply::ok())),
            };
            point("127.0.0.2");
            queue.push(["moved".to_owned()]);
            deliverer.nudge();
            queue.wait_settled();
            assert_eq!(
                (first.requests(), second.requests(), ledger(&queue)),
                (1, 1, (3, 0, 0)),
                "{protocol}"
            );
        }
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give a process names of its own");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (hosts, resolvers) = (dir.path().join("hosts"), dir.path().join("resolv.conf"));
    std::fs::write(&hosts, "").unwrap();
    // Where nobody answers: all names come from the file above.
    std::fs::write(&resolvers, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
    let script =
        "mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" /etc/resolv.conf && shift 2 && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).args([&hosts, &resolvers]);
    command.arg(std::env::current_exe().unwrap()).env_remove("http_proxy").env_remove("HTTP_PROXY");
    again(&mut command, THIS, hosts.to_str().unwrap());
}

fn at(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.2", port)).unwrap()
}
