//! Load over HTTP, in a closed loop: every caller has a connection and one call under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Result;
use super::connection::{Call, Connection, Endpoint};
use super::latency::Calls;

/// Calls of each session before the clock starts.
pub(crate) const WARM_UP: usize = 50;
/// How long they go on, if a server is slow.
const WARM_UP_LIMIT: Duration = Duration::from_secs(2);
/// How long an answer may take beyond the round it belongs to.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who calls: a connection, and the sessions it calls in by turns.
#[derive(Debug)]
pub(crate) struct Caller {
    connection: Connection,
    sessions: Vec<Arc<str>>,
    calls: usize,
}

impl Caller {
    /// Calls in those sessions; with none, in the connection's own.
    pub(crate) fn new(connection: Connection, sessions: Vec<Arc<str>>) -> Self {
        Self {
            connection,
            sessions,
            calls: 0,
        }
    }

    async fn call(&mut self, call: &Call) -> Result<()> {
        if !self.sessions.is_empty() {
            let turn = self.calls % self.sessions.len();
            self.connection.session = Some(Arc::clone(&self.sessions[turn]));
        }
        self.calls += 1;
        self.connection.call(call, self.calls).await
    }
}

/// Callers of one server.
#[derive(Debug)]
pub(crate) struct Load {
    callers: Vec<Caller>,
    call: Arc<Call>,
}

impl Load {
    pub(crate) fn new(callers: Vec<Caller>, call: Arc<Call>) -> Self {
        Self { callers, call }
    }

    /// Takes over the callers of another.
    pub(crate) fn join(&mut self, other: Self) {
        self.callers.extend(other.callers);
    }

    /// Opens so many sessions, each with a connection and up to `warm_up` calls.
    ///
    /// # Errors
    /// If one of them does not open or is not answered.
    pub(crate) async fn open(
        endpoint: &Endpoint,
        call: &Arc<Call>,
        sessions: usize,
        warm_up: usize,
    ) -> Result<Self> {
        let mut opening = JoinSet::new();
        for _ in 0..sessions {
            let (endpoint, call) = (endpoint.clone(), Arc::clone(call));
            opening.spawn(async move {
                let mut connection = Connection::open(&endpoint).await?;
                if !call.is_stateless() {
                    connection.initialize().await?;
                    connection.initialized().await?;
                }
                let mut caller = Caller::new(connection, Vec::new());
                let begun = Instant::now();
                while caller.calls < warm_up && begun.elapsed() < WARM_UP_LIMIT {
                    caller.call(&call).await?;
                }
                Ok(caller)
            });
        }
        let callers = all(opening, PATIENCE).await?;
        Ok(Self::new(callers, Arc::clone(call)))
    }

    /// Calls for that long, and waits for the last answers.
    ///
    /// # Errors
    /// If a call fails, or is not answered in time. There are fewer callers then.
    pub(crate) async fn round(&mut self, period: Duration) -> Result<Calls> {
        let since = Instant::now();
        let mut calling = JoinSet::new();
        for mut caller in self.callers.drain(..) {
            let call = Arc::clone(&self.call);
            calling.spawn(async move {
                let mut latencies = Vec::new();
                while since.elapsed() < period {
                    let sent = Instant::now();
                    caller.call(&call).await?;
                    latencies.push(sent.elapsed());
                }
                Ok((caller, latencies))
            });
        }
        let mut round = Calls::default();
        for (caller, latencies) in all(calling, period + PATIENCE).await? {
            self.callers.push(caller);
            round.latencies.extend(latencies);
        }
        round.took = since.elapsed();
        Ok(round)
    }

    /// Ends the sessions. Servers need not let a client do so.
    pub(crate) async fn close(&mut self) {
        for mut caller in self.callers.drain(..) {
            let _refused = timeout(PATIENCE, caller.connection.delete()).await;
        }
    }
}

/// What all tasks give, in any order.
///
/// # Errors
/// The first error of one of them, or that one takes longer.
pub(crate) async fn all<T: 'static>(
    mut tasks: JoinSet<Result<T>>,
    patience: Duration,
) -> Result<Vec<T>> {
    let mut done = Vec::with_capacity(tasks.len());
    let joined = timeout(patience, async {
        while let Some(task) = tasks.join_next().await {
            done.push(task??);
        }
        Ok(())
    });
    match joined.await {
        Ok(Ok(())) => Ok(done),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!("not answered in {} s", patience.as_secs()).into()),
    }
}
