//! A gRPC collector on loopback, with tonic's server, that records each request and answers as scripted.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A call as it came in.
#[derive(Clone, Debug)]
pub struct Call {
    pub metadata: MetadataMap,
    pub request: ExportLogsServiceRequest,
    pub peer: SocketAddr,
    pub at: Instant,
}

impl Call {
    /// The event names of the records.
    pub fn names(&self) -> Vec<String> {
        let scopes = self.request.resource_logs.iter().flat_map(|logs| &logs.scope_logs);
        scopes.flat_map(|scope| &scope.log_records).map(|record| record.event_name.clone()).collect()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(|value| value.to_str().unwrap())
    }
}

pub type Answer = Result<ExportLogsServiceResponse, Status>;

type Script = dyn Fn(usize, &Call) -> Answer + Send + Sync;

struct Scripted {
    calls: Arc<(Mutex<Vec<Call>>, Condvar)>,
    script: Box<Script>,
}

#[tonic::async_trait]
impl LogsService for Scripted {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let peer = request.remote_addr().unwrap();
        let (metadata, _, request) = request.into_parts();
        let call = Call { metadata, request, peer, at: Instant::now() };
        let number = {
            let mut calls = self.calls.0.lock().unwrap();
            calls.push(call.clone());
            self.calls.1.notify_all();
            calls.len() - 1
        };
        (self.script)(number, &call).map(Response::new)
    }
}

/// Takes spans and metrics, without a script.
#[derive(Clone, Default)]
struct Taking(Arc<Mutex<Taken>>);

/// Signals and requests.
type Taken = Vec<(&'static str, Vec<u8>)>;

#[tonic::async_trait]
impl TraceService for Taking {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(("traces", request.into_inner().encode_to_vec()));
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Taking {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.lock().unwrap().push(("metrics", request.into_inner().encode_to_vec()));
        Ok(Response::new(Default::default()))
    }
}

/// All three on one port.
#[derive(Clone)]
struct ByPath {
    logs: LogsServiceServer<Scripted>,
    traces: TraceServiceServer<Taking>,
    metrics: MetricsServiceServer<Taking>,
}

impl Service<http::Request<Body>> for ByPath {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        if path.contains("TraceService") {
            self.traces.call(request)
        } else if path.contains("MetricsService") {
            self.metrics.call(request)
        } else {
            self.logs.call(request)
        }
    }
}

pub struct GrpcCollector {
    pub address: SocketAddr,
    calls: Arc<(Mutex<Vec<Call>>, Condvar)>,
    others: Taking,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl GrpcCollector {
    /// `script` gets the number of the call, from 0, and the call.
    pub fn start(script: impl Fn(usize, &Call) -> Answer + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub fn on(
        listener: TcpListener,
        script: impl Fn(usize, &Call) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (calls, others) = (Arc::default(), Taking::default());
        let traces = TraceServiceServer::new(others.clone()).accept_compressed(CompressionEncoding::Gzip);
        let metrics = MetricsServiceServer::new(others.clone()).accept_compressed(CompressionEncoding::Gzip);
        let service =
            LogsServiceServer::new(Scripted { calls: Arc::clone(&calls), script: Box::new(script) })
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd);
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap());
                let stopped = async { drop(stopped.await) };
                let service = ByPath { logs: service, traces, metrics };
                Server::builder().serve_with_incoming_shutdown(service, incoming, stopped).await.unwrap();
            });
        });
        Self { address, calls, others, stop: Some(stop), thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.0.lock().unwrap().clone()
    }

    /// Requests of the signal `traces` or `metrics`.
    pub fn requests_of(&self, signal: &str) -> Vec<Vec<u8>> {
        let taken = self.others.0.lock().unwrap();
        taken.iter().filter(|(of, _)| *of == signal).map(|(_, request)| request.clone()).collect()
    }

    /// Waits until that many calls came in.
    pub fn wait_for(&self, count: usize) -> Vec<Call> {
        let (calls, changed) = &*self.calls;
        let few = |calls: &mut Vec<Call>| calls.len() < count;
        let limit = Duration::from_secs(20);
        let (calls, late) = changed.wait_timeout_while(calls.lock().unwrap(), limit, few).unwrap();
        assert!(!late.timed_out(), "only {} of {count} calls", calls.len());
        calls.clone()
    }

    /// Says GOAWAY on every connection, finishes what is on its way, and frees the port.
    pub fn go_away(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

pub fn taken() -> Answer {
    Ok(ExportLogsServiceResponse::default())
}
