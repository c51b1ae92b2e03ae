//! With default settings, what is private is in nothing that factline writes: not in telemetry, the outbox, a log, a
//! message.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "../support/cli.rs"]
mod cli;
#[path = "../support/collector.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod collector;
#[path = "../support/grpc_collector.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod grpc_collector;
mod wire;

use std::net::TcpListener;

use cli::{Ran, SESSION, Surroundings, fed, files_below};
use serde_json::{Value, json};

const SECRET: &str = "pl4nted-s3cret-7f3a";

/// Members whose text is what somebody wrote, ran, read, or where on the machine it was.
const PRIVATE: &[&str] = &[
    "text",
    "delta",
    "command",
    "cwd",
    "aggregatedOutput",
    "path",
    "message",
    "prompt",
    "summary",
    "preview",
    "title",
    "codexHome",
    "reason",
    "arguments",
    "result",
    "originUrl",
    "branch",
    "sha",
    "diff",
    "query",
    "url",
    "error",
    "serverName",
    "instructions",
    "objective",
    "details",
];

fn plant(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(text) if PRIVATE.contains(&key.as_str()) => {
                        *text = format!("/{SECRET}/{text} {SECRET}");
                    }
                    Value::Array(list) if ["command", "runtimeWorkspaceRoots"].contains(&key.as_str()) => {
                        list.push(json!(format!("/{SECRET}")));
                    }
                    _ => plant(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(plant),
        _ => {}
    }
}

/// The session with secrets in it, and what the recorded one has no example of.
fn session() -> String {
    let mut lines: Vec<Value> = SESSION.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &mut lines {
        if let Some(message) = line.get_mut("msg") {
            for part in ["params", "result"] {
                message.get_mut(part).map(plant);
            }
            if let Some(thread) = message.pointer_mut("/result/thread") {
                thread["gitInfo"] = json!({"originUrl": format!("https://me:{SECRET}@host/{SECRET}.git"), "branch": SECRET, "sha": SECRET});
                thread["path"] = json!(format!("/home/{SECRET}/rollout.jsonl"));
                thread["cwd"] = json!(format!("/home/{SECRET}"));
            }
        }
    }
    let at = lines.iter().position(|line| line["msg"]["method"] == "turn/started").unwrap() + 1;
    let place = json!({"threadId": lines[at - 1]["msg"]["params"]["threadId"], "turnId": lines[at - 1]["msg"]["params"]["turn"]["id"]});
    let (t_us, emitted) = (lines[at - 1]["t_us"].clone(), lines[at - 1]["msg"]["emittedAtMs"].clone());
    let item = |item: Value| {
        let with = |method: &str, time: &str, item: &Value| json!({"method": method, "params": {"threadId": place["threadId"], "turnId": place["turnId"], "item": item, time: emitted}, "emittedAtMs": emitted});
        [with("item/started", "startedAtMs", &item), with("item/completed", "completedAtMs", &item)]
    };
    let mut more = vec![
        json!({"id": 900, "method": "turn/start", "params": {"threadId": place["threadId"], "input": [{"type": "text", "text": SECRET}]}}),
        json!({"id": 900, "error": {"code": -32600, "message": SECRET, "data": {"a": SECRET}}}),
        json!({"method": "error", "params": {"threadId": place["threadId"], "turnId": place["turnId"], "willRetry": true,
            "error": {"message": SECRET, "codexErrorInfo": "other", "additionalDetails": SECRET}}, "emittedAtMs": emitted}),
        json!({"method": "some/unknown", "params": {"text": SECRET, "id": SECRET}}),
        json!({"id": 901, "method": "another/unknown", "params": [SECRET, SECRET]}),
        json!({"method": "turn/started", "params": {"threadId": place["threadId"], "turn": [SECRET, SECRET]}, "emittedAtMs": emitted}),
        json!({"method": "item/started", "params": [SECRET, SECRET, [SECRET]], "emittedAtMs": emitted}),
    ];
    more.extend(item(
        json!({"type": "mcpToolCall", "id": "i1", "server": "s", "tool": "t", "status": "completed",
        "arguments": {"a": SECRET}, "result": {"content": [{"text": SECRET}]}, "error": {"message": SECRET}}),
    ));
    more.extend(item(json!({"type": "webSearch", "id": "i2", "query": SECRET, "action": {"type": "search", "query": SECRET}})));
    more.extend(item(json!({"type": "fileChange", "id": "i3", "status": "completed",
        "changes": [{"path": format!("/{SECRET}"), "kind": {"type": "update", "move_path": SECRET}, "diff": format!("+{SECRET}")}]})));
    more.extend(item(json!({"type": "imageView", "id": "i4", "path": format!("/{SECRET}.png")})));
    more.extend(item(json!({"type": "brandNew", "id": "i5", "text": SECRET})));
    let from_client = |message: &Value| message["method"] == "turn/start" || message["id"] == 901;
    for message in more.into_iter().rev() {
        let dir = if from_client(&message) { "client" } else { "server" };
        lines.insert(at, json!({"t_us": t_us, "dir": dir, "conn": 1, "msg": message}));
    }
    let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    text.push_str(&format!("{SECRET} is no JSON\n{{\"{SECRET}\":1}}\n{{\"t_us\":\"{SECRET}\"}}\n"));
    text
}

