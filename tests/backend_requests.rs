//! The reference backend against requests that are right, wrong, huge, slow, or no requests at all.
#![cfg(feature = "backend")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/served.rs"]
mod served;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use factline::backend::{Cell, QueryError, QueryLimits, query};
use serde_json::{Value, json};
use served::{JSON, PATH, Served, answer, read_all, recorded, request};

fn hook(n: usize) -> Value {
    json!({"event_type": "codex_hook_run", "event_params": {"thread_id": format!("t{n}"), "status": "completed"}})
}

fn body(events: &[Value]) -> Vec<u8> {
    json!({ "events": events }).to_string().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn error(answer: &(u16, Value)) -> &str {
    answer.1["error"].as_str().unwrap_or_else(|| panic!("{answer:?}"))
}

#[test]
fn every_recorded_event_is_taken_unchanged_and_counted_once() {
    let mut served = Served::start(|settings| settings.strict = true);
    let (mut sent, mut equal) = (0, 0);
    let mut distinct = BTreeMap::<String, i64>::new();
    for (headers, events) in recorded() {
        let originator = headers["originator"].as_str().unwrap();
        let headers = format!("{JSON}originator: {originator}\r\n");
        let (status, told) = served.post(&headers, &body(&events));
        assert_eq!((status, &told["rejected"]), (200, &json!([])));
        assert_eq!(told["accepted"], events.len());
        sent += events.len() as i64;
        equal += told["duplicates"].as_i64().unwrap();
        for event in &events {
            *distinct.entry(event.to_string()).or_default() += 1;
        }
    }
    served.stop();
    assert_eq!(served.number("SELECT count(*) FROM events") as usize, distinct.len());
    assert_eq!(served.number("SELECT count(*) + sum(duplicates) FROM events"), sent);
    assert_eq!(served.number("SELECT sum(duplicates) FROM events"), equal);
    assert_eq!(served.number("SELECT count(*) FROM rejected"), 0);
    let rows = query(&served.db, "SELECT event FROM events", QueryLimits::default()).unwrap().rows;
    for row in rows {
        let Cell::Text(text) = &row[0] else { panic!() };
        assert!(distinct.contains_key(&serde_json::from_str::<Value>(text).unwrap().to_string()));
    }
    let vscode = "SELECT count(*) FROM events WHERE product_client_id = 'CODEX_VSCODE' AND originator = 'codex_vscode'";
    assert!(served.number(vscode) > 400);
    assert!(served.number("SELECT count(*) FROM events WHERE product_client_id = 'CODEX_SERVICE_EXEC'") > 5);
    let lines = served.lines.lock().unwrap();
    assert_eq!(lines.len(), distinct.len());
    let thread = lines.iter().find(|line| line.contains("codex_thread_initialized")).unwrap();
    assert!(
        thread.starts_with("Tracked analytics event codex_thread_initialized thread_id=")
            && thread
                .contains(" product_surface=codex product_client_id=CODEX_VSCODE client_name=codex_vscode "),
        "{thread}"
    );
    assert!(lines.iter().all(|line| !line.chars().any(char::is_control)));
}

#[test]
fn what_is_wrong_with_one_event_costs_no_other_and_only_the_reason_is_kept() {
    let mut served = Served::start(|_| {});
    let mut bad_status = hook(1);
    bad_status["event_params"]["status"] = json!("s3cret");
    let unknown = json!({"event_type": "codex_private", "event_params": {"text": "s3cret"}});
    let events = [hook(0), bad_status, unknown, json!("s3cret"), hook(2)];
    let (status, told) = served.post(JSON, &body(&events));
    assert_eq!(status, 200);
    assert!(!told.to_string().contains("s3cret"));
    assert_eq!(
        told,
        json!({"accepted": 2, "duplicates": 0, "rejected": [
            {"index": 1, "reason": "event_params.status: not one of completed, failed, blocked, stopped"},
            {"index": 2, "reason": "event_type: unknown: codex_private"},
            {"index": 3, "reason": "the event is no object"},
        ]})
    );
    served.stop();
    assert_eq!(served.number("SELECT count(*) FROM events"), 2);
    let rejected =
        query(&served.db, "SELECT event_type, reason FROM rejected ORDER BY id", QueryLimits::default());
    let text = |text: &str| Cell::Text(text.to_owned());
    assert_eq!(
        rejected.unwrap().rows,
        [
            [
                text("codex_hook_run"),
                text("event_params.status: not one of completed, failed, blocked, stopped")
            ],
            [Cell::Null, text("event_type: unknown: codex_private")],
            [Cell::Null, text("the event is no object")],
        ]
    );
}

#[test]
fn an_event_that_comes_twice_is_one_row_with_a_count() {
    let mut served = Served::start(|_| {});
    let reordered = br#"{"events":[{"event_params":{"status":"completed","thread_id":"t7"},"event_type":"codex_hook_run"}]}"#;
    assert_eq!(served.post(JSON, &body(&[hook(7), hook(8)])).1["duplicates"], 0);
    assert_eq!(served.post(JSON, &body(&[hook(7)])).1["duplicates"], 1);
    assert_eq!(served.post(JSON, reordered).1["duplicates"], 1);
    served.stop();
    assert_eq!(served.number("SELECT count(*) FROM events"), 2);
    assert_eq!(served.number("SELECT duplicates FROM events WHERE thread_id = 't7'"), 2);
    assert_eq!(served.lines.lock().unwrap().len(), 2);
}

#[test]
fn requests_that_are_wrong_are_answered_with_what_is_wrong() {
    let served = Served::start(|settings| settings.limits.events = 3);
    let good = body(&[hook(0)]);
    let status = |text: &[u8]| answer(&served.raw(text));
    let deep = format!("{{\"events\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let many = body(&[hook(0), hook(1), hook(2), hook(3)]);
    let posts: [(&str, &[u8], u16, &str); 14] = [
        ("", &good, 415, "content type"),
        ("content-type: text/plain\r\n", &good, 415, "content type"),
        ("content-type: application/json\r\ncontent-encoding: br\r\n", &good, 415, "content encoding"),
        (JSON, b"", 400, "no JSON"),
        (JSON, b"s3cret", 400, "no JSON (line 1, column 1)"),
        (JSON, b"{\"events\":[}", 400, "no JSON"),
        (JSON, b"\xff\xfe", 400, "no JSON"),
        (JSON, b"[]", 400, "no object"),
        (JSON, b"{}", 400, "no `events`"),
        (JSON, b"{\"events\":{}}", 400, "no array"),
        (JSON, deep.as_bytes(), 400, "nested deeper than 128"),
        (JSON, &many, 413, "4 events in one request, at most 3"),
        ("content-type: application/json\r\ncontent-encoding: gzip\r\n", &good, 400, "no gzip"),
        ("content-type: application/json\r\ncontent-encoding: gzip\r\n", &gzip(&good)[..30], 400, "no gzip"),
    ];
    for (headers, body, expected, words) in posts {
        let answer = served.post(headers, body);
        assert_eq!(answer.0, expected, "{answer:?}");
        assert!(error(&answer).contains(words), "{answer:?}");
        assert!(!error(&answer).contains("s3cret"), "{answer:?}");
    }
    let not_found = status(b"POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
    assert!(not_found.0 == 404 && error(&not_found).contains(PATH));
    let get = served.raw(format!("GET {PATH} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
    assert!(answer(&get).0 == 405 && get.contains("allow: POST"), "{get}");
    for form in ["application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(served.post(&format!("content-type: {form}\r\n"), &good).0, 200);
    }
    let zipped = served.post("content-type: application/json\r\ncontent-encoding: gzip\r\n", &gzip(&good));
    assert_eq!(zipped.0, 200);
    let chunked =
        format!("POST /any/base{PATH} HTTP/1.1\r\nhost: x\r\n{JSON}transfer-encoding: chunked\r\n\r\n");
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", good.len(), String::from_utf8_lossy(&good));
    assert_eq!(status((chunked + &chunk).as_bytes()).0, 200);
}

#[test]
fn huge_bodies_headers_and_bombs_are_refused_and_the_server_goes_on() {
    let served = Served::start(|settings| settings.limits.body_bytes = 64 << 10);
    let huge = vec![b' '; 4 << 20];
    let answered = served.post(JSON, &huge);
    assert!(answered.0 == 413 && error(&answered).contains("longer than 65536 bytes"), "{answered:?}");

    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 70 << 10, "it must get past the limit for what is sent: {}", bomb.len());
    let headers = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    let answered = served.post(headers, &bomb[..bomb.len().min(64 << 10)]);
    assert!(answered.0 == 413 && error(&answered).contains("longer than 65536 bytes"), "{answered:?}");

    let claimed = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{JSON}content-length: 99999999999\r\n\r\n");
    let answered = answer(&served.raw(claimed.as_bytes()));
    assert_eq!(answered.0, 413);

    let headers: String = (0..2000).map(|n| format!("x-{n}: {}\r\n", "y".repeat(100))).collect();
    let text = served.raw(&request(&format!("{JSON}{headers}"), b"{}"));
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");

    assert_eq!(served.post(JSON, &body(&[hook(0)])).0, 200);
}

#[test]
fn slow_clients_are_let_go_and_hold_up_nobody() {
    let quick = Duration::from_millis(150);
    let mut served = Served::start(|settings| {
        settings.limits.body_time = quick;
        settings.limits.header_time = quick;
        settings.limits.connections = 3;
    });
    let started = Instant::now();
    let (mut in_body, mut in_headers, mut silent) = (served.connect(), served.connect(), served.connect());
    let start = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{JSON}content-length: 100\r\n\r\n{{\"ev");
    in_body.write_all(start.as_bytes()).unwrap();
    in_headers.write_all(b"POST /codex HTTP/1.1\r\nho").unwrap();
    // All three places are taken: this one is answered when the others were let go.
    assert_eq!(served.post(JSON, &body(&[hook(0)])).0, 200);
    let late = read_all(&mut in_body);
    assert!(late.starts_with("HTTP/1.1 408") && late.contains("connection: close"), "{late}");
    assert!(answer(&late).1["error"].as_str().unwrap().contains("did not arrive within 0.15 s"));
    read_all(&mut in_headers);
    read_all(&mut silent);
    assert!(started.elapsed() < Duration::from_secs(5));
    served.stop();
    assert_eq!(served.number("SELECT count(*) FROM events"), 1);
}

#[test]
fn a_client_that_never_reads_its_answers_is_let_go() {
    let served = Served::start(|settings| {
        settings.limits.connections = 1;
        settings.limits.connection_time = Duration::from_millis(300);
        settings.limits.body_time = Duration::from_millis(300);
    });
    let bad = request(JSON, &body(&vec![json!(0); 5000]));
    let mut stream = served.connect();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // Answers are longer than requests: they fill the buffers between us until nobody can write.
    while stream.write_all(&bad).is_ok() {}
    assert_eq!(served.post(JSON, &body(&[hook(0)])).0, 200);
}

#[test]
fn garbage_behind_a_request_costs_that_request_nothing() {
    let mut served = Served::start(|_| {});
    let two = [request(JSON, &body(&[hook(0)])), request(JSON, &body(&[hook(1)]))].concat();
    let text = served.raw(&two);
    assert_eq!(text.matches("HTTP/1.1 200").count(), 2, "{text}");
    let garbage =
        [request(JSON, &body(&[hook(2)])), b"\x00\xff\x16\x03\x01 nonsense\r\n\r\n".to_vec()].concat();
    let text = served.raw(&garbage);
    assert!(text.starts_with("HTTP/1.1 200") && text.matches("HTTP/1.1 400").count() <= 1, "{text}");
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n\r\n", b""]
    {
        served.raw(garbage);
    }
    // A body that ends before its end is not an event.
    let cut = request(JSON, &body(&[hook(3)]));
    served.raw(&cut[..cut.len() - 3]);
    served.stop();
    assert_eq!(served.number("SELECT count(*) FROM events"), 3);
}

#[test]
fn a_stop_answers_what_was_begun_and_keeps_what_was_answered() {
    let mut served = Served::start(|settings| settings.answer_delay = Duration::from_millis(100));
    let mut idle = served.connect();
    let mut stream = served.connect();
    stream.write_all(&request(JSON, &body(&[hook(0)]))).unwrap();
    // Committed, and its answer still held back.
    let until = Instant::now() + Duration::from_secs(5);
    while served.number("SELECT count(*) FROM events") == 0 {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
    let started = Instant::now();
    served.stop();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(answer(&read_all(&mut stream)).0, 200);
    assert_eq!(read_all(&mut idle), "");
}

#[test]
fn a_question_can_read_and_nothing_else() {
    let mut served = Served::start(|_| {});
    served.post(JSON, &body(&[hook(0), hook(1)]));
    let ask = |statement: &str| query(&served.db, statement, QueryLimits::default());
    let out = served.db.with_file_name("out.db");
    let attach = format!("ATTACH '{}' AS other", out.display());
    let vacuum = format!("VACUUM INTO '{}'", out.display());
    let writes = [
        "INSERT INTO rejected (received_at_ms, reason) VALUES (1, 'x')",
        "DELETE FROM events",
        "DROP TABLE events",
        "CREATE TABLE more (x)",
        "CREATE TEMP TABLE more (x)",
        "DELETE FROM events RETURNING *",
        "SELECT 1; DELETE FROM events",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA user_version = 9",
        attach.as_str(),
        vacuum.as_str(),
        "",
    ];
    for statement in writes {
        let refused = ask(statement);
        assert!(
            matches!(refused, Err(QueryError::NotOneQuestion | QueryError::Statement(_)))
                || refused.as_ref().is_ok_and(|rows| rows.rows == [[Cell::Text("wal".into())]]),
            "{statement}: {refused:?}"
        );
    }
    assert!(!out.exists());
    assert_eq!(ask("DELETE FROM events"), Err(QueryError::NotOneQuestion));
    assert_eq!(served.number("SELECT count(*) FROM events"), 2);
    assert!(matches!(ask("SELECT nothing FROM events"), Err(QueryError::Statement(_))));
    let limits = QueryLimits { rows: 1, ..QueryLimits::default() };
    let cut = query(&served.db, "SELECT thread_id FROM events ORDER BY 1", limits).unwrap();
    assert!(cut.cut && cut.rows == [[Cell::Text("t0".into())]]);

    let limits = QueryLimits { time: Duration::from_millis(50), ..QueryLimits::default() };
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    assert_eq!(query(&served.db, endless, limits), Err(QueryError::TooLong(limits.time)));
    let big = query(&served.db, "SELECT zeroblob(100000000)", QueryLimits::default());
    assert!(matches!(big, Err(QueryError::Statement(_))), "{big:?}");
    let nowhere = query(&served.db.with_file_name("none.db"), "SELECT 1", QueryLimits::default());
    assert!(matches!(nowhere, Err(QueryError::Database(_))));
    assert!(!served.db.with_file_name("none.db").exists());
    served.stop();
    assert_eq!(served.number("SELECT count(*) FROM events"), 2, "also when no server has it open");
}
