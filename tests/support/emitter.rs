//! A process that appends numbered records to an outbox as fast as it is told to, and says over a socket which
//! were accepted. The test program starts itself again in this role; what it says is the oracle.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use factline::outbox::{Accept, Outbox, Queue, Record, Refused, Settings, Transaction, WhenFull};
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message as _;
use serde_json::{Value, json};

const VARIABLE: &str = "FACTLINE_TEST_EMITTER";

/// Who appended it (a thread of a process), and its number there, from 0.
pub type Id = (u64, u64);

/// What the records belong to.
pub fn header() -> Vec<u8> {
    let resource = ResourceLogs { schema_url: "a resource".into(), ..Default::default() }.encode_to_vec();
    let scope = ScopeLogs { schema_url: "a scope".into(), ..Default::default() }.encode_to_vec();
    [&(resource.len() as u32).to_le_bytes()[..], &resource, &scope].concat()
}

/// The words of a record; nothing of it can change without being noticed.
fn words((writer, number): Id) -> String {
    let seed = writer.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number;
    let filler = (0..seed % 300).map(|i| char::from(b'a' + ((seed >> (i % 50)) % 26) as u8));
    format!("{writer} {number} {}", filler.collect::<String>())
}

/// A log record as the outbox keeps it.
pub fn payload(id: Id) -> Vec<u8> {
    let body = Some(AnyValue { value: Some(Any::StringValue(words(id))) });
    let record = LogRecord { body, time_unix_nano: 1 + id.1, ..Default::default() };
    [&[0x12][..], &record.encode_length_delimited_to_vec()].concat()
}

/// Whose record this is. Panics when it is nobody's: then something was made up or changed.
pub fn id_of(record: &LogRecord) -> Id {
    let Some(Any::StringValue(text)) = record.body.as_ref().and_then(|body| body.value.as_ref()) else {
        panic!("mangled: {record:?}");
    };
    let mut parts = text.split(' ').map(|part| part.parse::<u64>());
    let (Some(Ok(writer)), Some(Ok(number))) = (parts.next(), parts.next()) else {
        panic!("mangled: {text}")
    };
    let id = (writer, number);
    assert!(*text == words(id) && record.time_unix_nano == 1 + number, "mangled: {text}");
    id
}

/// The same for what the outbox handed out.
pub fn id_of_payload(payload: &[u8]) -> Id {
    assert_eq!(payload.first(), Some(&0x12), "mangled: {payload:?}");
    id_of(&LogRecord::decode_length_delimited(&payload[1..]).expect("mangled"))
}

/// What an emitter is to do.
#[derive(Clone)]
pub struct Emitter {
    pub accept: Accept,
    pub threads: u64,
    /// Records of each thread; when they are appended, the outbox is closed.
    pub count: u64,
    pub ring_bytes: usize,
    pub segment_bytes: u64,
    pub max_bytes: u64,
    pub sync_ms: u64,
    /// Records between two calls of `sync`; 0: none.
    pub sync_every: u64,
    pub block: bool,
    /// Between two records of a thread.
    pub pace: Duration,
    /// Say only of every so many, and of the last, that it was accepted: for those that nobody kills.
    pub say_every: u64,
    /// How many lanes to adopt and read empty before.
    pub adopt: bool,
    /// Deliver to nobody, but read and settle what is stored while it emits.
    pub settle: bool,
    /// When all is appended: wait until standard input ends, before it closes.
    pub linger: bool,
}

impl Default for Emitter {
    fn default() -> Self {
        Emitter {
            accept: Accept::Ring,
            threads: 1,
            count: u64::MAX,
            ring_bytes: 64 << 10,
            segment_bytes: 32 << 10,
            max_bytes: 1 << 30,
            sync_ms: 100,
            sync_every: 0,
            block: false,
            pace: Duration::ZERO,
            say_every: 1,
            adopt: false,
            settle: false,
            linger: false,
        }
    }
}

