//! The HTTP heads with which a WebSocket begins.

use std::net::IpAddr;

use httparse::{EMPTY_HEADER, Header, Status};

/// The longest head that is waited for; a longer one is nobody's handshake.
pub(super) const HEAD_BYTES: usize = 64 * 1024;

const HEADERS: usize = 128;

/// A head, as far as it has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head<T> {
    /// It may become one.
    Unfinished,
    /// It is none, and will be none.
    NotHttp,
    /// It is one of that length.
    Whole(usize, T),
}

/// What a request says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// It asks for a WebSocket.
    pub(super) upgrade: bool,
    /// Every `Host` names this machine as itself.
    pub(super) local_host: bool,
    /// It comes from a page that was not loaded from this machine.
    pub(super) foreign_origin: bool,
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
}

pub(super) fn request(bytes: &[u8]) -> Head<Request> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(bytes) {
        Ok(Status::Partial) => Head::Unfinished,
        Err(_) => Head::NotHttp,
        Ok(Status::Complete(len)) => {
            let upgrades =
                |value: &str| value.split(',').any(|it| it.trim().eq_ignore_ascii_case("websocket"));
            let request = Request {
                upgrade: values(parsed.headers, "upgrade").any(|value| value.is_some_and(upgrades)),
                local_host: values(parsed.headers, "host").all(|value| value.is_some_and(is_local)),
                foreign_origin: values(parsed.headers, "origin")
                    .any(|value| !value.and_then(|it| it.split_once("://")).is_some_and(|it| is_local(it.1))),
            };
            Head::Whole(len, request)
        }
    }
}

pub(super) fn answer(bytes: &[u8]) -> Head<Answer> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    match parsed.parse(bytes) {
        Ok(Status::Partial) => Head::Unfinished,
        Ok(Status::Complete(len)) => Head::Whole(len, Answer { status: parsed.code.unwrap_or_default() }),
        Err(_) => Head::NotHttp,
    }
}

/// The values of a header, None where one is no text.
fn values<'a>(headers: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = Option<&'a str>> {
    let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.map(|header| std::str::from_utf8(header.value).ok())
}

/// Whether `HOST[:PORT]` can mean nothing but the machine itself, wherever it is asked: no page of somebody else can
/// make a browser say so of its own server.
fn is_local(authority: &str) -> bool {
    let authority = authority.trim();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(host, _)| host),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let ip = host.parse::<IpAddr>().map(|ip| ip.to_canonical().is_loopback());
    ip.unwrap_or(host == "localhost" || host.ends_with(".localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &str) -> Request {
        let text = format!("GET /path HTTP/1.1\r\n{headers}\r\nand more");
        match request(text.as_bytes()) {
            Head::Whole(len, request) if &text[len..] == "and more" => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_asks_for_a_websocket_and_from_where() {
        let usual = asked("Host: 127.0.0.1:4500\r\nConnection: Upgrade\r\nupgrade: h2c, WebSocket\r\n");
        assert_eq!(usual, Request { upgrade: true, local_host: true, foreign_origin: false });
        assert!(!asked("Host: localhost\r\n").upgrade);
        for host in
            ["localhost", "LOCALHOST.:80", "a.localhost:1", "127.9.9.9", "[::1]:4500", "[::ffff:127.0.0.1]"]
        {
            assert!(asked(&format!("Host: {host}\r\n")).local_host, "{host}");
        }
        for host in
            ["evil.example:4500", "127.0.0.1.evil.example", "localhost.evil", "", "10.0.0.1", "\u{ff}"]
        {
            assert!(!asked(&format!("Host: {host}\r\n")).local_host, "{host}");
        }
        assert!(!asked("Host: localhost\r\nHost: evil.example\r\n").local_host);
        assert!(!asked("Origin: http://localhost:3000\r\n").foreign_origin);
        for origin in ["http://evil.example", "null", "vscode-webview://x", ""] {
            assert!(asked(&format!("Origin: {origin}\r\n")).foreign_origin, "{origin}");
        }
    }

    #[test]
    fn what_is_no_head_is_known_as_soon_as_it_can_be() {
        let whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for len in 0..whole.len() {
            assert_eq!(request(&whole[..len]), Head::Unfinished, "{len}");
        }
        for text in
            [&b"hello\n"[..], b"{\"id\":1}", b"\x16\x03\x01", b"\0", b"GET / HTTP/9\r\n", b"\x81\x05hello"]
        {
            assert_eq!(request(text), Head::NotHttp, "{}", text.escape_ascii());
        }
        assert_eq!(
            answer(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            Head::Whole(36, Answer { status: 101 })
        );
        assert_eq!(answer(b"HTTP/1.1 1"), Head::Unfinished);
        assert_eq!(answer(b"SSH-2.0"), Head::NotHttp);
    }
}
