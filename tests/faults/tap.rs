//! Rows 1, 3, 4, 5, 8, 9, 43: the real tap in front of a server that writes down what it said, with a collector
//! that writes down what it took.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use factline::fact::Capture;
use factline::outbox::status;
use factline::protocol::{Observer, Sender};
use opentelemetry_proto::tonic::trace::v1::Span;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::collector::{Collector, Reply};
use crate::ledger::read_by_python;
use crate::program::{Program, factline, named_by, run, signal, until};
use crate::received::{Received, text};
use crate::relay::{Relay, flushed};
use crate::watched::{
    AWAY, Tap, accepted, assert_no_phantoms, claimed, delivered, flush, once, server, tap, tap_with, turn,
};
use crate::{Random, rounds, seed};

#[test]
fn a_tap_killed_in_load_at_any_moment_loses_nothing_and_repeats_only_what_is_equal() {
    let seed = seed();
    let (mut turns, mut twice) = (0, 0);
    for round in 0..rounds(6) {
        let mut random = Random(seed ^ round);
        let dir = tempfile::tempdir().unwrap();
        // Now and then the connection breaks after the request was taken: the sender can't know that it was.
        let broken = |number: usize| number % 5 == 3;
        let collector =
            Collector::start(move |number, _| if broken(number) { Reply::Hangup } else { Reply::ok() });
        let server = server(dir.path(), round, 5000);
        let mut tap = tap(dir.path(), &collector.url(""), &server);
        tap.until_said(2 * random.below(700));
        for _ in 0..random.below(200_000) {
            std::hint::spin_loop();
        }
        tap.process.kill().unwrap();
        tap.process.wait().unwrap();
        let on_disk = accepted(dir.path());
        flush(dir.path(), &collector.url(""));
        let (sure, all) = delivered(&collector.requests(), |number| !broken(number));
        let (sure, _) = once(&sure);
        twice += once(&all).1;
        assert_no_phantoms(dir.path(), &sure, round..round + 1);
        for span in on_disk.into_iter().flatten() {
            let id = [&span.trace_id[..], &span.span_id].concat();
            assert_eq!(sure.get(&id), Some(&span), "accepted and never acknowledged");
            turns += 1;
        }
    }
    println!("{turns} spans were on disk at the kills, {twice} records came twice; seed {seed}");
}

#[test]
fn four_taps_at_once_of_which_two_are_killed_lose_nothing() {
    const TURNS: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let collector =
        Collector::start(
            move |_, _| {
                if is_up.load(Ordering::Acquire) { Reply::ok() } else { Reply::status(503) }
            },
        );
    let mut taps: Vec<Tap> =
        (0..4).map(|name| tap(dir.path(), &collector.url(""), &server(dir.path(), name, TURNS))).collect();
    for tap in &mut taps[..2] {
        tap.until_said(TURNS / 2);
        tap.process.kill().unwrap();
        tap.process.wait().unwrap();
    }
    taps[2..].iter().for_each(|tap| tap.until_said(2 * TURNS));
    until("the observers", || {
        let lanes = status(&dir.path().join("outbox")).map_err(|error| error.to_string())?;
        let queues = lanes.iter().filter(|lane| lane.owner_alive).flat_map(|lane| &lane.queues);
        let seen: u64 =
            queues.filter(|queue| queue.name == "traces").map(|queue| queue.waiting.records).sum();
        if seen >= 2 * TURNS { Ok(()) } else { Err(format!("{seen} spans")) }
    });
    let on_disk = accepted(dir.path());
    let refused = collector.requests().len();
    up.store(true, Ordering::Release);
    taps.drain(2..).for_each(Tap::leave);
    flush(dir.path(), &collector.url(""));
    let requests = collector.requests();
    let (all, _) = delivered(&requests[refused..], |_| true);
    let (spans, _) = once(&all);
    assert_no_phantoms(dir.path(), &spans, 0..4);
    for span in on_disk.into_iter().flatten() {
        let id = [&span.trace_id[..], &span.span_id].concat();
        assert_eq!(spans.get(&id), Some(&span), "accepted and never delivered");
    }
    let turns: BTreeSet<String> = spans.values().filter_map(turn).collect();
    for name in 2..4 {
        let of = turns.iter().filter(|turn| turn[9..13] == format!("{name:04x}"));
        assert_eq!((of.count() as u64, claimed(dir.path(), name)), (TURNS, TURNS), "claimed is delivered");
    }
    let (_, lost, waiting) = crate::ledger::account(&dir.path().join("outbox"));
    assert_eq!((lost, waiting), (0, 0));
}

