//! factline: the flight recorder for coding agents.

#[cfg(feature = "deliver")]
pub mod deliver;
#[cfg(feature = "outbox")]
pub mod outbox;
#[cfg(feature = "tap")]
pub mod tap;
#[cfg(feature = "tap")]
pub mod transcript;
