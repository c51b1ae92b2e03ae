//! The real codex behind the tap: it notices nothing, and the facts are those of the recording of the same
//! session.
//!
//! FACTLINE_CODEX=$(.ci/parts codex) FACTLINE_PYTHON_CLIENT=$(.ci/parts python_client) \
//!   cargo test --test real_codex -- --nocapture
//!
//! Needs root, `unshare`, `ip`, git and python3: codex and its mock back ends run in a network namespace with
//! loopback only (tests/codexlab/drive.py). The driver records what it says and hears, on the client's side
//! of the tap.
#![cfg(feature = "cli")]
// The exemption of tests does not reach their own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/program.rs"]
mod program;
#[path = "support/received.rs"]
mod received;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lab::{drive, play_all, root};
use program::{factline, named_by, run};
use received::{Received, assert_same, difference, facts};
use serde_json::Value;

/// Longest first, so that the two that run at a time end together.
const SCENARIOS: [&str; 9] = [
    "04-commands",
    "15-review",
    "18-websocket",
    "10-subagents",
    "07-steer",
    "32-unix-socket",
    "02-resume",
    "08-interrupt",
    "01-hello",
];

/// Of these, all connections go through one tap to one codex that listens.
const ON_SOCKETS: [&str; 2] = ["18-websocket", "32-unix-socket"];

/// Plays a scenario with the tap in front of codex. Below `dir` are then the driver's recording and the tap's
/// files.
fn play(codex: &Path, scenario: &str, dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let quoted = |path: &Path| format!("'{}'", path.display());
    // The driver gives codex an environment of its own, so what the tap needs is said on its command line.
    let via = format!(
        "env FACTLINE_OUTBOX_DIR={} FACTLINE_FILES_DIR={} FACTLINE_LOG={} {} tap",
        quoted(&dir.join("outbox")),
        quoted(&dir.join("files")),
        quoted(&dir.join("tap.log")),
        quoted(Path::new(env!("CARGO_BIN_EXE_factline")))
    );
    let output = run(drive(codex, scenario, dir, &format!("{via} --"))
        .env("CODEX_VIA_SOCKET", format!("{via} --listen {{listen}} --connect {{connect}}")));
    println!("{}", String::from_utf8_lossy(&output.stdout).trim_end());
    let log = std::fs::read_to_string(dir.join("tap.log")).unwrap_or_default();
    // On sockets the tap says where it listens, and that clients asked before codex listened.
    let usual =
        |line: &str| ["listening on", "no server at", "is there again"].iter().any(|it| line.contains(it));
    let unusual = |line: &&str| !(ON_SOCKETS.contains(&scenario) && usual(line));
    assert_eq!(log.lines().find(unusual), None, "{scenario}");
    // What a tap that was stopped at once could not deliver any more.
    run(factline(dir).args(["outbox", "flush"]));
}

fn messages(transcript: &Path) -> impl Iterator<Item = Value> {
    let text = std::fs::read_to_string(transcript).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.into_iter().filter(|line| line["msg"].is_object())
}

/// The recording of each connection for itself: each was another codex behind another tap, which knew nothing
/// of the turns before. Beside the whole, where the raw files are.
fn connections(transcript: &Path) -> Vec<PathBuf> {
    let mut parts: BTreeMap<u64, String> = BTreeMap::new();
    for line in std::fs::read_to_string(transcript).unwrap().lines() {
        let number = serde_json::from_str::<Value>(line).unwrap()["conn"].as_u64().unwrap();
        *parts.entry(number).or_default() += &format!("{line}\n");
    }
    let write = |(number, text): (u64, String)| {
        let path = transcript.with_file_name(format!("connection-{number}.jsonl"));
        std::fs::write(&path, text).unwrap();
        path
    };
    parts.into_iter().map(write).collect()
}

