//! Connections that break, freeze and lead nowhere; servers that say whatever they like.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Calls `serve` with the number of each connection, from 0, on a thread of its own.
pub fn serve(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, serve) = (listener.local_addr().unwrap(), Arc::new(serve));
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (serve, stream) = (Arc::clone(&serve), stream.unwrap());
            std::thread::spawn(move || serve(number, stream));
        }
    });
    address
}

/// Reads a request over HTTP/1 to the end of its body; whether there was one.
pub fn read_request(stream: &mut TcpStream) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    stream.read_exact(&mut vec![0; length.parse().unwrap()]).is_ok()
}

/// Ends a connection with a reset.
pub fn reset(stream: TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let _inside = runtime.enter();
    tokio::net::TcpStream::from_std(stream).unwrap().set_zero_linger().unwrap();
}

/// An address on this machine where packets that ask for a connection are dropped: the queue of its listener, that
/// never accepts, is full (as `net.ipv4.tcp_abort_on_overflow` has it by default).
pub struct BlackHole {
    pub address: SocketAddr,
    _held: (tokio::runtime::Runtime, tokio::net::TcpListener, Vec<TcpStream>),
}

impl BlackHole {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let listener = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            socket.listen(1).unwrap()
        });
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            waiting.push(stream);
            assert!(waiting.len() < 100, "its queue never fills");
        }
        Self { address, _held: (runtime, listener, waiting) }
    }
}

/// What a relay does to the connections that it carries.
#[derive(Clone, Default)]
pub struct Switch(Arc<Inside>);

#[derive(Default)]
struct Inside {
    cut: AtomicBool,
    /// Connections below this number carry nothing any more, and stay open.
    frozen: AtomicUsize,
}

impl Switch {
    /// The first connection is reset instead of carrying what the server says next.
    pub fn cut(&self) {
        self.0.cut.store(true, Ordering::SeqCst);
    }

    /// What goes over the connections that are there is lost from now on, both ways.
    pub fn freeze(&self) {
        self.0.frozen.store(1, Ordering::SeqCst);
    }
}

/// Carries bytes to `target` and back.
pub fn relay(target: SocketAddr, switch: &Switch) -> SocketAddr {
    let switch = switch.clone();
    serve(move |number, near| {
        let far = TcpStream::connect(target).unwrap();
        let (there, back) = ((near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near));
        std::thread::scope(|scope| {
            for (answers, (from, to)) in [(false, there), (true, back)] {
                let switch = &switch;
                scope.spawn(move || carry(number, answers, from, to, switch));
            }
        });
    })
}

fn carry(number: usize, answers: bool, mut from: TcpStream, mut to: TcpStream, switch: &Switch) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if answers && number == 0 && switch.0.cut.load(Ordering::SeqCst) {
            let _ = from.shutdown(Shutdown::Both);
            return reset(to);
        }
        if number < switch.0.frozen.load(Ordering::SeqCst) {
            continue;
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    if number >= switch.0.frozen.load(Ordering::SeqCst) {
        let _ = to.shutdown(Shutdown::Write);
    }
}
