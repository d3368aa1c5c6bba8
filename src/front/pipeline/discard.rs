//! What a refused request still brings: it is taken in within bounds, so that the answer arrives.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body as HttpBody;
use http_body_util::BodyExt;

use super::pacing::{Drained, Pacing};

/// Bytes that are taken in, before it is refused, of a body that is too large or that nobody reads. Nothing of it is held.
pub(super) const MAX_DISCARDED: usize = 64 << 20;
/// How long that may take.
pub(super) const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of a refused request is taken in.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiscardBounds {
    pub(super) bytes: usize,
    pub(super) time: Duration,
}

/// Takes in what a client is still sending, within bounds, and shows it to `pass` piece by piece: many read the answer only
/// when they have sent everything, and a connection closed before that loses it (RFC 9112, 9.6). Whether that was all.
pub(super) async fn discard(
    mut body: impl HttpBody<Data = Bytes> + Unpin,
    bounds: DiscardBounds,
    mut pacing: Option<&mut Pacing<'_>>,
    mut pass: impl FnMut(&[u8]),
) -> bool {
    let mut left = bounds.bytes;
    let mut deadline = tokio::time::Instant::now() + bounds.time;
    loop {
        // Too slow is as good as too much: the answer is then sent at once.
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return true,
            Ok(Some(Err(_))) | Err(_) => return false,
        };
        let data = frame.data_ref().map_or(&[][..], |data| data);
        match left.checked_sub(data.len()) {
            Some(rest) => left = rest,
            None => return false,
        }
        pass(data);
        if let Some(pacing) = &mut pacing {
            match pacing.came(data.len()).await {
                Ok(waited) => deadline += waited,
                Err(Drained) => return false,
            }
        }
    }
}

/// Takes in what a refused request brings over HTTP/2: where the answer overtakes the body, the
/// stream is reset after it, and some clients lose the answer then, though they must not (RFC 9113,
/// 8.1). HTTP/1.1 has no such reset, and there nobody who waits for leave to send is given it.
pub(crate) async fn take_unread(version: http::Version, body: impl HttpBody<Data = Bytes> + Unpin) {
    if version == http::Version::HTTP_2 && !body.is_end_stream() {
        // Boxed, because it is rare, and what every request has room for is to be small.
        let bounds = DiscardBounds {
            bytes: MAX_DISCARDED,
            time: DISCARD_TIMEOUT,
        };
        let _is_all = Box::pin(discard(body, bounds, None, |_| ())).await;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_refused_request_still_brings_is_taken_in_within_bounds() {
        let chunk = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 1024])));
        let of = |count: usize| StreamBody::new(stream::iter((0..count).map(move |_| chunk())));
        let mut short = of(3);
        take_unread(http::Version::HTTP_2, &mut short).await;
        assert!(short.frame().await.is_none(), "all of it");
        let mut long = of(1 + MAX_DISCARDED / 1024);
        take_unread(http::Version::HTTP_2, &mut long).await;
        assert!(long.frame().await.is_none(), "up to its last piece");
        let mut long = of(9 + MAX_DISCARDED / 1024);
        take_unread(http::Version::HTTP_2, &mut long).await;
        assert!(long.frame().await.is_some(), "no more than some of it");
        let mut older = of(1);
        take_unread(http::Version::HTTP_11, &mut older).await;
        assert!(older.frame().await.is_some(), "nothing of it");
        let began = Instant::now();
        let silent = stream::pending::<Result<Frame<Bytes>, Infallible>>();
        take_unread(http::Version::HTTP_2, StreamBody::new(silent)).await;
        assert!((DISCARD_TIMEOUT..2 * DISCARD_TIMEOUT).contains(&began.elapsed()));
    }
}
