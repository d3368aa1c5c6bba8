//! The pure ledger.
//!
//! ```text
//!            charge            the hour ends           take
//!  ─────────────────▶ open ───────────────────▶ closed ─────▶ rows to write
//!                       └──────────── take ──────────────────▶
//!                                               closed ◀───── put_back
//! ```
//!
//! The names of an hour are kept until it ends, also when what was charged to them was taken: so an hour has no more rows than the
//! bounds say, however often it is written down.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::row::OTHERS;
use super::{Amounts, Hour, Month, Row};
use crate::ids::{ServerName, TenantId};

/// How many names of an hour are told apart.
#[derive(Clone, Copy, Debug)]
pub struct LedgerBounds {
    /// Users and servers of one tenant; further users of it are counted together.
    pub of_tenant: usize,
    /// Users and servers of all tenants; further users are counted together, and beyond twice as many, tenants.
    pub of_all: usize,
    /// Tenants whose month is known; further ones are counted together, and held to their quotas so.
    pub tenants: usize,
    /// Rows of earlier hours that could not be written; further ones are put together by server and hour.
    pub closed: usize,
}

impl Default for LedgerBounds {
    fn default() -> Self {
        Self {
            of_tenant: 1_000,
            of_all: 50_000,
            tenants: 100_000,
            closed: 100_000,
        }
    }
}

/// Whose something is.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The user, if it is one's.
    pub user: &'a Option<Arc<str>>,
    /// The server.
    pub server: &'a ServerName,
}

/// What a tenant has used in a month, as far as there are quotas on it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MonthSum {
    /// Calls.
    pub calls: u64,
    /// Memory of workers, in kibibytes for a millisecond.
    pub kib_ms: u64,
}

/// A tenant, with what it has used in this hour and this month.
#[derive(Debug, Default)]
struct OfTenant {
    month: Month,
    used: MonthSum,
    servers: FxHashMap<ServerName, OfServer>,
    /// Rows of all its servers.
    rows: usize,
}

impl OfTenant {
    /// What was used in that month; a new one begins at nothing.
    fn of_month(&mut self, month: Month) -> &mut MonthSum {
        if self.month != month {
            self.month = month;
            self.used = MonthSum::default();
        }
        &mut self.used
    }
}

/// What a tenant has used of a server in this hour and is not taken yet.
#[derive(Debug, Default)]
struct OfServer {
    users: FxHashMap<Option<Arc<str>>, Amounts>,
    /// What its workers have used, to be divided.
    of_workers: Amounts,
    is_listed: bool,
}

impl OfServer {
    /// What each user has used: with their part of what workers have, by the requests of each that are not taken yet. Where there are
    /// none, that is no user's.
    fn shares(&self) -> Vec<(Option<Arc<str>>, Amounts)> {
        let used = self.users.iter().filter(|(_, used)| !used.is_zero());
        let mut used: Vec<_> = used.map(|(user, used)| (user.clone(), *used)).collect();
        if self.of_workers.is_zero() {
            return used;
        }
        let weights: Vec<u64> = used.iter().map(|(_, used)| used.requests).collect();
        if weights.iter().all(|weight| *weight == 0) {
            match used.iter_mut().find(|(user, _)| user.is_none()) {
                Some((_, own)) => own.add(&self.of_workers),
                None => used.push((None, self.of_workers)),
            }
            return used;
        }
        let parts = self.of_workers.divided(&weights);
        for ((_, used), part) in used.iter_mut().zip(parts) {
            used.add(&part);
        }
        used
    }

    /// Takes the shares out.
    fn take(&mut self) -> Vec<(Option<Arc<str>>, Amounts)> {
        let shares = self.shares();
        self.of_workers = Amounts::default();
        for used in self.users.values_mut() {
            *used = Amounts::default();
        }
        self.is_listed = false;
        shares
    }
}

/// What a closed row is of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Closed {
    tenant: TenantId,
    user: Option<Arc<str>>,
    server: ServerName,
    hour: Hour,
}

/// What was used, by tenant, user, server and hour, until it is taken; and what of it counts for the quotas of this month.
#[derive(Debug)]
pub struct Ledger {
    bounds: LedgerBounds,
    hour: Hour,
    tenants: FxHashMap<TenantId, OfTenant>,
    /// Rows of the hour.
    rows: usize,
    /// Tenants and servers of which there is something to take.
    listed: Vec<(TenantId, ServerName)>,
    closed: FxHashMap<Closed, Amounts>,
}

