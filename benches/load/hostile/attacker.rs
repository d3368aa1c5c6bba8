//! The process that floods, as its parent has it and as it runs.
//!
//! It says `ready` on stdout when its floods are set up, floods until its stdin ends or its time is over, and then writes
//! its report, one line of JSON. If its parent dies, its stdin ends too.

use std::io::{Read, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::Result;
use super::super::process::Process;
use super::super::served::token;
use super::answers::{Answers, Report};
use super::floods::{FLOODS, Flood, Hostile, NOISE};
use super::served::HOSTILE;

/// How long floods may take to be set up.
const SET_UP: Duration = Duration::from_secs(180);
/// How much longer than a period it floods at the most: the last calls beside it are waited for.
const LONGER: Duration = Duration::from_secs(30);
/// How long its report may take.
const LAST_WORDS: Duration = Duration::from_secs(20);

#[derive(Args, Debug)]
pub(crate) struct AttackerArgs {
    #[arg(long)]
    address: String,
    #[arg(long)]
    token: String,
    #[arg(long)]
    seconds: u64,
    floods: Vec<String>,
}

/// Ends a flood; shared by whoever may have to.
#[derive(Debug, Clone)]
pub(crate) struct Handle(Arc<Mutex<Option<ChildStdin>>>);

impl Handle {
    /// Lets the flood end, with its report.
    pub(crate) fn release(&self) {
        drop(self.0.lock().take());
    }
}

/// A flood in a process of its own; it is killed with this value.
pub(crate) struct Attacker {
    process: Process,
    handle: Handle,
    said: Lines<BufReader<ChildStdout>>,
}

impl Attacker {
    /// Starts it against a front door, so that it runs when nothing else wants to: sched(7), `SCHED_IDLE`, in a session of its own, whose
    /// autogroup would otherwise get as much of a processor as that of each server.
    ///
    /// # Errors
    /// If this very program cannot be run once more.
    pub(crate) fn start(
        address: &str,
        floods: &[&Flood],
        period: Duration,
    ) -> Result<(Self, Handle)> {
        let mut command = Command::new("chrt");
        command
            .args(["--idle", "0", "setsid"])
            .arg(std::env::current_exe()?)
            .args(["flood", "--address", address])
            .args(["--token", &token(HOSTILE)])
            .args(["--seconds", &(period + LONGER).as_secs().to_string()])
            .args(floods.iter().map(|flood| flood.name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let handle = Handle(Arc::new(Mutex::new(process.0.stdin.take())));
        let stdout = process.0.stdout.take().ok_or("its stdout is not piped")?;
        let stdout = ChildStdout::from_std(stdout)?;
        #[allow(
            clippy::disallowed_methods,
            reason = "it is this very program, which writes two short lines"
        )]
        let said = BufReader::new(stdout).lines();
        let attacker = Self {
            process,
            handle: handle.clone(),
            said,
        };
        Ok((attacker, handle))
    }

    /// Waits until the floods are set up.
    ///
    /// # Errors
    /// If they are not in time.
    pub(crate) async fn until_ready(&mut self) -> Result<()> {
        let line = timeout(SET_UP + LAST_WORDS, self.said.next_line()).await;
        match line.map_err(|_| "the floods are not set up in time")?? {
            Some(line) if line == "ready" => Ok(()),
            other => Err(format!("the flood said {other:?} instead of `ready`").into()),
        }
    }

    /// Ends it; what it was answered.
    ///
    /// # Errors
    /// If it does not say.
    pub(crate) async fn finish(mut self) -> Result<Report> {
        self.handle.release();
        let line = timeout(LAST_WORDS, self.said.next_line()).await;
        let line = line.map_err(|_| "the flood does not end")??;
        let line = line.ok_or("the flood ended without a report")?;
        let _ended = self.process.0.wait()?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// Floods; the life of that process.
///
/// # Errors
/// If its stdout is closed.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn flood(args: &AttackerArgs) -> Result<()> {
    // Where the kernel has none, the policy alone does it.
    let _unless_none = std::fs::write("/proc/self/autogroup", "19");
    let answers = Answers::default();
    let (tell, mut set_up) = mpsc::channel(FLOODS.len() + NOISE.len());
    let (go, begin) = watch::channel(false);
    let mut flooding = JoinSet::new();
    let meant = |flood: &&Flood| args.floods.iter().any(|name| name == flood.name);
    for flood in FLOODS.iter().chain(NOISE).filter(meant) {
        let hostile = Hostile {
            address: args.address.clone(),
            token: args.token.clone(),
            answers: answers.clone(),
            ready: tell.clone(),
            begin: begin.clone(),
        };
        let running = (flood.run)(Arc::new(hostile));
        flooding.spawn(async move { (flood.name, running.await) });
    }
    drop(tell);
    // Each flood says it once; one that failed has dropped its end without a word.
    let all_set_up = async {
        let mut missing = flooding.len();
        while missing > 0 && set_up.recv().await.is_some() {
            missing -= 1;
        }
    };
    let in_time = timeout(SET_UP, all_set_up).await;
    let mut failures = Vec::new();
    if in_time.is_err() {
        failures.push(format!("not in {} s", SET_UP.as_secs()));
    }
    say("ready")?;
    go.send_replace(true);
    let stdin_ended = tokio::task::spawn_blocking(|| {
        let mut nothing = Vec::new();
        // However it ends, nobody is there any more.
        let _ended = std::io::stdin().read_to_end(&mut nothing);
    });
    let _either = timeout(Duration::from_secs(args.seconds), stdin_ended).await;
    while let Some(ended) = flooding.try_join_next() {
        match ended {
            Ok((_, Ok(()))) => {}
            Ok((name, Err(error))) => failures.push(format!("{name}: {error}")),
            Err(panic) => failures.push(panic.to_string()),
        }
    }
    say(&serde_json::to_string(&answers.report(failures))?)?;
    // Not through the runtime's end, which would wait for stdin.
    std::process::exit(0);
}

fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
