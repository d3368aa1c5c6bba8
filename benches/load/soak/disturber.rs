//! Kills, stops and changes what serves, at moments that a seed decides.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use super::super::Result;
use super::super::hostile::{Attacker, Flood, NOISE};
use super::client::Shared;
use super::config::{self, Setting};
use super::supervisor::{Supervisor, signal_to};

/// Between two disturbances, in milliseconds.
const BETWEEN: std::ops::Range<u64> = 50..600;
/// How long one life of the supervisor lasts, in seconds.
const LIFE: std::ops::Range<u64> = 20..90;
/// How long the guardian is stopped, in milliseconds: shorter and longer than until it is replaced.
const GUARDIAN_STOPS: std::ops::Range<u64> = 200..9000;
/// Memory of a supervisor, beside noise, that is more than any bound lets it hold, in bytes.
const MAX_MEMORY: u64 = 1 << 30;
/// How long one kind of noise lasts, and the pause after it.
const NOISE_PERIOD: Duration = Duration::from_secs(20);
const NOISE_PAUSE: Duration = Duration::from_secs(5);

/// Whoever disturbs; it has the supervisor.
pub(crate) struct Disturber {
    supervisor: Supervisor,
    dir: std::path::PathBuf,
    setting: Setting,
    random: SmallRng,
    shared: Arc<Shared>,
    life: Duration,
}

impl Disturber {
    pub(crate) fn new(
        supervisor: Supervisor,
        setting: &Setting,
        mut random: SmallRng,
        shared: Arc<Shared>,
    ) -> Self {
        let life = Duration::from_secs(random.random_range(LIFE));
        Self {
            dir: supervisor.dir().to_owned(),
            supervisor,
            setting: setting.clone(),
            random,
            shared,
            life,
        }
    }

    pub(crate) fn into_supervisor(self) -> Supervisor {
        self.supervisor
    }

    /// Waits a little, and does one thing.
    ///
    /// # Errors
    /// If the supervisor does not end or start.
    pub(crate) async fn disturb(&mut self) -> Result<()> {
        sleep(Duration::from_millis(self.random.random_range(BETWEEN))).await;
        if self.supervisor.began.elapsed() >= self.life {
            return self.restart().await;
        }
        match self.random.random_range(0..20) {
            0..9 => self.kill_worker().await,
            9..13 => self.stop_worker().await,
            13 => self.kill_guardian(),
            14 => self.stop_guardian().await,
            15..18 => self.change_limits()?,
            _ => {}
        }
        Ok(())
    }

    async fn restart(&mut self) -> Result<()> {
        let memory = self.supervisor.held()?.memory;
        if memory > MAX_MEMORY {
            let mut tally = self.shared.tally.lock();
            tally.leaked += 1;
            tally.fault(format!("the supervisor held {} MiB", memory >> 20));
        }
        let (signal, what) = match self.random.random_bool(0.7) {
            true => (Signal::SIGKILL, "supervisor killed"),
            false => (Signal::SIGTERM, "supervisor told to end"),
        };
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        let left = self.supervisor.restart(signal).await?;
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        self.life = Duration::from_secs(self.random.random_range(LIFE));
        let mut tally = self.shared.tally.lock();
        tally.did(what);
        tally.leaked += left.len() as u64;
        for process in left {
            tally.fault(format!("left over after {signal}: {process}"));
        }
        Ok(())
    }

    async fn kill_worker(&mut self) {
        let workers = self.supervisor.workers().await;
        let pids = workers.iter().filter_map(|worker| worker["pid"].as_u64());
        let pids: Vec<_> = pids.filter_map(|pid| u32::try_from(pid).ok()).collect();
        if !pids.is_empty() {
            let pid = pids[self.random.random_range(0..pids.len())];
            signal_to(pid, Signal::SIGKILL);
            self.shared.tally.lock().did("workers killed");
        }
    }

    async fn stop_worker(&mut self) {
        let workers = self.supervisor.workers().await;
        if !workers.is_empty() {
            let worker = &workers[self.random.random_range(0..workers.len())];
            let id = worker["id"].as_str().unwrap_or_default();
            self.supervisor.stop(id).await;
            self.shared.tally.lock().did("workers stopped");
        }
    }

    fn kill_guardian(&self) {
        if let Some(pid) = self.supervisor.guardian() {
            signal_to(pid, Signal::SIGKILL);
            self.shared.tally.lock().did("guardian killed");
        }
    }

    async fn stop_guardian(&mut self) {
        if let Some(pid) = self.supervisor.guardian() {
            signal_to(pid, Signal::SIGSTOP);
            let stopped = Duration::from_millis(self.random.random_range(GUARDIAN_STOPS));
            sleep(stopped).await;
            // One that was replaced meanwhile has gone, or is another's pid by now.
            if self.supervisor.guardian() == Some(pid) {
                signal_to(pid, Signal::SIGCONT);
            }
            self.shared.tally.lock().did("guardian stopped");
        }
    }

    fn change_limits(&mut self) -> Result<()> {
        config::write(&self.dir, &self.setting, &mut self.random)?;
        self.supervisor.signal(Signal::SIGHUP);
        self.shared.tally.lock().did("limits changed by reload");
        Ok(())
    }
}

/// A neighbour that takes of the host what it gets, in one way or two at a time, until it is over.
///
/// # Errors
/// If its process cannot be started, or does not say what it did.
pub(crate) async fn noise(address: String, seed: u64, shared: Arc<Shared>) -> Result<()> {
    let mut random = SmallRng::seed_from_u64(seed);
    while !shared.is_over() {
        let count = random.random_range(1..=2);
        let floods: Vec<&Flood> = (0..count)
            .map(|_| &NOISE[random.random_range(0..NOISE.len())])
            .collect();
        let (mut attacker, _handle) = Attacker::start(&address, &floods, NOISE_PERIOD)?;
        attacker.until_ready().await?;
        let end = Instant::now() + NOISE_PERIOD;
        while Instant::now() < end && !shared.is_over() {
            sleep(Duration::from_millis(200)).await;
        }
        // What it was answered is what each of these has its own measurement for.
        let _report = attacker.finish().await?;
        for flood in floods {
            let what = format!("noise: {}", flood.name);
            shared.tally.lock().did(&what);
        }
        if !shared.is_over() {
            sleep(NOISE_PAUSE).await;
        }
    }
    Ok(())
}
