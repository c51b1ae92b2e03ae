//! WebSocket frames of one direction, read along with as they pass (RFC 6455, section 5).
//!
//! Nothing is held but the header of a frame: what a frame announces costs nothing until it comes, and goes on as it
//! comes. Each text message becomes one line. A line feed within it becomes a carriage return: in JSON both are the
//! same white space, and equally wrong within a string.

use crate::protocol::Sender;

/// Where the lines go.
pub(super) trait Lines {
    /// A part of a line, or the newline that ends it.
    fn text(&mut self) -> &mut Vec<u8>;

    /// That many bytes of a message were not read along with; `ends` when that was its end.
    fn skipped(&mut self, bytes: u64, ends: bool);
}

/// The stream is no WebSocket any more: what breaks which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation(pub(super) &'static str);

/// A reader of one direction.
#[derive(Debug)]
pub(super) struct Frames {
    from: Sender,
    header: [u8; 14],
    have: usize,
    /// Set while a payload comes.
    payload: Option<Payload>,
    /// The message that frames are part of.
    message: Option<Kind>,
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    /// Binary, or compressed: no text that anybody here could read.
    Other,
    Control,
}

#[derive(Debug)]
struct Payload {
    kind: Kind,
    left: u64,
    mask: [u8; 4],
    /// Whether the message ends with it.
    last: bool,
}

impl Frames {
    pub(super) fn new(from: Sender) -> Frames {
        Frames { from, header: [0; 14], have: 0, payload: None, message: None, closed: false }
    }

    /// Whether the sender has said that it closes.
    pub(super) fn has_closed(&self) -> bool {
        self.closed
    }

    /// Whether a message has begun and not ended.
    pub(super) fn within_message(&self) -> bool {
        self.message.is_some()
    }

    /// Reads what came.
    ///
    /// # Errors
    ///
    /// It breaks the protocol, and what came after that was skipped; the rest of the stream is not to be read.
    pub(super) fn read(&mut self, mut bytes: &[u8], to: &mut impl Lines) -> Result<(), Violation> {
        let read = self.read_from(&mut bytes, to);
        if read.is_err() {
            to.skipped(bytes.len() as u64, false);
        }
        read
    }

    fn read_from(&mut self, bytes: &mut &[u8], to: &mut impl Lines) -> Result<(), Violation> {
        loop {
            if let Some(payload) = &mut self.payload {
                let len = usize::try_from(payload.left).unwrap_or(usize::MAX).min(bytes.len());
                let (now, rest) = bytes.split_at(len);
                *bytes = rest;
                payload.take(now, to);
                if payload.left > 0 {
                    return Ok(());
                }
                if payload.last {
                    self.message = None;
                }
                self.payload = None;
            }
            let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
            if self.closed {
                return Err(Violation("something follows a close frame"));
            }
            *bytes = rest;
            if let Some(space) = self.header.get_mut(self.have) {
                *space = *first;
                self.have += 1;
            }
            if let Some(payload) = self.begin()? {
                if payload.left == 0 && payload.last && payload.kind == Kind::Text {
                    to.text().push(b'\n');
                } else if payload.left == 0 && payload.last && payload.kind == Kind::Other {
                    to.skipped(0, true);
                }
                self.have = 0;
                self.payload = Some(payload);
            }
        }
    }

