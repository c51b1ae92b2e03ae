//! factline: the flight recorder for coding agents.

#[cfg(feature = "deliver")]
pub mod config;
#[cfg(feature = "deliver")]
pub mod deliver;
#[cfg(feature = "outbox")]
pub mod outbox;
#[cfg(feature = "cli")]
pub mod tap;
#[cfg(feature = "cli")]
pub mod transcript;
