//! The `factline` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    factline::cli::main()
}
