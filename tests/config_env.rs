//! What each environment variable does.
#![cfg(feature = "deliver")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

use factline::config::{
    Compression, Config, ConfigError, Destination, Exporter, Origin, Signal, Sink, Temporality, TokenNames,
    Warning,
};

fn read(vars: &[(&str, &str)]) -> Result<(Config, Vec<Warning>), ConfigError> {
    Config::from_env(|name| {
        let set = vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        set.or_else(|| (name == "HOME").then(|| "/home/ada".to_owned()))
    })
}

fn good(vars: &[(&str, &str)]) -> Config {
    let (config, warnings) = read(vars).unwrap();
    assert_eq!(warnings, [], "{vars:?}");
    config
}

fn warned(vars: &[(&str, &str)]) -> (Config, String) {
    let (config, warnings) = read(vars).unwrap();
    assert_eq!(warnings.len(), 1, "{vars:?} {warnings:?}");
    (config, warnings[0].to_string())
}

fn urls(config: &Config) -> Vec<String> {
    let destinations = config.destinations();
    destinations.iter().filter(|it| it.signal != Signal::Metrics).map(Destination::shown).collect()
}

fn exporters(config: &Config) -> Vec<Exporter> {
    let signals = config.signals.iter().filter(|it| it.signal != Signal::Metrics);
    signals.map(|signal| signal.exporter.value).collect()
}

#[test]
fn with_nothing_set_both_signals_go_to_files_below_the_state_directory() {
    let config = good(&[]);
    assert_eq!(
        urls(&config),
        [
            "/home/ada/.local/state/factline/otlp/logs.jsonl",
            "/home/ada/.local/state/factline/otlp/traces.jsonl"
        ]
    );
    assert_eq!(config.outbox_dir.value.to_str(), Some("/home/ada/.local/state/factline/outbox"));
    assert_eq!(config.service_name.value, "codex-app-server");
    assert_eq!(config.filter, None);
    assert_eq!(config.service_name.origin, Origin::Default);
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let names = [
        "OTEL_SDK_DISABLED",
        "OTEL_LOGS_EXPORTER",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "FACTLINE_OUTBOX_DIR",
        "FACTLINE_FILES_DIR",
        "FACTLINE_FILTER",
    ];
    let empty: Vec<_> = names.iter().map(|name| (*name, "")).collect();
    assert_eq!(good(&empty), good(&[]));
}

#[test]
fn the_state_directory_follows_xdg_only_where_it_is_absolute() {
    let config = good(&[("XDG_STATE_HOME", "/state")]);
    assert_eq!(config.outbox_dir.value.to_str(), Some("/state/factline/outbox"));
    let config = good(&[("XDG_STATE_HOME", "relative")]);
    assert_eq!(config.outbox_dir.value.to_str(), Some("/home/ada/.local/state/factline/outbox"));
}

#[test]
fn without_a_home_the_error_names_the_variable_to_set() {
    let error = Config::from_env(|_| None).unwrap_err();
    assert_eq!(error.variable, "FACTLINE_OUTBOX_DIR");
    assert!(error.to_string().contains("for example FACTLINE_OUTBOX_DIR=/"), "{error}");
    let vars = |name: &str| name.ends_with("_DIR").then(|| "/x".to_owned());
    assert!(Config::from_env(vars).is_ok());
}

#[test]
fn the_directories_and_the_filter_are_taken_as_given() {
    let config = good(&[
        ("FACTLINE_OUTBOX_DIR", "/a/b"),
        ("FACTLINE_FILES_DIR", "/c d"),
        ("FACTLINE_FILTER", "factline=info"),
    ]);
    assert_eq!(config.outbox_dir.value.to_str(), Some("/a/b"));
    assert_eq!(config.outbox_dir.origin, Origin::Env("FACTLINE_OUTBOX_DIR".to_owned()));
    assert_eq!(urls(&config), ["/c d/logs.jsonl", "/c d/traces.jsonl"]);
    assert_eq!(config.filter.unwrap().value, "factline=info");
}

