//! The limit that binds now: what keeps requests waiting, what makes idle workers go, or what is reached.

use std::time::Duration;

use tokio::time::Instant;

use crate::admin::overview::Binding;
use crate::config::Config;
use crate::pool::{LongestWait, Refusal};
use crate::telemetry::labels::EvictionReason;
use crate::upstream::refused;

/// How long an eviction counts for a limit that binds.
const EVICTED_LATELY: Duration = Duration::from_secs(60);
/// Memory is reached within this part: about what one worker more would take of a small pool.
const NEAR_PART: u64 = 16;

/// Which limit made idle workers go last.
#[derive(Debug, Default)]
pub(super) struct Evicting {
    counted: Option<[u64; EvictionReason::ALL.len()]>,
    last: Option<(Instant, EvictionReason)>,
}

impl Evicting {
    /// Takes in how many were evicted by each limit; `before`: a minute ago at the most, for the first look. The limit by which some were
    /// within the last minute.
    pub(super) fn seen(
        &mut self,
        now: Instant,
        counted: [u64; EvictionReason::ALL.len()],
        before: [u64; EvictionReason::ALL.len()],
    ) -> Option<EvictionReason> {
        let before = self.counted.replace(counted).unwrap_or(before);
        let mut all = EvictionReason::ALL.iter().zip(counted.iter().zip(before));
        if let Some((reason, _)) = all.find(|(_, (now, before))| **now > *before) {
            self.last = Some((now, *reason));
        }
        let is_late = |at: Instant| now.saturating_duration_since(at) < EVICTED_LATELY;
        self.last
            .and_then(|(at, reason)| is_late(at).then_some(reason))
    }
}

/// How full the pool is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fill {
    /// Workers there are.
    pub(super) workers: usize,
    /// Workers there may be.
    pub(super) max_workers: usize,
    /// Bytes that are held.
    pub(super) memory: u64,
    /// Bytes that may be held; `None` without a limit.
    pub(super) max_memory: Option<u64>,
}

/// What shows the limit, the limit, and the key to raise.
fn binding(shows: &str, limit: &str, key: Option<String>, message: String) -> Binding {
    Binding {
        shows: shows.to_owned(),
        limit: limit.to_owned(),
        key,
        since_seconds: None,
        tenant: None,
        server: None,
        message,
    }
}

/// The pool takes no new work.
pub(super) fn draining() -> Binding {
    let message = "it takes no new requests and ends with those it has";
    binding("draining", "draining", None, message.to_owned())
}

/// The limit for which the request waits that has waited for longest.
pub(super) fn of_wait(wait: &LongestWait, config: &Config) -> Binding {
    let (limit, key) = limit_of(wait, config);
    Binding {
        since_seconds: Some(wait.waited.as_secs_f64()),
        tenant: Some(wait.tenant.clone()),
        server: Some(wait.server.clone()),
        ..binding("waits", limit, key, refused(&wait.why).message)
    }
}

fn limit_of(wait: &LongestWait, config: &Config) -> (&'static str, Option<String>) {
    let of_pool = |key: &str| Some(format!("pool.{key}"));
    let of_server = |key: &str| Some(format!("servers.{}.{key}", wait.server));
    match &wait.why {
        Refusal::Draining | Refusal::Dropped => ("draining", None),
        Refusal::QueueFull { .. } | Refusal::QueueShare { .. } => {
            ("queue_limit", of_pool("queue_limit"))
        }
        Refusal::SessionShare { .. } | Refusal::KeyBusy { .. } => {
            ("max_in_flight", of_server("max_in_flight"))
        }
        Refusal::NotReady { .. } | Refusal::Changed { .. } | Refusal::StartFailed { .. } => {
            ("start", None)
        }
        Refusal::Follows { .. } => ("max_workers_per_key", of_server("max_workers_per_key")),
        Refusal::TenantFull { tenant, .. } => {
            let settings = config.tenants.get(tenant);
            let own = settings.and_then(|settings| settings.max_workers);
            let key = match own {
                Some(_) => Some(format!("tenants.{tenant}.max_workers")),
                None => of_pool("max_workers_per_tenant"),
            };
            ("max_workers_per_tenant", key)
        }
        Refusal::ServerFull { .. } => ("max_workers_per_server", of_server("max_workers")),
        Refusal::MemoryFull { .. } => ("max_memory", of_pool("max_memory")),
        Refusal::StartsFull { .. } => ("max_starting", of_pool("max_starting")),
        Refusal::PoolFull { .. } => ("max_workers", of_pool("max_workers")),
        Refusal::CircuitOpen { .. } => ("circuit", None),
    }
}

