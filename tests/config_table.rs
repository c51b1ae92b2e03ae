//! What the table of settings promises: every name once, the page in step, every standard variable understood or
//! refused in words.
#![cfg(feature = "deliver")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use factline::config::{Config, Families, Sources, entries, page};

fn vars<'a>(set: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + Copy + 'a {
    |name| {
        let set = set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        set.or_else(|| (name == "HOME").then(|| "/home/ada".to_owned()))
    }
}

#[test]
fn a_variable_of_ours_that_does_not_exist_is_told_with_the_nearest() {
    let names = ["FACTLINE_FILTRE", "FACTLINE_FILTER", "FACTLINE_OUTBOX", "FACTLINE_CONFIG", "OTHER"];
    let found = Sources::unknown_variables(names.into_iter().map(str::to_owned));
    let said: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "FACTLINE_FILTRE: there is no such setting; did you mean FACTLINE_FILTER?",
            "FACTLINE_OUTBOX: there is no such setting; did you mean FACTLINE_OUTBOX_DIR?",
        ]
    );
}

#[test]
fn a_bad_value_of_our_own_variables_is_warned_of_and_the_default_holds() {
    for (name, bad) in [
        ("FACTLINE_OUTBOX_ACCEPT", "maybe"),
        ("FACTLINE_OUTBOX_MAX_BYTES", "1kB"),
        ("FACTLINE_OUTBOX_MAX_AGE", "soon"),
        ("FACTLINE_OUTBOX_WHEN_FULL", "panic"),
        ("FACTLINE_ANALYTICS_FAMILIES", "turns"),
    ] {
        let (config, warnings) = Config::from_env(vars(&[(name, bad)])).unwrap();
        assert_eq!(warnings.len(), 1, "{name}");
        assert!(warnings[0].to_string().starts_with(name), "{warnings:?}");
        assert_eq!(config.outbox, Config::from_env(vars(&[])).unwrap().0.outbox);
    }
    let set = [("FACTLINE_OUTBOX_MAX_AGE", "2d"), ("FACTLINE_ANALYTICS_FAMILIES", "Turn, tool")];
    let (config, warnings) = Config::from_env(vars(&set)).unwrap();
    assert_eq!((config.outbox.max_age.value, warnings), (Duration::from_secs(172_800), vec![]));
    assert_eq!(config.analytics.families.value, Families::Only(vec!["turn", "tool"]));
}

#[cfg(feature = "otel")]
#[test]
fn what_is_not_said_about_the_outbox_is_as_the_outbox_has_it() {
    let (config, _) = Config::from_env(vars(&[])).unwrap();
    let said = factline::telemetry::settings(&config);
    let own = factline::outbox::Settings::new(&config.outbox_dir.value);
    assert_eq!(format!("{said:?}"), format!("{own:?}"));
    let set = [
        ("FACTLINE_OUTBOX_ACCEPT", "write"),
        ("FACTLINE_OUTBOX_WHEN_FULL", "block"),
        ("FACTLINE_OUTBOX_RING_BYTES", "1MiB"),
        ("FACTLINE_OUTBOX_MAX_AGE", "1h"),
    ];
    let settings = factline::telemetry::settings(&Config::from_env(vars(&set)).unwrap().0);
    assert_eq!(settings.accept, factline::outbox::Accept::Write);
    assert_eq!(settings.when_full, factline::outbox::WhenFull::Block);
    assert_eq!((settings.ring_bytes, settings.max_age), (1 << 20, Duration::from_secs(3600)));
}

#[cfg(all(feature = "otel", feature = "analytics"))]
#[test]
fn the_families_of_the_table_are_those_of_the_events() {
    use factline::analytics::{Families as Made, Family};
    use factline::telemetry::families;
    let row = entries().iter().find(|entry| entry.key == "analytics.families").unwrap().row;
    let names: Vec<&str> = Family::ALL.into_iter().map(Family::as_str).collect();
    assert_eq!(row.kind, factline::config::Kind::Names(&names.leak()[..]));
    assert_eq!(families(&Families::All), Made::default());
    assert_eq!(families(&Families::Only(vec!["turn"])), Made::NONE.with(Family::Turn));
    assert_eq!(families(&Families::Without(vec!["turn"])), Made::default().without(Family::Turn));
}

