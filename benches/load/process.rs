//! Processes under test, and what the kernel says they cost (proc_pid_stat(5), proc_pid_status(5)).

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

/// A child that ends with this value.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    #[allow(
        clippy::disallowed_methods,
        reason = "a benchmark starts what it measures"
    )]
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("it starts"))
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("it lives");
        let rest = stat.rsplit(')').next().expect("a name in parentheses");
        let fields: Vec<_> = rest.split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
        // USER_HZ, in which they are given, is 100 on every architecture that Rust knows.
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it lives");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("resident");
        let kib: u64 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number");
        kib * 1024
    }

    /// Reads its stderr until a line has `marker` in it, and returns what follows; the rest of
    /// stderr is thrown away as it comes.
    pub(crate) fn announced(&mut self, marker: &str) -> String {
        let [found] = self.all_announced([marker]);
        found
    }

    /// The same for several, in their order.
    pub(crate) fn all_announced<const N: usize>(&mut self, markers: [&str; N]) -> [String; N] {
        let stderr: ChildStderr = self.0.stderr.take().expect("piped");
        let mut lines = BufReader::new(stderr).lines();
        let found = markers.map(|marker| {
            loop {
                let line = lines
                    .next()
                    .expect("it says where it listens")
                    .expect("UTF-8");
                if let Some((_, rest)) = line.split_once(marker) {
                    break rest.trim().to_owned();
                }
            }
        });
        std::thread::spawn(move || lines.for_each(drop));
        found
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The binary under test.
pub(crate) fn stdiopool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stdiopool"));
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}
