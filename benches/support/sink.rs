//! A collector that only counts: what it costs is little, and the same for whoever sends.
//!
//! It is a process of its own, so that its time is nobody's.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// The process, seen from the one that started it.
pub struct Sink {
    child: Child,
    said: BufReader<ChildStdout>,
    pub port: u16,
}

impl Sink {
    pub fn start(protocol: &str) -> Self {
        let own = std::env::current_exe().expect("the bench's own path");
        let mut child = Command::new(own)
            .args(["sink", protocol])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a sink");
        let said = BufReader::new(child.stdout.take().expect("its output"));
        let mut sink = Self { child, said, port: 0 };
        sink.port = sink.number() as u16;
        sink
    }

    fn number(&mut self) -> u64 {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a line");
        line.trim().parse().expect("a number")
    }

    /// Ends it; returns how many records it took.
    pub fn end(mut self) -> u64 {
        drop(self.child.stdin.take());
        let count = self.number();
        self.child.wait().expect("its end");
        count
    }
}

/// The process itself: prints its port, and at the end of its input what it counted.
pub fn run(protocol: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    let count = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&count);
    let grpc = protocol == "grpc";
    std::thread::spawn(
        move || if grpc { serve_grpc(listener, counting) } else { serve_http(&listener, &counting) },
    );
    // Nobody writes anything.
    let _ = std::io::stdin().read(&mut [0; 1]);
    println!("{}", count.load(Ordering::SeqCst));
}

fn serve_http(listener: &TcpListener, count: &Arc<AtomicU64>) {
    for stream in listener.incoming() {
        let (stream, count) = (stream.expect("a connection"), Arc::clone(count));
        std::thread::spawn(move || answer(stream, &count));
    }
}

/// Until the client goes away.
fn answer(mut stream: TcpStream, count: &AtomicU64) -> Option<()> {
    let mut reader = BufReader::with_capacity(256 << 10, stream.try_clone().ok()?);
    let mut body = Vec::new();
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().ok()?;
                }
                Some(_) => {}
                None if line.trim().is_empty() => break,
                None => {}
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
        count.fetch_add(records(&body), Ordering::SeqCst);
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
            )
            .ok()?;
    }
}

fn serve_grpc(listener: TcpListener, count: Arc<AtomicU64>) {
    listener.set_nonblocking(true).expect("a socket");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let count = Arc::clone(&count);
            let call = hyper::service::service_fn(move |request: Request<Incoming>| {
                let count = Arc::clone(&count);
                async move {
                    let body =
                        request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                    count.fetch_add(records(body.get(5..).unwrap_or_default()), Ordering::SeqCst);
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    let body = Full::new(Bytes::from_static(&[0; 5]));
                    let response = Response::builder().header("content-type", "application/grpc");
                    Ok::<_, Infallible>(
                        response.body(body.with_trailers(async { Some(Ok(trailers)) })).expect("an answer"),
                    )
                }
            });
            // What tonic's server has by default.
            let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http2.initial_stream_window_size(1 << 20).initial_connection_window_size(1 << 20);
            tokio::spawn(http2.serve_connection(TokioIo::new(stream), call));
        }
    });
}

/// Log records or spans in a request: entries of field 2 of the scopes (field 2) of the resources (field 1).
fn records(request: &[u8]) -> u64 {
    let scopes = |resource| fields(resource, 2).map(|scope| fields(scope, 2).count() as u64).sum::<u64>();
    fields(request, 1).map(scopes).sum()
}

/// The contents of the length-delimited fields of this number.
fn fields(mut message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while !message.is_empty() {
            let tag = varint(&mut message)?;
            let content = match tag & 7 {
                0 => {
                    varint(&mut message)?;
                    continue;
                }
                1 => message.split_off(..8)?,
                2 => {
                    let length = varint(&mut message)? as usize;
                    message.split_off(..length)?
                }
                _ => message.split_off(..4)?,
            };
            if tag == wanted << 3 | 2 {
                return Some(content);
            }
        }
        None
    })
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
