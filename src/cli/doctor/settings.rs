//! What is configured and from where.

use serde_json::{Value, json};
use tracing_subscriber::filter::Targets;

use super::check::{Check, Report};
use crate::cli::{filter, terminal};
use crate::config::{Origin, Shown, Signal, Sources};
use crate::fact::ENTRIES;

/// Shows what was set, or everything; as JSON for the report's end.
pub(super) fn show(sources: &Sources<'_>, all: bool, report: &mut Report) -> Value {
    let shown = sources.shown();
    let file = sources.file().map(|file| file.path().display().to_string());
    let named = shown.iter().filter(|it| all || it.origin != Origin::Default);
    let lines: Vec<(&Shown, String)> = named.map(|it| (it, origin(it))).collect();
    let width = lines.iter().map(|(it, _)| it.key.len()).max().unwrap_or(0);
    let values = lines.iter().map(|(it, _)| it.value.chars().count()).max().unwrap_or(0).min(48);
    let mut out = format!("factline {}\n", env!("CARGO_PKG_VERSION"));
    match &file {
        Some(file) => out.push_str(&format!("configuration file {}\n", terminal::printable(file))),
        None => out.push_str("no configuration file\n"),
    }
    for (it, origin) in &lines {
        let line = format!("  {:<width$}  {:<values$}  {origin}", it.key, it.value);
        out.push_str(&format!("{}\n", terminal::printable(line.trim_end())));
    }
    if !all {
        let rest = shown.len() - lines.len();
        out.push_str(&format!("  {rest} more are as they are by default; --all shows them\n"));
    }
    report.text(&out);
    let settings: Vec<Value> = shown
        .iter()
        .map(|it| {
            let over: Vec<String> = it.over.iter().map(Origin::to_string).collect();
            json!({"key": it.key, "value": it.value, "origin": it.origin.to_string(), "instead_of": over})
        })
        .collect();
    json!({"version": env!("CARGO_PKG_VERSION"), "config_file": file, "settings": settings})
}

fn origin(shown: &Shown) -> String {
    match shown.over.first() {
        None => shown.origin.to_string(),
        Some(over) => format!("{} (instead of {over})", shown.origin),
    }
}

/// Whether filters can be read, and let anything through.
pub(super) fn filters(sources: &Sources<'_>, report: &mut Report) {
    let own = Signal::ALL.map(|signal| format!("FACTLINE_{}_FILTER", signal.name().to_ascii_uppercase()));
    let names = own.iter().map(String::as_str).chain(["FACTLINE_FILTER", "FACTLINE_ANALYTICS_FILTER"]);
    for name in names {
        let Some((place, text)) = sources.text(&[name]) else { continue };
        if let Err(error) = filter::of(sources, &[name]) {
            report.add(Check::fail("filter", error.to_string(), ""));
            continue;
        }
        // The plain ones, without spans and fields, can be tried on every fact.
        let Ok(targets) = text.value.parse::<Targets>() else { continue };
        let facts = || ENTRIES.iter().filter(|entry| entry.exported);
        let through = facts().filter(|entry| targets.would_enable(entry.target, &entry.level)).count();
        let said = format!("{place} lets {through} of {} kinds of fact through", facts().count());
        report.add(match through {
            0 => Check::warn("filter", said, "`info` lets all through that an operator usually wants"),
            _ => Check::ok("filter", said),
        });
    }
}
