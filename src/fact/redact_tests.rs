//! Each rule against what it is there for, and what it leaves alone.

use super::*;

fn clean(text: &str) -> String {
    Redaction::built_in().apply(text, 16_384).unwrap_or_else(|| text.to_owned())
}

#[test]
fn every_rule_takes_out_what_it_is_for_and_says_so() {
    let stuff = "abcdefghijklmnop1234567890ABCDEFGHIJ";
    let up = "ABCDEFGHIJKLMNOP";
    for (rule, text, secret) in [
        (
            "private_key",
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----\nb".to_owned(),
            "MIIE",
        ),
        ("private_key", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk".to_owned(), "b3Blb"),
        ("url_credentials", "git clone https://ada:hunter2@host.example/r.git".to_owned(), "hunter2"),
        ("url_credentials", "postgres://ada:p%40ss@db:5432/x".to_owned(), "p%40ss"),
        ("url_credentials", format!("https://{stuff}@host/r"), stuff),
        ("url_query", format!("https://s3/x?X-Amz-Date=1&X-Amz-Signature={stuff}&y=2"), stuff),
        ("header", format!("curl -H 'Authorization: token {stuff}' https://x"), stuff),
        ("header", format!("Cookie: session={stuff}; other=1"), stuff),
        ("bearer", format!("sends Bearer {stuff}"), stuff),
        (
            "jwt",
            "it is eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P".to_owned(),
            "dozjgNryP4J3",
        ),
        ("openai_key", format!("sk-proj-{stuff}"), stuff),
        ("github_token", format!("ghp_{stuff}"), stuff),
        ("github_token", format!("github_pat_{stuff}"), stuff),
        ("gitlab_token", format!("glpat-{stuff}"), stuff),
        ("aws_key", format!("id AKIA{up} here"), up),
        ("google_key", "AIzaabcdefghijklmnopqrstuvwxyzABCDEFGHI".to_owned(), "abcdefghijk"),
        ("slack_token", format!("xoxb-{stuff}"), stuff),
        ("registry_token", format!("npm_{stuff}"), stuff),
        ("option", "mysql --user x --password hunter2 db".to_owned(), "hunter2"),
        ("option", "curl -u ada:hunter2 https://x".to_owned(), "hunter2"),
        ("assignment", "export DB_PASSWORD='hunter two' && run".to_owned(), "hunter two"),
        ("assignment", r#"{ "client_secret" : "hunter2", broken"#.to_owned(), "hunter2"),
        ("assignment", "access-key: hunter2".to_owned(), "hunter2"),
    ] {
        let out = clean(&text);
        assert!(!out.contains(secret), "{rule}: {out}");
        assert!(out.contains(&format!("[redacted:{rule}]")), "{rule}: {text} -> {out}");
    }
    // No rule without an example above.
    let source = include_str!("redact_tests.rs");
    for rule in RULES {
        assert!(source.contains(&format!("\"{}\",", rule.name)), "{} has no example", rule.name);
    }
}

#[test]
fn ordinary_text_stays_as_it_is() {
    for text in [
        "cargo test --test kill -- --nocapture",
        "see https://host.example:8080/path?page=2#part and mail ada@host.example",
        "risk-averse task-force, ask-me-anything, disk-usage",
        "The tokenizer has 3 tokens; a secretary keeps the password short.",
        "fn main() { println!(\"Grüße\") } // AKIA is a prefix",
        "",
    ] {
        assert_eq!(clean(text), text);
    }
}

#[test]
fn json_is_looked_at_text_by_text_and_stays_json() {
    let json = serde_json::json!({
        "command": ["psql", "postgres://ada:hunter2@db/x"],
        "env": {"API_TOKEN": "hunter2", "n": 3, "empty_token": ""},
        "file": "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
        "inner": "{\"password\":\"hunter2\"}",
        "password=hunter2": 1,
    });
    let out = clean(&json.to_string());
    assert!(!out.contains("hunter2"), "{out}");
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        out["env"],
        serde_json::json!({"API_TOKEN": "[redacted:assignment]", "n": 3, "empty_token": ""})
    );
    assert_eq!(out["command"][1], "postgres://[redacted:url_credentials]@db/x");
    assert_eq!(out["inner"], "{\"password\":\"[redacted:assignment]\"}");
}

#[test]
fn a_secret_that_the_limit_would_cut_apart_is_not_let_through() {
    let secret = format!("ghp_{}", "a1".repeat(20));
    for at in [90, 100, 110, 100 + BEYOND - 20, 100 + BEYOND] {
        let text = format!("{} {secret} {}", "x ".repeat(at / 2), "y ".repeat(BEYOND));
        let out = Redaction::built_in().apply(&text, 100).unwrap();
        assert!(!out.contains("ghp_"), "{at}");
        assert!(out.contains("[cut:"), "{at}");
    }
}

#[test]
fn rules_of_the_user_come_after_the_built_in_ones_and_bad_ones_are_named() {
    let own =
        |name: &str, pattern: &str| Redaction::with_user_rules(&[(name.to_owned(), pattern.to_owned())]);
    let rules = own("ticket", "TICKET-(?<secret>[0-9]+)").unwrap();
    assert_eq!(rules.apply("see TICKET-4711", 100).unwrap(), "see TICKET-[redacted:ticket]");
    let long = "a".repeat(USER_PATTERN + 1);
    for (name, pattern, said) in [
        ("a b", "x", "letters"),
        ("open", "(x", "rule open: it is no pattern"),
        ("empty", "x*", "rule empty: the pattern matches the empty text"),
        ("large", r"(?:\pL{1000}){1000}", "rule large: the pattern is too large"),
        ("long", long.as_str(), "rule long: the pattern is longer"),
    ] {
        let error = own(name, pattern).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    let many: Vec<_> = (0..=USER_RULES).map(|n| (format!("r{n}"), "x".to_owned())).collect();
    assert!(Redaction::with_user_rules(&many).is_err());
}

#[test]
fn a_megabyte_of_any_text_is_looked_at_in_linear_time() {
    // Each of these makes an engine that backtracks take for ever.
    for text in [
        "a".repeat(1 << 20),
        "password".repeat(1 << 17),
        "https://".repeat(1 << 17),
        "-----BEGIN PRIVATE KEY-----".repeat(1 << 15),
    ] {
        let started = std::time::Instant::now();
        Redaction::built_in().apply(&text, 1 << 20);
        assert!(started.elapsed().as_secs() < 20, "{}", text.get(..20).unwrap_or_default());
    }
}
