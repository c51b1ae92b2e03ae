//! The instruments in Markdown, made from the table.

use std::fmt::Write as _;

use super::table::{ATTRIBUTES, Kind, TABLE, When};

/// The whole of `docs/metrics.md`.
pub fn catalogue() -> String {
    let mut out = String::from(INTRODUCTION);
    let groups = [
        ("Turns, tools, threads, approvals", &[When::Always][..]),
        ("Tokens", &[When::LatestTokens, When::OldTokens]),
        ("What only a host can tell", &[When::Host]),
        ("The pipeline itself", &[When::Live]),
    ];
    for (title, when) in groups {
        let _ = write!(out, "\n## {title}\n");
        for of in TABLE.iter().filter(|of| when.contains(&of.when)) {
            let (kind, buckets) = match of.kind {
                Kind::Counter => ("counter", None),
                Kind::UpDownCounter => ("up-down counter", None),
                Kind::Gauge => ("gauge", None),
                Kind::Histogram(bounds) => ("histogram", Some(bounds)),
            };
            let names = if of.when == When::OldTokens { ", semantic conventions 1.41" } else { "" };
            let _ = write!(out, "\n### `{}`\n\n{}\n\nA {kind} in `{}`{names}.", of.name, of.doc, of.unit);
            if let Some(bounds) = buckets {
                let bounds: Vec<String> = bounds.iter().map(ToString::to_string).collect();
                let _ = write!(out, " Buckets: {}.", bounds.join(", "));
            }
            let attributes: Vec<String> = of.attributes.iter().map(|key| format!("`{key}`")).collect();
            match attributes.is_empty() {
                true => out.push_str(" No attributes.\n"),
                false => {
                    let _ = writeln!(out, " Attributes: {}.", attributes.join(", "));
                }
            }
        }
    }
    out.push_str("\n## Values that are told apart\n\n| attribute | values, then `_OTHER` |\n|---|---|\n");
    for (key, most) in ATTRIBUTES {
        let _ = writeln!(out, "| `{key}` | {most} |");
    }
    out
}

const INTRODUCTION: &str = "\
# Metrics

Made from the table in `src/metrics/table.rs` by `cargo run --example metrics > docs/metrics.md`; a test keeps it in step.

Facts become metrics in the process that observes them, with names of the semantic conventions where there is one, and
`codex.*` where there is none. No name is one that Codex's own export uses, so both may arrive at one back end. In
Prometheus dots are underscores, and units and `_total` are appended: `codex.turns` is `codex_turns_total`,
`gen_ai.invoke_agent.duration` is `gen_ai_invoke_agent_duration_seconds_bucket`.

**Where they go.** Where logs and traces go: `OTEL_EXPORTER_OTLP_ENDPOINT` or `..._METRICS_ENDPOINT`, else `metrics.jsonl`;
`OTEL_METRICS_EXPORTER=none` switches them off. Every `OTEL_METRIC_EXPORT_INTERVAL` (60 s) a collection becomes one record
in the outbox, and is delivered from there like everything else, over outages. The last one is made at the end of the
process.

**After a crash.** A cumulative collection is checkpointed in the outbox every second in which something was measured, and
the next start, or `factline outbox flush`, delivers the last checkpoint: `kill -9` costs the metrics of at most about a
second. The next process is another series, with a start time and a `service.instance.id` of its own. Turns that were
running are closed as spans (`interrupted`), but counted in no metric; `codex.turn.active` of the dead process ends at 0.
With delta temporality there is no checkpoint, and `kill -9` costs up to an interval.

**Temporality** is cumulative unless `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` says `delta` or `lowmemory`.

**Exemplars.** Counters and histograms carry the last measurement of each series since the record before, with the trace id
of its turn (which is the turn's id without dashes) and its span id. `OTEL_METRICS_EXEMPLAR_FILTER=always_off` leaves them
out.

**Cardinality.** An instrument has the attributes listed here and no others, none is an id, and of each attribute so many
values are told apart as the last table says, the first that come; further ones are `_OTHER`. Values are cut at 64 bytes. A
series beyond 2,000 of an instrument is counted under `otel.metric.overflow=true`.

**Replays** have the times of the transcript: `factline replay --otlp-file DIR` writes the same `metrics.jsonl` each time, a
collection for every 60 s of the session and one at its end, without `factline.*`. A replay to a collector collects at the
configured interval of the session's time.

**Tokens** are counted when the model's answer is, by the rule that leaves out what forks, resumes and replays of history
repeat. `FACTLINE_METRICS_TOKENS` is `latest` (default), `1.41` for the histogram of that version, `both` or `none`.
";