#[test]
fn an_end_takes_no_time_though_the_collector_never_answers_and_the_rest_is_kept() {
    const TURNS: u64 = 150;
    for end in [Some(Signal::TERM), Some(Signal::INT), None] {
        let mut took = Vec::new();
        // Other programs may have the processor at one moment, but not at each.
        for _ in 0..3 {
            let dir = tempfile::tempdir().unwrap();
            let silent = Collector::start(|_, _| Reply::Silence);
            let server = server(dir.path(), 1, TURNS);
            let mut tap = tap(dir.path(), &silent.url(""), &server);
            tap.until_said(2 * TURNS);
            tap.until_observed(dir.path(), TURNS);
            silent.wait_for(1);
            let began = Instant::now();
            match end {
                Some(end) => signal(&tap.process, end),
                None => drop(tap.process.stdin.take()),
            }
            tap.process.wait().unwrap();
            took.push(began.elapsed());
            let collector = Collector::start(|_, _| Reply::ok());
            flush(dir.path(), &collector.url(""));
            let (all, _) = delivered(&collector.requests(), |_| true);
            let (spans, twice) = once(&all);
            let turns: BTreeSet<String> = spans.values().filter_map(turn).collect();
            assert_eq!((turns.len() as u64, twice), (TURNS, 0), "{end:?}");
            if took.last().is_some_and(|took| *took < Duration::from_millis(300)) {
                break;
            }
        }
        let least = took.iter().min().unwrap();
        assert!(*least < Duration::from_millis(300) || crate::busy(), "{end:?}: {took:?}");
        println!("{end:?}: {took:?}");
    }
}

#[test]
fn what_was_observed_before_a_host_killed_everything_is_delivered_at_the_next_start() {
    let (mut completed, mut closed, mut unseen) = (0, 0, 0);
    for _ in 0..rounds(8) {
        let dir = tempfile::tempdir().unwrap();
        let server = server(dir.path(), 1, 1);
        let mut command = factline(dir.path());
        let mut host = command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", AWAY)
            .args(["tap", "--", "sh"])
            .arg(&server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(host.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("turn/completed") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0);
        }
        // At once: the observer may not have had a processor since the relay passed the line on.
        kill_process_group(Pid::from_child(&host), Signal::KILL).unwrap();
        host.wait().unwrap();
        let outbox = dir.path().join("outbox");
        let Some(on_disk) = read_by_python(&outbox) else { return };
        let ended = accepted(dir.path()).into_iter().flatten().any(|span| turn(&span).is_some());
        let begun = on_disk.iter().filter(|it| it.kind == "begin").count() > 0;
        let collector = Collector::start(|_, _| Reply::ok());
        flush(dir.path(), &collector.url(""));
        let (all, _) = delivered(&collector.requests(), |_| true);
        let spans: Vec<Span> = once(&all).0.into_values().filter(|span| turn(span).is_some()).collect();
        let status = spans.first().and_then(|span| text(&span.attributes, "codex.turn.status"));
        match (ended, begun) {
            (true, _) => assert_eq!(status.as_deref(), Some("completed")),
            (false, true) => assert_eq!(status.as_deref(), Some("interrupted")),
            (false, false) => assert_eq!(status, None),
        }
        assert!(spans.len() <= 1, "{spans:?}");
        let sum = if ended {
            &mut completed
        } else if begun {
            &mut closed
        } else {
            &mut unseen
        };
        *sum += 1;
    }
    println!(
        "turns: {completed} as they ended, {closed} closed as interrupted, {unseen} not observed in time"
    );
}

/// How long whoever is stopped stays so, and how long the tap waits for an answer: the default, at full length.
fn stopped() -> (Duration, Duration) {
    match crate::full_length() {
        false => (Duration::from_millis(1000), Duration::from_millis(700)),
        true => (Duration::from_secs(30), Duration::from_secs(10)),
    }
}

