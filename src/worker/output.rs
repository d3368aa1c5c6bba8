//! Reads stdout and stderr of a worker, each in a task of its own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{pending, poll_fn, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{self, Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::Inbox;
use super::framing::{Frame, Framer};
use super::guardian::ProcessState;
use super::state::{Ask, Shared};
use super::stderr::StderrLog;
use crate::fair::{Flow, LARGE, large};

/// Bytes read at once: what a pipe holds by default (pipe(7)).
const CHUNK: usize = 64 * 1024;

thread_local! {
    /// One buffer a thread instead of one a worker: it is only in use between two awaits.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// How much of stderr is read in one [`FLOOD_WINDOW`]: about 3 MiB a second. A worker that writes
/// more waits for its own pipe; nobody else pays for making its noise presentable.
const FLOOD_BYTES: usize = CHUNK;
const FLOOD_WINDOW: Duration = Duration::from_millis(20);

/// Messages that are worked on before other tasks run: a buffer can hold thousands.
const MESSAGES: usize = 16;
/// How long messages are worked on at the most, but for the last one: one may be for many.
const SLICE: Duration = Duration::from_micros(200);
/// How long nothing comes behind a piece of a line until it is looked at: who writes a message and its line end one after
/// the other is not that slow.
const PAUSE: Duration = Duration::from_millis(200);
/// How long nothing comes until a piece of a line is all there will be.
const STALLED: Duration = Duration::from_secs(10);
/// Bytes read at once, at the least.
const LEAST: usize = 1024;

/// Where what is read goes.
trait Sink {
    /// Takes the next bytes in; how many messages they ended.
    fn take(&mut self, bytes: &[u8]) -> usize;

    /// Works on what was too large to be worked on at once.
    fn settle(&mut self) -> impl Future<Output = ()> + Send;

    /// How long nothing may come until the sink is told so. `None`: it need not know.
    fn line_timeout(&self) -> Option<Duration> {
        None
    }

    /// Nothing has come for as long as that.
    fn silence(&mut self) -> impl Future<Output = ()> + Send {
        ready(())
    }
}

/// The result of one read.
enum Step {
    Some { bytes: usize, messages: usize },
    Nothing,
    End,
}

impl Step {
    fn of(read: io::Result<&[u8]>, sink: &mut impl Sink) -> Self {
        match read {
            Ok([]) => Self::End,
            Ok(bytes) => Self::Some {
                bytes: bytes.len(),
                messages: sink.take(bytes),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Self::Nothing,
            Err(error) => {
                tracing::debug!(%error, "cannot read from a worker");
                Self::End
            }
        }
    }
}

/// Reads at most so many bytes, as soon as there are some, and hands them to `sink`.
///
/// Of a read that leaves room in the buffer tokio concludes that the pipe is empty, and spares the
/// one that would find that out; which `try_read` does not.
fn poll_read(
    cx: &mut Context<'_>,
    pipe: &mut Receiver,
    most: usize,
    sink: &mut impl Sink,
) -> Poll<Step> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut buffer = ReadBuf::new(&mut buffer[..most.min(CHUNK)]);
        let read = task::ready!(Pin::new(pipe).poll_read(cx, &mut buffer));
        Poll::Ready(Step::of(read.map(|()| buffer.filled()), sink))
    })
}

/// Reads if there is something now, whether or not tokio has heard of it yet.
fn try_read(pipe: &Receiver, sink: &mut impl Sink) -> Step {
    BUFFER.with_borrow_mut(|buffer| {
        let read = nix::unistd::read(pipe, buffer).map(|len| &buffer[..len]);
        Step::of(read.map_err(io::Error::from), sink)
    })
}

