//! factline: the flight recorder for coding agents.
//!
//! What happens in an agent's app server becomes **facts** ([`fact`]), each emitted once through `tracing`. Layers
//! translate them: [`otel`] writes OpenTelemetry log records and spans into a durable [`outbox`], from which they
//! are delivered to any collector ([`deliver`], feature `deliver`); [`analytics`] derives the events of a product
//! backend. [`telemetry`] puts the three together.
//!
//! - A **host** emits facts with [`host::Facts`] and puts a layer into its registry.
//! - An **operator** runs `factline tap -- codex app-server`; [`protocol`] turns messages into facts.
//!
//! Features: none of them emits facts only; `otel`, `analytics`, `outbox`, `deliver`, `tap` and `backend` are the
//! parts, `cli` (the default) is the program. `ARCHITECTURE.md` in the repository says where everything is.
#![recursion_limit = "512"]

#[cfg(feature = "analytics")]
pub mod analytics;
#[cfg(feature = "backend")]
pub mod backend;
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
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "otel")]
pub mod otel;
#[cfg(feature = "outbox")]
pub mod outbox;
pub mod protocol;
#[cfg(feature = "tap")]
pub mod replay;
#[cfg(feature = "tap")]
pub mod tap;
#[cfg(all(feature = "otel", feature = "deliver"))]
pub mod telemetry;
#[cfg(feature = "tap")]
pub mod transcript;
