//! The ledger as those who charge it see it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::{Amounts, Hour, Ledger, LedgerBounds, MonthSum, Quotas, Row, Verdict, Who};
use crate::ids::{ServerName, TenantId};

/// What everybody uses. Charging takes a small lock and no time of any other kind.
#[derive(Debug)]
pub struct Usage {
    ledger: Mutex<Ledger>,
}

impl Usage {
    /// Nothing was used in this run; `of_month` is what tenants have used in the month of now before it.
    pub fn new(of_month: impl IntoIterator<Item = (TenantId, MonthSum)>) -> Arc<Self> {
        let mut ledger = Ledger::new(Hour::of(SystemTime::now()), LedgerBounds::default());
        for (tenant, used) in of_month {
            ledger.had_used(&tenant, used);
        }
        Arc::new(Self {
            ledger: Mutex::new(ledger),
        })
    }

    /// Adds what was used just now.
    pub fn charge(&self, who: Who<'_>, amounts: &Amounts) {
        let now = Hour::of(SystemTime::now());
        self.ledger.lock().charge(now, who, amounts);
    }

    /// Adds what a worker of that tenant has used just now; it is divided among those who called its server lately.
    pub fn charge_worker(&self, tenant: &TenantId, server: &ServerName, amounts: &Amounts) {
        let now = Hour::of(SystemTime::now());
        let mut ledger = self.ledger.lock();
        ledger.charge_worker(now, tenant, server, amounts);
    }

    /// A worker of that tenant was started, and serves.
    pub fn started(&self, tenant: &TenantId, server: &ServerName) {
        let amounts = Amounts {
            starts: 1,
            ..Amounts::default()
        };
        let who = Who {
            tenant,
            user: &None,
            server,
        };
        self.charge(who, &amounts);
    }

    /// Whether the tenant may use more, under these quotas.
    pub fn verdict(&self, tenant: &TenantId, quotas: Quotas) -> Verdict {
        if !quotas.is_limited() {
            return Verdict::Allowed;
        }
        let now = Hour::of(SystemTime::now());
        quotas.verdict(now, self.ledger.lock().of_month(now, tenant))
    }

    /// What the tenant has used in this month.
    pub fn of_month(&self, tenant: &TenantId) -> MonthSum {
        let now = Hour::of(SystemTime::now());
        self.ledger.lock().of_month(now, tenant)
    }

    /// Takes about so many rows of what was charged and not taken yet, to write them down; none when there is nothing.
    pub fn take(&self, about: usize) -> Vec<Row> {
        let now = Hour::of(SystemTime::now());
        self.ledger.lock().take(now, about)
    }

    /// Gives back rows that could not be written.
    pub fn put_back(&self, rows: Vec<Row>) {
        self.ledger.lock().put_back(rows);
    }

    /// What was charged and not taken yet.
    pub fn pending(&self) -> Vec<Row> {
        self.ledger.lock().pending()
    }
}

/// Whose a request is, to charge it at its end.
#[derive(Clone, Debug)]
pub struct Meter {
    usage: Arc<Usage>,
    tenant: TenantId,
    user: Option<Arc<str>>,
    server: ServerName,
}

impl Meter {
    /// For requests of that user of that tenant to that server.
    pub fn new(
        usage: &Arc<Usage>,
        tenant: &TenantId,
        user: Option<Arc<str>>,
        server: &ServerName,
    ) -> Self {
        Self {
            usage: Arc::clone(usage),
            tenant: tenant.clone(),
            user,
            server: server.clone(),
        }
    }

    /// Of which server it is known to be.
    pub fn is_of(&mut self, server: &ServerName) {
        self.server = server.clone();
    }

    /// Adds what was used just now.
    pub fn charge(&self, amounts: &Amounts) {
        let who = Who {
            tenant: &self.tenant,
            user: &self.user,
            server: &self.server,
        };
        self.usage.charge(who, amounts);
    }

    /// A request waited that long for a slot.
    pub fn waited(&self, wait: Duration) {
        let queue_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let amounts = Amounts {
            queue_us,
            ..Amounts::default()
        };
        self.charge(&amounts);
    }
}
