//! The tap between sockets: bytes pass unchanged, several clients are one observation, and whoever misbehaves is
//! alone in it.
#![cfg(feature = "cli")]
// The exemption of tests does not reach their own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/program.rs"]
mod program;
#[path = "support/received.rs"]
mod received;
#[path = "tap_socket/sessions.rs"]
mod sessions;
#[path = "support/sockets.rs"]
mod sockets;
#[path = "support/tap_process.rs"]
mod tap_process;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use program::{factline, run, until};
use received::Received;
use rustix::process::Signal;
use serde_json::Value;
use sockets::{Over, SWITCHED, Server, Socket, Tap, command, connect_bytes, hear, say};
use tungstenite::Message;

const UPGRADE: &str = "GET /socket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nAuthorization: Bearer of-the-server\r\n\r\n";
/// Bytes that look like nothing.
fn noise(len: usize) -> Vec<u8> {
    let mut random = 88172645463325252_u64;
    let next = |_| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 32) as u8
    };
    (0..len).map(next).collect()
}

/// Sends on one end in pieces, and reads the other to its end.
fn through(mut from: impl Write + Send, mut to: impl Read, bytes: &[u8], size: usize) -> Vec<u8> {
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for piece in bytes.chunks(size) {
                from.write_all(piece).unwrap();
            }
        });
        let mut got = vec![0; bytes.len()];
        to.read_exact(&mut got).unwrap();
        got
    })
}

#[test]
fn whatever_bytes_pass_unchanged_and_closed_ends_travel_on() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("ws://{}", server.local_addr().unwrap());
    let tap = Tap::start(Over::Tcp, &at, &[]);
    let noise = noise(300_000);
    let beginnings = [
        (UPGRADE.as_bytes(), SWITCHED.as_bytes()),
        (b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"\x16\x03\x01 no HTTP at all", b"SSH-2.0\r\n"),
        (b"\n", b""),
    ];
    for (number, (request, answer)) in beginnings.into_iter().enumerate() {
        let mut client = TcpStream::connect(tap.address.strip_prefix("ws://").unwrap()).unwrap();
        let mut there = server.accept().unwrap().0;
        for (from, to, beginning) in [(&client, &there, request), (&there, &client, answer)] {
            let all = [beginning, &noise].concat();
            assert!(through(from, to, &all, 1 + number * 7001) == all, "{number}");
        }
        // Half of it ends, the other half goes on.
        if number % 2 == 0 {
            std::mem::swap(&mut client, &mut there);
        }
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(there.read(&mut [0; 10]).unwrap(), 0);
        assert!(through(&there, &client, &noise, 50_000) == noise);
        drop(there);
        assert_eq!(client.read(&mut [0; 10]).unwrap(), 0);
    }
    // A request that comes in single bytes, and a head that never ends.
    for request in [UPGRADE.as_bytes(), &[UPGRADE.trim_end().as_bytes(), &b"x".repeat(100_000)].concat()] {
        let client = TcpStream::connect(tap.address.strip_prefix("ws://").unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        let there = server.accept().unwrap().0;
        assert!(through(&client, &there, request, 1 + request.len() / 300) == request);
    }
}

/// A frame of a client, masked with a key that changes every byte.
fn frame(first: u8, announced: u64, payload: &[u8]) -> Vec<u8> {
    let key = [0x11, 0x22, 0x33, 0x44];
    let masked = payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]);
    [&[first, 0x80 | 127][..], &announced.to_be_bytes(), &key].concat().into_iter().chain(masked).collect()
}

