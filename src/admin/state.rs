//! What the endpoints share.

use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::rendered::Rendered;
use super::stream::Streams;
use crate::telemetry::Metrics;

pub(super) struct Admin<S> {
    pub(super) supervisor: Arc<S>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: CancellationToken,
    pub(super) streams: Arc<Streams>,
    pub(super) rendered: Arc<Rendered>,
}

impl<S> Clone for Admin<S> {
    fn clone(&self) -> Self {
        Self {
            supervisor: Arc::clone(&self.supervisor),
            metrics: Arc::clone(&self.metrics),
            shutdown: self.shutdown.clone(),
            streams: Arc::clone(&self.streams),
            rendered: Arc::clone(&self.rendered),
        }
    }
}

impl<S> fmt::Debug for Admin<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}
