//! What a request brings that its endpoint did not read.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::Version;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;

/// A body that comes back when whoever was to read it is done with it.
pub(super) struct BorrowedBody {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl BorrowedBody {
    /// Lends the body of a request of that version, where it matters whether all of it is read: over HTTP/2.
    pub(super) fn of(version: Version, body: Body) -> (Body, oneshot::Receiver<Body>) {
        let (back, returned) = oneshot::channel();
        if version != Version::HTTP_2 || body.is_end_stream() {
            return (body, returned);
        }
        let back = Some(back);
        (Body::new(Self { body, back }), returned)
    }
}

impl HttpBody for BorrowedBody {
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

impl Drop for BorrowedBody {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            // Nobody waits for it where the request was given up.
            let _given_up = back.send(std::mem::take(&mut self.body));
        }
    }
}
