//! The effects: reads lines, wakes the server for its timers, writes what it says.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::dispatch::Flow;
use super::server::Server;

/// Bytes asked of the kernel at once: the size of a pipe.
const CHUNK: usize = 64 * 1024;

/// Longest line taken, in bytes. A longer one is answered with a parse error and skipped.
pub(super) const MAX_LINE: usize = 64 * 1024 * 1024;

/// Runs `server` between `input` and `output` until the input ends (0) or a call ends it (its
/// code). `input` must not buffer: the server polls its descriptor to wait for line or timer.
///
/// # Errors
/// What reading, polling or writing failed with.
pub(super) fn serve(
    server: &mut Server,
    mut input: impl Read + AsFd,
    mut output: impl Write,
) -> io::Result<u8> {
    let mut lines = Lines::default();
    let mut chunk = vec![0; CHUNK];
    let mut out = Vec::new();
    loop {
        if wait(&input, server.next_wake())? {
            let read = match input.read(&mut chunk) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if read == 0 {
                return Ok(0);
            }
            let now = Instant::now();
            let flow = lines.feed(&chunk[..read], |line| match line {
                Some(line) => server.on_line(line, now, &mut out),
                None => server.on_overlong_line(MAX_LINE, &mut out),
            });
            if let Flow::Exit(code) = flow {
                flush(&mut output, &mut out)?;
                return Ok(code);
            }
        }
        // Without a timer there is nothing to look up the clock for: the benchmarks' hot path.
        if server.next_wake().is_some() {
            server.on_time(Instant::now(), &mut out);
        }
        flush(&mut output, &mut out)?;
    }
}

fn flush(output: &mut impl Write, out: &mut Vec<u8>) -> io::Result<()> {
    if !out.is_empty() {
        output.write_all(out)?;
        output.flush()?;
        out.clear();
        // One large answer must not stay in memory for the rest of the process's life.
        out.shrink_to(CHUNK);
    }
    Ok(())
}

/// Waits for input or for `deadline`; true when there is input (or its end) to read.
fn wait(input: &impl AsFd, deadline: Option<Instant>) -> io::Result<bool> {
    let Some(deadline) = deadline else {
        return Ok(true);
    };
    let left = deadline.saturating_duration_since(Instant::now());
    // Rounded up: waking a fraction of a millisecond early would spin until the deadline.
    let millis = left.as_micros().div_ceil(1000);
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Cuts a stream of chunks into lines, holding at most [`MAX_LINE`] bytes of an unfinished one.
#[derive(Default)]
struct Lines {
    unfinished: Vec<u8>,
    skipping: bool,
}

impl Lines {
    /// Calls `on_line` with each line finished by `chunk` (`None`: one that was too long) until
    /// one of them ends the process.
    fn feed(&mut self, mut chunk: &[u8], mut on_line: impl FnMut(Option<&[u8]>) -> Flow) -> Flow {
        while let Some(at) = memchr::memchr(b'\n', chunk) {
            let (end, rest) = (&chunk[..at], &chunk[at + 1..]);
            chunk = rest;
            let flow = if self.skipping || self.unfinished.len() + end.len() > MAX_LINE {
                on_line(None)
            } else if self.unfinished.is_empty() {
                on_line(Some(end))
            } else {
                self.unfinished.extend_from_slice(end);
                on_line(Some(&self.unfinished))
            };
            self.skipping = false;
            self.unfinished.clear();
            self.unfinished.shrink_to(CHUNK);
            if let Flow::Exit(_) = flow {
                return flow;
            }
        }
        if self.skipping || self.unfinished.len() + chunk.len() > MAX_LINE {
            self.skipping = true;
            self.unfinished = Vec::new();
        } else {
            self.unfinished.extend_from_slice(chunk);
        }
        Flow::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            lines.feed(chunk, |line| {
                seen.push(line.map(<[u8]>::to_vec));
                Flow::Continue
            });
        }
        seen
    }

    #[test]
    fn lines_are_cut_wherever_the_chunks_end() {
        let expected = vec![Some(b"one".to_vec()), Some(vec![]), Some(b"two".to_vec())];
        assert_eq!(cut(&[b"one\n\ntwo\nrest"]), expected);
        assert_eq!(cut(&[b"o", b"ne", b"\n\n", b"tw", b"o\n"]), expected);
    }

    #[test]
    fn an_overlong_line_is_skipped_and_the_next_one_is_read() {
        let long = vec![b'x'; MAX_LINE + 1];
        let expected = vec![None, Some(b"next".to_vec())];
        assert_eq!(cut(&[&long, b"more\nne", b"xt\n"]), expected);
    }
}
