//! The way in. A message for a worker that has nothing to do is written into its pipe by whoever sends
//! it. One for a busy worker waits, in a queue bounded by bytes, until every task that is about to send
//! something has run, unless others have so much to do that this takes long; one task then writes all of it at once. So does what a pipe does not take.
//!
//! ```text
//! send --the worker is idle, nothing waits-----------------> pipe --> the worker's stdin
//!   └--queue (bounded)--> in flight (one vectored write) ----┘
//! ```
//!
//! `send` never waits. The writer notices when a worker takes nothing for the stall timeout.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::fair::Flow;
use crate::held::{self, Account, Charge, Kind};

/// Buffers in one write: a line and its line end count two. Well under `IOV_MAX` (1024).
const MAX_SLICES: usize = 64;

/// When a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Written at once: the worker waits for it.
    AtOnce,
    /// Written with others: the worker is busy anyway, and each write wakes it.
    Gathered,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The worker does not read fast enough. Try again when it has read.
    #[error("the worker has {unsent} bytes of input that it has not read")]
    Full {
        /// Bytes that wait.
        unsent: usize,
    },
    /// Whoever is charged for what waits holds as much as it may.
    #[error("{0}")]
    NoRoom(held::Full),
    /// The worker ended, is stopping, or closed its input.
    #[error("the worker takes no more input")]
    Closed,
}

/// The queue, shared by the senders and the writer.
#[derive(Debug)]
pub(crate) struct Unsent {
    limit: usize,
    queue: Mutex<Queue>,
    wake: Notify,
    written: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Bytes>,
    /// Bytes in `lines` and in flight, line ends included.
    bytes: usize,
    closed: bool,
    /// What is charged for those bytes, once it is known to whom.
    charge: Option<Charge>,
    /// The pipe, while the writer lives.
    pipe: Option<Arc<pipe::Sender>>,
}

/// Why the writer ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WriterEnd {
    /// All was written after `close`, or the reading end is gone.
    Closed,
    /// Bytes waited and none was taken for the stall timeout.
    Stalled,
}