/// What came more than once, of one signal.
#[derive(Debug, Default)]
struct Repeats {
    records: usize,
    again: usize,
    requests: usize,
    /// Requests of which all was known.
    known: usize,
    largest: usize,
}

/// Of logs and spans, in the order in which they came.
fn repeats<'a>(requests: impl Iterator<Item = (&'a str, &'a [u8])>) -> [Repeats; 2] {
    let mut of = [Repeats::default(), Repeats::default()];
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    for (path, body) in requests {
        let mut one = Received::default();
        one.add_request(path, body);
        let uid = |attributes| text(attributes, "log.record.uid").unwrap().into_bytes();
        let logs: Vec<_> = one.logs.iter().map(|it| uid(&it.record.attributes)).collect();
        let span = |it: &Span| [&it.trace_id[..], &it.span_id].concat();
        let spans: Vec<_> = one.spans.iter().map(|it| span(&it.record)).collect();
        for (signal, ids) in [logs, spans].into_iter().enumerate().filter(|(_, ids)| !ids.is_empty()) {
            let (of, count) = (&mut of[signal], ids.len());
            let again = ids.into_iter().filter(|id| !seen[signal].insert(id.clone())).count();
            of.records += count;
            of.again += again;
            of.requests += 1;
            of.known += usize::from(again == count);
            of.largest = of.largest.max(count);
        }
    }
    of
}

#[test]
fn a_tap_that_was_stopped_goes_on_where_it_was() {
    const TURNS: u64 = 800;
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(|_, _| Reply::ok());
    let server = server(dir.path(), 1, TURNS);
    let (stop, timeout) = stopped();
    let tap = tap_with(dir.path(), &collector.url(""), &server, timeout);
    tap.until_said(TURNS / 10);
    collector.wait_for(1);
    signal(&tap.process, Signal::STOP);
    // Longer than a request may take.
    std::thread::sleep(stop);
    signal(&tap.process, Signal::CONT);
    tap.until_said(2 * TURNS);
    tap.until_observed(dir.path(), TURNS);
    tap.leave();
    flush(dir.path(), &collector.url(""));
    let requests = collector.requests();
    let (all, _) = delivered(&requests, |_| true);
    let (spans, _) = once(&all);
    let turns: BTreeSet<String> = spans.values().filter_map(turn).collect();
    assert_eq!((turns.len() as u64, claimed(dir.path(), 1)), (TURNS, TURNS));
    for of in repeats(requests.iter().map(|it| (&*it.path, &*it.body))) {
        println!("stopped for {stop:?}: {of:?}");
        // Answers that came meanwhile are heard before the time-out is.
        assert!(of.again <= of.largest && of.known <= 1, "{of:?}");
    }
}

/// In the role of a collector that can be stopped; as a test of its own it does nothing.
#[test]
fn collector_role() {
    let Some(dir) = std::env::var_os("FACTLINE_TEST_COLLECTOR").map(PathBuf::from) else { return };
    let (kept, number) = (dir.clone(), AtomicU64::new(0));
    let collector = Collector::start(move |_, request| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let name = format!("{number:06}{}", request.path.replace('/', "."));
        std::fs::write(kept.join(format!(".{name}")), &request.body).unwrap();
        std::fs::rename(kept.join(format!(".{name}")), kept.join(name)).unwrap();
        Reply::ok()
    });
    std::fs::write(dir.join("url.new"), collector.url("")).unwrap();
    std::fs::rename(dir.join("url.new"), dir.join("url")).unwrap();
    // Ends with whoever started it.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn kept_by_collector(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('0')).collect();
    files.sort();
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        (name[6..].replace('.', "/"), std::fs::read(path).unwrap())
    };
    files.iter().map(read).collect()
}

