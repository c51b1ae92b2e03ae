//! Prints the page of settings: `cargo run --example configuration > docs/configuration.md`.

fn main() {
    print!("{}", factline::config::page());
}
