//! Variables of the OpenTelemetry specification that mean nothing here, and what to use instead.

use super::env::Env;

const BATCHES: &str = "records are kept in the outbox and leave in batches; its bounds are `outbox.max_bytes` and \
                       `outbox.max_age`";
const LIMITS: &str = "attributes come from a table and are bounded there; nothing is cut by number";

/// Names, and the sentence that follows "not supported: ". Source of the names: OpenTelemetry specification 1.60,
/// "Environment Variable Specification", and "OpenTelemetry Protocol Exporter".
pub(super) const UNSUPPORTED: &[(&[&str], &str)] = &[
    (
        &["OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"],
        "factline has a file of its own, named with `--config` or `FACTLINE_CONFIG`; the other variables hold",
    ),
    (&["OTEL_ENTITIES"], "use `OTEL_RESOURCE_ATTRIBUTES`"),
    (&["OTEL_LOG_LEVEL"], "`FACTLINE_LOG` names a file in which `tap` says what is wrong"),
    (
        &[
            "OTEL_BSP_SCHEDULE_DELAY",
            "OTEL_BSP_EXPORT_TIMEOUT",
            "OTEL_BSP_MAX_QUEUE_SIZE",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
            "OTEL_BLRP_SCHEDULE_DELAY",
            "OTEL_BLRP_EXPORT_TIMEOUT",
            "OTEL_BLRP_MAX_QUEUE_SIZE",
            "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
        ],
        BATCHES,
    ),
    (
        &[
            "OTEL_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_SPAN_LINK_COUNT_LIMIT",
            "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
        ],
        LIMITS,
    ),
    (
        &["OTEL_EXPORTER_ZIPKIN_ENDPOINT", "OTEL_EXPORTER_ZIPKIN_TIMEOUT"],
        "send OTLP to a collector, which has an exporter for Zipkin",
    ),
    (
        &["OTEL_EXPORTER_PROMETHEUS_HOST", "OTEL_EXPORTER_PROMETHEUS_PORT"],
        "send OTLP to Prometheus itself or to a collector",
    ),
    (
        &["OTEL_SEMCONV_STABILITY_OPT_IN", "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"],
        "there is one form of each name here",
    ),
    (&["OTEL_METRIC_EXPORT_TIMEOUT"], "metrics leave through the outbox, which waits for nothing"),
    (
        &["OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"],
        "the buckets are those that the conventions advise",
    ),
    (&["TRACESTATE", "BAGGAGE"], "only `TRACEPARENT` is read, for a link"),
];

/// What is said of some values only.
pub(super) const PARTLY: &[(&str, &str)] = &[
    (
        "OTEL_TRACES_SAMPLER",
        "every turn is sent, as `always_on` and `parentbased_always_on` say; a collector can sample (`tail_sampling`)",
    ),
    ("OTEL_TRACES_SAMPLER_ARG", "as above"),
    ("OTEL_PROPAGATORS", "W3C trace context is read; other formats are not"),
];

impl Env<'_> {
    /// Warns of what is set and means nothing.
    pub(super) fn standard(&mut self) {
        for (names, instead) in UNSUPPORTED {
            for name in *names {
                if self.text(name).is_some() {
                    self.warn(name, format!("not supported: {}", instead.replace('`', "")));
                }
            }
        }
        const PROPAGATORS: &str = "OTEL_PROPAGATORS";
        let Some(text) = self.text(PROPAGATORS) else { return };
        let names: Vec<String> = text.value.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
        for name in
            names.iter().filter(|name| !["tracecontext", "baggage", "none", ""].contains(&name.as_str()))
        {
            self.warn(
                PROPAGATORS,
                format!("{} is not supported: W3C trace context is read", name.escape_debug()),
            );
        }
        if !names.iter().any(|name| name == "tracecontext") {
            let message = "W3C trace context is read all the same; unset TRACEPARENT where it is not wanted";
            self.warn(PROPAGATORS, message);
        }
    }
}
