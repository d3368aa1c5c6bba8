//! The ledger as those who charge it see it.

use std::sync::Arc;
use std::time::Duration;

use nix::time::ClockId;
use parking_lot::Mutex;

use super::{
    Amounts, Hour, Ledger, LedgerBounds, MonthSum, Quotas, Row, Tally, Used, Verdict, Who,
};
use crate::ids::{ServerName, TenantId};

/// What everybody uses. Charging takes a small lock and no time of any other kind.
#[derive(Debug)]
pub struct Usage {
    charged: Mutex<Charged>,
}

/// Where charges go.
#[derive(Debug)]
struct Charged {
    ledger: Ledger,
    /// What was charged since that was last taken, while somebody looks at rates.
    tally: Option<Tally>,
}

impl Charged {
    fn tally(&mut self, tenant: &TenantId, server: &ServerName, amounts: &Amounts) {
        if let Some(tally) = &mut self.tally {
            tally.add(tenant, server, Used::from(amounts));
        }
    }
}

impl Usage {
    /// Nothing was used in this run; `of_month` is what tenants have used in the month of now before it.
    pub fn new(of_month: impl IntoIterator<Item = (TenantId, MonthSum)>) -> Arc<Self> {
        let mut ledger = Ledger::new(this_hour(), LedgerBounds::default());
        for (tenant, used) in of_month {
            ledger.had_used(&tenant, used);
        }
        Arc::new(Self {
            charged: Mutex::new(Charged {
                ledger,
                tally: None,
            }),
        })
    }

    /// Adds what was used just now.
    pub fn charge(&self, who: Who<'_>, amounts: &Amounts) {
        let now = this_hour();
        let mut charged = self.charged.lock();
        charged.ledger.charge(now, who, amounts);
        charged.tally(who.tenant, who.server, amounts);
    }

    /// Adds what a worker of that tenant has used just now; it is divided among those who called its server lately.
    pub fn charge_worker(&self, tenant: &TenantId, server: &ServerName, amounts: &Amounts) {
        let now = this_hour();
        let mut charged = self.charged.lock();
        charged.ledger.charge_worker(now, tenant, server, amounts);
        charged.tally(tenant, server, amounts);
    }

    /// What was charged since the last call, by tenant and server; nothing at the first call, from which on it is counted until
    /// [`Self::stop_tally`].
    pub fn take_tally(&self) -> Tally {
        let mut charged = self.charged.lock();
        let before = charged.tally.replace(Tally::default());
        before.unwrap_or_default()
    }

    /// Nobody looks at rates any more.
    pub fn stop_tally(&self) {
        let before = self.charged.lock().tally.take();
        // Freed when the lock is.
        drop(before);
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
        let now = this_hour();
        let used = self.charged.lock().ledger.of_month(now, tenant);
        quotas.verdict(now, used)
    }

    /// What the tenant has used in this month.
    pub fn of_month(&self, tenant: &TenantId) -> MonthSum {
        let now = this_hour();
        self.charged.lock().ledger.of_month(now, tenant)
    }

    /// Takes about so many rows of what was charged and not taken yet, to write them down; none when there is nothing.
    pub fn take(&self, about: usize) -> Vec<Row> {
        let now = this_hour();
        self.charged.lock().ledger.take(now, about)
    }

    /// Gives back rows that could not be written.
    pub fn put_back(&self, rows: Vec<Row>) {
        self.charged.lock().ledger.put_back(rows);
    }

    /// What was charged and not taken yet.
    pub fn pending(&self) -> Vec<Row> {
        self.charged.lock().ledger.pending()
    }
}

/// Whose a request is, to charge it at its end.
#[derive(Clone, Debug)]
pub struct Meter {
    usage: Arc<Usage>,
    tenant: TenantId,
    user: Option<Arc<str>>,
    server: ServerName,
    /// Bytes that came and went, and are not charged yet: they are with the next request.
    bytes_in: u64,
    bytes_out: u64,
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
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Of which server it is known to be.
    pub fn is_of(&mut self, server: &ServerName) {
        self.server = server.clone();
    }

    /// So many bytes came for the next request.
    pub fn came_in(&mut self, bytes: u64) {
        self.bytes_in += bytes;
    }

    /// So many bytes were told for the next request that has its outcome.
    pub fn told(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }

    /// A request has its outcome.
    pub fn request(&mut self, is_call: bool, is_error: bool) {
        let amounts = Amounts {
            requests: 1,
            calls: is_call.into(),
            errors: is_error.into(),
            bytes_in: std::mem::take(&mut self.bytes_in),
            bytes_out: std::mem::take(&mut self.bytes_out),
            ..Amounts::default()
        };
        self.charge(&amounts);
    }

    fn charge(&self, amounts: &Amounts) {
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

/// The hour of now, to within a tick of the kernel's: the clock that is read without counting costs a call a tenth of what the other does.
fn this_hour() -> Hour {
    let now = ClockId::CLOCK_REALTIME_COARSE.now();
    let seconds = now.ok().and_then(|now| u64::try_from(now.tv_sec()).ok());
    Hour::of_seconds(seconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_tallied_only_while_somebody_looks() {
        let usage = Usage::new([]);
        let (tenant, server) = (TenantId::new("acme"), ServerName::new("search"));
        let call =
            |usage: &Arc<Usage>| Meter::new(usage, &tenant, None, &server).request(true, false);
        call(&usage);
        assert_eq!(usage.take_tally(), Tally::default());
        call(&usage);
        let busy = Amounts::of_processor(Duration::from_millis(30));
        usage.charge_worker(&tenant, &server, &busy);
        let tally = usage.take_tally();
        let expected = Used {
            calls: 1,
            errors: 0,
            cpu_ms: 30,
        };
        assert_eq!(
            tally.pairs().collect::<Vec<_>>(),
            [(&tenant, &server, expected)]
        );
        usage.stop_tally();
        call(&usage);
        assert_eq!(usage.take_tally(), Tally::default());
    }
}