#[test]
fn only_true_disables() {
    assert!(good(&[("OTEL_SDK_DISABLED", "TRUE")]).destinations().is_empty());
    assert_eq!(good(&[("OTEL_SDK_DISABLED", "False")]).destinations().len(), 3);
    let (config, warning) = warned(&[("OTEL_SDK_DISABLED", "1")]);
    assert_eq!(config.destinations().len(), 3);
    assert!(warning.starts_with("OTEL_SDK_DISABLED: only \"true\" means true"), "{warning}");
}

#[test]
fn a_generic_endpoint_is_a_base_for_every_signal() {
    for (base, logs) in [
        ("http://localhost:4318", "http://localhost:4318/v1/logs"),
        ("http://localhost:4318/", "http://localhost:4318/v1/logs"),
        ("https://otel.example/api/otlp", "https://otel.example/api/otlp/v1/logs"),
        ("https://otel.example/api/otlp/", "https://otel.example/api/otlp/v1/logs"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/logs"),
    ] {
        let config = good(&[("OTEL_EXPORTER_OTLP_ENDPOINT", base)]);
        assert_eq!(urls(&config), [logs, &logs.replace("/logs", "/traces")]);
        let Sink::Otlp(otlp) = &config.destinations()[0].sink else { panic!("{base}") };
        assert_eq!(otlp.url.expose().as_str(), logs);
    }
}

#[test]
fn a_signals_own_endpoint_is_used_as_it_is_and_wins() {
    let config = good(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example"),
    ]);
    assert_eq!(urls(&config), ["http://localhost:4318/v1/logs", "https://traces.example/"]);
    let config = good(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://logs.example/in")]);
    assert_eq!(urls(&config)[0], "https://logs.example/in");
    assert_eq!(exporters(&config), [Exporter::Otlp, Exporter::Files], "the other signal was not spoken of");
}

#[test]
fn an_endpoint_that_is_no_url_is_an_error_with_an_example() {
    for (name, value, example) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "http://localhost:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector", "http://localhost:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://", "http://localhost:4318"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://host/", "http://localhost:4318/v1/logs"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "unix:/run/x", "http://localhost:4318/v1/traces"),
    ] {
        let error = read(&[(name, value)]).unwrap_err();
        assert_eq!(error.variable, name);
        assert_eq!(error.example, example);
        assert!(error.problem.contains(value), "{error}");
    }
}

#[test]
fn no_credential_is_ever_printed() {
    let error = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "ada:hunter2@host:4318")]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let (config, warnings) = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://ada:hunter2@far.example/?token=hunter3#hunter4"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter5,hunter6,x=hunter7%0A,=hunter8"),
    ])
    .unwrap();
    let printed = format!("{config:?} {warnings:?} {:?} {:?}", config.destinations(), urls(&config));
    assert!(!printed.contains("hunter"), "{printed}");
    assert!(printed.contains("http://far.example/v1/logs"));
}

