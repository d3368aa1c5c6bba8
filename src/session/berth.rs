//! Between a process and whose worker it is: a spare's process changes hands.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::link::Link;
use crate::worker::{Exit, Inbox, Oversized};

/// Passes what a process says on to whichever link it belongs to now.
#[derive(Debug)]
pub(super) struct Berth(Mutex<Moored>);

#[derive(Debug)]
struct Moored {
    link: Arc<Link>,
    /// How the process ended: whoever gets it later has to know.
    exit: Option<Exit>,
    /// Resolves when the adoption under way has come to its end.
    adoption: Option<oneshot::Receiver<()>>,
}

impl Berth {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self(Mutex::new(Moored {
            link,
            exit: None,
            adoption: None,
        }))
    }

    /// The process belongs to that link from now on. The adoption lasts until the sender goes.
    pub(super) fn hand_over(&self, to: Arc<Link>) -> oneshot::Sender<()> {
        let (end, adoption) = oneshot::channel();
        let exit = {
            let mut moored = self.0.lock();
            moored.link = Arc::clone(&to);
            moored.adoption = Some(adoption);
            moored.exit.clone()
        };
        if let Some(exit) = exit {
            to.exited(exit);
        }
        end
    }

    /// Whose it is.
    pub(super) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.0.lock().link)
    }

    /// Waits until the adoption under way, if there is one, has come to its end.
    ///
    /// # Cancel-Safety
    /// A dropped call waits no longer, and neither does a later one.
    pub(super) async fn settled(&self) {
        let adoption = self.0.lock().adoption.take();
        if let Some(adoption) = adoption {
            // An error is the end too: the sender went.
            let _ended = adoption.await;
        }
    }
}

impl Inbox for Berth {
    fn message(&self, line: Bytes) {
        self.link().message(line);
    }

    fn assembling(&self, bytes: usize) -> bool {
        self.link().assembling(bytes)
    }

    fn oversized(&self, line: Oversized) {
        self.link().oversized(line);
    }

    fn exited(&self, exit: Exit) {
        let link = {
            let mut moored = self.0.lock();
            moored.exit = Some(exit.clone());
            Arc::clone(&moored.link)
        };
        link.exited(exit);
    }
}
