//! Candidates: one value for each limit that is turned.

use std::time::Duration;

use crate::pool::PoolLimits;

/// A setting of the pool that is tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// `pool.max_workers`
    pub max_workers: usize,
    /// `pool.max_memory`, in bytes
    pub max_memory: u64,
    /// `pool.max_starting`
    pub max_starting: usize,
    /// `pool.idle_timeout`
    pub idle_timeout: Duration,
    /// `pool.hibernate_after`; `None`: never
    pub hibernate_after: Option<Duration>,
}

impl Setting {
    pub(super) fn limits(&self) -> PoolLimits {
        PoolLimits {
            max_workers: self.max_workers,
            max_memory: self.max_memory,
            max_starting: self.max_starting,
            hibernate_after: self.hibernate_after,
            ..PoolLimits::default()
        }
    }
}

/// Every combination of these.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grid {
    /// `pool.max_workers`
    pub max_workers: Vec<usize>,
    /// `pool.max_memory`, in bytes
    pub max_memory: Vec<u64>,
    /// `pool.max_starting`
    pub max_starting: Vec<usize>,
    /// `pool.idle_timeout`
    pub idle_timeout: Vec<Duration>,
    /// `pool.hibernate_after`
    pub hibernate_after: Vec<Option<Duration>>,
}

impl Grid {
    /// The candidates, in the order of the values.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        for &max_workers in &self.max_workers {
            for &max_memory in &self.max_memory {
                for &max_starting in &self.max_starting {
                    for &idle_timeout in &self.idle_timeout {
                        for &hibernate_after in &self.hibernate_after {
                            settings.push(Setting {
                                max_workers,
                                max_memory,
                                max_starting,
                                idle_timeout,
                                hibernate_after,
                            });
                        }
                    }
                }
            }
        }
        settings
    }
}