#[test]
fn a_peer_that_misbehaves_is_alone_in_it_and_memory_is_bounded() {
    const TURN: &str =
        r#"{"id":1,"method":"initialize","params":{"clientInfo":{"name":"good","version":"1"}}}"#;
    let there = tempfile::tempdir().unwrap();
    let server = Server::listen(Over::Tcp, there.path());
    let at = server.address();
    server.echo();
    let tap = Tap::start(Over::Tcp, &at, &[]);
    let mut good = tap.connect();
    say(&mut good, TURN);

    let upgraded = |path: &str| {
        let mut bytes = connect_bytes(&tap.address);
        bytes.write_all(UPGRADE.replace("/socket", path).as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            bytes.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        bytes
    };
    // What each sends after its handshake; the server closes all of these, as it would without us.
    let text = br#"{"method":"x"}"#;
    let bad: [(&str, Vec<u8>); 7] = [
        ("no frames at all", b"garbage, and much of it: ".repeat(1000)),
        ("not masked", b"\x81\x05hello".to_vec()),
        ("reserved bits", frame(0xf1, 14, text)),
        ("continues nothing", frame(0x80, 14, text)),
        ("within another", [frame(0x01, 14, text), frame(0x81, 14, text)].concat()),
        ("a long ping", frame(0x89, 1000, &[0; 1000])),
        ("of no known kind", frame(0x83, 14, text)),
    ];
    for (what, sent) in bad {
        let mut peer = upgraded("/");
        // It may be closed before all of it is written.
        let _ = peer.write_all(&sent);
        let mut answer = Vec::new();
        let _ = peer.read_to_end(&mut answer);
        // Nothing comes back but what closes it.
        assert!(answer.len() < 200, "{what}: {}", answer.escape_ascii());
        say(&mut good, TURN);
    }
    // No HTTP, half a request, half a handshake, half a frame, half a message: and gone.
    for sent in [&b""[..], b"hello\r\n\r\n", b"GET / HT", &UPGRADE.as_bytes()[..100], b"\0\0\0"] {
        let mut peer = connect_bytes(&tap.address);
        peer.write_all(sent).unwrap();
        drop(peer);
        say(&mut good, TURN);
    }
    for sent in [&frame(0x81, 14, text)[..3], &frame(0x81, 14, &text[..5]), &frame(0x01, 14, text)] {
        let mut peer = upgraded("/");
        peer.write_all(sent).unwrap();
        drop(peer);
        say(&mut good, TURN);
    }
    // A flood of pings and of empty messages, in the middle of a message in fragments.
    let mut peer = upgraded("/");
    peer.write_all(&frame(0x01, 5, b"begun")).unwrap();
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for _ in 0..50_000 {
                if peer.write_all(&frame(0x89, 0, b"")).is_err() {
                    return;
                }
            }
        });
        while !flood.is_finished() {
            say(&mut good, TURN);
        }
    });
    drop(peer);
    say(&mut good, TURN);

    // A server that takes everything, and eight clients with an endless frame each, all at once.
    let before = tap.memory();
    let endless = [frame(0x81, 1 << 40, b""), frame(0x81, 64 << 20, b"")];
    let piece = vec![b'x'; 1 << 20];
    std::thread::scope(|scope| {
        let flood = |number: usize| {
            let (mut peer, endless, piece) = (upgraded("/swallow"), &endless, &piece);
            scope.spawn(move || {
                peer.write_all(&endless[number % 2]).unwrap();
                // The second kind goes on with what is no frame.
                for _ in 0..65 {
                    peer.write_all(piece).unwrap();
                }
            })
        };
        let floods: Vec<_> = (0..8).map(flood).collect();
        while !floods.iter().all(|flood| flood.is_finished()) {
            say(&mut good, TURN);
        }
    });
    say(&mut good, TURN);
    let after = tap.memory();
    println!("memory: {before} MiB before, {after} MiB after 520 MiB of endless frames");
    // What may wait for the observer, what unfinished messages may hold, and what both cost to be moved.
    assert!(after - before < 200, "{before} MiB, then {after} MiB");

    let log = tap.log();
    for why in [
        "does not mask",
        "reserved bits",
        "continues nothing",
        "within another",
        "control frame",
        "known kind",
    ] {
        assert!(log.contains(why), "{why}: {log}");
    }
    assert!(!log.contains("hello") && !log.contains("begun"), "{log}");
    let Tap { dir, program, .. } = tap;
    assert_eq!(program.end().0.code(), Some(0));
    run(factline(dir.path()).args(["outbox", "flush"]));
    // The good one is a connection; of the others nothing was made up.
    let received = Received::from_files(&dir.path().join("files"));
    let spans = received.spans.iter().map(|it| it.record.name.as_str()).collect::<Vec<_>>();
    assert!(spans.iter().all(|name| *name == "initialize"), "{spans:?}");
}

