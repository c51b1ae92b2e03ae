//! `factline doctor` against destinations that work and that do not.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/cli.rs"]
mod cli;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/collector.rs"]
mod collector;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/grpc_collector.rs"]
mod grpc_collector;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/served.rs"]
mod served;
#[path = "support/tls_front.rs"]
mod tls_front;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant, SystemTime};

use certificates::Authority;
use cli::{Ran, Surroundings};
use collector::{Collector, Reply};
use grpc_collector::{GrpcCollector, taken};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde_json::Value;
use served::Served;
use tls_front::front;

/// One line of the report.
#[derive(Debug)]
struct Line {
    verdict: String,
    step: String,
    said: String,
    advice: String,
}

struct Examined {
    ran: Ran,
    lines: Vec<Line>,
}

impl Examined {
    /// Fails unless this step ended so and said this, and the program ended as it has to.
    #[track_caller]
    fn must(&self, step: &str, verdict: &str, said: &str) -> &Line {
        let line = self.lines.iter().find(|line| line.step == step && line.said.contains(said));
        let line = line.unwrap_or_else(|| panic!("no {step} says {said:?}: {:#?}", self.lines));
        assert_eq!(line.verdict, verdict, "{line:?}");
        let failed = self.lines.iter().any(|line| line.verdict == "fail");
        assert_eq!(self.ran.code, Some(i32::from(failed)), "{:?}", self.ran);
        line
    }

    /// Fails unless that is how far it got.
    #[track_caller]
    fn must_end_at(&self, step: &str) {
        assert_eq!(self.lines.last().map(|line| line.step.as_str()), Some(step), "{:#?}", self.lines);
    }
}

