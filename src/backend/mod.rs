//! A reference backend for analytics events: takes the requests of Codex's own client and of factline, checks
//! every event, and keeps it in SQLite.
//!
//! It is the far end in tests and a start for whoever runs one of their own. Everything that comes in is bounded
//! ([`Limits`]), and an event is committed before its request is answered. It asks nobody who they are: what
//! must not be open to everybody who can reach it belongs behind a proxy that does.

mod line;
mod products;
mod query;
mod request;
mod server;
mod store;
mod validate;

pub use line::Tracked;
pub use products::Products;
pub use query::{Cell, QueryError, QueryLimits, Rows, query};
pub use server::{Limits, Server, Settings, StartError};
pub use store::StoreError;
pub use validate::Validator;