/// What emitters said, kept by the test.
#[derive(Default)]
pub struct Said {
    /// Numbers accepted, by writer: all below.
    pub accepted: BTreeMap<u64, u64>,
    /// What was said otherwise, by the writer of the process's first thread.
    pub told: BTreeMap<u64, BTreeMap<String, Value>>,
    talking: BTreeSet<u64>,
}

/// Takes down what emitters say.
pub struct Log {
    address: String,
    said: Arc<(Mutex<Said>, Condvar)>,
    next_writer: Mutex<u64>,
}

impl Log {
    pub fn start() -> Log {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let said = Arc::<(Mutex<Said>, Condvar)>::default();
        let all = Arc::clone(&said);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, said) = (BufReader::new(stream.unwrap()), Arc::clone(&all));
                let mut hello = String::new();
                // Nobody is taken down after those who came later.
                let Ok(_) = stream.read_line(&mut hello) else { continue };
                let Ok(writer) = hello.trim_end().parse() else { continue };
                said.0.lock().unwrap().talking.insert(writer);
                std::thread::spawn(move || take_down(stream, writer, &said));
            }
        });
        Log { address, said, next_writer: Mutex::new(1) }
    }

    /// Starts one with an outbox in `dir`.
    pub fn emit(&self, dir: &Path, emitter: &Emitter) -> Running {
        self.emit_by(Command::new(std::env::current_exe().unwrap()), dir, emitter)
    }

    /// The same by way of another program, whose command this is: the emitter's own is added to it.
    pub fn emit_by(&self, mut program: Command, dir: &Path, emitter: &Emitter) -> Running {
        let writer = {
            let mut next = self.next_writer.lock().unwrap();
            let writer = *next;
            *next += emitter.threads;
            writer
        };
        let accept = match emitter.accept {
            Accept::Ring => "ring",
            Accept::Write => "write",
            Accept::Sync => "sync",
        };
        let role = json!({
            "dir": dir, "to": self.address, "writer": writer, "accept": accept, "threads": emitter.threads,
            "count": emitter.count, "ring_bytes": emitter.ring_bytes, "segment_bytes": emitter.segment_bytes,
            "max_bytes": emitter.max_bytes, "sync_ms": emitter.sync_ms, "sync_every": emitter.sync_every,
            "block": emitter.block, "pace_us": emitter.pace.as_micros() as u64, "adopt": emitter.adopt,
            "settle": emitter.settle, "linger": emitter.linger, "say_every": emitter.say_every,
        });
        let child = program
            .args(["emitter::role", "--exact", "--nocapture", "--test-threads=1"])
            .env("RUST_BACKTRACE", "0")
            .env(VARIABLE, role.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running { child, writer }
    }

    /// Waits until what was said is so.
    pub fn until(&self, what: &str, mut so: impl FnMut(&Said) -> bool) {
        let (lock, changed) = &*self.said;
        let waiting = |said: &mut Said| !so(said);
        let (said, late) =
            changed.wait_timeout_while(lock.lock().unwrap(), Duration::from_secs(60), waiting).unwrap();
        assert!(!late.timed_out(), "{what}: {:?}, {:?}", said.accepted, said.told);
    }

    /// What was said, when all that these said is taken down. They have ended.
    pub fn said(&self, by: &[u64], look: impl FnOnce(&Said)) {
        // Behind them in the queue: when this is heard, they have been.
        let behind = {
            let mut next = self.next_writer.lock().unwrap();
            *next += 1;
            *next - 1
        };
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(format!("{behind}\nbehind {behind} true\n").as_bytes()).unwrap();
        self.until("emitters that end", |said| {
            said.told.contains_key(&behind) && by.iter().all(|writer| !said.talking.contains(writer))
        });
        look(&self.said.0.lock().unwrap());
    }

    pub fn accepted(&self, writer: u64) -> u64 {
        self.said.0.lock().unwrap().accepted.get(&writer).copied().unwrap_or(0)
    }

    /// What it said about `what`, as soon as that is taken down.
    pub fn told(&self, writer: u64, what: &str) -> Value {
        self.until(what, |said| said.told.get(&writer).is_some_and(|told| told.contains_key(what)));
        let said = self.said.0.lock().unwrap();
        said.told.get(&writer).and_then(|told| told.get(what)).cloned().unwrap_or_default()
    }
}

