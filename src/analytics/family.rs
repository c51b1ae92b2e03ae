//! Families of events, to switch them on and off.

/// A family of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// Threads: begun, archived, compacted.
    Thread,
    /// Turns, and what steers them.
    Turn,
    /// Calls of tools.
    Tool,
    /// Approvals.
    Review,
    /// Goals.
    Goal,
    /// Use of skills, apps, plugins and hooks.
    Capability,
    /// Plugins installed, removed, switched on and off.
    Plugin,
    /// Lines that turns added and removed.
    Diff,
    /// Imports from other agents.
    Onboarding,
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 9] = [
        Family::Thread,
        Family::Turn,
        Family::Tool,
        Family::Review,
        Family::Goal,
        Family::Capability,
        Family::Plugin,
        Family::Diff,
        Family::Onboarding,
    ];

    /// Its name in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Family::Thread => "thread",
            Family::Turn => "turn",
            Family::Tool => "tool",
            Family::Review => "review",
            Family::Goal => "goal",
            Family::Capability => "capability",
            Family::Plugin => "plugin",
            Family::Diff => "diff",
            Family::Onboarding => "onboarding",
        }
    }

    /// The family of this name.
    pub fn from_name(name: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.as_str() == name)
    }
}

/// The families that are switched on. The default is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families(u16);

impl Default for Families {
    fn default() -> Self {
        Family::ALL.into_iter().fold(Families::NONE, Families::with)
    }
}

impl Families {
    /// No family.
    pub const NONE: Families = Families(0);

    /// The same with `family`.
    #[must_use]
    pub const fn with(self, family: Family) -> Families {
        Families(self.0 | 1 << family as u16)
    }

    /// The same without `family`.
    #[must_use]
    pub const fn without(self, family: Family) -> Families {
        Families(self.0 & !(1 << family as u16))
    }

    /// Whether `family` is switched on.
    pub const fn has(self, family: Family) -> bool {
        self.0 & (1 << family as u16) != 0
    }
}
