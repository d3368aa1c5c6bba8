//! One POST: the calls it made, and what comes back for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::link::Link;
use super::mailbox::{Mailbox, Parcel, WhenFull};
use crate::bridge::CallId;

/// The calls of one POST and the mailbox their answers come to. Dropping it cancels whatever is
/// still unanswered, so that a client that goes away costs its worker nothing more.
#[derive(Debug)]
pub struct Exchange {
    pub(super) mailbox: Arc<Mailbox>,
    open: Vec<(Arc<Link>, CallId)>,
    /// How long the worker may take, counted from the last sign of life of the call.
    timeout: Duration,
    deadline: Option<Instant>,
    /// When the last call was handed to its worker.
    sent: Option<Instant>,
    /// How long the pool took to provide workers.
    pub(super) waited: Duration,
}

/// What [`Exchange::next`] yields.
#[derive(Debug)]
pub enum Next {
    /// Something to write.
    Parcel(Parcel),
    /// Every request is answered.
    Done,
    /// No sign of life from the worker for as long as it may take: the calls were cancelled.
    TimedOut {
        /// How long it may take.
        timeout: Duration,
        /// The ids of the requests without an answer, as raw JSON.
        unanswered: Vec<Box<str>>,
    },
}

impl Exchange {
    /// An exchange without calls.
    pub fn new() -> Self {
        Self {
            mailbox: Arc::new(Mailbox::new(WhenFull::DropNewest)),
            open: Vec::new(),
            timeout: Duration::MAX,
            deadline: None,
            sent: None,
            waited: Duration::ZERO,
        }
    }

    pub(super) fn opened(&mut self, link: Arc<Link>, call: CallId) {
        self.timeout = self.timeout.min(link.order().request_timeout);
        let now = Instant::now();
        self.sent = Some(now);
        self.deadline = now.checked_add(self.timeout);
        self.open.push((link, call));
    }

    /// How long the pool took to provide workers for its calls.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// When the last of its calls was handed to a worker; `None` if none was.
    pub fn sent_at(&self) -> Option<Instant> {
        self.sent
    }

    /// The next thing to write. Every parcel gives the worker its full time again.
    ///
    /// # Cancel-Safety
    /// A dropped call loses nothing.
    pub async fn next(&mut self) -> Next {
        let parcel = match self.deadline {
            None => self.mailbox.next_of_call().await,
            Some(deadline) => {
                match tokio::time::timeout_at(deadline, self.mailbox.next_of_call()).await {
                    Ok(parcel) => parcel,
                    Err(_elapsed) => {
                        let timeout = self.timeout;
                        let unanswered = self.abandon("the request timed out");
                        return Next::TimedOut {
                            timeout,
                            unanswered,
                        };
                    }
                }
            }
        };
        let Some(parcel) = parcel else {
            self.open.clear();
            return Next::Done;
        };
        if self.mailbox.all_answered() {
            self.open.clear();
        } else if let Some(timeout) = self.deadline.and(Some(self.timeout)) {
            self.deadline = Instant::now().checked_add(timeout);
        }
        Next::Parcel(parcel)
    }

    /// What can be written without waiting.
    pub fn try_next(&mut self) -> Option<Parcel> {
        let parcel = self.mailbox.try_next()?;
        if self.mailbox.all_answered() {
            self.open.clear();
        }
        Some(parcel)
    }

    /// Cancels what is still unanswered and returns the ids of it, as raw JSON.
    pub fn abandon(&mut self, why: &str) -> Vec<Box<str>> {
        self.mailbox.close();
        self.open
            .drain(..)
            .filter_map(|(link, call)| link.abandon(call, why))
            .collect()
    }
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.open.is_empty() {
            self.abandon("the client went away");
        }
    }
}
