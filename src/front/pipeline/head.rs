//! The head of a request to an MCP endpoint: what is looked at more than once is read once, here.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Version};
use tokio::time::Instant;

use super::target::{PathNames, Target};
use super::trace_context;
use crate::front::net::peer::Peer;
use crate::front::response::late::Late;
use crate::front::response::reply::{SESSION_HEADER, VERSION_HEADER};
use crate::telemetry::RequestSpan;

/// The head of one request, and how it came.
#[derive(Debug)]
pub(in crate::front) struct Head<'a> {
    pub(in crate::front) parts: &'a Parts,
    /// The tenant that its path names.
    pub(in crate::front) tenant: Option<&'a str>,
    pub(in crate::front) target: Target<'a>,
    pub(in crate::front) peer: Option<&'a Peer>,
    /// Says that its answer is late.
    pub(in crate::front) late: &'a Late,
    pub(in crate::front) arrived: Instant,
    /// `Mcp-Session-Id`.
    pub(in crate::front) session: Option<&'a HeaderValue>,
    /// `MCP-Protocol-Version`. Where it is there twice, both say one thing: [`unambiguous`](crate::front::net::unambiguous).
    pub(in crate::front) version: Option<&'a HeaderValue>,
}

impl<'a> Head<'a> {
    /// The head of a request that has just come, for what its path names.
    pub(in crate::front) fn read(
        parts: &'a Parts,
        named: PathNames<'a>,
        peer: Option<&'a Peer>,
        late: &'a Late,
    ) -> Self {
        trace_context::note(&parts.headers);
        Self {
            parts,
            tenant: named.tenant,
            target: named.target,
            peer,
            late,
            arrived: RequestSpan::current_began().unwrap_or_else(Instant::now),
            session: parts.headers.get(&SESSION_HEADER),
            version: parts.headers.get(&VERSION_HEADER),
        }
    }

    pub(in crate::front) fn headers(&self) -> &'a HeaderMap {
        &self.parts.headers
    }

    /// The version of HTTP.
    pub(in crate::front) fn http_version(&self) -> Version {
        self.parts.version
    }

    /// `Last-Event-ID`.
    pub(in crate::front) fn last_event_id(&self) -> Option<&'a str> {
        let last = self.parts.headers.get("last-event-id")?;
        last.to_str().ok()
    }
}
