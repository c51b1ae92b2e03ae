//! The one table of settings. The file's keys, the variables, what `factline doctor` shows and
//! `docs/configuration.md` come from it.
//!
//! **A new setting**: add a row to [`TABLE`], read it where its neighbours are read (`env*.rs`, by the variable's
//! name, or by the key where it has none; the file's value arrives there in the form that the variable has), and
//! run `cargo run --example configuration > docs/configuration.md`.

use super::kind::Kind;
use super::row::{Row, row};

const MS: u64 = 1;
const SECOND: u64 = 1_000 * MS;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;
const TIMEOUT: Kind = Kind::Duration { least: MS, most: HOUR };

/// Every setting.
pub const TABLE: &[Row] = &[
    row("disabled", "OTEL_SDK_DISABLED", Kind::Bool, "false", "No telemetry at all; `tap` only relays."),
    row(
        "filter",
        "FACTLINE_FILTER",
        Kind::Filter,
        "info",
        "Which facts become logs and spans, in `EnvFilter` syntax.",
    )
    .flag("--filter"),
    row(
        "log",
        "FACTLINE_LOG",
        Kind::Path,
        "none",
        "A file in which `tap` says what is wrong with telemetry.",
    ),
    // The resource.
    row("resource.service_name", "OTEL_SERVICE_NAME", Kind::Text, "codex-app-server", "`service.name`."),
    row(
        "resource.attributes",
        "OTEL_RESOURCE_ATTRIBUTES",
        Kind::Pairs,
        "none",
        "Further attributes of the resource.",
    ),
    // Where each signal goes.
    row(
        "*.exporter",
        "OTEL_*_EXPORTER",
        Kind::Choice(&["otlp", "files", "none"]),
        "`otlp` where an endpoint is named, else `files`",
        "Where the signal goes.",
    ),
    row(
        "traces.sampler",
        "OTEL_TRACES_SAMPLER",
        Kind::Choice(&[
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ]),
        "parentbased_always_on",
        "Which turns have spans: all, none, or a share. Those that failed always have; logs are never sampled. \
         `parentbased_` makes no difference: the trace's id decides.",
    ),
    row("traces.sampler_arg", "OTEL_TRACES_SAMPLER_ARG", Kind::Text, "1.0", "The share, from 0 to 1."),
    row("*.filter", "FACTLINE_*_FILTER", Kind::Filter, "`filter`", "Which facts the signal is made of."),
    row(
        "files.dir",
        "FACTLINE_FILES_DIR",
        Kind::Path,
        "`otlp` beside the outbox",
        "Where OTLP JSON lines are written.",
    ),
    // OTLP: `otlp.x` for all signals, `logs.x` and so on for one.
    row(
        "otlp.endpoint",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        Kind::Url,
        "http://localhost:4318",
        "The collector. In `otlp` a base, to which `v1/logs` and so on are appended; a signal's own is used as it is.",
    ),
    row(
        "otlp.protocol",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        Kind::Choice(&["http/protobuf", "http/json", "grpc"]),
        "http/protobuf",
        "How OTLP travels.",
    ),
    row(
        "otlp.insecure",
        "OTEL_EXPORTER_OTLP_INSECURE",
        Kind::Bool,
        "false",
        "Whether a gRPC endpoint without a scheme is spoken to in plain text.",
    ),
    row("otlp.headers", "OTEL_EXPORTER_OTLP_HEADERS", Kind::Headers, "none", "Headers of every request."),
    row(
        "otlp.headers_command",
        "FACTLINE_OTLP_HEADERS_COMMAND",
        Kind::Words,
        "none",
        "A program that prints further headers, as a JSON object or as the variable has them, run again when they are \
         refused; no shell.",
    ),
    row(
        "otlp.timeout",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        TIMEOUT,
        "10s",
        "The time one export may take, answer included.",
    ),
    row(
        "otlp.compression",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        Kind::Choice(&["none", "gzip", "zstd"]),
        "none",
        "How requests are compressed.",
    ),
    row(
        "otlp.certificate",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        Kind::Path,
        "those of the system",
        "The authorities that a server's certificate has to come from, a PEM file.",
    ),
    row(
        "otlp.client_certificate",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        Kind::Path,
        "none",
        "The certificate that is shown to the server, a PEM file.",
    ),
    row(
        "otlp.client_key",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        Kind::Path,
        "none",
        "Its private key, a PEM file.",
    ),
    row(
        "otlp.in_flight",
        "FACTLINE_OTLP_IN_FLIGHT",
        Kind::Number { least: 1, most: 32 },
        "2",
        "Requests on their way at the same time.",
    ),
    // Content.
    row(
        "content.capture",
        "FACTLINE_CAPTURE",
        Kind::Names(&[
            "prompts",
            "messages",
            "reasoning",
            "arguments",
            "output",
            "paths",
            "repository",
            "user",
            "all",
            "none",
        ]),
        "what `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` means, else none",
        "The kinds of content and environment that may leave; `docs/privacy.md` says what each adds.",
    )
    .flag("--capture"),
    row(
        "content.messages",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        Kind::Choice(&[
            "no_content",
            "span_only",
            "event_only",
            "span_and_event",
            "span",
            "event",
            "both",
            "true",
            "false",
        ]),
        "no_content",
        "Where messages go. All but `no_content` and `false` mean prompts, messages, reasoning, arguments and output \
         where `content.capture` says nothing.",
    ),
    row(
        "content.limit",
        "FACTLINE_CONTENT_LIMIT",
        Kind::Size { least: 64, most: 512 << 10 },
        "16KiB",
        "The longest captured value; a longer one is cut, JSON inside its texts, and says so.",
    ),
    row(
        "content.value_length",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        Kind::Number { least: 0, most: u32::MAX as u64 },
        "`content.limit`",
        "A tighter bound for captured values, in bytes; other attributes are bounded by the table of facts.",
    ),
    row(
        "content.span_value_length",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        Kind::Number { least: 0, most: u32::MAX as u64 },
        "`content.value_length`",
        "The same on spans and their first and last log record.",
    ),
    row(
        "content.log_value_length",
        "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        Kind::Number { least: 0, most: u32::MAX as u64 },
        "`content.value_length`",
        "The same on log records of points in time.",
    ),
    row(
        "content.redact",
        "FACTLINE_REDACT",
        Kind::Pairs,
        "none",
        "Rules of your own beside the built-in ones: names, and patterns of the `regex` crate whose group `secret`, or \
         all of it, is taken out of captured values.",
    ),
    row(
        "otel.span_events",
        "FACTLINE_SPAN_EVENTS",
        Kind::Bool,
        "false",
        "Facts that are points in time are events of their turn's span as well, for back ends without logs.",
    ),
    row(
        "otel.span_event_count",
        "OTEL_SPAN_EVENT_COUNT_LIMIT",
        Kind::Number { least: 0, most: 100_000 },
        "128",
        "Events on one span at most; the others are counted on it.",
    ),
    // Metrics.
    row(
        "metrics.interval",
        "OTEL_METRIC_EXPORT_INTERVAL",
        Kind::Duration { least: 100 * MS, most: DAY },
        "60s",
        "Between two collections.",
    ),
    row(
        "metrics.temporality",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        Kind::Choice(&["cumulative", "delta", "lowmemory"]),
        "cumulative",
        "Whether values go on from the start of the process or begin anew with each collection.",
    ),
    row(
        "metrics.tokens",
        "FACTLINE_METRICS_TOKENS",
        Kind::Choice(&["latest", "1.41", "both", "none"]),
        "latest",
        "Under which names tokens are counted: the newer counters, the histogram of semantic conventions 1.41, both.",
    ),
    row(
        "metrics.exemplars",
        "OTEL_METRICS_EXEMPLAR_FILTER",
        Kind::Choice(&["trace_based", "always_on", "always_off"]),
        "trace_based",
        "Whether the last measurement of each series is sent along with its trace.",
    ),
    // The outbox.
    row(
        "outbox.dir",
        "FACTLINE_OUTBOX_DIR",
        Kind::Path,
        "`factline/outbox` below the user's state directory",
        "Where records are kept until they are delivered.",
    )
    .flag("--outbox"),
    row(
        "outbox.accept",
        "FACTLINE_OUTBOX_ACCEPT",
        Kind::Choice(&["ring", "write", "sync"]),
        "ring",
        "What has happened to a record when it counts as accepted: it is in the mapped ring, in a file, or synced.",
    ),
    row(
        "outbox.sync_interval",
        "FACTLINE_OUTBOX_SYNC_INTERVAL",
        Kind::Duration { least: 0, most: HOUR },
        "100ms",
        "The longest time that an accepted record stays without `fdatasync`.",
    ),
    row(
        "outbox.max_bytes",
        "FACTLINE_OUTBOX_MAX_BYTES",
        Kind::Size { least: 64 << 20, most: 1 << 50 },
        "1GiB",
        "Bound for the whole directory, all processes together.",
    ),
    row(
        "outbox.max_age",
        "FACTLINE_OUTBOX_MAX_AGE",
        Kind::Duration { least: SECOND, most: 3650 * DAY },
        "7d",
        "What is older is dropped and counted.",
    ),
    row(
        "outbox.ring_bytes",
        "FACTLINE_OUTBOX_RING_BYTES",
        Kind::Size { least: 64 << 10, most: 1 << 30 },
        "8MiB",
        "Size of the accept ring.",
    ),
    row(
        "outbox.when_full",
        "FACTLINE_OUTBOX_WHEN_FULL",
        Kind::Choice(&["drop-oldest", "block"]),
        "drop-oldest",
        "What gives way at `max_bytes`: the oldest records, counted as lost, or whoever emits, who then waits. `tap` \
         relays on in both cases.",
    ),
    // Analytics events.
    row(
        "analytics.enabled",
        "FACTLINE_ANALYTICS",
        Kind::Bool,
        "true where a URL or a file is named",
        "Whether events are made at all. Off means that no code of it runs.",
    ),
    row(
        "analytics.url",
        "FACTLINE_ANALYTICS_URL",
        Kind::Url,
        "none",
        "Base URL of a backend; events are posted to `{base}/{path}`.",
    ),
    row(
        "analytics.file",
        "FACTLINE_ANALYTICS_FILE",
        Kind::Path,
        "none",
        "Instead: a file that gets one event per line.",
    ),
    row(
        "analytics.families",
        "FACTLINE_ANALYTICS_FAMILIES",
        Kind::Names(&[
            "thread",
            "turn",
            "tool",
            "review",
            "goal",
            "capability",
            "plugin",
            "diff",
            "onboarding",
        ]),
        "all",
        "The families of events that are made; with `-` in front of names, all but those.",
    ),
    row(
        "analytics.filter",
        "FACTLINE_ANALYTICS_FILTER",
        Kind::Filter,
        "debug",
        "Which facts events are made of. An event misses what a fact that is filtered out would have told it.",
    ),
    row(
        "analytics.read_files",
        "FACTLINE_ANALYTICS_READ_FILES",
        Kind::Bool,
        "false",
        "Read skill files and repositories' settings to hash what they are called; the paths and texts themselves stay \
         here.",
    ),
    row(
        "analytics.path",
        "FACTLINE_ANALYTICS_PATH",
        Kind::Text,
        "codex/analytics-events/events",
        "Path below the base URL.",
    ),
    row(
        "analytics.form",
        "FACTLINE_ANALYTICS_FORM",
        Kind::Choice(&["events", "array", "lines"]),
        "events",
        "A request's body: `{\"events\":[...]}`, `[...]`, or an event per line.",
    ),
    row(
        "analytics.headers",
        "FACTLINE_ANALYTICS_HEADERS",
        Kind::Headers,
        "none",
        "Further headers of every request.",
    ),
    row("analytics.timeout", "FACTLINE_ANALYTICS_TIMEOUT", TIMEOUT, "10s", "The time a request may take."),
    row("analytics.token", "FACTLINE_ANALYTICS_TOKEN", Kind::Secret, "none", "The bearer token itself."),
    row(
        "analytics.token_file",
        "FACTLINE_ANALYTICS_TOKEN_FILE",
        Kind::Path,
        "none",
        "A file that holds the token, read again when it is refused.",
    ),
    row(
        "analytics.token_command",
        "FACTLINE_ANALYTICS_TOKEN_COMMAND",
        Kind::Words,
        "none",
        "A program that prints the token, run again when it is refused; no shell.",
    ),
    row(
        "analytics.account_id",
        "FACTLINE_ANALYTICS_ACCOUNT_ID",
        Kind::Secret,
        "none",
        "`chatgpt-account-id` of every request.",
    ),
];
