//! How much each tenant and each user may ask: a bucket of requests each, and counts of what is not answered yet.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::bucket::Bucket;
use crate::config::{Config, Rates};
use crate::counted::counted;
use crate::front::response::body::Body;
use crate::held::{Bounds, Charge, Full, Kind, Ledger, TableFull, TenantTable, charged};
use crate::ids::TenantId;
use crate::protocol::{Failure, Reason};
use crate::tenancy::Principal;

/// Tenants and users that are remembered. One that has all of its limit again may be forgotten, which changes
/// nothing; where none has, a new one is refused.
const KNOWN: Bounds = Bounds {
    of_tenant: 20_000,
    of_all: 200_000,
};
/// How soon those are looked for again, of all tenants, that may be forgotten.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// When to come again if too much is under way: nobody knows when it ends.
const RETRY_BUSY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Default, Debug)]
struct Usage {
    bucket: Bucket,
    under_way: u32,
    /// Event streams that are open.
    streams: u32,
}

/// The thing that a permit counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::front) enum Counted {
    /// A request, until it is answered.
    Request,
    /// An event stream, as long as it is open.
    Stream,
    /// An event stream that answers a request, which was counted as that.
    Listening,
}

impl Usage {
    fn count(&mut self, counted: Counted) -> &mut u32 {
        match counted {
            Counted::Request => &mut self.under_way,
            Counted::Stream | Counted::Listening => &mut self.streams,
        }
    }

    /// Whether the entry differs from one that was never seen.
    fn is_in_use(&self, now: Duration) -> bool {
        self.under_way > 0 || self.streams > 0 || !self.bucket.is_full(now)
    }
}

/// What is remembered of a tenant or user takes beside the name, in bytes.
const ENTRY_BYTES: usize = 256;

/// Where someone stands, and what that takes.
#[derive(Debug)]
struct Entry {
    usage: Usage,
    _charge: Charge,
}

/// A tenant, or a user of it.
type Who = (TenantId, Option<Arc<str>>);

/// The rates of tenants and users.
#[derive(Debug)]
pub struct RateLimits {
    began: Instant,
    known: Mutex<UsageTable>,
    ledger: Ledger,
}