#[test]
fn a_collector_that_was_stopped_gets_everything_and_at_most_some_of_it_again() {
    const TURNS: u64 = 600;
    let dir = tempfile::tempdir().unwrap();
    let mut collector = Command::new(std::env::current_exe().unwrap())
        .args(["tap::collector_role", "--exact", "--nocapture", "--test-threads=1"])
        .env("FACTLINE_TEST_COLLECTOR", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let url = until("the collector", || {
        std::fs::read_to_string(dir.path().join("url")).map_err(|error| error.to_string())
    });
    let server = server(dir.path(), 1, TURNS);
    let (stop, timeout) = stopped();
    signal(&collector, Signal::STOP);
    let began = Instant::now();
    let tap = tap_with(dir.path(), &url, &server, timeout);
    tap.until_said(2 * TURNS);
    // It times out at least once, the collector's backlog filling with requests.
    let outbox = dir.path().join("outbox");
    until("a time-out that is noted", || {
        let notes = factline::outbox::notes(&outbox).map_err(|error| error.to_string())?;
        if notes.contains_key("traces") { Ok(()) } else { Err(format!("{notes:?}")) }
    });
    std::thread::sleep(stop.saturating_sub(began.elapsed()));
    signal(&collector, Signal::CONT);
    tap.until_observed(dir.path(), TURNS);
    tap.leave();
    flush(dir.path(), &url);
    let kept = kept_by_collector(dir.path());
    let _ = collector.kill();
    collector.wait().unwrap();
    let mut all = Received::default();
    kept.iter().for_each(|(path, body)| all.add_request(path, body));
    let (spans, _) = once(&all);
    let turns: BTreeSet<String> = spans.values().filter_map(turn).collect();
    assert_eq!(turns.len() as u64, TURNS);
    for of in repeats(kept.iter().map(|(path, body)| (&**path, &**body))) {
        println!("the collector stopped for {stop:?}: {of:?}");
        // What was on its way when it stopped, and the single records that asked whether it is back: fewer each
        // time, or they would be a storm.
        let asked = 2 + 2 * (stop.as_secs() / timeout.as_secs().max(1)) as usize;
        assert!(of.known <= 1 + asked && of.again <= of.largest + asked, "{of:?}");
    }
}

#[test]
fn an_outbox_that_is_removed_under_a_tap_is_made_again_said_once_and_what_is_gone_is_counted() {
    let traces = |outbox: &Path| {
        let lane = std::fs::read_dir(outbox.join("lanes")).unwrap().next().unwrap().unwrap();
        lane.path().join("traces")
    };
    let segment = |outbox: &Path| {
        let files = std::fs::read_dir(traces(outbox)).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|it| it == "seg")).min().unwrap()
    };
    for what in ["a segment", "a queue", "everything"] {
        let dir = tempfile::tempdir().unwrap();
        let (outbox, log) = (dir.path().join("outbox"), dir.path().join("log"));
        let mut tap = factline(dir.path());
        tap.env("OTEL_EXPORTER_OTLP_ENDPOINT", AWAY).env("FACTLINE_LOG", &log);
        let mut relay = Relay::start(tap.args(["tap", "--", "cat"]));
        relay.relay(Duration::from_millis(500), 1000);
        relay.until_written(&outbox);
        match what {
            "a segment" => std::fs::remove_file(segment(&outbox)).unwrap(),
            "a queue" => std::fs::remove_dir_all(traces(&outbox)).unwrap(),
            _ => std::fs::remove_dir_all(&outbox).unwrap(),
        }
        // `Relay` holds each line against what comes back.
        let took = relay.relay(Duration::from_millis(500), 1000);
        relay.until_observed(&outbox);
        let turns = relay.turns();
        relay.leave();
        let said = std::fs::read_to_string(&log).unwrap();
        assert_eq!(said.matches("files of this outbox were removed").count(), 1, "{what}: {said}");
        let (delivered, lost) = flushed(dir.path(), &outbox);
        println!("{what} removed: {took}; {delivered} of {turns} turns delivered, {lost} counted as lost");
        assert_eq!(delivered + lost, turns, "{what}");
        assert!(delivered >= turns / 2 - 1, "{what}: what came later is there");
    }
}

