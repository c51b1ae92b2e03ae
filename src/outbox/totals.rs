//! What lanes had delivered and lost that are no longer there: `DIR/totals`, a line per queue.
//!
//! `queue NAME DELIVERED LOST...` (the order of `Loss::ALL`) and `lane NAME` for each lane that is counted
//! in but whose directory may still be there: so that a crash between counting and removing counts once.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use super::place;
use super::record::Lost;

/// Delivered and lost records of one queue, over all lanes that were removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// Records delivered.
    pub delivered: u64,
    /// Records lost, by reason.
    pub lost: Lost,
}

/// What removed lanes had delivered and lost, per queue.
///
/// Errors: the disk's. A directory without totals has none.
pub fn totals(dir: &Path) -> io::Result<BTreeMap<String, Total>> {
    Ok(read(dir)?.0)
}

fn read(root: &Path) -> io::Result<(BTreeMap<String, Total>, Vec<String>)> {
    let mut text = String::new();
    match place::open_read(&root.join("totals")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        file => {
            let mut bytes = Vec::new();
            file?.read_to_end(&mut bytes)?;
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    let (mut queues, mut lanes) = (BTreeMap::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("queue"), Some(name)) => {
                let mut numbers = words.map(|w| w.parse().unwrap_or(0));
                let mut total = Total { delivered: numbers.next().unwrap_or(0), lost: Lost::default() };
                total.lost.0.iter_mut().zip(numbers).for_each(|(to, n)| *to = n);
                queues.insert(name.to_owned(), total);
            }
            (Some("lane"), Some(name)) => lanes.push(name.to_owned()),
            _ => {}
        }
    }
    Ok((queues, lanes))
}

/// Adds what the queues of a lane that is about to be removed come to. Doing it twice counts it once.
pub(crate) fn absorb(root: &Path, lane: &str, sums: &[(String, Total)]) -> io::Result<()> {
    let lock_file = place::open_or_create(&root.join("totals.lock"))?;
    place::lock(&lock_file)?;
    let (mut queues, mut lanes) = read(root)?;
    if lanes.iter().any(|l| l == lane) {
        return Ok(());
    }
    if sums.iter().all(|(_, sum)| *sum == Total::default()) {
        return Ok(());
    }
    for (name, sum) in sums {
        let total = queues.entry(name.clone()).or_default();
        total.delivered += sum.delivered;
        total.lost.merge(&sum.lost);
    }
    lanes.retain(|l| root.join("lanes").join(l).exists());
    lanes.push(lane.to_owned());
    let mut text = String::new();
    for (name, total) in &queues {
        text.push_str(&format!("queue {name} {}", total.delivered));
        total.lost.0.iter().for_each(|n| text.push_str(&format!(" {n}")));
        text.push('\n');
    }
    lanes.iter().for_each(|l| text.push_str(&format!("lane {l}\n")));
    let making = root.join("totals.new");
    let mut file = place::create_anew(&making)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(&making, root.join("totals"))?;
    place::sync_dir(root)
}

/// Dead letters outlive their lane in `DIR/dead`, the newest sixteen files of them.
pub(crate) fn keep_dead_letters(root: &Path, lane: &str, dir: &Path, queue: &str) -> io::Result<()> {
    let from = dir.join(queue).join("dead.seg");
    if !from.exists() {
        return Ok(());
    }
    let dead = root.join("dead");
    place::private_dir(&dead).map_err(io::Error::other)?;
    fs::rename(&from, dead.join(format!("{lane}.{queue}.seg")))?;
    // A lane's name begins with its time, so the names sort by age.
    let mut kept: Vec<_> = fs::read_dir(&dead)?.flatten().map(|e| e.path()).collect();
    kept.sort();
    kept.iter().rev().skip(16).try_for_each(fs::remove_file)
}
