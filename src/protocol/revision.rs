//! The MCP revisions of the `initialize` era, in order.

use std::fmt;

/// An MCP revision that opens with `initialize`. Ordered by date, so `min` picks the older.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Revision {
    /// `2024-11-05`: HTTP+SSE; over Streamable HTTP it is met when a worker speaks nothing newer.
    V2024_11_05,
    /// `2025-03-26`: Streamable HTTP, JSON-RPC batches.
    V2025_03_26,
    /// `2025-06-18`: batches removed, `MCP-Protocol-Version` header, elicitation, structured output.
    V2025_06_18,
    /// `2025-11-25`: tasks, URL elicitation, icons.
    V2025_11_25,
}

impl Revision {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [
        Self::V2024_11_05,
        Self::V2025_03_26,
        Self::V2025_06_18,
        Self::V2025_11_25,
    ];
    /// The revision that is offered to a worker, and to a client that asks for an unknown one.
    pub const LATEST: Self = Self::V2025_11_25;
    /// What a request without `MCP-Protocol-Version` is taken for when nothing else tells
    /// (2025-06-18, basic/transports, "Protocol Version Header").
    pub const WITHOUT_HEADER: Self = Self::V2025_03_26;

    /// The revision of that date, if it is one of this era.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }

    /// The revision's date, as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
        }
    }

    /// What a client that asked for `asked` is answered when its worker speaks `worker`: the
    /// older of the two, and the worker's own where the asked one is unknown (basic/lifecycle,
    /// "Version Negotiation": the server answers with another version it supports).
    pub fn negotiate(asked: &str, worker: Self) -> Self {
        Self::parse(asked).map_or(worker, |asked| asked.min(worker))
    }

    /// Whether clients of the revision take an event with an id and no data, with which streams begin since 2025-11-25
    /// (basic/transports, "Sending Messages to the Server"). Clients of older revisions try to read it as a message.
    pub const fn has_first_events(self) -> bool {
        matches!(self, Self::V2025_11_25)
    }

    /// Only 2025-03-26 has JSON-RPC batches over Streamable HTTP (removed in 2025-06-18).
    pub const fn has_batches(self) -> bool {
        matches!(self, Self::V2024_11_05 | Self::V2025_03_26)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_of_two_known_revisions_is_agreed() {
        use Revision::*;
        assert_eq!(Revision::negotiate("2025-06-18", V2025_11_25), V2025_06_18);
        assert_eq!(Revision::negotiate("2025-11-25", V2024_11_05), V2024_11_05);
        // rmcp 3.11 asks for a modern revision in `initialize`.
        assert_eq!(Revision::negotiate("2026-07-28", V2025_11_25), V2025_11_25);
        assert_eq!(Revision::negotiate("garbage", V2025_06_18), V2025_06_18);
    }

    #[test]
    fn order_is_by_date() {
        assert!(Revision::ALL.is_sorted());
        assert!(Revision::ALL.map(Revision::as_str).is_sorted());
    }
}
