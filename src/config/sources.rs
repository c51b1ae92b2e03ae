//! Where values come from: flags, then the environment, then the file.

use std::path::PathBuf;

use super::file::{ConfigFile, nearest_of};
use super::row::entries;
use super::{Origin, Setting, Warning};

type Vars<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

/// Everything that was said, by whom.
pub struct Sources<'a> {
    vars: Vars<'a>,
    file: Option<ConfigFile>,
    flags: Vec<Flag>,
}

struct Flag {
    name: &'static str,
    variable: &'static str,
    value: String,
}

/// A value, and what to call it in a sentence: the variable, the flag, or `path:line: key`.
pub(super) struct Said {
    pub name: String,
    pub place: String,
    pub text: Setting<String>,
}

impl<'a> Sources<'a> {
    /// The environment alone, usually `|name| std::env::var(name).ok()`.
    pub fn environment(vars: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Sources { vars: Box::new(vars), file: None, flags: Vec::new() }
    }

    /// With a file behind it.
    #[must_use]
    pub fn with_file(mut self, file: Option<ConfigFile>) -> Self {
        self.file = file;
        self
    }

    /// With a flag of the command line in front of `variable`.
    #[must_use]
    pub fn with_flag(mut self, name: &'static str, variable: &'static str, value: Option<String>) -> Self {
        self.flags.extend(value.map(|value| Flag { name, variable, value }));
        self
    }

    /// The file, if there is one.
    pub fn file(&self) -> Option<&ConfigFile> {
        self.file.as_ref()
    }

    /// Variables among `names` that look like ours and are none.
    pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<Warning> {
        // Those that are read where they are used, because they are not about telemetry.
        const OTHERS: [&str; 2] = ["FACTLINE_CONFIG", "FACTLINE_BACKEND_DB"];
        let known = || {
            let variables = entries().iter().map(|entry| entry.variable.as_str());
            variables.filter(|name| name.starts_with("FACTLINE_")).chain(OTHERS)
        };
        names
            .filter(|name| name.starts_with("FACTLINE_") && known().all(|known| known != name))
            .map(|variable| {
                let nearest = nearest_of(&variable, known()).unwrap_or_default();
                Warning { message: format!("there is no such setting; did you mean {nearest}?"), variable }
            })
            .collect()
    }

    /// What holds under the first of `names` that says anything, and what to call it in a sentence.
    pub fn text(&self, names: &[&str]) -> Option<(String, Setting<String>)> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.said(&names).into_iter().next().map(|said| (said.place, said.text))
    }

    /// What was said under any of `names` (variables, or keys where a setting has no variable), the one that
    /// holds first: a flag before the environment before the file, and in each the names in their order.
    pub(super) fn said(&self, names: &[String]) -> Vec<Said> {
        let flags = |name: &String| {
            let flag = self.flags.iter().find(|flag| flag.variable == name)?;
            let text = Setting { value: flag.value.clone(), origin: Origin::Flag(flag.name.to_owned()) };
            Some(Said { name: name.clone(), place: flag.name.to_owned(), text })
        };
        let vars = |name: &String| {
            let value = (self.vars)(name)?;
            let text = Setting { value, origin: Origin::Env(name.clone()) };
            Some(Said { name: name.clone(), place: name.clone(), text })
        };
        let file = |name: &String| {
            let file = self.file.as_ref()?;
            let key = entries().iter().find(|entry| entry.variable == *name).map_or(name, |entry| &entry.key);
            let value = file.get(key)?;
            let origin = Origin::File { path: file.path().to_owned(), line: value.line };
            let place = format!("{origin}: {key}");
            Some(Said { name: name.clone(), place, text: Setting { value: value.text.clone(), origin } })
        };
        let all = names.iter().filter_map(flags).chain(names.iter().filter_map(vars));
        // An empty variable is an unset one.
        all.chain(names.iter().filter_map(file)).filter(|said| !said.text.value.trim().is_empty()).collect()
    }

    /// A variable of the system, such as `HOME`, as an absolute path.
    pub(super) fn absolute(&self, name: &str) -> Option<PathBuf> {
        (self.vars)(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }
}
