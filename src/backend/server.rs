//! The HTTP side: connections, limits, answers, and an end that loses nothing that was answered.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::line::Tracked;
use super::products::Products;
use super::request::{Refusal, events, json_response};
use super::store::{Event, Job, Store, StoreError};
use super::validate::Validator;

/// How long requests that are being answered may take when the server ends, and the writer after them.
const LAST_ANSWERS: Duration = Duration::from_millis(600);
const LAST_WRITES: Duration = Duration::from_millis(300);
/// Requests that wait for the writer; what comes on top waits in its connection.
const WAITING: usize = 64;

/// What one client may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body, as it is sent and after decompression.
    pub body_bytes: usize,
    /// Time for a body to arrive.
    pub body_time: Duration,
    /// Bytes of a request's line and headers.
    pub header_bytes: usize,
    /// Time for them to arrive, and to wait for the next request on a connection.
    pub header_time: Duration,
    /// Events in one request.
    pub events: usize,
    /// Connections at the same time; more wait to be accepted.
    pub connections: usize,
    /// How long a connection is used. It is closed between two requests then, or soon after if its client does
    /// not read the answers.
    pub connection_time: Duration,
}

impl Default for Limits {
    /// 4 MiB in 10 s, 32 KiB in 10 s, 5,000 events, 64 connections for 5 min each.
    fn default() -> Self {
        Self {
            body_bytes: 4 << 20,
            body_time: Duration::from_secs(10),
            header_bytes: 32 << 10,
            header_time: Duration::from_secs(10),
            events: 5_000,
            connections: 64,
            connection_time: Duration::from_secs(300),
        }
    }
}

/// How a server is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// The database.
    pub db: PathBuf,
    /// The products' names.
    pub products: Products,
    /// Whether members that other releases lack or add are refused.
    pub strict: bool,
    /// A test aid: every answer waits this long, as a slow backend's would.
    pub answer_delay: Duration,
    /// What one client may take.
    pub limits: Limits,
}

impl Settings {
    /// The defaults: any port on loopback, the products that are known, no delay.
    pub fn new(db: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            db: db.into(),
            products: Products::built_in(),
            strict: false,
            answer_delay: Duration::ZERO,
            limits: Limits::default(),
        }
    }
}

