//! Reads `[limits]`, and `limits` of a tenant: how much may be asked, and how much at once.

use std::num::NonZeroU64;

use super::model::{Config, DefaultRates, Rates};
use super::quotas::quotas;
use super::reader::Reader;
use super::units;
use crate::usage::Quotas;

/// Bytes that one tenant may make stdiopool hold, unless one request needs more.
const MEMORY_HELD: u64 = 64 << 20;
/// Bytes that all tenants together may make stdiopool hold, unless one request needs more.
const MEMORY_OF_ALL: u64 = 512 << 20;

/// Bytes a second that one tenant may send.
const BODY_RATE: u64 = 64 << 20;

/// Reads `[limits]`.
pub(super) fn defaults(reader: &mut Reader<'_, '_>) -> DefaultRates {
    let doc = "Memory that one tenant may make stdiopool hold: bodies that are read, sessions, subscriptions, messages and answers that wait, and what is remembered of callers and servers. At the limit a request is refused with 429, an answer that nobody reads is dropped and its request fails, a notification is dropped. At least twice `http.max_body` and the largest `max_message` of a server, which one request needs; raised to that where it is not written.";
    let memory_held = reader
        .size("memory_held", Some(MEMORY_HELD), doc)
        .unwrap_or(MEMORY_HELD);
    let body_rate = body_rate(reader, Some(BODY_RATE), RATE_OF_EACH).unwrap_or(NonZeroU64::MAX);
    let (tenant, quotas) = reader.table("tenant", |reader| {
        let of_tenant = rates(reader, Rates::default());
        (of_tenant, quotas(reader, Quotas::default()))
    });
    DefaultRates {
        memory_held,
        body_rate,
        tenant,
        quotas,
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
            "Event streams (GET, and `subscriptions/listen` of 2026-07-28) that are open, beside those requests; one more is refused with 429. 0: as many as `concurrent`.",
        ),
    }
}

const RATE_OF_EACH: &str = "Bytes of request bodies a second that one tenant may send, on average. What comes faster is read that much later, and the sender is held back; nothing is refused. A quarter of it may come at once after a pause; the first 64 KiB of each body do not count. What is held back counts in `memory_held` with its whole length, as all bodies do. A size such as `1TiB` is as good as no limit. Changed by a reload.";

fn body_rate(
    reader: &mut Reader<'_, '_>,
    default: Option<u64>,
    doc: &'static str,
) -> Option<NonZeroU64> {
    NonZeroU64::new(reader.size("body_rate", default, doc)?)
}

/// `limits.body_rate` of one tenant, in bytes a second; `None`: as for every tenant.
pub(super) fn own_body_rate(reader: &mut Reader<'_, '_>) -> Option<NonZeroU64> {
    let doc = "Bytes of request bodies a second that this tenant may send, instead of `body_rate` in `[limits]`.";
    body_rate(reader, None, doc)
}

/// `limits.memory_held` of one tenant, in bytes; `None`: as for every tenant.
pub(super) fn memory_held(reader: &mut Reader<'_, '_>) -> Option<u64> {
    let doc =
        "Memory that this tenant may make stdiopool hold, instead of `memory_held` in `[limits]`.";
    reader.size("memory_held", None, doc)
}

/// `http.memory`, in bytes.
pub(super) fn memory_of_all(reader: &mut Reader<'_, '_>) -> u64 {
    let doc = "Memory that all tenants together may make stdiopool hold, counted as `limits.memory_held`. At the limit requests are refused with 503. At least what one tenant may hold; raised to that where it is not written. Changed by a reload.";
    reader
        .size("memory", Some(MEMORY_OF_ALL), doc)
        .unwrap_or(MEMORY_OF_ALL)
}

/// Sees to it that one request of the largest size fits into what may be held, in bytes: its body, its copy
/// on the way to the worker, and the answer.
pub(super) fn fit_memory(root: &mut Reader<'_, '_>, config: &mut Config) {
    let needed = needed(config);
    let why = |key: &str, bytes: u64, needed: u64, of: &str| {
        let (bytes, needed) = (units::size_text(bytes), units::size_text(needed));
        format!(
            "`{key}` is {bytes}, less than the {needed} that {of}: raise it, or lower `http.max_body` or the `max_message` of servers"
        )
    };
    let request = "one request needs (twice `http.max_body` and the largest `max_message`)";
    let of_tenants = config.rates.memory_held;
    if of_tenants < needed {
        if let Some(span) = root.span_within(&["limits", "memory_held"]) {
            let why = why("limits.memory_held", of_tenants, needed, request);
            root.notes.mistakes.push((span, why));
        }
        config.rates.memory_held = needed;
    }
    for (tenant, entry) in &config.tenants {
        let path = ["tenants", tenant.as_str(), "limits", "memory_held"];
        if let Some(bytes) = entry.memory_held.filter(|bytes| *bytes < needed)
            && let Some(span) = root.span_within(&path)
        {
            root.notes
                .mistakes
                .push((span, why(&path.join("."), bytes, needed, request)));
        }
    }
    let own = config.tenants.values().filter_map(|it| it.memory_held);
    let of_one = own.fold(config.rates.memory_held, u64::max);
    let of_all = config.http.memory;
    if of_all < of_one {
        if let Some(span) = root.span_within(&["http", "memory"]) {
            let one = "one tenant may hold (`limits.memory_held`)";
            root.notes
                .mistakes
                .push((span, why("http.memory", of_all, of_one, one)));
        }
        config.http.memory = of_one;
    }
}

fn needed(config: &Config) -> u64 {
    let largest = config
        .servers
        .values()
        .map(|server| server.max_message)
        .max();
    let largest = largest.unwrap_or_default() as u64;
    config
        .http
        .max_body
        .saturating_mul(2)
        .saturating_add(largest)
}
