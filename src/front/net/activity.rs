//! What one connection is at, and whether its time is over.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::framing::{Ambiguous, Fault};
use super::streams::Progress;
use crate::fair::Flow;
use crate::held::Ledger;
use crate::ids::TenantId;

/// Longest that a client may take for the head of a request.
const MAX_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A peer that takes fewer bytes than this within `write_timeout` takes nothing: control frames are as large.
const LEAST_TAKEN: u64 = 1024;
/// How long a connection that has to make room may take to end in good order.
const LINGER: Duration = Duration::from_secs(1);

/// How long a connection may take for what. Each connection keeps those with which it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::front) struct Timeouts {
    /// Without a request under way.
    pub(in crate::front) idle: Duration,
    /// Without taking anything of what is written to it.
    pub(in crate::front) write: Duration,
}

impl Timeouts {
    /// For the head of a request, from its first byte on; for the first, from the beginning of the connection on.
    pub(super) fn head(&self) -> Duration {
        self.idle.min(MAX_HEAD_TIMEOUT)
    }

    /// How often a connection looks whether its time is over; so much later it may end at most.
    pub(super) fn look_period(&self) -> Duration {
        let shortest = self.idle.min(self.write);
        (shortest / 4).clamp(Duration::from_millis(20), Duration::from_secs(10))
    }
}

/// What is to become of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It stays.
    Stay,
    /// It ends once what is under way is answered, and says so as HTTP allows.
    Finish,
    /// It ends now.
    Close(&'static str),
}

/// What others want of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(super) enum Wish {
    /// Nothing.
    None = 0,
    /// The listener ends: finish.
    Finish = 1,
    /// Its place is needed.
    Leave = 2,
    /// It holds more than there is room for: the end.
    Close = 3,
}

/// What one connection is at. Times are milliseconds since it began, plus one; 0 is never.
#[derive(Debug)]
pub(in crate::front) struct Activity {
    began: Instant,
    /// Requests under way: whose answers hyper has not been handed whole.
    under_way: AtomicU32,
    /// Requests that were begun.
    served: AtomicU64,
    /// When the last request ended.
    quiet_since: AtomicU64,
    /// When the head that is not complete began.
    head_since: AtomicU64,
    /// Since when the socket takes nothing.
    blocked_since: AtomicU64,
    /// Bytes that the socket took.
    written: AtomicU64,
    /// The request that can be read in two ways.
    ambiguous: OnceLock<Ambiguous>,
    /// Bodies that are not read on for a while.
    held_up: AtomicU32,
    /// Bytes that are held for it, of callers that are not known.
    held: AtomicU64,
    /// Since when some are.
    held_since: AtomicU64,
    /// A caller with valid credentials has used it.
    known: AtomicBool,
    /// Whose work its requests are.
    party: Mutex<Party>,
    wish: AtomicU8,
    task: AtomicWaker,
    /// The answer over HTTP/2 that was begun last, until its task has it.
    begun: Mutex<Option<Arc<Progress>>>,
}

/// A body that is not read on.
#[derive(Debug)]
pub(in crate::front) struct HoldsUp<'a>(&'a Activity);