#[test]
fn what_is_no_text_is_passed_on_and_not_taken_for_a_message() {
    let there = tempfile::tempdir().unwrap();
    let server = Server::listen(Over::Unix, there.path());
    let at = server.address();
    server.echo();
    let tap = Tap::start(Over::Unix, &at, &["--record", "taped.jsonl"]);
    let mut client = tap.connect();
    say(&mut client, "{\"method\":\"one\",\n\"params\":{}}");
    client.send(Message::binary(br#"{"method":"binary"}"#.to_vec())).unwrap();
    assert_eq!(hear(&mut client), Message::binary(br#"{"method":"binary"}"#.to_vec()));
    say(&mut client, "no\nJSON");
    say(&mut client, "{\"method\":\"two\"}");
    client.close(None).unwrap();
    while client.read().is_ok() {}
    let Tap { dir, program, .. } = tap;
    program.end();
    let transcript = std::fs::read_to_string(dir.path().join("taped.jsonl")).unwrap();
    let lines: Vec<Value> = transcript.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_client: Vec<&Value> = lines.iter().filter(|line| line["dir"] == "client").collect();
    assert_eq!(of_client.len(), 4, "{transcript}");
    assert_eq!((&of_client[0]["msg"]["method"], &of_client[0]["len"]), (&"one".into(), &30.into()));
    assert!(of_client[1]["unparsed"].as_str().unwrap().starts_with("not recorded: 19 bytes"), "{transcript}");
    assert_eq!(of_client[2]["unparsed"], "not JSON");
    assert_eq!(of_client[3]["msg"]["method"], "two");
    let off = of_client[2]["off"].as_u64().unwrap() as usize;
    assert_eq!(std::fs::read(dir.path().join("client.raw")).unwrap()[off..off + 8], *b"no\rJSON\n");
    assert_eq!(lines[0]["open"], "unix");
    assert_eq!(lines.last().unwrap()["end"], "client_closed");
    // And it can be read again.
    run(factline(dir.path()).args(["replay", "--otlp-file", "out", "taped.jsonl"]).current_dir(dir.path()));
}

#[test]
fn a_server_that_is_away_costs_each_client_its_connection_and_nothing_else() {
    let [port] = program::free_ports();
    let tap = Tap::start(Over::Tcp, &format!("127.0.0.1:{port}"), &[]);
    for _ in 0..3 {
        let mut client = connect_bytes(&tap.address);
        // Closed, with or without a reset.
        assert_eq!(client.read(&mut [0; 10]).unwrap_or(0), 0);
    }
    let server = TcpListener::bind(("127.0.0.1", port)).unwrap();
    Server::Tcp(server).echo();
    say(&mut tap.connect(), "there");
    let log = tap.log();
    assert_eq!(log.matches("no server at").count(), 1, "{log}");
    assert!(log.contains(&format!("ws://127.0.0.1:{port}")) && log.contains("--connect"), "{log}");
    assert!(log.contains("there again; 3 connections"), "{log}");
}

#[test]
fn a_signal_ends_it_within_a_second_with_all_that_was_seen() {
    for (over, how) in [(Over::Tcp, Signal::TERM), (Over::Unix, Signal::INT), (Over::Unix, Signal::HUP)] {
        let there = tempfile::tempdir().unwrap();
        let server = Server::listen(over, there.path());
        let at = server.address();
        server.echo();
        let tap = Tap::start(over, &at, &[]);
        let mut clients: Vec<Socket> = (0..3).map(|_| tap.connect()).collect();
        for client in &mut clients {
            let hello =
                r#"{"id":1,"method":"initialize","params":{"clientInfo":{"name":"c","version":"1"}}}"#;
            say(client, hello);
            // The echo of an answer is an answer, to what the server never asked.
            say(client, r#"{"id":1,"result":{"userAgent":"c/1 (Debian 12; x86_64)"}}"#);
        }
        let Tap { dir, program, .. } = tap;
        let began = Instant::now();
        let (status, said) = program.end_by(how);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(status.code(), Some(0), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!dir.path().join("tap.sock").exists());
        for mut client in clients {
            assert!(client.read().is_err());
        }
        run(factline(dir.path()).args(["outbox", "flush"]));
        let received = Received::from_files(&dir.path().join("files")).once();
        let connections = received.spans.iter().filter(|it| it.record.name == "initialize");
        let mut ids: Vec<_> = connections
            .map(|it| received::text(&it.record.attributes, "codex.connection.id").unwrap())
            .collect();
        ids.sort();
        assert_eq!(ids, ["1", "2", "3"]);
    }
}

#[test]
fn a_request_that_a_browser_was_tricked_into_is_refused() {
    let refused = |over: Over, host: &str, origin: &str| {
        let there = tempfile::tempdir().unwrap();
        let server = Server::listen(over, there.path());
        let at = server.address();
        server.echo();
        let tap = Tap::start(Over::Tcp, &at, &[]);
        let mut client = connect_bytes(&tap.address);
        let request = UPGRADE.replace("Host: 127.0.0.1", &format!("Host: {host}\r\nX: y{origin}"));
        client.write_all(request.as_bytes()).unwrap();
        let mut head = [0; 12];
        client.read_exact(&mut head).unwrap();
        let refused = head == *b"HTTP/1.1 403";
        until("the log", || match tap.log() {
            log if log.contains("refused") == refused => Ok(()),
            log => Err(log),
        });
        refused
    };
    assert!(refused(Over::Tcp, "evil.example:4500", ""));
    assert!(refused(Over::Unix, "evil.example", ""));
    assert!(refused(Over::Unix, "127.0.0.1", "\r\nOrigin: https://evil.example"));
    assert!(!refused(Over::Unix, "localhost:4500", "\r\nOrigin: http://localhost:3000"));
    // Here the server sees it itself, as it would without us.
    assert!(!refused(Over::Tcp, "127.0.0.1:1", "\r\nOrigin: https://evil.example"));
}

#[test]
fn where_it_does_not_listen() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |listen: &str, more: &[&str], code: i32, words: &[&str]| {
        let mut tap = command(dir.path());
        tap.args(["tap", "--listen", listen, "--connect", "127.0.0.1:1"]).args(more);
        let output = tap.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{listen}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{listen}: {said}");
    };
    for wildcard in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
        fails(wildcard, &[], 1, &["every address", "127.0.0.1"]);
        fails(wildcard, &["--allow-remote"], 1, &["every address"]);
    }
    fails("192.0.2.1:0", &[], 1, &["192.0.2.1", "other machines", "--allow-remote"]);
    fails("no.such.name.invalid:0", &[], 1, &["no address is known"]);
    fails("wss://127.0.0.1:0", &[], 2, &["--listen", "TLS"]);
    fails("127.0.0.1", &[], 2, &["no port", "ws://127.0.0.1:4500"]);
    fails("/run/a.sock", &[], 2, &["unix:"]);
    fails("unix:no/such/dir/a.sock", &[], 1, &["does not exist"]);
    fails(&format!("unix:{}", "x".repeat(200)), &[], 1, &["too long"]);
    std::fs::write(dir.path().join("file"), "precious").unwrap();
    fails("unix:file", &[], 1, &["something else", "stays"]);
    assert_eq!(std::fs::read_to_string(dir.path().join("file")).unwrap(), "precious");
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    fails(&held.local_addr().unwrap().to_string(), &[], 1, &["somebody listens"]);
    fails("127.0.0.1:0", &["--record", "no/such/dir/x"], 1, &["no/such/dir"]);
    fails("127.0.0.1:0", &["--", "no-such-command-anywhere"], 127, &["no-such-command-anywhere", "PATH"]);

    // One half of the pair is a mistake, and so is a circle.
    let fails = |arguments: &[&str], words: &[&str]| {
        let output = command(dir.path()).arg("tap").args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    fails(&["--listen", "127.0.0.1:0"], &["--connect"]);
    fails(&["--connect", "127.0.0.1:0", "--", "true"], &["--listen"]);
    fails(&["--listen", "unix:own.sock", "--connect", "unix:./own.sock"], &["leads back"]);
}

#[test]
fn a_unix_socket_is_its_owners_and_a_leftover_is_replaced() {
    let there = tempfile::tempdir().unwrap();
    let server = Server::listen(Over::Unix, there.path());
    let at = server.address();
    server.echo();
    let tap = Tap::start(Over::Unix, &at, &[]);
    let path = tap.dir.path().join("tap.sock");
    let mode = || std::fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let listen = format!("unix:{}", path.display());
    let second = || {
        let mut second = command(there.path());
        second.args(["tap", "--listen", &listen, "--connect", &at]);
        second
    };
    let output = second().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("somebody listens there already"));
    say(&mut tap.connect(), "still there");
    // Killed, it leaves its file behind.
    let Tap { dir, program, .. } = tap;
    drop(program);
    assert!(std::fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    let program = program::Program::start(&mut second(), "listening on").unwrap();
    assert_eq!(mode(), 0o600);
    let tap = Tap { dir, program, address: format!("unix://{}", path.display()) };
    say(&mut tap.connect(), "replaced");
}

/// In the role of a server that somebody else starts; as a test of its own it does nothing.
#[test]
fn server_role() {
    let Some(port) = std::env::var("SERVER_ROLE").ok().and_then(|port| port.parse::<u16>().ok()) else {
        return;
    };
    let here = |name: &str| Path::new(name).exists();
    std::fs::write("started", "").unwrap();
    while !here("listen") {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    Server::Tcp(TcpListener::bind(("127.0.0.1", port)).unwrap()).echo();
    while !here("leave") {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    std::process::exit(9);
}

#[test]
fn a_server_that_it_starts_is_waited_for_and_its_exit_is_the_taps() {
    let exits = |script: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut tap = command(dir.path());
        tap.args(["tap", "--listen", "unix:a.sock", "--connect", "unix:b.sock", "--", "sh", "-c", script]);
        let output = tap.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(exits("echo mine; exit 7"), (Some(7), "mine\n".to_owned()));
    assert_eq!(exits("kill -TERM $$"), (Some(128 + 15), String::new()));

    let [listen, port] = program::free_ports();
    let dir = tempfile::tempdir().unwrap();
    let mut tap = command(dir.path());
    let (listen, connect) = (format!("ws://127.0.0.1:{listen}"), format!("ws://127.0.0.1:{port}"));
    tap.args(["tap", "--listen", &listen, "--connect", &connect, "--"]).arg(std::env::current_exe().unwrap());
    tap.args(["server_role", "--exact", "--nocapture", "--test-threads=1"])
        .env("SERVER_ROLE", port.to_string());
    tap.stdout(std::process::Stdio::null());
    let mut tap = tap.spawn().unwrap();
    let here = |name: &str| dir.path().join(name);
    until("the server starts", || if here("started").exists() { Ok(()) } else { Err("not yet".into()) });
    // A client that comes before the server listens waits for it.
    let client = std::thread::spawn(move || {
        let client = connect_bytes(&listen);
        tungstenite::client("ws://localhost/", client).map_err(|_| "no handshake").unwrap().0
    });
    std::fs::write(here("listen"), "").unwrap();
    let mut client = client.join().unwrap();
    say(&mut client, "hello");
    std::fs::write(here("leave"), "").unwrap();
    assert!(client.read().is_err());
    assert_eq!(tap.wait().unwrap().code(), Some(9));
}
