//! Reading along with one connection: from its handshake to the lines that the observer gets.
//!
//! A connection begins for the observer when the server has agreed to a WebSocket. What is no WebSocket (a probe of
//! `/readyz`, a refused handshake, noise) passes like everything else and is nobody's message.

use std::sync::Arc;

use super::super::queue::Queue;
use super::frames::{Frames, Lines};
use super::head::{self, HEAD_BYTES, Head};
use super::notices::Notices;
use crate::protocol::{Ended, Sender, Transport};
use crate::tap::{CHUNK_BYTES, index};

/// One connection, read along with.
pub(super) struct Reading {
    queue: Arc<Queue>,
    notices: Arc<Notices>,
    transport: Transport,
    state: State,
    first_to_close: Option<Sender>,
    /// The observer sleeps, and is to be woken when the bytes are on their way.
    wake: bool,
}

enum State {
    /// HTTP so far.
    Http,
    /// A WebSocket was asked for; what has come of the answer.
    Asked(Vec<u8>),
    /// It is one.
    Open(u32, [Side; 2]),
    /// It is one, but there was no room for it.
    Unobserved,
}

/// One direction of a WebSocket.
enum Side {
    Frames(Frames, Vec<u8>),
    /// Passed on, and not understood any more.
    Blind,
}

impl Reading {
    pub(super) fn new(queue: Arc<Queue>, notices: Arc<Notices>, transport: Transport) -> Reading {
        Reading { queue, notices, transport, state: State::Http, first_to_close: None, wake: false }
    }

    /// What one side sent, before it is passed on: an answer must not be observed before its question.
    pub(super) fn read(&mut self, from: Sender, bytes: &[u8]) {
        match (&mut self.state, from) {
            (State::Http, Sender::Client) => self.requested(bytes),
            (State::Http, Sender::Server) => {}
            // It must wait for the answer. Whatever that is, it is no conversation that could be followed.
            (State::Asked(_), Sender::Client) => self.state = State::Http,
            (State::Asked(answer), Sender::Server) => {
                answer.extend_from_slice(bytes);
                self.answered();
            }
            (State::Open(..), _) => self.frames(from, bytes),
            (State::Unobserved, _) => self.queue.skip(0, from, bytes.len() as u64, false),
        }
    }

    /// What was read is on its way.
    pub(super) fn passed_on(&mut self) {
        if std::mem::take(&mut self.wake) {
            self.queue.wake();
        }
    }

    /// One side has ended.
    pub(super) fn closed(&mut self, from: Sender) {
        self.gone(from);
        self.cut(from);
    }

    /// One side takes nothing any more; it may still have said something.
    pub(super) fn gone(&mut self, from: Sender) {
        self.first_to_close.get_or_insert(from);
    }

    /// Everything has ended: because of who closed first, `otherwise` nobody did.
    pub(super) fn ended(&mut self, otherwise: Ended) {
        self.cut(Sender::Client);
        self.cut(Sender::Server);
        if let State::Open(conn, _) = self.state {
            let end = match self.first_to_close {
                Some(Sender::Client) => Ended::ClientClosed,
                Some(Sender::Server) => Ended::ServerExited,
                None => otherwise,
            };
            self.queue.end(conn, end);
        }
    }

    /// Nothing more comes. What came of a message is none: nobody at the other end has got it either.
    fn cut(&mut self, from: Sender) {
        let State::Open(conn, sides) = &mut self.state else { return };
        let side = std::mem::replace(&mut sides[index(from)], Side::Blind);
        if matches!(side, Side::Frames(frames, _) if frames.within_message()) {
            self.queue.skip(*conn, from, 0, true);
        }
        self.queue.close(*conn, from);
    }

    /// A client may ask more than once on one connection, each time with a request at the beginning of what it
    /// sends: it waits for the answers.
    fn requested(&mut self, bytes: &[u8]) {
        match head::request(bytes) {
            Head::Whole(len, request) if request.upgrade && len == bytes.len() => {
                self.state = State::Asked(Vec::new());
            }
            Head::Whole(_, request) if request.upgrade => {
                self.notices.say("a client did not wait for the answer to its handshake; it is not observed");
            }
            _ => {}
        }
    }

    fn answered(&mut self) {
        let State::Asked(answer) = &mut self.state else { return };
        let (len, status) = match head::answer(answer) {
            Head::Unfinished if answer.len() < HEAD_BYTES => return,
            Head::Unfinished | Head::NotHttp => (answer.len(), 0),
            Head::Whole(len, answer) => (len, answer.status),
        };
        let rest = answer.split_off(len);
        match status {
            101 => {}
            // An answer before the answer.
            100..200 => return self.read(Sender::Server, &rest),
            _ => {
                self.state = State::Http;
                return;
            }
        }
        let side = |from| Side::Frames(Frames::new(from), Vec::new());
        self.state = match self.queue.open(self.transport) {
            Some(conn) => State::Open(conn, [side(Sender::Client), side(Sender::Server)]),
            None => {
                self.notices.say("the observer is too far behind for another connection; it is not observed");
                State::Unobserved
            }
        };
        if !rest.is_empty() {
            self.read(Sender::Server, &rest);
        }
    }

    fn frames(&mut self, from: Sender, bytes: &[u8]) {
        let State::Open(conn, sides) = &mut self.state else { return };
        let side = &mut sides[index(from)];
        let Side::Frames(frames, lines) = side else {
            return self.queue.skip(*conn, from, bytes.len() as u64, false);
        };
        let mut feed = Feed { queue: &self.queue, conn: *conn, from, lines, wake: &mut self.wake };
        let read = frames.read(bytes, &mut feed);
        feed.hand_over();
        if frames.has_closed() {
            self.first_to_close.get_or_insert(from);
        }
        if let Err(why) = read {
            let (who, why) = (from.as_str(), why.0);
            self.notices.say(&format!(
                "connection {conn}: the {who}'s frames are no WebSocket any more ({why}); what it sends is passed \
                 on, and not observed"
            ));
            *side = Side::Blind;
        }
    }
}

/// The way of one direction's lines into the queue.
struct Feed<'a> {
    queue: &'a Queue,
    conn: u32,
    from: Sender,
    lines: &'a mut Vec<u8>,
    wake: &'a mut bool,
}

impl Feed<'_> {
    fn hand_over(&mut self) {
        if !self.lines.is_empty() {
            *self.wake |= self.queue.push(self.conn, self.from, self.lines.as_slice());
            self.lines.clear();
            self.lines.shrink_to(CHUNK_BYTES);
        }
    }
}

impl Lines for Feed<'_> {
    fn text(&mut self) -> &mut Vec<u8> {
        self.lines
    }

    fn skipped(&mut self, bytes: u64, ends: bool) {
        self.hand_over();
        self.queue.skip(self.conn, self.from, bytes, ends);
    }
}
