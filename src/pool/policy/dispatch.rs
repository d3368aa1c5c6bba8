//! Takes events in: each to the part of the policy that it is for, then what is due by now.

use std::time::Instant;

use super::admit::Wanted;
use super::backoff::Blame;
use super::event::{Action, Event};
use super::start_failure::StartFailure;
use super::state::Policy;
use crate::ids::WorkerId;

impl Policy {
    /// Takes one event in and says what to do about it.
    pub fn on(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Acquire {
                ticket,
                key,
                facts,
                claim,
            } => {
                let wanted = Wanted {
                    ticket,
                    key,
                    facts,
                    claim,
                };
                self.want(now, &wanted, out);
            }
            Event::Withdraw(ticket) => self.withdraw(now, ticket, out),
            Event::Ready(worker) => self.ready(now, worker, out),
            Event::StartFailed(worker, failure) => self.failed(now, worker, failure, out),
            Event::Declined(worker, failure) => {
                self.gives_way(worker);
                self.start_failed(now, worker, failure, Blame::None, out);
            }
            Event::Exited { worker, asked } => self.exited(now, worker, asked, out),
            Event::Waits(worker) => {
                self.no_longer_starts(worker);
                self.schedule(now, out);
            }
            Event::Release {
                worker,
                session,
                served,
            } => self.release(now, worker, session, served, out),
            Event::Pin(worker) => self.pin(now, worker, out),
            Event::Unpin(worker) => self.unpin(now, worker, out),
            Event::Measured(worker, bytes) => self.measured(now, worker, bytes, out),
            Event::Reserved(bytes) => self.reserved(now, bytes, out),
            Event::Hibernated(worker, bytes) => self.hibernated(now, worker, bytes, out),
            Event::SpontaneousWake(worker) => self.spontaneous_wake(now, worker, out),
            Event::Hibernate(worker) => self.hibernate(worker, out),
            Event::Pressure(bytes) => {
                self.shed(now, bytes, None, out);
            }
            Event::Retire(worker, reason) => {
                self.retire(now, worker, reason, out);
                self.schedule(now, out);
            }
            Event::RetireKey(key, reason) => self.retire_key(now, key, reason, out),
            Event::Stock(stock) => self.stock(now, stock, out),
            Event::Reconfigure(limits) => self.reconfigure(now, limits, out),
            Event::Drain => self.drain(now, out),
            Event::StopAll(reason) => self.stop_all(now, reason, out),
            Event::Tick => {}
        }
        self.run_timers(now, out);
        self.restock(now, out);
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// A started worker will never serve.
    fn failed(
        &mut self,
        now: Instant,
        worker: WorkerId,
        failure: StartFailure,
        out: &mut Vec<Action>,
    ) {
        // What a caller sets says nothing of the server, nor of what others set.
        let worker_of = self.workers.get(&worker);
        let is_callers = worker_of.is_some_and(|worker| worker.facts.caller_configured);
        let blame = match is_callers || failure.is_for_config() {
            true => Blame::Key,
            false => Blame::Counts,
        };
        self.start_failed(now, worker, failure, blame, out);
    }
}
