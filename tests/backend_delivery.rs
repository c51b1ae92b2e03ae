//! Analytics events on their way from the outbox to a backend, over real sockets.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/collector.rs"]
mod collector;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/memory.rs"]
mod memory;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/served.rs"]
mod served;

use std::path::Path;
use std::time::{Duration, Instant};

use collector::{Collector, Reply};
use factline::config::Config;
use factline::deliver::{Deliverer, FileBounds, Pace, Route, RouteReport, RouteState};
use factline::outbox::{Record, Transaction};
use factline::telemetry::{ANALYTICS_QUEUE, Telemetry};
use memory::Memory;
use serde_json::{Value, json};
use served::{Served, recorded};

fn config(vars: &[(&str, &str)]) -> Config {
    let vars = |name: &str| match vars.iter().find(|(known, _)| *known == name) {
        Some((_, value)) => Some((*value).to_owned()),
        None => (name == "HOME").then(|| "/nowhere".to_owned()),
    };
    let (config, warnings) = Config::from_env(vars).unwrap();
    assert_eq!(warnings, []);
    config
}

fn quick() -> Pace {
    Pace {
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_millis(40),
        linger: Duration::ZERO,
        ..Pace::default()
    }
}

fn deliver(queue: &Memory, vars: &[(&str, &str)]) -> Deliverer {
    let config = config(vars);
    let sink = config.analytics_sink().unwrap();
    let route =
        Route::of_events("analytics", Box::new(queue.clone()), sink, quick(), FileBounds::default()).unwrap();
    Deliverer::start(vec![route]).unwrap()
}

fn queue(events: &[Value]) -> Memory {
    let queue = Memory::default();
    events.iter().for_each(|event| queue.push_raw(event.to_string().into_bytes()));
    queue
}

fn event(name: &str, n: usize) -> Value {
    json!({"event_type": name, "event_params": {"n": n, "product_client_id": "a"}})
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(15)
}

fn only(deliverer: &Deliverer) -> RouteReport {
    deliverer.report().remove(0)
}

/// Telemetry that sends nothing but events, with an outbox in `dir`.
fn telemetry(dir: &Path, vars: &[(&str, &str)]) -> Telemetry {
    let outbox = dir.to_str().unwrap();
    let all = [
        &[
            ("OTEL_LOGS_EXPORTER", "none"),
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_METRICS_EXPORTER", "none"),
            ("FACTLINE_OUTBOX_DIR", outbox),
        ],
        vars,
    ];
    Telemetry::start(&config(&all.concat())).unwrap()
}

fn store(telemetry: &Telemetry, header: &Value, events: &[Value]) {
    let queue = telemetry.outbox().queue(ANALYTICS_QUEUE).unwrap();
    telemetry.outbox().set_header(queue, header.to_string().as_bytes());
    for event in events {
        let payload = event.to_string().into_bytes();
        let records = [Record { queue, time_ns: 1, content: false, payload: &payload }];
        telemetry.outbox().append(Transaction { records: &records, ..Default::default() }).unwrap();
    }
}

#[test]
fn a_backend_that_takes_four_tenths_of_a_second_gets_every_event() {
    let mut served = Served::start(|settings| settings.answer_delay = Duration::from_millis(400));
    let all: Vec<Value> = recorded().into_iter().flat_map(|(_, events)| events).collect();
    let like = |name: &str| all.iter().find(|event| event["event_type"] == name).unwrap().clone();
    let (command, turn) = (like("codex_command_execution_event"), like("codex_turn_event"));
    let mut events = Vec::new();
    for n in 0..164 {
        let mut event = if n % 41 == 40 { turn.clone() } else { command.clone() };
        event["event_params"]["turn_id"] = json!(format!("turn-{n}"));
        events.push(event);
    }
    let dir = tempfile::tempdir().unwrap();
    let telemetry = telemetry(dir.path(), &[("FACTLINE_ANALYTICS_URL", &served.url())]);
    let started = Instant::now();
    store(&telemetry, &json!({"originator": "codex_vscode", "user_agent": "codex_vscode/0.169.0"}), &events);
    assert!(telemetry.flush(soon()).is_complete(), "{:?}", telemetry.report());
    eprintln!("160 command and 4 turn events in {:?}", started.elapsed());
    telemetry.stop().unwrap();
    served.stop();
    let of = |name: &str| served.number(&format!("SELECT count(*) FROM events WHERE event_type = '{name}'"));
    assert_eq!((of("codex_command_execution_event"), of("codex_turn_event")), (160, 4));
    assert_eq!(served.number("SELECT count(*) FROM events WHERE originator = 'codex_vscode'"), 164);
    assert_eq!(served.number("SELECT count(*) FROM rejected"), 0);
}

