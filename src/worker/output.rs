//! Reads stdout and stderr of a worker, each in a task of its own.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::Inbox;
use super::framing::{Frame, Framer};
use super::guardian::News;
use super::life::{Ask, Shared};
use super::stderr::StderrLog;
use crate::fair::{Flow, LARGE, large};

/// Bytes read at once: what a pipe holds by default (pipe(7)).
const CHUNK: usize = 64 * 1024;

thread_local! {
    /// One buffer a thread instead of one a worker: it is only in use between two awaits.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// Counters of stdout.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) oversized: AtomicU64,
}

/// How much of stderr is read in one [`FLOOD_WINDOW`]: about 3 MiB a second. A worker that writes
/// more waits for its own pipe; nobody else pays for making its noise presentable.
const FLOOD_BYTES: usize = CHUNK;
const FLOOD_WINDOW: Duration = Duration::from_millis(20);

/// Messages that are worked on before others have their turn, about: a buffer can hold thousands.
const MESSAGES: usize = 16;
/// Bytes read at once, at the least.
const LEAST: usize = 1024;

/// Where what is read goes.
trait Sink {
    /// Takes the next bytes in; how many messages they ended.
    fn take(&mut self, bytes: &[u8]) -> usize;

    /// Works on what was too large to be worked on at once.
    fn settle(&mut self) -> impl Future<Output = ()> + Send;
}

/// What one read gave.
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
        let read = ready!(Pin::new(pipe).poll_read(cx, &mut buffer));
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

/// Reads until the end of the pipe (true), or until `until` holds of the news; then takes what is
/// there. Others may hold the pipe open and write on, so that is bounded by what a pipe can hold.
async fn read(
    pipe: &mut Receiver,
    news: &mut watch::Receiver<News>,
    until: fn(&News) -> bool,
    pace: &mut Pace,
    sink: &mut impl Sink,
) -> bool {
    loop {
        let step = tokio::select! {
            biased;
            // An error: nobody reports any more, as the runtime is ending.
            _ = news.wait_for(until) => break,
            step = poll_fn(|cx| poll_read(cx, pipe, pace.most, sink)) => step,
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

/// How a reader lets others have their turn.
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
    /// As fast as the pipe goes, one buffer at a turn.
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
        // Too much to count as one of the many steps that tokio grants a task before the next one has its turn.
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
    /// A large message, and what came after it.
    waiting: Vec<Frame>,
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
        let mut framer = std::mem::replace(&mut self.framer, Framer::new(0));
        let mut messages = 0;
        framer.feed(bytes, |frame| {
            messages += 1;
            let is_large = matches!(&frame, Frame::Line(line) if line.len() >= LARGE);
            if is_large || !self.waiting.is_empty() {
                self.waiting.push(frame);
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
        if self.waiting.is_empty() {
            return;
        }
        let frames = std::mem::take(&mut self.waiting);
        let (shared, inbox) = (Arc::clone(self.shared), Arc::clone(self.inbox));
        let work = move || {
            for frame in frames {
                deliver(&shared, &*inbox, frame);
            }
        };
        large(self.flow, work).await;
    }
}

/// Delivers stdout to the inbox, and the exit after it, once `last_words` says that what the process
/// wrote to stderr is in the log.
pub(super) async fn read_stdout(
    shared: Arc<Shared>,
    mut pipe: Receiver,
    mut news: watch::Receiver<News>,
    (inbox, flow): (Arc<dyn Inbox>, Flow),
    max_message: usize,
    last_words: oneshot::Receiver<()>,
) {
    let mut sink = Stdout {
        shared: &shared,
        inbox: &inbox,
        flow: &flow,
        framer: Framer::new(max_message),
        waiting: Vec::new(),
    };
    let exited = |news: &News| news.leader.is_some();
    let ended = read(&mut pipe, &mut news, exited, &mut Pace::fair(), &mut sink).await;
    drop(pipe);
    if ended {
        shared.ask(Ask::StdoutEnded);
    }
    if let Some(frame) = sink.framer.finish() {
        deliver(&shared, &*inbox, frame);
    }
    // The pipe's end is not the exit; an error means that nobody will report one.
    drop(news.wait_for(exited).await);
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
    mut news: watch::Receiver<News>,
    last_words: oneshot::Sender<()>,
) {
    let mut log = &shared.stderr;
    let (exited, gone) = (|news: &News| news.leader.is_some(), |news: &News| news.gone);
    let mut pace = Pace::limited();
    let ended = read(&mut pipe, &mut news, exited, &mut pace, &mut log).await;
    // Its last line may lack an end.
    log.finish();
    // Nobody waits for it if stdout's reader is gone.
    let _nobody = last_words.send(());
    if !ended {
        read(&mut pipe, &mut news, gone, &mut pace, &mut log).await;
        log.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
