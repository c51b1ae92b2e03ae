//! A damaged ring whose records are in no segment yet.
#![no_main]

mod made;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    made::hold(input, |name| name == "ring", |name| name.ends_with(".seg") || name == "cursor");
});