#[test]
fn every_recorded_event_goes_through_the_outbox_unchanged() {
    let mut served = Served::start(|settings| settings.strict = true);
    let dir = tempfile::tempdir().unwrap();
    let telemetry = telemetry(dir.path(), &[("FACTLINE_ANALYTICS_URL", &served.url())]);
    let (mut sent, mut distinct) = (0, std::collections::BTreeSet::new());
    for (headers, events) in recorded() {
        let header = json!({"originator": headers["originator"], "user_agent": headers["user-agent"]});
        store(&telemetry, &header, &events);
        sent += events.len() as i64;
        distinct.extend(events.iter().map(Value::to_string));
    }
    assert!(telemetry.flush(soon()).is_complete(), "{:?}", telemetry.report());
    let report = telemetry.report().remove(0);
    assert_eq!((report.delivered as i64, report.lost.len()), (sent, 0));
    telemetry.stop().unwrap();
    served.stop();
    assert_eq!(served.number("SELECT count(*) FROM events") as usize, distinct.len());
    assert_eq!(served.number("SELECT count(*) + sum(duplicates) FROM events"), sent);
}

#[test]
fn off_means_that_there_is_no_queue_and_no_route() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = telemetry(
        dir.path(),
        &[("FACTLINE_ANALYTICS_URL", "http://127.0.0.1:1"), ("FACTLINE_ANALYTICS", "off")],
    );
    assert!(telemetry.outbox().queue(ANALYTICS_QUEUE).is_none());
    assert!(telemetry.report().is_empty());
    telemetry.stop().unwrap();
}

