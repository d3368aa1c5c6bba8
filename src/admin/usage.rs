//! What tenants, users and servers have used, as the API tells it.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::store::Span;
use crate::usage::{Amounts, mib_hours};

/// The answer to a question for what was used.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct UsageReport {
    /// What was used until then survives a kill; in milliseconds since 1970. None before the first write, and where one command is hosted.
    pub saved_at_ms: Option<u64>,
    /// Whether these are all rows that were asked for; else the oldest are missing.
    pub is_whole: bool,
    /// The latest first.
    pub rows: Vec<UsageRow>,
}

/// What one user of one tenant has used of one server in one span of time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct UsageRow {
    /// When the span begins, in UTC.
    pub from: String,
    /// `hour`, `day`, `month` or `all`. Of hours, `day` where they were put together already.
    pub span: String,
    /// None: no tenant's, as of spares. `*`: tenants beyond a bound, counted together.
    pub tenant: Option<String>,
    /// The user, or the token's name where the credentials name no user. None: no user's alone. `*`: users beyond a bound.
    pub user: Option<String>,
    /// The server; `*` for what is asked of all at once.
    pub server: String,
    /// Requests of any method.
    pub requests: u64,
    /// Requests for tools, prompts, resources and completions.
    pub calls: u64,
    /// Requests that were answered with an error, the server's or stdiopool's.
    pub errors: u64,
    /// Processor time of workers.
    pub cpu_seconds: f64,
    /// Memory of workers that were awake.
    pub awake_mib_hours: f64,
    /// Memory of workers that were hibernated.
    pub asleep_mib_hours: f64,
    /// Bytes of bodies of requests.
    pub bytes_in: u64,
    /// Bytes of what servers answered.
    pub bytes_out: u64,
    /// Workers that were started.
    pub starts: u64,
    /// How long requests waited for a slot.
    pub queue_seconds: f64,
}

impl UsageRow {
    /// A span that begins at that time, in seconds since 1970, with its tenant, user and server, as the store has them.
    #[allow(
        clippy::cast_precision_loss,
        reason = "what is shown has few digits; sums are made of the whole numbers"
    )]
    pub fn new(from: u64, span: Span, names: [String; 3], amounts: Amounts) -> Self {
        let [tenant, user, server] = names;
        let some = |name: String| Some(name).filter(|name| !name.is_empty());
        let from = UNIX_EPOCH.checked_add(Duration::from_secs(from));
        let from = humantime::format_rfc3339_seconds(from.unwrap_or(UNIX_EPOCH));
        Self {
            from: from.to_string(),
            span: word(span).to_owned(),
            tenant: some(tenant),
            user: some(user),
            server,
            requests: amounts.requests,
            calls: amounts.calls,
            errors: amounts.errors,
            cpu_seconds: amounts.cpu_ms as f64 / 1e3,
            awake_mib_hours: mib_hours(amounts.awake_kib_ms),
            asleep_mib_hours: mib_hours(amounts.asleep_kib_ms),
            bytes_in: amounts.bytes_in,
            bytes_out: amounts.bytes_out,
            starts: amounts.starts,
            queue_seconds: amounts.queue_us as f64 / 1e6,
        }
    }
}

fn word(span: Span) -> &'static str {
    match span {
        Span::Hour => "hour",
        Span::Day => "day",
        Span::Month => "month",
        Span::All => "all",
    }
}

/// The span of that name; `None` if there is none.
pub(super) fn span(name: &str) -> Option<Span> {
    let all = [Span::Hour, Span::Day, Span::Month, Span::All];
    all.into_iter().find(|span| word(*span) == name)
}
