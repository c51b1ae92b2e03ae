//! The products behind the names that clients give themselves.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What the original's log lines show, and the names that its editors use.
const BUILT_IN: &str = include_str!("products.toml");

/// A table from `product_client_id` to the canonical name.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Products {
    products: BTreeMap<String, String>,
}

impl Products {
    /// Reads a table in TOML: `[products]` with `name = "CANONICAL"`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// The table that is compiled in.
    pub fn built_in() -> Self {
        // A test reads it.
        Self::parse(BUILT_IN).unwrap_or_default()
    }

    /// The canonical name; a name that is not in the table stands for itself.
    pub fn canonical<'a>(&'a self, name: &'a str) -> &'a str {
        self.products.get(name).map_or(name, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_product_become_one() {
        let products = Products::built_in();
        for (name, canonical) in [
            ("codex-tui", "CODEX_CLI"),
            ("codex_cli_rs", "CODEX_CLI"),
            ("codex_exec", "CODEX_SERVICE_EXEC"),
            ("codex_vscode", "CODEX_VSCODE"),
            ("somebody_else", "somebody_else"),
        ] {
            assert_eq!(products.canonical(name), canonical);
        }
    }

    #[test]
    fn a_table_that_is_wrong_says_where() {
        assert!(Products::parse("[products]\na = 3\n").unwrap_err().contains("line 2"));
        assert!(Products::parse("[product]\n").is_err());
        assert_eq!(Products::parse("[products]\nx = \"Y\"\n").unwrap().canonical("x"), "Y");
    }
}
