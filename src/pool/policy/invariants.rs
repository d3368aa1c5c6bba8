//! What must hold after every event.

use rustc_hash::FxHashMap;

use super::footprint::Sleep;
use super::state::{Phase, Policy, Timer, WorkerRecord};

impl Policy {
    /// Panics when the tables disagree with each other. Walks everything: for debug builds and tests.
    pub fn check_invariants(&self) {
        self.check_counts();
        self.check_idle();
        self.check_queue();
        self.check_memory();
    }

    fn check_counts(&self) {
        let count = |phase| self.workers.values().filter(|w| w.phase == phase).count();
        let counted = self.workers.values().filter(|w| w.counts_until.is_some());
        assert!(
            counted.clone().all(|w| w.phase == Phase::Starting),
            "counts as a start"
        );
        assert_eq!(self.starting.len(), counted.count(), "starting");
        let takes_start_permit = |id| self.workers[id].counts_until.is_some();
        assert!(
            self.starting.iter().all(takes_start_permit),
            "who takes a start permit"
        );
        assert_eq!(self.stopping, count(Phase::Stopping), "stopping");
        let mut of_tenant: FxHashMap<_, usize> = FxHashMap::default();
        let mut of_server: FxHashMap<_, usize> = FxHashMap::default();
        let mut of_key: FxHashMap<_, usize> = FxHashMap::default();
        for (id, worker) in &self.workers {
            *of_tenant.entry(&worker.facts.tenant).or_default() += 1;
            *of_server.entry(&worker.facts.server).or_default() += 1;
            *of_key.entry(worker.key).or_default() += 1;
            let is_open = worker.phase != Phase::Stopping && worker.retiring.is_none();
            let record = self.keys.get(&worker.key).expect("a worker's key is known");
            assert_eq!(
                record.workers.contains(id),
                is_open,
                "open workers of a key"
            );
            assert!(worker.phase != Phase::Starting || worker.in_flight == 0);
            assert!(
                worker.owner.is_none() || worker.in_flight > 0,
                "an owner holds a slot"
            );
            let of_sessions: usize = worker.of_sessions.values().sum();
            assert_eq!(worker.in_flight, of_sessions, "slots are sessions'");
        }
        for (id, tenant) in &self.tenants {
            assert_eq!(
                tenant.alive,
                of_tenant.get(id).copied().unwrap_or(0),
                "{id}"
            );
            assert!(tenant.alive > 0 || tenant.waiting > 0, "{id} is unused");
        }
        let weights: u64 = self.tenants.values().map(|t| u64::from(t.weight)).sum();
        assert_eq!(self.total_weight, weights);
        for (name, server) in &self.servers {
            assert_eq!(
                server.alive,
                of_server.get(name).copied().unwrap_or(0),
                "{name}"
            );
        }
        for (key, record) in &self.keys {
            assert_eq!(record.alive, of_key.get(key).copied().unwrap_or(0), "{key}");
        }
        self.check_lineages();
    }

    fn check_lineages(&self) {
        let listed: usize = self.lineages.values().map(|workers| workers.len()).sum();
        assert_eq!(listed, self.workers.len(), "each in one lineage");
        for (lineage, workers) in &self.lineages {
            assert!(!workers.is_empty(), "an unused lineage");
            let is_of_it = |id| self.workers[id].lineage == *lineage;
            assert!(workers.iter().all(is_of_it), "{lineage:?}");
        }
        for (siblings, workers) in &self.siblings {
            assert!(!workers.is_empty(), "siblings of nobody");
            let is_of_them = |id| self.workers[id].facts.siblings == Some(*siblings);
            assert!(workers.iter().all(is_of_them), "{siblings:?}");
        }
        let with_siblings = |worker: &&WorkerRecord| worker.facts.siblings.is_some();
        assert_eq!(
            self.siblings
                .values()
                .map(|workers| workers.len())
                .sum::<usize>(),
            self.workers.values().filter(with_siblings).count(),
            "each once"
        );
        for worker in self.workers.values() {
            let is_draining = worker.retiring.is_some() && worker.phase == Phase::Ready;
            assert!(is_draining || worker.drains_until.is_none(), "who drains");
            // A worker with nothing in flight is stopped.
            assert_eq!(is_draining, worker.drains_until.is_some(), "who drains");
        }
    }

    fn check_idle(&self) {
        let ranked = self
            .workers
            .values()
            .filter(|w| w.idle_rank.is_some())
            .count();
        assert_eq!(ranked, self.idle.len(), "idle workers");
        for (id, ()) in &self.idle {
            let worker = &self.workers[id];
            assert_eq!(
                (worker.phase, worker.in_flight, worker.pins),
                (Phase::Ready, 0, 0)
            );
            assert!(worker.retiring.is_none() && worker.idle_timer.is_some());
            let place = (worker.idle_rank.expect("ranked"), *id);
            assert!(self.tenants[&worker.facts.tenant].idle.contains(&place));
            assert!(self.servers[&worker.facts.server].idle.contains(&place));
        }
        assert!(self.yielding.keys().all(|id| self.workers.contains_key(id)));
    }

    fn check_memory(&self) {
        let charged: u64 = self.workers.values().map(|w| w.memory).sum();
        assert_eq!(self.memory(), charged, "what is charged");
        for (id, worker) in &self.workers {
            let leaves = worker.phase == Phase::Stopping || worker.sleep == Sleep::FallingAsleep;
            assert_eq!(self.memory.leaving.contains(id), leaves, "who leaves");
            let is_awake = worker.sleep == Sleep::Awake && !worker.is_page_out_unsupported;
            let can_sleep = worker.idle_rank.is_some() && is_awake;
            assert_eq!(
                self.memory.sleepable.contains(id),
                can_sleep,
                "who can sleep"
            );
            let is_armed = |at| self.timers.contains(&(at, Timer::Sleep(*id)));
            assert!(worker.sleep_timer.is_none_or(is_armed), "sleep timer");
            assert!(
                worker.sleep == Sleep::Awake || worker.in_flight == 0,
                "who works is awake"
            );
        }
    }

    fn check_queue(&self) {
        let waiting: usize = self.keys.values().map(|record| record.waiting.len()).sum();
        assert_eq!(waiting, self.tickets.len(), "tickets wait at their keys");
        let of_tenants: usize = self.tenants.values().map(|tenant| tenant.waiting).sum();
        assert_eq!(
            of_tenants,
            self.tickets.len(),
            "tickets wait for their tenants"
        );
        for (id, ticket) in &self.tickets {
            assert!(self.keys[&ticket.key].waiting.contains(id));
            assert!(
                self.tenants[&ticket.tenant]
                    .waiting_keys
                    .contains(&ticket.key)
            );
            assert!(self.ring.contains(&ticket.tenant));
        }
        for (key, record) in &self.keys {
            // On an exclusive worker, whoever is first waits until its owner has ended.
            let served = if record.facts.exclusive {
                1
            } else {
                usize::MAX
            };
            for id in record.waiting.iter().take(served) {
                let claim = self.tickets[id].claim;
                assert!(
                    self.free_slot(*key, claim).is_none(),
                    "who waits could be served"
                );
            }
        }
        let in_ring = self
            .tenants
            .values()
            .filter(|tenant| tenant.waiting > 0)
            .count();
        assert_eq!(self.ring.len(), in_ring);
    }
}
