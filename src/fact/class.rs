//! Data classes: what a field may reveal, and what the user allowed.

use serde::{Deserialize, Serialize};

/// What a field may reveal. Every field of the vocabulary has one, or it does not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// An identifier made by the agent, without meaning outside it.
    Id,
    /// Names, counts, times, states: what an operator needs.
    Operational,
    /// Where it ran: paths, host names, repository. Off unless its kind is captured.
    Environment(Kind),
    /// What was said and done: prompts, commands, arguments, output. Off unless its kind is captured.
    Content(Kind),
    /// Never leaves the struct: not emitted, not serialised, not printed.
    Secret,
}

/// The kinds of content and environment that can be switched on one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    /// What the user asked.
    Prompts,
    /// What the agent said, error texts included.
    Messages,
    /// Arguments of tools, command lines, queries.
    Arguments,
    /// Output of tools and commands, diffs.
    Output,
    /// Paths of files and directories.
    Paths,
    /// Repository address, branch and revision.
    Repository,
}

impl Kind {
    /// Every kind, in the order of documentation.
    pub const ALL: [Kind; 6] =
        [Kind::Prompts, Kind::Messages, Kind::Arguments, Kind::Output, Kind::Paths, Kind::Repository];
}

/// The kinds the user switched on. The default is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capture(u16);

impl Capture {
    /// Nothing but identifiers and operational fields.
    pub const NONE: Capture = Capture(0);

    /// Everything but secrets.
    pub fn all() -> Capture {
        Kind::ALL.into_iter().fold(Capture::NONE, Capture::with)
    }

    /// The same with `kind` switched on.
    #[must_use]
    pub const fn with(self, kind: Kind) -> Capture {
        Capture(self.0 | 1 << kind as u16)
    }

    /// Whether a field of `class` may leave.
    #[inline]
    pub const fn allows(self, class: Class) -> bool {
        match class {
            Class::Id | Class::Operational => true,
            Class::Environment(kind) | Class::Content(kind) => self.0 & (1 << kind as u16) != 0,
            Class::Secret => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_private_is_allowed_by_default_and_secrets_never() {
        for kind in Kind::ALL {
            assert!(!Capture::default().allows(Class::Content(kind)));
            assert!(!Capture::default().allows(Class::Environment(kind)));
            assert!(Capture::NONE.with(kind).allows(Class::Content(kind)));
            assert!(Capture::all().allows(Class::Environment(kind)));
        }
        assert!(!Capture::NONE.with(Kind::Paths).allows(Class::Content(Kind::Output)));
        assert!(!Capture::all().allows(Class::Secret));
        assert!(Capture::NONE.allows(Class::Id) && Capture::NONE.allows(Class::Operational));
    }
}
