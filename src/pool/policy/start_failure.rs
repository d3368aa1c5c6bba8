//! Why a start did not succeed, as far as the policy goes by it.

use std::sync::Arc;

use crate::ids::ServerName;

/// Why a start did not succeed. The launcher's text is handed on, and never read here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum StartFailure {
    /// The process could not be started, did not answer, or refused to serve.
    Failed(Arc<str>),
    /// The fault of what its key is started with, and nobody else's.
    Config(Arc<str>),
    /// The spare that was to become it is gone.
    SpareGone,
    /// The worker ended right after its start, by itself.
    CrashedEarly(ServerName),
}

impl StartFailure {
    /// Whether what the key is started with is at fault: time does not mend that.
    pub const fn is_for_config(&self) -> bool {
        matches!(self, Self::Config(_))
    }
}
