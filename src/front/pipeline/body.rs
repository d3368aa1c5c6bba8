//! Bodies of requests: read within bounds, charged to their tenant from the first byte on, and not for ever.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http::header::EXPECT;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::body_buffer::{BodyBuffer, Whole};
use super::discard::{DISCARD_TIMEOUT, DiscardBounds, MAX_DISCARDED, discard};
use super::pacing::{BodyLimits, Drained, Pacing};
use crate::front::net::STREAM_WINDOW;
use crate::held::{Account, Charge, Kind};
use crate::protocol::{Failure, IdScanner, Reason};

/// How long a body may bring nothing, and how long all of it may take beside what its pace allows for.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Slowest that a body may come on average after that, in bytes a second.
const SLOWEST: u64 = 4096;

/// What a client of too long a body is told, unless the limit is none of the operator's.
pub(in crate::front) const RAISE_MAX_BODY: &str = "raise `http.max_body`";

/// How long what still comes of a body is taken in that there is no room or no time for.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(1);

/// What of a body whose length is not said may have come and not been read, in bytes: over HTTP/1 a buffer of its
/// connection, over HTTP/2 the window of its stream.
const UNSAID: usize = STREAM_WINDOW as usize;

/// A body that was not taken.
#[derive(Debug)]
pub(in crate::front) struct Unread {
    /// The failure because of which the body was not taken.
    pub(in crate::front) failure: Failure,
    /// The id (raw JSON) of the request that it was, where all of it went by: whoever waits for its answer can be told.
    pub(in crate::front) id: Option<String>,
}

impl From<Failure> for Unread {
    fn from(failure: Failure) -> Self {
        Self { failure, id: None }
    }
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Self {
        unread.failure
    }
}

/// Reads a body within its limits. Room for all of it is taken when its length is known, else as it comes. Of one that
/// is not taken, what comes within bounds is passed over, and looked through for the id of its request.
///
/// # Errors
/// [`Reason::MessageTooLarge`]; [`Full`](crate::held::Full) as a failure; [`Reason::BodyTimeout`] when it does not come;
/// [`Reason::InvalidRequest`] when it breaks off, or can be read in two ways; [`Reason::Draining`] when it is not there
/// soon after a shutdown has begun.
///
/// # Cancel-Safety
/// A dropped call gives back what was charged; the rest of the body is not read.
pub(in crate::front) async fn read_body<B>(
    headers: &HeaderMap,
    body: B,
    limits: BodyLimits<'_>,
    account: &Account,
) -> Result<Whole, Unread>
where
    B: HttpBody<Data = Bytes, Error: fmt::Display> + Unpin,
{
    let reading = Reading::new(account, limits, headers.contains_key(EXPECT));
    reading.read(body, limits.max).await
}

/// The next piece of a body.
enum Next {
    Piece(Bytes),
    End,
    /// Nothing, because of a shutdown.
    Drained,
}

/// A body of which some is there.
struct Reading<'a> {
    began: Instant,
    held: BodyBuffer,
    /// For what of it may have come and was not read, where its length is not said.
    unread: Charge,
    /// Whoever asks first is told before it sends.
    asks_first: bool,
    pacing: Pacing<'a>,
    /// Bytes that are passed over come no faster than the rest.
    is_paced: bool,
}

impl<'a> Reading<'a> {
    fn new(account: &'a Account, limits: BodyLimits<'a>, asks_first: bool) -> Self {
        Self {
            began: Instant::now(),
            held: BodyBuffer::new(account),
            unread: account.nothing(Kind::Body),
            asks_first,
            pacing: Pacing::new(account, limits),
            is_paced: true,
        }
    }