#[test]
fn plain_text_to_another_machine_is_warned_of_but_allowed() {
    let (config, warnings) = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://far.example:4318")]).unwrap();
    assert_eq!(exporters(&config), [Exporter::Otlp, Exporter::Otlp]);
    assert!(warnings[0].message.contains("not encrypted"), "{warnings:?}");
    for fine in ["http://127.0.0.9:1", "http://localhost", "http://[::1]:9", "https://far.example"] {
        good(&[("OTEL_EXPORTER_OTLP_ENDPOINT", fine)]);
    }
    let (_, warning) = warned(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://169.254.169.254/")]);
    assert!(warning.contains("link-local"), "{warning}");
}

#[test]
fn exporters_choose_between_nothing_a_collector_and_files() {
    let both = |value| {
        [("OTEL_LOGS_EXPORTER", value), ("OTEL_TRACES_EXPORTER", value), ("OTEL_METRICS_EXPORTER", value)]
    };
    assert!(good(&both("none")).destinations().is_empty());
    let config = good(&both("OTLP"));
    assert_eq!(urls(&config), ["http://localhost:4318/v1/logs", "http://localhost:4318/v1/traces"]);
    let config =
        good(&[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:1")]);
    assert_eq!(exporters(&config), [Exporter::Otlp, Exporter::None]);
    assert_eq!(config.signals[1].exporter.origin, Origin::Env("OTEL_TRACES_EXPORTER".to_owned()));
}

#[test]
fn unknown_exporters_are_warned_of_and_skipped() {
    let (config, warning) = warned(&[("OTEL_LOGS_EXPORTER", "console")]);
    assert_eq!(exporters(&config), [Exporter::Files, Exporter::Files]);
    assert!(warning.starts_with("OTEL_LOGS_EXPORTER: console is not supported"), "{warning}");
    let (config, warning) = warned(&[("OTEL_TRACES_EXPORTER", "otlp, zipkin")]);
    assert_eq!(exporters(&config), [Exporter::Files, Exporter::Otlp]);
    assert!(warning.contains("\"zipkin\""), "{warning}");
    let (config, warning) = warned(&[("OTEL_TRACES_EXPORTER", "none,otlp")]);
    assert_eq!(exporters(&config), [Exporter::Files, Exporter::Otlp]);
    assert!(warning.contains("none is ignored"), "{warning}");
}

#[test]
fn headers_are_percent_decoded_and_a_signals_own_replace_the_generic() {
    let config = good(&[
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_HEADERS", " Authorization = Basic%20YTpi , x-tenant=a%3Db;c "),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-key=1"),
    ]);
    let shown = |index: usize| -> Vec<(String, String)> {
        let headers = &config.signals[index].headers.value;
        headers.iter().map(|header| (header.name.clone(), header.value.expose().to_owned())).collect()
    };
    assert_eq!(
        shown(0),
        [("authorization".into(), "Basic YTpi".into()), ("x-tenant".into(), "a=b;c".into())]
    );
    assert_eq!(shown(1), [("x-key".into(), "1".into())]);
}

#[test]
fn bad_headers_are_warned_of_and_the_good_ones_stay() {
    for bad in ["novalue", "=x", "a b=c", "x=%0d%0aEvil:%201", "x=%ff", "content-length=3"] {
        let (config, warning) = warned(&[("OTEL_EXPORTER_OTLP_LOGS_HEADERS", &format!("{bad},x-good=1"))]);
        assert!(warning.starts_with("OTEL_EXPORTER_OTLP_LOGS_HEADERS: "), "{bad}");
        assert_eq!(config.signals[0].headers.value.len(), 1, "{bad}");
    }
}

#[test]
fn the_timeout_is_in_milliseconds_and_a_bad_one_is_ignored() {
    let config = good(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"), ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "100")]);
    assert_eq!(config.signals[0].timeout.value, Duration::from_millis(100));
    assert_eq!(config.signals[1].timeout.value, Duration::from_millis(2500));
    for bad in ["soon", "-1", "1.5", "0", "10s"] {
        let (config, warning) = warned(&[("OTEL_EXPORTER_OTLP_TIMEOUT", bad)]);
        assert_eq!(config.signals[0].timeout.value, Duration::from_secs(10));
        assert!(warning.starts_with("OTEL_EXPORTER_OTLP_TIMEOUT: "), "{warning}");
    }
}

#[test]
fn compression_is_gzip_zstd_or_none() {
    let config = good(&[
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZip"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
    ]);
    let of = |config: &Config, at: usize| config.signals[at].compression.value;
    assert_eq!([of(&config, 0), of(&config, 1)], [Compression::Gzip, Compression::None]);
    assert_eq!(of(&good(&[("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd")]), 0), Compression::Zstd);
    let (config, _) = warned(&[("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli")]);
    assert_eq!(of(&config, 0), Compression::None);
}

#[test]
fn all_three_protocols_are_spoken_and_each_has_its_own_default_endpoint() {
    for (protocol, logs) in [
        ("HTTP/Protobuf", "http://localhost:4318/v1/logs"),
        ("http/json", "http://localhost:4318/v1/logs"),
        ("grpc", "http://localhost:4317/"),
    ] {
        let vars = [("OTEL_EXPORTER_OTLP_PROTOCOL", protocol), ("OTEL_LOGS_EXPORTER", "otlp")];
        assert_eq!(urls(&good(&vars))[0], logs);
    }
    let (_, warning) = warned(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")]);
    assert!(warning.contains("carrier-pigeon"));
}

#[test]
fn a_grpc_endpoint_without_a_scheme_is_encrypted_unless_said_otherwise() {
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let insecure = |value| ("OTEL_EXPORTER_OTLP_INSECURE", value);
    let endpoint = |value| ("OTEL_EXPORTER_OTLP_ENDPOINT", value);
    for (vars, logs) in [
        (vec![grpc, endpoint("localhost:4317")], "https://localhost:4317/"),
        (vec![grpc, endpoint("localhost:4317"), insecure("true")], "http://localhost:4317/"),
        (vec![grpc, endpoint("localhost:4317"), insecure("false")], "https://localhost:4317/"),
        // Where there is a scheme, that counts.
        (vec![grpc, endpoint("https://localhost:4317"), insecure("true")], "https://localhost:4317/"),
        (vec![grpc, endpoint("http://[::1]:4317"), insecure("false")], "http://[::1]:4317/"),
        (
            vec![
                grpc,
                endpoint("localhost:1"),
                insecure("true"),
                ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "false"),
            ],
            "https://localhost:1/",
        ),
    ] {
        let (config, warnings) = read(&vars).unwrap();
        assert_eq!(urls(&config)[0], logs, "{vars:?}");
        let scheme = vars.contains(&insecure("true")) && vars[1].1.contains("://");
        assert_eq!(warnings.iter().any(|it| it.to_string().contains("has a scheme")), scheme, "{warnings:?}");
    }
    let (config, warning) = warned(&[grpc, endpoint("http://localhost:4317/v1/logs")]);
    assert_eq!(urls(&config)[0], "http://localhost:4317/");
    assert!(warning.contains("knows no path"), "{warning}");
    let (_, warning) = warned(&[grpc, endpoint("collector.example:4317"), insecure("true")]);
    assert!(warning.contains("is not encrypted and not on this machine"), "{warning}");
}

#[test]
fn certificates_are_files_and_half_of_a_clients_is_an_error() {
    let https = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otel.example");
    let config = good(&[
        https,
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/ca.pem"),
        ("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE", "/etc/logs.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nowhere/client.key"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/etc/client.pem"),
    ]);
    let Sink::Otlp(otlp) = &config.destinations()[0].sink else { panic!() };
    let path = |path: &str| Some(std::path::PathBuf::from(path));
    assert_eq!(otlp.tls.certificate, path("/etc/logs.pem"));
    assert_eq!(otlp.tls.client_certificate, path("/etc/client.pem"));
    assert_eq!(otlp.tls.client_key, path("/nowhere/client.key"));
    for (half, other) in [("CLIENT_KEY", "CLIENT_CERTIFICATE"), ("CLIENT_CERTIFICATE", "CLIENT_KEY")] {
        let name = format!("OTEL_EXPORTER_OTLP_{half}");
        let error = read(&[https, (&*name, "/etc/x")]).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("OTEL_EXPORTER_OTLP_{other}: is not set, and {name} ")),
            "{error}"
        );
    }
    let (_, warning) =
        warned(&[("OTEL_LOGS_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/ca.pem")]);
    assert!(warning.starts_with("OTEL_EXPORTER_OTLP_CERTIFICATE: not used, because http://"), "{warning}");
}

#[test]
fn a_key_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("client.key");
    std::fs::write(&key, "").unwrap();
    let read = |mode| {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let key = key.to_str().unwrap();
        read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otel.example"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/etc/client.pem"),
        ])
        .unwrap()
        .1
    };
    assert!(read(0o600).is_empty() && read(0o640).is_empty());
    assert!(read(0o644)[0].to_string().contains("can be read by other users"));
}

