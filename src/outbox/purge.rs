//! Removing what nobody will deliver any more, on somebody's order, and counting it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::lane::LaneInner;
use super::look::{dead_files, letters_in};
use super::place;
use super::queue::{Tally, lock};
use super::record::{Loss, Lost};
use super::settings::Settings;
use super::status::queues_of;
use super::totals::{self, Total};

/// What to remove; [`Purge::default`] is everything that ended processes left.
#[derive(Debug, Clone, Default)]
pub struct Purge {
    /// Only this queue.
    pub queue: Option<String>,
    /// Only what destinations refused.
    pub dead_only: bool,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    /// Records that waited, by queue. They are lost, counted as [`Loss::Purged`].
    pub records: BTreeMap<String, u64>,
    /// Dead letters. They were counted when they were refused.
    pub dead_letters: u64,
    /// Lanes that are gone.
    pub lanes: Vec<String>,
    /// Lanes left alone, because a process works in them.
    pub held: Vec<String>,
    /// Lanes that could not be read and so not be counted (a newer version wrote them): gone, or left alone
    /// where only part of one was to go.
    pub unreadable: Vec<String>,
}

/// Removes what nobody owns, delivered or not. What was not delivered is lost and counted so, in the lane or
/// in `totals`. What processes hold is left alone.
///
/// Errors: the disk's; what is before the failing one is gone.
pub fn purge(dir: &Path, what: &Purge) -> io::Result<Purged> {
    let mut done = Purged::default();
    let lanes = dir.join("lanes");
    let entries = match fs::read_dir(&lanes) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        entries => Some(entries?),
    };
    for entry in entries.into_iter().flatten() {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !entry.file_type()?.is_dir() {
            continue;
        }
        match &what.queue {
            _ if what.dead_only => {
                hold(&entry.path(), &name, &mut done)?;
            }
            Some(queue) if !name.starts_with('.') => one_queue(dir, &name, queue, &mut done)?,
            Some(_) => {}
            None => whole_lane(dir, &name, &mut done)?,
        }
    }
    // Letters of lanes that went as a whole were counted with them.
    for (lane, queue, path) in dead_files(dir)? {
        if !done.held.contains(&lane) && what.queue.as_ref().is_none_or(|wanted| *wanted == queue) {
            done.dead_letters += count_letters(&path)?;
            fs::remove_file(&path)?;
        }
    }
    if !done.lanes.is_empty() {
        place::sync_dir(&lanes)?;
    }
    done.held.sort();
    done.lanes.sort();
    Ok(done)
}

/// The lock of a lane, if nobody else has it.
fn hold(lane: &Path, name: &str, done: &mut Purged) -> io::Result<Option<fs::File>> {
    let path = lane.join("lock");
    let file = match place::open_or_create(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if place::try_lock(&file)? && place::is_same(&file, &path) {
        return Ok(Some(file));
    }
    done.held.push(name.to_owned());
    Ok(None)
}

fn whole_lane(dir: &Path, name: &str, done: &mut Purged) -> io::Result<()> {
    let lane = dir.join("lanes").join(name);
    let Some(_lock) = hold(&lane, name, done)? else { return Ok(()) };
    let queues = match queues_of(&lane) {
        Ok(queues) => queues,
        Err(_) => {
            done.unreadable.push(name.to_owned());
            Vec::new()
        }
    };
    let mut sums = Vec::new();
    for queue in &queues {
        let mut lost: Lost = queue.lost;
        lost.add(Loss::Purged, queue.waiting.records);
        sums.push((queue.name.clone(), Total { delivered: queue.delivered, lost }));
    }
    totals::absorb(dir, name, &sums)?;
    for (of, _, path) in dead_files(dir)? {
        if of == name && path.starts_with(&lane) {
            done.dead_letters += count_letters(&path)?;
        }
    }
    fs::remove_dir_all(&lane)?;
    for queue in queues.into_iter().filter(|queue| queue.waiting.records > 0) {
        *done.records.entry(queue.name).or_default() += queue.waiting.records;
    }
    if !name.starts_with('.') {
        done.lanes.push(name.to_owned());
    }
    Ok(())
}

fn one_queue(dir: &Path, name: &str, queue: &str, done: &mut Purged) -> io::Result<()> {
    let tally = Arc::<Tally>::default();
    let lane = match LaneInner::adopt(&Settings::new(dir), name, &tally) {
        Ok(Some(lane)) => lane,
        Ok(None) => {
            done.held.push(name.to_owned());
            return Ok(());
        }
        Err(e) if e.kind() == io::ErrorKind::Unsupported => {
            done.unreadable.push(name.to_owned());
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    {
        let mut store = lock(&lane.store);
        let index = lane.names.iter().position(|known| known == queue);
        let Some(tail) = index.and_then(|index| store.tails.get_mut(index)) else { return Ok(()) };
        // A segment behind all others, so that every one with records in it can go.
        tail.begin_segment(tail.last_sequence + 1);
        tail.flush()?;
        let mut state = lock(&tail.shared.state);
        let purged = state.last_sequence - state.cursor.sequence;
        state.lose_all(Loss::Purged)?;
        if purged > 0 {
            *done.records.entry(queue.to_owned()).or_default() += purged;
        }
    }
    if lane.remove_if_empty()? {
        done.lanes.push(name.to_owned());
    }
    Ok(())
}

fn count_letters(path: &Path) -> io::Result<u64> {
    let mut letters = 0;
    letters_in(path, |_, _, _, _| {
        letters += 1;
        Ok(())
    })?;
    Ok(letters)
}
