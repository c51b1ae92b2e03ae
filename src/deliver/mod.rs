//! Delivery of stored records, from durable queues to collectors, analytics backends and files.
//!
//! A [`Route`] leads from one queue to one destination. All routes run on one thread with a runtime of its
//! own, each as its own task, so that a slow destination delays no other. Nothing is given up for the number
//! of attempts: a record stays in its queue until it is delivered, refused, or the queue drops it by the
//! user's bounds.
//!
//! Delivery reports through [`Deliverer::report`] and never through `tracing`: what it would say there would
//! become telemetry to deliver. Its threads run without a subscriber, which silences the HTTP client as well.

mod aside;
mod backend;
mod backoff;
mod board;
mod command;
mod compress;
mod credential;
mod cut;
mod file;
mod grouped;
mod grpc;
mod http;
mod json;
mod json_lines;
mod otlp;
pub mod outcome;
mod outcome_json;
mod pace;
pub mod probe;
mod prune;
pub mod request;
mod route;
mod sink;
mod source;
mod stored;
mod tls;
mod token;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::subscriber::{NoSubscriber, set_default};

pub use board::{FlushReport, RouteReport, RouteState};
pub use file::FileBounds;
pub use http::proxy_of;
#[cfg(feature = "cli")]
pub(crate) use json::json_lines;
pub use json::{UndecodableRecord, json_line};
pub use outcome_json::classify_json;
pub use pace::Pace;
pub use sink::SinkError;
pub use source::{Batch, Settled, Source};
pub use stored::Stored;

use crate::config::{self, AnalyticsSink, Destination};
use board::{Board, Line};
use grouped::Grouped;
use route::Runner;
use sink::Sink;

/// The longest that [`Deliverer::stop`] waits for the thread to end.
const STOP_WAIT: Duration = Duration::from_millis(50);

/// A queue and the destination that its records go to.
pub struct Route {
    source: Box<dyn Source>,
    sink: Arc<Sink>,
    line: Arc<Line>,
    pace: Pace,
}

impl Route {
    /// Leads `source`, which is called `queue` in reports, to `destination`.
    ///
    /// # Errors
    /// The HTTP client can't be set up: no certificates on this machine for an `https` URL, or a header that
    /// can't be sent. Nothing is connected yet.
    pub fn new(
        queue: impl Into<String>,
        source: Box<dyn Source>,
        destination: &Destination,
    ) -> Result<Self, SinkError> {
        let mut pace = Pace::default();
        if let config::Sink::Otlp(otlp) = &destination.sink {
            pace.in_flight = otlp.in_flight;
        }
        Self::with(queue, source, destination, pace, FileBounds::default())
    }

    /// The same with other numbers.
    ///
    /// # Errors
    /// As [`Route::new`].
    pub fn with(
        queue: impl Into<String>,
        source: Box<dyn Source>,
        destination: &Destination,
        pace: Pace,
        bounds: FileBounds,
    ) -> Result<Self, SinkError> {
        let sink = Arc::new(Sink::new(destination, bounds)?);
        let line = Arc::new(Line::new(queue.into(), destination.shown()));
        Ok(Self { source, sink, line, pace })
    }

    /// Leads `source`, a queue of analytics events, to `sink`. Each record is one event as a JSON text on one
    /// line; the header is a JSON object with `originator` and `user_agent`, both of which may be missing.
    ///
    /// # Errors
    /// As [`Route::new`].
    pub fn of_events(
        queue: impl Into<String>,
        source: Box<dyn Source>,
        sink: &AnalyticsSink,
        pace: Pace,
        bounds: FileBounds,
    ) -> Result<Self, SinkError> {
        let line = Arc::new(Line::new(queue.into(), sink.shown()));
        let source = match sink {
            AnalyticsSink::Backend(_) => Box::new(Grouped::new(source)),
            AnalyticsSink::File(_) => source,
        };
        let sink = Arc::new(Sink::of_events(sink, bounds)?);
        Ok(Self { source, sink, line, pace })
    }
}

/// Delivers, on a thread of its own, until it is stopped or dropped.
pub struct Deliverer {
    board: Arc<Board>,
    routes: UnboundedSender<Route>,
    /// `None` once it was stopped.
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    ended: std::sync::Mutex<Receiver<()>>,
}

impl Deliverer {
    /// Starts the thread. More routes can be added later; none is fine.
    ///
    /// # Errors
    /// The system gives no thread or no event queue.
    pub fn start(routes: Vec<Route>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("factline-deliver-io")
            // Name resolution and disk calls run on threads of the runtime.
            .on_thread_start(silence)
            .build()?;
        let board = Arc::new(Board::default());
        let (sender, receiver) = unbounded_channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (end, ended) = channel();
        let tasks = Arc::clone(&board);
        std::thread::Builder::new().name("factline-deliver".to_owned()).spawn(move || {
            silence();
            run(runtime, receiver, stopped, &tasks);
            // Nobody listens when the caller did not want to wait.
            let _ = end.send(());
        })?;
        let deliverer = Self { board, routes: sender, stop: Some(stop), ended: ended.into() };
        routes.into_iter().for_each(|route| deliverer.add(route));
        Ok(deliverer)
    }

    /// Delivers from one more queue.
    pub fn add(&self, route: Route) {
        self.board.add(Arc::clone(&route.line));
        // It only fails when the thread is gone, and then nothing is delivered anyway.
        let _ = self.routes.send(route);
    }

    /// Says that a queue may have new records. Cheap, never blocks, from any thread.
    pub fn nudge(&self) {
        for line in self.board.lines() {
            line.wake.notify_one();
        }
    }

    /// Waits until every queue was found empty, or `deadline`. Waits of our own choosing are cut short for
    /// it; one that a destination asked for is not. A paused destination is tried once. Records that keep
    /// coming in are included.
    pub fn flush(&self, deadline: Instant) -> FlushReport {
        self.board.flush(deadline)
    }

    /// How each route is getting on, in the order in which they were added.
    pub fn report(&self) -> Vec<RouteReport> {
        self.board.lines().iter().map(|line| line.report().clone()).collect()
    }

    /// Ends delivery, within about 50 ms, whatever the network and the disk do. What was not settled stays in
    /// its queue; a request on its way may have been taken, and is then delivered twice. Dropping does the
    /// same.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Deliverer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It only fails when the thread has already ended.
            let _ = stop.send(());
        }
        // A thread that is stuck in a call to the system is left alone.
        if let Ok(ended) = self.ended.get_mut() {
            let _ = ended.recv_timeout(STOP_WAIT);
        }
    }
}

fn run(
    runtime: Runtime,
    mut routes: UnboundedReceiver<Route>,
    stopped: tokio::sync::oneshot::Receiver<()>,
    board: &Arc<Board>,
) {
    runtime.block_on(async {
        let accept = async {
            while let Some(Route { source, sink, line, pace }) = routes.recv().await {
                tokio::spawn(Runner::new(source, sink, line, Arc::clone(board), pace).run());
            }
            // The deliverer is being dropped, and its word to stop is on its way.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = stopped => {}
            () = accept => {}
        }
    });
    runtime.shutdown_background();
}

/// Lets no event of this thread reach a subscriber, for as long as the thread lives.
fn silence() {
    std::mem::forget(set_default(NoSubscriber::default()));
}
