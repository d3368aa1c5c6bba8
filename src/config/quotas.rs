//! Reads how much a tenant may use in a month, in `limits.tenant` and in `limits` of a tenant.

use super::reader::Reader;
use crate::usage::Quotas;

/// Reads both quotas; what is not written is `fallback`'s.
pub(super) fn quotas(reader: &mut Reader<'_, '_>, fallback: Quotas) -> Quotas {
    let calls = reader.number(
        "monthly_calls",
        Some(fallback.monthly_calls),
        0..=i64::MAX.unsigned_abs(),
        "Calls of tools, prompts, resources and completions in a calendar month of UTC, whatever comes of them. Once there were so many, requests are refused with 429 (`quota_exhausted`) that says when the next month begins; those under way go on. 0: no limit. Changed by a reload.",
    );
    let memory = reader.size(
        "memory_hours",
        Some(fallback.memory_hours).filter(|bytes| *bytes > 0),
        "Memory that workers hold, awake or hibernated, times the hours for which they do, in a calendar month of UTC: with \"720GiB\", one GiB through a month of 30 days. At the limit as `monthly_calls`; workers that are there stop when they have been idle for long enough. Without it, or with a size such as \"1000000TiB\", there is no limit. Changed by a reload.",
    );
    Quotas {
        monthly_calls: calls.unwrap_or(fallback.monthly_calls),
        memory_hours: memory.unwrap_or(fallback.memory_hours),
    }
}