impl Ledger {
    /// An empty one, in that hour.
    pub fn new(hour: Hour, bounds: LedgerBounds) -> Self {
        Self {
            bounds,
            hour,
            tenants: FxHashMap::default(),
            rows: 0,
            listed: vec![],
            closed: FxHashMap::default(),
        }
    }

    /// The tenant has used that much in this month before.
    pub fn had_used(&mut self, tenant: &TenantId, used: MonthSum) {
        let month = self.hour.month();
        *self.tenant(tenant).1.of_month(month) = used;
    }

    /// What the tenant has used in the month of that hour.
    pub fn of_month(&self, now: Hour, tenant: &TenantId) -> MonthSum {
        let known = self.tenants.get(tenant);
        let is_full = self.tenants.len() >= self.bounds.tenants;
        let known = known.or_else(|| self.tenants.get(OTHERS).filter(|_| is_full));
        let known = known.filter(|it| it.month == now.month());
        known.map(|it| it.used).unwrap_or_default()
    }

    /// Adds what was used in that hour.
    pub fn charge(&mut self, now: Hour, who: Who<'_>, amounts: &Amounts) {
        self.turn(now);
        self.count_month(who.tenant, amounts);
        let known = self.tenants.get_mut(who.tenant);
        let known = known.and_then(|it| it.servers.get_mut(who.server));
        // Nearly always: one look for each of the three names.
        if let Some(of_server) = known
            && let Some(used) = of_server.users.get_mut(who.user)
        {
            used.add(amounts);
            if !std::mem::replace(&mut of_server.is_listed, true) {
                self.listed.push((who.tenant.clone(), who.server.clone()));
            }
            return;
        }
        let tenant = self.server_of(who.tenant, who.server);
        let user = self.room_for(&tenant, who);
        if let Some(of_server) = self.of_server(&tenant, who.server) {
            of_server.users.entry(user).or_default().add(amounts);
        }
        self.list(&tenant, who.server);
    }

    /// Adds what a worker has used of processor and memory in that hour. When it is taken, it is divided among the users whose requests to
    /// the server have ended since it was last taken, by their numbers.
    pub fn charge_worker(
        &mut self,
        now: Hour,
        tenant: &TenantId,
        server: &ServerName,
        amounts: &Amounts,
    ) {
        let amounts = amounts.of_workers();
        if amounts.is_zero() {
            return;
        }
        self.turn(now);
        self.count_month(tenant, &amounts);
        let tenant = self.server_of(tenant, server);
        if let Some(of_server) = self.of_server(&tenant, server) {
            of_server.of_workers.add(&amounts);
        }
        self.list(&tenant, server);
    }

    /// Takes about so many rows of what was charged and not taken yet; none when there is nothing. More come only where a tenant has more
    /// users of one server.
    pub fn take(&mut self, now: Hour, about: usize) -> Vec<Row> {
        self.turn(now);
        let mut rows = Vec::new();
        let closed: Vec<Closed> = self.closed.keys().take(about).cloned().collect();
        for key in closed {
            if let Some(amounts) = self.closed.remove(&key) {
                rows.push(key.row(amounts));
            }
        }
        while rows.len() < about
            && let Some((tenant, server)) = self.listed.pop()
        {
            let hour = self.hour;
            let taken = self.of_server(&tenant, &server).map(OfServer::take);
            let taken = taken.unwrap_or_default().into_iter();
            rows.extend(taken.map(|(user, amounts)| Row {
                tenant: tenant.clone(),
                user,
                server: server.clone(),
                hour,
                amounts,
            }));
        }
        rows
    }

    /// Gives back what was taken and could not be written.
    pub fn put_back(&mut self, rows: Vec<Row>) {
        for row in rows {
            self.close(row);
        }
    }

    /// What was charged and is not taken, as [`Ledger::take`] would give it.
    pub fn pending(&self) -> Vec<Row> {
        let closed = self.closed.iter();
        let mut rows: Vec<_> = closed.map(|(key, it)| key.clone().row(*it)).collect();
        for (tenant, server) in &self.listed {
            let of_tenant = self.tenants.get(tenant);
            let of_server = of_tenant.and_then(|it| it.servers.get(server));
            let shares = of_server.map(OfServer::shares).unwrap_or_default();
            rows.extend(shares.into_iter().map(|(user, amounts)| Row {
                tenant: tenant.clone(),
                user,
                server: server.clone(),
                hour: self.hour,
                amounts,
            }));
        }
        rows
    }

