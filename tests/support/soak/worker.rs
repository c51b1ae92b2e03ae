//! Processes that append and deliver, started again in this role by the soak itself.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use factline::config::Config;
use factline::outbox::{Loss, Record, Refused, Transaction, status, totals};
use factline::telemetry::Telemetry;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message as _;

use crate::ledger::{Ledger, Lost, body};

const ROLE: &str = "FACTLINE_SOAK_WORKER";
/// Between two records of a worker.
const PACE: Duration = Duration::from_millis(8);

pub fn is_one() -> bool {
    std::env::var_os(ROLE).is_some()
}

fn telemetry() -> Result<Telemetry, Box<dyn Error>> {
    let (config, _) = Config::from_env(|name| std::env::var(name).ok())?;
    Ok(Telemetry::start(&config)?)
}

/// In the role of a worker: appends until standard input ends, and says what was accepted.
pub fn work() -> Result<(), Box<dyn Error>> {
    let worker: u64 = std::env::var(ROLE)?.parse()?;
    let telemetry = telemetry()?;
    // As a tap does: what a full disk keeps it from taking over is left to the next.
    let _ = telemetry.adopt();
    let outbox = telemetry.outbox();
    let queue = outbox.queue("logs").ok_or("no queue")?;
    let resource =
        ResourceLogs { schema_url: format!("worker {worker}"), ..Default::default() }.encode_to_vec();
    let scope = ScopeLogs::default().encode_to_vec();
    outbox.set_header(queue, &[&(resource.len() as u32).to_le_bytes()[..], &resource, &scope].concat());
    let (over, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        drop(over);
    });
    let mut said = io::stdout().lock();
    for number in 0.. {
        if ended.recv_timeout(PACE) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected) {
            break;
        }
        let body = Some(AnyValue { value: Some(Value::StringValue(body((worker, number)))) });
        let record = LogRecord { body, time_unix_nano: now_ns(), ..Default::default() };
        let payload = [&[0x12][..], &record.encode_length_delimited_to_vec()].concat();
        let content = number % 4 == 1;
        let records = [Record { queue, time_ns: record.time_unix_nano, content, payload: &payload }];
        match outbox.append(Transaction { records: &records, ..Default::default() }) {
            Ok(()) | Err(Refused::NotYetSafe) => writeln!(said, "{number}")?,
            // The number is not given a second time.
            Err(refused) => writeln!(said, "refused: {refused}")?,
        }
    }
    telemetry.stop()?;
    Ok(())
}

fn now_ns() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64)
}

struct Worker {
    child: Child,
    listener: Option<std::thread::JoinHandle<()>>,
}

/// All of them.
pub struct Workers {
    running: Vec<Worker>,
    outbox: PathBuf,
    url: String,
    ledger: Ledger,
    next: u64,
}

impl Workers {
    pub fn start(count: usize, outbox: &Path, url: &str, ledger: Ledger) -> Result<Self, Box<dyn Error>> {
        let mut workers =
            Workers { running: Vec::new(), outbox: outbox.into(), url: url.into(), ledger, next: 1 };
        for _ in 0..count {
            let worker = workers.one()?;
            workers.running.push(worker);
        }
        Ok(workers)
    }

    fn command(&self) -> Result<Command, io::Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .env("FACTLINE_OUTBOX_DIR", &self.outbox)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &self.url)
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "800")
            .env("OTEL_TRACES_EXPORTER", "none")
            .env("FACTLINE_ANALYTICS", "off");
        Ok(command)
    }

    fn one(&mut self) -> Result<Worker, Box<dyn Error>> {
        let number = self.next;
        self.next += 1;
        self.ledger.begins(number);
        let mut command = self.command()?;
        let mut child =
            command.env(ROLE, number.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let ledger = self.ledger.clone();
        let listener = std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = String::new();
            // Whole lines only: what a kill cut off was not said.
            while output.read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
                if let Ok(record) = line.trim_end().parse() {
                    ledger.accepted((number, record));
                }
                line.clear();
            }
        });
        Ok(Worker { child, listener: Some(listener) })
    }

    /// Kills one; returns its number among the processes.
    pub fn kill(&mut self, which: usize) -> Result<String, Box<dyn Error>> {
        let worker = self.running.get_mut(which).ok_or("no such worker")?;
        worker.child.kill()?;
        worker.child.wait()?;
        worker.listener.take().map(std::thread::JoinHandle::join);
        Ok(worker.child.id().to_string())
    }

    pub fn restart(&mut self, which: usize) -> Result<(), Box<dyn Error>> {
        let worker = self.one()?;
        *self.running.get_mut(which).ok_or("no such worker")? = worker;
        Ok(())
    }

    /// Stops one, and lets it go on.
    pub fn stop_for(&mut self, which: usize, time: Duration) -> Result<(), Box<dyn Error>> {
        let worker = self.running.get(which).ok_or("no such worker")?;
        let signal =
            |signal| rustix::process::kill_process(rustix::process::Pid::from_child(&worker.child), signal);
        signal(rustix::process::Signal::STOP)?;
        std::thread::sleep(time);
        Ok(signal(rustix::process::Signal::CONT)?)
    }

    /// Lets all of them come to their end.
    pub fn end(&mut self) -> Result<(), Box<dyn Error>> {
        for worker in &mut self.running {
            drop(worker.child.stdin.take());
        }
        for worker in &mut self.running {
            worker.child.wait()?;
            worker.listener.take().map(std::thread::JoinHandle::join);
        }
        Ok(())
    }

    /// Delivers what is left, as the next process would; returns what the outbox counts: delivered, lost, waiting.
    pub fn flush(&self, at_most: Duration) -> Result<(u64, Lost, u64), Box<dyn Error>> {
        let vars = |name: &str| match name {
            "FACTLINE_OUTBOX_DIR" | "FACTLINE_FILES_DIR" => Some(self.outbox.to_string_lossy().into_owned()),
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(self.url.clone()),
            "OTEL_TRACES_EXPORTER" => Some("none".into()),
            _ => None,
        };
        let (config, _) = Config::from_env(vars)?;
        let telemetry = Telemetry::start(&config)?;
        telemetry.adopt()?;
        let end = Instant::now() + at_most;
        while !telemetry.flush(end.min(Instant::now() + Duration::from_secs(1))).is_complete() {
            if Instant::now() > end {
                println!("not all of it got through: {:?}", telemetry.report());
                break;
            }
        }
        telemetry.stop()?;
        drop(telemetry);
        let (mut delivered, mut lost, mut waiting) = (0, Lost::default(), 0);
        let mut add = |of: &factline::outbox::Lost| {
            lost.rejected += of.by(Loss::Rejected);
            lost.otherwise += of.total() - of.by(Loss::Rejected);
            for reason in Loss::ALL.into_iter().filter(|reason| of.by(*reason) > 0) {
                println!("lost, {}: {}", reason.name(), of.by(reason));
            }
        };
        for queue in status(&self.outbox)?.iter().flat_map(|lane| &lane.queues) {
            delivered += queue.delivered;
            waiting += queue.waiting.records;
            add(&queue.lost);
        }
        for total in totals(&self.outbox)?.values() {
            delivered += total.delivered;
            add(&total.lost);
        }
        Ok((delivered, lost, waiting))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.running {
            let _ = worker.child.kill();
            let _ = worker.child.wait();
        }
    }
}
