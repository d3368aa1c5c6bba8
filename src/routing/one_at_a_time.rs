//! Servers whose processes do not start beside each other.
//!
//! The capabilities that a process is told at its start are part of its pool key, so that a tenant may have several of one
//! server. A server that holds what only one process can have, such as a lock on a file, fails to start a second time.
//! Where pool.toml does not say how many there may be, that is found out: a start that fails while another process with
//! an equal launch spec serves is held against nobody, and from then on one follows the other. A start that fails alone
//! takes that back.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashSet;

use crate::config::Server;
use crate::ids::{ServerName, TenantId};

/// Servers of tenants that are known to be such ones; when there are more, all are forgotten, and found out again.
const MAX_KNOWN: usize = 10_000;

/// The servers, by tenant, that are known to have one process at a time.
#[derive(Debug, Default)]
pub(crate) struct OneAtATime {
    known: Mutex<FxHashSet<(TenantId, ServerName)>>,
    /// Grows whenever a session may have to take another route than before.
    edition: AtomicU64,
}

impl OneAtATime {
    pub(crate) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// Whether only one process of the server may be there for the tenant, of each launch spec.
    pub(crate) fn holds(&self, server: &Server, tenant: &TenantId, name: &ServerName) -> bool {
        server.one_at_a_time.is_some_and(|is_written| {
            is_written || {
                let known = self.known.lock();
                !known.is_empty() && known.contains(&(tenant.clone(), name.clone()))
            }
        })
    }

    /// A process of it has not started beside another. Says whether that is news.
    pub(crate) fn note(&self, tenant: &TenantId, name: &ServerName) -> bool {
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let is_new = known.insert((tenant.clone(), name.clone()));
        if is_new {
            self.edition.fetch_add(1, Ordering::Release);
        }
        is_new
    }

    /// The server does not start alone either.
    pub(crate) fn forget(&self, tenant: &TenantId, name: &ServerName) {
        if self.known.lock().remove(&(tenant.clone(), name.clone())) {
            self.edition.fetch_add(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_holds_and_what_is_not_is_found_out_for_each_tenant() {
        let text = r#"
[servers.free]
command = "x"
[servers.one]
command = "x"
max_workers_per_key = 1
[servers.two]
command = "x"
max_workers_per_key = 2
"#;
        let config = crate::config::parse(text, "pool.toml", std::path::Path::new("/"));
        let config = config.expect("valid");
        let (a, b) = (TenantId::new("a"), TenantId::new("b"));
        let one_at_a_time = OneAtATime::default();
        let holds = |tenant: &TenantId, name: &str| {
            one_at_a_time.holds(&config.servers[name], tenant, &ServerName::new(name))
        };
        assert!(holds(&a, "one") && !holds(&a, "free") && !holds(&a, "two"));
        for name in ["free", "two"] {
            assert!(one_at_a_time.note(&a, &ServerName::new(name)));
            assert!(!one_at_a_time.note(&a, &ServerName::new(name)), "known");
        }
        assert_eq!(one_at_a_time.edition(), 2);
        assert!(holds(&a, "free") && !holds(&b, "free") && !holds(&a, "two"));
        one_at_a_time.forget(&a, &ServerName::new("free"));
        assert!(!holds(&a, "free"));
        assert_eq!(one_at_a_time.edition(), 3);
    }
}
