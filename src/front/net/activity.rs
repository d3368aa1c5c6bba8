//! What one connection is at, and whether its time is over.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::clock::Clock;
use super::framing::{Ambiguous, FramingError};
use super::progress::Progress;
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

/// The verdict on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The connection stays.
    Stay,
    /// The connection ends once what is under way is answered, and says so as HTTP allows.
    Finish,
    /// The connection ends now, for that reason.
    Close(&'static str),
}

/// A request to close a connection, from the mildest on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(super) enum CloseRequest {
    /// Nothing.
    None = 0,
    /// The listener ends: finish.
    Finish = 1,
    /// The connection's slot is needed.
    Leave = 2,
    /// The connection holds more than there is room for: the end.
    Close = 3,
}

/// The activity of one connection. Times are those of its [`Clock`]; 0 is never.
#[derive(Debug)]
pub(in crate::front) struct Activity {
    clock: Clock,
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
    /// The peer's progress is to be noted at the next look.
    look_due: AtomicBool,
    /// Bytes in the socket that the peer had not taken at the last look, and those that the socket had taken by then.
    left: [AtomicU64; 2],
    /// Since when the peer takes nothing of what is in the socket, by the looks; 0 also where there is nothing.
    left_since: AtomicU64,
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
    /// The party that the connection's requests are of.
    party: Mutex<Party>,
    close_request: AtomicU8,
    task: AtomicWaker,
    /// The answer over HTTP/2 that was begun last, until its task has it.
    begun: Mutex<Option<Arc<Progress>>>,
}

/// A body that is not read on.
#[derive(Debug)]
pub(in crate::front) struct ReadPause<'a>(&'a Activity);