#[test]
fn nothing_of_the_outbox_is_open_in_the_server_or_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let server = dir.path().join("server.sh");
    // The second is a grandchild.
    std::fs::write(&server, "ls -l /proc/self/fd; sh -c 'ls -l /proc/self/fd'; env\n").unwrap();
    let output = run(factline(dir.path()).args(["tap", "--", "sh"]).arg(&server));
    let said = String::from_utf8(output.stdout).unwrap();
    let open = |line: &&str| line.contains("->") && !line.contains("/proc/") && !line.contains("/dev/null");
    let files: Vec<&str> = said.lines().filter(open).filter(|line| line.contains("-> /")).collect();
    let own: Vec<&&str> = files.iter().filter(|line| !line.contains("server.sh")).collect();
    assert!(own.is_empty(), "{own:?}");
    assert!(said.matches("pipe:").count() >= 2, "{said}");
    assert!(dir.path().join("outbox").exists());
}

#[test]
fn whatever_a_server_says_passes_unchanged_and_does_not_disturb_what_comes_after() {
    let dir = tempfile::tempdir().unwrap();
    let turn = |number: u64, what: &str, more: &str| {
        let id = format!("01a201f3-0001-7000-8000-{number:012x}");
        let thread = "01a201f3-1c6c-7603-bce4-c97c0b12c695";
        format!(
            r#"{{"method":"turn/{what}","params":{{"threadId":"{thread}","turn":{{"id":"{id}"{more}}}}},"emittedAtMs":{}}}"#,
            1_795_329_039_590 + number * 10
        )
    };
    let whole = |number| {
        let end = turn(number, "completed", r#","status":"completed","durationMs":5"#);
        [turn(number, "started", ""), end].join("\n").into_bytes()
    };
    let deep = |open: &str, close: &str| [open.repeat(10_000), close.repeat(10_000)].concat().into_bytes();
    let odd: Vec<Vec<u8>> = vec![
        vec![b'x'; 20 << 20],
        b"\xff\xfe\x80 no text".to_vec(),
        b"\0\0{}\0".to_vec(),
        br#"{"method":"turn/started","params":{"threadId":"\ud800","turn":{"id":"\udfff"}}}"#.to_vec(),
        b"{\"id\":1,\"result\":{}}\r".to_vec(),
        br#"{"method":"no/such/method","params":[1,2,3]}"#.to_vec(),
        br#"{"id":7,"method":"no/such/request","params":{}}"#.to_vec(),
        br#"{"id":7,"method":"no/such/request","params":{}}"#.to_vec(),
        br#"{"id":"never asked","result":null}"#.to_vec(),
        br#"{"id":9,"error":"not an object"}"#.to_vec(),
        deep("[", "]"),
        [&b"{\"method\":\"turn/started\",\"params\":"[..], &deep("{\"a\":", "}"), b"}"].concat(),
        b"[]".to_vec(),
        b"null".to_vec(),
        b"".to_vec(),
        br#"{"method":"turn/completed","params":{"threadId":5,"turn":[]}}"#.to_vec(),
        "{\"method\":\"turn/started\",\"params\":{\"threadId\":\"\u{202e}\u{1b}[31m\"}}".as_bytes().to_vec(),
    ];
    let mut stream = Vec::new();
    for (number, line) in odd.iter().enumerate() {
        stream.extend([whole(number as u64), line.clone()].join(&b'\n'));
        stream.push(b'\n');
    }
    stream.extend(whole(odd.len() as u64));
    stream.extend(b"\n{\"method\":\"half a li");
    std::fs::write(dir.path().join("stream"), &stream).unwrap();
    std::fs::write(dir.path().join("errors"), b"\x1b[31mnoise\n\xff".repeat(1000)).unwrap();
    let log = dir.path().join("tap.log");
    let collector = Collector::start(|_, _| Reply::ok());
    let mut command = factline(dir.path());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url("")).env("FACTLINE_LOG", &log);
    command.current_dir(dir.path()).args([
        "tap",
        "--",
        "sh",
        "-c",
        "cat errors >&2 & cat stream; wait; exit 5",
    ]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(output.stdout == stream, "{} of {} bytes", output.stdout.len(), stream.len());
    assert!(output.stderr == std::fs::read(dir.path().join("errors")).unwrap());
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(!said.contains("fault in factline"), "{said}");
    flush(dir.path(), &collector.url(""));
    let (all, _) = delivered(&collector.requests(), |_| true);
    let (spans, twice) = once(&all);
    let turns: BTreeSet<String> = spans
        .values()
        .filter_map(crate::watched::turn)
        .filter(|id| id.starts_with("01a201f3-0001"))
        .collect();
    assert_eq!((turns.len(), twice), (odd.len() + 1, 0), "the turns between the oddities: {said}");
    // And each is counted by whoever reads along.
    let mut observer = Observer::new(Capture::NONE);
    for line in &odd {
        let before: u64 = observer.counts().values().sum();
        if line.len() > factline::tap::LINE_LIMIT {
            observer.unseen("oversized");
        } else {
            observer.message(1, Sender::Server, 1, line);
        }
        let after: u64 = observer.counts().values().sum();
        assert!(after > before, "{}", String::from_utf8_lossy(&line[..line.len().min(100)]));
    }
    println!("{:?}", observer.counts());
}

#[test]
fn kills_with_the_real_collector_behind_lose_nothing() {
    let Some(program) =
        named_by("FACTLINE_COLLECTOR", "an otelcol binary (`.ci/parts collector` builds one)")
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir_all(&out).unwrap();
    let configuration = dir.path().join("collector.yaml");
    std::fs::write(
        &configuration,
        "receivers: {otlp: {protocols: {http: {endpoint: \"${env:OTLP_HTTP}\"}}}}\n\
         exporters:\n  file/logs: {path: \"${env:FILES_OUT}/logs.jsonl\", flush_interval: 200ms}\n  \
         file/traces: {path: \"${env:FILES_OUT}/traces.jsonl\", flush_interval: 200ms}\n\
         service:\n  telemetry: {metrics: {level: none}}\n  pipelines:\n    \
         logs: {receivers: [otlp], exporters: [file/logs]}\n    \
         traces: {receivers: [otlp], exporters: [file/traces]}\n",
    )
    .unwrap();
    let (agent, [port]) = Program::on_free_ports("Everything is ready", |[port]: [u16; 1]| {
        let mut command = Command::new(&program);
        command.arg("--config").arg(&configuration);
        command.env("OTLP_HTTP", format!("127.0.0.1:{port}")).env("FILES_OUT", &out);
        command
    });
    let (url, seed) = (format!("http://127.0.0.1:{port}"), seed());
    let kills = crate::number("FACTLINE_KILL_ROUNDS").unwrap_or(10);
    let mut on_disk: Vec<Span> = Vec::new();
    for round in 0..kills {
        let mut random = Random(seed ^ round);
        // Each tap adopts what the one before it left.
        let mut tap = tap(dir.path(), &url, &server(dir.path(), round, 3000));
        tap.until_said(2 * random.below(400));
        for _ in 0..random.below(200_000) {
            std::hint::spin_loop();
        }
        tap.process.kill().unwrap();
        tap.process.wait().unwrap();
        // The second reader is slow: one kill in ten is enough for it. Then somebody lives long enough to take
        // over what the ten left.
        if round % 10 == 9 || round + 1 == kills {
            on_disk.extend(accepted(dir.path()).into_iter().flatten());
            flush(dir.path(), &url);
            let (_, lost, waiting) = crate::ledger::account(&dir.path().join("outbox"));
            assert_eq!((lost, waiting), (0, 0), "after {round} kills");
        }
    }
    let held = on_disk.len();
    let (delivered, lost, waiting) = crate::ledger::account(&dir.path().join("outbox"));
    let (ended, said) = agent.end();
    assert!(ended.success(), "{said}");
    let got = Received::from_files(&out);
    let (logs, all_spans) = got.counts();
    let (spans, twice) = once(&got);
    assert_no_phantoms(dir.path(), &spans, 0..kills);
    for span in on_disk {
        let id = [&span.trace_id[..], &span.span_id].concat();
        assert!(spans.contains_key(&id), "accepted and never delivered: {span:?}");
    }
    assert_eq!((lost, waiting), (0, 0));
    // What the outbox takes for delivered came at least once.
    let unique = (logs + all_spans - twice) as u64;
    assert!(delivered == unique, "{delivered} delivered by the outbox's account, {unique} came");
    println!(
        "{kills} kills: {unique} records came, {twice} of them again, all equal; {held} spans were on disk at the \
         kills that were looked at; none lost; seed {seed}"
    );
}
