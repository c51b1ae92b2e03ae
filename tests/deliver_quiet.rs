//! Delivery never becomes telemetry. Alone in its file, because it needs the subscriber of the whole process.
#![cfg(feature = "deliver")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/collector.rs"]
mod collector;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/memory.rs"]
mod memory;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use collector::{Collector, Reply};
use factline::config::Config;
use factline::deliver::{Deliverer, Route};
use memory::Memory;
use tracing::{Event, Metadata, Subscriber, span};

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes down where everything comes from.
struct Witness;

impl Subscriber for Witness {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        SEEN.lock().unwrap().push(attributes.metadata().target().to_owned());
        span::Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        SEEN.lock().unwrap().push(event.metadata().target().to_owned());
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn neither_delivery_nor_its_http_client_reaches_the_subscriber_of_the_process() {
    tracing::subscriber::set_global_default(Witness).unwrap();
    tracing::trace!(target: "the_test", "the witness works");
    let collector = Collector::start(|number, _| Reply::status(if number == 0 { 400 } else { 200 }));
    // By name, so that the resolver's thread takes part.
    let url = format!("http://localhost:{}/v1/logs", collector.address.port());
    let vars = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT" => Some(url.clone()),
        "HOME" => Some("/nowhere".to_owned()),
        _ => None,
    };
    let destination = Config::from_env(vars).unwrap().0.destinations().remove(0);
    let queue = Memory::of_logs((0..3).map(|n| n.to_string()));
    let route = Route::new("q", Box::new(queue.clone()), &destination).unwrap();
    let deliverer = Deliverer::start(vec![route]).unwrap();
    assert!(deliverer.flush(Instant::now() + Duration::from_secs(10)).is_complete());
    deliverer.stop();
    assert_eq!(queue.with(|inside| inside.delivered), 3);
    assert_eq!(*SEEN.lock().unwrap(), ["the_test"]);
}
