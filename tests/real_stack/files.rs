//! Every file is a good one by the measure of the program it is for, and none is forgotten.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::parts::{collector_program, otel_config};
use crate::program::run;

/// Each way of putting the collector's files together that their comments name.
const TOGETHER: &[&[&str]] = &[
    &["files.yaml"],
    &["agent.yaml"],
    &["agent.yaml", "agent-to-kafka.yaml"],
    &["agent.yaml", "agent-to-gateways.yaml"],
    &["gateway.yaml"],
    &["gateway.yaml", "gateway-sampling.yaml"],
    &["gateway.yaml", "gateway-from-kafka.yaml"],
    &["gateway.yaml", "gateway-also-jaeger.yaml"],
    &["gateway.yaml", "gateway-from-kafka.yaml", "gateway-also-jaeger.yaml"],
    &["gateway.yaml", "gateway-from-kafka.yaml", "gateway-sampling.yaml"],
];

#[test]
fn the_collector_takes_each_of_its_files_alone_or_over_another() {
    let Some(program) = collector_program() else { return };
    for files in TOGETHER {
        let mut command = Command::new(&program);
        command.arg("validate");
        for file in *files {
            command.arg("--config").arg(otel_config("collector").join(file));
        }
        run(&mut command);
    }
}

#[test]
fn the_collector_refuses_a_key_that_it_does_not_know() {
    let Some(program) = collector_program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.yaml");
    let text = std::fs::read_to_string(otel_config("collector/gateway.yaml")).unwrap();
    std::fs::write(&broken, text.replace("allow_all_keys:", "allow_every_key:")).unwrap();
    let output = Command::new(&program).arg("validate").arg("--config").arg(&broken).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("allow_every_key"), "{said}");
}

#[test]
fn every_file_of_the_collector_is_among_them() {
    let known: BTreeSet<&str> = TOGETHER.iter().flat_map(|files| files.iter().copied()).collect();
    let there: BTreeSet<String> = std::fs::read_dir(otel_config("collector"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        // The manifest of the program itself.
        .filter(|name| name != "builder.yaml")
        .collect();
    assert_eq!(there.iter().map(String::as_str).collect::<BTreeSet<_>>(), known);
}

/// Each file is named where it is tested: in a suite, or in a step of `.ci/`.
#[test]
fn every_file_is_named_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = String::new();
    for folder in
        [root.join("tests"), root.join("tests/real_stack"), root.join(".ci"), root.join(".ci/otel-config")]
    {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                tests += &std::fs::read_to_string(path).unwrap_or_default();
            }
        }
    }
    let mut folders = vec![otel_config("")];
    let mut forgotten = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !tests.contains(&*path.file_name().unwrap().to_string_lossy()) {
                forgotten.push(path);
            }
        }
    }
    assert!(forgotten.is_empty(), "no test names {forgotten:?}");
}
