//! A tap between sockets, with servers and clients around it that are not ours (tungstenite).
#![allow(dead_code)]

use std::io::{Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use tempfile::TempDir;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use crate::program::{PATIENCE, Program, factline};
use crate::tap_process::hears_signals;

pub trait Ends: Read + Write + Send {}
impl<T: Read + Write + Send> Ends for T {}

pub type Socket = WebSocket<Box<dyn Ends>>;

/// Over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Tcp,
    Unix,
}

/// A listening server.
pub enum Server {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Large messages pass, whatever the defaults are.
fn config() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(None).max_frame_size(None)
}

impl Server {
    pub fn listen(over: Over, dir: &Path) -> Server {
        match over {
            Over::Tcp => Server::Tcp(TcpListener::bind("127.0.0.1:0").unwrap()),
            Over::Unix => {
                let path = dir.join("server.sock");
                Server::Unix(UnixListener::bind(&path).unwrap(), path)
            }
        }
    }

    pub fn address(&self) -> String {
        match self {
            Server::Tcp(listener) => format!("ws://{}", listener.local_addr().unwrap()),
            Server::Unix(_, path) => format!("unix://{}", path.display()),
        }
    }

    /// The next connection, as bytes.
    pub fn accept_bytes(&self) -> Box<dyn Ends> {
        match self {
            Server::Tcp(listener) => {
                let stream = listener.accept().unwrap().0;
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Server::Unix(listener, _) => {
                let stream = listener.accept().unwrap().0;
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
        }
    }

    pub fn accept(&self) -> Socket {
        tungstenite::accept_with_config(self.accept_bytes(), Some(config()))
            .map_err(|_| "no handshake")
            .unwrap()
    }

    /// Answers every message with itself, on every connection, for as long as the test runs. Who asks for
    /// `/swallow` is let in as well, and not listened to.
    pub fn echo(self) {
        thread::spawn(move || {
            loop {
                let mut stream = self.accept_bytes();
                thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read(&mut byte) {
                            Ok(1) => head.extend(byte),
                            _ => break,
                        }
                    }
                    if head.starts_with(b"GET /swallow") {
                        stream.write_all(SWITCHED.as_bytes()).unwrap();
                        let _ = std::io::copy(&mut stream, &mut std::io::sink());
                        return;
                    }
                    let stream = Box::new(Again(Cursor::new(head), stream));
                    let Ok(mut socket) = tungstenite::accept(stream) else { return };
                    while let Ok(message) = socket.read() {
                        if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                            return;
                        }
                    }
                });
            }
        });
    }
}

pub const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A stream whose beginning was read already.
struct Again(Cursor<Vec<u8>>, Box<dyn Ends>);

impl Read for Again {
    fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(space)? {
            0 => self.1.read(space),
            read => Ok(read),
        }
    }
}

impl Write for Again {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.1.flush()
    }
}

/// A running tap.
pub struct Tap {
    pub dir: TempDir,
    pub program: Program,
    /// Where it listens.
    pub address: String,
}

impl Tap {
    /// Between `over` and that server.
    pub fn start(over: Over, server: &str, more: &[&str]) -> Tap {
        let dir = tempfile::tempdir().unwrap();
        let listen = match over {
            Over::Tcp => "ws://127.0.0.1:0".to_owned(),
            Over::Unix => format!("unix:{}", dir.path().join("tap.sock").display()),
        };
        let mut command = command(dir.path());
        command.args(["tap", "--listen", &listen, "--connect", server]).args(more);
        let program = Program::start(&mut command, "listening on").unwrap();
        let said = program.said();
        let address = said.split_whitespace().nth(2).unwrap().to_owned();
        Tap { dir, program, address }
    }

    pub fn connect_bytes(&self) -> Box<dyn Ends> {
        connect_bytes(&self.address)
    }

    pub fn connect(&self) -> Socket {
        let stream = self.connect_bytes();
        // Over a unix socket there is no host to name; any will do.
        let request = "ws://localhost/";
        tungstenite::client::client_with_config(request, stream, Some(config()))
            .map_err(|_| "no handshake")
            .unwrap()
            .0
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The most memory it ever had, in MiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.program.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }
}

/// The program with an outbox, files and a log in that directory.
pub fn command(dir: &Path) -> Command {
    let mut command = factline(dir);
    command.env("FACTLINE_LOG", dir.join("log")).current_dir(dir);
    hears_signals(&mut command);
    command
}

pub fn connect_bytes(address: &str) -> Box<dyn Ends> {
    match address.strip_prefix("unix://") {
        Some(path) => {
            let stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Box::new(stream)
        }
        None => {
            let stream = TcpStream::connect(address.strip_prefix("ws://").unwrap()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            Box::new(stream)
        }
    }
}

/// Sends a text message and waits for its echo.
pub fn say(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).unwrap();
    assert_eq!(hear(socket), Message::text(text));
}

/// The next message that is no ping or pong.
pub fn hear(socket: &mut Socket) -> Message {
    loop {
        let message = socket.read().unwrap();
        if !message.is_ping() && !message.is_pong() {
            return message;
        }
    }
}
