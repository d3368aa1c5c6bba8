//! What the worker wrote to stderr, as others quote it.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::WorkerConnection;
use crate::launch::packages::view::read_only_dependency;

/// How many of a worker's last stderr lines an error quotes.
const QUOTED_STDERR_LINES: usize = 8;

impl WorkerConnection {
    /// Brings the count of its stderr lines in the metrics up to date.
    pub fn count_stderr(&self) {
        if let Some(worker) = self.worker.get() {
            let total = worker.stats().stderr_lines;
            let before = self.stderr_counted.fetch_max(total, Ordering::Relaxed);
            self.plan.metrics.stderr_lines(total.saturating_sub(before));
        }
    }

    /// What the worker wrote to stderr so far, its end at least, with its secrets masked.
    pub(crate) fn stderr_so_far(&self) -> String {
        let worker = self.worker.get();
        let lines = worker.map(|worker| worker.stderr_tail(QUOTED_STDERR_LINES));
        match lines.unwrap_or_default().as_slice() {
            [] => "it wrote nothing to stderr so far".to_owned(),
            lines => format!("stderr so far:\n{}", lines.join("\n")),
        }
    }

    /// The dependency that could not write beside its own code, if its last lines on stderr tell of that.
    pub(crate) fn blames_dependency(&self, packages: &Path) -> Option<String> {
        let worker = self.worker.get()?;
        let lines = worker.stderr_tail(QUOTED_STDERR_LINES);
        // Node says what is wrong on one line and where on another.
        let view = self.view();
        let view = view.as_ref().map_or(packages, |view| view.folder());
        read_only_dependency(&lines.join("\n"), &[packages, view])
    }

    /// Quotes the end of the worker's stderr, with its secrets masked.
    pub(crate) fn quote_stderr(&self) -> String {
        let lines = self
            .worker
            .get()
            .map(|worker| worker.stderr_tail(QUOTED_STDERR_LINES))
            .unwrap_or_default();
        if lines.is_empty() {
            "; it wrote nothing to stderr".to_owned()
        } else {
            format!("; its last lines on stderr:\n{}", lines.join("\n"))
        }
    }
}
