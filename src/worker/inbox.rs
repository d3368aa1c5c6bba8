//! The receiver of what a worker says.

use bytes::Bytes;

use super::egress_attempt::EgressAttempt;
use super::exit::Exit;
use crate::profile::Seen;
use crate::protocol::Broken;

/// Takes what a worker says. Called from its reader task, in order; must return soon and not block,
/// as nothing more is read meanwhile.
pub trait Inbox: Send + Sync + 'static {
    /// A line of stdout, without its line end; not blank.
    fn message(&self, line: Bytes);
    /// A line of stdout longer than [`super::Options::max_message`] was dropped.
    fn oversized(&self, line: Oversized);
    /// A long line is not whole yet, and so many bytes of it are there. `false`: there is no room for more of it,
    /// and it is dropped as one that is too long.
    fn assembling(&self, bytes: usize) -> bool {
        let _unbounded = bytes;
        true
    }
    /// How many bytes are kept of lines that are not judged yet, as one message goes over several: the next line may be as
    /// much work as all of them.
    fn joining(&self) -> usize {
        0
    }
    /// Whether the piece of a line behind which nothing comes is all there is to come: a message that ends without a line
    /// end, which is delivered then.
    fn ends_with(&self, line: &[u8]) -> bool {
        let _waits = line;
        false
    }
    /// Whether nobody waits for what a piece of a line says. A message that somebody may wait for is delivered as it is if it does not
    /// go on.
    fn is_log(&self, line: &[u8]) -> bool {
        let _nobody = line;
        true
    }
    /// The worker tried to reach a host, where its network has a list. Called from other tasks than its reader, and not after
    /// nothing of the worker is left.
    fn reached(&self, reached: &EgressAttempt) {
        let _nobody_counts = reached;
    }
    /// The worker did something that it would be refused, or would not find, with `sandbox = "strict"`: each kind and place once for its
    /// server. Called from another thread than its reader.
    fn observed(&self, seen: &Seen) {
        let _nobody_counts = seen;
    }
    /// The first process ended. The last call, and made exactly once; what else belongs to the
    /// worker is being killed, and can be awaited with [`super::Worker::wait`].
    fn exited(&self, exit: Exit);
}

/// A line that was longer than the limit and therefore dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oversized {
    /// The line's length in bytes.
    pub len: u64,
    /// The message that it was, with the ids at its top level; `None` for a log's line.
    pub message: Option<Broken>,
}
