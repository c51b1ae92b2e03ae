//! The whole way of a record put together: layer, outbox, delivery, and what dead processes left behind.

mod content;
#[cfg(feature = "metrics")]
mod metrics;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[cfg(feature = "analytics")]
use crate::analytics::Events as _;
use crate::config::{self, AnalyticsSink, Config, Destination, Signal};
use crate::deliver::{Deliverer, FileBounds, FlushReport, Pace, Route, RouteReport, SinkError, Stored};
use crate::fact::Capture;
use crate::otel::{self, Header, OtelLayer, OutboxSink, Ratio, Resource, Sampled};
use crate::outbox::{self, Accept, Lane, OpenError, Outbox, Queue, Reader, Settings, WhenFull};

pub use content::{Shape, capture};

/// How long the end may take for what can be delivered at once, files above all. The rest is delivered by
/// whoever opens the outbox next.
const LAST_DELIVERY: Duration = Duration::from_millis(120);
/// How long the end waits for a disk, each time that it needs one. Much more than a healthy one takes; what was
/// accepted survives the process all the same.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// So often at most it is noted in the outbox what went wrong with a destination.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// The queue of analytics events. It exists where a destination for them is configured.
pub const ANALYTICS_QUEUE: &str = "analytics";

/// A running outbox with its delivery.
pub struct Telemetry {
    outbox: Outbox,
    deliverer: Arc<Deliverer>,
    destinations: Vec<Destination>,
    analytics: Option<AnalyticsSink>,
    #[cfg(feature = "analytics")]
    families: crate::analytics::Families,
    resource: Resource,
    sampled: Ratio,
    /// The same with this process's own id.
    own: Resource,
    capture: Capture,
    shape: Shape,
    adopted: Arc<Mutex<Vec<Lane>>>,
    stopping: Arc<AtomicBool>,
    #[cfg(feature = "metrics")]
    measuring: metrics::Measuring,
    notes: Arc<Notes>,
}

/// What was noted of each route.
#[derive(Default)]
struct Notes(Mutex<BTreeMap<String, Noted>>);

#[derive(Default)]
struct Noted {
    /// Failures so far, and the words of the last.
    error: Option<(u64, String)>,
    /// Requests sent again that are counted in the outbox.
    retried: u64,
}

impl Notes {
    /// Notes in the outbox what went wrong since the last time, for `factline outbox status`.
    fn take(&self, dir: &Path, report: &[RouteReport]) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for route in report {
            let noted = noted.entry(route.queue.clone()).or_default();
            // The route of an adopted lane is called after both.
            let queue = route.queue.split(' ').next().unwrap_or_default();
            let more = route.retried.saturating_sub(noted.retried);
            // What could not be written is tried again with what comes.
            if more > 0 && outbox::add_retries(dir, queue, more).is_ok() {
                noted.retried = route.retried;
            }
            let Some(error) = &route.last_error else { continue };
            let now = Some((route.retried + route.lost.values().sum::<u64>(), error.clone()));
            if noted.error != now {
                // On a disk that refuses there is nothing more to say.
                let _ = outbox::note(dir, queue, &format!("{}: {error}", route.destination));
                noted.error = now;
            }
        }
    }
}

/// Why telemetry could not be started.
#[derive(Debug)]
pub enum StartError {
    /// The outbox.
    Outbox(OpenError),
    /// Delivery: a thread, or what a destination needs.
    Delivery(String),
    /// What is said about content.
    Content(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Outbox(error) => error.fmt(f),
            StartError::Content(what) => f.write_str(what),
            StartError::Delivery(what) => write!(f, "delivery cannot start: {what}"),
        }
    }
}

impl std::error::Error for StartError {}

impl Telemetry {
    /// Opens the outbox and starts delivery. Nothing is connected yet, and no network is waited for.
    ///
    /// # Errors
    /// The outbox can't be used, or delivery can't be set up.
    pub fn start(config: &Config) -> Result<Telemetry, StartError> {
        Self::open(config, |signal| queue_names(signal).get(..1).unwrap_or_default())
    }

    /// The same, with room for an application's own telemetry: [`Telemetry::log_processor`] and
    /// [`Telemetry::span_processor`] put it into queues of its own, which go where facts go.
    ///
    /// # Errors
    /// As [`Telemetry::start`].
    #[cfg(feature = "sdk")]
    pub fn start_with_application(config: &Config) -> Result<Telemetry, StartError> {
        Self::open(config, queue_names)
    }

