//! `emit`, with mimalloc for both sides.

#[path = "emit.rs"]
mod emit;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    emit::run("mimalloc");
}
