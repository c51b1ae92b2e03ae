//! What was looked at, and what came of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::terminal::{self, Look};

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Verdict::Ok => "32",
            Verdict::Warn => "33",
            Verdict::Fail => "31;1",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Check {
    pub step: &'static str,
    pub verdict: Verdict,
    /// What was seen.
    pub said: String,
    /// What to do about it.
    pub advice: String,
    pub took: Option<Duration>,
}

impl Check {
    pub fn ok(step: &'static str, said: impl Into<String>) -> Self {
        Check { step, verdict: Verdict::Ok, said: said.into(), advice: String::new(), took: None }
    }

    pub fn warn(step: &'static str, said: impl Into<String>, advice: impl Into<String>) -> Self {
        Check { step, verdict: Verdict::Warn, said: said.into(), advice: advice.into(), took: None }
    }

    pub fn fail(step: &'static str, said: impl Into<String>, advice: impl Into<String>) -> Self {
        Check { step, verdict: Verdict::Fail, said: said.into(), advice: advice.into(), took: None }
    }
}

/// Checks as they come in: shown at once, or kept for the end.
pub(super) struct Report {
    json: bool,
    look: Look,
    about: String,
    shown_about: bool,
    checks: Vec<Value>,
    worst: [u64; 3],
}

impl Report {
    pub fn new(json: bool) -> Self {
        let look = Look::of_stdout();
        Report { json, look, about: String::new(), shown_about: false, checks: Vec::new(), worst: [0; 3] }
    }

    /// What the next checks are about.
    pub fn about(&mut self, about: impl Into<String>) {
        let about = about.into();
        self.shown_about &= self.about == about;
        self.about = about;
    }

    /// Says what is being done, in a terminal, until it is done.
    pub fn doing(&self, step: &str) {
        if !self.json {
            terminal::doing(&format!("{}: {step}", self.about));
        }
    }

    pub fn add(&mut self, check: Check) {
        terminal::done();
        if let Some(count) = self.worst.get_mut(check.verdict as usize) {
            *count += 1;
        }
        if self.json {
            self.checks.push(json!({
                "about": self.about, "step": check.step, "verdict": check.verdict.name(), "said": check.said,
                "advice": (!check.advice.is_empty()).then_some(&check.advice),
                "ms": check.took.map(|took| took.as_millis() as u64),
            }));
            return;
        }
        let mut out = String::new();
        if !self.shown_about {
            self.shown_about = true;
            out.push_str(&format!("\n{}\n", self.look.paint("1", &terminal::printable(&self.about))));
        }
        let verdict = self.look.paint(check.verdict.colour(), &format!("{:<4}", check.verdict.name()));
        let took = check.took.map_or(String::new(), |took| format!(" ({} ms)", took.as_millis()));
        out.push_str(&format!(
            "  {verdict}  {:<12} {}{took}\n",
            check.step,
            terminal::printable(&check.said)
        ));
        if !check.advice.is_empty() {
            out.push_str(&format!("        {:<12} -> {}\n", "", terminal::printable(&check.advice)));
        }
        terminal::print(&out);
    }

    /// Adds the outcome of a step that took a while.
    pub fn timed(&mut self, since: std::time::Instant, mut check: Check) {
        check.took = Some(since.elapsed());
        self.add(check);
    }

    pub fn text(&self, text: &str) {
        if !self.json {
            terminal::print(text);
        }
    }

    /// Whether nothing failed. Shows the whole where it was kept, with `more` beside it.
    pub fn end(self, more: Value) -> bool {
        let [ok, warn, fail] = self.worst;
        if self.json {
            let mut all = json!({"ok": fail == 0, "checks": self.checks});
            if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
                all.extend(more);
            }
            terminal::print(&format!("{all}\n"));
        } else {
            terminal::print(&format!("\n{ok} ok, {warn} to look at, {fail} failed\n"));
        }
        fail == 0
    }
}
