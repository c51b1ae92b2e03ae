//! The catalogue of facts in Markdown, made from the table.

use std::fmt::Write as _;

use super::{Class, ENTRIES, FieldInfo, Shape};

/// The whole of `docs/facts.md`.
pub fn catalogue() -> String {
    let mut out = String::from(
        "# Facts\n\n\
         Made from the table in `src/fact/vocabulary.rs` by `cargo run --example catalogue > docs/facts.md`; a test \
         keeps it in step.\n\n\
         A fact is one `tracing` event (a point in time) or span (what lasts). As OpenTelemetry, a point is a log \
         record whose EventName is the fact's name; what lasts is a span, and a log record where one is named. Fields \
         of class *content* and *environment* are only emitted where their kind is captured; nothing of them is by \
         default. `?` marks a field that may be missing.\n",
    );
    for entry in ENTRIES {
        let _ = write!(
            out,
            "\n## `{}`\n\n{}\n\nTarget `{}`, level {}",
            entry.name,
            entry.doc.trim(),
            entry.target,
            entry.level
        );
        if !entry.exported {
            out.push_str(", never exported");
        }
        match &entry.lasting {
            None => {
                out.push_str(".\n\n");
                table(&mut out, &[("", entry.fields)]);
            }
            Some(lasting) => {
                let _ = write!(out, ". Span `{}`", lasting.shown);
                let logs: Vec<String> = [(lasting.start_event, "start"), (lasting.end_event, "end")]
                    .into_iter()
                    .filter_map(|(event, when)| Some(format!("`{}` at its {when}", event?)))
                    .collect();
                if !logs.is_empty() {
                    let _ = write!(out, "; log record {}", logs.join(", "));
                }
                let constant: Vec<String> =
                    lasting.constant.iter().map(|(key, value)| format!("`{key}` = `{value}`")).collect();
                if !constant.is_empty() {
                    let _ = write!(out, "; always {}", constant.join(", "));
                }
                out.push_str(".\n\n");
                table(&mut out, &[("start", entry.fields), ("end", lasting.end_fields)]);
            }
        }
    }
    out
}

fn table(out: &mut String, groups: &[(&str, &[FieldInfo])]) {
    let when = groups.len() > 1;
    out.push_str(if when {
        "| attribute | known at | type | class | meaning |\n|---|---|---|---|---|\n"
    } else {
        "| attribute | type | class | meaning |\n|---|---|---|---|\n"
    });
    for (at, fields) in groups {
        for field in *fields {
            let shape = match field.shape {
                Shape::Text => "text",
                Shape::Integer => "integer",
                Shape::Number => "number",
                Shape::Flag => "flag",
                Shape::List => "list of texts",
            };
            let class = match field.class {
                Class::Id => "id".to_owned(),
                Class::Operational => "operational".to_owned(),
                Class::Environment(kind) => format!("environment: {}", format!("{kind:?}").to_lowercase()),
                Class::Content(kind) => format!("content: {}", format!("{kind:?}").to_lowercase()),
                Class::Secret => "secret".to_owned(),
            };
            let optional = if field.optional { "?" } else { "" };
            let known = if when { format!(" {at} |") } else { String::new() };
            let _ = writeln!(
                out,
                "| `{}` |{known} {shape}{optional} | {class} | {} |",
                field.key,
                field.doc.trim()
            );
        }
    }
}