#[test]
fn the_table_names_nothing_twice_and_the_page_is_in_step() {
    let all = entries();
    let keys: BTreeSet<&str> = all.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys.len(), all.len());
    let variables: Vec<&str> =
        all.iter().map(|entry| entry.variable.as_str()).filter(|it| !it.is_empty()).collect();
    assert_eq!(variables.iter().collect::<BTreeSet<_>>().len(), variables.len());
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let committed = std::fs::read_to_string(committed).unwrap_or_default();
    assert!(committed == page(), "run: cargo run --example configuration > docs/configuration.md");
}

/// The variables of the specification (1.60, "Environment Variable Specification" and "OTLP exporter"), each with
/// a value that is not its default.
const STANDARD: &[(&str, &str)] = &[
    ("OTEL_SDK_DISABLED", "true"),
    ("OTEL_ENTITIES", "host{host.id=1}"),
    ("OTEL_RESOURCE_ATTRIBUTES", "a=b"),
    ("OTEL_SERVICE_NAME", "x"),
    ("OTEL_LOG_LEVEL", "debug"),
    ("OTEL_PROPAGATORS", "b3"),
    ("OTEL_TRACES_SAMPLER", "traceidratio"),
    ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
    ("OTEL_BSP_SCHEDULE_DELAY", "1"),
    ("OTEL_BSP_EXPORT_TIMEOUT", "1"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
    ("OTEL_BLRP_SCHEDULE_DELAY", "1"),
    ("OTEL_BLRP_EXPORT_TIMEOUT", "1"),
    ("OTEL_BLRP_MAX_QUEUE_SIZE", "1"),
    ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "1"),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "1"),
    ("OTEL_ATTRIBUTE_COUNT_LIMIT", "1"),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "1"),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1"),
    ("OTEL_SPAN_EVENT_COUNT_LIMIT", "1"),
    ("OTEL_SPAN_LINK_COUNT_LIMIT", "1"),
    ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "1"),
    ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "1"),
    ("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "1"),
    ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "1"),
    ("OTEL_TRACES_EXPORTER", "none"),
    ("OTEL_LOGS_EXPORTER", "none"),
    ("OTEL_METRICS_EXPORTER", "prometheus"),
    ("OTEL_METRICS_EXEMPLAR_FILTER", "always_off"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
    ("OTEL_METRIC_EXPORT_TIMEOUT", "1000"),
    ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
    ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram"),
    ("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "http://x"),
    ("OTEL_EXPORTER_ZIPKIN_TIMEOUT", "1"),
    ("OTEL_EXPORTER_PROMETHEUS_HOST", "x"),
    ("OTEL_EXPORTER_PROMETHEUS_PORT", "1"),
    ("OTEL_CONFIG_FILE", "/x.yaml"),
    ("OTEL_EXPERIMENTAL_CONFIG_FILE", "/x.yaml"),
    ("OTEL_SEMCONV_STABILITY_OPT_IN", "http"),
    ("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "logs"),
    ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true"),
    ("TRACESTATE", "a=b"),
    ("BAGGAGE", "a=b"),
];

/// The same for each of the OTLP exporters.
const OTLP: &[(&str, &str)] = &[
    ("ENDPOINT", "http://localhost:9/x"),
    ("PROTOCOL", "nonsense"),
    ("HEADERS", "a=b"),
    ("COMPRESSION", "gzip"),
    ("TIMEOUT", "1"),
    ("INSECURE", "true"),
    ("CERTIFICATE", "/x.pem"),
    ("CLIENT_KEY", "/x.pem"),
    ("CLIENT_CERTIFICATE", "/x.pem"),
];

#[test]
fn every_standard_variable_has_its_meaning_or_says_what_to_use_instead() {
    let otlp = |signal: &'static str| {
        OTLP.iter().map(move |(what, value)| (format!("OTEL_EXPORTER_OTLP_{signal}{what}"), *value))
    };
    let all = STANDARD.iter().map(|(name, value)| ((*name).to_owned(), *value));
    for (name, value) in all.chain(["", "LOGS_", "TRACES_", "METRICS_"].into_iter().flat_map(otlp)) {
        // Beside it as much as makes every setting count.
        let around: &[(&str, &str)] = &[
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_METRICS_EXPORTER", "otlp"),
        ];
        let around: Vec<_> = around.iter().copied().filter(|(known, _)| *known != name).collect();
        let before = Config::from_env(vars(&around)).unwrap();
        let set: Vec<_> = around.iter().copied().chain([(name.as_str(), value)]).collect();
        let after = Config::from_env(vars(&set));
        let Ok(after) = after else { continue };
        assert!(before != after, "{name}={value} changes nothing and nobody says so");
        if before.0 == after.0 {
            assert!(after.1.iter().any(|warning| warning.variable == name), "{name}: {:?}", after.1);
        }
    }
}