impl Drop for ReadPause<'_> {
    fn drop(&mut self) {
        self.0.held_up.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The party that the requests of a connection are of.
#[derive(Debug)]
struct Party {
    flow: Flow,
    /// The tenant that has used it; none or several share no flow with one.
    tenant: Option<TenantId>,
    is_of_many: bool,
}

impl Activity {
    /// The activity of a new connection, whose work is of that flow until it is known whose it is.
    pub(super) fn new(strangers: Flow) -> Self {
        Self {
            clock: Clock::start(),
            under_way: AtomicU32::new(0),
            served: AtomicU64::new(0),
            quiet_since: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            written: AtomicU64::new(0),
            look_due: AtomicBool::new(false),
            left: Default::default(),
            left_since: AtomicU64::new(0),
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
            close_request: AtomicU8::new(CloseRequest::None as u8),
            task: AtomicWaker::new(),
            begun: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// By which its times are told.
    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// A request begins; its number, from 1.
    pub(super) fn request_begins(&self) -> u64 {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.served.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A request ends: its answer is out of our hands.
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
        self.clock.instant(since)
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
    pub(super) fn framing_error(&self, number: u64) -> Option<FramingError> {
        let found = self.ambiguous.get()?;
        (found.head <= number).then_some(found.error)
    }

    /// Why the request that came last can be read in two ways; over HTTP/1 it is the only one under way.
    pub(super) fn last_framing_error(&self) -> Option<FramingError> {
        self.framing_error(self.served.load(Ordering::Relaxed))
    }

    /// A body is not read on, until the guard is dropped.
    pub(in crate::front) fn holds_up(&self) -> ReadPause<'_> {
        self.held_up.fetch_add(1, Ordering::Relaxed);
        ReadPause(self)
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

    /// Ready once the socket takes what is written to it. The connection's task is woken then, and must be the one
    /// that polls.
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

    /// From now on the connection is to look how far the peer is.
    pub(super) fn look_is_due(&self) {
        self.look_due.store(true, Ordering::Relaxed);
    }

    /// Whether a look is due and nobody has looked yet.
    pub(super) fn is_look_due(&self) -> bool {
        self.look_due.load(Ordering::Relaxed)
    }

    /// So many bytes are in the socket that the peer has not taken. A peer with little room takes them long before the socket
    /// takes more.
    pub(super) fn has_left(&self, untaken: u64) {
        self.look_due.store(false, Ordering::Relaxed);
        let now = [untaken, self.written.load(Ordering::Relaxed)];
        let mut has_moved = false;
        for (at_last, now) in self.left.iter().zip(now) {
            has_moved |= at_last.swap(now, Ordering::Relaxed) != now;
        }
        if untaken == 0 {
            self.left_since.store(0, Ordering::Relaxed);
        } else if has_moved || self.left_since.load(Ordering::Relaxed) == 0 {
            self.left_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Since when the peer takes nothing of what is written to it; 0: it takes something, or there is nothing. Where it could not
    /// be looked for, the socket alone says so.
    fn takes_nothing_since(&self) -> u64 {
        let left = match self.is_look_due() {
            true => 0,
            false => self.left_since.load(Ordering::Relaxed),
        };
        match self.blocked_since.load(Ordering::Relaxed) {
            0 => left,
            blocked => blocked.max(left),
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

    /// The flow of the party that the connection's requests are of.
    pub(in crate::front) fn flow(&self) -> Flow {
        self.party.lock().flow.clone()
    }

    /// A caller of that tenant uses it. A connection that several tenants use, as of a proxy in front of stdiopool, is worked on
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

    /// Bytes that are held for the connection of callers that are not known, and since when something is.
    pub(super) fn held(&self) -> (u64, Instant) {
        let since = self.held_since.load(Ordering::Relaxed);
        let since = self.clock.instant(since);
        (self.held.load(Ordering::Relaxed), since)
    }

    /// Requests under way.
    pub(super) fn under_way(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Asks the connection to end.
    pub(super) fn close_request(&self, close_request: CloseRequest) {
        // Seen by a first poll after this; an earlier one has left its waker.
        self.close_request
            .fetch_max(close_request as u8, Ordering::AcqRel);
        self.task.wake();
    }

    /// Whether the connection was asked to end to make room.
    pub(super) fn is_leaving(&self) -> bool {
        self.close_request.load(Ordering::Acquire) >= CloseRequest::Leave as u8
    }

    /// Whether the connection is to end at once, whatever is under way.
    pub(in crate::front) fn is_closing(&self) -> bool {
        self.close_requested() == CloseRequest::Close
    }

    pub(super) fn close_requested(&self) -> CloseRequest {
        match self.close_request.load(Ordering::Acquire) {
            0 => CloseRequest::None,
            1 => CloseRequest::Finish,
            2 => CloseRequest::Leave,
            _ => CloseRequest::Close,
        }
    }

    /// Waits until the connection is asked to leave.
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

    /// The task that is to be woken when the connection is asked to close.
    pub(super) fn register(&self, task: &std::task::Waker) {
        self.task.register(task);
    }
}

/// Looks at a connection from time to time, and says what is to become of it.
#[derive(Debug)]
pub(super) struct LifetimeMonitor {
    timeouts: Timeouts,
    /// Since when the connection is finishing, and the bytes written then or when it last took enough.
    finishing: Option<(u64, u64)>,
}

impl LifetimeMonitor {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            finishing: None,
        }
    }

    /// The verdict on the connection at that time.
    pub(super) fn verdict(&mut self, activity: &Activity, now: u64) -> Verdict {
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let has_lasted = |since: u64, limit: Duration| {
            since != 0 && u128::from(now.saturating_sub(since)) >= limit.as_millis()
        };
        let is_idle = activity.is_idle();
        if has_lasted(activity.takes_nothing_since(), self.timeouts.write) {
            return Verdict::Close("the peer takes nothing of what is written to it");
        }
        if has_lasted(get(&activity.head_since), self.timeouts.head()) {
            return Verdict::Close("the head of a request took too long");
        }
        if get(&activity.served) == 0 && has_lasted(1, self.timeouts.head()) {
            return Verdict::Close("no request came in time");
        }
        let close_request = activity.close_requested();
        if close_request == CloseRequest::Close {
            return Verdict::Close("it held more than there is room for");
        }
        if close_request == CloseRequest::Leave && get(&activity.served) == 0 {
            return Verdict::Close("its slot was needed");
        }
        if let Some((since, written)) = self.finishing {
            let taken = get(&activity.written).saturating_sub(written);
            let limit = match close_request {
                CloseRequest::Leave | CloseRequest::Close => LINGER,
                CloseRequest::None | CloseRequest::Finish => self.timeouts.write,
            };
            let is_over =
                has_lasted(since, limit) && (is_idle || close_request == CloseRequest::Leave);
            if is_over && (taken < LEAST_TAKEN || close_request == CloseRequest::Leave) {
                return Verdict::Close("it was to end, and did not");
            }
            if taken >= LEAST_TAKEN {
                self.finishing = Some((now, get(&activity.written)));
            }
            return Verdict::Finish;
        }
        let is_over = is_idle && has_lasted(get(&activity.quiet_since), self.timeouts.idle);
        if is_over || close_request != CloseRequest::None {
            self.finishing = Some((now, get(&activity.written)));
            return Verdict::Finish;
        }
        Verdict::Stay
    }
}

#[cfg(test)]
mod tests;
