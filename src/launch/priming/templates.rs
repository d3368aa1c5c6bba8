//! The templates there are, and when one comes and goes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::ids::{ServerName, WorkerId};

/// Templates at a time.
pub const MAX_TEMPLATES: usize = 16;
/// A template that forked nothing for so long goes.
pub const UNUSED: Duration = Duration::from_secs(3600);
/// A version whose template ended by itself so often, or was too slow, gets no other.
const MAX_DEATHS: u32 = 3;
/// Versions of which it is remembered that they are not primed.
const MAX_BARRED: usize = 256;

/// What a template is of: an entry of the package cache, which is one version, and a program in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TemplateKey {
    /// Name of the entry.
    pub entry: String,
    /// Name of the program.
    pub program: String,
}

/// What a template does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The template imports.
    Starting,
    /// The template forks workers.
    Ready,
    /// The template was told to end.
    Stopping,
}

#[derive(Clone, Debug)]
struct Record {
    worker: WorkerId,
    phase: Phase,
    used: Instant,
}

/// A version that is not primed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Barred {
    /// Why, in words.
    pub why: String,
    since: Instant,
}

/// A template as others see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TemplateView {
    /// The package version that the template is of.
    pub key: TemplateKey,
    /// The process, by its worker id.
    pub worker: WorkerId,
    /// What the template does.
    pub phase: Phase,
}

/// Decides which templates there are.
#[derive(Clone, Default, Debug)]
pub struct Templates {
    there: BTreeMap<TemplateKey, Record>,
    deaths: BTreeMap<TemplateKey, u32>,
    barred: BTreeMap<TemplateKey, Barred>,
    /// What each server ran last.
    of_servers: BTreeMap<ServerName, TemplateKey>,
}

impl Templates {
    /// A server has been started from that version. Returns the templates to stop that no server runs any more.
    #[must_use]
    pub fn runs(&mut self, server: &ServerName, key: &TemplateKey) -> Vec<WorkerId> {
        let before = self.of_servers.insert(server.clone(), key.clone());
        let Some(before) = before.filter(|before| before != key) else {
            return vec![];
        };
        match self.of_servers.values().any(|it| *it == before) {
            true => vec![],
            false => self.stop(&before).into_iter().collect(),
        }
    }

    /// The version has a template, in whatever phase.
    pub fn has(&self, key: &TemplateKey) -> bool {
        self.there.contains_key(key)
    }

    /// An ordinary start of that version has succeeded: whether `worker` is to be started as its template.
    #[must_use]
    pub fn wants(&mut self, now: Instant, key: &TemplateKey, worker: WorkerId) -> bool {
        if self.there.contains_key(key)
            || self.barred.contains_key(key)
            || self.there.len() >= MAX_TEMPLATES
        {
            return false;
        }
        let record = Record {
            worker,
            phase: Phase::Starting,
            used: now,
        };
        self.there.insert(key.clone(), record);
        self.check();
        true
    }

    /// A template has imported all it will.
    pub fn ready(&mut self, now: Instant, worker: WorkerId) {
        if let Some((_, record)) = self.of(worker)
            && record.phase == Phase::Starting
        {
            record.phase = Phase::Ready;
            record.used = now;
        }
        self.check();
    }

    /// The process that a start of that version is forked from, if one is ready.
    #[must_use]
    pub fn take(&mut self, now: Instant, key: &TemplateKey) -> Option<WorkerId> {
        let record = self.there.get_mut(key)?;
        if record.phase != Phase::Ready {
            return None;
        }
        record.used = now;
        Some(record.worker)
    }

    /// A process that waits has become a worker, or is about to: there is none of that version any more.
    pub fn taken(&mut self, worker: WorkerId) {
        let key = self.of(worker).map(|(key, _)| key.clone());
        if let Some(key) = key {
            self.there.remove(&key);
        }
        self.check();
    }