#[track_caller]
fn nowhere(around: &Surroundings, except: &[&str]) {
    nowhere_of(SECRET, around, except);
}

#[track_caller]
fn nowhere_of(secret: &str, around: &Surroundings, except: &[&str]) {
    let mut looked_at = 0;
    for file in files_below(around.dir.path()) {
        let bytes = std::fs::read(&file).unwrap();
        let name = file.strip_prefix(around.dir.path()).unwrap().to_str().unwrap();
        assert!(!name.contains(secret), "{name}");
        if !except.iter().any(|given| name.starts_with(given)) {
            looked_at += 1;
            let text = String::from_utf8_lossy(&bytes);
            let around = text.find(secret).map(|at| &text.as_bytes()[at.saturating_sub(200)..at + 40]);
            let around = around.map(String::from_utf8_lossy);
            assert_eq!(around, None, "{name}");
        }
    }
    assert!(looked_at > 0, "nothing was written");
}

#[track_caller]
fn silent(ran: &Ran, code: i32) {
    assert_eq!(ran.code, Some(code), "{}", ran.stderr);
    assert!(!ran.stdout.contains(SECRET), "{}", ran.stdout);
    assert!(!ran.stderr.contains(SECRET), "{}", ran.stderr);
}

const FILTERS: [&str; 2] = ["info", "trace"];

#[test]
fn a_replay_into_files_holds_no_secret() {
    for filter in FILTERS {
        let around = Surroundings::new();
        around.write("given.jsonl", session());
        let variables = [("FACTLINE_FILTER", filter), ("SOME_TOKEN", SECRET)];
        for place in [&["--otlp-file", "out"][..], &[]] {
            let arguments = ["replay", "--show", "given.jsonl"].iter().chain(place);
            silent(&around.run_with(&variables, arguments), 3);
        }
        assert!(cli::spans(&around.path("out/traces.jsonl")).len() > 42);
        nowhere(&around, &["given.jsonl"]);
    }
}

