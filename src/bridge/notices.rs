//! Notifications that the worker was sent and may still answer, as some servers do, with an error that names nobody.

use super::numbers::CallId;

/// Notifications that may still be answered. A worker reads what it is sent in order: once it has answered a request that was sent after
/// a notification, it has done with that.
#[derive(Debug, Default)]
pub(super) struct OpenNotices {
    count: usize,
    /// Requests from this one on were sent after the last of them.
    next_call: u64,
}

impl OpenNotices {
    /// A notification is sent to the worker, whose next request will have that number.
    pub(super) fn sent(&mut self, next_call: u64) {
        self.count += 1;
        self.next_call = next_call;
    }

    /// The worker has answered that request.
    pub(super) fn answered(&mut self, call: CallId) {
        if call.0 >= self.next_call {
            self.count = 0;
        }
    }

    /// Takes one of them for what an error answers; `false` if there is none.
    pub(super) fn take(&mut self) -> bool {
        let is_open = self.count > 0;
        self.count = self.count.saturating_sub(1);
        is_open
    }
}
