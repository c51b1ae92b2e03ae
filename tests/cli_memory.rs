//! Long input takes little memory.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/cli.rs"]
mod cli;

use std::io::{Read, Write};
use std::process::{ChildStdin, Command, Stdio};

use cli::{Ran, SESSION, Surroundings, spans};

/// Feeds it, and returns what came of it with the most memory it ever had resident, in MiB.
fn measured(mut command: Command, feed: impl FnOnce(&mut ChildStdin)) -> (Ran, u64) {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    feed(&mut stdin);
    drop(stdin);
    let mut peak = 0;
    // The mark only rises, and is there until the end of the process.
    let status = loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let mark = mark.and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        peak = peak.max(mark.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::yield_now();
    };
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(peak > 0);
    (Ran { code: status.code(), stdout: String::new(), stderr }, peak / 1024)
}

#[test]
fn a_line_of_200_mb_is_not_held_and_what_is_around_it_is_replayed() {
    let around = Surroundings::new();
    let command = around.command(["replay", "--otlp-file", "out", "-"]);
    let (ran, peak) = measured(command, |stdin| {
        stdin.write_all(SESSION.as_bytes()).unwrap();
        stdin.write_all(br#"{"t_us":1795329105623559,"dir":"server","conn":3,"msg":{"method":""#).unwrap();
        let some = vec![b'x'; 1 << 20];
        for _ in 0..200 {
            stdin.write_all(&some).unwrap();
        }
        stdin.write_all(b"\"}}\n").unwrap();
        stdin.write_all(SESSION.replace("01a201f", "01a301f").as_bytes()).unwrap();
    });
    ran.must(3, &["1 of its lines", "line 378", "too long"]);
    assert_eq!(spans(&around.path("out/traces.jsonl")).len(), 84);
    assert!(peak < 200, "{peak} MiB");
}

#[test]
fn a_transcript_of_100_mb_takes_less_than_200_mb() {
    let around = Surroundings::new();
    let delta = concat!(
        r#"{"t_us":1795329050600864,"dir":"server","conn":1,"msg":{"method":"item/agentMessage/delta","params":{"#,
        r#""threadId":"01a201f3-487a-7e12-881c-1c7ee1739e2b","turnId":"01a201f3-48f9-7982-9930-17e0ecfc93ac","#,
        r#""itemId":"msg_1","delta":"some more words of the answer"},"emittedAtMs":1795329050600}}"#,
        "\n"
    );
    let deltas = delta.repeat((5 << 20) / delta.len());
    let command = around.command(["replay", "--otlp-file", "out", "-"]);
    let (ran, peak) = measured(command, |stdin| {
        for number in 0..20 {
            // Other threads and turns each time, so that whatever is kept for one of them adds up.
            let session = SESSION.replace("01a201f", &format!("01b{number:04}"));
            stdin.write_all(session.as_bytes()).unwrap();
            stdin.write_all(deltas.as_bytes()).unwrap();
        }
    });
    ran.must(0, &["messages of 1 transcripts"]);
    assert_eq!(spans(&around.path("out/traces.jsonl")).len(), 20 * 42);
    assert!(peak < 200, "{peak} MiB");
}
