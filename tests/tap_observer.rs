//! The observation costs the relay nothing, and loses nothing without counting it.
#![cfg(feature = "tap")]
// The exemption of tests does not reach their own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/tap_process.rs"]
mod tap_process;

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use factline::protocol::{Sender, Transport};
use factline::tap::{Line, Recorder};
use factline::transcript::{Transcript, What};
use tap_process::{Setup, sh, start, start_in, until};

fn with(observer: &'static str) -> Setup {
    Setup { observer, ..Setup::default() }
}

#[test]
fn an_observer_that_blocks_forever_costs_nothing_but_the_observation() {
    let mut running = start(&with("block"), &sh("cat"));
    for _ in 0..100 {
        running.write(b"echo\n");
        assert_eq!(running.read_line(), "echo");
    }
    let left = Instant::now();
    let ended = running.finish();
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    assert_eq!(ended.code, Some(0));
    assert!(ended.exit.contains("Busy") && ended.exit.contains("unobserved_bytes: 1000"), "{}", ended.exit);
}

#[test]
fn an_observer_that_panics_costs_nothing_but_the_observation() {
    let mut running = start(&with("panic"), &sh("cat; exit 3"));
    for _ in 0..100 {
        running.write(b"echo\n");
        assert_eq!(running.read_line(), "echo");
    }
    let ended = running.finish();
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.exit.contains("Panicked") && ended.exit.contains("unobserved_bytes: 1000"),
        "{}",
        ended.exit
    );
}

#[test]
fn what_a_slow_observer_misses_is_counted_and_relayed() {
    const LINES: usize = 20_000;
    let setup = Setup { observer: "gate", backlog: 100_000, ..Setup::default() };
    let mut running =
        start(&setup, &sh("mkfifo \"$OUT/gate\"; echo first; read x; seq 20000; read x; echo last; read x"));
    assert_eq!(running.read_line(), "first");
    // It is busy with the first line now, until the gate opens.
    until(|| running.path("at the gate").exists());
    running.write(b"go\n");
    let all: String = (1..=LINES).map(|n| format!("{n}\n")).collect();
    let mut relayed = vec![0; all.len()];
    running.stdout.as_mut().unwrap().read_exact(&mut relayed).unwrap();
    assert!(relayed == all.as_bytes());
    std::fs::OpenOptions::new().write(true).open(running.path("gate")).unwrap();
    running.write(b"go\n");
    assert_eq!(running.read_line(), "last");
    let ended = running.finish();

    let server: Vec<Vec<&str>> = ended
        .log
        .iter()
        .filter_map(|line| line.strip_prefix("server "))
        .map(|line| line.split(' ').collect())
        .collect();
    let missed: u64 =
        server.iter().filter(|line| line[0] == "missed").map(|line| line[2].parse::<u64>().unwrap()).sum();
    let seen: u64 =
        server.iter().filter(|line| line[0] != "missed").map(|line| line[1].parse::<u64>().unwrap()).sum();
    assert!(missed > 0);
    assert_eq!(missed + seen, (all.len() + "first\nlast\n".len()) as u64);
    assert!(ended.exit.contains(&format!("unobserved_bytes: {missed}")), "{}", ended.exit);
    // What it saw are whole lines at their places.
    for line in server.iter().filter(|line| line[0] != "missed") {
        let off = line[0].parse::<usize>().unwrap();
        let whole = format!("first\n{all}last\n");
        assert_eq!(whole[off..].lines().next().unwrap(), line[3]);
    }
}

#[test]
fn a_line_of_200_mb_passes_and_is_not_held() {
    const LEN: u64 = 200_000_000;
    let setup = Setup { line_limit: 100_000, backlog: 8 * 1024 * 1024, ..Setup::default() };
    let mut running = start(&setup, &sh("head -c 200000000 /dev/zero; echo; read x; echo after; read x"));
    let mut left = LEN + 1;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = running.stdout.as_mut().unwrap().read(&mut buffer[..want]).unwrap();
        assert!(read > 0);
        left -= read as u64;
    }
    running.write(b"go\n");
    assert_eq!(running.read_line(), "after");
    let ended = running.finish();
    // With less than two cores the observer may fall behind; then the line is missed, but never held.
    let whole = format!("server 0 {} oversized {LEN}", LEN + 1);
    assert!(
        ended.log.contains(&whole) || ended.log.iter().any(|line| line.contains("missed")),
        "{:?}",
        ended.log
    );
    assert!(ended.log.iter().any(|line| line.ends_with("whole after")), "{:?}", ended.log);
    let peak = ended
        .exit
        .split("VmHWM:")
        .nth(1)
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .unwrap();
    assert!(peak < 40_000, "{peak} kB");
}