    fn open(config: &Config, queues: fn(Signal) -> &'static [&'static str]) -> Result<Telemetry, StartError> {
        let capture = capture(config).map_err(StartError::Content)?;
        let destinations = config.destinations();
        let mut settings = settings(config);
        let names =
            || destinations.iter().flat_map(|to| queues(to.signal).iter().map(move |name| (*name, to)));
        settings.queues = names().map(|(name, _)| name.to_owned()).collect();
        let analytics = config.analytics_sink().cloned();
        settings.queues.extend(analytics.as_ref().map(|_| ANALYTICS_QUEUE.to_owned()));
        let outbox = Outbox::open(settings).map_err(StartError::Outbox)?;
        let failed = |error: &dyn fmt::Display| StartError::Delivery(error.to_string());
        let deliverer = Deliverer::start(Vec::new()).map_err(|error| failed(&error))?;
        let own = outbox.own();
        for (name, destination) in names() {
            let reader = own.reader(name).map_err(|error| failed(&error))?;
            let route = Route::new(name, Box::new(Stored::new(reader)), destination)
                .map_err(|error| failed(&error))?;
            deliverer.add(route);
        }
        if let Some(sink) = &analytics {
            let reader = own.reader(ANALYTICS_QUEUE).map_err(|error| failed(&error))?;
            deliverer
                .add(events_route(ANALYTICS_QUEUE.to_owned(), reader, sink).map_err(|error| failed(&error))?);
        }
        let mut resource = Resource::new(&config.service_name.value);
        for (key, value) in &config.resource_attributes.value {
            resource.set(key, value);
        }
        let resource = resource.with_capture(capture);
        let telemetry = Telemetry {
            outbox,
            deliverer: Arc::new(deliverer),
            destinations,
            analytics,
            #[cfg(feature = "analytics")]
            families: families(&config.analytics.families.value),
            own: resource.clone().with("service.instance.id", &instance_id()),
            resource,
            capture,
            shape: Shape::of(config),
            sampled: Ratio::new(config.sampled.value),
            adopted: Arc::default(),
            stopping: Arc::default(),
            #[cfg(feature = "metrics")]
            measuring: metrics::Measuring::new(config),
            notes: Arc::default(),
        };
        telemetry.follow().map_err(|error| failed(&error))?;
        Ok(telemetry)
    }

    /// A layer that writes analytics events into this outbox; none where no destination for them is configured.
    #[cfg(feature = "analytics")]
    pub fn analytics_layer(&self) -> Option<crate::analytics::AnalyticsLayer> {
        let queue = self.outbox.queue(ANALYTICS_QUEUE)?;
        let events = StoredEvents { outbox: self.outbox.clone(), queue };
        events.server(None, None);
        Some(crate::analytics::AnalyticsLayer::new(events, self.families, Default::default()))
    }

    /// Where analytics events go, if anywhere.
    pub fn analytics(&self) -> Option<&AnalyticsSink> {
        self.analytics.as_ref()
    }

    /// A layer that writes facts into this outbox.
    pub fn layer(&self) -> OtelLayer {
        self.shape.of_layer(otel::layer(self.sink(), self.own.clone()))
    }

    /// What may leave, for whoever emits facts.
    pub fn capture(&self) -> Capture {
        self.capture
    }

    /// What the layer writes to, for a layer that is put together elsewhere: the outbox, with the spans of as many
    /// turns as are sampled.
    pub fn sink(&self) -> Sampled<OutboxSink> {
        let sink =
            OutboxSink::new(self.outbox.clone(), self.queues(Signal::Logs), self.queues(Signal::Traces))
                .with_metrics(self.queues(Signal::Metrics));
        Sampled::new(sink, self.sampled)
    }

    /// For a `SdkLoggerProvider` of the application; none where logs go nowhere, or without
    /// [`start_with_application`](Telemetry::start_with_application). Give it out once: a queue has one writer.
    #[cfg(feature = "sdk")]
    pub fn log_processor(&self) -> Option<otel::DurableLogs> {
        let [_, name] = queue_names(Signal::Logs) else { return None };
        self.outbox.queue(name).map(|queue| otel::DurableLogs::new(self.outbox.clone(), queue))
    }

    /// For a `SdkTracerProvider` of the application; as [`Telemetry::log_processor`].
    #[cfg(feature = "sdk")]
    pub fn span_processor(&self) -> Option<otel::DurableSpans> {
        let [_, name] = queue_names(Signal::Traces) else { return None };
        self.outbox.queue(name).map(|queue| otel::DurableSpans::new(self.outbox.clone(), queue))
    }

    /// The resource of this process, with its `service.instance.id`.
    pub fn own_resource(&self) -> Resource {
        self.own.clone()
    }

    /// A resource like that of this process, with a `service.instance.id` of its own each time: for a recorded one.
    pub fn resource(&self) -> Resource {
        self.resource.clone().with("service.instance.id", &instance_id())
    }

    fn queues(&self, signal: Signal) -> Vec<Queue> {
        self.outbox.queue(queue_name(signal)).into_iter().collect()
    }

    // Tells delivery when something was stored. The thread ends at the first wake-up after the end.
    fn follow(&self) -> io::Result<()> {
        let (outbox, deliverer) = (self.outbox.clone(), Arc::downgrade(&self.deliverer));
        let stopping = Arc::clone(&self.stopping);
        let notes = Arc::clone(&self.notes);
        std::thread::Builder::new().name("factline-follow".to_owned()).spawn(move || {
            let (mut seen, mut noted) = (0, Instant::now());
            while !stopping.load(Ordering::Acquire) {
                let now = outbox.wait(seen, NOTE_EVERY);
                let Some(deliverer) = deliverer.upgrade() else { return };
                if now != seen {
                    deliverer.nudge();
                }
                seen = now;
                if noted.elapsed() >= NOTE_EVERY {
                    notes.take(outbox.dir(), &deliverer.report());
                    noted = Instant::now();
                }
            }
        })?;
        Ok(())
    }

    /// Takes over what dead processes left: what they had open is closed as interrupted, what they had not
    /// delivered is delivered. Returns how many lanes there were.
    ///
    /// # Errors
    /// A lane could not be written; the others were taken over.
    pub fn adopt(&self) -> io::Result<usize> {
        let mut outcome = Ok(());
        let lanes = self.outbox.adopt();
        let count = lanes.len();
        for lane in lanes {
            if let Err(error) = self.take_over(&lane) {
                outcome = Err(io::Error::new(error.kind(), format!("lane {}: {error}", lane.name())));
            }
            self.adopted.lock().unwrap_or_else(PoisonError::into_inner).push(lane);
        }
        outcome.map(|()| count)
    }

    fn take_over(&self, lane: &Lane) -> io::Result<()> {
        // Whoever switched content off does not want what was captured before, either.
        if self.capture.is_none() {
            lane.withdraw_content(&otel::WITHOUT_CONTENT)?;
        }
        let queues = |signal: Signal, of: otel::Signal| {
            let queue = lane.queue(queue_name(signal));
            if let Some(queue) = queue
                && lane.header(queue).is_none()
            {
                lane.set_header(queue, &Header::new(&self.resource, of).0)?;
            }
            Ok::<_, io::Error>(queue.into_iter().collect::<Vec<_>>())
        };
        #[cfg(feature = "metrics")]
        self.recover_metrics(lane)?;
        if !lane.unfinished().is_empty() {
            let (logs, traces) =
                (queues(Signal::Logs, otel::Signal::Logs)?, queues(Signal::Traces, otel::Signal::Traces)?);
            otel::recover(lane, &logs, &traces, self.capture)?;
        }
        for destination in &self.destinations {
            for name in queue_names(destination.signal).iter().filter(|name| lane.queue(name).is_some()) {
                let source = Box::new(Stored::new(lane.reader(name)?));
                match Route::new(format!("{name} of {}", lane.name()), source, destination) {
                    Ok(route) => self.deliverer.add(route),
                    Err(error) => return Err(io::Error::other(error.to_string())),
                }
            }
        }
        if let Some(sink) = &self.analytics
            && lane.queue(ANALYTICS_QUEUE).is_some()
        {
            let name = format!("{ANALYTICS_QUEUE} of {}", lane.name());
            let route = events_route(name, lane.reader(ANALYTICS_QUEUE)?, sink);
            self.deliverer.add(route.map_err(|error| io::Error::other(error.to_string()))?);
        }
        Ok(())
    }

    /// The same in the background, so that nobody waits for a large lane.
    pub fn adopt_in_background(self: &Arc<Self>) {
        let this = Arc::clone(self);
        // Without a thread the next start does it.
        let _ = std::thread::Builder::new().name("factline-adopt".to_owned()).spawn(move || {
            // What can't be taken over now stays where it is.
            let _ = this.adopt();
        });
    }

    /// Waits until everything that is stored was delivered or refused, or `deadline`.
    pub fn flush(&self, deadline: Instant) -> FlushReport {
        // A disk that refuses keeps the records in the ring; the report shows what is missing.
        let _ = self.outbox.drain();
        self.deliverer.nudge();
        self.deliverer.flush(deadline)
    }

    /// How each destination is getting on.
    pub fn report(&self) -> Vec<RouteReport> {
        self.deliverer.report()
    }

    /// The outbox.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Ends delivery and leaves the rest on disk. Never waits for a network, nor long for a disk that hangs.
    ///
    /// # Errors
    /// The disk's; what could not be written is in the ring's file for the next process. `TimedOut` where it takes
    /// longer than a second: what is written by then, and what is in the ring's file, survives the process, but perhaps
    /// not a power failure that follows at once.
    pub fn stop(&self) -> io::Result<()> {
        self.stopping.store(true, Ordering::Release);
        #[cfg(feature = "metrics")]
        self.measuring.stop();
        let outbox = self.outbox.clone();
        let drained = soon(move || outbox.drain());
        self.deliverer.nudge();
        self.deliverer.flush(Instant::now() + LAST_DELIVERY);
        if drained.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return drained;
        }
        let (outbox, notes, report) = (self.outbox.clone(), Arc::clone(&self.notes), self.deliverer.report());
        let lanes = std::mem::take(&mut *self.adopted.lock().unwrap_or_else(PoisonError::into_inner));
        let closed = soon(move || {
            notes.take(outbox.dir(), &report);
            for lane in lanes {
                // It stays for the next process if it can't be removed now.
                let _ = lane.remove_if_empty();
            }
            outbox.close()
        });
        drained.and(closed)
    }
}

