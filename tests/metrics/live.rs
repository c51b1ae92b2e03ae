//! Metrics of a running tap: at the interval, at its end, and after it was killed.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::Metric;

use crate::cli::{Surroundings, files_below};
use crate::{by, points, program, sum};

/// A tap before `cat`: what the test says comes back as what a server says.
struct Tap(std::process::Child);

impl Tap {
    fn start(around: &Surroundings, variables: &[(&str, &str)]) -> Tap {
        let mut command = around.command(["tap", "--", "cat"]);
        command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::null());
        Tap(command.spawn().unwrap())
    }

    fn say(&mut self, method: &str, params: &serde_json::Value) {
        let line =
            serde_json::json!({"method": method, "params": params, "emittedAtMs": 1_795_329_285_947u64});
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn turn(&mut self, id: &str, completed: bool) {
        let turn = |status| serde_json::json!({"threadId": "thread", "turn": {"id": id, "status": status}});
        self.say("turn/started", &turn("inProgress"));
        if completed {
            self.say("turn/completed", &turn("completed"));
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The collections in a file of JSON lines. Several that waited go in one request: where a name comes again, another
/// one begins.
fn collections(path: &Path) -> Vec<Vec<Metric>> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let requests = whole.map(|line| serde_json::from_str::<ExportMetricsServiceRequest>(line).unwrap());
    requests
        .flat_map(|request| request.resource_metrics)
        .flat_map(|resource| resource.scope_metrics)
        .flat_map(|scope| {
            let mut all: Vec<Vec<Metric>> = Vec::new();
            for metric in scope.metrics {
                match all.last_mut().filter(|last| last.iter().all(|known| known.name != metric.name)) {
                    Some(last) => last.push(metric),
                    None => all.push(vec![metric]),
                }
            }
            all
        })
        .collect()
}

#[test]
fn what_a_killed_tap_had_measured_is_delivered_by_the_next_flush() {
    let around = Surroundings::new();
    let mut tap = Tap::start(&around, &[]);
    tap.turn("01a201f3-bbc2-7210-93e3-c9061bfde670", true);
    tap.turn("01a201f3-bbc2-7210-93e3-c9061bfde671", false);
    program::until("a checkpoint", || {
        let holds = |path: &std::path::PathBuf| {
            let bytes = std::fs::read(path).unwrap_or_default();
            let has = |word: &[u8]| bytes.windows(word.len()).any(|some| some == word);
            has(b"codex.turns") && has(b"codex.turn.active")
        };
        let outbox = around.outbox();
        let found = outbox.is_dir() && files_below(&outbox).iter().any(holds);
        if found { Ok(()) } else { Err("none yet".to_owned()) }
    });
    assert_eq!(collections(&around.files().join("metrics.jsonl")).len(), 0, "no record was due");
    drop(tap);
    around.run(["outbox", "flush"]).must(0, &[]);
    let metrics = collections(&around.files().join("metrics.jsonl"));
    assert_eq!(metrics.len(), 1);
    assert_eq!(sum(&metrics[0], "codex.turns"), 1);
    let running: f64 = points(&metrics[0], "codex.turn.active").iter().map(|point| point.value).sum();
    assert_eq!(running, 0.0, "nothing of a dead process runs");
    around.run(["outbox", "flush"]).must(0, &[]);
    assert_eq!(collections(&around.files().join("metrics.jsonl")).len(), 1, "once");
}

#[test]
fn a_tap_exports_at_the_interval_and_at_its_end_with_the_pipelines_own_numbers() {
    let around = Surroundings::new();
    let mut tap = Tap::start(&around, &[("OTEL_METRIC_EXPORT_INTERVAL", "100")]);
    tap.turn("01a201f3-bbc2-7210-93e3-c9061bfde670", true);
    let file = around.files().join("metrics.jsonl");
    let all = program::until("collections while the tap runs", || {
        let all = collections(&file);
        let counted = all.iter().filter(|metrics| sum(metrics, "codex.turns") == 1).count();
        if counted >= 2 { Ok(all) } else { Err(format!("{} collections", all.len())) }
    });
    let newest = all.last().unwrap();
    assert!(sum(newest, "factline.records.accepted") >= 3, "two log records and a span");
    assert_eq!(sum(newest, "factline.records.lost"), 0);
    assert!(by(newest, "factline.records.delivered", "factline.queue").contains_key("traces"));
    assert!(!points(newest, "factline.ring.utilization").is_empty());
    tap.turn("01a201f3-bbc2-7210-93e3-c9061bfde671", true);
    drop(tap.0.stdin.take());
    assert!(tap.0.wait().unwrap().success());
    around.run(["outbox", "flush"]).must(0, &[]);
    assert_eq!(sum(collections(&file).last().unwrap(), "codex.turns"), 2, "the last one is made at the end");
}
