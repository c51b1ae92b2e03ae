//! Every recorded session through a tap between sockets, message by message.

use std::collections::BTreeMap;
use std::path::Path;

use tungstenite::Message;

use crate::program::{corpus, factline, run, until};
use crate::received::{Received, assert_same, facts};
use crate::sockets::{Over, Server, Socket, Tap, hear};

/// What a recording says, one after the other: connection, and who said which bytes, or how it ended.
enum Said {
    Message(u64, bool, Vec<u8>),
    End(u64),
}

/// Of a line, what is needed here; the message itself may be no text that could be parsed.
#[derive(serde::Deserialize)]
struct Line {
    conn: u64,
    dir: Option<String>,
    off: Option<usize>,
    len: Option<usize>,
    end: Option<String>,
}

fn said(transcript: &Path) -> Vec<Said> {
    let mut raw: BTreeMap<(String, u64), Vec<u8>> = BTreeMap::new();
    let mut all = Vec::new();
    for line in std::fs::read_to_string(transcript).unwrap().lines() {
        let line: Line = serde_json::from_str(line).unwrap();
        let conn = line.conn;
        if line.end.is_some() {
            all.push(Said::End(conn));
        } else if let (Some(dir), Some(off), Some(len)) = (line.dir, line.off, line.len) {
            let file = raw.entry((dir.clone(), conn)).or_insert_with(|| {
                let name = if conn == 1 { format!("{dir}.raw") } else { format!("{dir}.{conn}.raw") };
                std::fs::read(transcript.with_file_name(name)).unwrap()
            });
            let bytes = &file[off..off + len];
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec();
            all.push(Said::Message(conn, dir == "client", bytes));
        }
    }
    all
}

/// The lines of a raw file, where a line is a message: a line feed within one is recorded as a carriage return.
fn line(message: &[u8]) -> Vec<u8> {
    let mut line: Vec<u8> = message.iter().map(|it| if *it == b'\n' { b'\r' } else { *it }).collect();
    line.push(b'\n');
    line
}

/// Plays a recording through the tap, message by message, and holds what arrives against what was sent. Returns
/// what each raw file has to hold.
fn play(tap: &Tap, server: &Server, recording: &[Said]) -> BTreeMap<String, Vec<u8>> {
    let mut open: BTreeMap<u64, (Socket, Socket)> = BTreeMap::new();
    let mut numbers: BTreeMap<u64, usize> = BTreeMap::new();
    let mut raw: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for said in recording {
        match said {
            Said::End(conn) => {
                if let Some((mut client, mut server)) = open.remove(conn) {
                    client.close(None).unwrap();
                    assert!(hear(&mut server).is_close());
                    // It is gone for the observer when it is gone for us.
                    while server.read().is_ok() {}
                    drop(server);
                    while client.read().is_ok() {}
                }
            }
            Said::Message(conn, from_client, bytes) => {
                let Ok(text) = std::str::from_utf8(bytes) else { continue };
                let count = numbers.len() + 1;
                let number = *numbers.entry(*conn).or_insert(count);
                let (client, server) = open.entry(*conn).or_insert_with(|| {
                    std::thread::scope(|scope| {
                        let client = scope.spawn(|| tap.connect());
                        let server = server.accept();
                        (client.join().unwrap(), server)
                    })
                });
                let (from, to) = if *from_client { (client, server) } else { (server, client) };
                // Both ends at once: the long ones are more than sockets hold.
                let got = std::thread::scope(|scope| {
                    let got = scope.spawn(|| hear(to));
                    from.send(Message::text(text)).unwrap();
                    got.join().unwrap()
                });
                assert!(got == Message::text(text), "a message of {} bytes differs", bytes.len());
                let side = if *from_client { "client" } else { "server" };
                let name = if number == 1 { format!("{side}.raw") } else { format!("{side}.{number}.raw") };
                raw.entry(name).or_default().extend(line(bytes));
            }
        }
    }
    raw
}

#[test]
fn every_recorded_session_passes_is_recorded_and_replays_to_the_facts_of_the_live_one() {
    let mut seen = 0;
    for (number, (name, transcript)) in corpus().into_iter().enumerate() {
        // Those that were sockets when they were recorded are the same again; of the others, some each.
        let unix = name.starts_with("32") || number % 2 == 1 && !name.starts_with("18");
        let over = if unix { Over::Unix } else { Over::Tcp };
        let there = tempfile::tempdir().unwrap();
        let server = Server::listen(over, there.path());
        let tap = Tap::start(over, &server.address(), &["--record", "transcript.jsonl"]);
        let raw = play(&tap, &server, &said(&transcript));
        seen += raw.len();
        // It is told to end when it has seen all: how much of it is seen in the time that an end has is another
        // question.
        let lines = raw.values().flatten().filter(|byte| **byte == b'\n').count();
        until("all is recorded", || {
            let recorded = std::fs::read_to_string(tap.dir.path().join("transcript.jsonl")).unwrap();
            let messages = recorded.lines().filter(|line| line.contains("\"dir\":")).count();
            if messages >= lines { Ok(()) } else { Err(format!("{messages} of {lines}")) }
        });
        let Tap { dir, program, .. } = tap;
        let (status, _) = program.end();
        assert_eq!(status.code(), Some(0));
        for (file, expected) in raw {
            assert!(std::fs::read(dir.path().join(&file)).unwrap() == expected, "{name}: {file}");
        }
        run(factline(dir.path()).args(["outbox", "flush"]));
        let live = Received::from_files(&dir.path().join("files")).once();
        let replayed = |transcript: &Path, out: &str| {
            let out = dir.path().join(out);
            run(factline(dir.path()).args(["replay", "--otlp-file"]).arg(&out).arg(transcript));
            Received::from_files(&out)
        };
        let again = replayed(&dir.path().join("transcript.jsonl"), "again");
        let exact = |of: &Received| {
            let logs = of.logs.iter().map(|it| format!("{:?}", it.record));
            logs.chain(of.spans.iter().map(|it| format!("{:?}", it.record))).collect::<Vec<_>>()
        };
        assert!(again.counts().0 > 0 || said(&transcript).is_empty(), "{name}");
        assert_same(&format!("{name}: live, replayed"), &exact(&live), &exact(&again));
        // These were sockets when they were recorded: everything is as it was, what both clients got included.
        if name.starts_with("18") || name.starts_with("32") {
            let first = facts(&replayed(&transcript, "first"));
            assert_same(&format!("{name}: recorded directly, through the tap"), &first, &facts(&live));
        }
    }
    assert!(seen > 60, "{seen}");
}
