//! A socket of which is noted whether it takes what is written, and where heads begin and end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::activity::Activity;
use super::charges::{ConnectionCharge, FREE_HEAD};
use super::connection_slots::ConnectionSlot;
use super::framing::Framing;
use super::untaken::untaken;

/// Bytes that are read, and written, before others have their turn.
const AT_A_TURN: usize = 64 << 10;
/// Bytes that are read at once. hyper makes its buffer larger as long as reads fill it, for each connection.
const AT_ONCE: usize = 32 << 10;

/// Says whether a peer has hung up, without reading what it sent before.
pub(in crate::front) trait HangUp {
    /// Whether the peer will send no more.
    fn has_hung_up(&self) -> bool;

    /// Bytes that were written and that the peer has not taken; `None` if that cannot be known.
    fn untaken(&self) -> Option<u64> {
        None
    }

    /// The connection is left as it is. Written bytes that are not taken within `limit` are dropped.
    fn is_left(&self, limit: Duration) {
        let _taken_at_once = limit;
    }
}

impl HangUp for TcpStream {
    fn has_hung_up(&self) -> bool {
        // Known from the poll of the driver: no system call.
        let ready = self.ready(Interest::READABLE).now_or_never();
        matches!(ready, Some(Ok(ready)) if ready.is_read_closed())
    }

    fn untaken(&self) -> Option<u64> {
        untaken(self)
    }

    fn is_left(&self, limit: Duration) {
        // The kernel would try for minutes. The option can be set on all connections but those that are gone.
        let _gone = SockRef::from(self).set_tcp_user_timeout(Some(limit));
    }
}

impl<T: HangUp> HangUp for TlsStream<T> {
    fn has_hung_up(&self) -> bool {
        self.get_ref().0.has_hung_up()
    }

    fn untaken(&self) -> Option<u64> {
        self.get_ref().0.untaken()
    }

    fn is_left(&self, limit: Duration) {
        self.get_ref().0.is_left(limit);
    }
}

/// Pipes of tests, whose ends are seen by reading them.
#[cfg(test)]
impl<R, W> HangUp for tokio::io::Join<R, W> {
    fn has_hung_up(&self) -> bool {
        false
    }
}

/// A stream of bytes, watched.
#[derive(Debug)]
pub(super) struct Watched<T: HangUp> {
    inner: T,
    slot: Arc<ConnectionSlot>,
    activity: Arc<Activity>,
    framing: Framing,
    /// For a long head that has not ended.
    held: Option<ConnectionCharge>,
    /// Bytes that were read since others had their turn.
    read: usize,
    /// Bytes that were written since then.
    written: usize,
}

impl<T: HangUp> Drop for Watched<T> {
    fn drop(&mut self) {
        let limit = self.slot.slots().timeouts().write;
        self.inner.is_left(limit);
    }
}

impl<T: HangUp> Watched<T> {
    pub(super) fn new(inner: T, slot: Arc<ConnectionSlot>) -> Self {
        Self {
            inner,
            activity: Arc::clone(slot.activity()),
            slot,
            framing: Framing::default(),
            held: None,
            read: 0,
            written: 0,
        }
    }

    fn came(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.framing.feed(bytes);
        self.activity.is_within_head(self.framing.is_within_head());
        let head = self.framing.head_len();
        if head > FREE_HEAD {
            self.held = ConnectionCharge::of_head(&self.slot, self.held.take(), head);
        } else if self.held.is_some() {
            self.held = None;
        }
        if let Some(found) = self.framing.ambiguous() {
            self.activity.found_ambiguous(found);
        }
    }

    /// Notes how far the peer is, where that is to be known.
    fn looks(&self) {
        if self.activity.is_look_due()
            && let Some(untaken) = self.inner.untaken()
        {
            self.activity.has_left(untaken);
        }
    }

