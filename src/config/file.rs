//! The configuration file: found in the user's own directories, read, and checked against the table.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::kind::{Base, Kind};
use super::row::{Entry, entries};
use super::{ConfigError, Warning};

/// More than any configuration has.
const LIMIT: u64 = 1 << 20;

/// A file that was read and found good, as far as the table knows what is good.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: PathBuf,
    values: BTreeMap<String, Value>,
    warnings: Vec<Warning>,
}

/// The text that the variable would have, and where it stands.
#[derive(Clone)]
pub(super) struct Value {
    pub text: String,
    pub line: usize,
}

impl std::fmt::Debug for Value {
    /// Without the text, which may be a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value(line {})", self.line)
    }
}

/// What is wrong with a file: every mistake in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError(pub Vec<ConfigError>);

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ConfigError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for FileError {}

impl ConfigFile {
    /// The file that holds: `named` on the command line, else `FACTLINE_CONFIG`, else `factline/config.toml` in
    /// the user's configuration directory, where it may be missing. Never one in the working directory, which
    /// may be a stranger's.
    ///
    /// # Errors
    /// It can't be read, or something in it is wrong.
    pub fn find(
        named: Option<&Path>,
        vars: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, FileError> {
        let vars = |name: &str| vars(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = vars("HOME").filter(|path| path.is_absolute());
        if let Some(path) = named.map(Path::to_owned).or_else(|| vars("FACTLINE_CONFIG")) {
            return Self::read(&path, home.as_deref()).map(Some);
        }
        let own = vars("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let Some(dir) = own.or_else(|| Some(home.as_ref()?.join(".config"))) else { return Ok(None) };
        let path = dir.join("factline/config.toml");
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            _ => Self::read(&path, home.as_deref()).map(Some),
        }
    }

    /// Reads a file. `home` is what `~/` means in its paths; relative ones begin where the file is.
    ///
    /// # Errors
    /// It can't be read, or something in it is wrong.
    pub fn read(path: &Path, home: Option<&Path>) -> Result<Self, FileError> {
        let failed = |problem: &str, example: &str| {
            FileError(vec![ConfigError {
                variable: path.display().to_string(),
                problem: problem.to_owned(),
                example: example.to_owned(),
            }])
        };
        let open = || -> std::io::Result<(fs::Metadata, Vec<u8>)> {
            let file = fs::File::open(path)?;
            let about = file.metadata()?;
            let mut bytes = Vec::new();
            file.take(LIMIT + 1).read_to_end(&mut bytes)?;
            Ok((about, bytes))
        };
        let (about, bytes) = open().map_err(|error| failed(&format!("cannot be read: {error}"), ""))?;
        if bytes.len() as u64 > LIMIT {
            return Err(failed("is longer than 1 MiB, and so no configuration", ""));
        }
        if about.is_file() && about.mode() & 0o002 != 0 {
            // It names where telemetry goes, and programs to run.
            let mend = format!("chmod o-w {}", path.display());
            return Err(failed("anybody on this machine may write to it", &mend));
        }
        let text = String::from_utf8(bytes).map_err(|_| failed("is not UTF-8", ""))?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        // Relative to the file, and the file itself may have been named relative to the working directory.
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let mut reading = Reading {
            path,
            text: &text,
            base: Base { dir: &dir, home },
            known: entries(),
            values: BTreeMap::new(),
            errors: Vec::new(),
            secrets: Vec::new(),
        };
        match DeTable::parse(&text) {
            Ok(table) => reading.table(table.get_ref(), ""),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let line = reading.line(at);
                let problem = format!("is no TOML: {}", error.message());
                reading.wrong(line, format!("{}:{line}", path.display()), problem, String::new());
            }
        }
        let Reading { values, mut errors, mut secrets, .. } = reading;
        if !errors.is_empty() {
            errors.sort_by_key(|(line, _)| *line);
            return Err(FileError(errors.into_iter().map(|(_, error)| error).collect()));
        }
        secrets.sort();
        let warnings = if about.is_file() && about.mode() & 0o044 != 0 {
            let message = "is a credential in a file that others may read; take a file or a program for it, or \
                           `chmod go-r` the file";
            let warning = |(_, variable)| Warning { variable, message: message.to_owned() };
            secrets.into_iter().map(warning).collect()
        } else {
            Vec::new()
        };
        Ok(ConfigFile { path: path.to_owned(), values, warnings })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    pub(super) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
    base: Base<'a>,
    known: &'static [Entry],
    values: BTreeMap<String, Value>,
    /// With their lines.
    errors: Vec<(usize, ConfigError)>,
    /// Places of credentials, with their lines.
    secrets: Vec<(usize, String)>,
}

impl Reading<'_> {
    fn line(&self, at: usize) -> usize {
        self.text.get(..at).map_or(1, |before| before.matches('\n').count() + 1)
    }

    fn table(&mut self, table: &DeTable<'_>, prefix: &str) {
        for (name, value) in table.iter() {
            let key = format!("{prefix}{}", name.get_ref());
            let line = self.line(name.span().start);
            let place = format!("{}:{line}: {}", self.path.display(), key.escape_debug());
            let entry = self.known.iter().find(|entry| entry.key == key).map(|entry| entry.row.kind);
            match (entry, value.get_ref()) {
                (Some(kind), value) => match kind.text(value, &self.base) {
                    Ok(text) => {
                        if kind.is_secret() {
                            self.secrets.push((line, place));
                        }
                        self.values.insert(key, Value { text, line });
                    }
                    Err(problem) => self.wrong(line, place, problem, kind.example()),
                },
                (None, DeValue::Table(inside)) if self.is_table(&key) => {
                    self.table(inside, &format!("{key}."));
                }
                (None, _) if self.is_table(&key) => {
                    let problem = "is a table of settings, not a value".to_owned();
                    self.wrong(line, place, problem, format!("[{key}]"));
                }
                (None, value) => {
                    let nearest = self.nearest(&key, matches!(value, DeValue::Table(_)));
                    let problem = format!("there is no such setting; did you mean {nearest}?");
                    self.wrong(line, place, problem, String::new());
                }
            }
        }
    }

    fn wrong(&mut self, line: usize, variable: String, problem: String, example: String) {
        self.errors.push((line, ConfigError { variable, problem, example }));
    }

    fn is_table(&self, key: &str) -> bool {
        self.known.iter().any(|entry| entry.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
    }

    /// By the whole key, or by its last part alone, which is then in the wrong table.
    fn nearest(&self, key: &str, table: bool) -> String {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let keys = self.known.iter().map(|entry| (entry.key.clone(), entry.row.kind));
        let named: Vec<String> = if table {
            let tables = self.known.iter().filter_map(|entry| Some(entry.key.split_once('.')?.0.to_owned()));
            keys.filter(|(_, kind)| matches!(kind, Kind::Pairs | Kind::Headers))
                .map(|(key, _)| key)
                .chain(tables)
                .collect()
        } else {
            keys.map(|(key, _)| key).collect()
        };
        let far = |candidate: &String| {
            let whole = strsim::damerau_levenshtein(candidate, key);
            whole.min(strsim::damerau_levenshtein(&last(candidate), &last(key)) + 2)
        };
        let nearest = named.into_iter().min_by_key(far).unwrap_or_default();
        match table && self.is_table(&nearest) {
            true => format!("[{nearest}]"),
            false => nearest,
        }
    }
}

/// The known name that is nearest to `name`.
pub(super) fn nearest_of<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.min_by_key(|known| strsim::damerau_levenshtein(known, name))
}
