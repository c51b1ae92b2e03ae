//! `factline demo` and the waterfall: what is shown, and that nothing is sent.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/cli.rs"]
mod cli;

use std::net::TcpListener;

use cli::{SESSION, Surroundings, logs, spans};

#[test]
fn the_demo_shows_every_turn_and_subagent_in_an_empty_home() {
    let around = Surroundings::new();
    let ran = around.run(["demo"]);
    ran.must(0, &[]);
    assert_eq!(ran.stderr, "");
    for id in turn_ids() {
        let root = ran.stdout.contains(&id.replace('-', ""));
        let subagent = spans(&around.path("state/factline/demo/factline-demo-1/otlp/traces.jsonl"))
            .iter()
            .any(|span| span.to_string().contains(&id) && span["parentSpanId"].is_string());
        assert!(root || subagent, "{id}\n{}", ran.stdout);
    }
    assert_eq!(
        ran.stdout.matches("turn 1 ").count() + ran.stdout.matches("turn 2 ").count(),
        10,
        "{}",
        ran.stdout
    );
    assert_eq!(ran.stdout.matches(" subagent, ").count(), 3);
    for word in [
        "declined",
        "interrupted",
        "failed: exit_code",
        "approved in",
        "spawn_agent",
        "docker run",
        "otlpjsonfile",
    ] {
        assert!(ran.stdout.contains(word), "{word}\n{}", ran.stdout);
    }
}

#[test]
fn what_the_demo_says_it_wrote_is_there_and_nothing_waits() {
    let around = Surroundings::new();
    let ran = around.run(["demo", "--json", "--dir", "out"]);
    ran.must(0, &[]);
    let said = ran.json();
    let place = |of: &str| std::path::PathBuf::from(said["files"][of].as_str().unwrap());
    assert_eq!(said["logs"].as_u64(), Some(logs(&place("logs")).len() as u64));
    assert_eq!(said["spans"].as_u64(), Some(spans(&place("traces")).len() as u64));
    assert!(!around.outbox().exists(), "the user's own outbox was touched");
    let status = around.run(["outbox", "status", "--json", "--outbox", "out/outbox"]).json();
    assert_eq!(status["lanes"], serde_json::json!([]));

    let replayed = around.run(["replay", "--otlp-file", "again", said["session"].as_str().unwrap()]);
    replayed.must(0, &[]);
    let ids = cli::span_ids(&around.path("again/traces.jsonl"));
    assert_eq!(cli::span_ids(&place("traces")), ids);
}

#[test]
fn json_has_turns_with_their_tools_tokens_and_ids() {
    let said = Surroundings::new().run(["demo", "--json"]).json();
    let turns = said["turns"].as_array().unwrap();
    assert_eq!(turns.len(), turn_ids().len());
    assert_eq!(said["threads"].as_array().unwrap().len(), 7);
    let tools = turns.iter().flat_map(|turn| turn["tools"].as_array().unwrap());
    let declined: Vec<_> = tools.filter(|tool| tool["status"] == "declined").collect();
    assert_eq!(declined.len(), 2);
    assert_eq!(declined[0]["approval"]["decision"], "denied");
    let interrupted: Vec<_> = turns.iter().filter(|turn| turn["status"] == "interrupted").collect();
    assert_eq!(interrupted.len(), 1);
    assert_eq!(interrupted[0]["tokens"], serde_json::json!({"input": 1270, "output": 50}));
    assert_eq!(interrupted[0]["duration_ns"], 274_000_000);
    for turn in turns {
        let id = turn["turn_id"].as_str().unwrap();
        let root = turn["parent_span_id"].is_null();
        assert_eq!(root, turn["trace_id"] == id.replace('-', ""), "{turn}");
    }
}

#[test]
fn the_demo_connects_to_nobody_whatever_the_environment_says() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("HTTP_PROXY", &url),
        ("FACTLINE_OUTBOX_DIR", "/nowhere/at/all"),
    ];
    let around = Surroundings::new();
    around.run_with(&variables, ["demo"]).must(0, &[]);
    let disabled = around
        .run_with(&[("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense")], ["demo"]);
    disabled.must(0, &[]);
    assert!(disabled.stdout.contains("factline-demo-2"), "{}", disabled.stdout);
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn the_demo_needs_no_home_and_says_where_it_can_not_write() {
    let around = Surroundings::new();
    let mut bare = around.command(["demo"]);
    bare.env_remove("HOME").env_remove("XDG_STATE_HOME").env("TMPDIR", around.dir.path());
    cli::ran(bare.output().unwrap()).must(0, &[]);
    assert!(around.path("factline-demo-1/otlp/traces.jsonl").exists());

    around.write("file", "");
    around.run(["demo", "--dir", "file/below"]).must(1, &["cannot write into", "file/below", "--dir"]);
    around.run(["demo", "--outbox", "mine"]).must(2, &["--dir"]);
    around.run(["demo", "--filter", "factline::turn=nonsense"]).must(1, &["--filter", "for example"]);
    let none = around.run(["demo", "--filter", "off"]);
    none.must(0, &[]);
    assert!(none.stdout.contains("No span passed the filter"), "{}", none.stdout);
}

#[test]
fn characters_and_colours_follow_locale_and_terminal() {
    let around = Surroundings::new();
    let utf8 = around.run_with(&[("LANG", "en_GB.UTF-8")], ["demo"]);
    assert!(utf8.stdout.contains("████"));
    for locale in [("LC_ALL", "C"), ("LC_CTYPE", "POSIX"), ("TZ", "")] {
        let plain = around.run_with(&[locale], ["demo"]);
        assert!(plain.stdout.is_ascii() && plain.stdout.contains("####"), "{locale:?}");
    }
    let overridden = around.run_with(&[("LANG", "en_GB.UTF-8"), ("LC_ALL", "C")], ["demo"]);
    assert!(overridden.stdout.is_ascii());
    for ran in [utf8, overridden] {
        assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'));
        let waterfall = ran.stdout.split("What was written").next().unwrap();
        let longest = waterfall.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(83), "{longest:?}");
    }
}

#[test]
fn replay_shows_the_same_waterfall_of_ones_own_recordings() {
    let around = Surroundings::new();
    let session = around.session();
    let demo = around.run(["demo"]).stdout;
    let waterfall = demo.split("\nWhat was written").next().unwrap();
    let shown = around.run([
        "replay".as_ref(),
        "--show".as_ref(),
        "--otlp-file".as_ref(),
        "out".as_ref(),
        session.as_os_str(),
    ]);
    shown.must(0, &["49 log records, 42 spans"]);
    assert_eq!(shown.stdout.trim_end(), waterfall.trim_end());
    let delivered =
        around.run(["replay".as_ref(), "--show".as_ref(), "--json".as_ref(), session.as_os_str()]).json();
    assert_eq!(delivered["turns"].as_array().unwrap().len(), turn_ids().len());
    assert_eq!(delivered["delivered"], 92);
}

/// Turns that the recording says were started.
fn turn_ids() -> Vec<String> {
    let lines = SESSION.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let started = lines.filter(|line| line["msg"]["method"] == "turn/started");
    let ids: Vec<String> =
        started.map(|line| line["msg"]["params"]["turn"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 14);
    ids
}
