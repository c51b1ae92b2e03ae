//! Secrets planted in all that is said and run, in the environment, headers and URLs, with every debug switch on: what
//! leaves through each protocol and sink, what lies on disk, what is printed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;

use crate::cli::{Surroundings, fed};
use crate::collector::{Collector, Reply};
use crate::grpc_collector::{GrpcCollector, taken};
use crate::{SECRET, nowhere_of, session};

/// A secret that a rule knows.
const TOKEN: &str = "ghp_pl4ntedpl4ntedpl4nted7f3a";
/// Credentials of ours: each for one destination, and there in one header.
const OF_COLLECTOR: &str = "c0llect0r-cr3dential-5d1e";
const OF_BACKEND: &str = "b4ckend-cr3dential-90aa";

/// Says what a server said, and stays until that was observed: at the end a tap does not wait long on a busy machine.
const SERVER: &str = "cat > /dev/null; cat given-server.txt; n=0; \
    until grep -rqsa codex_mcp_tool_call_event state/factline/outbox || [ $n -ge 400 ]; \
    do n=$((n+1)); sleep 0.05; done";

/// The recorded session with the token in all that is private, and what a child has to print for it.
fn with_token(around: &Surroundings) -> String {
    let session = session().replace(SECRET, TOKEN);
    let lines = session.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut server = String::new();
    let mut client = String::new();
    for line in lines.filter(|line| line["conn"] == 1 && line["msg"].is_object()) {
        let side = if line["dir"] == "server" { &mut server } else { &mut client };
        side.push_str(&format!("{}\n", line["msg"]));
    }
    around.write("given-server.txt", &server);
    client
}

fn holds(bytes: &[u8], word: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(word)
}

/// `factline backend serve`, with its events below `db`.
struct Backend(Child, String);

