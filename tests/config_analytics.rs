//! What each `FACTLINE_ANALYTICS*` variable does.
#![cfg(feature = "deliver")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::PathBuf;
use std::time::Duration;

use factline::config::{
    AnalyticsSink, Backend, BodyForm, Config, ConfigError, Origin, Secret, Token, Warning,
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

const URL: (&str, &str) = ("FACTLINE_ANALYTICS_URL", "https://example.com/backend-api/");
const FILE: (&str, &str) = ("FACTLINE_ANALYTICS_FILE", "/tmp/events.jsonl");

fn backend(config: &Config) -> Backend {
    match config.analytics_sink() {
        Some(AnalyticsSink::Backend(backend)) => (**backend).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn events_are_off_unless_a_destination_is_named() {
    let config = good(&[]);
    assert_eq!((config.analytics.enabled.value, config.analytics_sink()), (false, None));
    assert_eq!(config.analytics.enabled.origin, Origin::Default);
    let config = good(&[FILE]);
    assert_eq!(config.analytics_sink(), Some(&AnalyticsSink::File("/tmp/events.jsonl".into())));
    assert_eq!(config.analytics.enabled.origin, Origin::Env(FILE.0.into()));
    for (switch, on) in [("on", true), ("TRUE", true), ("off", false), ("false", false)] {
        let config = good(&[URL, ("FACTLINE_ANALYTICS", switch)]);
        assert_eq!(config.analytics_sink().is_some(), on, "{switch}");
    }
    assert_eq!(good(&[URL, ("OTEL_SDK_DISABLED", "true")]).analytics_sink(), None);
}

#[test]
fn off_reads_nothing_else_and_what_is_not_understood_is_off() {
    let broken = ("FACTLINE_ANALYTICS_URL", "nonsense");
    assert_eq!(good(&[broken, ("FACTLINE_ANALYTICS", "off")]).analytics.sink, None);
    let (config, warning) = warned(&[URL, ("FACTLINE_ANALYTICS", "no")]);
    assert!(config.analytics_sink().is_none() && warning.contains("taken as off"), "{warning}");
    let (config, warning) = warned(&[("FACTLINE_ANALYTICS", "on")]);
    assert!(
        !config.analytics.enabled.value && warning.contains("neither FACTLINE_ANALYTICS_URL nor"),
        "{warning}"
    );
}

#[test]
fn a_backend_has_the_originals_path_and_defaults() {
    let backend = backend(&good(&[URL]));
    assert_eq!(backend.url.to_string(), "https://example.com/backend-api/codex/analytics-events/events");
    assert_eq!((backend.account_id, backend.token, backend.headers.len()), (None, None, 0));
    assert_eq!((backend.form, backend.timeout), (BodyForm::Events, Duration::from_secs(10)));
}

#[test]
fn everything_about_a_backend_can_be_said() {
    let config = good(&[
        URL,
        ("FACTLINE_ANALYTICS_PATH", "/v1/track"),
        ("FACTLINE_ANALYTICS_ACCOUNT_ID", " acct "),
        ("FACTLINE_ANALYTICS_TOKEN", " t "),
        ("FACTLINE_ANALYTICS_HEADERS", "X-Key=a%20b"),
        ("FACTLINE_ANALYTICS_FORM", "Lines"),
        ("FACTLINE_ANALYTICS_TIMEOUT", "2500"),
    ]);
    let backend = backend(&config);
    assert_eq!(backend.url.to_string(), "https://example.com/backend-api/v1/track");
    assert_eq!(backend.account_id, Some(Secret::new("acct")));
    assert_eq!(backend.token, Some(Token::Value(Secret::new("t"))));
    assert_eq!((&*backend.headers[0].name, backend.headers[0].value.expose()), ("x-key", "a b"));
    assert_eq!((backend.form, backend.timeout), (BodyForm::Lines, Duration::from_millis(2500)));
    let root = self::backend(&good(&[URL, ("FACTLINE_ANALYTICS_PATH", "/")]));
    assert_eq!(root.url.to_string(), "https://example.com/backend-api/");
}

#[test]
fn a_token_comes_from_one_place() {
    let token = |name: &str, value: &str| backend(&good(&[URL, (name, value)])).token.unwrap();
    assert_eq!(
        token("FACTLINE_ANALYTICS_TOKEN_FILE", "/run/token"),
        Token::File(PathBuf::from("/run/token"))
    );
    let command = |text: &str| token("FACTLINE_ANALYTICS_TOKEN_COMMAND", text);
    let words = |words: &[&str]| Token::Command(words.iter().map(|word| (*word).to_owned()).collect());
    assert_eq!(command(" print-token  --short "), words(&["print-token", "--short"]));
    assert_eq!(command(r#"["/a b/c", "", "x y"]"#), words(&["/a b/c", "", "x y"]));
    let both = [URL, ("FACTLINE_ANALYTICS_TOKEN", "t"), ("FACTLINE_ANALYTICS_TOKEN_FILE", "/f")];
    let (config, warning) = warned(&both);
    assert_eq!(backend(&config).token, Some(Token::Value(Secret::new("t"))));
    assert!(warning.starts_with("FACTLINE_ANALYTICS_TOKEN_FILE: ignored"), "{warning}");
}

#[test]
fn mistakes_that_would_send_events_astray_are_errors_with_an_example() {
    for (name, value) in [
        ("FACTLINE_ANALYTICS_URL", "ftp://s3cret@example.com"),
        ("FACTLINE_ANALYTICS_FORM", "xml"),
        ("FACTLINE_ANALYTICS_TOKEN_COMMAND", "[\"s3cret\", 3]"),
        ("FACTLINE_ANALYTICS_TOKEN_COMMAND", "[]"),
        ("FACTLINE_ANALYTICS_TOKEN_COMMAND", "[\"\"]"),
    ] {
        // The first of a name is what `read` finds.
        let error = read(&[(name, value), URL]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name}: ")), "{error}");
        assert!(error.contains(&format!("for example {name}=")) && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn risks_are_warned_of() {
    let (_, warning) = warned(&[("FACTLINE_ANALYTICS_URL", "http://example.com")]);
    assert!(warning.contains("not encrypted"), "{warning}");
    let (config, warning) = warned(&[URL, FILE]);
    assert!(matches!(config.analytics_sink(), Some(AnalyticsSink::Backend(_))));
    assert!(warning.starts_with("FACTLINE_ANALYTICS_FILE: ignored"), "{warning}");
}

#[test]
fn no_credential_is_ever_printed() {
    let config = good(&[
        ("FACTLINE_ANALYTICS_URL", "https://u:s3cret@example.com/?key=s3cret"),
        ("FACTLINE_ANALYTICS_ACCOUNT_ID", "s3cret"),
        ("FACTLINE_ANALYTICS_TOKEN_COMMAND", "print s3cret"),
        ("FACTLINE_ANALYTICS_HEADERS", "x=s3cret"),
    ]);
    assert!(!format!("{config:?} {}", config.analytics_sink().unwrap().shown()).contains("s3cret"));
}
