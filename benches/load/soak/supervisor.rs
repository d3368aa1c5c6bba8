//! The stdiopool of a soak, which is ended and started again on the same folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::time::sleep;

use super::super::Result;
use super::super::process::{Process, stdiopool_in_session, tree_of};
use super::config::Setting;
use super::leftovers::{self, Held};
use super::listed;

/// How long it may take to end when it is told to.
const ENDS: Duration = Duration::from_secs(60);
/// How long what it started may outlive it.
const OUTLIVES: Duration = Duration::from_secs(10);

/// A running supervisor.
#[derive(Debug)]
pub(crate) struct Supervisor {
    process: Process,
    dir: PathBuf,
    setting: Setting,
    /// Of all that have run in this folder.
    pids: Vec<u32>,
    pub(crate) began: Instant,
    /// What it held when it had just started.
    pub(crate) at_begin: Held,
    client: reqwest::Client,
}

impl Supervisor {
    /// Starts the first one.
    ///
    /// # Errors
    /// If it does not start, with what it said.
    pub(crate) fn start(dir: &Path, setting: &Setting) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy();
        let client = client.timeout(Duration::from_secs(30)).build()?;
        let (process, at_begin) = started(dir, setting)?;
        Ok(Self {
            pids: vec![process.id()],
            process,
            dir: dir.to_owned(),
            setting: setting.clone(),
            began: Instant::now(),
            at_begin,
            client,
        })
    }

    /// Ends it by that signal, and starts the next one; what was left over of it in between.
    ///
    /// # Errors
    /// If it does not end, or the next one does not start.
    pub(crate) async fn restart(&mut self, signal: Signal) -> Result<Vec<String>> {
        self.signal(signal);
        self.wait(signal).await?;
        let left = leftovers::within(OUTLIVES, || self.processes()).await;
        (self.process, self.at_begin) = started(&self.dir, &self.setting)?;
        self.pids.push(self.process.id());
        self.began = Instant::now();
        Ok(left)
    }

    /// Ends it for good; what is left over then.
    ///
    /// # Errors
    /// If it does not end, or not well.
    pub(crate) async fn end(mut self) -> Result<Vec<String>> {
        self.signal(Signal::SIGTERM);
        let status = self.wait(Signal::SIGTERM).await?;
        let mut left = leftovers::within(OUTLIVES, || self.processes()).await;
        left.extend(leftovers::groups(&self.pids));
        left.extend(leftovers::folders(&self.state()?));
        if !status.success() {
            left.push(format!("its status: {status}"));
        }
        Ok(left)
    }

    async fn wait(&mut self, signal: Signal) -> Result<std::process::ExitStatus> {
        let deadline = Instant::now() + ENDS;
        loop {
            if let Some(status) = self.process.0.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(format!("it does not end at {signal} in {ENDS:?}").into());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn state(&self) -> Result<PathBuf> {
        Ok(self.dir.canonicalize()?.join(".stdiopool"))
    }

    fn processes(&self) -> Vec<String> {
        let state = self.state().unwrap_or_else(|_| self.dir.clone());
        leftovers::processes(&state, &self.setting.mark)
    }

    /// The folder of its pool.toml.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        signal_to(self.process.id(), signal);
    }

    /// What it holds now.
    ///
    /// # Errors
    /// If /proc cannot be read.
    pub(crate) fn held(&self) -> Result<Held> {
        Held::by(&self.process)
    }

    /// The pid of its guardian, if there is one just now.
    pub(crate) fn guardian(&self) -> Option<u32> {
        let all = tree_of(self.process.id()).ok()?;
        let is_it = |pid: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.trim() == "sp-guardian")
        };
        all.into_iter().find(is_it)
    }

    /// Its workers, as the admin API lists them.
    pub(crate) async fn workers(&self) -> Vec<Value> {
        listed(&self.client, &self.admin("workers")).await
    }

    /// Has it stop a worker.
    pub(crate) async fn stop(&self, worker: &str) {
        let url = self.admin(&format!("workers/{worker}/stop"));
        // One that has gone by itself meanwhile is gone.
        let _either = self.client.post(url).send().await;
    }

    fn admin(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/api/v1/{path}", self.setting.admin)
    }
}

fn started(dir: &Path, setting: &Setting) -> Result<(Process, Held)> {
    let mut command = stdiopool_in_session();
    command.arg("serve").current_dir(dir);
    command.env("NO_COLOR", "1").env("SOAK", &setting.mark);
    let mut process = Process::start(&mut command)?;
    process.announced(["admin at http://"])?;
    let held = Held::by(&process)?;
    Ok((process, held))
}

/// Sends a process a signal; one that has gone gets none.
pub(crate) fn signal_to(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _gone = kill(Pid::from_raw(pid), signal);
    }
}
