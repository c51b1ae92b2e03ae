//! `docs/configuration.md`, made from the table.

use std::fmt::Write as _;

use super::row::{Row, of_signal};
use super::table::TABLE;
use super::{Kind, Signal};

const HEAD: &str = r#"# Configuration

Made from the table in `src/config/table.rs` by `cargo run --example configuration > docs/configuration.md`; a test
keeps it in step.

A value comes from, the first that says something: a **flag**; a **variable**; the **file**; the default. The file is
the one that `--config FILE` names, else `FACTLINE_CONFIG`, else `factline/config.toml` in `$XDG_CONFIG_HOME` or
`~/.config`, on macOS too. It is never looked for in the working directory: a repository that somebody else wrote can't
say where your telemetry goes. `factline doctor` shows what holds and who said it, with the line of the file.

```toml
[otlp]
endpoint = "https://collector.example:4318"
headers = { x-tenant = "tools" }
compression = "gzip"

[logs]
exporter = "files"            # logs stay here
filter = "info,factline::hook=off"

[outbox]
max_bytes = "4GiB"

[analytics]
url = "https://analytics.example/backend-api"
token_command = ["/usr/local/bin/print-token"]
families = ["-diff"]          # all but this
```

Every mistake in the file is an error that names file and line: a key that does not exist (with the nearest that does),
a value of the wrong type or out of range. A bad value of a variable is a warning and the default, as the OpenTelemetry
specification asks; only where the default would send telemetry somewhere else it is an error. An empty value is none.
A variable wins over everything in the file, also a general one (`OTEL_EXPORTER_OTLP_ENDPOINT`) over a signal's own key
(`logs.endpoint`).

Relative paths in the file begin where the file is, and `~/` is the home directory. Times are `"100ms"`, `"10s"`,
`"5m"`, `"12h"`, `"7d"` or milliseconds; sizes `"512MiB"`, `"10MB"` or bytes. Lists are written with commas in a
variable (`a,b`); tables as `key=value,key=value`, percent-encoded.

**Credentials** are best kept out of it: `token_file` and `token_command` are asked when they are needed. A token or
header in a file that others may read is a warning; a file that anybody may write is refused. No credential is ever
shown, `factline doctor` included.
"#;

/// What the standard says, and what it means here.
const STANDARD: &str = r#"
## Standard variables that mean nothing here

Each is a warning when it is set, and says what to use instead.

| variable | instead |
|---|---|
"#;

/// The whole of `docs/configuration.md`.
pub fn page() -> String {
    let mut out = HEAD.to_owned();
    let mut section = "";
    for row in TABLE {
        let table = row.key.split_once('.').map_or("", |(table, _)| table);
        if table != section || section.is_empty() && out.ends_with("shown, `factline doctor` included.\n") {
            section = table;
            let _ = write!(out, "\n## {}\n\n", heading(table));
            out.push_str("| key | variable, flag | value | default | meaning |\n|---|---|---|---|---|\n");
        }
        let _ = writeln!(out, "{}", line(row));
    }
    out.push_str(STANDARD);
    for (names, instead) in super::standard::UNSUPPORTED {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(out, "| {} | {instead} |", names.join(", "));
    }
    for (name, instead) in super::standard::PARTLY {
        let _ = writeln!(out, "| `{name}` | {instead} |");
    }
    out
}

fn heading(table: &str) -> String {
    let signals: Vec<&str> = Signal::ALL.iter().map(|signal| signal.name()).collect();
    match table {
        "" => "Top level".to_owned(),
        "*" => format!("`[{}]`", signals.join("]`, `[")),
        "otlp" => format!("`[otlp]`, and each key for one signal in `[{}]`", signals.join("]`, `[")),
        table => format!("`[{table}]`"),
    }
}

fn line(row: &Row) -> String {
    let key = row.key.split_once('.').map_or(row.key, |(_, key)| key);
    let mut said = Vec::new();
    if !row.variable.is_empty() {
        said.push(format!("`{}`", row.variable));
    }
    if row.key.starts_with("otlp.") {
        said.push(format!("`{}`", of_signal(row).1));
    }
    if !row.flag.is_empty() {
        said.push(format!("`{}`", row.flag));
    }
    let default = match row.default {
        "none" | "all" => row.default.to_owned(),
        text if text.contains(['`', ' ']) => text.to_owned(),
        text => format!("`{text}`"),
    };
    let value = match row.kind {
        Kind::Choice(names) => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        kind => kind.allowed(),
    };
    format!("| `{key}` | {} | {value} | {default} | {} |", said.join(", "), row.doc)
}