    /// The config has changed: these servers are primed. Returns the templates to stop of versions that none of them runs.
    #[must_use]
    pub fn keep(&mut self, is_primed: impl Fn(&ServerName) -> bool) -> Vec<WorkerId> {
        self.of_servers.retain(|server, _| is_primed(server));
        let run: Vec<_> = self.of_servers.values().cloned().collect();
        let there = self.there.keys().filter(|key| !run.contains(key));
        let unwanted: Vec<TemplateKey> = there.cloned().collect();
        unwanted.iter().filter_map(|key| self.stop(key)).collect()
    }

    /// A process that waits was too slow to become a worker, and is gone. Returns the next one, to stop it, if its version is not primed any more.
    #[must_use]
    pub fn late(&mut self, now: Instant, key: &TemplateKey, why: &str) -> Option<WorkerId> {
        self.died(now, key, why);
        let is_barred = self.barred.contains_key(key);
        is_barred.then(|| self.stop(key)).flatten()
    }

    /// A start from a template failed: the version is not primed again. Returns the template to stop, if it is there.
    #[must_use]
    pub fn failed(&mut self, now: Instant, key: &TemplateKey, why: &str) -> Option<WorkerId> {
        self.bar(now, key, why);
        self.stop(key)
    }

    /// Nothing is left of a template.
    pub fn ended(&mut self, now: Instant, worker: WorkerId, why: &str) {
        let Some((key, record)) = self.of(worker) else {
            return;
        };
        let (key, phase) = (key.clone(), record.phase);
        self.there.remove(&key);
        match phase {
            Phase::Stopping => {}
            Phase::Starting => self.bar(now, &key, why),
            Phase::Ready => self.died(now, &key, why),
        }
        self.check();
    }

    fn died(&mut self, now: Instant, key: &TemplateKey, why: &str) {
        let deaths = self.deaths.entry(key.clone()).or_default();
        *deaths += 1;
        if *deaths >= MAX_DEATHS {
            self.deaths.remove(key);
            self.bar(now, key, why);
        }
    }

    /// Time has passed. Returns the templates to stop, as nobody has used them for long.
    #[must_use]
    pub fn tick(&mut self, now: Instant) -> Vec<WorkerId> {
        let is_unused = |record: &Record| {
            record.phase == Phase::Ready && now.saturating_duration_since(record.used) >= UNUSED
        };
        let unused = self.there.iter().filter(|(_, record)| is_unused(record));
        let unused: Vec<TemplateKey> = unused.map(|(key, _)| key.clone()).collect();
        unused.iter().filter_map(|key| self.stop(key)).collect()
    }

    /// Memory is short. Returns the template to stop: the one that was used longest ago.
    #[must_use]
    pub fn shed(&mut self) -> Option<WorkerId> {
        let ready = self.there.iter().filter(|(_, it)| it.phase == Phase::Ready);
        let oldest = ready.min_by_key(|(_, record)| record.used)?.0.clone();
        self.stop(&oldest)
    }

    /// Why that version is not primed.
    pub fn barred(&self, key: &TemplateKey) -> Option<&Barred> {
        self.barred.get(key)
    }

    /// All versions that are not primed.
    pub fn all_barred(&self) -> impl Iterator<Item = (&TemplateKey, &Barred)> {
        self.barred.iter()
    }

    /// The templates there are.
    pub fn all(&self) -> Vec<TemplateView> {
        let view = |(key, record): (&TemplateKey, &Record)| TemplateView {
            key: key.clone(),
            worker: record.worker,
            phase: record.phase,
        };
        self.there.iter().map(view).collect()
    }

    fn of(&mut self, worker: WorkerId) -> Option<(&TemplateKey, &mut Record)> {
        let mut all = self.there.iter_mut();
        all.find(|(_, record)| record.worker == worker)
    }

    fn stop(&mut self, key: &TemplateKey) -> Option<WorkerId> {
        let record = self.there.get_mut(key)?;
        if record.phase == Phase::Stopping {
            return None;
        }
        record.phase = Phase::Stopping;
        Some(record.worker)
    }

    fn bar(&mut self, now: Instant, key: &TemplateKey, why: &str) {
        if self.barred.contains_key(key) {
            return;
        }
        if self.barred.len() >= MAX_BARRED
            && let Some(oldest) = self.barred.iter().min_by_key(|(_, it)| it.since)
        {
            let oldest = oldest.0.clone();
            self.barred.remove(&oldest);
        }
        let why = why.to_owned();
        self.barred.insert(key.clone(), Barred { why, since: now });
    }

