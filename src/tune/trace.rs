//! Reads what `stdiopool serve --record-trace` has written.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::time::Duration;

use super::workload::{Call, Profile, Workload};
use crate::telemetry::TraceLine;

/// Why a trace cannot be played back.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The trace cannot be read.
    #[error("the trace cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A line is none of a trace.
    #[error(
        "line {number} is no line of a trace: {why} (record one with `stdiopool serve --record-trace FILE`)"
    )]
    Line {
        /// The line's number, from 1.
        number: usize,
        /// What is wrong with the line.
        why: String,
    },
    /// Nobody called.
    #[error("there is no call in the trace: record for longer, while it is used")]
    Empty,
}

/// Measurements of one server.
#[derive(Default)]
struct Measured {
    starts: Vec<f64>,
    wakes: Vec<f64>,
    awake: Vec<f64>,
    asleep: Vec<f64>,
}

/// Servers by name, numbered as they come.
#[derive(Default)]
struct Servers(BTreeMap<String, (u16, Measured)>);

impl Servers {
    fn of(&mut self, name: String) -> &mut (u16, Measured) {
        let next = u16::try_from(self.0.len()).unwrap_or(u16::MAX);
        self.0.entry(name).or_insert((next, Measured::default()))
    }
}

/// Reads a trace. A last line that was cut off, by a crash or a full disk, is left out.
///
/// # Errors
/// [`TraceError`]
pub fn read_trace(file: impl BufRead) -> Result<Workload, TraceError> {
    let mut servers = Servers::default();
    let mut tenants: BTreeMap<String, u32> = BTreeMap::new();
    let mut calls = Vec::new();
    let mut lines = file.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let line = line?;
        let parsed: TraceLine = match serde_json::from_str(&line) {
            Ok(parsed) => parsed,
            Err(error) if error.is_eof() && at > 0 && lines.peek().is_none() => break,
            Err(error) => {
                return Err(TraceError::Line {
                    number: at + 1,
                    why: error.to_string(),
                });
            }
        };
        match parsed {
            TraceLine::Trace { version: 1 } => {}
            TraceLine::Trace { version } => {
                return Err(TraceError::Line {
                    number: at + 1,
                    why: format!("version {version} is not known to this program"),
                });
            }
            TraceLine::Call {
                at,
                tenant,
                server,
                took,
            } => {
                let next = u32::try_from(tenants.len()).unwrap_or(u32::MAX);
                calls.push(Call {
                    at: seconds(at),
                    tenant: *tenants.entry(tenant).or_insert(next),
                    server: servers.of(server).0,
                    takes: seconds(took),
                });
            }
            TraceLine::Start { server, took } => servers.of(server).1.starts.push(took),
            TraceLine::Wake { server, took } => servers.of(server).1.wakes.push(took),
            #[allow(clippy::cast_precision_loss, reason = "bytes, far below 2^52")]
            TraceLine::Memory {
                server,
                bytes,
                asleep: false,
            } => servers.of(server).1.awake.push(bytes as f64),
            #[allow(clippy::cast_precision_loss, reason = "bytes, far below 2^52")]
            TraceLine::Memory { server, bytes, .. } => {
                servers.of(server).1.asleep.push(bytes as f64)
            }
        }
    }
    // Written when they were answered.
    calls.sort_by_key(|call| call.at);
    let Some(last) = calls.last() else {
        return Err(TraceError::Empty);
    };
    let length = last.at + Duration::from_secs(1);
    let mut profiles: Vec<_> = servers.0.into_iter().collect();
    profiles.sort_by_key(|(_, (number, _))| *number);
    let servers = profiles
        .into_iter()
        .map(|(name, (_, measured))| measured.profile(&name))
        .collect();
    Ok(Workload {
        servers,
        calls,
        length,
        tenants: tenants.len(),
    })
}

impl Measured {
    fn profile(mut self, name: &str) -> Profile {
        let unknown = Profile::unknown(name);
        let time = |values: &mut Vec<f64>, or| median(values).map_or(or, seconds);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bytes, far below 2^52"
        )]
        let bytes = |values: &mut Vec<f64>, or| median(values).map_or(or, |bytes| bytes as u64);
        let awake = bytes(&mut self.awake, unknown.awake);
        Profile {
            start: time(&mut self.starts, unknown.start),
            wake: time(&mut self.wakes, unknown.wake),
            asleep: bytes(&mut self.asleep, awake / 5),
            awake,
            ..unknown
        }
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Nonsense counts as nothing.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}
