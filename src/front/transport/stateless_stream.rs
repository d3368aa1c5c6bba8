//! The reply to a request of the stateless revision as a stream: how far the install of its server is,
//! where it has to wait for that, then what its worker says.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;

use super::stateless_begin::{CallStart, Later};
use super::stateless_call::{StatelessCall, StreamItem};
use super::wait_progress::WaitProgress;
use crate::front::response::body::Body;
use crate::front::response::errors;
use crate::front::response::sse::{Frames, KEEP_ALIVE, QUIET_CALL};
use crate::gateway::Install;
use crate::held::Account;
use crate::upstream::{OutboundMessage, Outbox, WhenFull};

/// The rest of a call's stream. Dropping it cancels the call (2026-07-28, basic/transports/streamable-http,
/// "Cancellation").
pub(in crate::front) enum StatelessStream {
    /// The server's package is being installed.
    Install {
        /// The id of the request, as raw JSON.
        id: String,
        /// What is told of how far the install is.
        outbox: Arc<Outbox>,
        /// What is told of the start that follows.
        news: WaitProgress,
        /// Ends when the call has begun.
        begun: Later,
    },
    /// A worker has the call; with what that has said already.
    Call(Box<StatelessCall>, Option<StreamItem>),
}

impl StatelessStream {
    /// The stream of an install, to a client that asked with that progress token (raw JSON), then of the call.
    pub(in crate::front) fn of_install(
        install: Install,
        token: &str,
        id: &str,
        later: Later,
        news: WaitProgress,
    ) -> Self {
        let outbox = Arc::new(Outbox::new(WhenFull::DropNewest));
        // Open until the call has begun.
        outbox.expect_answer();
        let (token, told) = (token.to_owned(), Arc::clone(&outbox));
        let steps = news.steps().clone();
        Self::Install {
            id: id.to_owned(),
            outbox,
            news,
            begun: Box::pin(async move {
                install.told(&token, &steps, &told).await;
                later.await
            }),
        }
    }

    /// The stream of a call, of which that was the first to be heard.
    pub(in crate::front) fn of_call(call: Box<StatelessCall>, first: StreamItem) -> Self {
        Self::Call(call, Some(first))
    }

    /// The message that comes next, if one does for a while, and what there is to tell after it.
    async fn next(mut self) -> (Option<Bytes>, Option<Self>) {
        loop {
            match self {
                Self::Install {
                    id,
                    outbox,
                    news,
                    mut begun,
                } => {
                    let begun = tokio::select! {
                        biased;
                        Some(OutboundMessage::Message(message)) = outbox.next_of_call() => {
                            let rest = Self::Install { id, outbox, news, begun };
                            return (Some(message), Some(rest));
                        }
                        begun = &mut begun => begun,
                        () = tokio::time::sleep(QUIET_CALL) => {
                            let said = news.next();
                            let rest = Self::Install { id, outbox, news, begun };
                            return (said, Some(rest));
                        }
                    };
                    self = match begun {
                        CallStart::Under(call) => Self::Call(call, None),
                        CallStart::Over(last) => return (Some(last.message), None),
                        CallStart::Refused(failure) => {
                            return (Some(errors::message(&failure, Some(&id)).into()), None);
                        }
                    };
                }
                Self::Call(mut call, said) => {
                    let said = match said {
                        Some(said) => said,
                        None => call.next().await,
                    };
                    let message = match said {
                        StreamItem::Nothing => None,
                        StreamItem::Notification(message) => Some(message),
                        StreamItem::Final(last) => return (Some(last.message), None),
                    };
                    return (message, Some(Self::Call(call, None)));
                }
            }
        }
    }
}

impl StatelessStream {
    /// What is told, as the body of a response to a caller of that tenant.
    pub(in crate::front) fn into_body(self, account: &Account) -> Body {
        let frames = Frames::new(account);
        let state = (Some(self), frames);
        Body::from_stream(stream::unfold(state, |(stream, mut frames)| async move {
            if let Some(piece) = frames.next_piece() {
                return Some((Ok::<_, Infallible>(piece), (stream, frames)));
            }
            let (message, rest) = stream?.next().await;
            match message {
                Some(message) => frames.put_event(&message),
                None => frames.put(KEEP_ALIVE),
            }
            Some((Ok(frames.next_piece()?), (rest, frames)))
        }))
    }
}