#[test]
fn a_request_has_the_form_of_the_original() {
    let collector = Collector::start(|_, _| Reply::ok());
    let dir = tempfile::tempdir().unwrap();
    let telemetry = telemetry(
        dir.path(),
        &[
            ("FACTLINE_ANALYTICS_URL", &collector.url("/backend-api/")),
            ("FACTLINE_ANALYTICS_ACCOUNT_ID", "acct-1"),
            ("FACTLINE_ANALYTICS_TOKEN", "s3cret"),
            ("FACTLINE_ANALYTICS_HEADERS", "x-openai-product-sku=sku"),
        ],
    );
    let agent = "codex_vscode/0.169.0 (Debian 12.0.0; x86_64) dumb (codex_vscode; 1.2.3)";
    let events = [event("a", 0), event("b", 1)];
    store(&telemetry, &json!({"originator": "codex_vscode", "user_agent": agent}), &events);
    assert!(telemetry.flush(soon()).is_complete());
    let request = collector.requests().remove(0);
    assert_eq!(request.path, "/backend-api/codex/analytics-events/events");
    for (name, value) in [
        ("content-type", "application/json"),
        ("accept", "*/*"),
        ("originator", "codex_vscode"),
        ("user-agent", agent),
        ("chatgpt-account-id", "acct-1"),
        ("authorization", "Bearer s3cret"),
        ("x-openai-product-sku", "sku"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert_eq!(request.body, json!({ "events": events }).to_string().as_bytes());
    telemetry.stop().unwrap();
}

#[test]
fn other_backends_get_their_own_path_headers_and_form() {
    let events = [event("a", 0), event("b", 1)];
    let texts = [events[0].to_string(), events[1].to_string()];
    for (form, content_type, body) in [
        ("array", "application/json", format!("[{},{}]", texts[0], texts[1])),
        ("lines", "application/x-ndjson", format!("{}\n{}\n", texts[0], texts[1])),
    ] {
        let collector = Collector::start(|_, _| Reply::status(202));
        let queue = queue(&events);
        let deliverer = deliver(
            &queue,
            &[
                ("FACTLINE_ANALYTICS_URL", &collector.url("/")),
                ("FACTLINE_ANALYTICS_PATH", "v2/track"),
                ("FACTLINE_ANALYTICS_FORM", form),
                ("FACTLINE_ANALYTICS_HEADERS", "x-api-key=k,user-agent=mine"),
            ],
        );
        assert!(deliverer.flush(soon()).is_complete());
        let request = collector.requests().remove(0);
        assert_eq!((&*request.path, request.header("x-api-key")), ("/v2/track", Some("k")));
        assert_eq!(request.header("content-type"), Some(content_type));
        assert_eq!((request.header("originator"), request.header("user-agent")), (None, Some("mine")));
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.body, body.as_bytes());
    }
}

#[test]
fn batches_are_bounded_and_products_and_line_fingerprints_travel_apart() {
    let collector = Collector::start(|_, _| Reply::ok());
    let mut events: Vec<Value> = (0..250).map(|n| event("a", n)).collect();
    events[20]["event_type"] = json!("codex_accepted_line_fingerprints");
    events[30]["event_params"]["product_client_id"] = json!("b");
    let queue = queue(&events);
    let deliverer = deliver(&queue, &[("FACTLINE_ANALYTICS_URL", &collector.url("/"))]);
    assert!(deliverer.flush(soon()).is_complete());
    let mut sizes: Vec<usize> = Vec::new();
    let mut seen: Vec<u64> = Vec::new();
    for request in collector.requests() {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let events = body["events"].as_array().unwrap();
        sizes.push(events.len());
        seen.extend(events.iter().map(|event| event["event_params"]["n"].as_u64().unwrap()));
    }
    sizes.sort_unstable();
    seen.sort_unstable();
    assert_eq!(sizes, [1, 1, 50, 98, 100]);
    assert_eq!(seen, (0..250).collect::<Vec<_>>());
    assert_eq!(queue.with(|inside| inside.delivered), 250);
}

/// A command that prints another token each time it runs, and the script's file.
fn counting_command(dir: &Path) -> String {
    let count = dir.join("count");
    let script = format!("echo x >> {0}; echo token-$(wc -l < {0} | tr -d ' ')", count.display());
    json!(["sh", "-c", script]).to_string()
}

#[test]
fn a_refused_token_is_renewed_by_its_command_once() {
    let collector = Collector::start(|_, request| match request.header("authorization") {
        Some("Bearer token-2") => Reply::ok(),
        _ => Reply::status(401),
    });
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&[event("a", 0), event("a", 1)]);
    let vars = [
        ("FACTLINE_ANALYTICS_URL", &*collector.url("/")),
        ("FACTLINE_ANALYTICS_TOKEN_COMMAND", &*counting_command(dir.path())),
    ];
    let deliverer = deliver(&queue, &vars);
    assert!(deliverer.flush(soon()).is_complete(), "{:?}", deliverer.report());
    let tokens: Vec<_> =
        collector.requests().iter().map(|it| it.header("authorization").map(str::to_owned)).collect();
    assert_eq!(tokens, [Some("Bearer token-1".to_owned()), Some("Bearer token-2".to_owned())]);
    assert_eq!(queue.with(|inside| (inside.delivered, inside.lost.len())), (2, 0));
}

#[test]
fn a_token_that_stays_refused_pauses_and_keeps_everything_until_it_is_good() {
    let good = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let now = std::sync::Arc::clone(&good);
    let collector = Collector::start(move |_, _| {
        Reply::status(if now.load(std::sync::atomic::Ordering::SeqCst) { 200 } else { 403 })
    });
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&[event("a", 0)]);
    let vars = [
        ("FACTLINE_ANALYTICS_URL", &*collector.url("/")),
        ("FACTLINE_ANALYTICS_TOKEN_COMMAND", &*counting_command(dir.path())),
    ];
    let deliverer = deliver(&queue, &vars);
    assert!(!deliverer.flush(soon()).is_complete());
    let report = only(&deliverer);
    assert_eq!((report.state, report.delivered, report.lost.len()), (RouteState::Paused, 0, 0));
    assert!(report.last_error.unwrap().contains("403: credentials"));
    // Asked when delivery began and by the flush, at most; each time once more with another token.
    let refused = collector.requests().len();
    assert!(refused == 2 || refused == 4, "{refused}");
    good.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(deliverer.flush(soon()).is_complete());
    assert_eq!(queue.with(|inside| inside.delivered), 1);
}

