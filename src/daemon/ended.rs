//! Workers that have ended, remembered for a while: why, how, and the last that they wrote to stderr.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::history::History;
use crate::admin::{
    EndedRow, LastError, REMEMBERED_OF_ALL, REMEMBERED_OF_TENANT, Timeline, TimelineRow,
};
use crate::ids::{ServerName, WorkerId};
use crate::upstream::{Life, LifeEntry, WorkerConnection};
use crate::worker::Exit;

/// Lines of stderr that are kept of each, at the most.
const LINES: usize = 100;
/// Bytes of stderr that are kept of each, at the most.
const STDERR: usize = 16 << 10;
/// Bytes of an error's text that are kept, at the most.
const MESSAGE: usize = 2 << 10;

/// A worker that has ended.
#[derive(Clone, Debug)]
struct EndedWorker {
    row: EndedRow,
    stderr: Arc<[String]>,
    life: Arc<Life>,
}

/// The workers that have ended, as long as they are remembered, and the last failure of each server.
#[derive(Debug)]
pub(super) struct Ended {
    past: Mutex<History<EndedWorker>>,
    /// By server; there are as many as servers have ever been configured.
    errors: Mutex<BTreeMap<ServerName, LastError>>,
}

impl Default for Ended {
    fn default() -> Self {
        Self {
            past: Mutex::new(History::new(REMEMBERED_OF_TENANT, REMEMBERED_OF_ALL)),
            errors: Mutex::default(),
        }
    }
}

impl Ended {
    /// Remembers a worker of which nothing is left.
    pub(super) fn remember(&self, connection: &WorkerConnection, exit: Option<&Exit>) {
        let plan = connection.plan();
        let (reason, message) = connection.ending(exit);
        let worker = connection.worker();
        let lines = worker.map_or_else(Vec::new, |worker| worker.stderr_tail(LINES));
        let stderr: Arc<[String]> = last_bytes(lines, STDERR).into();
        let lived = worker.and_then(|worker| worker.started_at().elapsed().ok());
        let row = EndedRow {
            id: connection.id(),
            server: plan.server.clone(),
            tenant: plan.tenant.clone(),
            ended_at_ms: now_ms(),
            reason: reason.as_str().to_owned(),
            message: shortened(&message),
            exit: exit.map(|exit| exit.status.to_string()),
            age_seconds: lived.unwrap_or_default().as_secs_f64(),
            stderr_lines: worker.map_or(0, |worker| worker.stats().stderr_lines),
            life: Timeline::default(),
        };
        let life = Arc::new(connection.life());
        let past = EndedWorker { row, stderr, life };
        self.past.lock().push(plan.tenant.as_ref(), past);
    }

    /// Remembers what went wrong with a server last.
    pub(super) fn failed(&self, server: &ServerName, error: LastError) {
        let error = LastError {
            message: shortened(&error.message),
            ..error
        };
        self.errors.lock().insert(server.clone(), error);
    }

    /// The last error of a server.
    pub(super) fn last_error(&self, server: &ServerName) -> Option<LastError> {
        self.errors.lock().get(server).cloned()
    }

    /// The workers that are remembered, oldest first.
    pub(super) fn rows(&self) -> Vec<EndedRow> {
        let past = self.past.lock().where_(|_| true);
        past.into_iter().map(|past| past.row).collect()
    }

    /// A worker that is remembered, with what it went through.
    pub(super) fn with_timeline(&self, id: WorkerId) -> Option<EndedRow> {
        let past = self.past.lock().last_where(|past| past.row.id == id)?;
        Some(EndedRow {
            life: timeline(&past.life),
            ..past.row
        })
    }

    /// A worker that is remembered, with the lines that it wrote last, at most `lines`.
    pub(super) fn one(&self, id: WorkerId, lines: usize) -> Option<(EndedRow, Vec<String>)> {
        let past = self.past.lock().last_where(|past| past.row.id == id)?;
        let skipped = past.stderr.len().saturating_sub(lines);
        Some((past.row, past.stderr[skipped..].to_vec()))
    }
}

/// What a worker went through, as the API tells it.
pub(super) fn timeline(life: &Life) -> Timeline {
    let row = |entry: &LifeEntry| TimelineRow {
        at_ms: as_ms(entry.at),
        state: entry.stage.as_str().to_owned(),
        message: entry.how.clone(),
    };
    Timeline {
        timeline: life.entries().map(row).collect(),
        timeline_left_out: life.left_out(),
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    as_ms(SystemTime::now())
}

/// A time in milliseconds since 1970.
pub(super) fn as_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// The last lines that have no more than so many bytes together.
fn last_bytes(lines: Vec<String>, most: usize) -> Vec<String> {
    let mut left = most;
    let fitting = lines.iter().rev().take_while(|line| {
        let fits = line.len() <= left;
        left = left.saturating_sub(line.len());
        fits
    });
    let skipped = lines.len() - fitting.count();
    lines.into_iter().skip(skipped).collect()
}

/// The text, or as much of it as is kept.
pub(super) fn shortened(text: &str) -> String {
    let mut end = MESSAGE.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if end == text.len() {
        text.to_owned()
    } else {
        format!("{}…", &text[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_and_the_first_words_are_kept() {
        let lines = ["a".repeat(10), "b".repeat(6), "c".repeat(4)];
        let kept = |most| last_bytes(lines.to_vec(), most).len();
        assert_eq!(
            [kept(100), kept(19), kept(10), kept(9), kept(3)],
            [3, 2, 2, 1, 0]
        );
        let long = format!("{}ü{}", "x".repeat(MESSAGE - 1), "y".repeat(9));
        assert_eq!(shortened(&long), format!("{}…", "x".repeat(MESSAGE - 1)));
        assert_eq!(shortened("short"), "short");
    }
}