/// Runs it with these variables; logs alone unless they say otherwise.
fn examine(around: &Surroundings, variables: &[(&str, &str)]) -> Examined {
    let all = [&[("OTEL_TRACES_EXPORTER", "none")], variables].concat();
    let ran = around.run_with(&all, ["doctor", "--json", "--timeout", "2"]);
    assert_eq!(ran.stderr, "");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = ran.json()["checks"].as_array().unwrap().clone();
    let line = |check: &Value| Line {
        verdict: text(&check["verdict"]),
        step: text(&check["step"]),
        said: text(&check["said"]),
        advice: text(&check["advice"]),
    };
    Examined { lines: checks.iter().map(line).collect(), ran }
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

fn over_http(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Examined {
    let (around, collector) = (Surroundings::new(), Collector::start(move |_, _| reply()));
    examine(&around, &[(ENDPOINT, &collector.url(""))])
}

#[test]
fn a_collector_that_takes_everything_is_fine_and_got_a_probe_of_each_signal() {
    let now = httpdate(SystemTime::now());
    let collector = Collector::start(move |_, _| Reply::Status(200, vec![("date", now.clone())], vec![]));
    let around = Surroundings::new();
    let seen = examine(&around, &[(ENDPOINT, &collector.url("")), ("OTEL_TRACES_EXPORTER", "otlp")]);
    for (step, said) in [
        ("name", "127.0.0.1"),
        ("connection", "127.0.0.1"),
        ("certificate", "plain text"),
        ("protocol", "HTTP"),
        ("clock", "as ours"),
        ("logs", "acknowledged; look for factline.probe"),
        ("traces", "acknowledged"),
    ] {
        seen.must(step, "ok", said);
    }
    let requests = collector.requests();
    let of =
        |path: &str| requests.iter().find(|it| it.path == path && !it.body.is_empty()).unwrap().body.clone();
    let logs = ExportLogsServiceRequest::decode(&*of("/v1/logs")).unwrap();
    let record = &logs.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((record.event_name.as_str(), record.severity_number), ("factline.probe", 9));
    let service = &logs.resource_logs[0].resource.as_ref().unwrap().attributes[0];
    assert_eq!(service.key, "service.name");
    let traces = ExportTraceServiceRequest::decode(&*of("/v1/traces")).unwrap();
    let span = &traces.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!((span.name.as_str(), span.trace_id.len(), span.span_id.len()), ("factline.probe", 16, 8));
    assert!(span.end_time_unix_nano > span.start_time_unix_nano);
    assert!(!around.outbox().exists(), "nothing is left behind");
}

#[test]
fn a_receiver_for_grpc_is_met_in_grpc() {
    let (around, collector) = (Surroundings::new(), GrpcCollector::start(|_, _| taken()));
    let seen = examine(&around, &[(ENDPOINT, &collector.url()), (PROTOCOL, "grpc")]);
    seen.must("protocol", "ok", "HTTP/2");
    seen.must("logs", "ok", "acknowledged");
    assert_eq!(collector.calls()[0].names(), ["factline.probe"]);
}

#[test]
fn the_wrong_protocol_is_named_both_ways() {
    let (around, grpc) = (Surroundings::new(), GrpcCollector::start(|_, _| taken()));
    let seen = examine(&around, &[(ENDPOINT, &grpc.url())]);
    let line = seen.must("protocol", "fail", "speaks HTTP/2 alone, as a receiver for gRPC does");
    assert!(line.advice.contains("set otlp.protocol to grpc") && line.advice.contains("4318"), "{line:?}");
    seen.must_end_at("protocol");
    // As Go's server answers to HTTP/2 that it does not know.
    let http = Collector::start(|_, _| Reply::status(400));
    let seen = examine(&around, &[(ENDPOINT, &http.url("")), (PROTOCOL, "grpc")]);
    let line = seen.must("protocol", "fail", "it speaks HTTP/1, and was spoken to in HTTP/2");
    assert!(line.advice.contains("http/protobuf") && line.advice.contains("4317"), "{line:?}");
    seen.must_end_at("protocol");
}

#[test]
fn refused_credentials_are_told_without_them() {
    let (around, collector) = (Surroundings::new(), Collector::start(|_, _| Reply::status(401)));
    for status in [401, 403] {
        let collector = Collector::start(move |_, _| Reply::status(status));
        let variables = [
            (ENDPOINT, collector.url("").clone()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2".to_owned()),
        ];
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        let seen = examine(&around, &variables);
        let line = seen.must("logs", "fail", &status.to_string());
        assert!(
            line.advice.contains("otlp.headers") && line.advice.contains("wait in the outbox"),
            "{line:?}"
        );
        assert!(!seen.ran.stdout.contains("hunter2") && seen.ran.stdout.contains("authorization=[hidden]"));
    }
    drop(collector);
    let denied = GrpcCollector::start(|_, _| Err(tonic::Status::unauthenticated("no")));
    let seen = examine(&around, &[(ENDPOINT, &denied.url()), (PROTOCOL, "grpc")]);
    let line = seen.must("logs", "fail", "UNAUTHENTICATED");
    assert!(line.advice.contains("otlp.headers"), "{line:?}");
}

#[test]
fn what_an_answer_says_is_told() {
    for (reply, verdict, said) in [
        (Reply::status(404), "fail", "no OTLP receiver at this URL"),
        (Reply::status(503), "fail", "not now: HTTP status 503"),
        (Reply::status(400), "fail", "refused: HTTP status 400"),
        (Reply::status(307), "fail", "redirect"),
        (partial(1, "too old"), "fail", "the record in it rejected: too old"),
        (partial(0, "deprecated"), "warn", "acknowledged, with a warning: deprecated"),
        (partial(1, "\u{1b}[2Jboo"), "fail", "rejected: \\u{1b}[2Jboo"),
    ] {
        over_http(move || reply.clone()).must("logs", verdict, said);
    }
}

fn partial(rejected: i64, message: &str) -> Reply {
    let partial =
        ExportLogsPartialSuccess { rejected_log_records: rejected, error_message: message.to_owned() };
    let body = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    Reply::Status(200, vec![], body)
}

#[test]
fn clocks_that_are_apart_are_told() {
    let then = httpdate(SystemTime::now() - Duration::from_secs(3600));
    let seen = over_http(move || Reply::Status(200, vec![("date", then.clone())], vec![]));
    seen.must("clock", "warn", "s behind of ours");
    seen.must("logs", "ok", "acknowledged");
}

fn httpdate(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}

#[test]
fn nobody_there_ends_soon_and_says_at_which_step() {
    let around = Surroundings::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let seen = examine(&around, &[(ENDPOINT, &format!("http://{closed}"))]);
    seen.must("connection", "fail", "refused");
    seen.must_end_at("connection");
    let seen = examine(&around, &[(ENDPOINT, "http://collector.invalid:4318")]);
    seen.must("name", "fail", "cannot be resolved");
    seen.must_end_at("name");
    // Takes connections and says nothing, for ever.
    let silent = Collector::start(|_, _| Reply::Silence);
    let since = Instant::now();
    let seen = examine(&around, &[(ENDPOINT, &silent.url(""))]);
    seen.must("protocol", "fail", "takes connections and answers nothing");
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    let hangup = Collector::start(|_, _| Reply::Hangup);
    examine(&around, &[(ENDPOINT, &hangup.url(""))]).must(
        "protocol",
        "fail",
        "closed the connection without",
    );
}

#[test]
fn a_proxy_is_named_without_its_credentials_and_the_probe_goes_through_it() {
    let (around, proxy) = (Surroundings::new(), Collector::start(|_, _| Reply::ok()));
    let through = proxy.url("").replace("http://", "http://ada:hunter2@");
    let seen = examine(&around, &[(ENDPOINT, "http://collector.invalid:4318"), ("HTTP_PROXY", &through)]);
    seen.must("proxy", "ok", &format!("requests go through {}", proxy.url("")));
    seen.must("logs", "ok", "acknowledged");
    assert_eq!(proxy.requests()[0].path, "http://collector.invalid:4318/v1/logs");
    assert!(!seen.ran.stdout.contains("hunter2"));
}

#[test]
fn a_certificate_is_refused_for_a_reason_that_is_told() {
    let (around, collector) = (Surroundings::new(), Collector::start(|_, _| Reply::ok()));
    let (ours, theirs) =
        (Authority::new(around.dir.path(), "ours"), Authority::new(around.dir.path(), "theirs"));
    let trust = ours.file.to_str().unwrap();
    let url = |port: u16| format!("https://localhost:{port}");
    let met =
        |port: u16| examine(&around, &[(ENDPOINT, &url(port)), ("OTEL_EXPORTER_OTLP_CERTIFICATE", trust)]);
    let good = met(front(collector.address, &ours.server("good", "localhost", 2100), None));
    good.must("certificate", "ok", "trusted, TLSv1.3");
    good.must("logs", "ok", "acknowledged");
    for (pair, said, advice) in [
        (ours.server("old", "localhost", 2021), "expired on Fri, 01 Jan 2021", "renew it"),
        (ours.server("other", "collector.example", 2100), "is for collector.example", "use the name"),
        (theirs.server("foreign", "localhost", 2100), "not trusted here", "otlp.certificate"),
    ] {
        let seen = met(front(collector.address, &pair, None));
        let line = seen.must("certificate", "fail", said);
        assert!(line.advice.contains(advice), "{line:?}");
        seen.must_end_at("certificate");
    }
    let mutual = front(collector.address, &ours.server("mutual", "localhost", 2100), Some(&ours.file));
    let line = met(mutual);
    let line = line.must("certificate", "fail", "wants a certificate of ours");
    assert!(line.advice.contains("client_certificate"), "{line:?}");
    assert_eq!(collector.requests().iter().filter(|it| !it.body.is_empty()).count(), 1);
}

#[test]
fn tls_where_there_is_none_and_none_where_there_is_are_told_apart() {
    let (around, collector) = (Surroundings::new(), Collector::start(|_, _| Reply::ok()));
    // One that closes the connection at what it does not understand, and one that says so.
    let seen = examine(&around, &[(ENDPOINT, &collector.url("").replace("http:", "https:"))]);
    let line = seen.must("certificate", "fail", "the TLS handshake failed");
    assert!(line.advice.contains("http://"), "{line:?}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let says = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
        // Until the other side has seen it.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let line = examine(&around, &[(ENDPOINT, &url)]);
    let line = line.must("certificate", "fail", "does not speak TLS");
    assert!(line.advice.contains("http://"), "{line:?}");
    says.join().unwrap();
    let authority = Authority::new(around.dir.path(), "ca");
    let port = front(collector.address, &authority.server("s", "localhost", 2100), None);
    let seen = examine(&around, &[(ENDPOINT, &format!("http://localhost:{port}"))]);
    let line = seen.must("protocol", "fail", "speaks TLS, and was spoken to in plain text");
    assert!(line.advice.contains("https://"), "{line:?}");
}

#[test]
fn a_server_that_speaks_for_ever_ends_with_the_time_limit() {
    let around = Surroundings::new();
    let endless = |start: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut bytes = start.iter().chain(std::iter::repeat(&b'a'));
                while stream.write_all(&[*bytes.next().unwrap()]).is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        address
    };
    let since = Instant::now();
    // The head of a TLS record of 16 KiB, a head of HTTP that does not end, and nothing known.
    let tls = examine(&around, &[(ENDPOINT, &format!("https://{}", endless(b"\x16\x03\x03\x40\x00\x02")))]);
    tls.must("certificate", "fail", "no answer in time");
    let http = examine(&around, &[(ENDPOINT, &format!("http://{}", endless(b"HTTP/1.1 200 OK\r\nx: ")))]);
    http.must("logs", "fail", "not now");
    let other = examine(&around, &[(ENDPOINT, &format!("http://{}", endless(b"SSH-2.0-")))]);
    other.must("protocol", "fail", "neither HTTP nor gRPC");
    assert!(since.elapsed() < Duration::from_secs(30), "{:?}", since.elapsed());
}

#[test]
fn certificates_that_are_missing_or_do_not_belong_together_are_named() {
    let around = Surroundings::new();
    let authority = Authority::new(around.dir.path(), "ca");
    let (one, other) = (authority.client("one"), authority.client("other"));
    let collector = Collector::start(|_, _| Reply::ok());
    let port = front(collector.address, &authority.server("s", "localhost", 2100), None);
    let url = format!("https://localhost:{port}");
    let missing = around.path("missing.pem");
    let missing = missing.to_str().unwrap();
    let seen = examine(&around, &[(ENDPOINT, &url), ("OTEL_EXPORTER_OTLP_CERTIFICATE", missing)]);
    seen.must("certificate", "fail", missing);
    let seen = examine(
        &around,
        &[
            (ENDPOINT, &url),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", one.certificate.to_str().unwrap()),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", other.key.to_str().unwrap()),
        ],
    );
    seen.must("certificate", "fail", one.certificate.to_str().unwrap());
}

#[test]
fn an_analytics_backend_is_asked_without_events() {
    let (around, served) = (Surroundings::new(), Served::start(|_| {}));
    let none = [("OTEL_LOGS_EXPORTER", "none"), ("FACTLINE_ANALYTICS_URL", &*served.url())];
    let seen = examine(&around, &none);
    seen.must("protocol", "ok", "HTTP");
    seen.must("analytics", "ok", "");
    assert_eq!(served.number("SELECT count(*) FROM events"), 0);
    let denied = Collector::start(|_, _| Reply::status(403));
    let seen = examine(
        &around,
        &[
            ("OTEL_LOGS_EXPORTER", "none"),
            ("FACTLINE_ANALYTICS_URL", &denied.url("")),
            ("FACTLINE_ANALYTICS_TOKEN", "hunter2"),
        ],
    );
    let line = seen.must("analytics", "fail", "credentials missing or refused");
    assert!(line.advice.contains("token_command"), "{line:?}");
    assert!(!seen.ran.stdout.contains("hunter2"));
}

#[test]
fn every_setting_is_shown_with_who_said_it_and_no_secret() {
    let around = Surroundings::new();
    let file = around.write(
        "config.toml",
        "filter = \"info\"\n[otlp]\nendpoint = \"http://ada:hunter2@localhost:1/base?key=hunter2\"\n\
         headers = { x-key = \"hunter2\" }\n[outbox]\nmax_bytes = \"128MiB\"\n\
         [analytics]\nenabled = false\nurl = \"hunter2\"\ntoken_command = [\"print\", \"hunter2\"]\n",
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (file, set) = (file.to_str().unwrap(), [("FACTLINE_FILTER", "debug"), ("FACTLINE_OUTBOXX", "1")]);
    let arguments = ["--config", file, "doctor", "--offline", "--all"];
    let ran = around.run_with(&set, arguments.iter().chain(&["--json"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let said = ran.json();
    let of = |key: &str| {
        let all = said["settings"].as_array().unwrap();
        let setting = all.iter().find(|it| it["key"] == key).unwrap();
        [
            setting["value"].as_str().unwrap().to_owned(),
            setting["origin"].as_str().unwrap().replace(file, "F"),
        ]
    };
    assert_eq!(of("filter"), ["debug", "FACTLINE_FILTER"]);
    assert_eq!(of("otlp.endpoint"), ["http://localhost:1/base", "F:3"]);
    assert_eq!(of("otlp.headers"), ["x-key=[hidden]", "F:4"]);
    assert_eq!(of("outbox.max_bytes"), ["128MiB", "F:6"]);
    assert_eq!(of("analytics.url"), ["[no URL]", "F:9"]);
    assert_eq!(of("analytics.token_command"), ["print ...", "F:10"]);
    assert_eq!(of("outbox.max_age"), ["7d", "default"]);
    assert_eq!(said["config_file"], file);
    let shown = around.run_with(&set, arguments);
    for text in [&ran.stdout, &shown.stdout] {
        assert!(!text.contains("hunter2"), "{text}");
        assert!(
            text.contains("FACTLINE_OUTBOXX: there is no such setting; did you mean FACTLINE_OUTBOX_DIR?")
        );
    }
    assert!(shown.stdout.contains(&format!("FACTLINE_FILTER (instead of {file}:1)")), "{}", shown.stdout);
}

#[test]
fn a_broken_file_fails_with_every_mistake_and_every_command_says_so() {
    let around = Surroundings::new();
    let file = around.write("bad.toml", "filtre = \"x\"\n[otlp]\ntimeout = \"soon\"\n");
    let file = file.to_str().unwrap();
    let ran = around.run(["--config", file, "doctor"]);
    assert_eq!(ran.code, Some(1));
    for said in
        ["bad.toml:1: filtre: there is no such setting; did you mean filter?", "bad.toml:3: otlp.timeout"]
    {
        assert!(ran.stdout.contains(said), "{}", ran.stdout);
    }
    for command in [&["outbox", "status"][..], &["replay", "x"], &["demo"]] {
        around.run_with(&[("FACTLINE_CONFIG", file)], command).must(1, &["did you mean filter?"]);
    }
    // The command runs all the same, and the log says why nothing is observed.
    let log = around.path("log");
    let set = [("FACTLINE_CONFIG", file), ("FACTLINE_LOG", log.to_str().unwrap())];
    let ran = around.run_with(&set, ["tap", "--", "echo", "hello"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "hello\n", ""));
    assert!(std::fs::read_to_string(log).unwrap().contains("did you mean filter?"));
    around.write("config.toml", "nonsense = 1\n");
    around.run(["outbox", "status"]).must(0, &[]);
}

#[test]
fn an_outbox_in_trouble_is_told() {
    let around = Surroundings::new();
    let session = around.session();
    let gone = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")];
    around.run_with(&gone, ["replay", "--timeout", "0", session.to_str().unwrap()]).must(1, &[]);
    std::fs::set_permissions(around.outbox(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let segment = cli::files_below(&around.outbox())
        .into_iter()
        .filter(|path| path.extension().is_some_and(|it| it == "seg"))
        .max_by_key(|path| std::fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&segment, bytes).unwrap();
    let seen = examine(&around, &[("OTEL_LOGS_EXPORTER", "none")]);
    let line = seen.must("directory", "warn", "mode 755 lets others in");
    assert!(line.advice.contains("chmod 700"), "{line:?}");
    seen.must("left over", "warn", "records of 1 ended");
    seen.must("damage", "warn", segment.to_str().unwrap());
    // No place at all.
    let file = around.write("file", "");
    let seen = examine(&around, &[("FACTLINE_OUTBOX_DIR", file.to_str().unwrap())]);
    seen.must("directory", "fail", "is no directory");
    let seen = examine(&around, &[("FACTLINE_OUTBOX_MAX_BYTES", "1000TiB")]);
    seen.must("space", "warn", "free, bound");
}

#[test]
fn files_that_cannot_be_written_are_told() {
    let around = Surroundings::new();
    examine(&around, &[]).must("logs", "ok", "is not there yet");
    let dir = around.path("otlp");
    std::fs::create_dir_all(dir.join("logs.jsonl")).unwrap();
    let set = [("FACTLINE_FILES_DIR", dir.to_str().unwrap())];
    examine(&around, &set).must("logs", "fail", "cannot be written");
    std::fs::remove_dir(dir.join("logs.jsonl")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join("logs.jsonl")).unwrap();
    examine(&around, &set).must("logs", "fail", "cannot be written");
    std::fs::remove_file(dir.join("logs.jsonl")).unwrap();
    std::fs::write(dir.join("logs.jsonl"), "").unwrap();
    std::fs::set_permissions(dir.join("logs.jsonl"), std::fs::Permissions::from_mode(0o644)).unwrap();
    examine(&around, &set).must("logs", "warn", "read by others");
}

#[test]
fn offline_meets_nobody_and_a_filter_that_hides_all_is_told() {
    let (around, collector) = (Surroundings::new(), Collector::start(|_, _| Reply::ok()));
    let set = [(ENDPOINT, &*collector.url("")), ("FACTLINE_TRACES_FILTER", "mycrate=info")];
    let ran = around.run_with(&set, ["doctor", "--offline"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(collector.requests().is_empty());
    assert!(ran.stdout.contains("FACTLINE_TRACES_FILTER lets 0 of"), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}') && ran.stderr.is_empty(), "{ran:?}");
    let ran = around.run_with(&[("FACTLINE_LOGS_FILTER", "a=b=c")], ["doctor", "--offline"]);
    assert!(ran.code == Some(1) && ran.stdout.contains("FACTLINE_LOGS_FILTER: "), "{ran:?}");
}