/// What codex said, as methods and outcomes.
fn replies(transcript: &Path) -> Vec<String> {
    // These come as often as time allows.
    let timely = |method: &str| {
        ["/delta", "Delta"].iter().any(|end| method.ends_with(end)) || method == "account/rateLimits/updated"
    };
    messages(transcript)
        .filter(|line| line["dir"] == "server")
        .map(|line| match (line["msg"]["method"].as_str(), &line["msg"]["error"]) {
            (Some(method), _) => method.to_owned(),
            (None, Value::Null) => "result".to_owned(),
            (None, error) => format!("error {}", error["code"]),
        })
        .filter(|said| !timely(said))
        .collect()
}

/// The facts are those of the recording. Answers how what codex said differs from the direct recording in the
/// corpus.
fn check(scenario: &str, dir: &Path) -> Result<(usize, usize), String> {
    let recorded = dir.join(scenario).join("transcript.jsonl");
    let mut expected = Received::default();
    let together = ON_SOCKETS.contains(&scenario);
    for connection in if together { vec![recorded.clone()] } else { connections(&recorded) } {
        let files = connection.with_extension("otlp");
        run(factline(dir).args(["replay", "--otlp-file"]).arg(&files).arg(&connection));
        expected.add(Received::from_files(&files));
    }
    let got = Received::from_files(&dir.join("files"));
    let what = format!("{scenario}: facts, left of the recording, right of the tap");
    assert_same(&what, &facts(&expected), &facts(&got));
    let direct = root().join("tests/corpus").join(scenario).join("transcript.jsonl");
    match difference(&replies(&direct), &replies(&recorded)) {
        None => Ok(got.counts()),
        Some(difference) => {
            Err(format!("what codex says, left directly, right behind the tap: {difference}"))
        }
    }
}

fn play_and_check(codex: &Path, scenario: &str, dir: &Path) -> Result<(), String> {
    play(codex, scenario, dir);
    let (logs, spans) = check(scenario, dir)?;
    println!("{scenario}: the same, in {logs} log records and {spans} spans");
    Ok(())
}

#[test]
fn codex_behind_the_tap_is_codex_and_the_facts_are_those_of_the_recording() {
    let Some(codex) = lab::codex("FACTLINE_CODEX") else { return };
    let dir = tempfile::tempdir().unwrap();
    // Codex polls what it runs: where the machine does much else, a command lasts for more polls than it did in
    // the corpus. That is no difference that a tap makes if alone, it goes as recorded.
    play_all(&SCENARIOS, |scenario, folder| play_and_check(&codex, scenario, &dir.path().join(folder)));
}

/// As docs/operators.md says to put the tap there.
#[test]
fn a_client_that_takes_its_command_from_a_setting_notices_nothing() {
    let Some(codex) = lab::codex("FACTLINE_CODEX") else { return };
    let python = "a python with codex-python-sdk (`.ci/parts python_client` makes one)";
    let Some(python) = named_by("FACTLINE_PYTHON_CLIENT", python) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut client = std::process::Command::new(python);
    client
        .arg(root().join("tests/codexlab/client.py"))
        .arg(dir.path().join("out"))
        .arg(env!("CARGO_BIN_EXE_factline"))
        .env("CODEX_BIN", &codex)
        .env("LAB_DIR", dir.path().join("lab"))
        .env("FACTLINE_OUTBOX_DIR", dir.path().join("outbox"))
        .env("FACTLINE_FILES_DIR", dir.path().join("files"))
        .env("FACTLINE_LOG", dir.path().join("tap.log"));
    let said: Value = serde_json::from_slice(&run(&mut client).stdout).unwrap();
    assert_eq!(said["direct"]["texts"], serde_json::json!(["There is a README.", "Nothing more."]));
    for way in ["command", "script"] {
        assert_eq!(said[way], said["direct"], "{way}");
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("tap.log")).unwrap_or_default(), "");
    run(factline(dir.path()).args(["outbox", "flush"]));
    let got = Received::from_files(&dir.path().join("files"));
    let count = |name: &str| got.spans.iter().filter(|span| span.record.name.starts_with(name)).count();
    assert_eq!((count("invoke_agent"), count("execute_tool")), (4, 2), "two turns and a command, twice");
}
