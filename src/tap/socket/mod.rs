//! The tap on sockets: clients connect to us, and we to the server, once for each (WebSocket over TCP or a unix
//! socket).
//!
//! ```text
//!   client 1 ──▶ listener ──thread──▶ server           signals sent to us ──▶ child, if there is one
//!   client 2 ──▶     │    ──thread──▶ server           child's exit       ──▶ our exit
//!                    │ copies: handshake, frames
//!                    ▼
//!               one bounded queue ──▶ one observer
//! ```
//!
//! What the relay promises beside what the one on pipes does:
//!
//! - **Bytes pass unchanged**, the handshake included: extensions, subprotocols, authorisation, pings and what breaks
//!   the protocol are between the two. So the server sees what it would see directly, and decides.
//! - **It opens no door that was closed.** It listens on this machine only, on a unix socket for its owner only. A
//!   request that names another host (a page whose name leads here for a moment) is refused, and where the server
//!   listens on a unix socket and we on TCP, one from a page of elsewhere as well.
//! - **One connection can't hurt another**: each has a thread and at most two reads of memory; all unfinished
//!   messages together are bounded, and so is their number. Further clients wait to be accepted.
//! - **A server that is away** costs each client its connection, nothing else; we go on listening.

mod address;
mod frames;
mod head;
mod listen;
mod notices;
mod reading;
mod relay;
mod stream;

pub use address::{Address, AddressError};
pub use listen::{ListenError, Listener};

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, PipeReader};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::life::Life;
use super::queue::Queue;
use super::run::exit_code;
use super::signals::Signals;
use super::{BACKLOG_BYTES, Ended, Exit, LINE_LIMIT, Observer, StartError, start, watch};
use crate::protocol::Transport;
use notices::Notices;
use reading::Reading;
use relay::{Door, Over};
use stream::Stream;

/// How many connections there may be at a time: each takes two descriptors, and two more where it is recorded.
const CONNECTIONS: usize = 200;

/// How long a client waits for a server that we start to listen.
const SERVER_STARTS: Duration = Duration::from_secs(10);

/// How long connections may take to end by themselves when the server has ended.
const SERVER_ENDED: Duration = Duration::from_secs(1);

/// How long they may take when we told them to.
const STOPPED: Duration = Duration::from_millis(200);

/// How long the end waits for the observer: longer than on pipes, where somebody waits for the server that ended.
const OBSERVED: Duration = Duration::from_millis(500);

/// Where to listen, where to connect, and the bounds of the observation.
#[derive(Debug)]
pub struct Sockets {
    /// Where clients connect.
    pub listener: Listener,
    /// Where the server is.
    pub connect: Address,
    /// The server's program and arguments, to be started and waited for; None where somebody else runs it.
    pub command: Option<Vec<OsString>>,
    /// Variables of ours that the command does not get: our own credentials.
    pub hidden: Vec<String>,
    /// The longest message that is handed out whole, in bytes.
    pub line_limit: usize,
    /// What may wait for the observer, in bytes.
    pub backlog_bytes: usize,
}

impl Sockets {
    /// The default bounds, [`LINE_LIMIT`] and [`BACKLOG_BYTES`].
    pub fn new(listener: Listener, connect: Address, command: Option<Vec<OsString>>) -> Sockets {
        Sockets {
            listener,
            connect,
            command,
            hidden: Vec::new(),
            line_limit: LINE_LIMIT,
            backlog_bytes: BACKLOG_BYTES,
        }
    }
}