/// What `call` comes to if that is known soon; else it goes on by itself.
fn soon(call: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let (done, came) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new().name("factline-end".to_owned()).spawn(move || {
        let _ = done.send(call());
    })?;
    let slow = "the disk takes its time; what was accepted is in its files and goes on at the next start";
    came.recv_timeout(LAST_WRITE).unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, slow)))
}

/// What the configuration says about the outbox, without its queues.
pub fn settings(config: &Config) -> Settings {
    let said = &config.outbox;
    Settings {
        accept: match said.accept.value {
            config::Accept::Ring => Accept::Ring,
            config::Accept::Write => Accept::Write,
            config::Accept::Sync => Accept::Sync,
        },
        when_full: match said.when_full.value {
            config::WhenFull::DropOldest => WhenFull::DropOldest,
            config::WhenFull::Block => WhenFull::Block,
        },
        sync_interval: said.sync_interval.value,
        max_bytes: said.max_bytes.value,
        max_age: said.max_age.value,
        ring_bytes: said.ring_bytes.value as usize,
        ..Settings::new(&config.outbox_dir.value)
    }
}

/// The families of events that the configuration leaves on.
#[cfg(feature = "analytics")]
pub fn families(said: &config::Families) -> crate::analytics::Families {
    use crate::analytics::{Families, Family};
    let named = |names: &[&'static str]| -> Vec<Family> {
        names.iter().filter_map(|name| Family::from_name(name)).collect()
    };
    match said {
        config::Families::All => Families::default(),
        config::Families::Only(names) => named(names).into_iter().fold(Families::NONE, Families::with),
        config::Families::Without(names) => {
            named(names).into_iter().fold(Families::default(), Families::without)
        }
    }
}

