//! What of a frame is told: the rows that are asked for, as far as they fit.

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use super::bounds::{CIRCUITS, EVENTS, GRANTS, INSTALLS, RANKED, REJECTIONS, cut, fitting};
use super::frame::Frame;
use super::query::OverviewQuery;
use super::ranking::top;
use super::rows::{
    Binding, CircuitInWords, Evictions, GrantInDanger, InstallRow, Lately, MemoryUse, Mix, Rates,
    Rejection, ServerUse, TenantUse, WorkerUse,
};
use crate::admin::model::{Event, LastError, Status};
use crate::ids::TenantId;

/// Events that are told, at the most.
const MAX_EVENTS: usize = 30;
/// Circuits, installs and authorisations that are told, at the most each.
const MAX_OTHERS: usize = 32;

/// Rows, and how many there are of them in all.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Listed<T> {
    /// All that match.
    pub total: usize,
    /// The first of them.
    pub rows: Vec<T>,
}

/// Refused requests, by reason.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rejections {
    /// All since the start.
    pub total: u64,
    /// All of late.
    pub lately: u64,
    /// In how many seconds until now `lately` was counted.
    pub over_seconds: f64,
    /// By reason, those with most of late first.
    pub rows: Vec<Rejection>,
}

/// How requests came to workers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Starts {
    /// Since the start.
    pub since_start: Mix,
    /// Of late.
    pub lately: Lately<Mix>,
}

/// Idle workers that were stopped to make room.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EvictionsTold {
    /// Since the start.
    pub since_start: Evictions,
    /// Of late, as rejections are.
    pub lately: u64,
}

/// The latest events.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LatestEvents {
    /// The newest first.
    pub rows: Vec<Event>,
}

/// `GET /api/v1/overview`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Overview {
    /// When this was looked at, in milliseconds since 1970.
    pub at_ms: u64,
    /// How often a stream tells, in milliseconds.
    pub every_ms: u64,
    /// As `GET /api/v1/status`, without circuits.
    pub status: Status,
    /// What workers hold.
    pub memory: MemoryUse,
    /// The limit that binds now, if one does.
    pub binding: Option<Binding>,
    /// What all use.
    pub rates: Rates,
    /// Tenants, those that use most first.
    pub tenants: Listed<TenantUse>,
    /// Servers, those that use most first.
    pub servers: Listed<ServerUse>,
    /// Workers, those that use most first.
    pub workers: Listed<WorkerUse>,
    /// How requests came to workers.
    pub starts: Starts,
    /// Refused requests.
    pub rejections: Rejections,
    /// Evicted workers.
    pub evictions: EvictionsTold,
    /// Circuits that are open.
    pub circuits: Listed<CircuitInWords>,
    /// Installs under way.
    pub installs: Listed<InstallRow>,
    /// Authorisations that end soon, or fail.
    pub oauth: Listed<GrantInDanger>,
    /// What happened last.
    pub events: LatestEvents,
}

impl Overview {
    /// The rows of the frame that are asked for.
    pub fn of(frame: &Frame, query: &OverviewQuery) -> Self {
        Self {
            at_ms: frame.at_ms,
            every_ms: frame.every_ms,
            status: status(&frame.status),
            memory: frame.memory,
            binding: frame.binding.clone().map(|binding| Binding {
                message: cut(&binding.message),
                ..binding
            }),
            rates: frame.rates,
            tenants: tenants(frame, query),
            servers: servers(frame, query),
            workers: workers(frame, query),
            starts: Starts {
                since_start: frame.mix,
                lately: frame.mix_lately,
            },
            rejections: rejections(frame),
            evictions: EvictionsTold {
                since_start: frame.evictions,
                lately: frame.evictions_lately,
            },
            circuits: circuits(frame, query),
            installs: listed(
                frame
                    .installs
                    .iter()
                    .filter(|it| query.is_of(query.tenant.as_deref(), Some(it.server.as_str()))),
                |it| InstallRow {
                    package: cut(&it.package),
                    ..it.clone()
                },
                INSTALLS,
            ),
            oauth: listed(
                frame
                    .grants
                    .iter()
                    .filter(|it| query.is_of(Some(it.tenant.as_str()), Some(it.server.as_str()))),
                |it| GrantInDanger {
                    message: cut(&it.message),
                    ..it.clone()
                },
                GRANTS,
            ),
            events: events(frame, query),
        }
    }
}

fn status(status: &Status) -> Status {
    let mut status = status.clone();
    status.config = status.config.as_deref().map(cut);
    if let Some(wait) = &mut status.longest_wait {
        wait.message = cut(&wait.message);
    }
    status
}