/// Reads until the end of the pipe (true), or until `until` holds of the processes; then takes what is
/// there. Others may hold the pipe open and write on, so that is bounded by what a pipe can hold.
async fn read(
    pipe: &mut Receiver,
    processes: &mut watch::Receiver<ProcessState>,
    until: fn(&ProcessState) -> bool,
    pace: &mut Pace,
    sink: &mut impl Sink,
) -> bool {
    loop {
        let due = sink.line_timeout().map(|timeout| Instant::now() + timeout);
        let silence = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => pending().await,
            }
        };
        let step = tokio::select! {
            biased;
            // An error: nobody reports any more, as the runtime is ending.
            _ = processes.wait_for(until) => break,
            step = poll_fn(|cx| poll_read(cx, pipe, pace.most, sink)) => Some(step),
            () = silence => None,
        };
        let Some(step) = step else {
            sink.silence().await;
            continue;
        };
        match step {
            Step::Some { bytes, messages } => {
                sink.settle().await;
                pace.after(bytes, messages).await;
            }
            Step::Nothing => {}
            Step::End => return true,
        }
    }
    let mut left = capacity(pipe);
    while left > 0 {
        let step = try_read(pipe, sink);
        match step {
            Step::Some { bytes, .. } => {
                left = left.saturating_sub(bytes);
                sink.settle().await;
            }
            Step::Nothing => return false,
            Step::End => return true,
        }
    }
    false
}

/// How a reader lets other tasks run.
#[derive(Debug)]
struct Pace {
    /// Bytes that are read at once.
    most: usize,
    /// No more than [`FLOOD_BYTES`] in a [`FLOOD_WINDOW`].
    limited: Option<Window>,
}

/// Since when so many bytes were read.
#[derive(Debug)]
struct Window {
    since: Instant,
    bytes: usize,
}

impl Pace {
    /// As fast as the pipe goes, one buffer at a time.
    fn fair() -> Self {
        Self {
            most: CHUNK,
            limited: None,
        }
    }

    fn limited() -> Self {
        let since = Instant::now();
        Self {
            most: FLOOD_BYTES / 8,
            limited: Some(Window { since, bytes: 0 }),
        }
    }

    async fn after(&mut self, len: usize, messages: usize) {
        if let Some(Window { since, bytes }) = &mut self.limited {
            *bytes += len;
            let now = Instant::now();
            let end = *since + FLOOD_WINDOW;
            if now >= end {
                (*since, *bytes) = (now, len);
            } else if *bytes >= FLOOD_BYTES {
                (*since, *bytes) = (end, 0);
                return sleep_until(end).await;
            }
        } else {
            self.most = next_size(self.most, len, messages);
        }
        // Too much to count as one of the many steps that tokio grants a task before the next one runs.
        if len > CHUNK / 4 || messages > MESSAGES / 4 {
            tokio::task::yield_now().await;
        } else {
            tokio::task::coop::consume_budget().await;
        }
    }
}

/// How much is read next, after a read of at most `most` bytes that gave `len` with so many messages.
fn next_size(most: usize, len: usize, messages: usize) -> usize {
    if messages > MESSAGES {
        (len / messages * MESSAGES).clamp(LEAST, most)
    } else if messages < MESSAGES / 2 {
        // Also after a short read: then there was no more.
        (most * 2).min(CHUNK)
    } else {
        most
    }
}

/// Bytes a pipe can hold.
fn capacity(pipe: &Receiver) -> usize {
    use nix::fcntl::{FcntlArg, fcntl};
    let capacity = fcntl(pipe, FcntlArg::F_GETPIPE_SZ).ok();
    capacity
        .and_then(|size| usize::try_from(size).ok())
        .unwrap_or(CHUNK)
}

/// Cuts stdout into messages for the inbox.
struct Stdout<'a> {
    shared: &'a Arc<Shared>,
    inbox: &'a Arc<dyn Inbox>,
    flow: &'a Flow,
    framer: Framer,
    /// Frames too large to be worked on here, or too much at once, and what came after them.
    waiting: VecDeque<Frame>,
    /// A message over several lines is large: so may be each line that ends it.
    is_joining_large: bool,
    /// How often nothing came behind the piece of a line that is there.
    silences: u8,
}

/// How much of a worker's output is worked on before other tasks run.
struct TimeSlice {
    since: Instant,
    left: usize,
}

