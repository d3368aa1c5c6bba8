//! Whether the caller's tenant has used all that it may in this month.
//!
//! Looked at when a request comes: those under way, and the further ones of a batch, go on and count.

use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::ids::TenantId;
use crate::protocol::{Failure, Reason};
use crate::usage::{Quota, Quotas, Usage, Verdict};

/// Lets a request of that tenant begin.
///
/// # Errors
/// [`Reason::QuotaExhausted`], with the key of the quota and when the next month begins.
pub(in crate::front) fn check(
    usage: &Usage,
    config: &Config,
    tenant: &TenantId,
) -> Result<(), Failure> {
    let quotas = config.quotas(tenant);
    match usage.verdict(tenant, quotas) {
        Verdict::Allowed => Ok(()),
        Verdict::Exhausted { quota, begins_anew } => {
            let wait = begins_anew.duration_since(SystemTime::now());
            let wait = wait.unwrap_or_default();
            Err(refused(tenant, quotas, quota, (begins_anew, wait)))
        }
    }
}

fn refused(
    tenant: &TenantId,
    quotas: Quotas,
    quota: Quota,
    (begins_anew, wait): (SystemTime, Duration),
) -> Failure {
    let limit = match quota {
        Quota::MonthlyCalls => format!("{} calls", quotas.monthly_calls),
        Quota::MemoryHours => format!("{} MiB-hours of memory", quotas.memory_hours >> 20),
    };
    let key = quota.key();
    let anew = humantime::format_rfc3339_seconds(begins_anew).to_string();
    let why = format!(
        "tenant `{tenant}` has used all that it may in this month: {limit} (it begins anew at {anew}; or raise `{key}` in `limits.tenant` or in the tenant's `limits`)"
    );
    Failure::new(Reason::QuotaExhausted, why)
        .retry_after(wait)
        .detail("limit", key.into())
        .detail("beginsAnew", anew.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_the_limit_the_key_and_when_it_begins_anew() {
        let quotas = Quotas {
            monthly_calls: 1000,
            memory_hours: 720 << 30,
        };
        let tenant = TenantId::new("acme");
        let anew = humantime::parse_rfc3339_weak("2026-12-01T00:00:00Z").expect("a time");
        let told = |quota| refused(&tenant, quotas, quota, (anew, Duration::from_millis(1500)));
        let failure = told(Quota::MonthlyCalls);
        assert_eq!(failure.reason, Reason::QuotaExhausted);
        assert_eq!(
            failure.message,
            "tenant `acme` has used all that it may in this month: 1000 calls (it begins anew at 2026-12-01T00:00:00Z; or raise `monthly_calls` in `limits.tenant` or in the tenant's `limits`)"
        );
        assert_eq!(failure.retry_after_seconds(), Some(2));
        let response = failure.to_response(Some("7"));
        assert!(
            response.contains("\"limit\":\"monthly_calls\"")
                && response.contains("\"beginsAnew\":\"2026-12-01T00:00:00Z\""),
            "{response}"
        );
        let failure = told(Quota::MemoryHours);
        assert!(
            failure.message.contains("737280 MiB-hours of memory (")
                && failure.message.contains("`memory_hours`"),
            "{failure}"
        );
    }
}
