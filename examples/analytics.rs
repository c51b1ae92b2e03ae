//! The analytics events of recorded sessions, one JSON object a line: `analytics TRANSCRIPT... > events.jsonl`.

use std::process::ExitCode;
use std::sync::Arc;

use factline::analytics::{Families, Lines, layer};
use factline::{fact::Capture, replay::replay, transcript::Transcript};
use tracing_subscriber::layer::SubscriberExt as _;

fn main() -> ExitCode {
    let lines = Arc::new(Lines::new(std::io::BufWriter::new(std::io::stdout())));
    let subscriber = tracing_subscriber::registry().with(layer(Arc::clone(&lines), Families::default()));
    let replayed = tracing::subscriber::with_default(subscriber, || {
        std::env::args().skip(1).all(|path| {
            let transcript = Transcript::open(path.as_ref());
            let done = transcript.and_then(|mut transcript| replay(&mut transcript, Capture::NONE, |_| true));
            if let Err(error) = &done {
                eprintln!("{path}: {error}");
            }
            done.is_ok()
        })
    });
    match (lines.finish(), replayed) {
        (Ok(()), true) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
