//! A row of the table of settings, and the names that it stands for.

use std::sync::LazyLock;

use super::Signal;
use super::kind::Kind;
use super::table::TABLE;

/// One setting.
#[derive(Debug)]
pub struct Row {
    /// The key in the file, with its table. `*` stands for each signal; `otlp.x` is also `logs.x`, `traces.x`, ...
    pub key: &'static str,
    /// The variable, `*` as in the key; empty where there is none.
    pub variable: &'static str,
    /// The flag of the command line; empty where there is none.
    pub flag: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds when nobody says anything, in words.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

pub(super) const fn row(
    key: &'static str,
    variable: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Row {
    Row { key, variable, flag: "", kind, default, doc }
}

impl Row {
    pub(super) const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = flag;
        self
    }
}

/// A setting by the names that it really has: one for each signal.
#[derive(Debug)]
pub struct Entry {
    /// The key in the file.
    pub key: String,
    /// The variable; empty where there is none.
    pub variable: String,
    /// What the table says.
    pub row: &'static Row,
}

/// The table with each signal's names.
pub fn entries() -> &'static [Entry] {
    static ALL: LazyLock<Vec<Entry>> = LazyLock::new(|| TABLE.iter().flat_map(of_row).collect());
    &ALL
}

fn of_row(row: &'static Row) -> Vec<Entry> {
    let general = (!row.key.starts_with("*.")).then(|| Entry {
        key: row.key.to_owned(),
        variable: row.variable.to_owned(),
        row,
    });
    let (key, variable) = of_signal(row);
    let own = Signal::ALL.into_iter().filter(|_| !key.is_empty()).map(|signal| Entry {
        key: key.replacen('*', signal.name(), 1),
        variable: variable.replacen('*', &signal.name().to_ascii_uppercase(), 1),
        row,
    });
    general.into_iter().chain(own).collect()
}

/// The names of a setting of one signal, with `*` for it; empty for what is not said per signal.
pub(super) fn of_signal(row: &Row) -> (String, String) {
    const OTLP: [&str; 2] = ["OTEL_EXPORTER_OTLP_", "FACTLINE_OTLP_"];
    match row.key.strip_prefix("otlp.") {
        Some(what) => {
            let variable = OTLP
                .into_iter()
                .find_map(|prefix| row.variable.strip_prefix(prefix).map(|what| format!("{prefix}*_{what}")));
            (format!("*.{what}"), variable.unwrap_or_default())
        }
        None if row.key.starts_with("*.") => (row.key.to_owned(), row.variable.to_owned()),
        None => Default::default(),
    }
}