    async fn read<B>(mut self, mut body: B, max: usize) -> Result<Whole, Unread>
    where
        B: HttpBody<Data = Bytes, Error: fmt::Display> + Unpin,
    {
        let limits = self.pacing.limits;
        let at_least = body.size_hint().lower();
        let Some(expected) = usize::try_from(at_least).ok().filter(|len| *len <= max) else {
            let failure = too_large(&at_least.to_string(), limits);
            let refusal = BodyRefusal::taking_in_for(DISCARD_TIMEOUT, failure);
            return self.refuse(body, Bytes::new(), refusal).await;
        };
        // Bytes that have come and were not read are held as well.
        let unsaid = match body.size_hint().exact() {
            None if !body.is_end_stream() => UNSAID.min(max),
            None | Some(_) => 0,
        };
        let charged = self.held.reserve(expected);
        if let Err(full) = charged.and_then(|()| self.unread.grow(unsaid)) {
            let refusal = BodyRefusal::taking_in_for(UNREAD_TIMEOUT, full.into());
            return self.refuse(body, Bytes::new(), refusal).await;
        }
        while !body.is_end_stream() {
            let data = match self.next(&mut body).await? {
                Next::Piece(data) => data,
                Next::End => break,
                Next::Drained => return self.refuse_drained(body, Bytes::new()).await,
            };
            if self.pacing.came(data.len()).await.is_err() {
                return self.refuse_drained(body, data).await;
            }
            if self.held.len() + data.len() > max {
                let failure = too_large(&format!("over {max}"), limits);
                let refusal = BodyRefusal::taking_in_for(DISCARD_TIMEOUT, failure);
                return self.refuse(body, data, refusal).await;
            }
            if let Err(full) = self.held.add(&data, expected) {
                let refusal = BodyRefusal::taking_in_for(UNREAD_TIMEOUT, full.into());
                return self.refuse(body, data, refusal).await;
            }
        }
        Ok(self.held.whole())
    }

    /// The next piece of it.
    async fn next<B>(&mut self, body: &mut B) -> Result<Next, Failure>
    where
        B: HttpBody<Data = Bytes, Error: fmt::Display> + Unpin,
    {
        loop {
            if let Err(Drained) = self.pacing.check_drain() {
                return Ok(Next::Drained);
            }
            let next = match body.frame().now_or_never() {
                // Nearly always: no timer is needed.
                Some(next) => next,
                // Boxed, because what every request has room for is to be small.
                None => match Box::pin(self.frame_in_time(body)).await? {
                    Ok(next) => next,
                    Err(Drained) => return Ok(Next::Drained),
                },
            };
            let Some(frame) = next else {
                return Ok(Next::End);
            };
            let frame = frame.map_err(|error| {
                // A body that hyper refuses is named as what it is.
                self.pacing.limits.failure().unwrap_or_else(|| {
                    let why = format!("the body ended early: {error}");
                    Failure::new(Reason::InvalidRequest, why)
                })
            })?;
            if let Ok(data) = Frame::into_data(frame) {
                return Ok(Next::Piece(data));
            }
        }
    }

    /// The next frame, unless it does not come in time, or a shutdown or a failure of the body comes before it.
    #[allow(clippy::type_complexity, reason = "a frame as hyper has it")]
    async fn frame_in_time<B>(
        &mut self,
        body: &mut B,
    ) -> Result<Result<Option<Result<Frame<Bytes>, B::Error>>, Drained>, Failure>
    where
        B: HttpBody<Data = Bytes, Error: fmt::Display> + Unpin,
    {
        let (deadline, limits) = (self.deadline(), self.pacing.limits);
        tokio::select! {
            biased;
            next = timeout_at(deadline, body.frame()) => match next {
                Ok(next) => Ok(Ok(next)),
                Err(_elapsed) => Err(self.too_slow()),
            },
            failure = limits.until_failure() => Err(failure),
            drained = self.pacing.drained() => Ok(Err(drained)),
        }
    }

    /// When the next piece must be there.
    fn deadline(&self) -> Instant {
        let allowed = Duration::from_secs(self.held.len() as u64 / SLOWEST);
        let of_all = self.began + BODY_TIMEOUT + allowed + self.pacing.waited;
        of_all.min(Instant::now() + BODY_TIMEOUT)
    }