    /// What always holds.
    fn check(&self) {
        debug_assert!(self.there.len() <= MAX_TEMPLATES);
        debug_assert!(self.barred.len() <= MAX_BARRED);
        debug_assert!(
            self.there.iter().all(|(key, record)| {
                record.phase == Phase::Stopping || !self.barred.contains_key(key)
            }),
            "a barred version has a template"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(entry: u8) -> TemplateKey {
        TemplateKey {
            entry: format!("pypi-{entry}"),
            program: "server".to_owned(),
        }
    }

    #[test]
    fn a_version_is_primed_until_a_start_from_its_template_fails() {
        let (now, mut templates) = (Instant::now(), Templates::default());
        assert!(templates.wants(now, &key(1), WorkerId(1)));
        assert!(!templates.wants(now, &key(1), WorkerId(2)), "it has one");
        assert_eq!(templates.take(now, &key(1)), None, "it is not ready");
        templates.ready(now, WorkerId(1));
        assert_eq!(templates.take(now, &key(1)), Some(WorkerId(1)));
        assert_eq!(templates.failed(now, &key(1), "x"), Some(WorkerId(1)));
        assert_eq!(templates.take(now, &key(1)), None);
        templates.ended(now, WorkerId(1), "");
        assert!(!templates.wants(now, &key(1), WorkerId(3)));
        assert_eq!(
            templates.barred(&key(1)).map(|it| it.why.as_str()),
            Some("x")
        );
    }

    #[test]
    fn a_template_that_nobody_uses_goes_and_comes_again() {
        let (now, mut templates) = (Instant::now(), Templates::default());
        assert!(templates.wants(now, &key(1), WorkerId(1)));
        templates.ready(now, WorkerId(1));
        assert_eq!(templates.tick(now + UNUSED - Duration::from_secs(1)), []);
        assert_eq!(templates.tick(now + UNUSED), [WorkerId(1)]);
        templates.ended(now + UNUSED, WorkerId(1), "");
        assert!(templates.wants(now + UNUSED, &key(1), WorkerId(2)));
    }

    #[test]
    fn a_template_of_a_version_that_no_server_runs_goes() {
        let (now, mut templates) = (Instant::now(), Templates::default());
        let [one, two] = ["one", "two"].map(ServerName::new);
        for server in [&one, &two] {
            assert_eq!(templates.runs(server, &key(1)), []);
        }
        assert!(templates.wants(now, &key(1), WorkerId(1)));
        templates.ready(now, WorkerId(1));
        assert_eq!(templates.runs(&one, &key(2)), [], "the other runs it");
        assert_eq!(templates.runs(&two, &key(2)), [WorkerId(1)]);
    }

    #[test]
    fn one_that_is_killed_again_and_again_is_not_started_again() {
        let (now, mut templates) = (Instant::now(), Templates::default());
        for worker in 1..=u64::from(MAX_DEATHS) {
            assert!(templates.wants(now, &key(1), WorkerId(worker)));
            templates.ready(now, WorkerId(worker));
            templates.ended(now, WorkerId(worker), "killed");
        }
        assert!(!templates.wants(now, &key(1), WorkerId(9)));
    }

    #[test]
    fn a_process_that_waits_is_used_once_and_another_may_come() {
        let (now, mut templates) = (Instant::now(), Templates::default());
        assert!(templates.wants(now, &key(1), WorkerId(1)));
        templates.ready(now, WorkerId(1));
        assert_eq!(templates.take(now, &key(1)), Some(WorkerId(1)));
        templates.taken(WorkerId(1));
        assert_eq!(templates.take(now, &key(1)), None);
        assert!(templates.wants(now, &key(1), WorkerId(2)));
        for _ in 0..MAX_DEATHS - 1 {
            assert_eq!(templates.late(now, &key(1), "late"), None);
        }
        assert_eq!(templates.late(now, &key(1), "late"), Some(WorkerId(2)));
        assert!(templates.barred(&key(1)).is_some());
    }

    #[test]
    fn templates_of_servers_that_are_not_primed_any_more_go() {
        let (now, mut templates) = (Instant::now(), Templates::default());
        let [one, two] = ["one", "two"].map(ServerName::new);
        for server in [&one, &two] {
            assert_eq!(templates.runs(server, &key(1)), []);
        }
        assert!(templates.wants(now, &key(1), WorkerId(1)));
        templates.ready(now, WorkerId(1));
        assert_eq!(templates.keep(|name| *name == one), []);
        assert_eq!(templates.keep(|_| false), [WorkerId(1)]);
        assert_eq!(templates.keep(|_| false), [], "it is told once");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Taken(u8),
        Late(u8),
        Keep(u8),
        Wants(u8),
        Ready(u8),
        Take(u8),
        Failed(u8),
        Ended(u8),
        Runs(u8, u8),
        Tick(u16),
        Shed,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u8..200).prop_map(Step::Taken),
            (0_u8..40).prop_map(Step::Late),
            (0_u8..4).prop_map(Step::Keep),
            (0_u8..40).prop_map(Step::Wants),
            (0_u8..200).prop_map(Step::Ready),
            (0_u8..40).prop_map(Step::Take),
            (0_u8..40).prop_map(Step::Failed),
            (0_u8..200).prop_map(Step::Ended),
            (0_u8..4, 0_u8..40).prop_map(|(server, entry)| Step::Runs(server, entry)),
            (0_u16..5000).prop_map(Step::Tick),
            Just(Step::Shed),
        ]
    }

