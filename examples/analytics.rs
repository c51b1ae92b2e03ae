//! The analytics events of recorded sessions, one JSON object a line: `analytics TRANSCRIPT... > events.jsonl`.

use std::io::{BufWriter, stdout};
use std::process::ExitCode;

use factline::analytics::Families;
use factline::{replay::replay_events, transcript::Transcript};

fn main() -> ExitCode {
    for path in std::env::args().skip(1) {
        let done =
            Transcript::open(path.as_ref()).map_err(|error| error.to_string()).and_then(|mut transcript| {
                let out = BufWriter::new(stdout());
                replay_events(&mut transcript, out, Families::default()).map_err(|error| error.to_string())
            });
        if let Err(error) = done {
            eprintln!("{path}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