/// Relays until the server that it started has ended, or, without one, until a signal ends it: then the code is 0.
/// `ready` is called when clients are served and signals are heard; `say` is told what an operator may want to know:
/// no content, but text that others made.
///
/// Catches the signals of this process for good: call it once, and leave with [`Exit::code`] when it returns.
///
/// # Errors
///
/// The server could not be started, or the relay not be set up; then no child is running.
pub fn serve(
    sockets: Sockets,
    observer: impl Observer + 'static,
    ready: impl FnOnce(),
    say: impl Fn(&str) + Send + Sync + 'static,
) -> Result<Exit, StartError> {
    let Sockets { listener, connect, command, hidden, line_limit, backlog_bytes } = sockets;
    let name = listener.address().to_string();
    let ourselves = |error| StartError::ourselves(OsStr::new(&name), error);
    // Caught before there is a child, or a signal in between would end us and leave the child behind.
    let signals = Signals::catch().map_err(ourselves)?;
    let (stopped_accepting, accepting) = io::pipe().map_err(ourselves)?;
    let (stopped_relaying, relaying) = io::pipe().map_err(ourselves)?;
    listener.make_ready().map_err(ourselves)?;
    let queue = Arc::new(Queue::new(backlog_bytes));
    watch::start(Arc::clone(&queue), observer, line_limit).map_err(ourselves)?;

    let mut child = command.as_deref().map(|command| start::start_beside(command, &hidden)).transpose()?;
    let life = Arc::new(child.as_ref().map_or_else(Life::alone, Life::of));
    let shared = Arc::new(Shared {
        door: door(&listener, &connect),
        transport: match listener.address() {
            Address::Tcp { .. } => Transport::WebSocket,
            Address::Unix(_) => Transport::Unix,
        },
        connect,
        queue: Arc::clone(&queue),
        notices: Arc::new(Notices::new(Box::new(say))),
        server: child.is_some().then(|| Arc::clone(&life)),
        stopped: stopped_relaying,
        live: Mutex::new(0),
        changed: Condvar::new(),
    });
    let accepter = {
        let shared = Arc::clone(&shared);
        thread::Builder::new()
            .name("tap-accept".into())
            .spawn(move || accept(&listener, &stopped_accepting, &shared))
    };
    if let Err(error) =
        accepter.as_ref().map(drop).map_err(clone).and_then(|()| signals.pass_on(Arc::clone(&life)))
    {
        if let Some(mut child) = child {
            let _ = child.kill();
            let _ = child.wait();
        }
        return Err(ourselves(error));
    }

    ready();
    let status = match &mut child {
        Some(child) => Some(life.wait_for(child)),
        None => {
            life.wait_until_told();
            None
        }
    };
    drop(accepting);
    if status.is_some() {
        shared.wait_until_none(SERVER_ENDED);
    }
    drop(relaying);
    shared.wait_until_none(STOPPED);
    // It removes its file.
    let _ = accepter.map(thread::JoinHandle::join);
    let signal = status.flatten().and_then(|status| status.signal());
    queue.finish(match (status, signal) {
        (None, _) => Ended::ClientClosed,
        (_, Some(_)) => Ended::Killed,
        (_, None) => Ended::ServerExited,
    });
    let (observer, unobserved_bytes) = queue.wait_for_observer(OBSERVED);
    Ok(Exit { code: status.map_or(0, exit_code), signal, observer, unobserved_bytes })
}

fn clone(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

fn door(listener: &Listener, connect: &Address) -> Door {
    match (listener.address(), connect) {
        (Address::Unix(_), _) => Door::Open,
        _ if listener.remote => Door::Open,
        (Address::Tcp { .. }, Address::Tcp { .. }) => Door::Local,
        (Address::Tcp { .. }, Address::Unix(_)) => Door::LocalPages,
    }
}

/// What all connections share.
struct Shared {
    door: Door,
    transport: Transport,
    connect: Address,
    queue: Arc<Queue>,
    notices: Arc<Notices>,
    /// The server's life where we started it.
    server: Option<Arc<Life>>,
    /// Its other end is closed when connections have to end.
    stopped: PipeReader,
    live: Mutex<usize>,
    changed: Condvar,
}

impl Shared {
    fn enter(&self) -> usize {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        *live += 1;
        *live
    }

    fn leave(&self) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.changed.notify_all();
    }

    fn wait_until_none(&self, grace: Duration) {
        self.wait_until(grace, |live| live == 0);
    }

    fn wait_until(&self, grace: Duration, enough: impl Fn(usize) -> bool) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever is left after that is left behind.
        drop(self.changed.wait_timeout_while(live, grace, |live| !enough(*live)));
    }

    /// Whether there are too many, after giving one the time to leave.
    fn is_full(&self) -> bool {
        self.wait_until(Duration::from_millis(100), |live| live < CONNECTIONS);
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) >= CONNECTIONS
    }
}

