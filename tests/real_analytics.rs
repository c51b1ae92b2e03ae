//! The events that the real codex sends are those that the tap derives from its stream at the same time.
//!
//! FACTLINE_CODEX=$(.ci/parts codex) cargo test --test real_analytics -- --nocapture
//!
//! Codex's own client and the tap each have a reference backend of their own (`factline backend serve`), and what
//! the two keep is compared by the marks of `tests/analytics/marks.txt`. FACTLINE_CODEX_0_166 and
//! FACTLINE_CODEX_0_162 name older releases. Needs what tests/real_codex.rs needs.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/events.rs"]
mod events;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use events::{Compared, Tree};
use program::{factline, run};

/// Longest first, so that the two that run at a time end together.
const SCENARIOS: [&str; 23] = [
    "04-commands",
    "40-overrides",
    "09-errors",
    "22-hooks",
    "15-review",
    "10-subagents",
    "21-goals",
    "47-approval-answers",
    "52-failures-midway",
    "54-queue",
    "05-file-change",
    "06-mcp",
    "07-steer",
    "24-thread-admin",
    "57-prompt-hooks",
    "63-twin-skills",
    "66-plugins-switched",
    "68-links",
    "03-fork",
    "02-resume",
    "11-skills",
    "08-interrupt",
    "01-hello",
];

/// Those that show most of what may differ between releases.
const OLDER: [&str; 7] =
    ["04-commands", "09-errors", "10-subagents", "05-file-change", "07-steer", "02-resume", "01-hello"];

/// Plays it with both backends, and compares what they kept.
fn play(codex: &Path, scenario: &str, dir: &Path, strict: bool) -> Compared {
    std::fs::create_dir_all(dir).unwrap();
    let program = env!("CARGO_BIN_EXE_factline");
    let set = |name: &str, value: &str| format!("{name}='{value}' ");
    let path = |name: &str| dir.join(name).display().to_string();
    let environment = set("FACTLINE_OUTBOX_DIR", &path("outbox"))
        + &set("FACTLINE_FILES_DIR", &path("files"))
        + &set("FACTLINE_LOG", &path("tap.log"))
        + &set("FACTLINE_ANALYTICS_URL", "http://127.0.0.1:8322");
    let mut driver = lab::drive(codex, scenario, dir, &format!("env {environment} '{program}' tap --"));
    driver
        .env("LAB_BACKEND", program)
        .env("LAB_AFTER", format!("env {environment} '{program}' outbox flush --timeout 30"));
    if strict {
        driver.env("LAB_STRICT", "1");
    }
    run(&mut driver);
    let log = std::fs::read_to_string(dir.join("tap.log")).unwrap_or_default();
    assert!(log.is_empty(), "{scenario}: {log}");
    for line in std::fs::read_to_string(dir.join(scenario).join("analytics.jsonl")).unwrap().lines() {
        let post: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(post["reference"]["rejected"], serde_json::json!([]), "{scenario}: codex sends {line}");
    }
    let kept = |name: &str| kept(dir, &dir.join(scenario).join(name));
    events::compare(&kept("codex.db"), kept("tap.db"))
}

/// What a backend kept, each event as often as it came if nothing tells its occurrences apart.
fn kept(dir: &Path, db: &Path) -> Vec<Tree> {
    let ask = |statement: &str| {
        let output = run(factline(dir).args(["backend", "query", "--json", "--db"]).arg(db).arg(statement));
        serde_json::from_slice::<Vec<BTreeMap<String, serde_json::Value>>>(&output.stdout).unwrap()
    };
    assert!(ask("SELECT reason FROM rejected").is_empty(), "{}", db.display());
    let rows = ask("SELECT event, event_type, duplicates FROM events ORDER BY id");
    let times = |row: &BTreeMap<String, serde_json::Value>| match row["event_type"].as_str() {
        Some("codex_hook_run") => 1 + row["duplicates"].as_u64().unwrap() as usize,
        _ => 1,
    };
    let event = |row: &BTreeMap<String, serde_json::Value>| -> Tree {
        match &row["event"] {
            serde_json::Value::String(text) => serde_json::from_str(text).unwrap(),
            other => serde_json::from_str(&other.to_string()).unwrap(),
        }
    };
    rows.iter().flat_map(|row| vec![event(row); times(row)]).collect()
}

fn compare_live(codex: &Path, scenarios: &[&'static str], strict: bool) -> Compared {
    let dir = tempfile::tempdir().unwrap();
    let all = Mutex::new(Compared::default());
    lab::play_all(scenarios, |scenario, folder| {
        let compared = play(codex, scenario, &dir.path().join(folder), strict);
        println!(
            "{scenario}: {} events, {} missing {:?}, {} never sent {:?}, {:.2} % overall, wrong {:?}",
            compared.pairs.len(),
            compared.missing.len(),
            compared.missing.iter().map(Tree::kind).collect::<Vec<_>>(),
            compared.spurious.len(),
            compared.spurious.iter().map(Tree::kind).collect::<Vec<_>>(),
            compared.overall(),
            compared.wrong,
        );
        if compared.overall() < 90.0 {
            return Err(format!("{:.2} % overall", compared.overall()));
        }
        all.lock().unwrap().add(compared);
        Ok(())
    });
    all.into_inner().unwrap()
}

#[test]
fn codex_sends_what_the_tap_derives_from_its_stream() {
    let Some(codex) = lab::codex("FACTLINE_CODEX") else { return };
    let all = compare_live(&codex, &SCENARIOS, true);
    println!("all: {} events, {:.3} % overall", all.pairs.len(), all.overall());
    assert!(all.pairs.len() > 200 && all.overall() >= 99.5);
}

#[test]
fn what_an_older_release_lacks_or_adds_breaks_nothing() {
    for variable in ["FACTLINE_CODEX_0_166", "FACTLINE_CODEX_0_162"] {
        let Some(codex) = lab::codex(variable) else { continue };
        let all = compare_live(&codex, &OLDER, false);
        println!("{variable}: {} events, {:.3} % overall", all.pairs.len(), all.overall());
        assert!(all.pairs.len() > 60 && all.overall() >= 98.5, "{variable}");
    }
}
