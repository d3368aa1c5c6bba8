//! What a response carries: all of it at once, or a stream.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body as Stream;
use bytes::Bytes;
use futures_util::TryStream;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;

use crate::telemetry::{RequestSpan, while_in_request};

/// The body of a response. Nearly every one is there as a whole, and then needs no box.
#[derive(Debug)]
pub enum Body {
    /// A body that is there.
    Whole(Full<Bytes>),
    /// A body that comes piece by piece.
    Stream(Stream),
}

impl Body {
    /// No bytes at all.
    pub fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    /// A body of those bytes.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }

    /// What that one gives.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        Self::Stream(Stream::new(body))
    }

    /// The pieces of a stream, each as soon as it is there.
    pub fn from_stream<S>(stream: S) -> Self
    where
        S: TryStream<Ok: Into<Bytes>, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        Self::Stream(Stream::from_stream(stream))
    }
}

impl Body {
    /// Log lines while its pieces are made are of that request.
    pub(in crate::front) fn in_request(self, span: Arc<RequestSpan>) -> Self {
        match self {
            Self::Whole(_) => self,
            Self::Stream(body) => Self::new(OfRequest { span, body }),
        }
    }
}

/// A stream whose pieces are made for that request.
struct OfRequest {
    span: Arc<RequestSpan>,
    body: Stream,
}

impl HttpBody for OfRequest {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { span, body } = self.get_mut();
        while_in_request(span, || Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
        }
    }
}