/// The messages of a transcript, each direction for itself: the order between them is the clock's.
fn messages(path: &Path) -> Vec<(Sender, u64, u64, Vec<u8>)> {
    let mut transcript = Transcript::open(path).unwrap();
    let mut all = Vec::new();
    while let Some(entry) = transcript.next_entry().unwrap() {
        match entry.what {
            What::Message { dir, off: Some(off), len: Some(len), line: Some(Line::Whole(text)) } => {
                all.push((dir, off, len, text.to_vec()));
            }
            What::Open { .. } | What::End { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    all
}

#[test]
fn a_recording_reads_back_as_what_was_said() {
    for session in ["01-hello", "19-malformed", "07-steer", "16-concurrent"] {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(session);
        let raw = |name: &str| std::fs::read(corpus.join(name)).unwrap();
        let (client, server) = (raw("client.raw"), raw("server.raw"));
        let script = format!("cat '{}' & cat > /dev/null; wait", corpus.join("server.raw").display());
        let mut running = start(&with("record"), &sh(&script));
        running.write(&client);
        let mut relayed = vec![0; server.len()];
        running.stdout.as_mut().unwrap().read_exact(&mut relayed).unwrap();
        // Only then may the end come, or its short grace would decide what is recorded.
        let transcript = running.path("rec/transcript.jsonl");
        let newlines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        let lines = newlines(&client) + newlines(&server);
        until(|| newlines(&std::fs::read(&transcript).unwrap()) > lines);
        let ended = running.finish();
        assert!(ended.exit.contains("Finished"), "{}", ended.exit);

        assert!(std::fs::read(running.path("rec/client.raw")).unwrap() == client);
        assert!(std::fs::read(running.path("rec/server.raw")).unwrap() == server);
        let all = messages(&transcript);
        for (dir, stream) in [(Sender::Client, &client), (Sender::Server, &server)] {
            let mut position = 0;
            let mut said = all.iter().filter(|message| message.0 == dir);
            for line in stream.split_inclusive(|byte| *byte == b'\n') {
                let (_, off, len, text) = said.next().unwrap();
                assert_eq!((*off, *len), (position, line.len() as u64));
                assert!(text.trim_ascii() == line.trim_ascii(), "{session} {position}");
                position += len;
            }
            assert!(said.next().is_none());
        }
    }
}

#[test]
fn a_full_disk_ends_the_recording_at_a_whole_line_and_nothing_else() {
    let mut limited = Command::new("sh");
    // Half-kilobyte blocks; ignoring the signal makes the limit an error, like that of a full disk.
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap());
    let mut running = start_in(limited, &with("record"), &sh("cat; exit 7"));
    let line = format!("{{\"method\":\"{}\"}}\n", "x".repeat(1000));
    for _ in 0..200 {
        running.write(line.as_bytes());
        assert_eq!(running.read_line() + "\n", line);
    }
    let ended = running.finish();
    assert_eq!(ended.code, Some(7));
    assert!(ended.log.concat().contains("too large"), "{:?}", ended.log);
    let recorded = messages(&running.path("rec/transcript.jsonl"));
    assert!(recorded.len() > 10 && recorded.len() < 400, "{}", recorded.len());
    assert!(recorded.iter().all(|message| message.3 == line.trim_end().as_bytes()));
}

#[test]
fn a_recording_overwrites_nothing_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("transcript.jsonl");
    drop(Recorder::create(&path).unwrap());
    for name in ["transcript.jsonl", "client.raw", "server.raw"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let error = Recorder::create(&path).unwrap_err().to_string();
    assert!(error.contains("overwrites nothing"), "{error}");
    // Another name in the same directory meets the raw files, and leaves nothing behind.
    let other = dir.path().join("other.jsonl");
    let error = Recorder::create(&other).unwrap_err().to_string();
    assert!(error.contains(".raw"), "{error}");
    assert!(!other.exists());
    let error = Recorder::create(Path::new("/no/such/dir/t.jsonl")).unwrap_err().to_string();
    assert!(error.contains("does not exist"), "{error}");
}

#[test]
fn connections_of_one_recording() {
    use factline::protocol::Ended;
    use factline::tap::{Observer, Seen};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("transcript.jsonl");
    let mut recorder = Recorder::create(&path).unwrap();
    let say = |recorder: &mut Recorder, conn, text: &str| {
        let len = text.len() as u64;
        recorder.bytes(conn, Sender::Client, 0, text.as_bytes());
        let line = Line::Whole(text.trim_end().as_bytes());
        recorder.line(Seen { conn, dir: Sender::Client, t_us: 7, off: 0, len, line });
    };
    recorder.open(1, Transport::Unix, 5);
    recorder.open(2, Transport::WebSocket, 6);
    say(&mut recorder, 2, "not json\n");
    say(&mut recorder, 1, "{\"id\":\r1}\n");
    recorder.end(2, 8, Ended::ClientClosed);
    recorder.end(1, 9, Ended::ServerExited);
    assert_eq!(recorder.recording().error(), None);
    let texts: Vec<_> = messages(&path).into_iter().map(|message| message.3).collect();
    assert_eq!(texts, [b"not json".to_vec(), b"{\"id\": 1}".to_vec()]);
    assert_eq!(std::fs::read(dir.path().join("client.2.raw")).unwrap(), b"not json\n");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..2],
        [r#"{"t_us":5,"conn":1,"open":"unix"}"#, r#"{"t_us":6,"conn":2,"open":"websocket"}"#]
    );
    assert_eq!(
        lines[4..],
        [r#"{"t_us":8,"conn":2,"end":"client_closed"}"#, r#"{"t_us":9,"conn":1,"end":"server_exited"}"#]
    );
    // What a second connection left would be met by the next recording's.
    std::fs::remove_file(&path).unwrap();
    let error = Recorder::create(&path).unwrap_err().to_string();
    assert!(error.contains(".raw") && error.contains("overwrites nothing"), "{error}");
}
