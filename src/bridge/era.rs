//! The two kinds of servers. What messages mean in each: [`stateless`](super::stateless); which methods each has:
//! [`Method`](crate::protocol::Method).

/// How a process is spoken to: for its whole life, for what it is told first decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Era {
    /// The conversation begins with `initialize`: revisions up to 2025-11-25.
    #[default]
    Legacy,
    /// Each request says everything: 2026-07-28.
    Modern,
}

impl Era {
    /// The one that is tried where this is refused.
    pub const fn other(self) -> Self {
        match self {
            Self::Legacy => Self::Modern,
            Self::Modern => Self::Legacy,
        }
    }

    /// The method that a process is asked first.
    pub const fn first_question(self) -> &'static str {
        match self {
            Self::Legacy => "initialize",
            Self::Modern => "server/discover",
        }
    }

    /// Whether a refusal in this era says more of a program than one in `other`: nearly every server speaks the legacy one.
    pub const fn says_more_than(self, other: Self) -> bool {
        matches!((self, other), (Self::Legacy, Self::Modern))
    }
}
