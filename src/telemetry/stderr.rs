//! Standard error that nobody has to read.
//!
//! ```text
//! log line, error ──▶ buffer (bounded) ──▶ writer thread ──▶ stderr
//!                       └─ full: dropped and counted
//! ```
//!
//! A terminal that is stopped, a pipe that nobody reads or that is closed must not stop the service: whoever
//! logs puts a line into the buffer and goes on. Only the writer's thread ever waits for stderr.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::{Condvar, Mutex};

/// Bytes that wait for stderr at the most; as many again may be in the writer's hands.
const MAX_WAITING: usize = 1 << 20;
/// How long the end of the process waits for what was logged last.
const LAST_WORDS: Duration = Duration::from_secs(1);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Log lines that were dropped since the start, because stderr was not read or is closed.
pub fn log_lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Puts whole lines into the buffer. Never waits.
pub(super) fn put(lines: &[u8]) {
    writer().put(lines);
}

/// Puts a text and a line end into the buffer, and waits for stderr to take it, for a second at the most.
pub fn say_on_stderr(text: &str) {
    let mut line = text.trim_end_matches('\n').as_bytes().to_vec();
    line.push(b'\n');
    put(&line);
    flush_stderr();
}

/// Waits until stderr has taken what was logged, for a second at the most.
pub fn flush_stderr() {
    if let Some(writer) = WRITER.get() {
        writer.flush(LAST_WORDS);
    }
}

static WRITER: OnceLock<&'static Buffered> = OnceLock::new();

fn writer() -> &'static Buffered {
    WRITER.get_or_init(|| {
        // Lives as long as the process.
        let buffered: &'static Buffered = Box::leak(Box::default());
        let thread = std::thread::Builder::new()
            .name("log writer".to_owned())
            .spawn(|| buffered.write_to(&mut Stderr));
        if thread.is_err() {
            // Dropped and counted, as if nobody read it.
            buffered.state.lock().is_orphaned = true;
        }
        buffered
    })
}

#[derive(Debug, Default)]
struct Buffered {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    /// The writer has some in its hands.
    is_writing: bool,
    /// Lines dropped since something was written.
    missed: u64,
    /// There is no writer.
    is_orphaned: bool,
}

impl Buffered {
    fn put(&self, lines: &[u8]) {
        let mut state = self.state.lock();
        if state.is_orphaned || state.waiting.len() + lines.len() > MAX_WAITING {
            let count = lines_in(lines);
            state.missed += count;
            DROPPED.fetch_add(count, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(lines);
        self.filled.notify_one();
    }

    fn flush(&self, limit: Duration) {
        let mut state = self.state.lock();
        let waits = |state: &mut State| {
            !state.is_orphaned && (state.is_writing || !state.waiting.is_empty())
        };
        self.emptied.wait_while_for(&mut state, waits, limit);
    }

    fn write_to(&self, to: &mut dyn Write) -> ! {
        loop {
            let (lines, missed) = {
                let mut state = self.state.lock();
                self.filled
                    .wait_while(&mut state, |state| state.waiting.is_empty());
                state.is_writing = true;
                let missed = std::mem::take(&mut state.missed);
                (std::mem::take(&mut state.waiting), missed)
            };
            let written = to.write_all(&lines);
            let is_written = written.is_ok();
            if !is_written {
                DROPPED.fetch_add(lines_in(&lines), Ordering::Relaxed);
            }
            drop(lines);
            if missed > 0 && is_written {
                tracing::warn!(
                    missed,
                    "log lines were dropped: stderr was not read (stdiopool_log_lines_dropped_total)"
                );
            }
            self.state.lock().is_writing = false;
            self.emptied.notify_all();
        }
    }
}

fn lines_in(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

/// Stderr, also where somebody made it non-blocking for all who share it.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            // Without the lock of std's stderr, on which others would wait.
            let stderr = io::stderr();
            match nix::unistd::write(&stderr, bytes) {
                Err(Errno::EAGAIN) => {
                    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut fds, PollTimeout::NONE)?;
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes nothing until it is told to.
    struct Unread(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Unread {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_never_waits_and_what_has_no_room_is_counted() {
        let buffered: &'static Buffered = Box::leak(Box::default());
        let (go, wait) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || buffered.write_to(&mut Unread(wait, tell)));
        let line = [b'x'; 1023]
            .iter()
            .chain(b"\n")
            .copied()
            .collect::<Vec<_>>();
        let before = log_lines_dropped();
        let sent = 4 * MAX_WAITING / line.len();
        for _ in 0..sent {
            buffered.put(&line);
        }
        let dropped = usize::try_from(log_lines_dropped() - before).expect("fits");
        // Once the buffer, and once what the writer has taken before.
        assert!((sent / 2..sent).contains(&dropped), "{dropped} of {sent}");
        buffered.flush(Duration::from_millis(10));
        let mut read = 0;
        while read < (sent - dropped) * line.len() {
            go.send(()).expect("it waits");
            read += told.recv().expect("written").len();
        }
        assert_eq!(read, (sent - dropped) * line.len());
        buffered.flush(Duration::from_secs(60));
        assert!(buffered.state.lock().waiting.is_empty());
    }
}
