//! factline: the flight recorder for coding agents.
#![recursion_limit = "512"]

#[cfg(feature = "analytics")]
pub mod analytics;
#[cfg(feature = "deliver")]
pub mod config;
#[cfg(feature = "deliver")]
pub mod deliver;
pub mod fact;
#[cfg(feature = "cli")]
pub mod jsonl;
#[cfg(feature = "otel")]
pub mod otel;
#[cfg(feature = "outbox")]
pub mod outbox;
pub mod protocol;
#[cfg(feature = "tap")]
pub mod replay;
#[cfg(feature = "tap")]
pub mod tap;
#[cfg(feature = "tap")]
pub mod transcript;
