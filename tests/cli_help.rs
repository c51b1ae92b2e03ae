//! What the program says about itself.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/cli.rs"]
mod cli;

use cli::Surroundings;

#[test]
fn every_command_has_help_with_an_example() {
    let around = Surroundings::new();
    let commands: [&[&str]; 11] = [
        &[],
        &["demo"],
        &["tap"],
        &["replay"],
        &["report"],
        &["outbox"],
        &["outbox", "status"],
        &["outbox", "flush"],
        &["completions"],
        &["doctor"],
        &["man"],
    ];
    for command in commands {
        let ran = around.run(command.iter().chain(&["--help"]));
        ran.must(0, &[]);
        let example = format!("\n  factline {}", command.join(" "));
        assert!(
            ran.stdout.contains("Examples:") && ran.stdout.contains(&example),
            "{command:?}: {}",
            ran.stdout
        );
        assert_eq!(ran.stderr, "");
        let longest = ran.stdout.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(longest.chars().count() <= 120, "{longest}");
    }
    let all = around.run(["--help"]).stdout;
    for command in ["demo", "tap", "replay", "outbox", "completions", "doctor", "man"] {
        assert!(all.contains(&format!("\n  {command} ")), "{command} is not listed: {all}");
    }
    assert!(all.contains("Exit codes"));
}

#[test]
fn wrong_usage_says_what_is_right() {
    let around = Surroundings::new();
    around.run([] as [&str; 0]).must(2, &["Usage"]);
    around.run(["nonsense"]).must(2, &["nonsense", "Usage"]);
    around.run(["tap"]).must(2, &["COMMAND"]);
    around.run(["replay", "--nonsense", "x"]).must(2, &["--nonsense"]);
    around
        .run(["replay", "--filter", "=,=", "--otlp-file", "out", "x"])
        .must(1, &["--filter", "for example"]);
    around.run_with(&[("FACTLINE_FILTER", "a=b=c")], ["demo"]).must(1, &["FACTLINE_FILTER", "for example"]);
    let version = around.run(["--version"]);
    assert_eq!(
        (version.code, version.stdout.trim()),
        (Some(0), concat!("factline ", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn completions_know_the_commands() {
    let around = Surroundings::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = around.run(["completions", shell]);
        ran.must(0, &[]);
        for word in ["replay", "outbox", "otlp-file", "demo"] {
            assert!(ran.stdout.contains(word), "{shell}: {word}");
        }
    }
    around.run(["completions", "nonsense"]).must(2, &["bash", "zsh", "fish"]);
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let around = Surroundings::new();
    around.run(["man", "pages"]).must(0, &[]);
    for (page, said) in [
        ("factline.1", "factline doctor"),
        ("factline-tap.1", "FACTLINE_LOG"),
        ("factline-outbox-flush.1", "timeout"),
    ] {
        let text = std::fs::read_to_string(around.path("pages").join(page)).unwrap();
        // Hyphens and line breaks are escaped in them.
        assert!(text.starts_with(".ie") && text.replace('\\', "").contains(said), "{page}: {text}");
    }
    around.write("file", "");
    around.run(["man", "file"]).must(1, &["cannot write into file"]);
}

#[test]
fn no_escape_codes_where_there_is_no_terminal() {
    let around = Surroundings::new();
    around.write("bad.jsonl", "bad\n");
    for variables in
        [vec![], vec![("NO_COLOR", "1")], vec![("TERM", "dumb")], vec![("TERM", "xterm-256color")]]
    {
        for arguments in [
            vec!["demo"],
            vec!["--help"],
            vec!["outbox", "status"],
            vec!["doctor", "--offline"],
            vec!["nonsense"],
            vec!["replay", "bad.jsonl", "gone"],
        ] {
            let ran = around.run_with(&variables, &arguments);
            assert!(
                !ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'),
                "{arguments:?} {ran:?}"
            );
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let around = Surroundings::new();
    for arguments in [
        vec!["demo"],
        vec!["demo", "--json"],
        vec!["completions", "bash"],
        vec!["outbox", "status"],
        vec!["doctor", "--offline"],
    ] {
        let mut command = around.command(&arguments);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ran = cli::ran(command.stdout(writer).output().unwrap());
        assert!(!ran.stderr.contains("a fault in factline") && ran.code.is_some(), "{arguments:?} {ran:?}");
    }
}