impl Backend {
    fn start(around: &Surroundings) -> Backend {
        let mut command =
            around.command(["backend", "serve", "--listen", "127.0.0.1:0", "--db", "db/events.db"]);
        let log = |name| Stdio::from(std::fs::File::create(around.path(name)).unwrap());
        let mut child = command.stdout(log("backend.out")).stderr(Stdio::piped()).spawn().unwrap();
        let mut greeting = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut greeting).unwrap();
        let address = greeting.split("http://").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let url = format!("http://{address}");
        Backend(child, url)
    }

    fn end(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What reached each destination, by what it is: bodies, and headers.
#[derive(Default)]
struct Wire {
    bodies: Vec<(&'static str, Vec<u8>)>,
    headers: Vec<String>,
}

impl Wire {
    fn http(&mut self, collector: &Collector, what: fn(&str) -> &'static str) {
        for request in collector.requests() {
            self.headers.push(format!("{:?}", request.headers));
            self.bodies.push((what(&request.path), request.body));
        }
    }

    fn grpc(&mut self, collector: &GrpcCollector) {
        for call in collector.calls() {
            self.headers.push(format!("{:?}", call.metadata));
            self.bodies.push(("logs", format!("{:?}", call.request).into_bytes()));
        }
        for signal in ["traces", "metrics"] {
            let requests = collector.requests_of(signal).into_iter();
            self.bodies.extend(requests.map(|request| (signal, request)));
        }
    }
}

/// The tap around the session, and then everything delivered; returns what is in the wire's place.
fn through(protocol: &str, capture: &str, form: &str) {
    let what = format!("{protocol} {capture} {form}");
    let around = Surroundings::new();
    let client = with_token(&around);
    let http = Collector::start(|_, _| Reply::ok());
    let grpc = GrpcCollector::start(|_, _| taken());
    let events = Collector::start(|_, _| Reply::ok());
    let backend = Backend::start(&around);
    let log = around.path("log");
    let (http_url, grpc_url, events_url) = (http.url(""), grpc.url(), events.url(""));
    let headers = format!("authorization=Bearer {OF_COLLECTOR}");
    let mut variables = vec![
        ("FACTLINE_FILTER", "trace"),
        ("RUST_LOG", "trace"),
        ("RUST_BACKTRACE", "full"),
        ("OTEL_LOG_LEVEL", "debug"),
        ("FACTLINE_LOG", log.to_str().unwrap()),
        ("FACTLINE_CAPTURE", capture),
        ("FACTLINE_SPAN_EVENTS", "true"),
        ("FACTLINE_ANALYTICS_FILTER", "trace"),
        ("FACTLINE_ANALYTICS_FORM", form),
        ("FACTLINE_ANALYTICS_TOKEN", OF_BACKEND),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
        ("SOME_TOKEN", TOKEN),
        // The real backend knows one form; of the others it is seen what is sent.
        ("FACTLINE_ANALYTICS_URL", if form == "events" { backend.1.as_str() } else { events_url.as_str() }),
    ];
    if protocol != "files" {
        let url = if protocol == "grpc" { &grpc_url } else { &http_url };
        variables.push(("OTEL_EXPORTER_OTLP_PROTOCOL", protocol));
        variables.push(("OTEL_EXPORTER_OTLP_ENDPOINT", url));
        variables.push(("OTEL_EXPORTER_OTLP_HEADERS", &headers));
    }
    let arguments = ["tap", "--", "sh", "-c", SERVER, TOKEN];
    let mut command: Command = around.command(arguments);
    command.envs(variables.iter().copied());
    let ran = fed(command, client.as_bytes());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let secrets = [TOKEN, OF_COLLECTOR, OF_BACKEND];
    secrets.iter().for_each(|secret| nowhere_of(secret, &around, &["given"]));
    for arguments in [
        &["outbox", "status"][..],
        &["outbox", "flush"],
        &["outbox", "status", "--json"],
        &["outbox", "show", "--dead"],
        &["doctor"],
    ] {
        let ran = around.run_with(&variables, arguments);
        for secret in secrets {
            assert!(
                !ran.stdout.contains(secret) && !ran.stderr.contains(secret),
                "{what} {arguments:?}: {ran:?}"
            );
        }
        assert!(ran.code == Some(0) || arguments == ["doctor"], "{what} {arguments:?}: {ran:?}");
    }
    backend.end();
    secrets.iter().for_each(|secret| nowhere_of(secret, &around, &["given"]));
    let mut wire = Wire::default();
    wire.http(&http, |path| {
        if path.ends_with("logs") {
            "logs"
        } else if path.ends_with("traces") {
            "traces"
        } else {
            "metrics"
        }
    });
    wire.grpc(&grpc);
    wire.http(&events, |_| "events");
    if protocol == "files" {
        for signal in ["logs", "traces", "metrics"] {
            let bytes = std::fs::read(around.files().join(format!("{signal}.jsonl"))).unwrap();
            wire.bodies.push((signal, bytes));
        }
    } else {
        let sent = wire.headers.iter().filter(|headers| headers.contains(OF_COLLECTOR)).count();
        assert!(sent > 0, "{what}: the credential is in a header");
    }
    if form == "events" {
        let query =
            ["backend", "query", "--db", "db/events.db", "--json", "SELECT count(*) AS n FROM events"];
        let counted = around.run(query);
        assert!(
            counted.stdout.contains("\"n\":") && !counted.stdout.contains("\"n\":0"),
            "{what}: {counted:?}"
        );
    } else {
        assert!(
            wire.headers.iter().any(|headers| headers.contains(OF_BACKEND)),
            "{what}: the token is in a header"
        );
        assert!(
            wire.bodies.iter().any(|(of, body)| *of == "events" && holds(body, "codex_mcp_tool_call_event")),
            "{what}"
        );
    }
    for signal in ["logs", "traces", "metrics"] {
        assert!(
            wire.bodies.iter().any(|(of, body)| *of == signal && !body.is_empty()),
            "{what}: no {signal}"
        );
    }
    for (of, body) in &wire.bodies {
        for secret in secrets {
            assert!(!holds(body, secret), "{what}: {secret} in {of}");
        }
        let said = holds(body, "[redacted:");
        assert!(!said || (capture != "none" && ["logs", "traces"].contains(of)), "{what}: content in {of}");
    }
    let signals = ["logs", "traces"].map(|signal| {
        wire.bodies.iter().any(|(of, body)| *of == signal && holds(body, "[redacted:github_token]"))
    });
    assert_eq!(signals, [capture != "none"; 2], "{what}: what was taken out is said");
}

#[test]
fn no_secret_leaves_through_any_protocol_or_sink_or_lies_anywhere() {
    let combinations = ["http/protobuf", "http/json", "grpc", "files"]
        .into_iter()
        .flat_map(|protocol| ["all", "prompts,output", "none"].map(|capture| (protocol, capture)));
    let all: Vec<_> = combinations.zip(["events", "array", "lines", "events"].into_iter().cycle()).collect();
    let left = Mutex::new(all);
    // They wait for one another's processes more than they compute.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap().pop();
                    let Some(((protocol, capture), form)) = next else { return };
                    through(protocol, capture, form);
                }
            });
        }
    });
}

#[test]
fn a_replay_with_everything_captured_holds_no_secret() {
    let around = Surroundings::new();
    around.write("given.jsonl", session().replace(SECRET, TOKEN));
    let variables = [
        ("FACTLINE_FILTER", "trace"),
        ("FACTLINE_ANALYTICS_FILE", "events.jsonl"),
        ("FACTLINE_SPAN_EVENTS", "1"),
    ];
    for arguments in [&["--show"][..], &["--otlp-file", "out"], &["--json"]] {
        let arguments = [&["replay", "--capture", "all"], arguments, &["given.jsonl"]].concat();
        let ran = around.run_with(&variables, arguments);
        assert_eq!(ran.code, Some(3), "{ran:?}");
        assert!(!ran.stdout.contains(TOKEN) && !ran.stderr.contains(TOKEN), "{ran:?}");
    }
    assert!(holds(&std::fs::read(around.path("out/traces.jsonl")).unwrap(), "[redacted:github_token]"));
    nowhere_of(TOKEN, &around, &["given"]);
}
