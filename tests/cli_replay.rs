//! `factline replay` on input that is not as it should be: what is wrong is said, what is good is written.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/cli.rs"]
mod cli;

use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, symlink};

use cli::{Ran, SESSION, Surroundings, fed, logs, spans};

/// What the whole session becomes.
const SPANS: usize = 42;

fn replay(around: &Surroundings, transcripts: &[&OsStr]) -> Ran {
    let fixed = ["replay", "--otlp-file", "out"].map(OsStr::new);
    around.run(fixed.iter().chain(transcripts))
}

fn replay_file(around: &Surroundings, content: impl AsRef<[u8]>) -> Ran {
    let path = around.write("odd.jsonl", content);
    replay(around, &[path.as_os_str()])
}

fn span_count(around: &Surroundings) -> usize {
    spans(&around.path("out/traces.jsonl")).len()
}

#[test]
fn the_same_transcript_gives_the_same_bytes() {
    let around = Surroundings::new();
    let session = around.session();
    let mut all = Vec::new();
    for place in ["one", "two"] {
        // Neither the environment nor a link to the process around has a say.
        let variables = [
            ("OTEL_SERVICE_NAME", place),
            ("TRACEPARENT", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"),
        ];
        let arguments = ["replay".as_ref(), "--otlp-file".as_ref(), OsStr::new(place), session.as_os_str()];
        around.run_with(&variables, arguments).must(0, &["373 messages of 1 transcripts"]);
        all.push(
            ["logs.jsonl", "traces.jsonl", "metrics.jsonl"]
                .map(|name| std::fs::read(around.path(place).join(name)).unwrap()),
        );
    }
    let from_input = fed(around.command(["replay", "--otlp-file", "three", "-"]), SESSION.as_bytes());
    from_input.must(0, &[]);
    all.push(
        ["logs.jsonl", "traces.jsonl", "metrics.jsonl"]
            .map(|name| std::fs::read(around.path("three").join(name)).unwrap()),
    );
    assert!(all[0] == all[1] && all[1] == all[2]);
    assert!(all[0].iter().all(|bytes| !bytes.is_empty()));
    assert!(!around.outbox().exists());
}

#[test]
fn what_can_not_be_read_is_named_and_the_rest_is_replayed() {
    let around = Surroundings::new();
    let session = around.session();
    let session = session.as_os_str();
    replay(&around, &[OsStr::new("gone.jsonl"), session])
        .must(1, &["gone.jsonl", "no such file", "check the path"]);
    assert_eq!(span_count(&around), SPANS);

    std::fs::create_dir(around.path("folder")).unwrap();
    replay(&around, &[session, OsStr::new("folder")]).must(1, &["folder", "directory", "transcript.jsonl"]);
    assert_eq!(span_count(&around), SPANS);

    let odd = around.write("odd.jsonl", "no JSON\n");
    let ran = replay(&around, &[odd.as_os_str(), session]);
    ran.must(3, &["odd.jsonl", "1 of its lines could not be read", "line 1", "not a JSON object"]);
    assert_eq!(span_count(&around), SPANS);

    replay(&around, &[]).must(2, &["TRANSCRIPT"]);
}

#[test]
fn an_empty_file_is_an_empty_session() {
    let around = Surroundings::new();
    replay_file(&around, "")
        .must(0, &["0 messages of 1 transcripts: 0 log records, 0 spans and 0 collections"]);
    for file in ["out/logs.jsonl", "out/traces.jsonl"] {
        assert_eq!(std::fs::metadata(around.path(file)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_file_cut_off_in_a_line_gives_what_came_before() {
    let around = Surroundings::new();
    let middle = SESSION.len() / 2;
    let ran = replay_file(&around, &SESSION[..middle]);
    ran.must(3, &["odd.jsonl", "the last line, and cut off"]);
    let spans = spans(&around.path("out/traces.jsonl"));
    assert!(!spans.is_empty());
    // What was open is closed as interrupted, and nothing says that anybody saw its end.
    let unseen = |span: &&serde_json::Value| {
        let text = span.to_string();
        text.contains("end_observed") && text.contains("interrupted")
    };
    assert!(spans.iter().any(|span| unseen(&span)), "{spans:?}");
}

#[test]
fn odd_lines_are_counted_and_passed_over() {
    let around = Surroundings::new();
    let deep = format!(
        r#"{{"t_us":1,"dir":"server","conn":1,"msg":{}1{}}}"#,
        r#"{"a":["#.repeat(100_000),
        "]}".repeat(100_000)
    );
    let odd: [(&[u8], &str); 6] = [
        (b"not JSON at all", "it is not a JSON object"),
        (b"{\"t_us\":1,\"conn\":1,\"dir\":\"server\",\"msg\":{\"method\":\"\xff\xfe\"}}", "it is not UTF-8"),
        (b"[1,2,3]", "it is not a JSON object"),
        (b"{\"t_us\":-1,\"conn\":1,\"dir\":\"server\",\"msg\":{}}", "wrong type"),
        (b"{\"t_us\":1,\"conn\":1,\"dir\":\"nobody\",\"msg\":{}}", "neither client nor server"),
        (deep.as_bytes(), ""),
    ];
    let first_line = SESSION.find('\n').unwrap() + 1;
    for (line, reason) in odd {
        let content =
            [&SESSION.as_bytes()[..first_line], line, b"\n", &SESSION.as_bytes()[first_line..]].concat();
        let ran = replay_file(&around, content);
        if reason.is_empty() {
            ran.must(if ran.code == Some(0) { 0 } else { 3 }, &[]);
        } else {
            ran.must(3, &["1 of its lines", "line 2", reason]);
        }
        assert_eq!(span_count(&around), SPANS, "{reason}");
    }
}

#[test]
fn a_place_that_can_not_be_written_is_named() {
    let around = Surroundings::new();
    let session = around.session();
    around.write("file", "");
    let to = |place: &str| {
        let place = OsStr::new(place);
        around.run(["replay".as_ref(), "--otlp-file".as_ref(), place, session.as_os_str()])
    };
    to("file").must(1, &["cannot write into file", "--otlp-file"]);
    to("file/below").must(1, &["cannot write into file/below", "--otlp-file"]);
    to("/proc/nothing/here").must(1, &["cannot write into /proc/nothing/here"]);
}

#[test]
fn a_full_disk_is_said_and_the_other_signal_is_written() {
    for (full, other) in [("traces", "logs"), ("logs", "traces")] {
        let around = Surroundings::new();
        let session = around.session();
        std::fs::create_dir(around.path("out")).unwrap();
        symlink("/dev/full", around.path(&format!("out/{full}.jsonl"))).unwrap();
        let said = format!("cannot write into out: {full}.jsonl: No space left on device");
        replay(&around, &[session.as_os_str()]).must(1, &[&said, "free some space"]);
        let written = around.path(&format!("out/{other}.jsonl"));
        let expected = if other == "logs" { (49, 0) } else { (0, SPANS) };
        assert_eq!((logs(&written).len(), spans(&written).len()), expected);
    }
}

#[test]
fn json_says_what_came_of_it() {
    let around = Surroundings::new();
    let session = around.session();
    let ran = around.run([
        "replay".as_ref(),
        "--json".as_ref(),
        "--otlp-file".as_ref(),
        "out".as_ref(),
        session.as_os_str(),
    ]);
    let said = ran.json();
    assert_eq!((said["messages"].as_u64(), said["spans"].as_u64()), (Some(373), Some(SPANS as u64)));
    assert_eq!(ran.stderr, "");
}