/// The first of some rows, as they are told.
fn listed<'a, T: Serialize + 'a>(
    rows: impl Iterator<Item = &'a T> + Clone,
    told: impl Fn(&T) -> T,
    bytes: usize,
) -> Listed<T> {
    Listed {
        total: rows.clone().count(),
        rows: fitting(rows.take(MAX_OTHERS).map(told), bytes),
    }
}

fn tenants(frame: &Frame, query: &OverviewQuery) -> Listed<TenantUse> {
    let of_server: Option<FxHashSet<&TenantId>> = query.server.as_deref().map(|server| {
        let workers = frame.workers.iter();
        let of_it = workers.filter(|worker| worker.server.as_str() == server);
        of_it.map(|worker| &worker.tenant).collect()
    });
    let is_meant = |row: &&TenantUse| {
        let name = row.name.as_str();
        query.tenant.as_deref().is_none_or(|wanted| wanted == name)
            && of_server.as_ref().is_none_or(|it| it.contains(&row.name))
            && query.is_found_in(&[name])
    };
    let meant: Vec<_> = frame.tenants.iter().filter(is_meant).collect();
    Listed {
        total: meant.len(),
        rows: fitting(
            top(meant, query.sort, query.limit).into_iter().cloned(),
            RANKED,
        ),
    }
}

fn servers(frame: &Frame, query: &OverviewQuery) -> Listed<ServerUse> {
    let of_tenant: Option<FxHashSet<&str>> = query.tenant.as_deref().map(|tenant| {
        let workers = frame.workers.iter();
        let of_it = workers.filter(|worker| worker.tenant.as_str() == tenant);
        of_it.map(|worker| worker.server.as_str()).collect()
    });
    let is_meant = |row: &&ServerUse| {
        let name = row.name.as_str();
        query.server.as_deref().is_none_or(|wanted| wanted == name)
            && of_tenant.as_ref().is_none_or(|it| it.contains(name))
            && query.is_found_in(&[name])
    };
    let meant: Vec<_> = frame.servers.iter().filter(is_meant).collect();
    let told = |row: &ServerUse| ServerUse {
        last_error: row.last_error.clone().map(|error| LastError {
            message: cut(&error.message),
            ..error
        }),
        ..row.clone()
    };
    Listed {
        total: meant.len(),
        rows: fitting(
            top(meant, query.sort, query.limit).into_iter().map(told),
            RANKED,
        ),
    }
}

fn workers(frame: &Frame, query: &OverviewQuery) -> Listed<WorkerUse> {
    let is_meant = |row: &&WorkerUse| {
        let (tenant, server) = (row.tenant.as_str(), row.server.as_str());
        query.is_of(Some(tenant), Some(server))
            && (query.words.is_empty() || query.is_found_in(&[tenant, server, &row.id.to_string()]))
    };
    let meant: Vec<_> = frame.workers.iter().filter(is_meant).collect();
    Listed {
        total: meant.len(),
        rows: fitting(
            top(meant, query.sort, query.limit).into_iter().cloned(),
            RANKED,
        ),
    }
}

fn rejections(frame: &Frame) -> Rejections {
    let all = &frame.rejections;
    let mut rows: Vec<_> = all.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.lately, row.total)));
    Rejections {
        total: all.iter().map(|row| row.total).sum(),
        lately: all.iter().map(|row| row.lately).sum(),
        over_seconds: frame.rejections_over_seconds,
        rows: fitting(rows.into_iter().cloned(), REJECTIONS),
    }
}

fn circuits(frame: &Frame, query: &OverviewQuery) -> Listed<CircuitInWords> {
    let is_meant = |it: &&CircuitInWords| {
        let tenant = it.circuit.tenant.as_ref().map(TenantId::as_str);
        // One that is open for everyone has to do with each tenant.
        let tenant = tenant.or(query.tenant.as_deref());
        query.is_of(tenant, Some(it.circuit.server.as_str()))
    };
    let told = |it: &CircuitInWords| CircuitInWords {
        message: cut(&it.message),
        circuit: it.circuit.clone(),
    };
    listed(frame.circuits.iter().filter(is_meant), told, CIRCUITS)
}

fn events(frame: &Frame, query: &OverviewQuery) -> LatestEvents {
    let is_meant = |event: &&Event| {
        let tenant = event.tenant.as_ref().map(TenantId::as_str);
        let server = event.server.as_ref().map(crate::ids::ServerName::as_str);
        query.is_of(tenant, server)
    };
    let told = |event: &Event| Event {
        message: cut(&event.message),
        ..event.clone()
    };
    let meant = frame.events.iter().filter(is_meant).take(MAX_EVENTS);
    LatestEvents {
        rows: fitting(meant.map(told), EVENTS),
    }
}