    fn too_slow(&self) -> Failure {
        let why = format!(
            "the body does not come: {} bytes of it did in {} s (it may bring nothing for {} s, and {SLOWEST} bytes a second on average after that)",
            self.held.len(),
            self.began.elapsed().as_secs(),
            BODY_TIMEOUT.as_secs(),
        );
        Failure::new(Reason::BodyTimeout, why)
    }

    /// Says that it is too late for the body. Bytes that are still being sent are taken in as fast as they come: the process ends
    /// soon.
    async fn refuse_drained<B>(mut self, body: B, piece: Bytes) -> Result<Whole, Unread>
    where
        B: HttpBody<Data = Bytes, Error: fmt::Display> + Unpin,
    {
        self.is_paced = false;
        let refusal = BodyRefusal::taking_in_for(UNREAD_TIMEOUT, Failure::draining());
        self.refuse(body, piece, refusal).await
    }

    /// Takes in what is still being sent, within bounds, and says why it is not wanted: behind what is there already, and
    /// the piece that was one too many.
    async fn refuse<B>(self, body: B, piece: Bytes, refusal: BodyRefusal) -> Result<Whole, Unread>
    where
        B: HttpBody<Data = Bytes, Error: fmt::Display> + Unpin,
    {
        let Self {
            asks_first,
            mut pacing,
            is_paced,
            held,
            // Until what is there has passed by.
            unread: _unread,
            began: _,
        } = self;
        let mut scanner = IdScanner::new();
        for read in held.pieces().into_iter().chain([&piece[..]]) {
            scanner.feed(read);
        }
        drop((held, piece));
        let mut id = None;
        if !asks_first {
            let bounds = DiscardBounds {
                bytes: MAX_DISCARDED,
                time: refusal.taking_in_for,
            };
            let pass = |bytes: &[u8]| scanner.feed(bytes);
            let pacing = is_paced.then_some(&mut pacing);
            if Box::pin(discard(body, bounds, pacing, pass)).await {
                id = scanner.finish().request_id().map(ToOwned::to_owned);
            }
        }
        Err(Unread {
            failure: refusal.failure,
            id,
        })
    }
}

/// Why a body is not taken, and for how long what still comes of it is taken in.
struct BodyRefusal {
    failure: Failure,
    taking_in_for: Duration,
}

impl BodyRefusal {
    fn taking_in_for(time: Duration, failure: Failure) -> Self {
        Self {
            failure,
            taking_in_for: time,
        }
    }
}