impl TimeSlice {
    fn begin() -> Self {
        Self {
            since: Instant::now(),
            left: MESSAGES,
        }
    }

    /// Whether one more message may be worked on.
    fn take(&mut self) -> bool {
        let may = self.left > 0 && (self.left == MESSAGES || self.since.elapsed() < SLICE);
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// Hands a frame on.
fn deliver(shared: &Shared, inbox: &dyn Inbox, frame: Frame) {
    let counters = &shared.counters;
    match frame {
        Frame::Line(line) => {
            counters.messages.fetch_add(1, Ordering::Relaxed);
            inbox.message(line);
        }
        Frame::Oversized(line) => {
            counters.oversized.fetch_add(1, Ordering::Relaxed);
            inbox.oversized(line);
        }
    }
}

impl Sink for Stdout<'_> {
    fn take(&mut self, bytes: &[u8]) -> usize {
        let counters = &self.shared.counters;
        counters
            .bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.silences = 0;
        self.is_joining_large = self.inbox.joining() + CHUNK >= LARGE;
        let mut framer = std::mem::replace(&mut self.framer, Framer::new(0));
        let mut messages = 0;
        let mut slice = TimeSlice::begin();
        framer.feed(bytes, |frame| {
            messages += 1;
            if self.is_large(&frame) || !self.waiting.is_empty() || !slice.take() {
                self.waiting.push_back(frame);
            } else {
                deliver(self.shared, &**self.inbox, frame);
            }
        });
        if framer
            .unfinished()
            .is_some_and(|len| !self.inbox.assembling(len))
        {
            framer.give_up();
        }
        self.framer = framer;
        messages
    }

    async fn settle(&mut self) {
        while let Some(first) = self.waiting.front() {
            if self.is_large(first) {
                self.settle_large().await;
                continue;
            }
            tokio::task::yield_now().await;
            let mut slice = TimeSlice::begin();
            while let Some(frame) = self.next(|it, frame| !it.is_large(frame) && slice.take()) {
                deliver(self.shared, &**self.inbox, frame);
            }
        }
    }

    fn line_timeout(&self) -> Option<Duration> {
        let is_open = || match self.framer.begun().trim_ascii_end() {
            [.., b'}' | b']'] => PAUSE,
            _ => STALLED,
        };
        match self.silences {
            0 => self.framer.has_begun().then(is_open),
            1 => Some(STALLED),
            _ => None,
        }
    }

    async fn silence(&mut self) {
        self.silences = match self.line_timeout() {
            Some(STALLED) => 2,
            _ => 1,
        };
        let line = self.framer.take_begun();
        let is_large = self.inbox.joining() + line.len() >= LARGE;
        let is_stalled = self.silences > 1;
        let inbox = Arc::clone(self.inbox);
        let judge = move || match is_stalled {
            false => (inbox.ends_with(&line), line),
            // Of what is dropped anyway, nothing is there.
            true => (line.is_empty() || !inbox.is_log(&line), line),
        };
        let (is_over, line) = match is_large {
            true => large(self.flow, judge).await,
            false => judge(),
        };
        self.framer.put_back(line);
        if is_over {
            let frame = match is_stalled {
                false => self.framer.end_line(),
                true => self.framer.cut(),
            };
            self.waiting.extend(frame);
            self.settle().await;
        }
    }
}

impl Stdout<'_> {
    fn is_large(&self, frame: &Frame) -> bool {
        self.is_joining_large || matches!(frame, Frame::Line(line) if line.len() >= LARGE)
    }

    /// The first that waits, if it is wanted.
    fn next(&mut self, is_wanted: impl FnOnce(&Self, &Frame) -> bool) -> Option<Frame> {
        let is_next = self.waiting.front().is_some_and(|it| is_wanted(self, it));
        is_next.then(|| self.waiting.pop_front())?
    }

