//! The `FACTLINE_ANALYTICS*` variables.

use std::path::PathBuf;

use super::env::{Env, TIMEOUT, command, timeout};
use super::{
    ANALYTICS_PATH, Analytics, AnalyticsSink, Backend, BodyForm, ConfigError, Endpoint, Origin, Secret,
    Setting, Token,
};

const SWITCH: &str = "FACTLINE_ANALYTICS";
const URL: &str = "FACTLINE_ANALYTICS_URL";
const FILE: &str = "FACTLINE_ANALYTICS_FILE";
const TOKEN: &str = "FACTLINE_ANALYTICS_TOKEN";
const TOKEN_FILE: &str = "FACTLINE_ANALYTICS_TOKEN_FILE";
const TOKEN_COMMAND: &str = "FACTLINE_ANALYTICS_TOKEN_COMMAND";
const FORM: &str = "FACTLINE_ANALYTICS_FORM";

impl<F: Fn(&str) -> Option<String>> Env<F> {
    pub(super) fn analytics(&mut self) -> Result<Analytics, ConfigError> {
        let (url, file) = (self.text(URL), self.text(FILE));
        let named = url.as_ref().or(file.as_ref()).map(|text| text.origin.clone());
        let unset = Setting { value: named.is_some(), origin: named.unwrap_or(Origin::Default) };
        let mut enabled = self.switch(unset);
        if !enabled.value {
            return Ok(Analytics { enabled, sink: None });
        }
        let sink = match (url, file) {
            (Some(url), file) => {
                if file.is_some() {
                    self.warn(FILE, format!("ignored, because {URL} is set too"));
                }
                let backend = Box::new(self.backend(&url)?);
                Some(Setting { value: AnalyticsSink::Backend(backend), origin: url.origin })
            }
            (None, Some(file)) => {
                Some(Setting { value: AnalyticsSink::File(PathBuf::from(file.value)), origin: file.origin })
            }
            (None, None) => {
                self.warn(SWITCH, format!("no events are made, because neither {URL} nor {FILE} is set"));
                enabled.value = false;
                None
            }
        };
        Ok(Analytics { enabled, sink })
    }

    fn switch(&mut self, unset: Setting<bool>) -> Setting<bool> {
        let Some(text) = self.text(SWITCH) else { return unset };
        match text.value.trim().to_ascii_lowercase().as_str() {
            "on" | "true" => Setting { value: true, origin: text.origin },
            "off" | "false" => Setting { value: false, origin: text.origin },
            // Somebody wanted to say something about privacy and was not understood: the careful reading.
            other => {
                self.warn(
                    SWITCH,
                    format!("\"{}\" is neither on nor off; taken as off", other.escape_debug()),
                );
                Setting { value: false, origin: text.origin }
            }
        }
    }

    fn backend(&mut self, url: &Setting<String>) -> Result<Backend, ConfigError> {
        let wrong = |variable: &str, problem: String, example: &str| ConfigError {
            variable: variable.to_owned(),
            problem,
            example: example.to_owned(),
        };
        let base = Endpoint::parse(url.value.trim())
            .map_err(|problem| wrong(URL, problem, "http://127.0.0.1:8321"))?;
        self.risks(&Setting { value: base.clone(), origin: url.origin.clone() });
        let path = self.text("FACTLINE_ANALYTICS_PATH");
        let path = path.as_ref().map_or(ANALYTICS_PATH, |path| path.value.trim().trim_matches('/'));
        let form = match self.text(FORM) {
            None => BodyForm::Events,
            Some(text) => body_form(text.value.trim()).map_err(|problem| wrong(FORM, problem, "events"))?,
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
        let mut found = None;
        for name in [TOKEN, TOKEN_FILE, TOKEN_COMMAND] {
            let Some(text) = self.text(name) else { continue };
            if found.is_some() {
                self.warn(name, "ignored, because the token was given in another way too");
                continue;
            }
            found = Some(match name {
                TOKEN => Token::Value(Secret::new(text.value.trim())),
                TOKEN_FILE => Token::File(PathBuf::from(text.value)),
                _ => Token::Command(command(name, &text.value)?),
            });
        }
        Ok(found)
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