fn events_route(name: String, reader: Reader, sink: &AnalyticsSink) -> Result<Route, SinkError> {
    Route::of_events(name, Box::new(Stored::new(reader)), sink, Pace::default(), FileBounds::default())
}

/// Analytics events into the outbox: each a record, what their server calls itself their header.
#[cfg(feature = "analytics")]
struct StoredEvents {
    outbox: Outbox,
    queue: Queue,
}

#[cfg(feature = "analytics")]
impl crate::analytics::Events for StoredEvents {
    fn accept(&self, events: &[crate::analytics::Event]) {
        let now = std::time::SystemTime::now();
        let time_ns = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let encoded: Vec<Vec<u8>> =
            events.iter().filter_map(|event| serde_json::to_vec(event).ok()).collect();
        let records: Vec<outbox::Record<'_>> = encoded
            .iter()
            .map(|payload| outbox::Record { queue: self.queue, time_ns, content: false, payload })
            .collect();
        // What is refused is counted by the outbox; there is nobody here to tell.
        let _ = self.outbox.append(outbox::Transaction { records: &records, ..Default::default() });
    }

    fn server(&self, originator: Option<&str>, user_agent: Option<&str>) {
        let header = serde_json::json!({"originator": originator, "user_agent": user_agent});
        self.outbox.set_header(self.queue, header.to_string().as_bytes());
    }
}

/// The queues that are delivered as a signal: that of facts, and that of an application's own telemetry.
fn queue_names(signal: Signal) -> &'static [&'static str] {
    match signal {
        Signal::Logs => &["logs", "logs.app"],
        Signal::Traces => &["traces", "traces.app"],
        Signal::Metrics => &["metrics"],
    }
}

/// The queue of a signal. Its records go wherever the signal is sent when they are delivered.
pub fn queue_name(signal: Signal) -> &'static str {
    signal.name()
}

// A UUID of version 8 (RFC 9562): made of what no other process shares, without a source of randomness.
fn instance_id() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let random = || RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()));
    let bits = u128::from(random()) << 64 | u128::from(random());
    let bits = bits & !(0xf << 76) | 8 << 76;
    let bits = bits & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}