    /// Works on the large messages that are first among those that wait.
    async fn settle_large(&mut self) {
        let mut frames = vec![];
        while let Some(frame) = self.next(Self::is_large) {
            frames.push(frame);
        }
        let (shared, inbox) = (Arc::clone(self.shared), Arc::clone(self.inbox));
        let work = move || {
            for frame in frames {
                deliver(&shared, &*inbox, frame);
            }
        };
        large(self.flow, work).await;
    }
}

/// Where a worker's messages go.
pub(super) struct Messages {
    pub(super) inbox: Arc<dyn Inbox>,
    /// The work on them.
    pub(super) flow: Flow,
    /// The largest that is delivered, in bytes.
    pub(super) max_size: usize,
}

/// Delivers stdout to the inbox, and the exit after it, once `last_words` says that what the process
/// wrote to stderr is in the log.
pub(super) async fn read_stdout(
    shared: Arc<Shared>,
    mut pipe: Receiver,
    mut processes: watch::Receiver<ProcessState>,
    messages: Messages,
    last_words: oneshot::Receiver<()>,
) {
    let Messages { inbox, flow, .. } = &messages;
    let mut sink = Stdout {
        shared: &shared,
        inbox,
        flow,
        framer: Framer::new(messages.max_size),
        waiting: VecDeque::new(),
        is_joining_large: false,
        silences: 0,
    };
    let exited = |processes: &ProcessState| processes.leader.is_some();
    let ended = read(
        &mut pipe,
        &mut processes,
        exited,
        &mut Pace::fair(),
        &mut sink,
    )
    .await;
    drop(pipe);
    if ended {
        shared.ask(Ask::StdoutEnded);
    }
    if let Some(frame) = sink.framer.finish() {
        deliver(&shared, &**inbox, frame);
    }
    // The pipe's end is not the exit; an error means that nobody will report one.
    drop(processes.wait_for(exited).await);
    // An error means that nobody reads stderr any more.
    let _or_none = last_words.await;
    inbox.exited(shared.exit());
}

impl Sink for &StderrLog {
    fn take(&mut self, bytes: &[u8]) -> usize {
        self.feed(bytes);
        0
    }

    async fn settle(&mut self) {}
}

/// Drains stderr until nobody can write to it any more. `last_words` is told when what the process
/// itself wrote has been read.
pub(super) async fn read_stderr(
    shared: Arc<Shared>,
    mut pipe: Receiver,
    mut processes: watch::Receiver<ProcessState>,
    last_words: oneshot::Sender<()>,
) {
    let mut log = &shared.stderr;
    let (exited, gone) = (
        |processes: &ProcessState| processes.leader.is_some(),
        |processes: &ProcessState| processes.gone,
    );
    let mut pace = Pace::limited();
    let ended = read(&mut pipe, &mut processes, exited, &mut pace, &mut log).await;
    // The last line of stderr may lack an end.
    log.finish();
    // Nobody waits for it if stdout's reader is gone.
    let _nobody = last_words.send(());
    if !ended {
        read(&mut pipe, &mut processes, gone, &mut pace, &mut log).await;
        log.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_ends_after_so_many_messages_and_after_so_long() {
        let mut slice = TimeSlice::begin();
        slice.since = Instant::now() + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| slice.take()).count(), MESSAGES);
        let mut slow = TimeSlice::begin();
        slow.since = Instant::now() - 2 * SLICE;
        assert_eq!(
            (0..100).filter(|_| slow.take()).count(),
            1,
            "one in any case"
        );
    }

    #[test]
    fn less_is_read_where_messages_are_small() {
        // 65,536 bytes of 64 each are 1,024 messages.
        let small = next_size(CHUNK, CHUNK, 1024);
        assert_eq!(small, 64 * MESSAGES);
        assert_eq!(next_size(small, small, MESSAGES), small);
        assert_eq!(next_size(small, 200, 1), 2 * small);
        assert_eq!(next_size(CHUNK, CHUNK, 0), CHUNK);
        assert_eq!(next_size(CHUNK, CHUNK, CHUNK), LEAST);
    }
}
