//! What a worker writes to stderr: always drained, the last lines kept, shown without secrets.
//!
//! Nothing here waits for a reader: a slow follower loses lines, the log gets a limited number a
//! second, the ring forgets its oldest.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tracing::Span;

use crate::escape;
use crate::ids::WorkerId;
use crate::launch::Redactor;

/// Longest line kept, in bytes; the rest of a longer one is cut off.
pub(crate) const MAX_LINE: usize = 4 * 1024;
/// Bytes read past [`MAX_LINE`] so that a secret across the cut is masked before it is cut.
const MARGIN: usize = 1024;
/// Lines a follower may lag behind before it loses the oldest.
const FOLLOW_LINES: usize = 128;
/// Lines of one worker that reach the log in one [`LOG_WINDOW`].
const LOG_LINES: u32 = 20;
const LOG_WINDOW: Duration = Duration::from_secs(1);

/// The end of a worker's stderr, and a feed of what comes.
#[derive(Debug)]
pub(crate) struct StderrLog {
    id: WorkerId,
    /// The span of the worker, in which it was started.
    span: Span,
    keep: usize,
    redactor: Redactor,
    state: Mutex<State>,
    feed: broadcast::Sender<String>,
}

#[derive(Debug)]
struct State {
    lines: VecDeque<String>,
    partial: Vec<u8>,
    total: u64,
    window: Instant,
    logged: u32,
}

impl StderrLog {
    /// A log that keeps the last `keep` lines.
    pub(crate) fn new(id: WorkerId, keep: usize, redactor: Redactor) -> Self {
        Self {
            id,
            span: Span::current(),
            keep,
            redactor,
            state: Mutex::new(State {
                lines: VecDeque::new(),
                partial: Vec::new(),
                total: 0,
                window: Instant::now(),
                logged: 0,
            }),
            feed: broadcast::Sender::new(FOLLOW_LINES),
        }
    }

    /// Takes what the worker wrote.
    pub(crate) fn feed(&self, mut chunk: &[u8]) {
        let mut state = self.state.lock();
        let mut to_come = memchr::memchr_iter(b'\n', chunk).count();
        while let Some(end) = memchr::memchr(b'\n', chunk) {
            // In a flood most lines fall off the ring before anyone could see them.
            if to_come > self.keep && self.feed.receiver_count() == 0 && !state.would_log() {
                state.partial.clear();
                state.total += 1;
            } else {
                state.extend(&chunk[..end]);
                self.line_ends(&mut state);
            }
            to_come -= 1;
            chunk = &chunk[end + 1..];
        }
        state.extend(chunk);
    }

    /// Takes a last line without line end.
    pub(crate) fn finish(&self) {
        let mut state = self.state.lock();
        if !state.partial.is_empty() {
            self.line_ends(&mut state);
        }
    }

    /// The last `n` lines, oldest first.
    pub(crate) fn tail(&self, n: usize) -> Vec<String> {
        self.state.lock().tail(n)
    }

    /// The last `n` lines and, without a gap or a repetition, those from now on.
    pub(crate) fn follow(&self, n: usize) -> (Vec<String>, broadcast::Receiver<String>) {
        let state = self.state.lock();
        // `feed` sends under this lock.
        (state.tail(n), self.feed.subscribe())
    }

    /// Lines written so far.
    pub(crate) fn total(&self) -> u64 {
        self.state.lock().total
    }

    fn line_ends(&self, state: &mut State) {
        let line = presentable(&state.partial, &self.redactor);
        state.partial.clear();
        state.total += 1;
        if state.may_log() {
            tracing::debug!(parent: &self.span, worker = %self.id, "stderr: {line}");
        }
        // No follower is the usual case, not a failure.
        if self.feed.receiver_count() > 0 && self.feed.send(line.clone()).is_err() {
            tracing::trace!(parent: &self.span, worker = %self.id, "the last stderr follower left");
        }
        if self.keep > 0 {
            if state.lines.len() == self.keep {
                state.lines.pop_front();
            }
            state.lines.push_back(line);
        }
    }
}

