//! `factline tap` and the outbox behind it: whatever happens to telemetry, the command runs as it would alone.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/cli.rs"]
mod cli;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::Duration;

use cli::{Ran, SESSION, Surroundings, fed, span_ids, spans};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What one side sent on the second connection of the session, as lines.
fn lines_of(side: &str) -> String {
    let lines = SESSION.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let sent = lines.filter(|line| line["conn"] == 2 && line["dir"] == side);
    sent.map(|line| format!("{}\n", line["msg"])).collect()
}

/// A server that reads what the client has to say, and then says its own.
const SERVER: &str = "cat > /dev/null; cat server.txt; exit 7";

fn tap(around: &Surroundings, variables: &[(&str, &str)], more: &[&str]) -> Ran {
    around.write("server.txt", lines_of("server"));
    let mut command = around.command(["tap"].iter().chain(more).chain(&["--", "sh", "-c", SERVER]));
    command.envs(variables.iter().copied());
    fed(command, lines_of("client").as_bytes())
}

fn unchanged(ran: &Ran) {
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert_eq!(ran.stdout, lines_of("server"));
    assert_eq!(ran.stderr, "");
}

#[test]
fn a_recording_replayed_gives_the_spans_of_the_live_session() {
    let around = Surroundings::new();
    unchanged(&tap(&around, &[], &["--record", "taped.jsonl"]));
    around.run(["outbox", "flush"]).must(0, &[]);
    let live = span_ids(&around.files().join("traces.jsonl"));
    around.run(["replay", "--otlp-file", "out", "taped.jsonl"]).must(0, &[]);
    assert_eq!(live, span_ids(&around.path("out/traces.jsonl")));
    let turns = spans(&around.path("out/traces.jsonl"));
    assert_eq!(
        turns.iter().filter(|span| span["name"].as_str().unwrap().starts_with("invoke_agent")).count(),
        7
    );
    let recorded = std::fs::metadata(around.path("taped.jsonl")).unwrap();
    assert_eq!(recorded.permissions().mode() & 0o077, 0, "the recording holds content");
}

#[test]
fn exit_codes_and_commands_that_do_not_exist() {
    let around = Surroundings::new();
    for code in [0, 1, 3, 42, 255] {
        around.run(["tap", "--", "sh", "-c", &format!("exit {code}")]).must(code, &[]);
    }
    around.run(["tap", "--", "sh", "-c", "kill -TERM $$"]).must(128 + 15, &[]);
    around
        .run(["tap", "--", "no-such-command-anywhere"])
        .must(127, &["no-such-command-anywhere", "PATH", "check"]);
    around.run(["tap", "--", "./gone"]).must(127, &["./gone", "no such file"]);
    around.write("plain", "text");
    around.run(["tap", "--", "./plain"]).must(126, &["./plain", "chmod +x"]);
    let unwritable = around.run(["tap", "--record", "no/such/dir/file", "--", "true"]);
    unwritable.must(1, &["no/such/dir/file"]);
}

#[test]
fn an_outbox_that_can_not_be_used_is_told_to_the_log_and_to_nobody_else() {
    let around = Surroundings::new();
    around.write("file", "");
    std::fs::create_dir(around.path("elsewhere")).unwrap();
    symlink(around.path("elsewhere"), around.path("link")).unwrap();
    std::fs::create_dir(around.path("theirs")).unwrap();
    // Without the right to give a directory away, the system's own is somebody else's.
    let given = std::os::unix::fs::chown(around.path("theirs"), Some(12_345), None).is_ok();
    let theirs = if given { around.path("theirs").display().to_string() } else { "/".to_owned() };
    for (number, place) in ["file", "file/below", "link", &theirs, "/proc/nothing"].into_iter().enumerate() {
        let taped = format!("{number}/taped.jsonl");
        std::fs::create_dir(around.path(&number.to_string())).unwrap();
        let log = around.path("log");
        let _ = std::fs::remove_file(&log);
        let variables = [("FACTLINE_OUTBOX_DIR", place), ("FACTLINE_LOG", log.to_str().unwrap())];
        unchanged(&tap(&around, &variables, &[]));
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.contains("outbox") && said.contains(place), "{place}: {said}");
        assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
        unchanged(&tap(&around, &variables[..1], &["--record", &taped]));
        assert_ne!(std::fs::metadata(around.path(&taped)).unwrap().len(), 0);
        let session = around.session();
        let replayed = around.run_with(&variables[..1], ["replay".as_ref(), session.as_os_str()]);
        replayed.must(1, &["outbox", place]);
    }
    assert_eq!(std::fs::read_dir(around.path("elsewhere")).unwrap().count(), 0);
}

#[test]
fn a_mistake_in_the_configuration_is_told_to_the_log() {
    let around = Surroundings::new();
    for (variable, value) in [("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense"), ("FACTLINE_FILTER", "a=b=c")] {
        let log = around.path(variable);
        unchanged(&tap(&around, &[(variable, value), ("FACTLINE_LOG", log.to_str().unwrap())], &[]));
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.contains(variable) && said.contains("for example"), "{said}");
    }
    unchanged(&tap(&around, &[("FACTLINE_LOG", "/no/such/dir/log")], &[]));
}

