//! What one worker has said of its tools, for as long as it has not said that they have changed.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::held::Full;
use crate::routing::{Edition, ToolList};

/// How often the worker has said that its tools have changed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Changes(u64);

/// The edition in which a list of tools is read: what was read before it changes is worth nothing after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToolEdition {
    pub(super) changes: Changes,
    /// The edition of what is remembered of the worker's launch; `None` where nothing is.
    pub(super) edition: Option<Edition>,
}

/// Why a list that was read is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NotKept {
    /// The worker said meanwhile that its tools have changed.
    #[error("they have changed while they were read")]
    Changed,
    /// The worker's tenant holds too much already.
    #[error("its tenant holds too much already")]
    NoRoom(Full),
}

/// The tools of one worker, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct OwnTools {
    pub(super) state: Mutex<(Changes, Option<Arc<ToolList>>)>,
    /// Held by whoever asks it for them.
    pub(super) asking: tokio::sync::Mutex<()>,
}

impl OwnTools {
    /// The worker says that they have changed.
    pub(super) fn changed(&self) {
        let mut state = self.state.lock();
        state.0.0 += 1;
        state.1 = None;
    }

    pub(super) fn changes(&self) -> Changes {
        self.state.lock().0
    }
}