/// Why someone cannot be remembered, and so not be let in.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum NoRoom {
    #[error("too many tenants or users are limited at once: {0}")]
    TableFull(#[from] TableFull),
    #[error(transparent)]
    Full(#[from] Full),
}

impl From<NoRoom> for Failure {
    fn from(why: NoRoom) -> Self {
        match why {
            NoRoom::TableFull(_) => {
                Self::new(Reason::TenantLimit, why.to_string()).retry_after(RETRY_BUSY)
            }
            NoRoom::Full(full) => full.into(),
        }
    }
}

#[derive(Debug)]
struct UsageTable {
    /// By user; `None` for the tenant itself.
    table: TenantTable<Option<Arc<str>>, Entry>,
    /// When those of all tenants that may be forgotten are looked for.
    look_at: Duration,
}

impl UsageTable {
    fn new(bounds: Bounds) -> Self {
        Self {
            table: TenantTable::new(bounds),
            look_at: Duration::ZERO,
        }
    }

    /// A request of theirs is not under way any more, or a stream not open.
    fn ended(&mut self, (tenant, user): &Who, counted: Counted) {
        if let Some(entry) = self.table.get(tenant, user) {
            let count = entry.usage.count(counted);
            *count = count.saturating_sub(1);
        }
    }

    /// Notes what someone has under way.
    fn note(
        &mut self,
        now: Duration,
        (tenant, user): &Who,
        usage: Usage,
        ledger: &Ledger,
    ) -> Result<(), NoRoom> {
        if let Some(entry) = self.table.get(tenant, user) {
            entry.usage = usage;
            return Ok(());
        }
        let is_in_use = |entry: &Entry| entry.usage.is_in_use(now);
        let bytes = ENTRY_BYTES + user.as_ref().map_or(0, |user| user.len());
        let account = ledger.account(tenant);
        let forget = || self.table.take_oldest(tenant, is_in_use).is_some();
        let charge = charged(&account, Kind::RateLimit, bytes, forget)?;
        if self.table.is_full() && now >= self.look_at {
            self.look_at = now + LOOK_AGAIN;
            let _forgotten = self.table.take_where(|entry| !is_in_use(entry));
        }
        let entry = Entry {
            usage,
            _charge: charge,
        };
        let _gone = self.table.insert(tenant, user.clone(), entry, is_in_use)?;
        Ok(())
    }
}

impl RateLimits {
    /// Nobody is known yet; what is remembered is charged there.
    pub fn new(ledger: Ledger) -> Self {
        Self {
            began: Instant::now(),
            known: Mutex::new(UsageTable::new(KNOWN)),
            ledger,
        }
    }

    /// Lets a request of that caller begin; it is under way until the permit is dropped.
    ///
    /// # Errors
    /// [`Reason::TenantLimit`], with the key of the limit and when to come again.
    pub(in crate::front) fn admit(
        self: &Arc<Self>,
        config: &Config,
        principal: &Principal,
        counted: Counted,
    ) -> Result<Permit, Failure> {
        let tenant = &principal.tenant;
        let of_tenant = config.tenants.get(tenant).and_then(|tenant| tenant.rates);
        let of_tenant = of_tenant.unwrap_or(config.rates.tenant);
        let of_user = config.rates.user;
        let mut limited = Vec::new();
        if of_tenant != Rates::default() {
            limited.push(((tenant.clone(), None), of_tenant));
        }
        if of_user != Rates::default() {
            limited.extend(
                principal
                    .user()
                    .map(|user| ((tenant.clone(), Some(user)), of_user)),
            );
        }
        if !limited.is_empty() {
            self.take(self.began.elapsed(), &limited, counted)?;
        }
        Ok(Permit {
            limits: Arc::clone(self),
            counted,
            holders: limited.into_iter().map(|(who, _)| who).collect(),
        })
    }

    /// Takes one of each, or none of any.
    fn take(
        &self,
        now: Duration,
        limited: &[(Who, Rates)],
        counted: Counted,
    ) -> Result<(), Failure> {
        let mut known = self.known.lock();
        let mut after = Vec::with_capacity(limited.len());
        for (who, rates) in limited {
            let entry = known.table.peek(&who.0, &who.1);
            let mut usage = entry.map_or_else(Usage::default, |entry| entry.usage);
            let (key, limit, noun, state) = match counted {
                Counted::Request => ("concurrent", rates.concurrent, "request", "under way"),
                Counted::Stream | Counted::Listening => {
                    ("streams", rates.open_streams(), "event stream", "open")
                }
            };
            let count = usage.count(counted);
            if limit != 0 && *count >= limit {
                let verb = if limit == 1 { "is" } else { "are" };
                let limit = format!("{} {verb} {state}", so_many(limit, noun));
                return Err(refused(who, key, &limit, RETRY_BUSY));
            }
            *count += 1;
            if counted != Counted::Listening
                && let Err(wait) = usage.bucket.take(now, *rates)
            {
                let rate = rates.requests_per_minute;
                return Err(refused(
                    who,
                    "requests_per_minute",
                    &(so_many(rate, "request") + " a minute"),
                    wait,
                ));
            }
            after.push((who, usage));
        }
        for (at, (who, usage)) in after.iter().enumerate() {
            if let Err(why) = known.note(now, who, *usage, &self.ledger) {
                for (who, _) in &after[..at] {
                    known.ended(who, counted);
                }
                return Err(why.into());
            }
        }
        Ok(())
    }
}

fn so_many(n: u32, noun: &str) -> String {
    counted(usize::try_from(n).unwrap_or(usize::MAX), noun)
}

fn refused((tenant, user): &Who, key: &str, limit: &str, wait: Duration) -> Failure {
    let why = match user {
        None => format!(
            "the limit of tenant `{tenant}` is reached: {limit} (raise `{key}` in `limits.tenant` or in the tenant's `limits`)"
        ),
        Some(_) => format!("this user's limit is reached: {limit} (raise `limits.user.{key}`)"),
    };
    Failure::new(Reason::TenantLimit, why).retry_after(wait)
}

/// A request under way.
pub(in crate::front) struct Permit {
    limits: Arc<RateLimits>,
    counted: Counted,
    holders: Vec<Who>,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

impl Permit {
    /// As [`Permit::kept_by`], in place of the one of the request that is answered so: that one ends here.
    pub(in crate::front) fn kept_instead_by(self, response: Response<Body>) -> Response<Body> {
        let mut response = self.kept_by(response);
        response.extensions_mut().insert(CountedAlready);
        response
    }

    /// Keeps the permit until the last byte of the answer is sent or the client is gone.
    pub(in crate::front) fn kept_by(self, mut response: Response<Body>) -> Response<Body> {
        let is_counted = response.extensions_mut().remove::<CountedAlready>();
        if self.holders.is_empty() || is_counted.is_some() {
            return response;
        }
        response.map(|body| {
            Body::new(PermittedBody {
                body,
                _permit: self,
            })
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.holders.is_empty() {
            return;
        }
        let mut known = self.limits.known.lock();
        for who in &self.holders {
            known.ended(who, self.counted);
        }
    }
}

/// Marks an answer that keeps a permit already.
#[derive(Clone, Copy)]
struct CountedAlready;

/// A body that holds a permit.
struct PermittedBody {
    body: Body,
    _permit: Permit,
}

impl HttpBody for PermittedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(requests_per_minute: u32, burst: u32, concurrent: u32) -> Rates {
        Rates {
            requests_per_minute,
            burst,
            concurrent,
            streams: 0,
        }
    }

    #[test]
    fn what_is_under_way_is_counted_and_given_back() {
        let limits = Arc::new(RateLimits::new(Ledger::unlimited()));
        let (acme, globex) = (TenantId::new("acme"), TenantId::new("globex"));
        let permit = |who: &Who, rates| {
            limits.take(Duration::ZERO, &[(who.clone(), rates)], Counted::Request)?;
            let holders = vec![who.clone()];
            let limits = Arc::clone(&limits);
            let counted = Counted::Request;
            Ok::<_, Failure>(Permit {
                limits,
                counted,
                holders,
            })
        };
        let who = (acme, None);
        let first = permit(&who, rates(0, 0, 1)).expect("one");
        let refused = permit(&who, rates(0, 0, 1)).expect_err("no second");
        assert_eq!(refused.reason, Reason::TenantLimit);
        assert!(
            refused.message.contains(": 1 request is under way ("),
            "{}",
            refused.message
        );
        assert!(refused.message.contains("`concurrent`") && refused.retry_after.is_some());
        permit(&(globex, None), rates(0, 0, 1)).expect("another tenant");
        drop(first);
        permit(&who, rates(0, 0, 1)).expect("again");
    }

    #[test]
    fn event_streams_are_counted_beside_requests() {
        let limits = RateLimits::new(Ledger::unlimited());
        let who: Who = (TenantId::new("acme"), None);
        let one = [(who.clone(), rates(0, 0, 1))];
        let take = |asked, of: &[(Who, Rates)]| limits.take(Duration::ZERO, of, asked);
        take(Counted::Stream, &one).expect("a stream");
        take(Counted::Request, &one).expect("and a request");
        let refused = take(Counted::Stream, &one).expect_err("no second");
        assert!(refused.message.contains("`streams`"), "{refused}");
        let more = Rates {
            streams: 2,
            ..rates(0, 0, 1)
        };
        take(Counted::Stream, &[(who, more)]).expect("its own limit");
    }

    #[test]
    fn a_refusal_by_the_second_takes_nothing_of_the_first() {
        let limits = RateLimits::new(Ledger::unlimited());
        let tenant = (TenantId::new("acme"), None);
        let user: Who = (TenantId::new("acme"), Some("anna".into()));
        let both = [(tenant.clone(), rates(60, 2, 0)), (user, rates(60, 1, 0))];
        assert!(limits.take(Duration::ZERO, &both, Counted::Request).is_ok());
        for _ in 0..9 {
            let refused = limits
                .take(Duration::ZERO, &both, Counted::Request)
                .expect_err("the user's");
            assert!(refused.message.contains("limits.user"), "{refused}");
        }
        assert!(
            limits
                .take(Duration::ZERO, &both[..1], Counted::Request)
                .is_ok()
        );
        let refused = limits.take(Duration::ZERO, &both[..1], Counted::Request);
        assert!(refused.expect_err("its own").message.contains("`acme`"));
    }

    fn limits_of(bounds: Bounds) -> Arc<RateLimits> {
        Arc::new(RateLimits {
            known: Mutex::new(UsageTable::new(bounds)),
            ..RateLimits::new(Ledger::unlimited())
        })
    }

    #[test]
    fn the_table_is_bounded() {
        let limits = limits_of(Bounds {
            of_tenant: 10,
            of_all: 100,
        });
        let rate = rates(60, 1, 0);
        for n in 0..100 {
            let who = (TenantId::new(n.to_string()), None);
            let taken = limits.take(Duration::ZERO, &[(who.clone(), rate)], Counted::Request);
            taken.expect("room");
            drop(Permit {
                limits: Arc::clone(&limits),
                counted: Counted::Request,
                holders: vec![who],
            });
        }
        let one_more = [((TenantId::new("more"), None), rate)];
        limits
            .take(Duration::ZERO, &one_more, Counted::Request)
            .expect_err("all have asked just now");
        // A second later each has its limit again.
        limits
            .take(Duration::from_secs(1), &one_more, Counted::Request)
            .expect("room");
        assert_eq!(limits.known.lock().table.len(), 1);
    }

    #[test]
    fn what_is_remembered_is_charged_to_its_tenant() {
        let ledger = Ledger::new(crate::held::HeldLimits {
            of_tenant: 10 << 10,
            of_all: u64::MAX,
        });
        let limits = Arc::new(RateLimits::new(ledger.clone()));
        let rate = rates(60, 1, 0);
        let take = |tenant: &str, n: usize, now: u64| {
            let name: Arc<str> = format!("{n:0>1024}").into();
            let who = [((TenantId::new(tenant), Some(name)), rate)];
            limits.take(Duration::from_secs(now), &who, Counted::Request)?;
            let [(who, _)] = who;
            drop(Permit {
                limits: Arc::clone(&limits),
                counted: Counted::Request,
                holders: vec![who],
            });
            Ok::<_, Failure>(())
        };
        let taken = (0..20).take_while(|n| take("long", *n, 0).is_ok()).count();
        assert_eq!(taken, 8, "of 1,280 bytes each");
        let refused = take("long", 20, 0).expect_err("all have asked just now");
        assert_eq!(refused.reason, Reason::TenantLimit);
        assert!(
            refused.message.contains("`limits.memory_held`"),
            "{refused}"
        );
        take("other", 0, 0).expect("its own room");
        // A second later each has its limit again, and is forgotten for the next.
        take("long", 20, 2).expect("room");
        assert!(ledger.held_of(Kind::RateLimit) < 12 << 10);
    }

    #[test]
    fn many_users_of_one_tenant_shut_no_other_out() {
        let limits = limits_of(Bounds {
            of_tenant: 10,
            of_all: 100,
        });
        let rate = rates(60, 1, 0);
        let user = |tenant: &str, n: usize| {
            let name: Arc<str> = n.to_string().into();
            [((TenantId::new(tenant), Some(name)), rate)]
        };
        for n in 0..10 {
            limits
                .take(Duration::ZERO, &user("crowded", n), Counted::Request)
                .expect("room");
        }
        for n in 10..1_000 {
            let refused = limits.take(Duration::ZERO, &user("crowded", n), Counted::Request);
            assert_eq!(refused.expect_err("full").reason, Reason::TenantLimit);
        }
        limits
            .take(Duration::ZERO, &user("other", 0), Counted::Request)
            .expect("its own room");
        let own = limits.take(Duration::ZERO, &user("other", 0), Counted::Request);
        assert!(
            own.expect_err("remembered")
                .message
                .contains("requests_per_minute")
        );
    }
}
