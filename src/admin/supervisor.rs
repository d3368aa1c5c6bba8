//! What the admin API needs to know and do; the daemon implements it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::broadcast;

use super::accounts::{Accounting, Act};
use super::log_filter::{LogFilterRow, NewLogFilter};
use super::minutes::History;
use super::model::{
    EndedRow, Event, PrimedStarts, RuleCheck, ServerRow, SessionRow, Status, TenantRow, WorkerRow,
};
use super::overview::Frame;
use super::requests::{RequestFilter, RequestRow};
use super::usage::UsageReport;
use crate::ids::{RequestId, WorkerId};
use crate::store::UsageFilter;
use crate::telemetry::FilterError;

/// A reload under way: what changed, in words, or why pool.toml was not put in force (the old config then stays).
pub type Reload = Pin<Box<dyn Future<Output = Result<String, NotReloaded>> + Send>>;

/// Why pool.toml was not put in force; the kinds of it are the daemon's.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NotReloaded(#[from] Box<dyn std::error::Error + Send + Sync>);

/// A reading of what was used under way.
pub type UsageReading = Pin<Box<dyn Future<Output = Result<UsageReport, UsageNotRead>> + Send>>;

/// Why what was used could not be read; the kinds of it are the store's.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct UsageNotRead(#[from] Box<dyn std::error::Error + Send + Sync>);

/// Why a worker is not hibernated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotHibernated {
    /// There is no worker of that id.
    NoSuchWorker,
    /// The worker cannot be paged out now, and why.
    Unavailable(String),
}

/// A worker's log from some line on.
#[derive(Debug)]
pub struct LogFollow {
    /// The last lines that were there, oldest first.
    pub past: Vec<String>,
    /// Every line after `recent`; subscribed under the lock that `recent` was read under, so that none is lost or told twice.
    /// The channel closes when the worker is gone.
    pub next: broadcast::Receiver<String>,
}

/// Events from some time on, and those to come.
#[derive(Debug)]
pub struct EventFollow {
    /// Events that have happened since and are remembered, oldest first.
    pub past: Vec<Event>,
    /// Every event after `recent`; subscribed under the lock that `recent` was read under, so that none is lost or told twice.
    pub next: broadcast::Receiver<Event>,
}

/// The running supervisor. All but [`Supervisor::reload`], [`Supervisor::usage`] and [`Supervisor::account`] answer at once from memory.
///
/// Lines of logs are as the worker wrote them, secrets redacted, without the line end.
pub trait Supervisor: Send + Sync + 'static {
    /// The whole at a glance.
    fn status(&self) -> Status;
    /// The pool as those who look at it are shown it, at most a second old: one for all of them. Takes some milliseconds where there
    /// are thousands of workers or tenants.
    fn overview(&self) -> Arc<Frame>;
    /// The last day in at most so many points.
    fn history(&self, points: usize) -> History;
    /// Every live worker, by id. `processes`: with the ids of its processes, for which all of `/proc` is read.
    fn workers(&self, processes: bool) -> Vec<WorkerRow>;
    /// Every open session.
    fn sessions(&self) -> Vec<SessionRow>;
    /// What tenants, users and servers have used.
    fn usage(&self, filter: UsageFilter) -> UsageReading;
    /// The requests that are remembered and asked for, the latest first.
    fn requests(&self, filter: &RequestFilter) -> Vec<RequestRow>;
    /// The request with that id; `None` if it is not remembered.
    fn request(&self, id: RequestId) -> Option<RequestRow>;
    /// Every configured server, by name.
    fn servers(&self) -> Vec<ServerRow>;
    /// Whether rules about tools match the tools there are.
    fn rules(&self) -> RuleCheck;
    /// What starts of Python packages are forked from.
    fn templates(&self) -> PrimedStarts;
    /// Every tenant that is configured or has something running, by name.
    fn tenants(&self) -> Vec<TenantRow>;
    /// A live worker, and what it was started with; `None` if there is none of that id.
    fn worker(&self, worker: WorkerId) -> Option<WorkerRow>;
    /// Workers that have ended and are remembered, oldest first.
    fn ended(&self) -> Vec<EndedRow>;
    /// A worker that has ended, and what it went through; `None` if none of that id is remembered.
    fn ended_worker(&self, worker: WorkerId) -> Option<EndedRow>;
    /// The last `lines` lines of a worker's stderr that are kept, oldest first, also of one that has
    /// ended and is remembered; `None` when there is no such worker, or nothing is known of it any more.
    fn logs(&self, worker: WorkerId, lines: usize) -> Option<Vec<String>>;
    /// The lines that [`Self::logs`] gives, and what comes after.
    fn follow_logs(&self, worker: WorkerId, lines: usize) -> Option<LogFollow>;
    /// Starts to stop a worker, requests in flight or not; false when there is no such worker.
    fn stop_worker(&self, worker: WorkerId) -> bool;
    /// Gives a worker no new requests and stops it when those it has are finished; false when there is no such worker.
    fn restart_worker(&self, worker: WorkerId) -> bool;
    /// Pages a worker out now.
    ///
    /// # Errors
    /// Why that is not done: it serves, or there is none of that id.
    fn hibernate_worker(&self, worker: WorkerId) -> Result<(), NotHibernated>;
    /// Takes no new work, lets what is in flight finish, then ends the supervisor.
    fn drain(&self);
    /// Reads the config file again and applies it.
    fn reload(&self) -> Reload;
    /// What is logged.
    ///
    /// # Errors
    /// If there is no log.
    fn log_filter(&self) -> Result<LogFilterRow, FilterError>;
    /// Logs by another filter from now on.
    ///
    /// # Errors
    /// If it cannot be read, or there is no log.
    fn set_log_filter(&self, new: &NewLogFilter) -> Result<LogFilterRow, FilterError>;
    /// Looks at or changes tenants, tokens and secrets of the state store.
    fn account(&self, act: Act) -> Accounting;
    /// What happens from now on, and what has happened since that time, in milliseconds since 1970, as
    /// far as it is remembered.
    fn events(&self, since_ms: Option<u64>) -> EventFollow;
}
