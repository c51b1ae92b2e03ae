//! The reference backend on a thread, and a client that writes bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use factline::backend::{Cell, QueryLimits, Server, Settings, query};
use serde_json::Value;
use tokio::sync::oneshot;

pub struct Served {
    pub address: SocketAddr,
    pub db: PathBuf,
    /// Events that were told of, in their order.
    pub lines: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Served {
    pub fn start(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(dir.path().join("events.db"));
        change(&mut settings);
        let db = settings.db.clone();
        let server = Server::bind(settings).unwrap();
        let address = server.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&lines);
        let running = std::thread::spawn(move || {
            let stop = async {
                let _ = stopped.await;
            };
            server.run(stop, move |event| told.lock().unwrap().push(event.line())).unwrap();
        });
        Self { address, db, lines, stop: Some(stop), running: Some(running), _dir: dir }
    }

    pub fn url(&self) -> String {
        format!("http://{}/backend-api", self.address)
    }

    /// Ends the server and waits for it.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(running) = self.running.take() {
            running.join().unwrap();
        }
    }

    /// The only value of the answer's first row.
    pub fn number(&self, statement: &str) -> i64 {
        number(&self.db, statement)
    }

    /// Sends bytes, ends the sending side, and reads to the end.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // A server that has answered may close before all was sent.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        read_all(&mut stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// Posts a body with further header lines; the status and the JSON of the answer.
    pub fn post(&self, headers: &str, body: &[u8]) -> (u16, Value) {
        answer(&self.raw(&request(headers, body)))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

pub const PATH: &str = "/codex/analytics-events/events";
pub const JSON: &str = "content-type: application/json\r\n";

pub fn request(headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

pub fn read_all(stream: &mut TcpStream) -> String {
    let mut out = Vec::new();
    // A reset after the answer is as good an end as any.
    let _ = stream.read_to_end(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Status and body of the first answer in `text`.
pub fn answer(text: &str) -> (u16, Value) {
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body = body.lines().next().unwrap_or_default();
    (
        status.unwrap_or_else(|| panic!("no answer: {text:?}")),
        serde_json::from_str(body).unwrap_or(Value::Null),
    )
}

pub fn number(db: &Path, statement: &str) -> i64 {
    let rows = query(db, statement, QueryLimits::default()).unwrap();
    match rows.rows[0][0] {
        Cell::Integer(number) => number,
        ref other => panic!("{other:?}"),
    }
}

/// The requests that the real client sent in the recorded sessions: headers and events.
pub fn recorded() -> Vec<(Value, Vec<Value>)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut sessions: Vec<_> =
        std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    sessions.sort();
    let mut requests = Vec::new();
    for session in sessions {
        let Ok(text) = std::fs::read_to_string(session.join("analytics.jsonl")) else { continue };
        for line in text.lines() {
            let request: Value = serde_json::from_str(line).unwrap();
            let events = request["body"]["events"].as_array().unwrap().clone();
            requests.push((request["headers"].clone(), events));
        }
    }
    requests
}
