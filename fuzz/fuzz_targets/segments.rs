//! A damaged segment: whatever was done to it, nothing comes out that was not appended.
#![no_main]

mod made;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // Without the ring, which would heal it.
    made::hold(input, |name| name.ends_with(".seg"), |name| name == "ring");
});
