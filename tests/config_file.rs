//! The configuration file: where it is found, what it says, and what a mistake in it says.
#![cfg(feature = "deliver")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use factline::config::{
    Accept, AnalyticsSink, Compression, Config, ConfigError, ConfigFile, Destination, Exporter, Families,
    FileError, MessageContent, Origin, Sources, Token, Warning, WhenFull, entries,
};
use proptest::prelude::*;
use tempfile::TempDir;

struct Written {
    _dir: TempDir,
    path: PathBuf,
}

fn written(text: &str) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Written { _dir: dir, path }
}

fn vars<'a>(set: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + Copy + 'a {
    |name| {
        let set = set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        set.or_else(|| (name == "HOME").then(|| "/home/ada".to_owned()))
    }
}

fn load(file: &Written, set: &[(&str, &str)]) -> Result<(Config, Vec<Warning>), ConfigError> {
    let file = ConfigFile::read(&file.path, Some(Path::new("/home/ada"))).unwrap();
    Config::load(&Sources::environment(vars(set)).with_file(Some(file)))
}

fn good(text: &str, set: &[(&str, &str)]) -> Config {
    let (config, warnings) = load(&written(text), set).unwrap();
    assert_eq!(warnings, [], "{text}");
    config
}

/// Every mistake of a file, without the directory.
#[track_caller]
fn mistakes(text: &str) -> Vec<String> {
    let file = written(text);
    let FileError(errors) = ConfigFile::read(&file.path, None).unwrap_err();
    let dir = format!("{}/", file.path.parent().unwrap().display());
    errors.iter().map(|error| error.to_string().replace(&dir, "")).collect()
}

fn urls(config: &Config) -> Vec<String> {
    config.destinations().iter().map(Destination::shown).collect()
}

const ALL: &str = r#"
filter = "debug"
log = "log.txt"

[resource]
service_name = "mine"
attributes = { "team.name" = "a,b=c", deployment = "dev" }

[files]
dir = "~/otlp"

[otlp]
endpoint = "https://collector.example"
headers = { authorization = "Bearer a=b, c%20", x-tenant = "t" }
timeout = "2s"
compression = "gzip"
protocol = "http/protobuf"
headers_command = ["/bin/print", "headers"]
certificate = "ca.pem"
client_certificate = "client.pem"
client_key = "~/client.key"
insecure = false
in_flight = 4

[logs]
exporter = "Files"
filter = "info,factline::hook=off"

[traces]
sampler = "traceidratio"
sampler_arg = "0.25"
endpoint = "https://traces.example/in"
timeout = 250

[content]
capture = ["prompts", "user"]
messages = "span_only"
limit = "4KiB"
value_length = 2000
span_value_length = 5000
log_value_length = 3000
redact = { ticket = "TICKET-[0-9]{1,9}, %" }

[otel]
span_events = true
span_event_count = 7

[metrics]
interval = "30s"
temporality = "delta"
tokens = "both"
exemplars = "always_off"

[outbox]
dir = "box"
accept = "sync"
sync_interval = 0
max_bytes = "512MiB"
max_age = "12h"
ring_bytes = 1_048_576
when_full = "block"

[analytics]
url = "https://analytics.example/base"
families = ["-diff", "-goal"]
filter = "debug,factline::plugin=off"
read_files = true
path = "in"
form = "lines"
headers = { x-key = "v" }
timeout = "1m"
token_command = ["/bin/print", "two words"]
account_id = "acc"
"#;

