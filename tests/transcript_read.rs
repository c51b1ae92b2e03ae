//! Recorded sessions are read to their end, whatever is in them, and in bounded memory.
#![cfg(feature = "tap")]
// The exemption of tests does not reach their own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use factline::protocol::{Ended, Sender, Transport};
use factline::tap::{Line, raw_name};
use factline::transcript::{Transcript, What};

fn corpus() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[derive(Debug, PartialEq)]
enum Said {
    Open(u64, u32, Transport),
    Message(u64, u32, Sender, Option<(u64, u64)>, Option<Vec<u8>>),
    Ended(u64, u32, Ended),
    Unreadable(u64, &'static str),
}

fn read(path: &Path) -> Vec<Said> {
    let mut transcript = Transcript::open(path).unwrap();
    let mut all = Vec::new();
    while let Some(entry) = transcript.next_entry().unwrap() {
        let (t, conn) = (entry.t_us, entry.conn);
        all.push(match entry.what {
            What::Open { transport } => Said::Open(t, conn, transport),
            What::End { end } => Said::Ended(t, conn, end),
            What::Unreadable { line_number, reason } => Said::Unreadable(line_number, reason),
            What::Message { dir, off, len, line } => {
                let text = line.map(|line| match line {
                    Line::Whole(text) => text.to_vec(),
                    Line::Oversized { len } => format!("oversized {len}").into_bytes(),
                });
                Said::Message(t, conn, dir, off.zip(len), text)
            }
        });
    }
    all
}

fn written(text: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("transcript.jsonl");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn every_recorded_session_is_read_whole() {
    for dir in corpus() {
        let path = dir.join("transcript.jsonl");
        if !path.exists() {
            continue;
        }
        let all = read(&path);
        assert!(!all.iter().any(|said| matches!(said, Said::Unreadable(..))), "{path:?}");
        // Every byte of every raw file is in exactly one message, and a message is a whole line.
        for conn in 1.. {
            if !dir.join(raw_name(Sender::Client, conn)).exists() {
                break;
            }
            for side in [Sender::Client, Sender::Server] {
                let raw = std::fs::read(dir.join(raw_name(side, conn))).unwrap();
                let mut position = 0;
                for said in &all {
                    let Said::Message(_, of, dir, Some((off, len)), Some(text)) = said else { continue };
                    if (*of, *dir) != (conn, side) {
                        continue;
                    }
                    assert_eq!(*off, position, "{path:?} {side:?} {conn}");
                    let line = &raw[*off as usize..(off + len) as usize];
                    position += len;
                    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
                    if text != line.strip_suffix(b"\n").unwrap() {
                        // What was recorded as a message was parsed and written again.
                        let parsed = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).ok();
                        assert!(parsed(text) == parsed(line), "{path:?} {off}");
                    }
                }
                assert_eq!(position, raw.len() as u64, "{path:?} {side:?} {conn}");
            }
        }
    }
}

#[test]
fn what_is_wrong_is_counted_with_its_line_and_reading_goes_on() {
    let good = r#"{"t_us":5,"dir":"client","conn":1,"msg":{"id":1},"note":"x","more":[1]}"#;
    let mut text = Vec::new();
    let bad: [(&[u8], &str); 12] = [
        (b"secret", "it is not a JSON object"),
        (b"[1,2]", "it is not a JSON object"),
        (b"{\"t_us\":1,,}", "it is not JSON"),
        (b"\xff{}", "it is not UTF-8"),
        (
            br#"{"t_us":"secret","dir":"client","conn":1,"msg":{}}"#,
            "a member has the wrong type, or is there twice",
        ),
        (br#"{"t_us":1,"t_us":2}"#, "a member has the wrong type, or is there twice"),
        (br#"{"dir":"client","conn":1,"msg":{}}"#, "it has no t_us"),
        (br#"{"t_us":1,"dir":"client","conn":0,"msg":{}}"#, "it has no conn from 1"),
        (br#"{"t_us":1,"dir":"secret","conn":1,"msg":{}}"#, "its dir is neither client nor server"),
        (br#"{"t_us":1,"dir":"client","conn":1}"#, "it has no msg"),
        (br#"{"t_us":1,"conn":1,"open":"secret"}"#, "its open is no known transport"),
        (br#"{"t_us":1,"conn":1,"end":"secret"}"#, "its end is no known one"),
    ];
    for (line, _) in bad {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(good.as_bytes());
    text.extend_from_slice(b"\r\n\n");
    text.extend_from_slice(&good.as_bytes()[..30]);
    let (_dir, path) = written(&text);
    let mut expected: Vec<_> =
        bad.iter().enumerate().map(|(n, (_, reason))| Said::Unreadable(n as u64 + 1, reason)).collect();
    expected.push(Said::Message(5, 1, Sender::Client, None, Some(b"{\"id\":1}".to_vec())));
    expected.push(Said::Unreadable(15, "it is the last line, and cut off"));
    assert_eq!(read(&path), expected);
}

#[test]
fn the_text_of_a_message_is_what_was_written() {
    let message = r#"{"b" : 1.000, "a":"\ud800 é", "a":{}}"#;
    let (_dir, path) = written(format!(r#"{{"conn":2,"msg": {message} ,"dir":"server","t_us":9}}"#));
    assert_eq!(read(&path), [Said::Message(9, 2, Sender::Server, None, Some(message.into()))]);
}

#[test]
fn a_message_that_is_null_has_the_bytes_of_the_raw_file() {
    let null = |off, len| {
        format!("{{\"t_us\":1,\"dir\":\"client\",\"conn\":2,\"off\":{off},\"len\":{len},\"msg\":null}}\n")
    };
    // A line; two at once; half a line and the rest; the last without newline; beyond the end; absurd.
    let text = null(0, 4)
        + &null(4, 4)
        + &null(8, 2)
        + &null(10, 3)
        + &null(13, 2)
        + &null(13, 99)
        + &null(u64::MAX, 2);
    let (dir, path) = written(text);
    let said = |off, len, text: Option<&str>| {
        Said::Message(1, 2, Sender::Client, Some((off, len)), text.map(|text| text.as_bytes().to_vec()))
    };
    assert!(read(&path).iter().all(|said| matches!(said, Said::Message(.., None))));
    std::fs::write(dir.path().join("client.2.raw"), b"abc\nd\n\xff\nhalf\nla").unwrap();
    let expected = [
        said(0, 4, Some("abc")),
        said(4, 2, Some("d")),
        Said::Message(1, 2, Sender::Client, Some((6, 2)), Some(vec![0xff])),
        said(8, 5, Some("half")),
        said(13, 2, Some("la")),
        said(13, 99, None),
        said(u64::MAX, 2, None),
    ];
    assert_eq!(read(&path), expected);
    // A raw file that is no file is not there; opening a named pipe would wait forever.
    std::fs::remove_file(dir.path().join("client.2.raw")).unwrap();
    assert!(Command::new("mkfifo").arg(dir.path().join("client.2.raw")).status().unwrap().success());
    assert!(read(&path).iter().all(|said| matches!(said, Said::Message(.., None))));
}

#[test]
fn lines_beyond_the_limit_are_skipped_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("transcript.jsonl");
    let mut file = std::fs::File::create(&path).unwrap();
    let good = "{\"t_us\":1,\"conn\":1,\"open\":\"stdio\"}\n";
    file.write_all(good.as_bytes()).unwrap();
    file.set_len(good.len() as u64 + 30_000_000).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
    let null = "{\"t_us\":1,\"dir\":\"server\",\"conn\":1,\"off\":0,\"len\":30000001,\"msg\":null}\n";
    file.write_all(format!("\n{good}{null}").as_bytes()).unwrap();
    let raw = std::fs::File::create(dir.path().join("server.raw")).unwrap();
    raw.set_len(30_000_001).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&raw, b"\n", 30_000_000).unwrap();
    let expected = [
        Said::Open(1, 1, Transport::Stdio),
        Said::Unreadable(2, "it is too long"),
        Said::Open(1, 1, Transport::Stdio),
        Said::Message(1, 1, Sender::Server, Some((0, 30_000_001)), Some(b"oversized 30000000".to_vec())),
    ];
    assert_eq!(read(&path), expected);
}

#[test]
fn what_can_not_be_opened_says_what_to_do() {
    let error = |path: &Path| Transcript::open(path).unwrap_err().to_string();
    let dir = tempfile::tempdir().unwrap();
    let missing = error(&dir.path().join("none.jsonl"));
    assert!(missing.contains("none.jsonl") && missing.contains("no such file"), "{missing}");
    let directory = error(dir.path());
    assert!(directory.contains("directory") && directory.contains("transcript.jsonl"), "{directory}");
    // As root, which this may run as, every file can be read.
    let (_dir, path) = written("");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    if std::fs::File::open(&path).is_err() {
        assert!(error(&path).contains("permission denied"));
    }
}

#[test]
fn standard_input_is_a_transcript_too() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["stdin_role", "--exact", "--nocapture"])
        .env("STDIN_ROLE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let text = "{\"t_us\":3,\"conn\":1,\"end\":\"killed\"}\n{\"t_us\":3,\"conn\":1,\"dir\":\"client\",\"off\":0,\"len\":1,\"msg\":null}";
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn stdin_role() {
    if std::env::var_os("STDIN_ROLE").is_some() {
        let expected =
            [Said::Ended(3, 1, Ended::Killed), Said::Message(3, 1, Sender::Client, Some((0, 1)), None)];
        assert_eq!(read(Path::new("-")), expected);
    }
}
