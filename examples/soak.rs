//! Faults at random for as long as one likes, and whether the account comes out at the end.
//!
//! `cargo run --release --example soak -- --minutes N --seed S` (defaults: 1 minute, a seed from the clock).
//! Workers append log records to one outbox and deliver them over OTLP/HTTP to a collector that is away, says 429
//! and 503, takes parts, is slow, breaks connections and stops; workers are killed and stopped, segments of the
//! dead are damaged, and, for root, the disk is full at times. The account is kept by who appended and who
//! received: what was accepted is received, refused in part, or counted as lost; nothing is made up or changed.
//! Exit code 1 when it does not come out.

#[path = "../tests/support/soak/collector.rs"]
mod collector;
#[path = "../tests/support/soak/disk.rs"]
mod disk;
#[path = "../tests/support/soak/ledger.rs"]
mod ledger;
#[path = "../tests/support/soak/worker.rs"]
mod worker;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use collector::{Collector, Mood};
use disk::Disk;
use ledger::Ledger;
use worker::Workers;

/// Workers at once.
const WORKERS: usize = 3;
/// How long what is left may take to arrive at the end.
const END: Duration = Duration::from_secs(120);

/// Numbers that are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ mixed >> 31) % n.max(1)
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if worker::is_one() {
        worker::work()?;
        return Ok(ExitCode::SUCCESS);
    }
    let (minutes, seed) = arguments()?;
    println!("soak: {minutes} minutes, --seed {seed}");
    let mut random = Random(seed);
    let ledger = Ledger::default();
    let collector = Collector::start(ledger.clone(), seed)?;
    let disk = Disk::new()?;
    let mut workers = Workers::start(WORKERS, disk.outbox(), collector.url(), ledger.clone())?;
    let end = Instant::now() + Duration::from_secs_f64(60.0 * minutes);
    let mut told = Instant::now();
    let mut faults = std::collections::BTreeMap::<&str, u64>::new();
    while Instant::now() < end {
        let fault = one_fault(&mut random, &collector, &disk, &mut workers)?;
        *faults.entry(fault).or_default() += 1;
        std::thread::sleep(Duration::from_millis(random.below(500)));
        if told.elapsed() > Duration::from_secs(15) {
            told = Instant::now();
            println!(
                "{}, {:.1} minutes left",
                ledger.line(),
                (end - Instant::now().min(end)).as_secs_f64() / 60.0
            );
        }
    }
    println!("faults: {faults:?}");
    collector.mood(Mood::Good);
    disk.give_back();
    workers.end()?;
    // What the last ones left, and whether it gets through now.
    let began = Instant::now();
    let (delivered, lost, waiting) = workers.flush(END)?;
    println!("what was left took {:.1} s", began.elapsed().as_secs_f64());
    let identity = ledger.identity(lost, waiting);
    println!(
        "{identity}\nby the outbox's own account: {delivered} delivered, {lost:?} lost, {waiting} waiting"
    );
    println!("repeat it with --minutes {minutes} --seed {seed}");
    Ok(if identity.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn one_fault(
    random: &mut Random,
    collector: &Collector,
    disk: &Disk,
    workers: &mut Workers,
) -> Result<&'static str, Box<dyn Error>> {
    let one = random.below(WORKERS as u64) as usize;
    let moment = Duration::from_millis(random.below(1500));
    Ok(match random.below(14) {
        0..3 => {
            workers.kill(one)?;
            workers.restart(one)?;
            "kill"
        }
        3 => {
            // While nobody has its lane.
            let dead = workers.kill(one)?;
            let hit = disk.damage(&dead, random.below(u64::MAX))?;
            workers.restart(one)?;
            if hit { "damage" } else { "kill" }
        }
        4 => {
            workers.stop_for(one, moment)?;
            "stopped worker"
        }
        5 if disk.fill() => {
            std::thread::sleep(moment);
            disk.give_back();
            "full disk"
        }
        6..8 => {
            collector.mood(Mood::Good);
            std::thread::sleep(moment);
            "calm"
        }
        number => {
            let moods =
                [Mood::Away, Mood::Busy, Mood::Later, Mood::Parts, Mood::Slow, Mood::Breaks, Mood::Silent];
            let mood = moods[(number as usize + random.below(7) as usize) % moods.len()];
            collector.mood(mood);
            std::thread::sleep(moment);
            if random.below(2) == 0 {
                collector.mood(Mood::Good);
            }
            mood.name()
        }
    })
}

fn arguments() -> Result<(f64, u64), Box<dyn Error>> {
    let (mut minutes, mut seed) = (1.0, std::time::UNIX_EPOCH.elapsed()?.as_nanos() as u64);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--minutes" => minutes = value.parse()?,
            "--seed" => seed = value.parse()?,
            _ => return Err(format!("{word}: there are --minutes N and --seed S").into()),
        }
    }
    Ok((minutes, seed))
}
