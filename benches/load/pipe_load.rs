//! The floor: the demo server on a raw pipe, with so many calls under way.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use super::Result;
use super::connection::{Call, INITIALIZE};
use super::latency::Calls;
use super::process::{Process, stdiopool};
use super::reply;

/// The demo server and both ends of its pipes.
#[derive(Debug)]
pub(crate) struct PipeLoad {
    pub(crate) process: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    line: Vec<u8>,
    request: Vec<u8>,
}

impl PipeLoad {
    /// # Errors
    /// If it does not start, or does not answer.
    pub(crate) fn start() -> Result<Self> {
        let mut command = stdiopool();
        command
            .arg("demo-server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = Process::start(&mut command)?;
        let stdin = process.0.stdin.take().ok_or("its stdin is not piped")?;
        let stdout = process.0.stdout.take().ok_or("its stdout is not piped")?;
        let mut load = Self {
            process,
            stdin,
            stdout: BufReader::with_capacity(64 * 1024, stdout),
            line: Vec::new(),
            request: Vec::new(),
        };
        writeln!(load.stdin, "{INITIALIZE}")?;
        load.read()?;
        reply::read(&load.line, false)?;
        Ok(load)
    }

    /// Keeps `at_once` calls under way for that long, and waits for the last ones.
    ///
    /// # Errors
    /// If it stops answering, or the first answer is no result.
    pub(crate) fn round(&mut self, call: &Call, at_once: usize, period: Duration) -> Result<Calls> {
        let since = Instant::now();
        let mut sent = Vec::new();
        for _ in 0..at_once {
            self.send(call, &mut sent)?;
        }
        let mut latencies: Vec<Duration> = Vec::new();
        while latencies.len() < sent.len() {
            self.read()?;
            if latencies.is_empty() {
                reply::read(&self.line, false)?;
            }
            // One thread serves calls in their order, so that answers come in it too.
            latencies.push(sent[latencies.len()].elapsed());
            if since.elapsed() < period {
                self.send(call, &mut sent)?;
            }
        }
        let took = since.elapsed();
        Ok(Calls { latencies, took })
    }

    fn send(&mut self, call: &Call, sent: &mut Vec<Instant>) -> Result<()> {
        self.request.clear();
        call.write(sent.len(), &mut self.request);
        self.request.push(b'\n');
        sent.push(Instant::now());
        Ok(self.stdin.write_all(&self.request)?)
    }

    fn read(&mut self) -> Result<()> {
        self.line.clear();
        match self.stdout.read_until(b'\n', &mut self.line)? {
            0 => Err("the demo server has ended".into()),
            _ => Ok(()),
        }
    }
}
