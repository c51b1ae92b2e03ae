//! Lines of JSON-RPC, from both sides, in any order: the observer takes them all.
#![no_main]

use factline::fact::Capture;
use factline::protocol::{Ended, Observer, Sender, Transport};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut observer = Observer::new(Capture::NONE);
    observer.open(1, Transport::Stdio, 0);
    for (at, line) in input.split(|byte| *byte == b'\n').enumerate() {
        let sender = if line.first().is_some_and(|byte| byte % 2 == 0) { Sender::Client } else { Sender::Server };
        // What is behind the byte that says whose it is; the time runs back at times.
        let time = 1_000_000 + (at as u64 ^ u64::from(line.get(1).copied().unwrap_or(0)));
        observer.message(1, sender, time, line.get(1..).unwrap_or_default());
    }
    observer.end(1, 2_000_000, Ended::ServerExited);
    observer.finish(Ended::ServerExited);
    assert_eq!(observer.open_turns(), 0);
});