#[test]
fn headers_may_come_from_a_command_and_requests_in_flight_are_bounded() {
    let config = good(&[
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("FACTLINE_OTLP_HEADERS_COMMAND", r#"["print headers", "--for=x"]"#),
        ("FACTLINE_OTLP_LOGS_IN_FLIGHT", "8"),
    ]);
    let Sink::Otlp(otlp) = &config.destinations()[0].sink else { panic!() };
    let command = ["print headers", "--for=x"].map(str::to_owned).to_vec();
    assert_eq!((&otlp.headers_command, otlp.in_flight), (&Some(command), 8));
    assert_eq!(config.signals[1].in_flight.value, 2);
    for bad in ["0", "33", "many"] {
        let (_, warning) = warned(&[("FACTLINE_OTLP_IN_FLIGHT", bad)]);
        assert!(warning.contains("no number from 1 to 32"), "{warning}");
    }
    let error = read(&[("FACTLINE_OTLP_HEADERS_COMMAND", "[1]")]).unwrap_err().to_string();
    assert!(error.starts_with("FACTLINE_OTLP_HEADERS_COMMAND: "), "{error}");
}

#[test]
fn the_service_name_wins_over_the_resource_attributes() {
    let attributes = (
        "OTEL_RESOURCE_ATTRIBUTES",
        "service.name=from-attributes,team=a%2Cb, deployment.environment.name = dev ",
    );
    let config = good(&[attributes]);
    assert_eq!(config.service_name.value, "from-attributes");
    assert_eq!(config.service_name.origin, Origin::Env("OTEL_RESOURCE_ATTRIBUTES".to_owned()));
    assert_eq!(
        config.resource_attributes.value,
        [("team".to_owned(), "a,b".to_owned()), ("deployment.environment.name".to_owned(), "dev".to_owned())]
    );
    let config = good(&[attributes, ("OTEL_SERVICE_NAME", "mine")]);
    assert_eq!(config.service_name.value, "mine");
}

#[test]
fn a_bad_resource_pair_is_warned_of_and_the_others_stay() {
    let (config, warning) = warned(&[("OTEL_RESOURCE_ATTRIBUTES", "a=1,broken,b=2")]);
    assert_eq!(config.resource_attributes.value.len(), 2);
    assert_eq!(warning, "OTEL_RESOURCE_ATTRIBUTES: pair 2 has no \"=\" and is ignored");
}

#[test]
fn a_signal_knows_its_names() {
    assert_eq!(Signal::Logs.path(), "v1/logs");
    assert_eq!(Signal::Metrics.to_string(), "metrics");
}

#[test]
fn metrics_go_where_the_other_signals_go_and_have_settings_of_their_own() {
    let place = |config: &Config| {
        config.destinations().iter().find(|it| it.signal == Signal::Metrics).map(Destination::shown)
    };
    assert_eq!(place(&good(&[])).as_deref(), Some("/home/ada/.local/state/factline/otlp/metrics.jsonl"));
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
    assert_eq!(place(&good(&[base])).as_deref(), Some("http://localhost:4318/v1/metrics"));
    assert_eq!(place(&good(&[base, ("OTEL_METRICS_EXPORTER", "none")])), None);
    let own = good(&[base, ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://localhost:9090/api/v1/otlp")]);
    assert_eq!(place(&own).as_deref(), Some("http://localhost:9090/api/v1/otlp"));

    let config = good(&[
        ("OTEL_METRIC_EXPORT_INTERVAL", "1500"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "always_off"),
        ("FACTLINE_METRICS_TOKENS", "both"),
    ])
    .metrics;
    assert_eq!(config.interval.value, Duration::from_millis(1500));
    assert_eq!(config.temporality.value, Temporality::Delta);
    assert_eq!((config.exemplars.value, config.tokens.value), (false, TokenNames::Both));
    let (config, warning) = warned(&[("OTEL_METRIC_EXPORT_INTERVAL", "0")]);
    assert_eq!(config.metrics.interval.value, Duration::from_secs(60));
    assert!(warning.starts_with("OTEL_METRIC_EXPORT_INTERVAL: "), "{warning}");
}
