//! Who may know whom: read from the `use` lines, as ARCHITECTURE.md says it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A module, and the modules of ours that it may name.
const ALLOWED: &[(&str, &[&str])] = &[
    ("fact", &[]),
    ("protocol", &["fact"]),
    ("host", &["fact", "protocol"]),
    ("tap", &["protocol"]),
    ("transcript", &["protocol", "tap"]),
    ("replay", &["fact", "protocol", "tap", "transcript"]),
    ("outbox", &[]),
    ("otel", &["fact", "outbox"]),
    ("metrics", &["fact", "otel", "outbox"]),
    ("analytics", &["fact", "outbox"]),
    ("backend", &[]),
    ("config", &[]),
    ("deliver", &["config", "outbox"]),
    ("jsonl", &["config", "deliver", "otel"]),
    ("telemetry", &["config", "deliver", "fact", "otel", "outbox", "analytics", "metrics"]),
];

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a file names with `crate::`, in code (not in documentation).
fn named(source: &str) -> BTreeSet<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found = BTreeSet::new();
    for line in code {
        for part in line.split("crate::").skip(1) {
            let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            found.insert(name);
        }
    }
    found
}

#[test]
fn every_module_names_only_those_it_may_know() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut modules = BTreeSet::new();
    for path in all {
        let inside = path.strip_prefix(&src).unwrap();
        let first = inside.iter().next().unwrap().to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        // The program itself, its commands and the crate's root may know everything.
        if ["lib", "main", "cli"].contains(&module.as_str()) {
            continue;
        }
        modules.insert(module.clone());
        let allowed = ALLOWED.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
        let allowed = allowed
            .unwrap_or_else(|| panic!("{module} is not in the table of this test and ARCHITECTURE.md"));
        for other in named(&std::fs::read_to_string(&path).unwrap()) {
            let own = other == module || other.is_empty();
            assert!(own || allowed.contains(&other.as_str()), "{} names crate::{other}", inside.display());
        }
    }
    assert!(modules.len() >= 10, "the sources were not found");
}

#[test]
fn unsafe_code_is_only_in_the_rings_module() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    for path in all {
        let source = std::fs::read_to_string(&path).unwrap();
        let has = source.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("unsafe "));
        assert!(!has || path.ends_with("outbox/ring/mapped.rs"), "{} has unsafe code", path.display());
    }
}
