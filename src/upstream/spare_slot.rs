//! Between a process and whose worker it is: a spare's process changes hands.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::connection::WorkerConnection;
use crate::worker::{self, Exit, Inbox, Oversized};

/// Passes what a process says on to whichever connection it belongs to now.
#[derive(Debug)]
pub(crate) struct SpareSlot(Mutex<Occupant>);

#[derive(Debug)]
struct Occupant {
    connection: Arc<WorkerConnection>,
    /// How the process ended: whoever gets it later has to know.
    exit: Option<Exit>,
    /// Resolves when the adoption under way has come to its end.
    adoption: Option<oneshot::Receiver<()>>,
}

impl SpareSlot {
    pub(crate) fn new(connection: Arc<WorkerConnection>) -> Self {
        Self(Mutex::new(Occupant {
            connection,
            exit: None,
            adoption: None,
        }))
    }

    /// The process belongs to that connection from now on. The adoption lasts until the sender goes.
    pub(crate) fn hand_over(&self, to: Arc<WorkerConnection>) -> oneshot::Sender<()> {
        let (end, adoption) = oneshot::channel();
        let exit = {
            let mut occupant = self.0.lock();
            occupant.connection = Arc::clone(&to);
            occupant.adoption = Some(adoption);
            occupant.exit.clone()
        };
        if let Some(exit) = exit {
            to.exited(exit);
        }
        end
    }

    /// The connection whose process it is.
    pub(crate) fn connection(&self) -> Arc<WorkerConnection> {
        Arc::clone(&self.0.lock().connection)
    }

    /// Waits until the adoption under way, if there is one, has come to its end.
    ///
    /// # Cancel-Safety
    /// A dropped call waits no longer, and neither does a later one.
    pub(crate) async fn settled(&self) {
        let adoption = self.0.lock().adoption.take();
        if let Some(adoption) = adoption {
            // An error is the end too: the sender went.
            let _ended = adoption.await;
        }
    }
}

impl Inbox for SpareSlot {
    fn message(&self, line: Bytes) {
        self.connection().message(line);
    }

    fn assembling(&self, bytes: usize) -> bool {
        self.connection().assembling(bytes)
    }

    fn joining(&self) -> usize {
        self.connection().joining()
    }

    fn ends_with(&self, line: &[u8]) -> bool {
        self.connection().ends_with(line)
    }

    fn is_log(&self, line: &[u8]) -> bool {
        self.connection().is_log(line)
    }

    fn reached(&self, reached: &worker::EgressAttempt) {
        self.connection().reached(reached);
    }

    fn observed(&self, seen: &crate::profile::Seen) {
        self.connection().observed(seen);
    }

    fn oversized(&self, line: Oversized) {
        self.connection().oversized(line);
    }

    fn exited(&self, exit: Exit) {
        let connection = {
            let mut occupant = self.0.lock();
            occupant.exit = Some(exit.clone());
            Arc::clone(&occupant.connection)
        };
        connection.exited(exit);
    }
}