    /// Another hour has begun, earlier or later: what is of the one before is closed, and its names are forgotten.
    fn turn(&mut self, now: Hour) {
        if now == self.hour {
            return;
        }
        for (tenant, server) in std::mem::take(&mut self.listed) {
            let taken = self.of_server(&tenant, &server).map(OfServer::take);
            let hour = self.hour;
            for (user, amounts) in taken.unwrap_or_default() {
                self.close(Row {
                    tenant: tenant.clone(),
                    user,
                    server: server.clone(),
                    hour,
                    amounts,
                });
            }
        }
        self.hour = now;
        self.rows = 0;
        let month = now.month();
        self.tenants.retain(|_, it| it.month == month);
        for of_tenant in self.tenants.values_mut() {
            of_tenant.servers = FxHashMap::default();
            of_tenant.rows = 0;
        }
    }

    fn close(&mut self, row: Row) {
        let mut key = Closed {
            tenant: row.tenant,
            user: row.user,
            server: row.server,
            hour: row.hour,
        };
        let is_full = self.closed.len() >= self.bounds.closed;
        if is_full && !self.closed.contains_key(&key) {
            key.tenant = TenantId::new(OTHERS);
            key.user = Some(OTHERS.into());
        }
        self.closed.entry(key).or_default().add(&row.amounts);
    }

    /// The entry of the tenant, or that of those who are counted together; by its name.
    fn tenant(&mut self, tenant: &TenantId) -> (TenantId, &mut OfTenant) {
        let is_full = self.tenants.len() >= self.bounds.tenants;
        let name = match is_full && !self.tenants.contains_key(tenant) {
            true => TenantId::new(OTHERS),
            false => tenant.clone(),
        };
        let month = self.hour.month();
        let entry = self.tenants.entry(name.clone());
        let entry = entry.or_insert_with(|| OfTenant {
            month,
            ..OfTenant::default()
        });
        (name, entry)
    }

    fn count_month(&mut self, tenant: &TenantId, amounts: &Amounts) {
        let month = self.hour.month();
        let used = match self.tenants.get_mut(tenant) {
            Some(known) => known.of_month(month),
            None => self.tenant(tenant).1.of_month(month),
        };
        used.calls = used.calls.saturating_add(amounts.calls);
        used.kib_ms = used.kib_ms.saturating_add(amounts.memory_kib_ms());
    }

    fn of_server(&mut self, tenant: &TenantId, server: &ServerName) -> Option<&mut OfServer> {
        self.tenants.get_mut(tenant)?.servers.get_mut(server)
    }

    /// Notes that there is something to take.
    fn list(&mut self, tenant: &TenantId, server: &ServerName) {
        let of_server = self.of_server(tenant, server);
        if of_server.is_some_and(|it| !std::mem::replace(&mut it.is_listed, true)) {
            self.listed.push((tenant.clone(), server.clone()));
        }
    }

    /// Sees to it that there is an entry of the tenant for that server, which has one row for what is no user's; returns the tenant whose
    /// it is: where there are too many, that of those who are counted together.
    fn server_of(&mut self, tenant: &TenantId, server: &ServerName) -> TenantId {
        let (name, entry) = self.tenant(tenant);
        if entry.servers.contains_key(server) {
            return name;
        }
        let is_full = self.rows >= self.bounds.of_all.saturating_mul(2);
        let name = match is_full {
            true => TenantId::new(OTHERS),
            false => name,
        };
        let entry = self.tenants.entry(name.clone()).or_default();
        if !entry.servers.contains_key(server) {
            entry.servers.insert(server.clone(), OfServer::default());
            entry.rows += 1;
            self.rows += 1;
        }
        name
    }

    /// The user as whom is counted who has no row yet in the entry of that tenant; one with a row is itself.
    fn room_for(&mut self, tenant: &TenantId, who: Who<'_>) -> Option<Arc<str>> {
        let bounds = self.bounds;
        let entry = self.tenants.entry(tenant.clone()).or_default();
        let Some(of_server) = entry.servers.get(who.server) else {
            return who.user.clone();
        };
        if who.user.is_none() || of_server.users.contains_key(who.user) {
            return who.user.clone();
        }
        let is_full = entry.rows >= bounds.of_tenant || self.rows >= bounds.of_all;
        let user = match is_full {
            true => Some(Arc::from(OTHERS)),
            false => who.user.clone(),
        };
        if !of_server.users.contains_key(&user) {
            entry.rows += 1;
            self.rows += 1;
        }
        user
    }
}

impl Closed {
    fn row(self, amounts: Amounts) -> Row {
        Row {
            tenant: self.tenant,
            user: self.user,
            server: self.server,
            hour: self.hour,
            amounts,
        }
    }
}
