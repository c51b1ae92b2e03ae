//! factline: the flight recorder for coding agents.
#![recursion_limit = "512"]

#[cfg(feature = "deliver")]
pub mod deliver;
pub mod fact;
#[cfg(feature = "outbox")]
pub mod outbox;
pub mod protocol;
#[cfg(feature = "cli")]
pub mod tap;
#[cfg(feature = "cli")]
pub mod transcript;
