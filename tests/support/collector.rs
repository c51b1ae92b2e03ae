//! A collector on loopback that records each request and answers as scripted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Which connection it came on, from 0.
    pub connection: usize,
    pub at: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A whole answer: status, further headers, body.
    Status(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// A whole answer, and then the connection is closed without a word about it.
    AndClose(Box<Reply>),
    /// Half of an answer, and the connection is closed.
    Half,
    /// The connection is closed without an answer.
    Hangup,
    /// Nothing, as long as the collector lives.
    Silence,
    /// Status 200 and a body of this many bytes, or as many as the client takes.
    Flood(usize),
}

impl Reply {
    pub fn ok() -> Self {
        Self::status(200)
    }

    pub fn status(status: u16) -> Self {
        Self::Status(status, vec![], vec![])
    }
}

type Script = dyn Fn(usize, &Request) -> Reply + Send + Sync;

struct Shared {
    requests: Mutex<Vec<Request>>,
    changed: Condvar,
    /// Bytes of answers that were written.
    written: Mutex<usize>,
    script: Box<Script>,
}

pub struct Collector {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Collector {
    /// `script` gets the number of the request, from 0, and the request.
    pub fn start(script: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub fn on(
        listener: TcpListener,
        script: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            changed: Condvar::new(),
            written: Mutex::default(),
            script: Box::new(script),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (shared, stream) = (Arc::clone(&accepting), stream.unwrap());
                std::thread::spawn(move || serve(&shared, number, stream));
            }
        });
        Self { address, shared }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub fn written(&self) -> usize {
        *self.shared.written.lock().unwrap()
    }

    /// Waits until that many requests came in.
    pub fn wait_for(&self, count: usize) -> Vec<Request> {
        let requests = self.shared.requests.lock().unwrap();
        let limit = Duration::from_secs(10);
        let (requests, late) = self
            .shared
            .changed
            .wait_timeout_while(requests, limit, |requests| requests.len() < count)
            .unwrap();
        assert!(!late.timed_out(), "only {} of {count} requests", requests.len());
        requests.clone()
    }
}

fn serve(shared: &Shared, connection: usize, mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader, connection) {
        let number = {
            let mut requests = shared.requests.lock().unwrap();
            requests.push(request.clone());
            shared.changed.notify_all();
            requests.len() - 1
        };
        if !answer(shared, &mut stream, (shared.script)(number, &request)) {
            return;
        }
    }
}

/// Whether the connection stays open. A client that went away is not this side's failure.
fn answer(shared: &Shared, stream: &mut TcpStream, reply: Reply) -> bool {
    match reply {
        Reply::Status(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str("\r\n");
            stream.write_all(&[head.as_bytes(), &body].concat()).is_ok()
        }
        Reply::AndClose(reply) => {
            answer(shared, stream, *reply);
            false
        }
        Reply::Half => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
            false
        }
        Reply::Hangup => false,
        Reply::Silence => {
            // Until the client gives up.
            let _ = stream.read(&mut [0; 1]);
            false
        }
        Reply::Flood(bytes) => {
            let _ =
                stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").as_bytes());
            let chunk = [0xAA; 1 << 16];
            let mut left = bytes;
            while left > 0 {
                let now = left.min(chunk.len());
                if stream.write_all(&chunk[..now]).is_err() {
                    break;
                }
                left -= now;
                *shared.written.lock().unwrap() += now;
            }
            left == 0
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>, connection: usize) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, headers, body, connection, at: Instant::now() })
}