/// Why a server could not start.
#[derive(Debug)]
pub enum StartError {
    /// The address can't be listened on, or the system gives no thread.
    Io(io::Error),
    /// The database.
    Store(StoreError),
    /// The table of events that is compiled in.
    Table(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Store(error) => write!(f, "database: {error}"),
            Self::Table(error) => write!(f, "table of events: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A server that listens, and answers once it runs.
pub struct Server {
    listener: TcpListener,
    store: Store,
    validator: Arc<Validator>,
    settings: Settings,
}

/// What a connection needs to answer.
struct Desk {
    validator: Arc<Validator>,
    products: Products,
    jobs: mpsc::Sender<Job>,
    limits: Limits,
    answer_delay: Duration,
}

impl Server {
    /// Opens the database and listens. Clients can connect from here on.
    ///
    /// # Errors
    /// The address or the database can't be used.
    pub fn bind(settings: Settings) -> Result<Self, StartError> {
        let validator = Arc::new(Validator::new(settings.strict).map_err(StartError::Table)?);
        let store = Store::open(&settings.db).map_err(StartError::Store)?;
        let listener = TcpListener::bind(settings.listen)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, store, validator, settings })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop`, then ends within a second: requests that are being answered get that long, all
    /// others are dropped without an answer. `tell` hears of every event that is new, on a thread of its own;
    /// while it blocks, nobody is answered.
    ///
    /// # Errors
    /// The system gives no event queue or thread.
    pub fn run(
        self,
        stop: impl Future<Output = ()>,
        mut tell: impl FnMut(&Tracked<'_>) + Send + 'static,
    ) -> Result<(), StartError> {
        let Self { listener, store, validator, settings } = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (jobs, waiting) = mpsc::channel(WAITING);
        let (end, ended) = std::sync::mpsc::channel();
        let table = Arc::clone(&validator);
        std::thread::Builder::new().name("factline-store".to_owned()).spawn(move || {
            store.run(waiting, |event, product, received_at_ms| {
                tell(&Tracked { event, product, received_at_ms, table: &table });
            });
            // Nobody waits when the writer is late.
            let _ = end.send(());
        })?;
        let Settings { products, answer_delay, limits, .. } = settings;
        let desk = Arc::new(Desk { validator, products, jobs, limits, answer_delay });
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            accept(listener, desk, stop).await;
            io::Result::Ok(())
        })?;
        runtime.shutdown_background();
        // The connections are gone and with them all who could send a job. What was answered is committed.
        let _ = ended.recv_timeout(LAST_WRITES);
        Ok(())
    }
}

async fn accept(listener: tokio::net::TcpListener, desk: Arc<Desk>, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let places = Arc::new(Semaphore::new(desk.limits.connections));
    let (ending, end) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut stop => break,
            next = next => next,
        };
        while connections.try_join_next().is_some() {}
        let (Ok(place), Ok((stream, _))) = (place, accepted) else {
            // No file descriptors left, most likely; they come back when connections end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (desk, mut end) = (Arc::clone(&desk), end.clone());
        connections.spawn(async move {
            let _place = place;
            let limits = desk.limits;
            let service = service_fn(move |request| {
                let desk = Arc::clone(&desk);
                async move { Ok::<_, Infallible>(answer(&desk, request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_time)
                .max_buf_size(limits.header_bytes)
                // A client that has nothing more to say still wants its answer.
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            // A connection that breaks has nobody to be told.
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = end.changed() => {}
                () = tokio::time::sleep(limits.connection_time) => {}
            }
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(limits.body_time, connection).await;
        });
    }
    drop(listener);
    drop(ending);
    let _ =
        tokio::time::timeout(LAST_ANSWERS, async { while connections.join_next().await.is_some() {} }).await;
}

async fn answer(desk: &Desk, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let originator =
        request.headers().get("originator").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let limits = desk.limits;
    let events = match events(request, limits.body_bytes, limits.body_time, limits.events).await {
        Ok(events) => events,
        Err(refusal) => return refusal.response(),
    };
    let response = match keep(desk, events, originator).await {
        Ok(body) => json_response(StatusCode::OK, &body),
        Err(error) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("not kept: {error}")).response(),
    };
    tokio::time::sleep(desk.answer_delay).await;
    response
}

/// Every event for itself: what is wrong with one is said and counted, and the others are kept.
async fn keep(desk: &Desk, events: Vec<Value>, originator: Option<String>) -> Result<Value, String> {
    let (mut good, mut rejected, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for (index, event) in events.into_iter().enumerate() {
        match desk.validator.check(&event) {
            Ok(()) => {
                let product = product(&event).map(|name| desk.products.canonical(name).to_owned());
                good.push(Event::new(&event, product));
            }
            Err(reason) => {
                said.push(json!({"index": index, "reason": reason}));
                let name = event.get("event_type").and_then(Value::as_str);
                // Of an unknown type the reason has what may be kept.
                let known = name.filter(|name| desk.validator.knows(name));
                rejected.push((known.map(str::to_owned), reason));
            }
        }
    }
    let accepted = good.len();
    let (done, committed) = oneshot::channel();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let received_at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let job = Job { received_at_ms, originator, events: good, rejected, done };
    let gone = |_| "the writer has ended".to_owned();
    desk.jobs.send(job).await.map_err(|_| gone(()))?;
    let duplicates = committed.await.map_err(|_| gone(()))??;
    Ok(json!({"accepted": accepted, "duplicates": duplicates, "rejected": said}))
}

fn product(event: &Value) -> Option<&str> {
    let params = event.get("event_params")?;
    let client = params.get("app_server_client").and_then(|client| client.get("product_client_id"));
    client.or_else(|| params.get("product_client_id"))?.as_str()
}
