//! The task that owns a worker from its start until nothing of it is left.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::sys::signal::Signal;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::guardian::ProcessState;
use super::output::{Messages, read_stderr, read_stdout};
use super::pipes::Pipes;
use super::state::Shared;
use super::stdin::{self, WriterEnd};
use super::stop_sequence::{Action, Event, StopSequence};
use super::{Inbox, Options};
use crate::fair::Flow;

/// The end of a task of a worker.
enum TaskEnd {
    Reader,
    Writer(WriterEnd),
}

struct Life {
    shared: Arc<Shared>,
    stop_sequence: StopSequence,
    tasks: JoinSet<TaskEnd>,
    writer: AbortHandle,
}

/// The event that woke the life task.
enum Wake {
    Ask,
    ProcessState(ProcessState),
    Deadline,
    Task(Result<TaskEnd, JoinError>),
}

/// Runs a worker until nothing of it is left. The worker's input and output are worked on in the turns of `flow`.
pub(super) async fn run(
    shared: Arc<Shared>,
    pipes: Pipes,
    inbox: Arc<dyn Inbox>,
    options: Options,
    flow: Flow,
) {
    let mut tasks = JoinSet::new();
    let mut processes = shared.processes.clone();
    let stall = options.stall_timeout;
    let (of_writer, others) = (shared.clone(), flow.clone());
    let writer = tasks.spawn(flow.clone().run(async move {
        TaskEnd::Writer(stdin::write(&of_writer.unsent, pipes.stdin, stall, &others).await)
    }));
    let (last_words, read_last_words) = oneshot::channel();
    let messages = Messages {
        inbox,
        flow: flow.clone(),
        max_size: options.max_message,
    };
    let stdout = read_stdout(
        shared.clone(),
        pipes.stdout,
        processes.clone(),
        messages,
        read_last_words,
    );
    let stderr = read_stderr(shared.clone(), pipes.stderr, processes.clone(), last_words);
    tasks.spawn(flow.clone().run(async move {
        stdout.await;
        TaskEnd::Reader
    }));
    tasks.spawn(flow.run(async move {
        stderr.await;
        TaskEnd::Reader
    }));
    let mut life = Life {
        stop_sequence: StopSequence::new(options.stdin_grace, options.term_grace),
        shared: shared.clone(),
        tasks,
        writer,
    };
    // The first look at the processes must not miss what came before this task ran.
    processes.mark_changed();
    while !life.step(&mut processes).await {}
    life.finish().await;
    let exit = shared.exit();
    if let Some(group) = &shared.group {
        group.remove();
    }
    tracing::debug!(worker = %shared.id, pid = shared.pid, "worker {exit}");
    shared.gone.send_replace(Some(exit));
}

impl Life {
    /// Waits for one event and handles it; whether the worker is gone.
    async fn step(&mut self, processes: &mut watch::Receiver<ProcessState>) -> bool {
        let deadline = self.stop_sequence.deadline();
        let wake = tokio::select! {
            () = self.shared.asks.wake.notified() => Wake::Ask,
            changed = processes.changed() => match changed {
                Ok(()) => Wake::ProcessState(*processes.borrow_and_update()),
                // Nobody reports any more: the runtime is ending, and with it the guardian.
                Err(_) => return true,
            },
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                Wake::Deadline
            }
            Some(end) = self.tasks.join_next() => Wake::Task(end),
        };
        match wake {
            Wake::Ask => self.asked().await,
            Wake::ProcessState(processes) => {
                if processes.leader.is_some() {
                    self.handle(Event::LeaderExited).await;
                    self.writer.abort();
                }
                return processes.gone;
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
        for action in self.stop_sequence.on(Instant::now(), event) {
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
                    let (worker, asks) = (self.shared.id, &self.shared.asks);
                    let is_late = event == Event::Tick;
                    let is_asked = asks.stop.load(Ordering::Relaxed);
                    if is_late && !is_asked {
                        // Before the signal, so that whoever reads how it ended sees it.
                        asks.mute.store(true, Ordering::Relaxed);
                    }
                    if is_late && is_asked {
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