#[test]
fn everything_can_be_said_in_the_file() {
    let file = written(ALL);
    let (config, warnings) = load(&file, &[]).unwrap();
    assert_eq!(warnings, []);
    let dir = file.path.parent().unwrap();
    assert_eq!(config.filter.as_ref().unwrap().value, "debug");
    assert_eq!(config.log.as_ref().unwrap().value, dir.join("log.txt"), "relative to the file");
    assert_eq!(config.service_name.value, "mine");
    let attribute = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        config.resource_attributes.value,
        [attribute("deployment", "dev"), attribute("team.name", "a,b=c")]
    );
    let [logs, traces, _] = &config.signals[..] else { panic!("{:?}", config.signals) };
    assert_eq!(logs.exporter.value, Exporter::Files);
    assert_eq!(logs.filter.as_ref().unwrap().value, "info,factline::hook=off");
    assert_eq!(
        urls(&config),
        ["/home/ada/otlp/logs.jsonl", "https://traces.example/in", "https://collector.example/v1/metrics"]
    );
    assert_eq!(config.sampled.value, 0.25);
    assert_eq!(traces.timeout.value, Duration::from_millis(250));
    assert_eq!(logs.timeout.value, Duration::from_secs(2));
    assert_eq!(traces.compression.value, Compression::Gzip);
    assert_eq!(traces.headers_command.value, Some(vec!["/bin/print".into(), "headers".into()]));
    assert_eq!(traces.certificate.value, Some(dir.join("ca.pem")));
    assert_eq!(traces.client_certificate.value, Some(dir.join("client.pem")));
    assert_eq!((&traces.client_key.value, traces.in_flight.value), (&Some("/home/ada/client.key".into()), 4));
    let sent: Vec<_> =
        traces.headers.value.iter().map(|header| (header.name.as_str(), header.value.expose())).collect();
    assert_eq!(sent, [("authorization", "Bearer a=b, c%20"), ("x-tenant", "t")], "as it stands there");
    let content = &config.content;
    assert_eq!(content.capture.value, ["prompts", "user"]);
    assert_eq!((content.messages.value, content.limits()), (MessageContent::Spans, [3000, 4096]));
    assert_eq!(content.rules.value, [attribute("ticket", "TICKET-[0-9]{1,9}, %")]);
    assert_eq!((content.span_events.value, content.span_event_count.value), (true, 7));
    let outbox = &config.outbox;
    assert_eq!(config.outbox_dir.value, dir.join("box"));
    assert_eq!((outbox.accept.value, outbox.when_full.value), (Accept::Sync, WhenFull::Block));
    assert_eq!(
        (outbox.sync_interval.value, outbox.max_age.value),
        (Duration::ZERO, Duration::from_secs(43_200))
    );
    assert_eq!((outbox.max_bytes.value, outbox.ring_bytes.value), (512 << 20, 1 << 20));
    let Some(AnalyticsSink::Backend(backend)) = config.analytics_sink() else { panic!("no backend") };
    assert_eq!(backend.url.to_string(), "https://analytics.example/base/in");
    assert_eq!(backend.token, Some(Token::Command(vec!["/bin/print".into(), "two words".into()])));
    assert_eq!(config.analytics.families.value, Families::Without(vec!["diff", "goal"]));
    assert!(config.analytics.read_files.value);
    // Every row of the table but the three that exclude others stands in this file.
    let said: BTreeSet<&str> = ALL.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    let missing = entries().iter().map(|entry| entry.row.key.rsplit('.').next().unwrap());
    let missing: BTreeSet<&str> = missing.filter(|key| !said.contains(key)).collect();
    assert_eq!(missing, ["disabled", "enabled", "file", "token", "token_file"].into());
}

#[test]
fn a_value_keeps_its_file_and_line() {
    let file = written("[otlp]\n\nendpoint = \"http://localhost:9\"\n");
    let (config, _) = load(&file, &[]).unwrap();
    let endpoint = &config.signals[0].endpoint;
    assert_eq!(endpoint.origin, Origin::File { path: file.path.clone(), line: 3 });
    assert_eq!(endpoint.origin.to_string(), format!("{}:3", file.path.display()));
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let file = written("[outbox]\ndir = \"/file\"\n[files]\ndir = \"/files\"\n");
    let file = ConfigFile::read(&file.path, None).unwrap();
    let set = [("FACTLINE_OUTBOX_DIR", "/variable"), ("FACTLINE_FILES_DIR", "")];
    let sources = Sources::environment(vars(&set)).with_file(Some(file.clone()));
    let (config, _) = Config::load(&sources).unwrap();
    assert_eq!(config.outbox_dir.value, Path::new("/variable"));
    assert_eq!(config.files_dir.value, Path::new("/files"), "an empty variable is an unset one");
    let sources = sources.with_flag("--outbox", "FACTLINE_OUTBOX_DIR", Some("/flag".into()));
    let (config, _) = Config::load(&sources).unwrap();
    assert_eq!(config.outbox_dir.value, Path::new("/flag"));
    assert_eq!(config.outbox_dir.origin, Origin::Flag("--outbox".into()));
}