#[test]
fn status_of_nothing_and_of_what_is_no_outbox() {
    let around = Surroundings::new();
    let nothing = around.run(["outbox", "status"]);
    nothing.must(0, &[]);
    assert!(nothing.stdout.contains("nothing was ever stored here"), "{}", nothing.stdout);
    assert_eq!(around.run(["outbox", "status", "--json"]).json()["lanes"], serde_json::json!([]));
    assert!(!around.outbox().exists(), "looking must not make it");
    around.write("file", "no outbox");
    around.run(["outbox", "status", "--outbox", "file"]).must(1, &["file", "--outbox"]);
    around.run(["outbox", "flush", "--outbox", "file"]).must(1, &["file"]);
    assert_eq!(std::fs::read_to_string(around.path("file")).unwrap(), "no outbox");
}

#[test]
fn an_interrupted_replay_ends_soon_and_keeps_what_it_accepted() {
    for (arguments, place) in
        [(vec!["replay", "--otlp-file", "out", "-"], "out"), (vec!["replay", "-"], "state/factline/otlp")]
    {
        let around = Surroundings::new();
        let mut command = around.command(&arguments);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(SESSION.as_bytes()).unwrap();
        // More than a pipe and a buffer hold: when this is written, the session was read. Half a line at the end
        // shows that it is no mistake of the transcript.
        let blank = vec![b'\n'; 1 << 20];
        stdin.write_all(&blank).unwrap();
        stdin.write_all(b"{\"t_us\":").unwrap();
        let pid = Pid::from_child(&child);
        let (ended, end) = channel();
        std::thread::spawn(move || {
            let status = child.wait().unwrap();
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            let _ = ended.send((status.code(), said));
        });
        kill_process(pid, Signal::INT).unwrap();
        let (code, said) = end.recv_timeout(Duration::from_secs(3)).expect("it still runs");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("interrupted") && !said.contains("could not be read"), "{said}");
        drop(stdin);
        if place != "out" {
            around.run(["outbox", "flush"]).must(0, &[]);
        }
        assert_eq!(spans(&around.path(place).join("traces.jsonl")).len(), 42);
    }
}

/// The events of a session whose threads work in `dir`.
fn analytics(around: &Surroundings, dir: &Path, variables: &[(&str, &str)]) -> Vec<Value> {
    let there = |side: &str| lines_of(side).replace("/tmp/lab/work", dir.to_str().unwrap());
    around.write("there.txt", there("server"));
    let events = around.path("events.jsonl");
    let mut command = around.command(["tap", "--", "sh", "-c", "cat > /dev/null; cat there.txt"]);
    command.env("FACTLINE_ANALYTICS_FILE", &events).envs(variables.iter().copied());
    assert_eq!(fed(command, there("client").as_bytes()).code, Some(0));
    around
        .run_with(&[("FACTLINE_ANALYTICS_FILE", events.to_str().unwrap())], ["outbox", "flush"])
        .must(0, &[]);
    let text = std::fs::read_to_string(events).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_file_system_is_asked_for_hashes_only_where_the_user_allows_it() {
    for (allowed, linked) in [("false", Value::Null), ("true", Value::Bool(true))] {
        let around = Surroundings::new();
        let (main, work) = (around.path("main/.git/worktrees/work"), around.path("work"));
        std::fs::create_dir_all(&main).unwrap();
        std::fs::create_dir_all(&work).unwrap();
        std::fs::write(work.join(".git"), format!("gitdir: {}\n", main.display())).unwrap();
        let events = analytics(&around, &work, &[("FACTLINE_ANALYTICS_READ_FILES", allowed)]);
        let threads = events.iter().filter(|event| event["event_type"] == "codex_thread_initialized");
        let told: Vec<&Value> = threads.map(|event| &event["event_params"]["is_worktree"]).collect();
        assert!(!told.is_empty() && told.iter().any(|it| **it == linked), "{allowed}: {told:?}");
        assert!(linked != Value::Null || told.iter().all(|it| it.is_null()), "{told:?}");
    }
}

#[test]
fn families_of_events_are_switched_on_and_off() {
    let types = |families: &str| {
        let around = Surroundings::new();
        let events = analytics(&around, &around.path("w"), &[("FACTLINE_ANALYTICS_FAMILIES", families)]);
        let of = |event: &Value| event["event_type"].as_str().unwrap().to_owned();
        events.iter().map(of).collect::<std::collections::BTreeSet<_>>()
    };
    let (turns, others) = (types("turn"), types("-turn"));
    assert!(turns.contains("codex_turn_event") && !turns.contains("codex_thread_initialized"), "{turns:?}");
    assert!(others.contains("codex_thread_initialized") && others.is_disjoint(&turns), "{others:?}");
}
