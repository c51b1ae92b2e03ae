//! Data classes: what a field may reveal, and what the user allowed.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Field;
use super::cut::cut;
#[cfg(feature = "content")]
use super::redact::Redaction;

/// What a field may reveal. Every field of the vocabulary has one, or it does not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// An identifier made by the agent, without meaning outside it.
    Id,
    /// Names, counts, times, states: what an operator needs.
    Operational,
    /// Where it ran and for whom: paths, repository, user. Off unless its kind is captured.
    Environment(Kind),
    /// What was said and done: prompts, commands, arguments, output. Off unless its kind is captured.
    Content(Kind),
    /// Never leaves the struct: not emitted, not serialised, not printed.
    Secret,
}

impl Class {
    /// Whether it is off unless somebody switches its kind on.
    pub const fn is_private(self) -> bool {
        matches!(self, Class::Environment(_) | Class::Content(_))
    }
}

/// The kinds of content and environment that can be switched on one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    /// What the user asked, and the instructions the agent was given.
    Prompts,
    /// What the agent said, error texts included.
    Messages,
    /// What the agent thought, as far as the server shows it.
    Reasoning,
    /// Arguments of tools, command lines, queries.
    Arguments,
    /// Output of tools and commands, diffs.
    Output,
    /// Paths of files and directories.
    Paths,
    /// Repository address, branch and revision.
    Repository,
    /// Who the user is: the address of the account.
    User,
}

impl Kind {
    /// Every kind, in the order of documentation.
    pub const ALL: [Kind; 8] = [
        Kind::Prompts,
        Kind::Messages,
        Kind::Reasoning,
        Kind::Arguments,
        Kind::Output,
        Kind::Paths,
        Kind::Repository,
        Kind::User,
    ];

    /// The word that settings and `codex.capture.mode` use.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Prompts => "prompts",
            Kind::Messages => "messages",
            Kind::Reasoning => "reasoning",
            Kind::Arguments => "arguments",
            Kind::Output => "output",
            Kind::Paths => "paths",
            Kind::Repository => "repository",
            Kind::User => "user",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The longest value that is let out, in bytes, unless somebody says otherwise: 16 KiB.
pub const VALUE_BYTES: u32 = 16 * 1024;

/// The kinds the user switched on, and what is done to their values before anybody sees them. The default is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capture {
    kinds: u16,
    points: u32,
    lasting: u32,
    #[cfg(feature = "content")]
    redaction: Option<&'static Redaction>,
}

impl Default for Capture {
    fn default() -> Self {
        Capture::NONE
    }
}

impl Capture {
    /// Nothing but identifiers and operational fields.
    pub const NONE: Capture = Capture {
        kinds: 0,
        points: VALUE_BYTES,
        lasting: VALUE_BYTES,
        #[cfg(feature = "content")]
        redaction: None,
    };

    /// Whether a field of `class` may leave.
    #[inline]
    pub const fn allows(self, class: Class) -> bool {
        match class {
            Class::Id | Class::Operational => true,
            Class::Environment(kind) | Class::Content(kind) => self.kinds & (1 << kind as u16) != 0,
            Class::Secret => false,
        }
    }

    /// Whether no kind is switched on.
    pub const fn is_none(self) -> bool {
        self.kinds == 0
    }

    /// The same with values of at most so many bytes: in facts that are points in time, and in what lasts.
    #[must_use]
    pub const fn with_limits(self, points: u32, lasting: u32) -> Capture {
        Capture { points, lasting, ..self }
    }

    /// A value of a fact that is a point in time, as it may leave.
    #[inline]
    pub(super) fn point<F: Field>(self, field: &F, class: Class) -> Cow<'_, F> {
        self.cleaned(field, class, self.points)
    }

    /// A value of what lasts, as it may leave.
    #[inline]
    pub(super) fn lasting<F: Field>(self, field: &F, class: Class) -> Cow<'_, F> {
        self.cleaned(field, class, self.lasting)
    }

    // Nothing is done to what may not leave: it will not.
    #[inline]
    fn cleaned<F: Field>(self, field: &F, class: Class, limit: u32) -> Cow<'_, F> {
        if !class.is_private() || !self.allows(class) {
            return Cow::Borrowed(field);
        }
        match field.changed(&|text| self.clean(text, limit as usize)) {
            Some(changed) => Cow::Owned(changed),
            None => Cow::Borrowed(field),
        }
    }

    // First the secrets, then the length: half a secret has no form by which it could be told.
    fn clean(self, text: &str, limit: usize) -> Option<String> {
        #[cfg(feature = "content")]
        let redacted = self.redaction.unwrap_or_else(Redaction::built_in).apply(text, limit);
        #[cfg(not(feature = "content"))]
        let redacted: Option<String> = None;
        match redacted {
            Some(text) => Some(cut(&text, limit).unwrap_or(text)),
            None => cut(text, limit),
        }
    }
}

/// Content needs the rules that take secrets out of it: the feature `content`.
#[cfg(feature = "content")]
impl Capture {
    /// Everything but secrets.
    pub fn all() -> Capture {
        Kind::ALL.into_iter().fold(Capture::NONE, Capture::with)
    }

    /// The same with `kind` switched on.
    #[must_use]
    pub const fn with(self, kind: Kind) -> Capture {
        Capture { kinds: self.kinds | 1 << kind as u16, ..self }
    }

    /// The same with other rules than the built-in ones; rules live as long as the process.
    #[must_use]
    pub const fn with_redaction(self, rules: &'static Redaction) -> Capture {
        Capture { redaction: Some(rules), ..self }
    }
}

/// What is on, in words: `none`, `all`, or the kinds with commas between them.
impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on: Vec<&str> =
            Kind::ALL.into_iter().filter(|kind| self.allows(Class::Content(*kind))).map(Kind::name).collect();
        match on.len() {
            0 => f.write_str("none"),
            all if all == Kind::ALL.len() => f.write_str("all"),
            _ => f.write_str(&on.join(",")),
        }
    }
}

#[cfg(all(test, feature = "content"))]
mod tests {
    use super::*;

    #[test]
    fn nothing_private_is_allowed_by_default_and_secrets_never() {
        for kind in Kind::ALL {
            assert!(!Capture::default().allows(Class::Content(kind)));
            assert!(!Capture::default().allows(Class::Environment(kind)));
            assert!(Capture::NONE.with(kind).allows(Class::Content(kind)));
            assert!(Capture::all().allows(Class::Environment(kind)));
            assert_eq!(Capture::NONE.with(kind).to_string(), kind.name());
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
        assert!(!Capture::NONE.with(Kind::Paths).allows(Class::Content(Kind::Output)));
        assert!(!Capture::all().allows(Class::Secret));
        assert!(Capture::NONE.allows(Class::Id) && Capture::NONE.allows(Class::Operational));
        assert_eq!((Capture::NONE.to_string(), Capture::all().to_string()), ("none".into(), "all".into()));
    }
}
