//! The analytics events of recorded sessions, one JSON object a line: `analytics TRANSCRIPT... > events.jsonl`.
//!
//! What `factline replay --analytics-file` does, for a host that wants the library alone.

use std::error::Error;
use std::io::{BufWriter, stdout};
use std::sync::Arc;

use factline::analytics::{self, Families, Lines};
use factline::fact::Capture;
use factline::replay::replay;
use factline::transcript::Transcript;
use tracing_subscriber::layer::SubscriberExt as _;

fn main() -> Result<(), Box<dyn Error>> {
    let lines = Arc::new(Lines::new(BufWriter::new(stdout())));
    for path in std::env::args().skip(1) {
        // A layer for each: a recorded process knows nothing of another.
        let layer = analytics::layer(Arc::clone(&lines), Families::default());
        let subscriber = tracing_subscriber::registry().with(layer);
        let mut transcript = Transcript::open(path.as_ref())?;
        tracing::subscriber::with_default(subscriber, || replay(&mut transcript, Capture::NONE, |_| true))?;
    }
    lines.finish()?;
    Ok(())
}