fn take_down(mut stream: BufReader<TcpStream>, talker: u64, all: &(Mutex<Said>, Condvar)) {
    let mut line = String::new();
    // Whole lines only: what a kill cut off was not said.
    while stream.read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
        let mut words = line.trim_end().splitn(3, ' ');
        let (kind, writer) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        let rest = words.next().unwrap();
        let mut said = all.0.lock().unwrap();
        if kind == "accepted" {
            said.accepted.insert(writer, rest.parse::<u64>().unwrap() + 1);
        } else {
            let value = serde_json::from_str(rest).unwrap();
            said.told.entry(writer).or_default().insert(kind.to_owned(), value);
        }
        drop(said);
        line.clear();
        all.1.notify_all();
    }
    all.0.lock().unwrap().talking.remove(&talker);
    all.1.notify_all();
}

/// An emitter that runs; killed when it is dropped, at the latest.
pub struct Running {
    pub child: Child,
    /// Of its first thread; the others have the next ones.
    pub writer: u64,
}

impl Running {
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Waits for its end, and says how it ended and what it complained about.
    pub fn wait(&mut self) -> (std::process::ExitStatus, String) {
        drop(self.child.stdin.take());
        let mut errors = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut errors);
        }
        (self.child.wait().unwrap(), errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the role of the emitter; as a test of its own it does nothing.
#[test]
fn role() {
    let Ok(role) = std::env::var(VARIABLE) else { return };
    let role: Value = serde_json::from_str(&role).unwrap();
    let number = |name: &str| role[name].as_u64().unwrap();
    let to = Mutex::new(TcpStream::connect(role["to"].as_str().unwrap()).unwrap());
    // Through a socket: `sendto` is no call that a file has, so that faults of files do not hit it.
    let tell = |kind: &str, writer: u64, what: &dyn std::fmt::Display| {
        to.lock().unwrap().write_all(format!("{kind} {writer} {what}\n").as_bytes()).unwrap();
    };
    let first = number("writer");
    to.lock().unwrap().write_all(format!("{first}\n").as_bytes()).unwrap();
    let mut settings = Settings::new(role["dir"].as_str().unwrap());
    settings.queues = vec!["logs".into()];
    settings.ring_bytes = number("ring_bytes") as usize;
    settings.segment_bytes = number("segment_bytes");
    settings.max_bytes = number("max_bytes");
    settings.sync_interval = Duration::from_millis(number("sync_ms"));
    settings.accept = match role["accept"].as_str().unwrap() {
        "ring" => Accept::Ring,
        "write" => Accept::Write,
        _ => Accept::Sync,
    };
    settings.when_full = if role["block"] == true { WhenFull::Block } else { WhenFull::DropOldest };
    let outbox = match Outbox::open(settings) {
        Ok(outbox) => outbox,
        Err(error) => {
            tell("refused", first, &json!(error.to_string()));
            std::process::exit(9);
        }
    };
    tell("lane", first, &json!(outbox.own().name()));
    if role["adopt"] == true {
        let lanes = outbox.adopt();
        let names: Vec<_> = lanes.iter().map(|lane| lane.name().to_owned()).collect();
        tell("adopted", first, &json!(names));
        // Held as long as this process lives.
        std::mem::forget(lanes);
    }
    let queue = outbox.queue("logs").unwrap();
    outbox.set_header(queue, &header());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        if role["settle"] == true {
            scope.spawn(|| settle(&outbox, &done));
        }
        let threads: Vec<_> = (first..first + number("threads"))
            .map(|writer| {
                let (outbox, tell, number) = (&outbox, &tell, &number);
                scope.spawn(move || emit(outbox, queue, writer, number, tell))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        done.store(true, std::sync::atomic::Ordering::Release);
    });
    if role["linger"] == true {
        tell("lingers", first, &json!(true));
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
    let began = Instant::now();
    let closed = outbox.close().map_err(|error| error.to_string());
    let counters = outbox.counters();
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(str::trim).unwrap_or_default();
    let end = json!({
        "accepted": counters.accepted, "lost": counters.lost.total(), "closed": closed.err(), "peak": peak,
        "close_ms": began.elapsed().as_millis() as u64, "warnings": outbox.warnings(),
    });
    tell("end", first, &end);
}

fn emit(
    outbox: &Outbox,
    queue: Queue,
    writer: u64,
    number: &dyn Fn(&str) -> u64,
    tell: &dyn Fn(&str, u64, &dyn std::fmt::Display),
) {
    let (pace, sync_every) = (Duration::from_micros(number("pace_us")), number("sync_every"));
    let (count, say_every) = (number("count"), number("say_every"));
    // When the ring had room for more, and when it had not.
    let mut took = [Times::default(), Times::default()];
    let began = Instant::now();
    let mut due = began;
    for n in 0..count {
        let payload = payload((writer, n));
        let records = [Record { queue, time_ns: 1 + n, content: n.is_multiple_of(5), payload: &payload }];
        let (used, capacity) = outbox.ring();
        let began = Instant::now();
        match outbox.append(Transaction { records: &records, ..Default::default() }) {
            Ok(()) | Err(Refused::NotYetSafe) => {}
            Err(refused) => {
                tell("stopped", writer, &json!(refused.to_string()));
                break;
            }
        }
        let full = capacity - used < 2 * payload.len() as u64 + 1024;
        took[usize::from(full)].add(began.elapsed());
        if n % say_every == say_every - 1 || n + 1 == count {
            tell("accepted", writer, &n);
        }
        if sync_every > 0 && n % sync_every == sync_every - 1 && outbox.sync().is_ok() {
            tell("synced", writer, &n);
        }
        due += pace;
        // A sleep takes some 60 us more than it should: of many short ones a thread would be late.
        let ahead = due.saturating_duration_since(Instant::now());
        if ahead >= Duration::from_millis(1) {
            std::thread::sleep(ahead);
        }
    }
    tell("milliseconds", writer, &json!(began.elapsed().as_millis() as u64));
    let [room, full] = took.map(|times| times.said());
    tell("microseconds", writer, &room);
    tell("microseconds-full", writer, &full);
}

/// How often something took so many microseconds: a list of millions would not fit below a limit on memory.
#[derive(Default)]
struct Times(BTreeMap<u64, u64>);

impl Times {
    fn add(&mut self, took: Duration) {
        *self.0.entry(took.as_micros() as u64).or_default() += 1;
    }

    fn at(&self, share: f64) -> u64 {
        let mut left = (self.0.values().sum::<u64>() as f64 * share) as u64;
        for (took, times) in &self.0 {
            match left.checked_sub(*times) {
                Some(more) => left = more,
                None => return *took,
            }
        }
        self.0.keys().last().copied().unwrap_or(0)
    }

    fn said(&self) -> Value {
        let times = self.0.values().sum::<u64>();
        json!({"times": times, "p50": self.at(0.5), "p99": self.at(0.99), "most": self.at(1.0)})
    }
}

fn settle(outbox: &Outbox, done: &std::sync::atomic::AtomicBool) {
    use factline::outbox::Settled;
    let mut reader = outbox.own().reader("logs").unwrap();
    let mut seen = 0;
    while !done.load(std::sync::atomic::Ordering::Acquire) {
        // Half of what is there, so that the rest is for who comes after.
        if let Ok(Some(batch)) = reader.next(4096, 5) {
            batch.payloads().for_each(|payload| {
                id_of_payload(payload);
            });
            let _ = reader.settle(&batch, Settled::delivered(&batch));
        }
        seen = outbox.wait(seen, Duration::from_millis(20));
    }
}
