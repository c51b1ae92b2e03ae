//! What lies in `otel-config/` works with the real programs: everything sent arrives, once and whole, through each way
//! of putting collectors together, and every query of every dashboard has an answer.
//!
//! FACTLINE_COLLECTOR=$(.ci/parts collector) FACTLINE_KAFKA=$(.ci/parts kafka) FACTLINE_JAEGER=$(.ci/parts jaeger) \
//!   FACTLINE_PROMETHEUS=$(.ci/parts prometheus) cargo test --test real_stack -- --nocapture
#![cfg(feature = "cli")]
// The exemption of tests does not reach their own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/program.rs"]
mod program;
#[path = "../support/received.rs"]
mod received;

mod agents;
mod dashboards;
mod files;
mod gateways;
mod measure;
mod parts;
mod recent;
mod stores;
