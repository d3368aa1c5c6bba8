//! The worker's process as its connection sees it: its handshake, its sleep, its end.

use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use tokio::sync::oneshot;

use super::{LifeStage, WorkerConnection};
use crate::bridge::{EraRefusal, HandshakeError};
use crate::pool::{Stop, StopReason};
use crate::protocol::ExitReason;
use crate::telemetry::labels;
use crate::upstream::outcomes::{exit_reason, why_stopped};
use crate::worker::memory::{freeze, thaw};
use crate::worker::{Exit, Worker};

/// How long a process that is there may still take to answer `server/discover`.
pub(super) const DISCOVERY_GRACE: Duration = Duration::from_secs(1);

impl WorkerConnection {
    /// Ends the worker for an operator, whatever it has in flight.
    pub fn stop_for_operator(&self) {
        self.stop(Stop::from(StopReason::Admin));
    }

    /// Begins the stop sequence; a process that is still being started is stopped as soon as it is there.
    pub(crate) fn stop(&self, stop: Stop) {
        self.note_stop(&stop);
        self.state.lock().stop.get_or_insert(stop);
        // A stopped process hears neither the end of its input nor a polite signal.
        self.wake();
        if let Some(worker) = self.worker.get() {
            worker.stop();
        }
    }

    fn note_stop(&self, stop: &Stop) {
        let mut life = self.life.lock();
        if !life.has(LifeStage::Stopping) {
            life.note(SystemTime::now(), LifeStage::Stopping, &why_stopped(stop));
        }
    }

    /// Notes the first request of a caller.
    pub(super) fn note_first_request(&self) {
        let mut life = self.life.lock();
        if !life.has(LifeStage::FirstRequest) {
            let how = "given its first request";
            life.note(SystemTime::now(), LifeStage::FirstRequest, how);
        }
    }

    /// Lets the worker's memory be paged out, until [`Self::wake`].
    pub(crate) fn fall_asleep(&self) {
        self.hibernation.begin();
    }

    /// Wakes the worker, as it is needed: a page-out under way ends.
    pub(crate) fn wake(&self) {
        self.hibernation.end();
        self.thaw();
    }

    /// Stops its processes for as long as it sleeps.
    pub(crate) fn freeze(&self, processes: Vec<u32>) {
        let mut frozen = self.frozen.lock();
        // Waking clears `asleep` before taking this lock, so that nothing is frozen that is to run.
        if self.is_asleep() {
            freeze(&processes);
            *frozen = processes;
        }
    }

    pub(super) fn thaw(&self) {
        let frozen = std::mem::take(&mut *self.frozen.lock());
        thaw(&frozen);
    }

    /// Whether the worker may be paged out now.
    pub(crate) fn is_asleep(&self) -> bool {
        self.hibernation.is_asleep()
    }

    /// Shakes hands with the process, or asks a spare whether it is there. The receiver gets the outcome, or an error when the connection
    /// is dropped first.
    pub(crate) fn begin_handshake(
        &self,
        worker: Worker,
    ) -> oneshot::Receiver<Result<(), HandshakeError>> {
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
                state.handshake = Some(tell);
                if self.plan.is_spare() {
                    state.mux.probe(out);
                } else {
                    state.mux.begin_handshake(&self.plan.handshake, out);
                }
            }
            Some(how) => {
                let _listening = tell.send(Err(self.handshake_failed(how)));
            }
        });
        outcome
    }

    /// Why the handshake is over.
    pub(super) fn handshake_failed(&self, how: &str) -> HandshakeError {
        let question = self.plan.first_question();
        let why = format!("it {how} before it answered `{question}`");
        HandshakeError::unanswered(&self.plan.handshake, why)
    }

    /// Asks a process that says nothing whether it is there.
    pub(crate) fn ask_whether_it_is_there(&self) {
        self.with_mux(|state, out| state.mux.probe(out));
    }

    /// The process is there, and has not answered `server/discover` in its time: the handshake has failed.
    pub(super) fn does_not_discover(&self) {
        let told = self.state.lock().handshake.take();
        if let Some(told) = told {
            let _timed_out = told.send(Err(HandshakeError::undiscovered()));
        }
    }

    /// What became of a start whose handshake did not succeed.
    pub(crate) fn how_the_start_ended(&self) -> labels::StartOutcome {
        let state = self.state.lock();
        match state.exited {
            _ if state.stop.is_some() => labels::StartOutcome::Cancelled,
            Some(_) => labels::StartOutcome::Exited,
            None => labels::StartOutcome::Refused,
        }
    }

    /// How the process refused the first message, where it was not silent.
    pub(crate) fn how_it_refused(&self) -> EraRefusal {
        match self.state.lock().died_of.map(Signal::try_from) {
            None => EraRefusal::Explicit,
            Some(Ok(
                Signal::SIGSEGV
                | Signal::SIGABRT
                | Signal::SIGBUS
                | Signal::SIGILL
                | Signal::SIGFPE
                | Signal::SIGTRAP
                | Signal::SIGSYS
                | Signal::SIGPIPE,
            )) => EraRefusal::Crashed,
            Some(_) => EraRefusal::Killed,
        }
    }

    /// Notes that the process will never serve, and why.
    pub(crate) fn note_start_failure(&self, why: &str) {
        self.state.lock().start_failure = Some(why.to_owned());
    }

    /// Why the worker was stopped, if it has ended because of that.
    pub(super) fn stopped_for(&self, has_obeyed: bool) -> Option<Stop> {
        let stop = self.state.lock().stop.clone();
        stop.filter(|stop| has_obeyed || stop.is_cut_short)
    }

    /// Notes that the process is not what its start plan needs, for that reason, and how its start ended; another is started
    /// instead.
    pub(crate) fn note_declined(&self, reason: StopReason, why: &str) {
        let mut state = self.state.lock();
        state.stop.get_or_insert(Stop::from(reason));
        state.declined = Some(why.to_owned());
    }

    /// Why the worker is over, once it is: the reason, and in words.
    pub fn ending(&self, exit: Option<&Exit>) -> (ExitReason, String) {
        let state = self.state.lock();
        if let Some(why) = &state.start_failure {
            return (ExitReason::StartFailed, why.clone());
        }
        if let Some(how) = &state.kill_reason {
            let (reason, how) = how;
            return (exit_reason(Some(*reason)), how.clone());
        }
        let stop = state.stop.as_ref();
        match (stop.filter(|it| it.reason != StopReason::Invalidated), exit) {
            (Some(stop), _) => {
                let what_next = match stop.reason {
                    StopReason::Declined => "the protocol's other era is tried",
                    StopReason::NotBeside => {
                        "it is tried after the other process of its server has ended"
                    }
                    _ => return (exit_reason(Some(stop.reason)), why_stopped(stop)),
                };
                let how = state.declined.as_ref();
                let told = how.map(|how| format!("{how}; {what_next}"));
                let told = told.unwrap_or_else(|| why_stopped(stop));
                (exit_reason(Some(stop.reason)), told)
            }
            (None, Some(exit)) => (ExitReason::Crashed, exit.to_string()),
            (None, None) => {
                let reason = StopReason::StartFailed;
                (exit_reason(Some(reason)), why_stopped(&Stop::from(reason)))
            }
        }
    }
}
