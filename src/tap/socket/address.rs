//! Where a socket is: `ws://HOST:PORT`, `HOST:PORT`, `unix://PATH` or `unix:PATH`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of a socket, as app servers and their clients write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP, with WebSocket inside.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket, with WebSocket inside.
    Unix(PathBuf),
}

/// The text names no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(&'static str);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; write ws://127.0.0.1:4500 or unix:/path/to/socket", self.0)
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(AddressError("it names no path")),
                path if path.contains('\0') => Err(AddressError("a path can't hold a NUL")),
                path => Ok(Address::Unix(path.into())),
            };
        }
        let rest = match text.split_once("://") {
            Some(("ws", rest)) => rest,
            Some(("wss" | "https", _)) => {
                return Err(AddressError("the relay reads along, so it belongs on the side without TLS"));
            }
            Some(_) => return Err(AddressError("only ws:// and unix:// are spoken")),
            None if text.starts_with(['/', '.', '~']) => {
                return Err(AddressError("a path needs unix: before it"));
            }
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(AddressError("it has more than a host and a port; the path comes from each client"));
        }
        if rest.contains('@') {
            return Err(AddressError("credentials come from each client"));
        }
        let (host, port) = rest.rsplit_once(':').ok_or(AddressError("it has no port"))?;
        let port = port.parse().map_err(|_| AddressError("its port is no number up to 65535"))?;
        let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match (inside, host) {
            (Some(host), _) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
                Ok(Address::Tcp { host: host.into(), port })
            }
            (Some(_), _) => Err(AddressError("what stands in brackets is no IPv6 address")),
            (None, "") => Err(AddressError("it names no host")),
            (None, host) if host.contains(':') => {
                Err(AddressError("an IPv6 address stands in brackets, as in [::1]:4500"))
            }
            (None, host) => Ok(Address::Tcp { host: host.into(), port }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "ws://[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "ws://{host}:{port}"),
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_address() {
        let tcp = |host: &str, port| Ok(Address::Tcp { host: host.into(), port });
        assert_eq!("ws://127.0.0.1:4500".parse(), tcp("127.0.0.1", 4500));
        assert_eq!("ws://127.0.0.1:4500/".parse(), tcp("127.0.0.1", 4500));
        assert_eq!("localhost:0".parse(), tcp("localhost", 0));
        assert_eq!("ws://[::1]:1".parse(), tcp("::1", 1));
        for unix in ["unix:/run/a b.sock", "unix:///run/a b.sock"] {
            assert_eq!(unix.parse(), Ok(Address::Unix("/run/a b.sock".into())));
        }
        for text in ["ws://127.0.0.1:4500", "ws://[::1]:1", "unix:///run/a.sock", "unix://near.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_none_says_why_and_what_to_write() {
        let cases = [
            ("", "no port"),
            ("4500", "no port"),
            (":4500", "no host"),
            ("127.0.0.1:65536", "65535"),
            ("127.0.0.1:", "port"),
            ("::1:4500", "brackets"),
            ("[nonsense]:4500", "IPv6"),
            ("wss://host:1", "TLS"),
            ("http://host:1", "ws://"),
            ("ws://host:1/path", "path comes from each client"),
            ("ws://user@host:1", "credentials"),
            ("/run/app.sock", "unix:"),
            ("unix:", "no path"),
        ];
        for (text, why) in cases {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("; write ws://"), "{text:?}: {error}");
        }
    }
}
