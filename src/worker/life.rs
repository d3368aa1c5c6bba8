//! The task that owns a worker from its start until nothing of it is left.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use nix::sys::signal::Signal;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::guardian::{Control, News};
use super::ladder::{Action, Event, Ladder};
use super::output::{Counters, read_stderr, read_stdout};
use super::stderr::StderrLog;
use super::stdin::{self, Unsent, WriterEnd};
use super::{Exit, ExitStatusKind, Inbox, Options, Stats};
use crate::fair::Flow;
use crate::ids::WorkerId;

/// What all handles and tasks of a worker share.
pub(super) struct Shared {
    pub(super) id: WorkerId,
    pub(super) pid: u32,
    pub(super) started_at: SystemTime,
    pub(super) unsent: Unsent,
    pub(super) stderr: StderrLog,
    pub(super) counters: Counters,
    pub(super) control: Control,
    /// Set when no process is left.
    pub(super) gone: watch::Sender<Option<Exit>>,
    news: watch::Receiver<News>,
    asks: Asks,
    exit: OnceLock<Exit>,
}

/// Wishes, each of which is granted once; so flags do, and no queue is needed.
#[derive(Debug, Default)]
struct Asks {
    stop: AtomicBool,
    kill: AtomicBool,
    stdout_ended: AtomicBool,
    stalled: AtomicBool,
    wake: Notify,
}

/// A wish of a handle, or the news of a pipe.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    Stop,
    Kill,
    StdoutEnded,
}

/// The three pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) stdin: pipe::Sender,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
}

impl Shared {
    pub(super) fn new(
        id: WorkerId,
        launched: super::guardian::Launched,
        options: &Options,
        stderr: StderrLog,
    ) -> Self {
        Self {
            id,
            pid: launched.pid,
            started_at: SystemTime::now(),
            unsent: Unsent::new(options.max_unsent),
            stderr,
            counters: Counters::default(),
            control: launched.control,
            gone: watch::Sender::new(None),
            news: launched.news,
            asks: Asks::default(),
            exit: OnceLock::new(),
        }
    }

    /// Leaves a wish for the life task.
    pub(super) fn ask(&self, ask: Ask) {
        let flag = match ask {
            Ask::Stop => &self.asks.stop,
            Ask::Kill => &self.asks.kill,
            Ask::StdoutEnded => &self.asks.stdout_ended,
        };
        if !flag.swap(true, Ordering::Relaxed) {
            self.asks.wake.notify_one();
        }
    }

    /// How it ended, as known at the first call; call it when the leader has ended.
    pub(super) fn exit(&self) -> Exit {
        let now = || Exit {
            status: self.news.borrow().leader.unwrap_or(ExitStatusKind::Lost),
            asked: self.asks.stop.load(Ordering::Relaxed) || self.asks.kill.load(Ordering::Relaxed),
            stalled: self.asks.stalled.load(Ordering::Relaxed),
        };
        self.exit.get_or_init(now).clone()
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            unsent: self.unsent.bytes(),
            bytes_in: self.unsent.written(),
            bytes_out: self.counters.bytes.load(Ordering::Relaxed),
            messages_out: self.counters.messages.load(Ordering::Relaxed),
            oversized: self.counters.oversized.load(Ordering::Relaxed),
            stderr_lines: self.stderr.total(),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("id", &self.id)
            .field("pid", &self.pid)
            .field("exit", &self.exit.get())
            .finish_non_exhaustive()
    }
}

/// What a task of a worker has to say at its end.
enum TaskEnd {
    Reader,
    Writer(WriterEnd),
}

struct Life {
    shared: Arc<Shared>,
    ladder: Ladder,
    tasks: JoinSet<TaskEnd>,
    writer: AbortHandle,
}

/// What the life task waits for.
enum Wake {
    Asked,
    News(News),
    Deadline,
    Task(Result<TaskEnd, JoinError>),
}

