//! Sessions across a restart of stdiopool: what is written down, and how one is taken up again.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::id::SessionId;
use super::record::{Session, SessionIdentity, SessionKind};
use crate::bridge::{ClientInfo, Level, SessionNo};
use crate::held::{Account, Kind as MemoryKind};
use crate::ids::{ServerName, TenantId};
use crate::protocol::Revision;
use crate::store::{IdHash, SessionRow, SessionSettings};
use crate::tenancy::{ClientConfig, Principal};

/// Under which what a client set for its server stands beside how it introduced itself.
const CONFIG: &str = "config";

#[derive(Deserialize)]
struct StoredClient {
    config: Option<Map<String, Value>>,
}

/// What is written down of a session.
pub(crate) fn row_of(session: &Session) -> SessionRow {
    let (level, subscriptions) = session.settings();
    let client = &session.client;
    SessionRow {
        id: IdHash::of(session.id.as_str()),
        tenant: session.tenant().to_string(),
        subject: session.principal.subject.clone(),
        server: session.server.to_string(),
        revision: session.revision().to_string(),
        client: json!({
            "protocolVersion": client.protocol_version,
            "capabilities": client.capabilities,
            "clientInfo": client.client_info,
            CONFIG: session.config.as_ref().map(|config| config.plain()),
        })
        .to_string(),
        level: level.map(|level| level.as_str().to_owned()),
        subscriptions,
        created: session.created,
        last_used: SystemTime::now(),
    }
}

impl SessionSettings for Session {
    fn settings(&self) -> (Option<String>, Vec<String>) {
        let (level, subscriptions) = Self::settings(self);
        (level.map(|level| level.as_str().to_owned()), subscriptions)
    }
}

/// Whether what was written down is this caller's session with this server.
pub(crate) fn is_theirs(row: &SessionRow, principal: &Principal, server: &ServerName) -> bool {
    let owner = Principal::new(TenantId::new(row.tenant.clone()), row.subject.clone());
    owner.is_same_as(principal) && row.server == server.as_str()
}

/// The session that was written down, as it was. `None` if it cannot be read any more.
pub(crate) fn revive(
    row: &SessionRow,
    no: SessionNo,
    id: SessionId,
    principal: Principal,
    server: ServerName,
    account: Account,
) -> Option<Session> {
    let client = ClientInfo::read(&row.client).ok()?;
    let kept: StoredClient = serde_json::from_str(&row.client).ok()?;
    let config = kept
        .config
        .map(|values| Arc::new(ClientConfig::of_plain(&server, values)));
    let revision = Revision::parse(&row.revision)?;
    let charge = account.charge_anyway(MemoryKind::Session, Session::weight(&principal, &client));
    let kind = SessionKind::of_client(&server);
    let identity = SessionIdentity {
        no,
        id,
        principal,
        server,
        client,
    };
    let session = Session::new(kind, identity, charge);
    let mut session = session.with_restored_config(config);
    session.created = row.created;
    session.agree(revision);
    if let Some(level) = row.level.as_deref().and_then(Level::parse) {
        session.set_level(level);
    }
    for uri in &row.subscriptions {
        session.add_subscription(uri.clone());
    }
    Some(session)
}

/// Whether nobody has used the session for that long, by the clock on the wall: no other goes on while
/// stdiopool does not run.
pub(crate) fn is_forgotten(row: &SessionRow, timeout: Duration) -> bool {
    SystemTime::now()
        .duration_since(row.last_used)
        .is_ok_and(|idle| idle >= timeout)
}

/// When sessions were last used, of those that were within `period`.
pub(crate) fn recent_uses(
    sessions: &[Arc<Session>],
    period: Duration,
) -> Vec<(IdHash, SystemTime)> {
    let (now, wall) = (Instant::now(), SystemTime::now());
    sessions
        .iter()
        .map(|session| (session, session.idle_for(now).unwrap_or_default()))
        .filter(|(_, idle)| *idle <= period)
        .filter_map(|(session, idle)| {
            Some((IdHash::of(session.id.as_str()), wall.checked_sub(idle)?))
        })
        .collect()
}
