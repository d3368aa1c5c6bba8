//! What bytes are held for.

/// The purpose that bytes are held for: the label `kind` of `stdiopool_held_bytes`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Bodies of requests, while they are read and worked on.
    Body,
    /// Sessions: what their clients said of themselves, and what they set.
    Session,
    /// URIs that sessions subscribe to.
    Subscription,
    /// Notifications and requests of workers that wait for a client.
    Message,
    /// Answers that wait for a client.
    Answer,
    /// Events that are kept for a client that may resume its stream.
    Replay,
    /// What is kept for callers without sessions.
    Caller,
    /// Calls that wait for their client's next request.
    Suspended,
    /// Introductions of servers and their lists.
    Catalog,
    /// Start plans that sessions remember.
    Route,
    /// Configs that callers have stored.
    StoredConfig,
    /// Where tenants and users stand that have limits of what they may ask.
    RateLimit,
    /// Messages on their way to a worker.
    Stdin,
    /// Changes that wait for the store.
    Store,
    /// Lines that wait for the audit log.
    Audit,
    /// Heads of requests, and requests over HTTP/2 beside each other.
    Connection,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Body,
        Self::Session,
        Self::Subscription,
        Self::Message,
        Self::Answer,
        Self::Replay,
        Self::Caller,
        Self::Suspended,
        Self::Catalog,
        Self::Route,
        Self::StoredConfig,
        Self::RateLimit,
        Self::Stdin,
        Self::Store,
        Self::Audit,
        Self::Connection,
    ];

    /// As it stands in metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Session => "session",
            Self::Subscription => "subscription",
            Self::Message => "message",
            Self::Answer => "answer",
            Self::Replay => "replay",
            Self::Caller => "caller",
            Self::Suspended => "suspended",
            Self::Catalog => "catalog",
            Self::Route => "route",
            Self::StoredConfig => "stored_config",
            Self::RateLimit => "rate_limit",
            Self::Stdin => "stdin",
            Self::Store => "store",
            Self::Audit => "audit",
            Self::Connection => "connection",
        }
    }

    /// Whether bytes of the kind may be dropped without failing anyone. Such kinds have half of a tenant's limit, so that a flood of them
    /// leaves room for what cannot be dropped.
    pub fn is_expendable(self) -> bool {
        match self {
            Self::Message | Self::Replay => true,
            Self::Body
            | Self::Session
            | Self::Subscription
            | Self::Answer
            | Self::Caller
            | Self::Suspended
            | Self::Catalog
            | Self::Route
            | Self::StoredConfig
            | Self::RateLimit
            | Self::Stdin
            | Self::Store
            | Self::Audit
            | Self::Connection => false,
        }
    }

    /// What of a limit, in bytes, is there for this kind.
    pub(super) fn part_of(self, limit: u64) -> u64 {
        if self.is_expendable() {
            limit / 2
        } else {
            limit
        }
    }

    pub(super) fn number(self) -> usize {
        self as usize
    }
}
