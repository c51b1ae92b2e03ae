//! The listening socket: for this machine's users only, unless somebody says otherwise.

use std::fmt;
use std::fs::{File, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use super::{Address, stream::Stream};

/// How many may wait to be accepted.
const WAITING: i32 = 128;

/// A socket that listens. Dropping it removes the file of a unix socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
    /// Whether other machines may reach it.
    pub(super) remote: bool,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, path: PathBuf, file: (u64, u64) },
}

/// The socket can't listen.
#[derive(Debug)]
pub struct ListenError {
    address: Address,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Wildcard,
    Remote(IpAddr),
    Unresolved(io::Error),
    InUse,
    NoSocket,
    TooLong,
    Other(io::Error),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't listen on {}: ", self.address)?;
        match &self.why {
            Why::Wildcard => write!(
                f,
                "that is every address of this machine; name one, 127.0.0.1 unless other machines are meant"
            ),
            Why::Remote(ip) => write!(
                f,
                "{ip} can be reached from other machines, and the relay asks nobody who he is; use 127.0.0.1 or \
                 a unix socket, or say --allow-remote where the server itself does"
            ),
            Why::Unresolved(error) => write!(f, "no address is known for this name ({error}); use 127.0.0.1"),
            Why::InUse => write!(f, "somebody listens there already; choose another address"),
            Why::NoSocket => {
                write!(f, "there is something else than a socket, which stays; choose another path")
            }
            Why::TooLong => {
                write!(f, "the path is too long for a socket (about 100 bytes); choose a shorter one")
            }
            Why::Other(error) if error.kind() == io::ErrorKind::NotFound => {
                write!(f, "its directory does not exist; create it first")
            }
            Why::Other(error) => write!(f, "{error}; choose an address that this user may listen on"),
        }
    }
}

impl std::error::Error for ListenError {}

impl Listener {
    /// Listens there. A unix socket's file is for its owner alone; one that nobody listens on any more is
    /// replaced. Addresses that other machines reach are refused unless `remote`, and "every address" always is.
    ///
    /// # Errors
    ///
    /// The address is refused, in use, or not this machine's.
    pub fn bind(address: &Address, remote: bool) -> Result<Listener, ListenError> {
        let failed = |why| ListenError { address: address.clone(), why };
        let (socket, address) = match address {
            Address::Tcp { host, port } => {
                let listener = tcp(host, *port, remote).map_err(failed)?;
                let bound = listener.local_addr().map_err(|error| failed(Why::Other(error)))?;
                let address = Address::Tcp { host: host.clone(), port: bound.port() };
                (Socket::Tcp(listener), address)
            }
            Address::Unix(path) => (unix(path).map_err(failed)?, address.clone()),
        };
        Ok(Listener { socket, address, remote })
    }

    /// Where it listens: the port is the real one also where 0 was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn make_ready(&self) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(listener) => listener.set_nonblocking(true),
            Socket::Unix { listener, .. } => listener.set_nonblocking(true),
        }
    }

    pub(super) fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Socket::Unix { listener, .. } => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        }
    }

    /// Whether connecting to that address would come back here.
    pub fn is(&self, other: &Address) -> bool {
        match (&self.socket, other) {
            (Socket::Tcp(listener), Address::Tcp { host, port }) => {
                let own = listener.local_addr().ok();
                let mut others = (host.as_str(), *port).to_socket_addrs().into_iter().flatten();
                others.any(|other| Some(other) == own)
            }
            (Socket::Unix { file, .. }, Address::Unix(path)) => file_of(path).ok() == Some(*file),
            _ => false,
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix { listener, .. } => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix { path, file, .. } = &self.socket
            && file_of(path).ok() == Some(*file)
        {
            // What can't be removed is replaced by the next who listens there.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn tcp(host: &str, port: u16, remote: bool) -> Result<TcpListener, Why> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(Why::Unresolved)?.collect();
    for ip in addresses.iter().map(|address| address.ip().to_canonical()) {
        if ip.is_unspecified() {
            return Err(Why::Wildcard);
        }
        if !ip.is_loopback() && !remote {
            return Err(Why::Remote(ip));
        }
    }
    TcpListener::bind(addresses.as_slice()).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Why::InUse,
        _ => Why::Other(error),
    })
}

fn unix(path: &Path) -> Result<Socket, Why> {
    let address = SocketAddrUnix::new(path).map_err(|_| Why::TooLong)?;
    let other = |errno: rustix::io::Errno| Why::Other(errno.into());
    // Two who replace one leftover file must not replace each other's.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = File::open(dir).map_err(Why::Other)?;
    flock(&dir, FlockOperation::LockExclusive).map_err(other)?;
    remove_leftover(path)?;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None).map_err(other)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).map_err(other)?;
    bind(&socket, &address).map_err(other)?;
    // Between bind and listen nobody can connect, so nobody can before the mode is right.
    let ready = std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .and_then(|()| listen(&socket, WAITING).map_err(io::Error::from))
        .and_then(|()| file_of(path));
    match ready {
        Ok(file) => Ok(Socket::Unix { listener: UnixListener::from(socket), path: path.into(), file }),
        Err(error) => {
            let _ = std::fs::remove_file(path);
            Err(Why::Other(error))
        }
    }
}

/// Makes room where a socket's file was left by somebody who is gone.
fn remove_leftover(path: &Path) -> Result<(), Why> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Why::Other(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(Why::NoSocket),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(Why::Other)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Why::Other(error)),
        // Also one that is merely busy is somebody's.
        _ => Err(Why::InUse),
    }
}

/// Which file a path leads to: device and number.
fn file_of(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|found| (found.dev(), found.ino()))
}
