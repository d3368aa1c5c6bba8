//! The worker's process as its link sees it: its handshake, its sleep, its end.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::oneshot;

use super::super::eras::Refusal;
use super::Link;
use crate::bridge::{Era, NotGreeted};
use crate::pool::{Stop, StopReason};
use crate::protocol::ExitReason;
use crate::telemetry::labels;
use crate::worker::memory::{freeze, thaw};
use crate::worker::{Exit, Worker};

/// How long a process that is there may still take to answer `server/discover`.
pub(super) const DISCOVERY_GRACE: Duration = Duration::from_secs(1);

impl Link {
    /// Ends it for an operator, whatever it has in flight.
    pub fn stop_for_operator(&self) {
        self.stop(Stop::from(StopReason::Admin));
    }

    /// Starts the stop ladder; a process that is still being started is stopped as soon as it is there.
    pub(in crate::session) fn stop(&self, stop: Stop) {
        self.state.lock().stop.get_or_insert(stop);
        // What is stopped hears neither the end of its input nor a polite signal.
        self.wake();
        if let Some(worker) = self.worker.get() {
            worker.stop();
        }
    }

    /// Lets the worker's memory be paged out, until [`Self::wake`].
    pub(in crate::session) fn fall_asleep(&self) {
        self.slumber.begin();
    }

    /// It is needed: a page-out under way ends.
    pub(in crate::session) fn wake(&self) {
        self.slumber.end();
        self.thaw();
    }

    /// Stops its processes for as long as it sleeps.
    pub(in crate::session) fn freeze(&self, processes: Vec<u32>) {
        let mut frozen = self.frozen.lock();
        // Whoever wakes it says so before it takes this lock.
        if self.is_asleep() {
            freeze(&processes);
            *frozen = processes;
        }
    }

    pub(super) fn thaw(&self) {
        let frozen = std::mem::take(&mut *self.frozen.lock());
        thaw(&frozen);
    }

    /// Whether it may be paged out now.
    pub(in crate::session) fn is_asleep(&self) -> bool {
        self.slumber.is_asleep()
    }

    /// Kills the process for holding more memory than it may; whoever waits for it is told so.
    pub fn end_for_memory(&self, held: u64, limit: u64) {
        let (held, limit) = (held.div_ceil(1 << 20), limit >> 20);
        let how = format!(
            "held {held} MiB of memory, more than the {limit} MiB it may (raise `servers.{}.limits.memory`), and was killed",
            self.order.server
        );
        tracing::warn!(parent: &self.span, worker = %self.id, server = %self.order.server, tenant = self.order.whose(), "worker {how}");
        self.state.lock().condemned = Some(how);
        if let Some(shared) = self.shared.upgrade() {
            shared.pool().retire(self.id, StopReason::Memory);
        }
        if let Some(worker) = self.worker.get() {
            worker.kill();
        }
    }

    /// Shakes hands with the process, or asks a spare whether it is there. The receiver gets the outcome, or an error when the link
    /// is dropped first.
    pub(in crate::session) fn greet(
        &self,
        worker: Worker,
    ) -> oneshot::Receiver<Result<(), NotGreeted>> {
        let (tell, outcome) = oneshot::channel();
        let _first = self.worker.set(worker.clone());
        if let Some(account) = &self.account {
            worker.charge_to(account);
        }
        // Set before this look: a stop that came earlier is seen here, a later one sees the worker.
        if self.state.lock().stop.is_some() {
            worker.stop();
        }
        self.with_mux(|state, out| match &state.exited {
            None => {
                state.greeted = Some(tell);
                if self.order.is_spare() {
                    state.mux.probe(out);
                } else {
                    state.mux.greet(&self.order.greeting, out);
                }
            }
            Some(how) => {
                let _listening = tell.send(Err(self.not_greeted(how)));
            }
        });
        outcome
    }

    /// Why the handshake is over.
    pub(super) fn not_greeted(&self, how: &str) -> NotGreeted {
        NotGreeted {
            why: format!(
                "it {how} before it answered `{}`",
                self.order.first_question()
            ),
            may_take_the_other: self.order.greeting.era == Era::Stateless,
        }
    }

    /// Asks a process that says nothing whether it is there.
    pub(in crate::session) fn ask_whether_it_is_there(&self) {
        self.with_mux(|state, out| state.mux.probe(out));
    }

    /// It is there, and had its time.
    pub(super) fn does_not_discover(&self) {
        let told = self.state.lock().greeted.take();
        if let Some(told) = told {
            let _timed_out = told.send(Err(NotGreeted {
                why: "it answered `ping`, and not `server/discover`".to_owned(),
                may_take_the_other: true,
            }));
        }
    }

    /// What became of a start whose handshake did not succeed.
    pub(in crate::session) fn how_the_start_ended(&self) -> labels::StartOutcome {
        let state = self.state.lock();
        match state.exited {
            _ if state.stop.is_some() => labels::StartOutcome::Cancelled,
            Some(_) => labels::StartOutcome::Exited,
            None => labels::StartOutcome::Refused,
        }
    }

    /// How it did not take the first message, where it was not silent.
    pub(in crate::session) fn how_it_refused(&self) -> Refusal {
        match self.state.lock().died_of.map(Signal::try_from) {
            None => Refusal::Said,
            Some(Ok(
                Signal::SIGSEGV
                | Signal::SIGABRT
                | Signal::SIGBUS
                | Signal::SIGILL
                | Signal::SIGFPE
                | Signal::SIGTRAP
                | Signal::SIGSYS
                | Signal::SIGPIPE,
            )) => Refusal::Crashed,
            Some(_) => Refusal::Killed,
        }
    }

    /// It will never serve, for that reason.
    pub(in crate::session) fn note_start_failure(&self, why: &str) {
        self.state.lock().start_failure = Some(why.to_owned());
    }

    /// Why it was stopped, if it has ended because of that.
    pub(super) fn stopped_for(&self, has_obeyed: bool) -> Option<Stop> {
        let stop = self.state.lock().stop.clone();
        stop.filter(|stop| has_obeyed || stop.is_cut_short)
    }

    /// It is not what its order needs, for that reason; how its start ended. Another is started instead.
    pub(in crate::session) fn note_declined(&self, reason: StopReason, why: &str) {
        let mut state = self.state.lock();
        state.stop.get_or_insert(Stop::from(reason));
        state.declined = Some(why.to_owned());
    }

    /// Why it is over, once it is: the reason, and in words.
    pub fn ending(&self, exit: Option<&Exit>) -> (ExitReason, String) {
        let state = self.state.lock();
        if let Some(why) = &state.start_failure {
            return (ExitReason::StartFailed, why.clone());
        }
        if let Some(how) = &state.condemned {
            return (ExitReason::Memory, how.clone());
        }
        let stop = state.stop.as_ref();
        match (stop.filter(|it| it.reason != StopReason::Spoiled), exit) {
            (Some(stop), _) => {
                let what_next = match stop.reason {
                    StopReason::Declined => "the protocol's other era is tried",
                    StopReason::NotBeside => {
                        "it is tried after the other process of its server has ended"
                    }
                    _ => return (stop.reason.exit_reason(), stop.to_string()),
                };
                let how = state.declined.as_ref();
                let told = how.map(|how| format!("{how}; {what_next}"));
                let told = told.unwrap_or_else(|| stop.to_string());
                (stop.reason.exit_reason(), told)
            }
            (None, Some(exit)) => (ExitReason::Crashed, exit.to_string()),
            (None, None) => {
                let reason = StopReason::StartFailed;
                (reason.exit_reason(), Stop::from(reason).to_string())
            }
        }
    }
}
