//! The reply to a request of the stateless revision as a stream: how far the install of its server is,
//! where it has to wait for that, then what its worker says.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;

use super::body::Body;
use super::conversation::{Conversation, Said};
use super::errors;
use super::frames::Frames;
use super::stateless_call::{Begun, Later};
use super::stream::{KEEP_ALIVE, QUIET_CALL};
use crate::held::Account;
use crate::session::{Install, Mailbox, Parcel, WhenFull};

/// What is still to be told. Dropping it cancels the call (2026-07-28, basic/transports/streamable-http,
/// "Cancellation").
pub(super) enum Telling {
    /// Its server is being installed.
    Install {
        /// The id of the request, as raw JSON.
        id: String,
        /// How far it is.
        mailbox: Arc<Mailbox>,
        /// Ends when the call has begun.
        begun: Later,
    },
    /// Its worker has it; and what that has said already.
    Call(Box<Conversation>, Option<Said>),
}

impl Telling {
    /// Of an install, to a client that asked with that progress token (raw JSON), then of the call.
    pub(super) fn of_install(install: Install, token: &str, id: &str, call: Later) -> Self {
        let mailbox = Arc::new(Mailbox::new(WhenFull::DropNewest));
        // Open until the call has begun.
        mailbox.expect_answer();
        let (token, told) = (token.to_owned(), Arc::clone(&mailbox));
        Self::Install {
            id: id.to_owned(),
            mailbox,
            begun: Box::pin(async move {
                install.told(&token, &told).await;
                call.await
            }),
        }
    }

    /// Of a call, of which that was the first to be heard.
    pub(super) fn of_call(conversation: Box<Conversation>, first: Said) -> Self {
        Self::Call(conversation, Some(first))
    }

    /// The message that comes next, if one does for a while, and what there is to tell after it.
    async fn next(mut self) -> (Option<Bytes>, Option<Self>) {
        loop {
            match self {
                Self::Install {
                    id,
                    mailbox,
                    mut begun,
                } => {
                    let begun = tokio::select! {
                        biased;
                        Some(Parcel::Message(message)) = mailbox.next_of_call() => {
                            return (Some(message), Some(Self::Install { id, mailbox, begun }));
                        }
                        begun = &mut begun => begun,
                        () = tokio::time::sleep(QUIET_CALL) => {
                            let rest = Self::Install { id, mailbox, begun };
                            return (None, Some(rest));
                        }
                    };
                    self = match begun {
                        Begun::Under(conversation) => Self::Call(conversation, None),
                        Begun::Over(last) => return (Some(last.message), None),
                        Begun::Refused(failure) => {
                            return (Some(errors::message(&failure, Some(&id)).into()), None);
                        }
                    };
                }
                Self::Call(mut conversation, said) => {
                    let said = match said {
                        Some(said) => said,
                        None => conversation.next().await,
                    };
                    let message = match said {
                        Said::Nothing => None,
                        Said::Notification(message) => Some(message),
                        Said::Final(last) => return (Some(last.message), None),
                    };
                    return (message, Some(Self::Call(conversation, None)));
                }
            }
        }
    }
}

impl Telling {
    /// What is told, as the body of a response to a caller of that tenant.
    pub(super) fn into_body(self, account: &Account) -> Body {
        let frames = Frames::new(account);
        let state = (Some(self), frames);
        Body::from_stream(stream::unfold(state, |(telling, mut frames)| async move {
            if let Some(piece) = frames.next_piece() {
                return Some((Ok::<_, Infallible>(piece), (telling, frames)));
            }
            let (message, rest) = telling?.next().await;
            match message {
                Some(message) => frames.put_event(&message),
                None => frames.put(KEEP_ALIVE),
            }
            Some((Ok(frames.next_piece()?), (rest, frames)))
        }))
    }
}
