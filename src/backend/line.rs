//! One line per event, in the words of the original backend.

use serde_json::{Value, json};

use super::validate::Validator;

/// Characters of one value in a line.
const SHOWN: usize = 200;
/// What follows the thread in every line; the rest stands as in the event.
const FIRST: [&str; 2] = ["thread_id", "turn_id"];

/// An event that was kept for the first time.
pub struct Tracked<'a> {
    pub(super) event: &'a Value,
    pub(super) product: Option<&'a str>,
    pub(super) received_at_ms: u64,
    pub(super) table: &'a Validator,
}

impl Tracked<'_> {
    /// `Tracked analytics event TYPE thread_id=... product_surface=codex product_client_id=... ...`. Members of
    /// objects stand without the object's name; values that hold blanks, quotes or control characters are
    /// quoted and escaped, long ones cut.
    pub fn line(&self) -> String {
        let name = self.name();
        let mut line = format!("Tracked analytics event {name}");
        let params = self.event.get("event_params");
        let member = |key: &str| params.and_then(|params| params.get(key));
        for key in FIRST {
            if let Some(value) = member(key) {
                push(&mut line, key, value);
            }
        }
        push(&mut line, "product_surface", member("product_surface").unwrap_or(&Value::from("codex")));
        push(&mut line, "product_client_id", &json!(self.product));
        for key in ["skill_id", "skill_name"] {
            if let Some(value) = self.event.get(key) {
                push(&mut line, key, value);
            }
        }
        let said = ["product_surface", "product_client_id", "event_type"];
        let rest = ["app_server_client", "runtime"].into_iter().chain(self.table.order(name).filter(|key| {
            !FIRST.contains(key) && !said.contains(key) && !["app_server_client", "runtime"].contains(key)
        }));
        for key in rest {
            match member(key) {
                Some(Value::Object(object)) => {
                    for (key, value) in object.iter().filter(|(key, _)| *key != "product_client_id") {
                        push(&mut line, key, value);
                    }
                }
                Some(value) => push(&mut line, key, value),
                None => {}
            }
        }
        line
    }

    /// The event and what was added to it, as JSON on one line.
    pub fn json(&self) -> String {
        json!({
            "received_at_ms": self.received_at_ms, "product_client_id": self.product, "event": self.event,
        })
        .to_string()
    }

    fn name(&self) -> &str {
        self.event.get("event_type").and_then(Value::as_str).unwrap_or_default()
    }
}

fn push(line: &mut String, key: &str, value: &Value) {
    line.push(' ');
    line.push_str(key);
    line.push('=');
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let cut: String = text.chars().take(SHOWN).collect();
    let plain =
        !cut.is_empty() && cut.chars().all(|c| c.is_ascii_graphic() && c != '"' || c.is_alphanumeric());
    if plain {
        line.push_str(&cut);
    } else {
        // Control and format characters, as those that turn the direction of a text around.
        line.push('"');
        for c in cut.chars() {
            if c == ' ' || c.is_ascii_graphic() && c != '"' && c != '\\' || c.is_alphanumeric() {
                line.push(c);
            } else {
                line.extend(c.escape_default());
            }
        }
        line.push('"');
    }
    if cut.len() < text.len() {
        line.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: &Value, product: &str) -> String {
        let table = Validator::new(false).unwrap();
        Tracked { event, product: Some(product), received_at_ms: 1, table: &table }.line()
    }

    #[test]
    fn a_thread_looks_as_in_the_original() {
        let client = json!({"product_client_id": "codex-tui", "client_name": "codex-tui", "client_version": "1.2.3",
            "rpc_transport": "in_process", "experimental_api_enabled": null});
        let runtime = json!({"codex_rs_version": "0.169.0", "runtime_os": "linux", "runtime_os_version": "12",
            "runtime_arch": "x86_64"});
        let event = json!({"event_type": "codex_thread_initialized", "event_params": {
            "thread_id": "t1", "session_id": "s1", "app_server_client": client, "runtime": runtime,
            "model": "gpt x\n\u{1b}[2J", "ephemeral": false, "created_at": 7}});
        assert_eq!(
            line(&event, "CODEX_CLI"),
            "Tracked analytics event codex_thread_initialized thread_id=t1 product_surface=codex \
             product_client_id=CODEX_CLI client_name=codex-tui client_version=1.2.3 \
             experimental_api_enabled=null rpc_transport=in_process codex_rs_version=0.169.0 runtime_arch=x86_64 \
             runtime_os=linux runtime_os_version=12 session_id=s1 model=\"gpt x\\n\\u{1b}[2J\" ephemeral=false \
             created_at=7"
        );
    }

    #[test]
    fn long_values_are_cut_and_quotes_escaped() {
        let event = json!({"event_type": "skill_invocation", "skill_id": "é".repeat(300), "skill_name": "a \"b\\",
            "event_params": {"thread_id": null, "unknown": "x", "plugin_id": "\u{202e}"}});
        let line = line(&event, "P");
        assert!(line.contains(&format!("skill_id={}...", "é".repeat(200))), "{line}");
        assert!(line.contains(r#"skill_name="a \"b\\" plugin_id="\u{202e}""#), "{line}");
        assert!(!line.contains("unknown"), "only members of the table are printed: {line}");
    }
}