#[test]
fn a_poison_event_is_found_and_buried_alone() {
    let collector = Collector::start(|_, request| {
        let poison = String::from_utf8_lossy(&request.body).contains("poison");
        Reply::status(if poison { 422 } else { 200 })
    });
    let mut events: Vec<Value> = (0..100).map(|n| event("a", n)).collect();
    events[37]["event_type"] = json!("poison");
    let queue = queue(&events);
    let deliverer = deliver(&queue, &[("FACTLINE_ANALYTICS_URL", &collector.url("/"))]);
    assert!(deliverer.flush(soon()).is_complete());
    queue.with(|inside| {
        assert_eq!((inside.delivered, &*inside.lost), (99, &[("rejected", 1)][..]));
        assert_eq!(inside.dead, [(events[37].to_string().into_bytes(), "HTTP status 422".to_owned())]);
    });
    assert!(collector.requests().len() <= 10, "{}", collector.requests().len());
}

#[test]
fn events_that_the_backend_refuses_one_by_one_are_counted_with_its_reason() {
    let served = Served::start(|_| {});
    let good = json!({"event_type": "codex_hook_run", "event_params": {}});
    let queue = queue(&[good, event("codex_nothing", 1)]);
    let deliverer = deliver(&queue, &[("FACTLINE_ANALYTICS_URL", &served.url())]);
    assert!(deliverer.flush(soon()).is_complete());
    let report = only(&deliverer);
    assert_eq!((report.delivered, report.lost["rejected_partial"]), (1, 1));
    assert!(report.last_error.unwrap().contains("event_type: unknown: codex_nothing"));
}

#[test]
fn a_redirect_is_not_followed_and_nothing_secret_is_said() {
    let other = Collector::start(|_, _| Reply::ok());
    let to = other.url("/");
    let collector =
        Collector::start(move |_, _| Reply::Status(307, vec![("location", to.clone())], b"s3cret".to_vec()));
    let url = collector.url("/?key=s3cret").replace("http://", "http://user:s3cret@");
    let vars = [
        ("FACTLINE_ANALYTICS_URL", &*url),
        ("FACTLINE_ANALYTICS_TOKEN", "s3cret"),
        ("FACTLINE_ANALYTICS_ACCOUNT_ID", "s3cret"),
        ("FACTLINE_ANALYTICS_HEADERS", "x-key=s3cret"),
    ];
    let queue = queue(&[event("a", 0)]);
    let deliverer = deliver(&queue, &vars);
    assert!(!deliverer.flush(soon()).is_complete());
    assert_eq!(only(&deliverer).state, RouteState::Paused);
    assert_eq!(other.requests().len(), 0);
    let said = format!("{:?} {:?} {:?}", deliverer.report(), config(&vars), queue.with(|it| it.dead.clone()));
    assert!(!said.contains("s3cret"), "{said}");
    assert!(collector.requests()[0].header("authorization").is_some());
}

#[test]
fn an_outage_costs_nothing() {
    let collector = Collector::start(|number, _| match number {
        0 => Reply::Hangup,
        1 => Reply::status(500),
        2 => Reply::status(408),
        3 => Reply::Status(503, vec![("retry-after", "0".to_owned())], vec![]),
        4 => Reply::Half,
        _ => Reply::ok(),
    });
    let queue = queue(&(0..10).map(|n| event("a", n)).collect::<Vec<_>>());
    let deliverer = deliver(&queue, &[("FACTLINE_ANALYTICS_URL", &collector.url("/"))]);
    assert!(deliverer.flush(soon()).is_complete());
    let report = only(&deliverer);
    assert_eq!((report.delivered, report.retried, report.lost.len()), (10, 5, 0));
}

#[test]
fn a_file_gets_one_event_per_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own/events.jsonl");
    let events: Vec<Value> = (0..300).map(|n| event("a", n)).collect();
    let queue = queue(&events);
    let deliverer = deliver(&queue, &[("FACTLINE_ANALYTICS_FILE", path.to_str().unwrap())]);
    assert!(deliverer.flush(soon()).is_complete());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with('\n'));
    assert_eq!(text.lines().collect::<Vec<_>>(), events.iter().map(Value::to_string).collect::<Vec<_>>());
    assert_eq!(only(&deliverer).destination, path.to_str().unwrap());
}
