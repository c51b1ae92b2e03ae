//! The `FACTLINE_ANALYTICS*` variables.

use std::path::PathBuf;

use super::env::{Env, TIMEOUT, command, kind_of, timeout};
use super::kind::Kind;
use super::sources::Said;
use super::{
    ANALYTICS_PATH, Analytics, AnalyticsSink, Backend, BodyForm, ConfigError, Endpoint, Families, Origin,
    Secret, Setting, Token,
};

const SWITCH: &str = "FACTLINE_ANALYTICS";
const URL: &str = "FACTLINE_ANALYTICS_URL";
const FILE: &str = "FACTLINE_ANALYTICS_FILE";
const TOKEN: &str = "FACTLINE_ANALYTICS_TOKEN";
const TOKEN_FILE: &str = "FACTLINE_ANALYTICS_TOKEN_FILE";
const TOKEN_COMMAND: &str = "FACTLINE_ANALYTICS_TOKEN_COMMAND";
const FORM: &str = "FACTLINE_ANALYTICS_FORM";

impl Env<'_> {
    pub(super) fn analytics(&mut self) -> Result<Analytics, ConfigError> {
        // What was said nearest to the command wins, and a URL over a file beside it.
        let mut named = self.said(&[URL.to_owned(), FILE.to_owned()]).into_iter();
        let (first, second) = (named.next(), named.find(|said| said.name == FILE));
        let origin = first.as_ref().map(|said| said.text.origin.clone());
        let unset = Setting { value: origin.is_some(), origin: origin.unwrap_or(Origin::Default) };
        let mut enabled = self.switch(unset);
        let families = self.families();
        let filter = self.text("FACTLINE_ANALYTICS_FILTER");
        let read_files = self.boolean("FACTLINE_ANALYTICS_READ_FILES");
        if !enabled.value {
            return Ok(Analytics { enabled, sink: None, families, filter, read_files });
        }
        let sink = match first {
            Some(said) if said.name == URL => {
                if let Some(file) = second {
                    self.warn(&file.place, format!("ignored, because {} is set too", said.place));
                }
                Some(Setting {
                    value: AnalyticsSink::Backend(Box::new(self.backend(&said)?)),
                    origin: said.text.origin,
                })
            }
            Some(Said { text, .. }) => {
                Some(Setting { value: AnalyticsSink::File(PathBuf::from(text.value)), origin: text.origin })
            }
            None => {
                let place = self.place(SWITCH);
                self.warn(&place, format!("no events are made, because neither {URL} nor {FILE} is set"));
                enabled.value = false;
                None
            }
        };
        Ok(Analytics { enabled, sink, families, filter, read_files })
    }

    /// Names that are on; with `-` in front of the first, all but those.
    fn families(&mut self) -> Setting<Families> {
        const NAME: &str = "FACTLINE_ANALYTICS_FAMILIES";
        let Some(Kind::Names(known)) = kind_of(NAME) else { return Setting::default_of(Families::All) };
        let read = |text: &str| {
            let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
            let without = names.iter().filter(|name| name.starts_with('-')).count();
            if without != 0 && without != names.len() {
                return Err("names with and without \"-\" do not go together".to_owned());
            }
            let plain: Vec<&'static str> = names
                .iter()
                .map(|name| {
                    let name = name.trim_start_matches('-');
                    let found = known.iter().find(|known| known.eq_ignore_ascii_case(name)).copied();
                    found
                        .ok_or_else(|| format!("\"{}\" is none of {}", name.escape_debug(), known.join(", ")))
                })
                .collect::<Result<_, _>>()?;
            Ok(if without == 0 { Families::Only(plain) } else { Families::Without(plain) })
        };
        self.first(&[NAME.to_owned()], read, Families::All)
    }

    fn switch(&mut self, unset: Setting<bool>) -> Setting<bool> {
        let Some(text) = self.text(SWITCH) else { return unset };
        match text.value.trim().to_ascii_lowercase().as_str() {
            "on" | "true" => Setting { value: true, origin: text.origin },
            "off" | "false" => Setting { value: false, origin: text.origin },
            // Somebody wanted to say something about privacy and was not understood: the careful reading.
            other => {
                let message = format!("\"{}\" is neither on nor off; taken as off", other.escape_debug());
                self.warn(SWITCH, message);
                Setting { value: false, origin: text.origin }
            }
        }
    }

    fn backend(&mut self, url: &Said) -> Result<Backend, ConfigError> {
        let wrong = |variable: &str, problem: String, example: &str| ConfigError {
            variable: variable.to_owned(),
            problem,
            example: example.to_owned(),
        };
        let base = Endpoint::parse(url.text.value.trim())
            .map_err(|problem| wrong(&url.place, problem, "http://127.0.0.1:8321"))?;
        self.risks(&Setting { value: base.clone(), origin: url.text.origin.clone() });
        let path = self.text("FACTLINE_ANALYTICS_PATH");
        let path = path.as_ref().map_or(ANALYTICS_PATH, |path| path.value.trim().trim_matches('/'));
        let form = match self.text(FORM) {
            None => BodyForm::Events,
            Some(text) => {
                body_form(text.value.trim()).map_err(|problem| wrong(&self.place(FORM), problem, "events"))?
            }
        };
        Ok(Backend {
            url: base.below(path),
            account_id: self.text("FACTLINE_ANALYTICS_ACCOUNT_ID").map(|id| Secret::new(id.value.trim())),
            token: self.token()?,
            headers: self.headers(&["FACTLINE_ANALYTICS_HEADERS".to_owned()]).value,
            form,
            timeout: self.first(&["FACTLINE_ANALYTICS_TIMEOUT".to_owned()], timeout, TIMEOUT).value,
        })
    }

    /// The first of the three; others beside it are a mistake worth telling.
    fn token(&mut self) -> Result<Option<Token>, ConfigError> {
        let names = [TOKEN, TOKEN_FILE, TOKEN_COMMAND].map(str::to_owned);
        let mut said = self.said(&names).into_iter();
        let Some(first) = said.next() else { return Ok(None) };
        for Said { name, place, .. } in said {
            // The same in the file is overridden, which is no mistake.
            if name != first.name {
                self.warn(&place, "ignored, because the token was given in another way too");
            }
        }
        let text = first.text.value;
        Ok(Some(match first.name.as_str() {
            TOKEN => Token::Value(Secret::new(text.trim())),
            TOKEN_FILE => Token::File(PathBuf::from(text)),
            _ => Token::Command(command(&first.place, &text)?),
        }))
    }
}

fn body_form(text: &str) -> Result<BodyForm, String> {
    match text.to_ascii_lowercase().as_str() {
        "events" => Ok(BodyForm::Events),
        "array" => Ok(BodyForm::Array),
        "lines" => Ok(BodyForm::Lines),
        other => Err(format!("unknown form \"{}\", known are events, array and lines", other.escape_debug())),
    }
}