    fn noted(
        &mut self,
        cx: &Context<'_>,
        taken: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match &taken {
            Poll::Ready(Ok(bytes)) => {
                self.written += bytes;
                if self.activity.wrote(*bytes) {
                    // The next request of a pipeline may wait for that.
                    cx.waker().wake_by_ref();
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                self.written = 0;
                self.activity.is_blocked();
            }
        }
        taken
    }
}

/// Whether so many bytes are a turn: then the count begins anew, and the task is polled again after others were.
fn is_turn(count: &mut usize, cx: &Context<'_>) -> bool {
    if *count < AT_A_TURN {
        return false;
    }
    *count = 0;
    cx.waker().wake_by_ref();
    true
}

impl<T: AsyncRead + HangUp + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if is_turn(&mut self.read, cx) {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let inner = Pin::new(&mut self.inner);
        let read = if buf.remaining() <= AT_ONCE {
            inner.poll_read(cx, buf)
        } else {
            let mut some = ReadBuf::new(buf.initialize_unfilled_to(AT_ONCE));
            let read = inner.poll_read(cx, &mut some);
            let came = some.filled().len();
            buf.advance(came);
            read
        };
        match read {
            Poll::Ready(Ok(())) => {
                let came = &buf.filled()[before..];
                self.read += came.len();
                self.came(came);
            }
            Poll::Ready(Err(_)) => {}
            // There is no more: it is its own turn that ends.
            Poll::Pending => self.read = 0,
        }
        read
    }
}

impl<T: AsyncWrite + HangUp + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.looks();
        if is_turn(&mut self.written, cx) {
            return Poll::Pending;
        }
        let some = &bytes[..bytes.len().min(AT_A_TURN)];
        let taken = Pin::new(&mut self.inner).poll_write(cx, some);
        self.noted(cx, taken)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.looks();
        let mut sum = 0;
        let fits = |bytes: &&io::IoSlice<'_>| {
            sum += bytes.len();
            sum <= AT_A_TURN
        };
        let count = bytes.iter().take_while(fits).count();
        if let (0, Some(first)) = (count, bytes.first()) {
            return self.poll_write(cx, first);
        }
        if is_turn(&mut self.written, cx) {
            return Poll::Pending;
        }
        let taken = Pin::new(&mut self.inner).poll_write_vectored(cx, &bytes[..count]);
        self.noted(cx, taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.looks();
        // hyper flushes whenever it is polled, and reads nothing while a body waits: what its client sent last, the end
        // of the connection, would be seen behind all that came before.
        if self.activity.is_held_up() && self.inner.has_hung_up() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        match &flushed {
            Poll::Pending => self.activity.is_blocked(),
            // TLS writes what it has kept then, without a write of ours.
            Poll::Ready(Ok(())) if self.activity.goes_on() => cx.waker().wake_by_ref(),
            Poll::Ready(_) => {}
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.looks();
        let ended = Pin::new(&mut self.inner).poll_shutdown(cx);
        if ended.is_pending() {
            self.activity.is_blocked();
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::front::net::connection_slots::{ConnectionLimits, ConnectionSlots};
    use crate::held::Ledger;

    /// Takes all that is written, and keeps it until it may be flushed, as TLS does.
    #[derive(Default)]
    struct Keeping {
        may_flush: bool,
    }

    impl HangUp for Keeping {
        fn has_hung_up(&self) -> bool {
            false
        }
    }

    impl AsyncWrite for Keeping {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.may_flush {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            }
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_flush(cx)
        }
    }

    #[tokio::test]
    async fn what_was_kept_and_is_gone_blocks_nobody() {
        let slots = ConnectionSlots::new(ConnectionLimits::of_few(10), &Ledger::unlimited());
        let peer = "192.0.2.1".parse().expect("an address");
        let slot = Arc::new(slots.take(peer).await.expect("a slot"));
        let mut watched = Watched::new(Keeping::default(), Arc::clone(&slot));
        watched.write_all(b"answer").await.expect("kept");
        let mut flush = poll_fn(|cx| Poll::Ready(Pin::new(&mut watched).poll_flush(cx)));
        assert!((&mut flush).await.is_pending());
        assert!(slot.activity().poll_writable().is_pending());
        watched.inner.may_flush = true;
        watched.flush().await.expect("gone");
        assert!(slot.activity().poll_writable().is_ready());
    }
}