/// Runs a worker until nothing of it is left. What it says and is told is worked on in the turns of `flow`.
pub(super) async fn run(
    shared: Arc<Shared>,
    pipes: Pipes,
    inbox: Arc<dyn Inbox>,
    options: Options,
    flow: Flow,
) {
    let mut tasks = JoinSet::new();
    let mut news = shared.news.clone();
    let stall = options.stall_timeout;
    let of_writer = shared.clone();
    let writer = tasks.spawn(flow.clone().run(async move {
        TaskEnd::Writer(stdin::write(&of_writer.unsent, pipes.stdin, stall).await)
    }));
    let (last_words, read_last_words) = oneshot::channel();
    let stdout = read_stdout(
        shared.clone(),
        pipes.stdout,
        news.clone(),
        (inbox, flow.clone()),
        options.max_message,
        read_last_words,
    );
    let stderr = read_stderr(shared.clone(), pipes.stderr, news.clone(), last_words);
    tasks.spawn(flow.clone().run(async move {
        stdout.await;
        TaskEnd::Reader
    }));
    tasks.spawn(flow.run(async move {
        stderr.await;
        TaskEnd::Reader
    }));
    let mut life = Life {
        ladder: Ladder::new(options.stdin_grace, options.term_grace),
        shared: shared.clone(),
        tasks,
        writer,
    };
    // The first look at the news must not miss what came before this task ran.
    news.mark_changed();
    while !life.turn(&mut news).await {}
    life.finish().await;
    let exit = shared.exit();
    tracing::debug!(worker = %shared.id, pid = shared.pid, "worker {exit}");
    shared.gone.send_replace(Some(exit));
}

impl Life {
    /// Waits for one event and handles it; whether the worker is gone.
    async fn turn(&mut self, news: &mut watch::Receiver<News>) -> bool {
        let deadline = self.ladder.deadline();
        let wake = tokio::select! {
            () = self.shared.asks.wake.notified() => Wake::Asked,
            changed = news.changed() => match changed {
                Ok(()) => Wake::News(*news.borrow_and_update()),
                // Nobody reports any more: the runtime is ending, and with it the guardian.
                Err(_) => return true,
            },
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                Wake::Deadline
            }
            Some(end) = self.tasks.join_next() => Wake::Task(end),
        };
        match wake {
            Wake::Asked => self.asked().await,
            Wake::News(news) => {
                if news.leader.is_some() {
                    self.handle(Event::LeaderExited).await;
                    self.writer.abort();
                }
                return news.gone;
            }
            Wake::Deadline => self.handle(Event::Tick).await,
            Wake::Task(end) => self.task_ended(end).await,
        }
        false
    }

    async fn asked(&mut self) {
        let asks = &self.shared.asks;
        let events = [
            (&asks.kill, Event::Kill),
            (&asks.stop, Event::Stop),
            (&asks.stdout_ended, Event::StdoutEnded),
        ];
        let events = events.map(|(flag, event)| flag.load(Ordering::Relaxed).then_some(event));
        for event in events.into_iter().flatten() {
            self.handle(event).await;
        }
    }

    async fn task_ended(&mut self, end: Result<TaskEnd, JoinError>) {
        match end {
            Ok(TaskEnd::Writer(WriterEnd::Stalled)) => {
                self.shared.asks.stalled.store(true, Ordering::Relaxed);
                self.handle(Event::Kill).await;
            }
            Ok(TaskEnd::Reader | TaskEnd::Writer(WriterEnd::Closed)) => {}
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                tracing::error!(worker = %self.shared.id, %error, "a task of a worker panicked");
                self.handle(Event::Kill).await;
            }
        }
    }

    async fn handle(&mut self, event: Event) {
        let control = &self.shared.control;
        for action in self.ladder.on(Instant::now(), event) {
            match action {
                Action::CloseStdin => self.shared.unsent.close(),
                Action::DropStdin => {
                    self.shared.unsent.close();
                    self.writer.abort();
                }
                Action::Terminate => {
                    control.signal(Signal::SIGTERM).await;
                    // A stopped process acts on no other signal before this one.
                    control.signal(Signal::SIGCONT).await;
                }
                Action::KillTree => {
                    if event == Event::Tick && self.shared.asks.stop.load(Ordering::Relaxed) {
                        let worker = self.shared.id;
                        tracing::info!(%worker, "worker has ended neither with its input nor on SIGTERM and is killed: it may be waiting for a network that it cannot reach from here, such as for telemetry");
                    }
                    control.kill_tree().await;
                }
            }
        }
    }

    /// Joins the tasks: they all end by themselves once the worker is gone.
    async fn finish(&mut self) {
        self.shared.unsent.close();
        self.writer.abort();
        while let Some(end) = self.tasks.join_next().await {
            if let Err(error) = end
                && error.is_panic()
            {
                tracing::error!(worker = %self.shared.id, %error, "a task of a worker panicked");
            }
        }
    }
}