impl State {
    fn tail(&self, n: usize) -> Vec<String> {
        let skip = self.lines.len().saturating_sub(n);
        self.lines.iter().skip(skip).cloned().collect()
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = (MAX_LINE + MARGIN).saturating_sub(self.partial.len());
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn would_log(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.window) >= LOG_WINDOW {
            self.window = now;
            self.logged = 0;
        }
        self.logged < LOG_LINES
    }

    fn may_log(&mut self) -> bool {
        let may = self.would_log();
        self.logged += u32::from(may);
        may
    }
}

/// `raw` as text for a terminal or log: no control characters, no escape sequences, no secrets.
fn presentable(raw: &[u8], redactor: &Redactor) -> String {
    let plain = without_controls(&String::from_utf8_lossy(raw));
    let mut line = redactor.redact(&plain);
    let reached_end = raw.len() < MAX_LINE + MARGIN;
    let limit = if reached_end {
        MAX_LINE
    } else {
        // The end of what was read may hold the first part of a secret, which is not masked.
        MAX_LINE.min(line.len().saturating_sub(MARGIN))
    };
    if line.len() > limit {
        let mut end = limit;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('…');
    }
    line
}

fn without_controls(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\t' => plain.push(' '),
            '\u{1b}' => skip_escape(&mut chars),
            c if escape::acts(c) => {}
            c => plain.push(c),
        }
    }
    plain
}

/// Skips the rest of a colour or cursor sequence (ECMA-48: `ESC [`, parameters, one final byte).
fn skip_escape(chars: &mut std::str::Chars<'_>) {
    if chars.as_str().starts_with('[') {
        chars.next();
        chars.find(|c| ('\u{40}'..='\u{7e}').contains(c));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(keep: usize) -> StderrLog {
        StderrLog::new(WorkerId(1), keep, Redactor::new(["hunter22".into()]))
    }

    #[test]
    fn the_last_lines_are_kept_in_order() {
        let log = log(2);
        log.feed(b"one\ntw");
        log.feed(b"o\nthree\nfour");
        assert_eq!(log.tail(9), ["two", "three"]);
        log.finish();
        assert_eq!(log.tail(1), ["four"]);
        assert_eq!(log.total(), 4);
    }

    #[test]
    fn nothing_a_terminal_would_act_on_remains() {
        let log = log(9);
        log.feed(b"\x1b[31mred\x1b[0m\tbell\x07 bad \xff\r\n");
        assert_eq!(log.tail(1), ["red bell bad \u{fffd}"]);
    }

    #[test]
    fn a_secret_is_masked_also_across_the_cut() {
        let log = log(9);
        for lead in [0, MAX_LINE - 3, MAX_LINE + MARGIN - 3] {
            log.feed("x".repeat(lead).as_bytes());
            log.feed(b"hunter22");
            log.feed("y".repeat(3 * MARGIN).as_bytes());
            log.feed(b"\n");
            let line = &log.tail(1)[0];
            assert!(
                !line.contains("hun") && line.len() <= MAX_LINE + '…'.len_utf8(),
                "{lead}"
            );
        }
    }

    #[test]
    fn a_follower_sees_new_lines_and_may_lag_without_harm() {
        let log = log(1);
        let (_, mut follower) = log.follow(0);
        log.feed(b"a\n");
        assert_eq!(follower.try_recv().expect("a line"), "a");
        for _ in 0..FOLLOW_LINES * 2 {
            log.feed(b"b\n");
        }
        assert!(matches!(
            follower.try_recv(),
            Err(broadcast::error::TryRecvError::Lagged(_))
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_gets_a_limited_number_of_lines_a_second() {
        let log = log(1);
        let passed = (0..100).filter(|_| log.state.lock().may_log()).count();
        assert_eq!(passed, LOG_LINES as usize);
        tokio::time::advance(LOG_WINDOW).await;
        assert!(log.state.lock().may_log());
    }
}
