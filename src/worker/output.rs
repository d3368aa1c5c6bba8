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

/// What one read gave.
enum Step {
    Some(usize),
    Nothing,
    End,
}

impl Step {
    fn of(read: io::Result<&[u8]>, take: &mut impl FnMut(&[u8])) -> Self {
        match read {
            Ok([]) => Self::End,
            Ok(bytes) => {
                take(bytes);
                Self::Some(bytes.len())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Self::Nothing,
            Err(error) => {
                tracing::debug!(%error, "cannot read from a worker");
                Self::End
            }
        }
    }
}

/// Reads at most one buffer, as soon as there is something, and hands it to `take`.
///
/// Of a read that leaves room in the buffer tokio concludes that the pipe is empty, and spares the
/// one that would find that out; which `try_read` does not.
fn poll_read(
    cx: &mut Context<'_>,
    pipe: &mut Receiver,
    take: &mut impl FnMut(&[u8]),
) -> Poll<Step> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut buffer = ReadBuf::new(buffer);
        let read = ready!(Pin::new(pipe).poll_read(cx, &mut buffer));
        Poll::Ready(Step::of(read.map(|()| buffer.filled()), take))
    })
}

/// The same if there is something now, whether or not tokio has heard of it yet.
fn try_read(pipe: &Receiver, take: &mut impl FnMut(&[u8])) -> Step {
    BUFFER.with_borrow_mut(|buffer| {
        let read = nix::unistd::read(pipe, buffer).map(|len| &buffer[..len]);
        Step::of(read.map_err(io::Error::from), take)
    })
}

/// Reads until the end of the pipe (true), or until `until` holds of the news; then takes what is
/// there. Others may hold the pipe open and write on, so that is bounded by what a pipe can hold.
async fn read(
    pipe: &mut Receiver,
    news: &mut watch::Receiver<News>,
    until: fn(&News) -> bool,
    pace: &mut Pace,
    mut take: impl FnMut(&[u8]),
) -> bool {
    loop {
        let step = tokio::select! {
            biased;
            // An error: nobody reports any more, as the runtime is ending.
            _ = news.wait_for(until) => break,
            step = poll_fn(|cx| poll_read(cx, pipe, &mut take)) => step,
        };
        match step {
            Step::Some(len) => pace.after(len).await,
            Step::Nothing => {}
            Step::End => return true,
        }
    }
    let mut left = capacity(pipe);
    while left > 0 {
        let step = try_read(pipe, &mut |bytes| {
            left = left.saturating_sub(bytes.len());
            take(bytes);
        });
        match step {
            Step::Some(_) => {}
            Step::Nothing => return false,
            Step::End => return true,
        }
    }
    false
}

/// How a reader lets others have their turn.
#[derive(Debug)]
enum Pace {
    /// As fast as the pipe goes, one buffer at a turn.
    Fair,
    /// The same, and no more than [`FLOOD_BYTES`] in a [`FLOOD_WINDOW`].
    Limited { since: Instant, bytes: usize },
}

impl Pace {
    async fn after(&mut self, len: usize) {
        if let Self::Limited { since, bytes } = self {
            *bytes += len;
            let now = Instant::now();
            let end = *since + FLOOD_WINDOW;
            if now >= end {
                (*since, *bytes) = (now, len);
            } else if *bytes >= FLOOD_BYTES {
                (*since, *bytes) = (end, 0);
                return sleep_until(end).await;
            }
        }
        // A buffer can be thousands of lines: too much to count as one of the many steps that
        // tokio grants a task before the next one has its turn.
        if len > CHUNK / 4 {
            tokio::task::yield_now().await;
        } else {
            tokio::task::coop::consume_budget().await;
        }
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

/// Delivers stdout to the inbox, and the exit after it, once `last_words` says that what the process
/// wrote to stderr is in the log.
pub(super) async fn read_stdout(
    shared: Arc<Shared>,
    mut pipe: Receiver,
    mut news: watch::Receiver<News>,
    inbox: Arc<dyn Inbox>,
    max_message: usize,
    last_words: oneshot::Receiver<()>,
) {
    let counters = &shared.counters;
    let deliver = |frame| match frame {
        Frame::Line(line) => {
            counters.messages.fetch_add(1, Ordering::Relaxed);
            inbox.message(line);
        }
        Frame::Oversized(line) => {
            counters.oversized.fetch_add(1, Ordering::Relaxed);
            inbox.oversized(line);
        }
    };
    let mut framer = Framer::new(max_message);
    let exited = |news: &News| news.leader.is_some();
    let ended = read(&mut pipe, &mut news, exited, &mut Pace::Fair, |bytes| {
        counters
            .bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        framer.feed(bytes, deliver);
        if framer
            .unfinished()
            .is_some_and(|len| !inbox.assembling(len))
        {
            framer.give_up();
        }
    })
    .await;
    drop(pipe);
    if ended {
        shared.ask(Ask::StdoutEnded);
    }
    if let Some(frame) = framer.finish() {
        deliver(frame);
    }
    // The pipe's end is not the exit; an error means that nobody will report one.
    drop(news.wait_for(exited).await);
    // An error means that nobody reads stderr any more.
    let _or_none = last_words.await;
    inbox.exited(shared.exit());
}

/// Drains stderr until nobody can write to it any more. `last_words` is told when what the process
/// itself wrote has been read.
pub(super) async fn read_stderr(
    shared: Arc<Shared>,
    mut pipe: Receiver,
    mut news: watch::Receiver<News>,
    last_words: oneshot::Sender<()>,
) {
    let log = &shared.stderr;
    let (exited, gone) = (|news: &News| news.leader.is_some(), |news: &News| news.gone);
    let mut pace = Pace::Limited {
        since: Instant::now(),
        bytes: 0,
    };
    let take = |bytes: &[u8]| log.feed(bytes);
    let ended = read(&mut pipe, &mut news, exited, &mut pace, take).await;
    // Its last line may lack an end.
    log.finish();
    // Nobody waits for it if stdout's reader is gone.
    let _nobody = last_words.send(());
    if !ended {
        read(&mut pipe, &mut news, gone, &mut pace, take).await;
        log.finish();
    }
}
