//! The figures of `docs/scaling.md`, measured anew; no promise, so only when asked for:
//!
//! cargo test --release --test real_stack measure -- --ignored --nocapture     (with the variables of main.rs)

use std::path::PathBuf;
use std::time::Instant;

use crate::parts::{Collector, Kafka, collector_program, expected, local, replay, sessions};
use crate::program::until;

/// How often all recorded sessions are sent.
const TIMES: usize = 20;

fn cpu(of: &Collector) -> f64 {
    of.own_sum("otelcol_process_cpu_seconds_total")
}

#[test]
#[ignore = "measures, and promises nothing"]
fn the_cost_of_each_stage() {
    let Some(program) = collector_program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let kafka_dir = dir.path().join("kafka");
    let Some(kafka) = Kafka::start(&kafka_dir, 4) else { return };
    let once = expected(dir.path(), &sessions());
    let json = |name| std::fs::metadata(dir.path().join("expected").join(name)).unwrap().len();
    println!(
        "all sessions once: {:?} log records and spans, {} + {} bytes of JSON",
        once.counts(),
        json("logs.jsonl"),
        json("traces.jsonl")
    );
    let all: Vec<PathBuf> = std::iter::repeat_n(sessions(), TIMES).flatten().collect();
    let records = TIMES * (once.logs.len() + once.spans.len());
    let broker = ("KAFKA", local(kafka.port));
    let files = ["agent.yaml", "agent-to-kafka.yaml"];
    let agent = Collector::start(&program, &files, &dir.path().join("agent"), std::slice::from_ref(&broker));
    let before = cpu(&agent);
    let since = Instant::now();
    replay(dir.path(), agent.http, &all);
    let lasted = since.elapsed().as_secs_f64();
    println!(
        "factline: {records} records read, kept and delivered in {lasted:.1} s, {:.0} a second",
        records as f64 / lasted
    );

    let end = Collector::into_files(&program, &dir.path().join("end"));
    let mut settings = end.as_back_end();
    settings.push(broker);
    let files = ["gateway.yaml", "gateway-from-kafka.yaml"];
    let gateway = Collector::start(&program, &files, &dir.path().join("gateway"), &settings);
    until("the gateway hands all on", || {
        let sent = |signal: &str| gateway.own_sum(&format!("otelcol_exporter_sent_{signal}_total{{"));
        let counted = sent("spans") + sent("log_records");
        if counted >= records as f64 { Ok(()) } else { Err(format!("{counted} of {records}")) }
    });
    let micros = |seconds: f64| seconds * 1e6 / records as f64;
    println!("agent: {:.1} us of CPU a record", micros(cpu(&agent) - before));
    println!("gateway: {:.1} us of CPU a record", micros(cpu(&gateway)));
    for topic in ["otlp_spans", "otlp_logs"] {
        println!("Kafka, {topic}: {} bytes", Kafka::bytes(&kafka_dir, topic));
    }
    for (name, collector) in [("agent", &agent), ("gateway", &gateway)] {
        println!("{name}: {:.0} MB resident", collector.own_sum("otelcol_process_memory_rss_bytes") / 1e6);
    }
}