    /// The frame that the header announces, once that is whole.
    fn begin(&mut self) -> Result<Option<Payload>, Violation> {
        let header = self.header.get(..self.have).unwrap_or_default();
        let [first, second, rest @ ..] = header else { return Ok(None) };
        let (last, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
        let (masked, short) = (second & 0x80 != 0, second & 0x7f);
        if reserved & 0x30 != 0 {
            return Err(Violation("reserved bits are set"));
        }
        if masked != (self.from == Sender::Client) {
            return Err(Violation(if masked { "a server masks" } else { "a client does not mask" }));
        }
        let (len, rest) = match short {
            126 => match rest {
                [a, b, rest @ ..] => (u64::from(u16::from_be_bytes([*a, *b])), rest),
                _ => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        if len >> 63 != 0 {
            return Err(Violation("a frame is longer than any may be"));
        }
        let mask = match rest.first_chunk::<4>() {
            Some(mask) => *mask,
            None if masked => return Ok(None),
            None => [0; 4],
        };
        let compressed = reserved != 0;
        let kind = match (opcode, self.message) {
            (0, Some(kind)) if !compressed => kind,
            (0, None) => return Err(Violation("a continuation continues nothing")),
            (1 | 2, Some(_)) => return Err(Violation("a message begins within another")),
            (1, None) if !compressed => Kind::Text,
            (1 | 2, None) => Kind::Other,
            (8..=10, _) if compressed || !last || len > 125 => {
                return Err(Violation("a control frame is long, in parts or compressed"));
            }
            (8..=10, _) => Kind::Control,
            _ => return Err(Violation("a frame is of no known kind")),
        };
        self.closed |= opcode == 8;
        if kind != Kind::Control {
            self.message = Some(kind);
        }
        // A control frame lies between those of a message and ends nothing.
        Ok(Some(Payload { kind, left: len, mask, last: last && kind != Kind::Control }))
    }
}

impl Payload {
    /// The next part of it; ends the line when it was the last.
    fn take(&mut self, part: &[u8], to: &mut impl Lines) {
        if part.is_empty() {
            return;
        }
        self.left -= part.len() as u64;
        let ends = self.left == 0 && self.last;
        match self.kind {
            Kind::Control => {}
            Kind::Other => to.skipped(part.len() as u64, ends),
            Kind::Text => {
                let text = to.text();
                let start = text.len();
                text.extend_from_slice(part);
                unmask(text.get_mut(start..).unwrap_or_default(), self.mask);
                if ends {
                    text.push(b'\n');
                }
            }
        }
        self.mask.rotate_left(part.len() % 4);
    }
}

/// Applies the mask, and makes carriage returns of line feeds.
fn unmask(text: &mut [u8], mask: [u8; 4]) {
    // Four at a time, which the compiler makes more of.
    for four in text.chunks_mut(4) {
        for (byte, key) in four.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    for byte in text {
        *byte = if *byte == b'\n' { b'\r' } else { *byte };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Default, PartialEq)]
    struct Read {
        text: Vec<u8>,
        skipped: Vec<(u64, bool)>,
    }

    impl Lines for Read {
        fn text(&mut self) -> &mut Vec<u8> {
            &mut self.text
        }
        fn skipped(&mut self, bytes: u64, ends: bool) {
            self.skipped.push((bytes, ends));
        }
    }

    fn read(from: Sender, stream: &[u8], size: usize) -> (Read, Result<(), Violation>, Frames) {
        let (mut frames, mut to, mut ended) = (Frames::new(from), Read::default(), Ok(()));
        for part in stream.chunks(size.max(1)) {
            ended = ended.and_then(|()| frames.read(part, &mut to));
        }
        (to, ended, frames)
    }

    /// The examples of RFC 6455, section 5.7.
    #[test]
    fn the_frames_of_the_specification() {
        let whole: [(Sender, &[u8], &[u8]); 4] = [
            (Sender::Server, b"\x81\x05\x48\x65\x6c\x6c\x6f", b"Hello\n"),
            (Sender::Client, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", b"Hello\n"),
            (Sender::Server, b"\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f", b"Hello\n"),
            (Sender::Server, b"\x01\x03Hel\x89\x05Hello\x80\x02lo\x81\x00", b"Hello\n\n"),
        ];
        for (from, stream, text) in whole {
            for size in 1..=stream.len() {
                let (got, ended, frames) = read(from, stream, size);
                assert_eq!((got.text.as_slice(), ended), (text, Ok(())));
                assert!(!frames.within_message());
            }
        }
        for (length, head) in [(256, &b"\x81\x7e\x01\x00"[..]), (65536, b"\x81\x7f\0\0\0\0\0\x01\0\0")] {
            let (got, ended, _) = read(Sender::Server, &[head, &vec![b'x'; length]].concat(), 1000);
            assert_eq!((got.text.len(), ended), (length + 1, Ok(())));
        }
    }

    #[test]
    fn what_breaks_the_rules_ends_the_reading() {
        let cases: [(Sender, &[u8], &str); 9] = [
            (Sender::Client, b"\x81\x05", "does not mask"),
            (Sender::Server, b"\x81\x85", "masks"),
            (Sender::Server, b"\xa1\x00", "reserved"),
            (Sender::Server, b"\x83\x00", "no known kind"),
            (Sender::Server, b"\x80\x00", "continues nothing"),
            (Sender::Server, b"\x01\x00\x81\x00", "within another"),
            (Sender::Server, b"\x89\x7e\x01\x00", "control"),
            (Sender::Server, b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "longer"),
            (Sender::Server, b"\x88\x00\x81\x00", "close"),
        ];
        for (from, stream, why) in cases {
            let (_, ended, _) = read(from, stream, 1);
            assert!(ended.unwrap_err().0.contains(why), "{why}");
        }
    }

    #[test]
    fn what_is_no_text_is_counted_and_what_is_announced_costs_nothing() {
        let (got, ended, frames) = read(Sender::Server, b"\x02\x02ab\x80\x01c\x81\x01d\xc1\x01z", 100);
        assert_eq!((got.text.as_slice(), ended), (&b"d\n"[..], Ok(())));
        assert_eq!(got.skipped, [(2, false), (1, true), (1, true)]);
        assert!(!frames.within_message());
        let (got, ended, frames) = read(Sender::Server, b"\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xffab\ncd", 3);
        assert_eq!((got.text.as_slice(), ended), (&b"ab\rcd"[..], Ok(())));
        assert!(frames.within_message() && got.text.capacity() < 1000);
    }

    /// Frames by the book, without masking where the key is zero.
    fn frame(from: Sender, first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let masked = if from == Sender::Client { 0x80 } else { 0 };
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..126 => frame.push(masked | len as u8),
            len => frame.extend([&[masked | 126][..], &(len as u16).to_be_bytes()].concat()),
        }
        if masked > 0 {
            frame.extend(mask);
        }
        let key = if masked > 0 { mask } else { [0; 4] };
        frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
        frame
    }

    proptest! {
        #[test]
        fn any_fragments_masks_and_chunks_give_the_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            cuts in prop::collection::vec(1usize..200, 1..20), mask in any::<[u8; 4]>(), size in 1usize..500,
            from in prop_oneof![Just(Sender::Client), Just(Sender::Server)], ping in any::<bool>()) {
            let (mut stream, mut lines, mut cuts) = (Vec::new(), Vec::new(), cuts.iter().cycle());
            for message in &messages {
                let (mut rest, mut opcode) = (&message[..], 1);
                loop {
                    let (part, more) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                    let last = if more.is_empty() { 0x80 } else { 0 };
                    stream.extend(frame(from, last | opcode, mask, part));
                    if ping { stream.extend(frame(from, 0x89, mask, b"ping")); }
                    (rest, opcode) = (more, 0);
                    if last > 0 { break; }
                }
                lines.extend(message.iter().map(|byte| if *byte == b'\n' { b'\r' } else { *byte }));
                lines.push(b'\n');
            }
            let (got, ended, frames) = read(from, &stream, size);
            prop_assert_eq!(ended, Ok(()));
            prop_assert_eq!(got.text, lines);
            prop_assert!(!frames.within_message() && got.skipped.is_empty());
        }

        #[test]
        fn noise_is_read_or_refused(stream in prop::collection::vec(any::<u8>(), 0..400), size in 1usize..50) {
            let (got, _, _) = read(Sender::Client, &stream, size);
            prop_assert!(got.text.len() <= stream.len());
        }
    }
}
