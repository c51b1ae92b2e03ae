//! factline: the flight recorder for coding agents.
#![recursion_limit = "512"]

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "deliver")]
pub mod config;
#[cfg(feature = "deliver")]
pub mod deliver;
pub mod fact;
pub mod host;
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
#[cfg(feature = "cli")]
pub mod telemetry;
#[cfg(feature = "tap")]
pub mod transcript;
