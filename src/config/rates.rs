//! `[limits]`, and `limits` of a tenant: how much may be asked, and how much at once.

use super::reader::Reader;

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
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DefaultRates {
    /// For all users of a tenant together, unless the tenant has limits of its own.
    pub tenant: Rates,
    /// For each user of a tenant, or each token where it names no user.
    pub user: Rates,
}

pub(super) fn defaults(reader: &mut Reader<'_, '_>) -> DefaultRates {
    DefaultRates {
        tenant: reader.table("tenant", |reader| rates(reader, Rates::default())),
        user: reader.table("user", |reader| rates(reader, Rates::default())),
    }
}

/// Reads one set; what is not written is `fallback`'s.
pub(super) fn rates(reader: &mut Reader<'_, '_>, fallback: Rates) -> Rates {
    let mut number = |key, fallback: u32, doc| {
        let range = 0..=u64::from(u32::MAX);
        let number = reader.number(key, Some(fallback.into()), range, doc);
        number
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(fallback)
    };
    Rates {
        requests_per_minute: number(
            "requests_per_minute",
            fallback.requests_per_minute,
            "Requests a minute, on average. One more is refused with 429 and told when to come again. 0: no limit.",
        ),
        burst: number(
            "burst",
            fallback.burst,
            "Requests at once after a pause. 0: as many as in a minute.",
        ),
        concurrent: number(
            "concurrent",
            fallback.concurrent,
            "Requests that are not answered yet; one more is refused with 429. 0: no limit.",
        ),
        streams: number(
            "streams",
            fallback.streams,
            "Event streams (GET) that are open, beside those requests; one more is refused with 429. 0: as many as `concurrent`.",
        ),
    }
}
