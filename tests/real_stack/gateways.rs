//! The collector in front of the back ends: what it masks, what it keeps, what it counts.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};

use crate::parts::{Collector, arrived, collector_program, expected, replay, sessions, sum};
use crate::program::{get, until};
use crate::received::{Received, hex, text};

const PLANTED: &[&str] = &[
    "sk-proj-Zm9vYmFyYmF6cXV4MDEyMzQ1",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "AKIAIOSFODNN7PLANTED",
    "xoxb-1234567890-planted",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwbGFudGVkIn0.c2lnbmF0dXJl",
    "https://user:planted-word@example.com/path",
];

/// Whether the span tells of a failure, of an end nobody saw, or of this long a time.
fn telling(spans: &[&Span], slow_ms: u64) -> bool {
    let failed = |span: &&Span| span.status.as_ref().is_some_and(|it| it.code == StatusCode::Error as i32);
    let unseen = |span: &&Span| {
        let attribute = span.attributes.iter().find(|it| it.key == "codex.turn.end_observed");
        attribute.and_then(|it| it.value.as_ref()?.value.as_ref()) == Some(&Value::BoolValue(false))
    };
    let begin = spans.iter().map(|span| span.start_time_unix_nano).min().unwrap();
    let end = spans.iter().map(|span| span.end_time_unix_nano).max().unwrap();
    spans.iter().any(failed) || spans.iter().any(unseen) || (end - begin) / 1_000_000 >= slow_ms
}

fn by_trace(of: &Received) -> BTreeMap<String, Vec<&Span>> {
    let mut traces: BTreeMap<String, Vec<&Span>> = BTreeMap::new();
    for of in &of.spans {
        traces.entry(hex(&of.record.trace_id)).or_default().push(&of.record);
    }
    traces
}

#[test]
fn sampling_keeps_what_failed_or_was_slow_or_never_ended_each_trace_whole() {
    let Some(program) = collector_program() else { return };
    const SLOW_MS: u64 = 3000;
    let dir = tempfile::tempdir().unwrap();
    let sent = expected(dir.path(), &sessions());
    let traces = by_trace(&sent);
    let kept: BTreeSet<&String> =
        traces.iter().filter(|(_, spans)| telling(spans, SLOW_MS)).map(|(id, _)| id).collect();
    let errors = kept.iter().filter(|id| telling(&traces[**id], u64::MAX)).count();
    assert!(errors > 5 && kept.len() > errors && traces.len() > kept.len() + 20, "{errors} {}", kept.len());

    let end = Collector::into_files(&program, &dir.path().join("end"));
    let mut settings = end.as_back_end();
    // The wait is over when it is stopped.
    settings.extend([("SLOW_MS", SLOW_MS.to_string()), ("KEPT_PERCENT", "0".to_owned())]);
    settings.push(("SAMPLING_AFTER_TURN", "20m".to_owned()));
    let files = ["gateway.yaml", "gateway-sampling.yaml"];
    let gateway = Collector::start(&program, &files, &dir.path().join("gateway"), &settings);
    replay(dir.path(), gateway.http, &sessions());
    let mut logs = sent.clone();
    logs.spans.clear();
    let before = arrived(&[&end], &logs).remove(0);
    let spans = traces.values().flatten().count();
    until("the gateway holds all spans", || {
        let counted =
            sum(&get(gateway.own, "/metrics").unwrap_or_default(), "otelcol_receiver_accepted_spans");
        if counted >= spans as f64 { Ok(()) } else { Err(format!("{counted} of {spans}")) }
    });
    assert!(before.spans.is_empty(), "decided before the turns were over: {}", before.spans.len());
    let (status, said) = gateway.program.end();
    assert!(status.success(), "{status}\n{said}");
    // What it had decided but not delivered yet waits on disk.
    let gateway = Collector::start(&program, &files, &dir.path().join("gateway"), &settings);
    let spans: usize = kept.iter().map(|id| traces[*id].len()).sum();
    let mut decided = sent.clone();
    decided.spans.truncate(spans);
    arrived(&[&end], &decided);
    drop(gateway);
    let (status, said) = end.program.end();
    assert!(status.success(), "{status}\n{said}");
    let got = Received::from_files(&end.dir);
    let got = by_trace(&got);
    assert_eq!(got.keys().collect::<BTreeSet<_>>(), kept);
    for (id, spans) in &got {
        assert_eq!(spans.len(), traces[id].len(), "trace {id} is not whole");
    }
    println!(
        "{} of {} traces kept, {errors} of them for a failure or an end not seen",
        got.len(),
        traces.len()
    );
}

