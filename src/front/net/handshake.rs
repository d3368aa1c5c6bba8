//! A socket on which hands are shaken for TLS: what a client sends until then is kept, and counts as a head does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::charges::{ConnectionCharge, FREE_HEAD};
use super::connection_slots::ConnectionSlot;
use super::watched::HangUp;

/// A stream of bytes, of which those that are read before [`is_done`](Self::is_done) are charged.
#[derive(Debug)]
pub(in crate::front) struct Handshake<T> {
    inner: T,
    /// The connection's slot, and the bytes read so far. `None`: hands are shaken.
    under_way: Option<(Arc<ConnectionSlot>, usize)>,
    held: Option<ConnectionCharge>,
}

impl<T> Handshake<T> {
    /// On that stream, of that connection.
    pub(in crate::front) fn new(inner: T, slot: Arc<ConnectionSlot>) -> Self {
        Self {
            inner,
            under_way: Some((slot, 0)),
            held: None,
        }
    }

    /// Hands are shaken.
    pub(in crate::front) fn is_done(&mut self) {
        self.under_way = None;
        self.held = None;
    }
}

impl<T: HangUp> HangUp for Handshake<T> {
    fn has_hung_up(&self) -> bool {
        self.inner.has_hung_up()
    }

    fn untaken(&self) -> Option<u64> {
        self.inner.untaken()
    }

    fn is_left(&self, limit: Duration) {
        self.inner.is_left(limit);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Handshake<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        let Self {
            under_way, held, ..
        } = &mut *self;
        if let Some((slot, bytes)) = under_way {
            *bytes += buf.filled().len() - before;
            if *bytes > FREE_HEAD {
                *held = ConnectionCharge::of_head(slot, held.take(), *bytes);
            }
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Handshake<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::front::net::connection_slots::{ConnectionLimits, ConnectionSlots};
    use crate::held::{HeldLimits, Kind, Ledger};

    #[derive(PartialEq, Debug)]
    struct Outcome {
        is_leaving: bool,
        held: u64,
        held_later: u64,
    }

    /// How a stranger fares that has sent so many bytes, with so many for strangers.
    async fn after(sent: usize, of_strangers: u64) -> Outcome {
        let ledger = Ledger::new(HeldLimits {
            of_tenant: 1,
            of_all: of_strangers * 8,
        });
        let slots = ConnectionSlots::new(ConnectionLimits::of_few(10), &ledger);
        let peer = "192.0.2.1".parse().expect("an address");
        let slot = Arc::new(slots.take(peer).await.expect("a slot"));
        let bytes = vec![0; sent];
        let stream = tokio::io::join(&bytes[..], tokio::io::sink());
        let mut handshake = Handshake::new(stream, Arc::clone(&slot));
        handshake.read_to_end(&mut vec![]).await.expect("read");
        let held = ledger.held_of(Kind::Connection);
        handshake.is_done();
        Outcome {
            is_leaving: slot.activity().is_leaving(),
            held,
            held_later: ledger.held_of(Kind::Connection),
        }
    }

    #[tokio::test]
    async fn what_comes_before_hands_are_shaken_is_charged() {
        let outcome = |is_leaving, held| Outcome {
            is_leaving,
            held,
            held_later: 0,
        };
        assert_eq!(after(8 << 10, 1 << 20).await, outcome(false, 0));
        assert_eq!(after(60 << 10, 1 << 20).await, outcome(false, 60 << 10));
        // A quarter of it is for one address.
        assert_eq!(after(60 << 10, 200 << 10).await, outcome(true, 60 << 10));
    }
}