impl Drop for HoldsUp<'_> {
    fn drop(&mut self) {
        self.0.held_up.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whose work the requests of a connection are.
#[derive(Debug)]
struct Party {
    flow: Flow,
    /// The tenant that has used it; none or several share no flow with one.
    tenant: Option<TenantId>,
    is_of_many: bool,
}

impl Activity {
    /// Of a new connection, whose work is of that flow until it is known whose it is.
    pub(super) fn new(strangers: Flow) -> Self {
        Self {
            began: Instant::now(),
            under_way: AtomicU32::new(0),
            served: AtomicU64::new(0),
            quiet_since: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            written: AtomicU64::new(0),
            ambiguous: OnceLock::new(),
            held_up: AtomicU32::new(0),
            held: AtomicU64::new(0),
            held_since: AtomicU64::new(0),
            known: AtomicBool::new(false),
            party: Mutex::new(Party {
                flow: strangers,
                tenant: None,
                is_of_many: false,
            }),
            wish: AtomicU8::new(Wish::None as u8),
            task: AtomicWaker::new(),
            begun: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        let passed = self.began.elapsed().as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX - 1) + 1
    }

    /// A request begins; its number, from 1.
    pub(super) fn request_begins(&self) -> u64 {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.served.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Its answer is out of our hands.
    pub(super) fn request_ended(&self) {
        self.quiet_since.store(self.now(), Ordering::Relaxed);
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether no request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
    }

    /// Since when no request ended or began to be waited for.
    pub(super) fn quiet_since(&self) -> Instant {
        let since = self.quiet_since.load(Ordering::Relaxed);
        self.began + Duration::from_millis(since.saturating_sub(1))
    }

    /// Whether a head is being read.
    pub(super) fn is_within_head(&self, is_within: bool) {
        let since = self.head_since.load(Ordering::Relaxed);
        if is_within && since == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        } else if !is_within && since != 0 {
            self.head_since.store(0, Ordering::Relaxed);
        }
    }

    /// A request can be read in two ways.
    pub(super) fn found_ambiguous(&self, found: Ambiguous) {
        // Nothing is followed after the first, so that it is found again at most.
        let _first = self.ambiguous.set(found);
    }

    /// Why the request of that number can be read in two ways; so can all that come after the first such.
    pub(super) fn fault(&self, number: u64) -> Option<Fault> {
        let found = self.ambiguous.get()?;
        (found.head <= number).then_some(found.fault)
    }

    /// Why the request that came last can be read in two ways; over HTTP/1 it is the only one under way.
    pub(super) fn last_fault(&self) -> Option<Fault> {
        self.fault(self.served.load(Ordering::Relaxed))
    }

    /// A body is not read on, until the guard is dropped.
    pub(in crate::front) fn holds_up(&self) -> HoldsUp<'_> {
        self.held_up.fetch_add(1, Ordering::Relaxed);
        HoldsUp(self)
    }

    /// Whether a body is not read on.
    pub(super) fn is_held_up(&self) -> bool {
        self.held_up.load(Ordering::Relaxed) > 0
    }

    /// The socket took so many bytes; whether it took none before.
    pub(super) fn wrote(&self, bytes: usize) -> bool {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        self.goes_on()
    }

    /// The socket takes something, or has taken all there was; whether it did not before.
    pub(super) fn goes_on(&self) -> bool {
        let was_blocked = self.blocked_since.load(Ordering::Relaxed) != 0;
        if was_blocked {
            self.blocked_since.store(0, Ordering::Relaxed);
        }
        was_blocked
    }

    /// Ready once the socket takes what is written to it. Its connection's task is woken then, which must be the one
    /// that polls this.
    pub(in crate::front) fn poll_writable(&self) -> Poll<()> {
        match self.blocked_since.load(Ordering::Relaxed) {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// The socket takes nothing at the moment.
    pub(super) fn is_blocked(&self) {
        if self.blocked_since.load(Ordering::Relaxed) == 0 {
            self.blocked_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// An answer over HTTP/2 begins, whose task comes next.
    pub(super) fn answer_begins(&self, progress: Arc<Progress>) {
        *self.begun.lock() = Some(progress);
    }

    /// The answer that begins.
    pub(super) fn take_begun(&self) -> Option<Arc<Progress>> {
        self.begun.lock().take()
    }

    /// Whether a caller with valid credentials has used it.
    pub(in crate::front) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// A caller with valid credentials uses it.
    pub(super) fn becomes_known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    /// Whose work its requests are.
    pub(in crate::front) fn flow(&self) -> Flow {
        self.party.lock().flow.clone()
    }

    /// A caller of that tenant uses it. What several tenants use, as something in front of stdiopool does, is worked on
    /// apart from each of them.
    pub(in crate::front) fn works_for(&self, tenant: &TenantId, ledger: &Ledger) {
        let mut party = self.party.lock();
        if party.is_of_many || party.tenant.as_ref() == Some(tenant) {
            return;
        }
        if party.tenant.is_some() {
            party.is_of_many = true;
            party.flow = ledger.scheduler().flow();
        } else {
            party.tenant = Some(tenant.clone());
            party.flow = ledger.account(tenant).flow().clone();
        }
    }

    /// So many bytes are held for it, of callers that are not known.
    pub(super) fn holds(&self, bytes: u64) {
        if self.held.fetch_add(bytes, Ordering::Relaxed) == 0 {
            self.held_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// So many of those are held no longer.
    pub(super) fn holds_no_longer(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What is held for it, of callers that are not known, in bytes, and since when something is.
    pub(super) fn held(&self) -> (u64, Instant) {
        let since = self.held_since.load(Ordering::Relaxed);
        let since = self.began + Duration::from_millis(since.saturating_sub(1));
        (self.held.load(Ordering::Relaxed), since)
    }

    /// Requests under way.
    pub(super) fn under_way(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Asks the connection to end.
    pub(super) fn wish(&self, wish: Wish) {
        // Seen by a first poll after this; an earlier one has left its waker.
        self.wish.fetch_max(wish as u8, Ordering::AcqRel);
        self.task.wake();
    }

    /// Whether it was asked to end to make room.
    pub(super) fn is_leaving(&self) -> bool {
        self.wish.load(Ordering::Acquire) >= Wish::Leave as u8
    }

    /// Whether it is to end at once, whatever is under way.
    pub(in crate::front) fn is_closing(&self) -> bool {
        self.wished() == Wish::Close
    }

    pub(super) fn wished(&self) -> Wish {
        match self.wish.load(Ordering::Acquire) {
            0 => Wish::None,
            1 => Wish::Finish,
            2 => Wish::Leave,
            _ => Wish::Close,
        }
    }

    /// Ends when it is asked to leave.
    ///
    /// # Cancel-Safety
    /// A dropped call loses nothing.
    pub(in crate::front) async fn leaves(&self) {
        std::future::poll_fn(|cx| {
            self.task.register(cx.waker());
            match self.is_leaving() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// The task that is to be woken when something is wished.
    pub(super) fn register(&self, task: &std::task::Waker) {
        self.task.register(task);
    }
}

/// Looks at a connection from time to time, and says what is to become of it.
#[derive(Debug)]
pub(super) struct Judge {
    timeouts: Timeouts,
    /// Since when it is finishing, and the bytes written then or when it last took enough.
    finishing: Option<(u64, u64)>,
}

impl Judge {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            finishing: None,
        }
    }

    /// What is to become of it at that time.
    pub(super) fn verdict(&mut self, activity: &Activity, now: u64) -> Verdict {
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let has_lasted = |since: u64, limit: Duration| {
            since != 0 && u128::from(now.saturating_sub(since)) >= limit.as_millis()
        };
        let is_idle = activity.is_idle();
        if has_lasted(get(&activity.blocked_since), self.timeouts.write) {
            return Verdict::Close("the peer takes nothing of what is written to it");
        }
        if has_lasted(get(&activity.head_since), self.timeouts.head()) {
            return Verdict::Close("the head of a request took too long");
        }
        if get(&activity.served) == 0 && has_lasted(1, self.timeouts.head()) {
            return Verdict::Close("no request came in time");
        }
        let wish = activity.wished();
        if wish == Wish::Close {
            return Verdict::Close("it held more than there is room for");
        }
        if wish == Wish::Leave && get(&activity.served) == 0 {
            return Verdict::Close("its place was needed");
        }
        if let Some((since, written)) = self.finishing {
            let taken = get(&activity.written).saturating_sub(written);
            let patience = match wish {
                Wish::Leave | Wish::Close => LINGER,
                Wish::None | Wish::Finish => self.timeouts.write,
            };
            let is_over = has_lasted(since, patience) && (is_idle || wish == Wish::Leave);
            if is_over && (taken < LEAST_TAKEN || wish == Wish::Leave) {
                return Verdict::Close("it was to end, and did not");
            }
            if taken >= LEAST_TAKEN {
                self.finishing = Some((now, get(&activity.written)));
            }
            return Verdict::Finish;
        }
        let is_over = is_idle && has_lasted(get(&activity.quiet_since), self.timeouts.idle);
        if is_over || wish != Wish::None {
            self.finishing = Some((now, get(&activity.written)));
            return Verdict::Finish;
        }
        Verdict::Stay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fair::Scheduler;

    fn fresh() -> Activity {
        Activity::new(Scheduler::default().flow())
    }

    const TIMEOUTS: Timeouts = Timeouts {
        idle: Duration::from_secs(80),
        write: Duration::from_secs(20),
    };

    /// What is found each second up to `end`, until it is closed.
    fn seen(activity: &Activity, at: impl Fn(u64)) -> Vec<(u64, Verdict)> {
        let mut judge = Judge::new(TIMEOUTS);
        let mut seen = vec![];
        for second in 0..300 {
            at(second);
            let verdict = judge.verdict(activity, second * 1000 + 1);
            let last = seen.last().map_or(Verdict::Stay, |(_, last)| *last);
            if verdict != last {
                seen.push((second, verdict));
            }
            if matches!(verdict, Verdict::Close(_)) {
                break;
            }
        }
        seen
    }

    fn set(value: &AtomicU64, second: u64) {
        value.store(second * 1000 + 1, Ordering::Relaxed);
    }

    #[test]
    fn a_connection_without_a_request_is_closed() {
        let seen = seen(&fresh(), |_| {});
        assert!(matches!(seen[..], [(30, Verdict::Close(_))]), "{seen:?}");
    }

    #[test]
    fn a_request_may_take_as_long_as_it_likes() {
        let activity = fresh();
        activity.request_begins();
        assert_eq!(seen(&activity, |_| {}), []);
    }

    #[test]
    fn an_idle_connection_finishes_and_is_closed_if_it_does_not() {
        let activity = fresh();
        activity.request_begins();
        let seen = seen(&activity, |second| {
            if second == 10 {
                activity.request_ended();
                set(&activity.quiet_since, 10);
            }
        });
        assert!(
            matches!(seen[..], [(90, Verdict::Finish), (110, Verdict::Close(_))]),
            "{seen:?}"
        );
    }

    #[test]
    fn who_still_takes_what_is_written_may_finish() {
        let activity = fresh();
        activity.request_begins();
        activity.request_ended();
        set(&activity.quiet_since, 0);
        let seen = seen(&activity, |second| {
            if second < 200 {
                activity.wrote(2 * usize::try_from(LEAST_TAKEN).expect("fits"));
            }
        });
        assert!(
            matches!(seen[..], [(80, Verdict::Finish), (219, Verdict::Close(_))]),
            "{seen:?}"
        );
    }

    #[test]
    fn who_takes_nothing_or_sends_half_a_head_is_closed() {
        let activity = fresh();
        activity.request_begins();
        set(&activity.blocked_since, 50);
        let blocked = seen(&activity, |_| {});
        assert!(
            matches!(blocked[..], [(70, Verdict::Close(_))]),
            "{blocked:?}"
        );
        activity.wrote(1);
        set(&activity.head_since, 100);
        let half = seen(&activity, |_| {});
        assert!(matches!(half[..], [(130, Verdict::Close(_))]), "{half:?}");
    }

    #[test]
    fn who_has_to_make_room_goes_soon() {
        let unused = fresh();
        unused.wish(Wish::Leave);
        assert!(matches!(
            seen(&unused, |_| {})[..],
            [(0, Verdict::Close(_))]
        ));
        let used = fresh();
        used.request_begins();
        used.wish(Wish::Leave);
        let seen = seen(&used, |_| {
            used.wrote(1 << 20);
        });
        assert!(
            matches!(seen[..], [(0, Verdict::Finish), (1, Verdict::Close(_))])
                || matches!(seen[..], [(0, Verdict::Finish), (2, Verdict::Close(_))]),
            "{seen:?}"
        );
    }

    #[test]
    fn work_is_of_the_tenant_that_asks_and_of_nobody_where_several_do() {
        let ledger = Ledger::unlimited();
        let activity = Activity::new(ledger.scheduler().flow());
        let is = |other: &Flow| format!("{:?}", activity.flow()) == format!("{other:?}");
        let (one, other) = (TenantId::new("one"), TenantId::new("other"));
        for _ in 0..2 {
            activity.works_for(&one, &ledger);
            assert!(is(ledger.account(&one).flow()));
        }
        for tenant in [&other, &one, &other] {
            activity.works_for(tenant, &ledger);
            assert!(!is(ledger.account(&one).flow()) && !is(ledger.account(&other).flow()));
        }
    }
}
