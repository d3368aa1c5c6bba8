//! What a worker with `sandbox = "observe"` does that it would be refused with "strict": counted, told as an event, and in the log.

use tokio::time::Instant;

use super::WorkerConnection;
use crate::escape;
use crate::profile::{Seen, Use};
use crate::telemetry::labels::Observed;
use crate::upstream::events::ConnectionEvent;

impl WorkerConnection {
    /// The worker does something of a kind and place that its server did not do before.
    pub(super) fn note_observed(&self, seen: &Seen) {
        let Some((kind, how)) = told(seen, self.plan.server.as_str()) else {
            return;
        };
        self.plan.metrics.observed(kind);
        self.tell(ConnectionEvent::Observed(kind, &how));
        if let Some(untold) = self.observed_warnings.next(Instant::now()) {
            tracing::warn!(parent: &self.span, worker = %self.id, server = %self.plan.server, tenant = self.plan.whose(), kind = kind.as_str(), untold, "worker {how}");
        }
    }
}

/// The kind of what was seen, and what it is in words; `None` for what a strict server may do too.
fn told(seen: &Seen, server: &str) -> Option<(Observed, String)> {
    let shown = |path: &std::path::Path| escape::for_log(&path.to_string_lossy()).into_owned();
    Some(match seen {
        Seen::File {
            path,
            usage: Use::Write,
            ..
        } => {
            let how = format!(
                "writes in {}, which \"strict\" would refuse: name that, or a folder above it, in `servers.{server}.writable`",
                shown(path)
            );
            (Observed::Write, how)
        }
        // Folders on the way to what it reads are there.
        Seen::File {
            usage: Use::Look,
            is_folder: true,
            ..
        } => return None,
        Seen::File { path, usage, .. } => {
            let does = match usage {
                Use::Look => "looks for",
                Use::List => "lists",
                Use::Read | Use::Write => "reads",
            };
            let how = format!(
                "{does} {}, which it would not find with \"strict\": name that, or a folder above it, in `servers.{server}.readable`",
                shown(path)
            );
            (Observed::Read, how)
        }
        Seen::Refused(call) => (
            Observed::Call,
            format!("makes a system call that \"strict\" refuses: {call}"),
        ),
        Seen::Unavailable(what) => (
            Observed::Unavailable,
            format!(
                "uses {}, which a strict server has not",
                escape::for_log(what)
            ),
        ),
        Seen::Unread => (
            Observed::Unread,
            "makes system calls that cannot be looked at".to_owned(),
        ),
        Seen::Denied { .. }
        | Seen::Reached { .. }
        | Seen::Listens(_)
        | Seen::Asked(_)
        | Seen::Answered { .. }
        | Seen::Ran(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strict_would_refuse_is_told_with_the_key_that_allows_it() {
        let file = |path: &str, usage, is_folder| Seen::File {
            path: path.into(),
            usage,
            is_folder,
        };
        let (kind, how) = told(&file("/srv/a\n", Use::Read, false), "x").expect("told");
        assert_eq!(kind, Observed::Read);
        assert!(
            how.contains("/srv/a\\n, ") && how.contains("`servers.x.readable`"),
            "{how}"
        );
        let (kind, how) = told(&file("/srv", Use::Write, true), "x").expect("told");
        assert_eq!(kind, Observed::Write);
        assert!(how.contains("`servers.x.writable`"), "{how}");
        assert_eq!(told(&file("/srv", Use::Look, true), "x"), None);
        assert_eq!(told(&Seen::Ran("/bin/sh".into()), "x"), None);
    }
}
