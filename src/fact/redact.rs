//! Redaction by value: what looks like a secret is taken out of captured values before anybody sees them.
//!
//! All rules run in time linear in the text (the `regex` crate has no backtracking). A rule takes out its group
//! `secret`, or all that it matches where it has none, and leaves `[redacted:rule]`. In JSON it looks at each text
//! alone, as it was before quotes were escaped.

use std::fmt;
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use serde_json::Value;

use super::bounded;
use super::cut::structured;

/// A rule: its name, what it finds, in words, and its pattern.
#[derive(Debug)]
pub struct Rule {
    /// Its name, as it stands in `[redacted:name]`.
    pub name: &'static str,
    /// What it finds.
    pub finds: &'static str,
    /// The pattern, in the syntax of the `regex` crate.
    pub pattern: &'static str,
}

/// The built-in rules, in the order in which they are applied.
pub const RULES: &[Rule] = &[
    Rule {
        name: "private_key",
        finds: "PEM private keys, also where the end is missing",
        pattern: r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
    },
    Rule {
        name: "url_credentials",
        finds: "user and password before the host of a URL",
        pattern: r#"(?i)(?-u:\b)[a-z][a-z0-9+.-]*://(?<secret>[^\s/?\#"'<>]+)@"#,
    },
    Rule {
        name: "url_query",
        finds: "signatures, tokens and keys in the query of a URL",
        pattern: r#"(?i)[?&;](?:x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature|x-goog-credential|awsaccesskeyid|signature|sig|access_token|refresh_token|id_token|token|api_?key|key|password|secret|client_secret|code)=(?<secret>[^&\s\#"'<>]+)"#,
    },
    Rule {
        name: "header",
        finds: "the value of an Authorization, Cookie or key header",
        pattern: r#"(?i)(?-u:\b)(?:proxy-authorization|authorization|set-cookie|cookie|x-api-key|api-key|x-auth-token|private-token)["']?\s*[:=]\s*["']?(?<secret>[^\r\n"']+)"#,
    },
    Rule {
        name: "bearer",
        finds: "`Bearer` and `Basic` credentials",
        pattern: r"(?i)(?-u:\b)(?:bearer|basic)\s+(?<secret>[a-z0-9._~+/=-]{8,})",
    },
    Rule {
        name: "jwt",
        finds: "JSON web tokens",
        pattern: r"(?-u:\b)eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*",
    },
    Rule {
        name: "openai_key",
        finds: "keys that begin with `sk-`, as of OpenAI and Anthropic",
        pattern: r"(?-u:\b)sk-[A-Za-z0-9_-]{12,}",
    },
    Rule {
        name: "github_token",
        finds: "GitHub tokens: `ghp_`, `gho_`, `ghu_`, `ghs_`, `ghr_`, `github_pat_`",
        pattern: r"(?-u:\b)(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,})",
    },
    Rule {
        name: "gitlab_token",
        finds: "GitLab tokens: `glpat-` and its kin",
        pattern: r"(?-u:\b)gl(?:pat|ptt|rt|dt|cbt|soat)-[A-Za-z0-9_-]{16,}",
    },
    Rule {
        name: "aws_key",
        finds: "AWS access key ids: `AKIA`, `ASIA` and 16 more",
        pattern: r"(?-u:\b)(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}(?-u:\b)",
    },
    Rule {
        name: "google_key",
        finds: "Google API keys: `AIza` and 35 more",
        pattern: r"(?-u:\b)AIza[A-Za-z0-9_-]{35}",
    },
    Rule {
        name: "slack_token",
        finds: "Slack tokens: `xoxb-`, `xoxp-` and its kin, `xapp-`",
        pattern: r"(?-u:\b)(?:xox[a-z]|xapp)-[A-Za-z0-9-]{10,}",
    },
    Rule {
        name: "registry_token",
        finds: "tokens of npm, PyPI, crates.io, Hugging Face and Stripe",
        pattern: r"(?-u:\b)(?:npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{32,}|cio[A-Za-z0-9]{32}|hf_[A-Za-z0-9]{30,}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,})",
    },
    Rule {
        name: "option",
        finds: "the word after `--password`, `--token`, `--secret`, `--api-key`, and after curl's `-u`",
        pattern: r#"(?i)(?:--(?:[a-z0-9-]*-)?(?:password|passwd|token|secret|api-?key|access-?key)(?:\s+|=)|\s-u\s+)(?<secret>"[^"]*"|'[^']*'|[^\s"']+)"#,
    },
    Rule {
        name: "assignment",
        finds: "what is assigned to a name with password, passwd, secret, token, credential, api key, access key or private key in it",
        pattern: r#"(?i)(?:password|passwd|secret|token|credential|api[_-]?key|access[_-]?key|private[_-]?key)[a-z0-9_.-]*["']?\s*(?:=|:=?)\s*(?<secret>"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"',;&|)}\]]+)"#,
    },
];