impl Unsent {
    /// A queue that holds up to `limit` bytes. A single message may be longer, if nothing waits.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            queue: Mutex::default(),
            wake: Notify::new(),
            written: AtomicU64::new(0),
        }
    }

    /// Bytes that wait are charged to that account from now on, unless another is charged already.
    pub(crate) fn charge_to(&self, account: &Account) {
        let mut queue = self.queue.lock();
        if queue.charge.is_none() {
            queue.charge = Some(account.charge_anyway(Kind::Stdin, queue.bytes));
        }
    }

    /// Adds a line, which must not contain a line end itself.
    pub(crate) fn push(&self, mut line: Bytes, delivery: Delivery) -> Result<(), SendError> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(SendError::Closed);
        }
        let unsent = queue.bytes;
        if unsent > 0 && unsent + line.len() + 1 > self.limit {
            return Err(SendError::Full { unsent });
        }
        let mut has_begun = false;
        // Nothing waits and nothing is in flight: what is written now keeps its order. Writing here spares a
        // run of the writer, which costs more than the write.
        if unsent == 0
            && delivery == Delivery::AtOnce
            && let Some(pipe) = &queue.pipe
            && let Ok(count) = pipe.try_write_vectored(&[IoSlice::new(&line), IoSlice::new(b"\n")])
        {
            self.written.fetch_add(count as u64, Ordering::Relaxed);
            if count > line.len() {
                return Ok(());
            }
            line.advance(count);
            has_begun = true;
        }
        if let Some(charge) = &mut queue.charge {
            match charge.grow(line.len() + 1) {
                Ok(()) => {}
                // The pipe has the beginning of it.
                Err(_full) if has_begun => charge.grow_anyway(line.len() + 1),
                Err(full) => return Err(SendError::NoRoom(full)),
            }
        }
        queue.bytes += line.len() + 1;
        queue.lines.push_back(line);
        drop(queue);
        // With bytes under way the writer looks for more when it has written them.
        if unsent == 0 {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Takes no more; the writer closes the pipe once it has written what waits.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.wake.notify_one();
    }

    /// Takes no more and forgets what waits.
    fn abandon(&self) {
        let mut queue = self.queue.lock();
        *queue = Queue {
            closed: true,
            ..Queue::default()
        };
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// Bytes that the worker's pipe took so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Moves what waits to `flight`, as far as it has room. `None`: closed and empty.
    fn take(&self, flight: &mut VecDeque<Bytes>) -> Option<()> {
        let mut queue = self.queue.lock();
        while flight.len() + 2 <= MAX_SLICES
            && let Some(line) = queue.lines.pop_front()
        {
            flight.extend([line, Bytes::from_static(b"\n")]);
        }
        (!(queue.closed && flight.is_empty())).then_some(())
    }

    fn took(&self, bytes: usize) {
        // `abandon` may have set the count to zero meanwhile.
        let mut queue = self.queue.lock();
        queue.bytes = queue.bytes.saturating_sub(bytes);
        if let Some(charge) = &mut queue.charge {
            charge.shrink(bytes);
        }
        drop(queue);
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Writes until [`Unsent::close`] and the queue is empty, the reading end is gone, or the worker
/// stalls. Dropping the future, like its end, closes the pipe.
pub(crate) async fn write(
    unsent: &Unsent,
    pipe: pipe::Sender,
    stall: Duration,
    flow: &Flow,
) -> WriterEnd {
    let pipe = Arc::new(pipe);
    unsent.queue.lock().pipe = Some(Arc::clone(&pipe));
    let _abandons = Abandons(unsent);
    write_all(unsent, &pipe, stall, flow).await
}

/// Lets go of the queue's end of the pipe, however the writer ends.
struct Abandons<'a>(&'a Unsent);

impl Drop for Abandons<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

async fn write_all(
    unsent: &Unsent,
    pipe: &pipe::Sender,
    stall: Duration,
    flow: &Flow,
) -> WriterEnd {
    let mut flight = VecDeque::with_capacity(MAX_SLICES);
    loop {
        if unsent.take(&mut flight).is_none() {
            return WriterEnd::Closed;
        }
        if flight.is_empty() {
            unsent.wake.notified().await;
            if !flow.is_crowded() {
                // Whoever can run now does so first, and adds what it has to send.
                tokio::task::yield_now().await;
            }
            continue;
        }
        match write_some(&flight, pipe) {
            Ok(0) => {
                // The pipe is full, or its readiness was not known yet: without progress, the time runs.
                match timeout_at(Instant::now() + stall, write_when_possible(&flight, pipe)).await {
                    Err(_) => return WriterEnd::Stalled,
                    Ok(Err(_)) => return WriterEnd::Closed,
                    Ok(Ok(count)) => {
                        unsent.took(count);
                        advance(&mut flight, count);
                    }
                }
            }
            Ok(count) => {
                unsent.took(count);
                advance(&mut flight, count);
            }
            Err(_) => return WriterEnd::Closed,
        }
        tokio::task::coop::consume_budget().await;
    }
}

/// Writes what the pipe takes now; 0 if that is nothing.
fn write_some(flight: &VecDeque<Bytes>, pipe: &pipe::Sender) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let count = flight.len().min(MAX_SLICES);
    for (slice, bytes) in slices.iter_mut().zip(flight) {
        *slice = IoSlice::new(bytes);
    }
    match pipe.try_write_vectored(&slices[..count]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        outcome => outcome,
    }
}

/// Writes as soon as the pipe takes something, and says how much that was.
async fn write_when_possible(flight: &VecDeque<Bytes>, pipe: &pipe::Sender) -> io::Result<usize> {
    loop {
        pipe.writable().await?;
        // Readiness can be stale.
        match write_some(flight, pipe)? {
            0 => {}
            count => return Ok(count),
        }
    }
}