#[test]
fn a_tap_holds_no_secret_in_telemetry_outbox_or_log() {
    for filter in FILTERS {
        let around = Surroundings::new();
        let session = session();
        let lines = session.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let messages: Vec<Value> =
            lines.filter(|line| line["conn"] == 1 && line["msg"].is_object()).collect();
        let of = |side: &str| -> String {
            messages
                .iter()
                .filter(|line| line["dir"] == side)
                .map(|line| format!("{}\n", line["msg"]))
                .collect()
        };
        let server = of("server") + SECRET + " is no JSON\n";
        around.write("given-server.txt", &server);
        // Nobody listens there: everything stays in the outbox, and the log hears of it.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let url = format!("http://me:{SECRET}@{address}/?key={SECRET}#{SECRET}");
        let headers = format!("authorization=Bearer {SECRET},x-{SECRET}");
        let log = around.path("log");
        let variables = [
            ("FACTLINE_FILTER", filter),
            ("FACTLINE_LOG", log.to_str().unwrap()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", headers.as_str()),
            ("SOME_TOKEN", SECRET),
        ];
        let arguments = ["tap", "--", "sh", "-c", "cat > /dev/null; cat given-server.txt", SECRET];
        let mut command = around.command(arguments);
        command.envs(variables);
        let ran = fed(command, of("client").as_bytes());
        assert_eq!((ran.code, &ran.stdout), (Some(0), &server), "{}", ran.stderr);
        assert_eq!(ran.stderr, "");
        nowhere(&around, &["given"]);
        let status = around.run_with(&variables, ["outbox", "status"]);
        silent(&status, 0);
        silent(&around.run_with(&variables, ["outbox", "flush", "--timeout", "0"]), 1);
        silent(&around.run_with(&variables, ["outbox", "flush", "--timeout", "0", "--json"]), 1);
        nowhere(&around, &["given"]);
        // And to files at last, so that what waited is seen decoded.
        silent(&around.run_with(&[], ["outbox", "flush"]), 0);
        assert!(cli::spans(&around.files().join("traces.jsonl")).len() > 14);
        nowhere(&around, &["given"]);
    }
}

#[test]
fn a_wrong_endpoint_or_header_is_not_repeated() {
    let around = Surroundings::new();
    around.write("given.jsonl", session());
    let wrong = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("me:{SECRET}@host")),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("ftp://me:{SECRET}@host")),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://?{SECRET}")),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("http://me:{SECRET}@[nonsense/")),
    ];
    for (variable, value) in wrong {
        let log = around.path("log");
        let variables = [(variable, value.as_str()), ("FACTLINE_LOG", log.to_str().unwrap())];
        silent(&around.run_with(&variables, ["replay", "given.jsonl"]), 1);
        silent(&around.run_with(&variables, ["tap", "--", "true"]), 0);
        silent(&around.run_with(&variables, ["outbox", "flush"]), 1);
    }
    let headers = [
        format!("authorization={SECRET}\u{7f}"),
        SECRET.to_owned(),
        format!("a b={SECRET}"),
        format!("a=%zz{SECRET}"),
    ];
    for value in &headers {
        let variables = [
            ("OTEL_EXPORTER_OTLP_HEADERS", value.as_str()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
        ];
        let ran = around.run_with(&variables, ["outbox", "flush", "--timeout", "0"]);
        silent(&ran, ran.code.unwrap());
    }
    nowhere(&around, &["given"]);
}

#[test]
fn a_command_gets_the_environment_but_for_our_own_credentials() {
    let around = Surroundings::new();
    let variables = [
        ("FACTLINE_ANALYTICS_TOKEN", SECRET),
        ("FACTLINE_ANALYTICS_ACCOUNT_ID", SECRET),
        ("FACTLINE_ANALYTICS_HEADERS", "x-key=pl4nted-s3cret-7f3a"),
        ("FACTLINE_FILTER", "debug"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-own=1"),
        ("OTHER", "kept"),
    ];
    let ran = around.run_with(&variables, ["tap", "--", "env"]);
    silent(&ran, 0);
    for kept in ["OTHER=kept", "OTEL_EXPORTER_OTLP_HEADERS=x-own=1", "FACTLINE_FILTER=debug"] {
        assert!(ran.stdout.lines().any(|line| line == kept), "{kept}: {}", ran.stdout);
    }
}

#[test]
fn what_others_named_drives_no_terminal() {
    use collector::{Collector, Reply};
    const WILD: &str = "\u{1b}[31mred\u{7}\u{9b}2J\u{202e}";
    let around = Surroundings::new();
    let wild = serde_json::to_string(WILD).unwrap();
    let wild = wild.trim_matches('"');
    let session = SESSION
        .replace("\"clientInfo\":{\"name\":\"", &format!("\"clientInfo\":{{\"name\":\"{wild}"))
        .replace("\"tool\":\"", &format!("\"tool\":\"{wild}"))
        .replace("\"agentRole\":null", &format!("\"agentRole\":\"{wild}\""));
    assert!(session.matches(wild).count() > 2);
    around.write("wild.jsonl", session);
    let refusing =
        Collector::start(|_, _| Reply::Status(400, vec![], format!("{WILD} is wrong").into_bytes()));
    let url = refusing.url("");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())];
    let runs = [
        around.run(["replay", "--show", "--otlp-file", "out", "wild.jsonl"]),
        around.run_with(&variables, ["replay", "wild.jsonl"]),
        around.run_with(&variables, ["outbox", "status"]),
        around.run([format!("{WILD}.jsonl")].iter().fold(vec!["replay"], |mut all, name| {
            all.push(name);
            all
        })),
    ];
    for ran in runs {
        for shown in [&ran.stdout, &ran.stderr] {
            let bad = shown.chars().find(|c| c.is_control() && !"\n\t".contains(*c) || *c == '\u{202e}');
            assert_eq!(bad, None, "{shown}");
        }
    }
}