/// One connection that is counted, until it is over.
struct Leaves(Arc<Shared>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Whether the other end is closed, or will be within that time.
fn is_stopped(pipe: &PipeReader, within: Duration) -> bool {
    let mut fds = [PollFd::new(pipe, PollFlags::empty())];
    let within = Timespec { tv_sec: 0, tv_nsec: within.subsec_nanos().into() };
    poll(&mut fds, Some(&within)).is_ok_and(|ready| ready > 0)
}

fn accept(listener: &Listener, stopped: &PipeReader, shared: &Arc<Shared>) {
    loop {
        let mut fds = [PollFd::new(stopped, PollFlags::empty()), PollFd::new(listener, PollFlags::IN)];
        while let Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) = poll(&mut fds, None) {}
        if fds.first().is_some_and(|stopped| !stopped.revents().is_empty()) {
            return;
        }
        match listener.accept() {
            Ok(client) => {
                let live = shared.enter();
                let theirs = Arc::clone(shared);
                let name = thread::Builder::new().name("tap-connection".into());
                let spawned = name.spawn(move || {
                    // Also where a fault of ours ends the thread.
                    let leaves = Leaves(theirs);
                    connection(client, &leaves.0);
                });
                if let Err(error) = spawned {
                    shared.leave();
                    shared.notices.say(&format!("a client was turned away: no thread for it ({error})"));
                } else if live >= CONNECTIONS {
                    shared.notices.say(&format!("{live} connections: further ones wait"));
                    while !is_stopped(stopped, Duration::ZERO) && shared.is_full() {}
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) => {}
            Err(error) => {
                // Out of descriptors, mostly: others are about to give some back.
                shared.notices.say(&format!("can't accept a client now: {error}"));
                is_stopped(stopped, Duration::from_millis(100));
            }
        }
    }
}

fn connection(client: Stream, shared: &Shared) {
    let server = match connect(shared) {
        Ok(server) => server,
        Err(error) => return shared.notices.away(&shared.connect, &error),
    };
    shared.notices.there(&shared.connect);
    if let Err(error) = client.make_ready().and_then(|()| server.make_ready()) {
        return shared.notices.say(&format!("a connection could not be set up: {error}"));
    }
    let mut reading = Reading::new(Arc::clone(&shared.queue), Arc::clone(&shared.notices), shared.transport);
    let over = relay::relay(&client, &server, shared.door, shared.stopped.as_fd(), &mut reading);
    reading.ended(Ended::ClientClosed);
    if over == Over::Refused {
        shared.notices.say(
            "a client was refused: its request names another host than this machine, or comes from a page of \
             elsewhere, as one does that a browser was tricked into",
        );
    }
}

/// Connects to the server. One that we have just started may need a moment.
fn connect(shared: &Shared) -> io::Result<Stream> {
    let began = Instant::now();
    loop {
        let connected = Stream::connect(&shared.connect);
        let may_come =
            |error: &io::Error| matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound);
        match (connected, &shared.server) {
            (Err(error), Some(server))
                if may_come(&error) && began.elapsed() < SERVER_STARTS && !server.child_is_gone() =>
            {
                if is_stopped(&shared.stopped, Duration::from_millis(20)) {
                    return Err(error);
                }
            }
            (connected, _) => return connected,
        }
    }
}
