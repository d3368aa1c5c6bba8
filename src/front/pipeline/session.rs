//! The session that a request names.

use std::sync::Arc;

use super::head::Head;
use crate::front::state::Front;
use crate::ids::ServerName;
use crate::protocol::{Failure, Reason};
use crate::session::{Session, session_not_found};
use crate::telemetry::RequestSpan;
use crate::tenancy::Principal;

/// The session that the headers name, if it is the caller's.
///
/// # Errors
/// [`Reason::SessionRequired`] where they name none; [`session_not_found`].
pub(in crate::front) fn find(
    front: &Front,
    head: &Head<'_>,
    principal: &Principal,
    server: &ServerName,
) -> Result<Arc<Session>, Failure> {
    let presented = head.session.ok_or_else(|| {
        Failure::new(
            Reason::SessionRequired,
            "header `Mcp-Session-Id` is missing (send `initialize` first and repeat the header of its response)",
        )
    })?;
    let session = presented
        .to_str()
        .ok()
        .and_then(|text| front.sessions.find(text, principal, server))
        .ok_or_else(session_not_found)?;
    RequestSpan::with_current(|span| span.is_in(session.id.shared()));
    Ok(session)
}
