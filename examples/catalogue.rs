//! Prints the catalogue of facts: `cargo run --example catalogue > docs/facts.md`.

fn main() {
    print!("{}", factline::fact::catalogue());
}
