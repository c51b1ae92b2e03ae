//! `factline backend` as a person runs it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/served.rs"]
mod served;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use served::{JSON, answer, read_all, request};

fn factline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_factline"));
    command.arg("backend").args(arguments).env_remove("FACTLINE_BACKEND_DB").stdin(Stdio::null());
    command
}

struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    address: String,
    greeting: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let arguments = [&["serve"], arguments].concat();
        let mut child = factline(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut greeting = String::new();
        stderr.read_line(&mut greeting).unwrap();
        let address = greeting.split("http://").nth(1).and_then(|rest| rest.split(' ').next());
        let address = address.unwrap_or_else(|| panic!("{greeting}")).to_owned();
        Self { child, stdout, stderr, address, greeting }
    }

    fn post(&self, events: &[Value]) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let body = json!({ "events": events }).to_string();
        stream.write_all(&request(&format!("{JSON}connection: close\r\n"), body.as_bytes())).unwrap();
        answer(&read_all(&mut stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// Ends it with a signal, within a second, and returns what else it said.
    fn end(mut self, signal: Signal) -> String {
        let started = Instant::now();
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let status = self.child.wait().unwrap();
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        assert_eq!(status.code(), Some(0));
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        said
    }
}

fn ask(db: &Path, arguments: &[&str]) -> Output {
    factline(&[&["query", "--db", db.to_str().unwrap()], arguments].concat()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn app(n: u32, product: &str) -> Value {
    let params = json!({"connector_id": format!("c{n}"), "thread_id": "t", "product_client_id": product});
    json!({"event_type": "codex_app_mentioned", "event_params": params})
}

#[test]
fn events_are_printed_kept_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("state/events.db");
    let mut running = Running::start(&["--listen", "127.0.0.1:0", "--db", db.to_str().unwrap()]);
    assert!(running.greeting.contains("this machine only"), "{}", running.greeting);
    assert_eq!(running.post(&[app(1, "codex-tui"), app(2, "codex_exec"), app(1, "codex-tui")]).0, 200);
    let start =
        "Tracked analytics event codex_app_mentioned thread_id=t product_surface=codex product_client_id=";
    assert_eq!(running.line(), format!("{start}CODEX_CLI connector_id=c1\n"));
    assert_eq!(running.line(), format!("{start}CODEX_SERVICE_EXEC connector_id=c2\n"));
    // While the server runs and after it has ended.
    let question = "SELECT product_client_id AS product, 1 + duplicates AS times FROM events ORDER BY id";
    for _ in 0..2 {
        let answer = ask(&db, &[question]);
        assert_eq!(
            text(&answer.stdout),
            "product             times\nCODEX_CLI               2\nCODEX_SERVICE_EXEC      1\n"
        );
        if running.child.try_wait().unwrap().is_none() {
            kill_process(Pid::from_child(&running.child), Signal::INT).unwrap();
            assert_eq!(running.child.wait().unwrap().code(), Some(0));
        }
    }
    let answer = ask(&db, &["--json", question]);
    let rows: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(rows[0], json!({"product": "CODEX_CLI", "times": 2}));
    let refused = ask(&db, &["DELETE FROM events"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("only one statement that reads"), "{}", text(&refused.stderr));
    let cut = ask(&db, &["--limit", "1", question]);
    assert!(text(&cut.stdout).lines().count() == 2 && text(&cut.stderr).contains("only the first 1 rows"));
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&db), mode(db.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn a_table_of_products_json_and_silence_can_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("events.db");
    let products = dir.path().join("products.toml");
    std::fs::write(&products, "[products]\ncodex-tui = \"MINE\"\n").unwrap();
    let common =
        ["--listen", "127.0.0.1:0", "--db", db.to_str().unwrap(), "--products", products.to_str().unwrap()];
    let mut running = Running::start(&[&common[..], &["--json"]].concat());
    running.post(&[app(1, "codex-tui")]);
    let line: Value = serde_json::from_str(&running.line()).unwrap();
    assert_eq!((&line["product_client_id"], &line["event"]), (&json!("MINE"), &app(1, "codex-tui")));
    running.end(Signal::TERM);
    let running = Running::start(&[&common[..], &["--quiet"]].concat());
    running.post(&[app(2, "codex-tui")]);
    let mut stdout = String::new();
    let Running { mut child, stdout: mut out, .. } = running;
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    out.read_to_string(&mut stdout).unwrap();
    assert_eq!((child.wait().unwrap().code(), &*stdout), (Some(0), ""));
    std::fs::write(&products, "[products]\nx = 1\n").unwrap();
    let refused = factline(&["serve", "--products", products.to_str().unwrap()]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("products.toml: "), "{}", text(&refused.stderr));
}

#[test]
fn loopback_is_the_default_and_anything_else_is_warned_of() {
    let help = factline(&["serve", "--help"]).output().unwrap();
    assert!(text(&help.stdout).contains("[default: 127.0.0.1:8321]"), "{}", text(&help.stdout));
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("events.db");
    let running = Running::start(&["--listen", "0.0.0.0:0", "--db", db.to_str().unwrap()]);
    assert!(running.greeting.contains("every machine that reaches it"));
    assert!(running.end(Signal::INT).contains("warning: nobody is asked who they are"));
}

#[test]
fn what_cannot_be_used_is_said_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("none.db");
    let nothing = ask(&db, &["SELECT 1"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(
        text(&nothing.stderr).contains("none.db: the database cannot be read"),
        "{}",
        text(&nothing.stderr)
    );
    assert!(!db.exists());
    std::fs::write(&db, "this is no database, it is a letter to whoever finds it".repeat(100)).unwrap();
    let serve =
        factline(&["serve", "--listen", "127.0.0.1:0", "--db", db.to_str().unwrap()]).output().unwrap();
    assert_eq!(serve.status.code(), Some(1));
    assert!(text(&serve.stderr).contains("file is not a database"), "{}", text(&serve.stderr));
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    std::fs::remove_file(&db).unwrap();
    std::fs::write(&db, "").unwrap();
    let stopped = ask(&db, &["--timeout", "0", endless]);
    assert_eq!(stopped.status.code(), Some(1));
    assert!(text(&stopped.stderr).contains("stopped after 0 s"), "{}", text(&stopped.stderr));
}
