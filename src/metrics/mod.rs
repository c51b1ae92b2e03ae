//! Facts as OpenTelemetry metrics: a layer that counts and measures, and the durable way out.
//!
//! [`MetricsLayer`] turns facts into instruments of any OpenTelemetry meter, a host's own included. [`Metrics`] brings
//! a meter provider of its own, whose collections become records of a [`Sink`](crate::otel::Sink): the outbox, or a
//! file. A record is the metrics of one collection, each an entry of `ScopeMetrics.metrics`, tag and length included,
//! so that a batch is a header and records one after the other, as it is with logs and spans.
//!
//! [`TABLE`] has every instrument; `docs/metrics.md` is made from it. Dimensions come from the table only, their
//! values are bounded in number, and none is an id.

mod bound;
mod catalogue;
mod clock;
mod encode;
mod exemplar;
mod export;
mod health;
mod instruments;
mod layer;
mod provider;
mod recover;
mod state;
mod table;

pub use catalogue::catalogue;
pub use health::{Health, QueueHealth};
pub use layer::{MetricsLayer, only_used};
pub use provider::{Metrics, Settings, Temporality};
pub use recover::recover;
pub use table::{ATTRIBUTES, Described, Instrument, Kind, TABLE, TokenNames, When};

/// What stands for a value beyond the number that is kept apart.
pub const OTHER: &str = "_OTHER";
