//! What happens in a world at random: callers, starts, ends, memory.

use super::*;

impl World {
    /// One random event.
    pub(super) fn step(&mut self) {
        match self.rng.below(100) {
            0..40 => self.want(),
            40..62 => self.release(),
            62..74 => self.start_ends(),
            74..84 => self.process_ends(),
            84..86 => self.crash(),
            86..89 => {
                let waiting: Vec<_> = self.waiting.keys().copied().collect();
                if let Some(ticket) = self.rng.pick(&waiting).copied() {
                    self.waiting.remove(&ticket);
                    self.tell(Event::Withdraw(ticket));
                }
            }
            89 => self.pin(),
            90 => self.weigh(),
            91..92 => {
                let ids: Vec<_> = self.processes.keys().copied().collect();
                if let Some(id) = self.rng.pick(&ids).copied() {
                    self.tell(Event::Retire(id, StopReason::Admin));
                }
            }
            92 => {
                let (key, _) = self.keys[self.rng.between(0, self.keys.len() - 1)];
                self.tell(Event::RetireKey(key, StopReason::Config));
            }
            93 if self.rng.below(4) == 0 => {
                self.spares.1 = spares_of(&mut self.rng, self.spares.1.server_max_workers).1;
                let (key, facts) = self.spares.clone();
                let stock = (self.rng.below(4) > 0).then_some(Stock { key, facts });
                self.tell(Event::Stock(stock.into_iter().collect()));
            }
            94 if self.rng.below(4) == 0 => {
                self.limits = limits(&mut self.rng);
                self.tell(Event::Reconfigure(self.limits.clone()));
            }
            _ => {
                self.now += match self.rng.below(3) {
                    0 => Duration::from_millis(self.rng.below(900)),
                    1 => self.rng.seconds(0, 5),
                    _ => self
                        .policy
                        .next_deadline()
                        .map_or(Duration::ZERO, |at| at.saturating_duration_since(self.now)),
                };
                self.tell(Event::Tick);
            }
        }
    }

    fn want(&mut self) {
        let (key, facts) = self.keys[self.rng.between(0, self.keys.len() - 1)].clone();
        let ticket = TicketId(self.next_ticket);
        self.next_ticket += 1;
        let owner = self.rng.below(4);
        // Of this key or another, or gone.
        let prefers = self.rng.below(60);
        let prefers = (prefers < 40).then_some(WorkerId(prefers));
        self.waiting.insert(ticket, (key, owner));
        self.tell(Event::Acquire {
            ticket,
            key,
            facts,
            claim: Claim {
                owner,
                session: owner,
                prefers,
            },
        });
    }

    pub(super) fn release(&mut self) {
        if self.leases.is_empty() {
            return;
        }
        let at = self.rng.between(0, self.leases.len() - 1);
        let (id, owner) = self.leases.swap_remove(at);
        if let Some(process) = self.processes.get_mut(&id) {
            let held = process.owners.iter().position(|other| *other == owner);
            process.owners.swap_remove(held.expect("it was granted"));
        }
        let served = self.rng.below(4) > 0;
        self.tell(Event::Release {
            worker: id,
            session: owner,
            served,
        });
    }

    pub(super) fn start_ends(&mut self) {
        let starting = self.with_life(Life::Starting);
        let Some(id) = self.rng.pick(&starting).copied() else {
            return;
        };
        let is_well = self.rng.below(6) > 0;
        let waits = self.rng.below(5) == 0;
        let process = self.processes.get_mut(&id).expect("it is there");
        if waits {
            process.waits = true;
            self.tell(Event::Waits(id));
            return;
        }
        if is_well {
            process.life = Life::Ready;
            self.tell(Event::Ready(id));
        } else {
            process.life = Life::Ending;
            let failure = StartFailure::Failed("no luck".into());
            let event = match self.rng.below(4) {
                0 => {
                    let facts = self.facts(self.processes[&id].key);
                    let elsewhere = facts.lineage_if_declined;
                    let process = self.processes.get_mut(&id).expect("it is there");
                    process.lineage = elsewhere.unwrap_or(process.lineage);
                    Event::Declined(id, failure)
                }
                1 => Event::StartFailed(id, StartFailure::Config("no good".into())),
                _ => Event::StartFailed(id, failure),
            };
            self.tell(event);
        }
    }

    pub(super) fn process_ends(&mut self) {
        let ending = self.with_life(Life::Ending);
        if let Some(id) = self.rng.pick(&ending).copied() {
            self.processes.remove(&id);
            self.tell(Event::Exited {
                worker: id,
                asked: true,
            });
        }
    }

    fn crash(&mut self) {
        let ids: Vec<_> = self.processes.keys().copied().collect();
        if let Some(id) = self.rng.pick(&ids).copied() {
            self.processes.remove(&id);
            self.tell(Event::Exited {
                worker: id,
                asked: false,
            });
        }
    }

    /// Measurements, page-outs that end, words in sleep, pressure, an operator who wants memory back.
    fn weigh(&mut self) {
        let ids: Vec<_> = self.processes.keys().copied().collect();
        let Some(id) = self.rng.pick(&ids).copied() else {
            return;
        };
        let bytes = self.rng.below(300) << 20;
        match self.rng.below(8) {
            0 if bytes.is_multiple_of(2 << 20) => self.tell(Event::Pressure(bytes)),
            0 => self.tell(Event::Hibernate(id)),
            1 => self.tell(Event::SpontaneousWake(id)),
            2..4 => self.tell(Event::Measured(id, bytes)),
            _ => {
                let paging = self.processes.iter().filter(|(_, p)| p.is_paging_out);
                let paging: Vec<_> = paging.map(|(id, _)| *id).collect();
                if let Some(id) = self.rng.pick(&paging).copied() {
                    let left = (self.rng.below(9) > 0).then_some(bytes / 8);
                    self.paged_out(id, left);
                }
            }
        }
    }

    pub(super) fn paged_out(&mut self, id: WorkerId, left: Option<u64>) {
        let process = self.processes.get_mut(&id).expect("it is there");
        process.is_paging_out = false;
        // The policy takes no notice of one that is being stopped.
        process.sleeps &= left.is_some();
        self.tell(Event::Hibernated(id, left));
    }

    fn pin(&mut self) {
        let ids: Vec<_> = self.processes.keys().copied().collect();
        let Some(id) = self.rng.pick(&ids).copied() else {
            return;
        };
        let pins = self.rng.below(2) == 0;
        let process = self.processes.get_mut(&id).expect("it is there");
        if pins {
            process.pins += 1;
            self.tell(Event::Pin(id));
        } else if process.pins > 0 {
            process.pins -= 1;
            self.tell(Event::Unpin(id));
        }
    }
}