    proptest! {
        /// Whatever happens: each template that is told to stop was there and is told once; none forks that is not ready, and none of
        /// a barred version.
        #[test]
        fn templates_come_and_go_by_their_states(steps in prop::collection::vec(step(), 1..200)) {
            let (mut now, mut templates) = (Instant::now(), Templates::default());
            let mut next = 0;
            let mut stopped = std::collections::BTreeSet::new();
            for step in steps {
                let mut told = vec![];
                match step {
                    Step::Wants(entry) => {
                        if templates.wants(now, &key(entry), WorkerId(next)) {
                            prop_assert!(templates.barred(&key(entry)).is_none());
                            next += 1;
                        }
                    }
                    Step::Taken(worker) => {
                        let worker = WorkerId(u64::from(worker));
                        let mut all = templates.all().into_iter();
                        if all.any(|it| it.worker == worker && it.phase == Phase::Ready) {
                            templates.taken(worker);
                            prop_assert!(stopped.insert(worker));
                        }
                    }
                    Step::Late(entry) => told.extend(templates.late(now, &key(entry), "late")),
                    Step::Keep(server) => {
                        let server = ServerName::new(format!("s{server}"));
                        told = templates.keep(|name| *name != server);
                    }
                    Step::Ready(worker) => templates.ready(now, WorkerId(u64::from(worker))),
                    Step::Take(entry) => {
                        if let Some(worker) = templates.take(now, &key(entry)) {
                            prop_assert!(!stopped.contains(&worker));
                            prop_assert!(templates.barred(&key(entry)).is_none());
                        }
                    }
                    Step::Failed(entry) => told.extend(templates.failed(now, &key(entry), "x")),
                    Step::Ended(worker) => {
                        templates.ended(now, WorkerId(u64::from(worker)), "ended");
                        prop_assert!(templates.all().iter().all(|it| it.worker.0 != u64::from(worker)));
                    }
                    Step::Runs(server, entry) => {
                        told = templates.runs(&ServerName::new(format!("s{server}")), &key(entry));
                    }
                    Step::Tick(seconds) => {
                        now += Duration::from_secs(u64::from(seconds));
                        told = templates.tick(now);
                    }
                    Step::Shed => told.extend(templates.shed()),
                }
                for worker in told {
                    prop_assert!(worker.0 < next);
                    prop_assert!(stopped.insert(worker), "{worker} is told twice");
                }
                templates.check();
            }
        }
    }
}
