//! `[limits]`, and `limits` of a tenant: how much may be asked, and how much at once.

use std::num::NonZeroU64;

use crate::usage::Quotas;

/// How much one tenant or one user may ask. 0 is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rates {
    /// Requests a minute, on average.
    pub requests_per_minute: u32,
    /// Requests at once after a pause; 0: as many as in a minute.
    pub burst: u32,
    /// Requests that are not answered yet.
    pub concurrent: u32,
    /// Event streams of sessions that are open; 0: as many as `concurrent`.
    pub streams: u32,
}

impl Rates {
    /// Event streams that may be open; 0 is no limit.
    pub fn open_streams(&self) -> u32 {
        match self.streams {
            0 => self.concurrent,
            streams => streams,
        }
    }
}

/// `[limits]`: what holds for every tenant and every user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DefaultRates {
    /// Bytes that one tenant may make stdiopool hold, unless the tenant has a limit of its own.
    pub memory_held: u64,
    /// Bytes of bodies a second that one tenant may send, unless the tenant has a limit of its own.
    pub body_rate: NonZeroU64,
    /// Limits of all users of a tenant together, unless the tenant has limits of its own.
    pub tenant: Rates,
    /// What a tenant may use in a month, unless the tenant has limits of its own.
    pub quotas: Quotas,
    /// Limits of each user of a tenant, or of each token where it names no user.
    pub user: Rates,
}