/// Rules of the user at most.
pub const USER_RULES: usize = 64;
/// The longest pattern of a user's rule, bytes.
pub const USER_PATTERN: usize = 1024;
const COMPILED: usize = 1 << 20;
/// Beyond the limit of a value so much more is looked at, so that what is cut off takes no secret apart.
const BEYOND: usize = 64 * 1024;

/// Compiled rules.
pub struct Redaction {
    // Which rules match at all is found in one pass; most texts match none.
    any: Option<RegexSet>,
    rules: Vec<(String, Regex)>,
}

impl PartialEq for Redaction {
    fn eq(&self, other: &Self) -> bool {
        let shown = |of: &Redaction| -> Vec<(String, String)> {
            of.rules.iter().map(|(name, regex)| (name.clone(), regex.as_str().to_owned())).collect()
        };
        shown(self) == shown(other)
    }
}

impl Eq for Redaction {}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rules.iter().map(|(name, _)| name)).finish()
    }
}

impl Redaction {
    /// The built-in rules alone.
    pub fn built_in() -> &'static Redaction {
        static BUILT_IN: LazyLock<Redaction> = LazyLock::new(|| {
            // They compile, a test does it; if they did not, everything is taken out rather than nothing.
            Redaction::with_user_rules(&[]).unwrap_or(Redaction { any: None, rules: Vec::new() })
        });
        &BUILT_IN
    }

    /// The built-in rules, and those of the user after them: name and pattern.
    ///
    /// # Errors
    /// Which rule can't be used, and why: no pattern of the `regex` crate, one that is too large, matches the empty
    /// text, or has a name with other characters than letters, digits and `_`; or there are more than
    /// [`USER_RULES`].
    pub fn with_user_rules(user: &[(String, String)]) -> Result<Redaction, String> {
        if user.len() > USER_RULES {
            return Err(format!("{} rules are more than {USER_RULES}", user.len()));
        }
        let mut rules = Vec::new();
        for rule in RULES {
            rules.push((rule.name.to_owned(), compiled(rule.pattern).map_err(|why| named(rule.name, &why))?));
        }
        for (name, pattern) in user {
            let fine = !name.is_empty()
                && name.len() <= 64
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !fine {
                return Err("a rule's name is of letters, digits and `_`, at most 64".to_owned());
            }
            if pattern.len() > USER_PATTERN {
                return Err(named(name, &format!("the pattern is longer than {USER_PATTERN} bytes")));
            }
            let regex = compiled(pattern).map_err(|why| named(name, &why))?;
            if regex.is_match("") {
                return Err(named(name, "the pattern matches the empty text"));
            }
            rules.push((name.clone(), regex));
        }
        let any = RegexSetBuilder::new(rules.iter().map(|(_, regex)| regex.as_str()))
            .size_limit(COMPILED * 8)
            .build()
            .map_err(|_| "the rules together are too large".to_owned())?;
        Ok(Redaction { any: Some(any), rules })
    }

    /// The text without its secrets; `None` where it has none. Of a text longer than `limit` what can't be looked
    /// at as a whole is left out.
    pub(super) fn apply(&self, text: &str, limit: usize) -> Option<String> {
        if self.any.is_none() {
            return Some("[redacted:all]".to_owned());
        }
        if let Some(mut value) = structured(text) {
            return self.apply_json(&mut value, limit).then(|| value.to_string());
        }
        self.apply_text(text, limit)
    }

    fn apply_json(&self, value: &mut Value, limit: usize) -> bool {
        match value {
            Value::String(text) => match self.apply(text, limit) {
                Some(clean) => {
                    *text = clean;
                    true
                }
                None => false,
            },
            Value::Array(all) => all.iter_mut().fold(false, |any, value| self.apply_json(value, limit) | any),
            Value::Object(all) => {
                let mut any = false;
                for (key, value) in all.iter_mut() {
                    // A member is an assignment to its key.
                    if let Value::String(text) = value
                        && let Some(name) = self.assigned(key, text)
                    {
                        *text = format!("[redacted:{name}]");
                        any = true;
                    } else {
                        any |= self.apply_json(value, limit);
                    }
                }
                // Keys of arguments come from outside as well.
                let keys: Vec<(String, String)> = all
                    .keys()
                    .filter_map(|key| self.apply_text(key, limit).map(|clean| (key.clone(), clean)))
                    .collect();
                for (key, clean) in keys {
                    any = true;
                    if let Some(value) = all.remove(&key) {
                        all.insert(clean, value);
                    }
                }
                any
            }
            _ => false,
        }
    }

    fn assigned(&self, key: &str, value: &str) -> Option<&str> {
        if value.is_empty() || key.len() > 256 {
            return None;
        }
        let said = format!("{key}=x");
        let names = ["header", "assignment"];
        let rule = self.rules.iter().find(|(name, regex)| names.contains(&&**name) && regex.is_match(&said));
        rule.map(|(name, _)| name.as_str())
    }

    fn apply_text(&self, text: &str, limit: usize) -> Option<String> {
        let looked_at = bounded(text, limit.saturating_add(BEYOND));
        let mut out: Option<String> = None;
        if looked_at.len() < text.len() {
            // The last word may be the half of a secret.
            let whole = looked_at.rfind(char::is_whitespace).unwrap_or(0);
            out =
                Some(format!("{} [cut:{}]", looked_at.get(..whole).unwrap_or_default(), text.len() - whole));
        }
        let matching = self.any.as_ref().map(|any| any.matches(out.as_deref().unwrap_or(text)));
        for at in matching.iter().flatten() {
            let Some((name, regex)) = self.rules.get(at) else { continue };
            let before = out.as_deref().unwrap_or(text);
            if let Some(after) = replaced(regex, before, name) {
                out = Some(after);
            }
        }
        out
    }
}

fn replaced(regex: &Regex, text: &str, name: &str) -> Option<String> {
    let mut out = String::new();
    let mut kept = 0;
    for found in regex.captures_iter(text) {
        let Some(secret) = found.name("secret").or_else(|| found.get(0)) else { continue };
        // What another rule took out is no secret any more.
        if secret.as_str().starts_with("[redacted:") {
            continue;
        }
        out.push_str(text.get(kept..secret.start()).unwrap_or_default());
        out.push_str("[redacted:");
        out.push_str(name);
        out.push(']');
        kept = secret.end();
    }
    if kept == 0 {
        return None;
    }
    out.push_str(text.get(kept..).unwrap_or_default());
    Some(out)
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(COMPILED).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the pattern is too large once it is compiled".to_owned(),
        _ => "it is no pattern of the regex crate".to_owned(),
    })
}

fn named(name: &str, why: &str) -> String {
    format!("rule {name}: {why}")
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