fn advance(flight: &mut VecDeque<Bytes>, mut count: usize) {
    while let Some(first) = flight.front_mut() {
        let step = count.min(first.len());
        first.advance(step);
        count -= step;
        if !first.is_empty() {
            return;
        }
        flight.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fair::Scheduler;
    use tokio::io::AsyncReadExt;

    const STALL: Duration = Duration::from_secs(30);

    fn delivery(n: usize) -> Delivery {
        if n.is_multiple_of(3) {
            Delivery::AtOnce
        } else {
            Delivery::Gathered
        }
    }

    #[tokio::test]
    async fn what_is_gathered_is_written_at_once_when_all_have_run() {
        let (tx, mut rx) = pipe::pipe().expect("pipe");
        let unsent = Arc::new(Unsent::new(1 << 20));
        let of_writer = unsent.clone();
        let _writer = tokio::spawn(async move {
            write(&of_writer, tx, STALL, &Scheduler::default().flow()).await
        });
        tokio::task::yield_now().await;
        let senders: Vec<_> = (0..8)
            .map(|n: u8| {
                let unsent = unsent.clone();
                let line = Bytes::from(vec![b'0' + n]);
                tokio::spawn(async move { unsent.push(line, Delivery::Gathered) })
            })
            .collect();
        for sender in senders {
            sender.await.expect("no panic").expect("room");
        }
        let mut got = [0; 64];
        let count = rx.read(&mut got).await.expect("reads");
        assert_eq!(&got[..count], b"0\n1\n2\n3\n4\n5\n6\n7\n");
    }

    #[tokio::test]
    async fn everything_arrives_in_order_and_close_is_eof() {
        let (tx, mut rx) = pipe::pipe().expect("pipe");
        let unsent = Arc::new(Unsent::new(1 << 20));
        let writer = tokio::spawn({
            let unsent = unsent.clone();
            async move { write(&unsent, tx, STALL, &Scheduler::default().flow()).await }
        });
        let mut want = String::new();
        for n in 0..5000 {
            let line = format!("{n}:{}", "x".repeat(n % 97));
            want.push_str(&line);
            want.push('\n');
            while let Err(SendError::Full { .. }) = unsent.push(line.clone().into(), delivery(n)) {
                tokio::task::yield_now().await;
            }
        }
        unsent.close();
        assert_eq!(
            unsent.push("late".into(), Delivery::AtOnce),
            Err(SendError::Closed)
        );
        let mut got = String::new();
        rx.read_to_string(&mut got).await.expect("reads");
        assert!(got == want, "order or bytes differ");
        assert_eq!(writer.await.expect("joins"), WriterEnd::Closed);
        assert_eq!((unsent.bytes(), unsent.written()), (0, want.len() as u64));
    }

    #[test]
    fn full_is_said_with_the_count_but_one_long_message_passes() {
        let unsent = Unsent::new(10);
        unsent
            .push("0123456789abcdef".into(), Delivery::AtOnce)
            .expect("nothing waits");
        assert_eq!(
            unsent.push("x".into(), Delivery::Gathered),
            Err(SendError::Full { unsent: 17 })
        );
    }

    #[tokio::test]
    async fn what_waits_is_charged_until_the_pipe_has_it() {
        let limits = held::HeldLimits {
            of_tenant: 400_000,
            of_all: 400_000,
        };
        let account = held::Ledger::new(limits).account(&crate::ids::TenantId::new("t"));
        let (tx, mut rx) = pipe::pipe().expect("pipe");
        let unsent = Arc::new(Unsent::new(1 << 20));
        unsent.charge_to(&account);
        let line = || Bytes::from(vec![b'x'; 300_000]);
        unsent.push(line(), Delivery::Gathered).expect("room");
        assert_eq!(account.held(), 300_001);
        let refused = unsent.push(line(), Delivery::Gathered);
        assert!(matches!(refused, Err(SendError::NoRoom(_))), "{refused:?}");
        let of_writer = unsent.clone();
        let writer = tokio::spawn(async move {
            write(&of_writer, tx, STALL, &Scheduler::default().flow()).await
        });
        unsent.close();
        let mut got = Vec::new();
        rx.read_to_end(&mut got).await.expect("reads");
        writer.await.expect("joins");
        assert_eq!((got.len(), account.held()), (300_001, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_a_stall() {
        let (tx, rx) = pipe::pipe().expect("pipe");
        let unsent = Unsent::new(10 << 20);
        unsent
            .push(vec![b'x'; 1 << 20].into(), Delivery::AtOnce)
            .expect("room");
        let before = Instant::now();
        assert_eq!(
            write(&unsent, tx, STALL, &Scheduler::default().flow()).await,
            WriterEnd::Stalled
        );
        assert!(before.elapsed() >= STALL);
        assert_eq!(
            unsent.push("x".into(), Delivery::Gathered),
            Err(SendError::Closed)
        );
        drop(rx);
    }

    #[tokio::test]
    async fn a_closed_reading_end_closes_the_queue() {
        let (tx, rx) = pipe::pipe().expect("pipe");
        drop(rx);
        let unsent = Unsent::new(10);
        unsent.push("x".into(), Delivery::Gathered).expect("room");
        assert_eq!(
            write(&unsent, tx, STALL, &Scheduler::default().flow()).await,
            WriterEnd::Closed
        );
        assert_eq!(
            unsent.push("x".into(), Delivery::Gathered),
            Err(SendError::Closed)
        );
    }
}