/// A body of that many bytes is more than it may be.
fn too_large(size: &str, limits: BodyLimits<'_>) -> Failure {
    let BodyLimits { max, remedy, .. } = limits;
    let why = format!("the body is {size} bytes, more than {max} ({remedy})");
    Failure::new(Reason::MessageTooLarge, why)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::num::NonZeroU64;
    use std::sync::LazyLock;
    use std::time::Duration;

    use futures_util::stream::{self, StreamExt};
    use http_body_util::{Full as WholeBody, StreamBody};
    use tokio_util::sync::CancellationToken;

    use super::super::pacing::FREE;
    use super::*;
    use crate::held::{HeldLimits, Ledger};
    use crate::ids::TenantId;

    static NO_DRAIN: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

    /// Limits of at most so many bytes, however fast they come.
    fn up_to(max: usize) -> BodyLimits<'static> {
        BodyLimits {
            max,
            remedy: RAISE_MAX_BODY,
            rate: &|| NonZeroU64::MAX,
            connection: None,
            drain: &NO_DRAIN,
        }
    }

    const KB_20: usize = 20_000;

    fn account(limit: u64) -> Account {
        let limits = HeldLimits {
            of_tenant: limit,
            of_all: limit,
        };
        Ledger::new(limits).account(&TenantId::new("t"))
    }

    /// A body of pieces, each after that pause.
    fn slow(
        count: usize,
        len: usize,
        pause: Duration,
    ) -> impl HttpBody<Data = Bytes, Error = Infallible> + Unpin {
        let pieces = stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok(Frame::data(Bytes::from(vec![b'x'; len])))
        });
        StreamBody::new(Box::pin(pieces))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_charged_while_its_bytes_live() {
        let account = account(100_000);
        let headers = HeaderMap::new();
        let long = WholeBody::new(Bytes::from(vec![b'x'; 10_000]));
        let read = read_body(&headers, long, up_to(KB_20), &account)
            .await
            .expect("room");
        let (kept, charge) = (read.bytes.clone(), read.charge);
        drop(read.bytes);
        assert!(charge.is_none());
        assert_eq!((kept.len(), account.held()), (10_000, 10_000));
        drop(kept);
        assert_eq!(account.held(), 0);
        let short = WholeBody::new(Bytes::from_static(b"short"));
        let read = read_body(&headers, short, up_to(KB_20), &account)
            .await
            .expect("room");
        assert_eq!(account.held(), 5);
        drop(read);
        let pieces = slow(10, 1000, Duration::ZERO);
        let read = read_body(&headers, pieces, up_to(KB_20), &account)
            .await
            .expect("room");
        assert_eq!(read.bytes, vec![b'x'; 10_000]);
        assert!(account.held() >= 10_000);
        drop(read);
        assert_eq!(account.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_without_room_is_refused_before_it_is_read() {
        let account = account(15_000);
        let headers = HeaderMap::from_iter([(EXPECT, "100-continue".parse().expect("a value"))]);
        let body = || WholeBody::new(Bytes::from(vec![b'x'; 10_000]));
        let first = read_body(&headers, body(), up_to(KB_20), &account)
            .await
            .expect("room");
        let refused = read_body(&headers, body(), up_to(KB_20), &account).await;
        assert_eq!(
            refused.expect_err("full").failure.reason,
            Reason::TenantLimit
        );
        let pieces = slow(10, 1000, Duration::ZERO);
        let refused = read_body(&headers, pieces, up_to(KB_20), &account).await;
        assert_eq!(
            refused.expect_err("full").failure.reason,
            Reason::TenantLimit
        );
        assert_eq!(account.held(), 10_000);
        drop(first);
        assert_eq!(account.held(), 0);
    }

    #[tokio::test]
    async fn bodies_are_read_no_faster_than_their_tenant_may_send() {
        // Not paused time: what has been sent lasts by the clock of the processor's turns.
        let account = account(1 << 30);
        let headers = HeaderMap::new();
        let rate = NonZeroU64::new(1 << 20).expect("above zero");
        let limits = BodyLimits {
            rate: &|| NonZeroU64::new(1 << 20).unwrap_or(NonZeroU64::MIN),
            ..up_to(8 << 20)
        };
        let began = Instant::now();
        for _ in 0..100 {
            let short = WholeBody::new(Bytes::from(vec![b'x'; FREE]));
            let read = read_body(&headers, short, limits, &account).await;
            assert!(read.is_ok());
        }
        assert_eq!(account.pace(0, rate), Duration::ZERO, "not counted");
        let long = || slow(10, FREE, Duration::ZERO);
        let read = read_body(&headers, long(), limits, &account).await;
        assert_eq!(read.expect("room").bytes.len(), 10 * FREE);
        // 9 of 16 parts of what a second may bring, of which a quarter of a second's is free.
        assert!(began.elapsed() >= Duration::from_millis(562 - 250));
        // Refused bodies are no way around the pace.
        let limits = BodyLimits {
            max: FREE,
            ..limits
        };
        let refused = read_body(&headers, long(), limits, &account).await;
        assert_eq!(
            refused.expect_err("long").failure.reason,
            Reason::MessageTooLarge
        );
        assert!(began.elapsed() >= Duration::from_millis(2 * 562 - 250));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let account = account(1 << 30);
        let headers = HeaderMap::new();
        let cases = [
            // Silent; a byte now and then; a little at a time, for ever.
            (1, 1, Duration::from_secs(3600), false),
            (1000, 1, Duration::from_secs(20), false),
            (100_000, 100, Duration::from_millis(100), false),
            // Slow, and on its way.
            (400, 5000, Duration::from_secs(1), true),
        ];
        for (count, len, pause, arrives) in cases {
            let began = Instant::now();
            let read = read_body(&headers, slow(count, len, pause), up_to(8 << 20), &account).await;
            match read {
                Ok(read) => assert!(arrives && read.bytes.len() == count * len),
                Err(unread) => {
                    let failure = unread.failure;
                    assert!(!arrives, "{failure}");
                    assert_eq!(failure.reason, Reason::BodyTimeout);
                    assert!(began.elapsed() < 3 * BODY_TIMEOUT, "{:?}", began.elapsed());
                }
            }
            assert_eq!(account.held(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_there_when_a_shutdown_begins_is_refused_soon() {
        let account = account(1 << 30);
        let headers = HeaderMap::new();
        let drain = CancellationToken::new();
        let limits = BodyLimits {
            drain: &drain,
            ..up_to(8 << 20)
        };
        // Silent; slow; what is there at once is read.
        for (count, len, pause, arrives) in [
            (1, 1, Duration::from_secs(3600), false),
            (1000, 100, Duration::from_millis(20), false),
            (10, 100, Duration::ZERO, true),
        ] {
            let began = Instant::now();
            let ends = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                drain.cancel();
            };
            let body = slow(count, len, pause);
            let (read, ()) = tokio::join!(read_body(&headers, body, limits, &account), ends);
            match read {
                Ok(read) => assert!(arrives && read.bytes.len() == count * len),
                Err(unread) => {
                    assert!(!arrives, "{}", unread.failure);
                    assert_eq!(unread.failure.reason, Reason::Draining);
                    assert!(began.elapsed() < Duration::from_secs(3));
                }
            }
            assert_eq!(account.held(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_sends_too_much_is_told_by_the_id_of_its_request() {
        let account = account(1 << 30);
        let headers = HeaderMap::new();
        let limits = BodyLimits {
            max: 2000,
            ..up_to(KB_20)
        };
        let filler = "x".repeat(5000);
        let body = |text: String, chunk: usize| {
            let pieces: Vec<_> = text
                .into_bytes()
                .chunks(chunk)
                .map(<[u8]>::to_vec)
                .collect();
            let frames = pieces
                .into_iter()
                .map(|piece| Ok::<_, Infallible>(Frame::data(piece.into())));
            StreamBody::new(stream::iter(frames))
        };
        for (text, id) in [
            // As the SDKs write it: the id is last.
            (
                format!(
                    r#"{{"method":"tools/call","params":{{"id":1,"x":"{filler}"}},"jsonrpc":"2.0","id":"a"}}"#
                ),
                Some(r#""a""#),
            ),
            (
                format!(r#"{{"id":7,"method":"x","params":{{"x":"{filler}"}}}}"#),
                Some("7"),
            ),
            (
                format!(r#"{{"method":"notifications/x","params":{{"id":1,"x":"{filler}"}}}}"#),
                None,
            ),
            (format!(r#"{{"id":7,"result":{{"x":"{filler}"}}}}"#), None),
            (format!(r#"[{{"id":7,"method":"{filler}"}}]"#), None),
            (filler.clone(), None),
        ] {
            for chunk in [7, 1000, 10_000] {
                let refused =
                    read_body(&headers, body(text.clone(), chunk), limits, &account).await;
                let unread = refused.expect_err("too large");
                assert_eq!(unread.failure.reason, Reason::MessageTooLarge);
                assert_eq!(unread.id.as_deref(), id, "{chunk}");
            }
        }
        assert_eq!(account.held(), 0);
        // A body that does not end in time is nobody's.
        let endless = slow(100_000, 1000, Duration::from_millis(100));
        let refused = read_body(&headers, endless, limits, &account).await;
        assert_eq!(refused.expect_err("too large").id, None);
    }
}
