//! `factline report` agrees with the token rule on every recorded session, and counts everything once.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

#[path = "support/cli.rs"]
mod cli;
#[path = "support/raw.rs"]
mod raw;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cli::Surroundings;
use raw::Tokens;
use serde_json::Value;

fn sessions() -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let entries =
        std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path().join("transcript.jsonl"));
    let mut all: Vec<PathBuf> = entries.filter(|path| path.exists()).collect();
    all.sort();
    assert!(all.len() >= 27, "recorded sessions are missing");
    all
}

fn tokens(line: &Value) -> Tokens {
    let number = |key: &str| line[key].as_u64().unwrap();
    Tokens {
        input: number("input_tokens"),
        cached: number("cached_input_tokens"),
        cache_write: number("cache_write_input_tokens"),
        output: number("output_tokens"),
        reasoning: number("reasoning_output_tokens"),
    }
}

fn lines(report: &Value) -> BTreeMap<String, Value> {
    let by = report["by"].as_str().unwrap();
    let lines = report["lines"].as_array().unwrap();
    lines.iter().map(|line| (line[by].as_str().unwrap().to_owned(), line.clone())).collect()
}

#[test]
fn every_recorded_session_is_reported_by_the_token_rule() {
    let around = Surroundings::new();
    for path in sessions() {
        let said = raw::Session::read(&path);
        let ran = around.run(["report", "--json", "--by", "thread", path.to_str().unwrap()]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let report = ran.json();
        let name = path.display();
        assert_eq!(tokens(&report["total"]), said.tokens(), "{name}");
        assert_eq!(report["total"]["turns"], said.turns.len(), "{name}");
        let mut threads: BTreeMap<&str, (u64, Tokens)> = BTreeMap::new();
        for turn in said.turns.values() {
            let (turns, tokens) = threads.entry(&turn.thread).or_default();
            *turns += 1;
            tokens.add(turn.tokens);
        }
        let lines = lines(&report);
        assert_eq!(lines.len(), threads.len(), "{name}");
        for (thread, (turns, used)) in threads {
            assert_eq!(tokens(&lines[thread]), used, "{name}: {thread}");
            assert_eq!(lines[thread]["turns"], turns, "{name}: {thread}");
        }
    }
}

#[test]
fn files_that_were_written_say_the_same_as_the_sessions_and_nothing_counts_twice() {
    let around = Surroundings::new();
    let all = sessions();
    let paths: Vec<&str> = all.iter().map(|path| path.to_str().unwrap()).collect();
    around.run(["replay", "--otlp-file", "out"].iter().chain(&paths));
    for by in ["day", "model", "thread"] {
        let report = |paths: &[&str]| around.run(["report", "--json", "--by", by].iter().chain(paths)).json();
        let (files, transcripts) = (report(&["out"]), report(&paths));
        assert_eq!(files, transcripts, "by {by}");
        assert_eq!(report(&["out", "out/traces.jsonl", paths[0]]), files, "by {by}: the same turns again");
    }
    let days = around.run(["report", "--json", "out"]).json();
    assert!(lines(&days).keys().all(|day| day.starts_with("2026-11-")), "{days}");
}

#[test]
fn without_a_path_it_reads_what_factline_wrote_and_knows_each_client() {
    let around = Surroundings::new();
    let session = around.session();
    around.run(["replay", session.to_str().unwrap()]).must(0, &[]);
    let written = around.run(["report", "--json", "--by", "client"]).json();
    let recorded = around.run(["report", "--json", "--by", "client", session.to_str().unwrap()]).json();
    assert_eq!(written, recorded);
    assert!(!lines(&written).contains_key("unknown"), "{written}");
    let table = around.run(["report"]).stdout;
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].starts_with("day ") && rows.last().unwrap().starts_with("total"), "{table}");
    let width = rows[0].chars().count();
    assert!(rows.iter().all(|row| row.chars().count() == width), "{table}");
    let total = written["total"]["total_tokens"].as_u64().unwrap().to_string();
    assert_eq!(rows.last().unwrap().split_whitespace().last().unwrap().replace(',', ""), total);
}

#[test]
fn bad_input_is_said_and_the_rest_is_counted() {
    let around = Surroundings::new();
    let session = std::fs::read_to_string(around.session()).unwrap();
    let good = around.run(["report", "--json", "session.jsonl"]).json();
    let bad = around.write("bad.jsonl", format!("no line of a transcript\n{session}"));
    let ran = around.run(["report", "--json", bad.to_str().unwrap()]);
    ran.must(3, &["bad.jsonl", "line 1"]);
    assert_eq!(ran.json()["total"], good["total"]);

    around.run(["replay", "--otlp-file", "out", "session.jsonl"]).must(0, &[]);
    let traces = std::fs::read_to_string(around.path("out/traces.jsonl")).unwrap();
    around.write("out/traces.jsonl", format!("{traces}{{\"half\": \n{{\"resourceSpans\":[{{\"cut\":"));
    let ran = around.run(["report", "--json", "out"]);
    ran.must(3, &["traces.jsonl", "1 of its lines"]);
    assert_eq!(ran.json()["total"], good["total"]);

    around.run(["report", "gone.jsonl"]).must(1, &["gone.jsonl"]);
    std::fs::create_dir(around.path("empty")).unwrap();
    around.run(["report", "empty"]).must(1, &["empty", "no traces"]);
    around.run(["report"]).must(1, &["name a recorded session"]);
    around.run(["report", "--by", "nonsense"]).must(2, &["day", "model", "thread", "client"]);
}
