//! Replay: recorded sessions through the observer, at the times they were recorded.

use crate::fact::Capture;
use crate::protocol::{Ended, Observer};
use crate::tap::Line;
use crate::transcript::{Entry, Transcript, TranscriptError, What};

/// What came of a replay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Messages that were observed.
    pub messages: u64,
    /// Lines of the transcript that could not be read.
    pub unreadable: u64,
    /// The first of them, counted from 1; 0 when there is none.
    pub first_unreadable: u64,
    /// Why that one could not be read.
    pub first_reason: &'static str,
}

/// Replays one transcript. Facts are emitted to the current `tracing` subscriber; `progress` is told before
/// every entry and may say stop: that entry is then not observed.
///
/// The environment has no influence, so that the same transcript gives the same facts anywhere.
///
/// # Errors
/// The transcript can't be read any further. What came before was observed, and what was open is closed.
pub fn replay(
    transcript: &mut Transcript,
    capture: Capture,
    mut progress: impl FnMut(u64) -> bool,
) -> Result<Replayed, TranscriptError> {
    let mut observer = Observer::new(capture);
    let mut replayed = Replayed::default();
    let outcome = loop {
        match transcript.next_entry() {
            Ok(Some(_)) if !progress(replayed.messages) => break Ok(()),
            Ok(Some(entry)) => observe(&mut observer, &entry, &mut replayed),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    observer.finish(Ended::ClientClosed);
    outcome.map(|()| replayed)
}

fn observe(observer: &mut Observer, entry: &Entry<'_>, replayed: &mut Replayed) {
    let connection = u64::from(entry.conn);
    match &entry.what {
        What::Open { transport } => observer.open(connection, *transport, entry.t_us),
        What::Message { dir, line, .. } => {
            replayed.messages += 1;
            match line {
                Some(Line::Whole(line)) => observer.message(connection, *dir, entry.t_us, line),
                Some(Line::Oversized { .. }) => observer.unseen("oversized"),
                None => observer.unseen("not_recorded"),
            }
        }
        What::End { end } => observer.end(connection, entry.t_us, *end),
        What::Unreadable { line_number, reason } => {
            if replayed.unreadable == 0 {
                replayed.first_unreadable = *line_number;
                replayed.first_reason = reason;
            }
            replayed.unreadable += 1;
        }
    }
}
