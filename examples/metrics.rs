//! Prints `docs/metrics.md`.

fn main() {
    print!("{}", factline::metrics::catalogue());
}