/// The limit that made idle workers go.
pub(super) fn of_eviction(reason: EvictionReason) -> Binding {
    let key = match reason {
        EvictionReason::MaxWorkers => Some("pool.max_workers"),
        EvictionReason::MaxWorkersPerTenant => Some("pool.max_workers_per_tenant"),
        // The key is of the server, whichever that was.
        EvictionReason::MaxWorkersPerServer => None,
        EvictionReason::MaxMemory => Some("pool.max_memory"),
    };
    let message = "idle workers were stopped in the last minute so that others could start";
    let key = key.map(str::to_owned);
    binding("evicts", reason.as_str(), key, message.to_owned())
}

/// The limit that is reached, if one is.
pub(super) fn of_fill(fill: Fill) -> Option<Binding> {
    let reached = |limit: &str| {
        let key = format!("pool.{limit}");
        let message =
            format!("`{key}` is reached: what starts next makes an idle worker go, or waits");
        Some(binding("reached", limit, Some(key), message))
    };
    if fill.workers >= fill.max_workers {
        return reached("max_workers");
    }
    let near = fill.max_memory.map(|most| most - most / NEAR_PART);
    if near.is_some_and(|near| near > 0 && fill.memory >= near) {
        return reached("max_memory");
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::ids::{ServerName, TenantId};

    #[test]
    fn what_waits_names_the_limit_and_the_key_to_raise() {
        let text = "[servers.a]\ncommand = \"a\"\n[auth]\nmode = \"none\"\n[tenants.own]\nmax_workers = 2\n";
        let config = config::parse(text, "pool.toml", Path::new("/")).expect("valid");
        let waited = Duration::from_secs(3);
        let of = |tenant: &str, why: Refusal| {
            let wait = LongestWait {
                tenant: TenantId::new(tenant),
                server: ServerName::new("a"),
                waited,
                why,
            };
            of_wait(&wait, &config)
        };
        let full = |tenant: &str| Refusal::TenantFull {
            tenant: TenantId::new(tenant),
            in_use: 2,
            limit: 2,
            waited,
        };
        let own = of("own", full("own"));
        assert_eq!(own.key.as_deref(), Some("tenants.own.max_workers"));
        assert_eq!(
            (own.limit.as_str(), own.since_seconds),
            ("max_workers_per_tenant", Some(3.0))
        );
        assert!(
            own.message.contains("no worker for tenant `own` within 3s"),
            "{own:?}"
        );
        let other = of("other", full("other"));
        assert_eq!(other.key.as_deref(), Some("pool.max_workers_per_tenant"));
        let busy = Refusal::KeyBusy {
            server: ServerName::new("a"),
            max_in_flight: 1,
            waited,
        };
        assert_eq!(
            of("own", busy).key.as_deref(),
            Some("servers.a.max_in_flight")
        );
    }

    #[test]
    fn an_eviction_binds_for_a_minute_and_a_full_pool_as_long_as_it_is() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut evicting = Evicting::default();
        assert_eq!(evicting.seen(at(0), [3, 0, 0, 7], [3, 0, 0, 7]), None);
        let memory = Some(EvictionReason::MaxMemory);
        assert_eq!(evicting.seen(at(2), [3, 0, 0, 8], [3, 0, 0, 7]), memory);
        assert_eq!(evicting.seen(at(61), [3, 0, 0, 8], [3, 0, 0, 8]), memory);
        assert_eq!(evicting.seen(at(62), [3, 0, 0, 8], [3, 0, 0, 8]), None);
        let first = Evicting::default().seen(at(0), [1, 0, 0, 0], [0; 4]);
        assert_eq!(
            first,
            Some(EvictionReason::MaxWorkers),
            "within the minute before"
        );

        let fill = Fill {
            workers: 7,
            max_workers: 8,
            memory: 900,
            max_memory: Some(1_000),
        };
        assert_eq!(of_fill(fill), None);
        let full = Fill { workers: 8, ..fill };
        assert_eq!(of_fill(full).map(|it| it.limit), Some("max_workers".into()));
        let heavy = Fill {
            memory: 938,
            ..fill
        };
        assert_eq!(of_fill(heavy).map(|it| it.limit), Some("max_memory".into()));
        let unbounded = Fill {
            max_memory: None,
            ..heavy
        };
        assert_eq!(of_fill(unbounded), None);
    }
}
