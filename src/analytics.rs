//! Analytics: from facts the events that the app server's own client sends to its product backend.
//!
//! [`AnalyticsLayer`] takes facts off `tracing`, [`Reducer`] joins them into events, and [`Events`] takes the
//! events further: into the outbox, or a file. `docs/analytics.md` lists what is derived how.

pub mod event;
mod family;
mod layer;
mod reducer;

pub use event::Event;
pub use family::{Families, Family};
pub use layer::{AnalyticsLayer, Counters, Events, Lines, layer, only_facts};
pub use reducer::{Limits, Reducer};
