//! The `factline` program.
fn main() {}