#[test]
fn a_general_variable_wins_over_a_signals_own_key() {
    let text = "[logs]\nendpoint = \"https://logs.example/in\"\n[traces]\nexporter = \"none\"\n";
    let (config, warnings) =
        load(&written(text), &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")]).unwrap();
    assert_eq!(urls(&config), ["http://localhost:4318/v1/logs", "http://localhost:4318/v1/metrics"]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].to_string().contains("not used for traces, because"), "{warnings:?}");
    let config = good(text, &[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://localhost:1/x")]);
    assert_eq!(urls(&config)[0], "http://localhost:1/x");
}

#[test]
fn an_unknown_key_is_an_error_with_line_and_nearest_name() {
    for (text, said) in [
        (
            "\n[otlp]\nendpont = \"x\"",
            "config.toml:3: otlp.endpont: there is no such setting; did you mean otlp.endpoint?",
        ),
        ("[outbx]\nmax_bytes = 1", "config.toml:1: outbx: there is no such setting; did you mean [outbox]?"),
        (
            "endpoint = \"x\"",
            "config.toml:1: endpoint: there is no such setting; did you mean otlp.endpoint?",
        ),
        (
            "[logs]\nexport = \"none\"",
            "config.toml:2: logs.export: there is no such setting; did you mean logs.exporter?",
        ),
        ("filters = \"x\"", "config.toml:1: filters: there is no such setting; did you mean filter?"),
        (
            "[otlp.header]\nx = \"y\"",
            "config.toml:1: otlp.header: there is no such setting; did you mean otlp.headers?",
        ),
    ] {
        assert_eq!(mistakes(text), [said]);
    }
}

#[test]
fn a_wrong_type_or_a_value_out_of_range_says_what_is_allowed() {
    for (text, said) in [
        ("disabled = \"yes\"", "disabled: is a text, but must be true or false; for example true"),
        ("filter = 3", "filter: is a whole number, but must be filter directives; for example"),
        ("otlp = 1", "otlp: is a table of settings, not a value; for example [otlp]"),
        (
            "[otlp]\ntimeout = \"soon\"",
            "otlp.timeout: is \"soon\", but must be a time from 1ms to 1h; for example \"10s\"",
        ),
        ("[otlp]\ntimeout = 0", "otlp.timeout: is \"0\", but must be a time from 1ms to 1h"),
        ("[otlp]\ntimeout = -5", "must be a time from 1ms to 1h"),
        ("[otlp]\ntimeout = 1.5", "is a number with a point, but must be a time"),
        (
            "[otlp]\ncompression = \"lz4\"",
            "is \"lz4\", but must be one of none, gzip, zstd; for example \"none\"",
        ),
        (
            "[otlp]\nheaders = \"a=b\"",
            "is a text, but must be a table of texts; for example { name = \"value\" }",
        ),
        ("[otlp]\nheaders = { a = 1 }", "\"a\": a whole number, but must be a text"),
        (
            "[outbox]\nmax_bytes = \"1kB\"",
            "outbox.max_bytes: is \"1kB\", but must be a size from 64MiB to 1024TiB",
        ),
        ("[outbox]\nring_bytes = 0x100000", "is a whole number, but must be a size"),
        ("[outbox]\nmax_age = 2030-01-01", "is a date or time, but must be a time from 1s to 3650d"),
        ("[analytics]\nfamilies = [\"turns\"]", "has \"turns\", but must be a list of thread, turn, tool"),
        ("[analytics]\nfamilies = \"turn\"", "is a text, but must be a list of"),
        ("[analytics]\ntoken_command = [1]", "is a list, but must be a list of texts, the first a program"),
    ] {
        let found = mistakes(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains(said) && found[0].starts_with("config.toml:"),
            "{said:?} is not in {found:?}"
        );
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let found = mistakes("disabled = 1\nfiltre = \"x\"\n[otlp]\ntimeout = true\n");
    let lines: Vec<&str> = found.iter().map(|text| text.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["config.toml:1", "config.toml:2", "config.toml:4"]);
}

#[test]
fn what_the_table_cannot_know_is_an_error_with_the_line_too() {
    for (text, said) in [
        (
            "[otlp]\nendpoint = \"localhost:4318\"",
            "config.toml:2: otlp.endpoint: \"localhost:4318\" is no http",
        ),
        ("[analytics]\nurl = \"x\"", "config.toml:2: analytics.url: "),
        (
            "[analytics]\nurl = \"http://localhost\"\ntoken_command = []",
            "config.toml:3: analytics.token_command: ",
        ),
        (
            "[analytics]\nfamilies = [\"-turn\", \"tool\"]",
            "config.toml:2: analytics.families: names with and without",
        ),
    ] {
        let error = load(&written(text), &[]).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn what_is_no_toml_says_where() {
    let found = mistakes("a = 1\n[otlp\n");
    assert!(found[0].starts_with("config.toml:2: is no TOML: "), "{found:?}");
    let found = mistakes("filter = \"a\"\nfilter = \"b\"\n");
    assert!(found[0].starts_with("config.toml:2: is no TOML: "), "{found:?}");
    let deep = format!("filter = {}{}", "[".repeat(5000), "]".repeat(5000));
    assert!(mistakes(&deep)[0].starts_with("config.toml:1: is no TOML: "));
    let file = written("");
    std::fs::write(&file.path, [0xff, 0xfe]).unwrap();
    assert!(ConfigFile::read(&file.path, None).unwrap_err().to_string().contains("is not UTF-8"));
    std::fs::write(&file.path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(ConfigFile::read(&file.path, None).unwrap_err().to_string().contains("longer than 1 MiB"));
    let missing = ConfigFile::read(Path::new("/nowhere/config.toml"), None).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/config.toml: cannot be read: "), "{missing}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_in_a_file_it_is_read_or_refused_with_its_name(
        parts in prop::collection::vec(
            prop_oneof![
                "[ -~\\n]{0,12}", "\\PC{0,4}", Just("[otlp]\n".to_owned()), Just("timeout = ".to_owned()),
                Just("headers = { a = ".to_owned()), Just("\"10s\"\n".to_owned()), Just("[".to_owned()),
                Just("outbox.max_bytes = ".to_owned()), Just("9223372036854775807\n".to_owned()),
            ],
            0..12,
        )
    ) {
        let file = written(&parts.concat());
        match ConfigFile::read(&file.path, None) {
            Ok(read) => {
                // A value that the table takes is taken, or refused in a sentence.
                let _ = Config::load(&Sources::environment(vars(&[])).with_file(Some(read)));
            }
            Err(FileError(errors)) => {
                prop_assert!(!errors.is_empty());
                for error in errors {
                    prop_assert!(error.to_string().contains(&format!("{}:", file.path.display())), "{error}");
                }
            }
        }
    }
}

#[test]
fn the_file_is_looked_for_in_the_users_directory_and_never_in_the_working_one() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    let home = place("home/.config/factline/config.toml", "filter = \"home\"");
    let xdg = place("xdg/factline/config.toml", "filter = \"xdg\"");
    let named = place("named.toml", "filter = \"named\"");
    let flag = place("flag.toml", "filter = \"flag\"");
    let text = |name: &str| dir.path().join(name).display().to_string();
    let find = |flag: Option<&Path>, set: &[(&str, String)]| {
        let vars = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        ConfigFile::find(flag, vars).unwrap().map(|file| file.path().to_owned())
    };
    let all =
        [("HOME", text("home")), ("XDG_CONFIG_HOME", text("xdg")), ("FACTLINE_CONFIG", text("named.toml"))];
    assert_eq!(find(Some(&flag), &all), Some(flag.clone()));
    assert_eq!(find(None, &all), Some(named));
    assert_eq!(find(None, &all[..2]), Some(xdg));
    assert_eq!(find(None, &all[..1]), Some(home.clone()));
    let relative = [all[0].clone(), ("XDG_CONFIG_HOME", "relative".to_owned())];
    assert_eq!(find(None, &relative), Some(home), "the XDG specification ignores a relative one");
    assert_eq!(find(None, &[("HOME", text("nowhere"))]), None, "it need not be there");
    assert_eq!(find(None, &[]), None);
    let error = ConfigFile::find(Some(Path::new("/nowhere.toml")), |_| None).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "one that was named must be there: {error}");
}

#[test]
fn a_credential_in_a_file_that_others_read_is_warned_of_and_one_that_others_write_is_refused() {
    let text = "[otlp]\nheaders = { authorization = \"hunter2\" }\n[analytics]\ntoken = \"hunter3\"\n";
    let file = written(text);
    let read = |mode: u32| {
        std::fs::set_permissions(&file.path, std::fs::Permissions::from_mode(mode)).unwrap();
        let file = ConfigFile::read(&file.path, None)?;
        Ok::<_, FileError>(Config::load(&Sources::environment(vars(&[])).with_file(Some(file))).unwrap())
    };
    assert_eq!(read(0o600).unwrap().1, []);
    for mode in [0o640, 0o604, 0o644] {
        let (config, warnings) = read(mode).unwrap();
        let places: Vec<&str> =
            warnings.iter().map(|warning| warning.variable.rsplit(' ').next().unwrap()).collect();
        assert_eq!(places, ["otlp.headers", "analytics.token"]);
        assert!(warnings[0].message.contains("others may read"), "{warnings:?}");
        assert!(!format!("{config:?} {warnings:?}").contains("hunter"));
    }
    let error = read(0o602).unwrap_err().to_string();
    assert!(
        error.contains("anybody on this machine may write to it") && error.contains("chmod o-w"),
        "{error}"
    );
}

#[test]
fn a_mistake_about_a_credential_does_not_repeat_it() {
    for text in [
        "[otlp]\nheaders = \"hunter2\"",
        "[otlp]\nheaders = { a = [\"hunter2\"] }",
        "[analytics]\ntoken = [\"hunter2\"]",
        "[otlp]\nheader = { authorization = \"hunter2\" }",
    ] {
        let found = mistakes(text).concat();
        assert!(!found.contains("hunter"), "{found}");
    }
    let file = written(ALL);
    let read = ConfigFile::read(&file.path, None).unwrap();
    assert!(!format!("{read:?}").contains("Bearer"), "{read:?}");
}
