//! One worker, and what it writes.

use std::collections::VecDeque;

use super::clean::Clean;
use super::listing::Worker;
use crate::admin::StartRow;
use crate::ids::WorkerId;

/// Lines of stderr that are kept; those before go.
pub(super) const MAX_LINES: usize = 1_000;

/// What the worker was started with.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Start {
    /// The program and its arguments, as a shell would be given them.
    pub(super) command: Clean,
    pub(super) folder: Clean,
    /// Names of variables.
    pub(super) env: Clean,
    pub(super) is_callers: bool,
}

impl From<StartRow> for Start {
    fn from(row: StartRow) -> Self {
        let words = std::iter::once(&row.program).chain(&row.args);
        let words: Vec<_> = words.map(|word| quoted(word)).collect();
        Self {
            command: Clean::of(&words.join(" ")),
            folder: Clean::of(if row.cwd.is_empty() {
                "its own"
            } else {
                &row.cwd
            }),
            env: Clean::of(&row.env.join(" ")),
            is_callers: row.is_callers,
        }
    }
}

/// A word as a shell reads it again.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_=./:@%+,[]{}".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Whether what the worker writes is followed.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Following {
    /// Lines of the worker come as they are written.
    Live,
    /// The stream was lost and is asked for again, and why it was lost.
    Lost(Clean),
    /// The worker is gone: how it ended, if that is remembered.
    Over(Option<Clean>),
}

/// The view of one worker.
#[derive(Debug)]
pub(super) struct Detail {
    pub(super) id: WorkerId,
    /// Tells what was asked for this view from what was asked for earlier ones.
    pub(super) serial: u64,
    /// As the worker was last told of.
    pub(super) worker: Option<Worker>,
    pub(super) start: Option<Start>,
    /// The last of what it wrote, the oldest first.
    pub(super) lines: VecDeque<Clean>,
    pub(super) following: Following,
    /// So many of the last lines are below the screen; 0: the newest is shown as it comes.
    pub(super) below: usize,
}

impl Detail {
    pub(super) fn new(id: WorkerId, serial: u64, worker: Option<Worker>) -> Self {
        Self {
            id,
            serial,
            worker,
            start: None,
            lines: VecDeque::new(),
            following: Following::Live,
            below: 0,
        }
    }

    /// Takes a line in.
    pub(super) fn push(&mut self, line: Clean) {
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        // Who has gone up stays where they are.
        if self.below > 0 {
            self.scroll(1);
        }
    }

    /// Goes so many lines up, or down.
    pub(super) fn scroll(&mut self, up: isize) {
        let most = self.lines.len().saturating_sub(1);
        self.below = self.below.saturating_add_signed(up).min(most);
    }

    /// The lines are told anew from here on.
    pub(super) fn begin_again(&mut self, serial: u64) {
        self.serial = serial;
        self.lines.clear();
        self.below = 0;
        self.following = Following::Live;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_shown_as_a_shell_reads_it() {
        let start = Start::from(StartRow {
            program: "npx".into(),
            args: vec!["-y".into(), "a b".into(), "it's\x1b".into(), String::new()],
            env: vec!["HOME".into(), "TOKEN".into()],
            cwd: String::new(),
            is_callers: false,
        });
        assert_eq!(start.command.as_str(), r"npx -y 'a b' 'it'\''s\x1b' ''");
        assert_eq!(start.folder.as_str(), "its own");
    }

    #[test]
    fn lines_are_bounded_and_who_reads_above_stays_there() {
        let mut detail = Detail::new(WorkerId(1), 1, None);
        for n in 0..MAX_LINES {
            detail.push(Clean::of(&n.to_string()));
        }
        detail.scroll(10);
        let shown = |detail: &Detail| detail.lines[detail.lines.len() - 1 - detail.below].clone();
        let before = shown(&detail);
        detail.push(Clean::of("more"));
        assert_eq!((detail.lines.len(), shown(&detail)), (MAX_LINES, before));
        detail.scroll(isize::MAX);
        assert_eq!(detail.below, MAX_LINES - 1);
        detail.scroll(isize::MIN);
        assert_eq!(detail.below, 0);
    }
}