#[test]
fn a_planted_secret_does_not_leave_the_gateway() {
    let Some(program) = collector_program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let end = Collector::into_files(&program, &dir.path().join("end"));
    let gateway =
        Collector::start(&program, &["gateway.yaml"], &dir.path().join("gateway"), &end.as_back_end());
    // Resource attributes are the operator's own words: factline hands them on as they are.
    let planted = PLANTED.iter().enumerate().map(|(number, secret)| {
        let encoded: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
        format!("planted.{number}={encoded}")
    });
    let attributes = planted.collect::<Vec<_>>().join(",");
    let session = [sessions().remove(0)];
    let sent = expected(dir.path(), &session);
    let send = |port: u16, dir: &std::path::Path| {
        crate::program::run(
            crate::program::factline(dir)
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}"))
                .env("OTEL_RESOURCE_ATTRIBUTES", &attributes)
                .arg("replay")
                .args(&session),
        );
    };
    send(gateway.http, dir.path());
    let got = arrived(&[&end], &sent).remove(0);
    let written = |dir: &std::path::Path| {
        let text = |name| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        text("logs.jsonl") + &text("traces.jsonl") + &text("metrics.jsonl")
    };
    let out = written(&end.dir);
    for secret in PLANTED {
        assert!(!out.contains(secret), "{secret} came out of the gateway");
    }
    assert!(!out.contains("planted-word"));
    let masked = |number: usize| {
        let resource = got.spans[0].resource.as_ref().unwrap();
        text(&resource.attributes, &format!("planted.{number}")).unwrap()
    };
    assert_eq!(masked(0), "****");
    assert_eq!(masked(5), "****example.com/path");
    // Without the gateway they would have come out: the test sees what it is looking for.
    let plain = Collector::into_files(&program, &dir.path().join("plain"));
    send(plain.http, &dir.path().join("again"));
    arrived(&[&plain], &sent);
    let out = written(&plain.dir);
    for secret in PLANTED {
        assert!(out.contains(secret), "{secret} was not sent at all");
    }
}

#[test]
fn a_gateway_hands_on_every_field_and_counts_what_it_saw() {
    let Some(program) = collector_program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let sent = expected(dir.path(), &sessions());
    let end = Collector::into_files(&program, &dir.path().join("end"));
    let second = Collector::into_files(&program, &dir.path().join("second"));
    let mut settings = end.as_back_end();
    let jaeger = format!("127.0.0.1:{}", second.grpc);
    settings.extend([("METRICS_FLUSH", "200ms".to_owned()), ("JAEGER_OTLP", jaeger)]);
    let files = ["gateway.yaml", "gateway-also-jaeger.yaml"];
    let gateway = Collector::start(&program, &files, &dir.path().join("gateway"), &settings);
    replay(dir.path(), gateway.http, &sessions());
    let mut got = arrived(&[&end], &sent).remove(0);
    got.empty_is_absent();
    got.without_resource_attribute("service.instance.id");
    crate::received::assert_same("log records, left sent, right arrived", &sent.logs, &got.logs);
    crate::received::assert_same("spans, left sent, right arrived", &sent.spans, &got.spans);
    let mut spans = sent.clone();
    spans.logs.clear();
    let mut got = arrived(&[&second], &spans).remove(0);
    got.empty_is_absent();
    got.without_resource_attribute("service.instance.id");
    crate::received::assert_same("spans, left sent, right at the second", &sent.spans, &got.spans);

    // Of a second process, whose spans are the same series: a gateway counts, not each of its agents.
    let again = [sessions().remove(0)];
    let more = expected(&dir.path().join("again"), &again).spans.len();
    assert!(more > 0);
    replay(&dir.path().join("again"), gateway.http, &again);
    for series in ["traces_span_metrics_calls_total", "traces_span_metrics_duration_seconds_count"] {
        let expected = sent.spans.len() + more;
        let page = until(series, || {
            let page = get(gateway.counted, "/metrics")?;
            let now = sum(&page, series);
            if now == expected as f64 { Ok(page) } else { Err(format!("{now} instead of {expected}")) }
        });
        let mut of = page.lines().filter(|line| line.starts_with(series));
        assert!(
            of.all(|line| line.contains("job=\"codex-app-server\"") && !line.contains("instance=")),
            "{page}"
        );
    }
}
