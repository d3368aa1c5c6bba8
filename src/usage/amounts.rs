//! What is counted of one tenant, user and server.

use std::time::Duration;

/// Kibibytes for a millisecond in a mebibyte for an hour.
const KIB_MS_PER_MIB_HOUR: f64 = 1024.0 * 3_600_000.0;

/// What was used, as whole numbers: sums are exact, in whatever order they are made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Amounts {
    /// Requests of any method, answered or given up: those of `requests_total`.
    pub requests: u64,
    /// Requests for which a server works: tools, prompts, resources, completions.
    pub calls: u64,
    /// Requests that were answered with an error, the server's or stdiopool's.
    pub errors: u64,
    /// Bytes of the bodies that the requests came in.
    pub bytes_in: u64,
    /// Bytes of messages of servers: answers, and what was told during a call.
    pub bytes_out: u64,
    /// Workers that were started and came to serve.
    pub starts: u64,
    /// Microseconds that requests waited for a slot.
    pub queue_us: u64,
    /// Milliseconds of processor time of workers.
    pub cpu_ms: u64,
    /// Memory of workers that were awake, in kibibytes for a millisecond.
    pub awake_kib_ms: u64,
    /// Memory of workers that were hibernated, in kibibytes for a millisecond.
    pub asleep_kib_ms: u64,
}

impl Amounts {
    /// How many numbers there are.
    pub const COUNT: usize = 10;

    /// The names of the amounts, in the order of [`Amounts::to_array`].
    pub const NAMES: [&'static str; Self::COUNT] = [
        "requests",
        "calls",
        "errors",
        "bytes_in",
        "bytes_out",
        "starts",
        "queue_us",
        "cpu_ms",
        "awake_kib_ms",
        "asleep_kib_ms",
    ];

    /// All numbers, in the order of [`Amounts::NAMES`].
    pub fn to_array(self) -> [u64; Self::COUNT] {
        [
            self.requests,
            self.calls,
            self.errors,
            self.bytes_in,
            self.bytes_out,
            self.starts,
            self.queue_us,
            self.cpu_ms,
            self.awake_kib_ms,
            self.asleep_kib_ms,
        ]
    }

    /// The reverse of [`Amounts::to_array`].
    pub fn from_array(numbers: [u64; Self::COUNT]) -> Self {
        let [
            requests,
            calls,
            errors,
            bytes_in,
            bytes_out,
            starts,
            queue_us,
            cpu_ms,
            awake_kib_ms,
            asleep_kib_ms,
        ] = numbers;
        Self {
            requests,
            calls,
            errors,
            bytes_in,
            bytes_out,
            starts,
            queue_us,
            cpu_ms,
            awake_kib_ms,
            asleep_kib_ms,
        }
    }

    /// Adds others to these. A sum that would not fit stays at its largest.
    pub fn add(&mut self, others: &Self) {
        let mut sums = self.to_array();
        for (sum, other) in sums.iter_mut().zip(others.to_array()) {
            *sum = sum.saturating_add(other);
        }
        *self = Self::from_array(sums);
    }

    /// So much time of a processor.
    pub fn of_processor(time: Duration) -> Self {
        Self {
            cpu_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            ..Self::default()
        }
    }

    /// So many bytes of memory of a worker for that long, hibernated or not.
    pub fn of_memory(bytes: u64, time: Duration, is_asleep: bool) -> Self {
        let held = u128::from(bytes / 1024) * time.as_millis();
        let held = u64::try_from(held).unwrap_or(u64::MAX);
        let (awake_kib_ms, asleep_kib_ms) = match is_asleep {
            true => (0, held),
            false => (held, 0),
        };
        Self {
            awake_kib_ms,
            asleep_kib_ms,
            ..Self::default()
        }
    }

    /// Whether nothing was used.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Memory of workers, awake or not, in kibibytes for a millisecond.
    pub fn memory_kib_ms(&self) -> u64 {
        self.awake_kib_ms.saturating_add(self.asleep_kib_ms)
    }

    /// What workers use, which is divided among those who have called.
    pub(super) fn of_workers(&self) -> Self {
        Self {
            cpu_ms: self.cpu_ms,
            awake_kib_ms: self.awake_kib_ms,
            asleep_kib_ms: self.asleep_kib_ms,
            ..Self::default()
        }
    }

    /// Divides these by weights: each gets its part rounded down, and the largest weight what is left, so that the parts sum up to
    /// the whole. The weights must not all be zero.
    pub(super) fn divided(&self, weights: &[u64]) -> Vec<Self> {
        let all: u128 = weights.iter().map(|it| u128::from(*it)).sum();
        let largest = (0..weights.len()).max_by_key(|at| weights[*at]);
        let mut parts = vec![[0; Self::COUNT]; weights.len()];
        for (at, whole) in self.to_array().into_iter().enumerate() {
            let mut left = whole;
            for (part, weight) in parts.iter_mut().zip(weights) {
                let share = u128::from(whole) * u128::from(*weight) / all.max(1);
                // No part is more than the whole.
                part[at] = u64::try_from(share).unwrap_or(whole);
                left -= part[at];
            }
            if let Some(largest) = largest {
                parts[largest][at] += left;
            }
        }
        parts.into_iter().map(Self::from_array).collect()
    }
}

/// Kibibytes for a millisecond as mebibytes for an hour.
#[allow(
    clippy::cast_precision_loss,
    reason = "what is shown has few digits; sums are made of the whole numbers"
)]
pub fn mib_hours(kib_ms: u64) -> f64 {
    kib_ms as f64 / KIB_MS_PER_MIB_HOUR
}
