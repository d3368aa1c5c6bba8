//! The endpoints.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::guard::{self, Guard};
use super::json::Json;
use super::log_filter::{LogFilterRow, NewLogFilter};
use super::model::{EndedRow, LogLine, WorkerRow};
use super::requests::{DEFAULT_ROWS, MAX_ROWS, RequestFilter, RequestRow, RequestState};
use super::site;
use super::state::Admin;
use super::stream::{self, OpenStream};
use super::supervisor::{NotHibernated, Supervisor};
use super::usage::{self, UsageReport};
use super::{account_routes, model, overview_routes};
use crate::ids::{InvalidRequestId, TenantId, WorkerId};
use crate::protocol::ApiReason;
use crate::store::UsageFilter;
use crate::telemetry::exposition::Format;
use crate::telemetry::{FilterError, Metrics, NOTABLE, RECENT};

/// Log lines when `lines` is not given.
const DEFAULT_LOG_LINES: usize = 100;
/// Longest time for which another filter of the log may hold, in seconds.
const MAX_LOG_SECONDS: u64 = 366 * 86_400;
/// The options of the router.
#[derive(Debug)]
pub struct Options {
    /// Where the listener is; decides what is checked.
    pub listen: SocketAddr,
    /// `[admin] token`.
    pub token: Option<SecretString>,
    /// Ends the open streams, which would otherwise hold up a graceful shutdown for ever.
    pub shutdown: CancellationToken,
}

/// Why there is no admin listener.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Everyone on the network could stop workers.
    #[error(
        "admin listener on `{0}` needs a token: it is not a loopback address (set `[admin] token`, or listen on 127.0.0.1)"
    )]
    TokenRequired(SocketAddr),
    /// An empty token is none.
    #[error(
        "the admin token is empty (set `[admin] token` to a long random text, or leave it out on a loopback address)"
    )]
    EmptyToken,
}

/// The admin API over `supervisor` and `metrics`.
///
/// # Errors
/// An address that is not loopback without a token; an empty token.
pub fn router<S: Supervisor>(
    supervisor: Arc<S>,
    metrics: Arc<Metrics>,
    options: Options,
) -> Result<Router, AdminError> {
    use secrecy::ExposeSecret;
    let loopback = options.listen.ip().to_canonical().is_loopback();
    match &options.token {
        None if !loopback => return Err(AdminError::TokenRequired(options.listen)),
        Some(token) if token.expose_secret().is_empty() => return Err(AdminError::EmptyToken),
        _ => {}
    }
    let guard = Arc::new(Guard::new(loopback, options.token.as_ref()));
    let admin = Admin {
        supervisor,
        metrics,
        shutdown: options.shutdown,
        streams: Arc::default(),
        rendered: Arc::default(),
    };
    let router = Router::new()
        .route("/metrics", get(scrape::<S>))
        .route("/api/v1/status", get(status::<S>))
        .route("/api/v1/overview", get(overview_routes::overview::<S>))
        .route("/api/v1/history", get(overview_routes::history::<S>))
        .route("/api/v1/workers", get(workers::<S>))
        .route("/api/v1/workers/{id}", get(worker::<S>))
        .route("/api/v1/workers/{id}/logs", get(logs::<S>))
        .route("/api/v1/workers/{id}/stop", post(stop::<S>))
        .route("/api/v1/workers/{id}/restart", post(restart::<S>))
        .route("/api/v1/workers/{id}/hibernate", post(hibernate::<S>))
        .route("/api/v1/rules", get(rules::<S>))
        .route("/api/v1/ended", get(ended::<S>))
        .route("/api/v1/sessions", get(sessions::<S>))
        .route("/api/v1/servers", get(servers::<S>))
        .route("/api/v1/tenants", get(tenants::<S>))
        .route("/api/v1/templates", get(templates::<S>))
        .route("/api/v1/usage", get(used::<S>))
        .route("/api/v1/requests", get(requests::<S>))
        .route("/api/v1/requests/{id}", get(request::<S>))
        .route("/api/v1/events", get(events::<S>))
        .route(
            "/api/v1/log-filter",
            get(log_filter::<S>).put(set_log_filter::<S>),
        )
        .route("/api/v1/drain", post(drain::<S>))
        .route("/api/v1/reload", post(reload::<S>));
    let routes = account_routes::routes().into_iter().chain(site::routes());
    let router = routes.fold(router, |router, (path, methods)| {
        router.route(path, methods)
    });
    Ok(router
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(guard, guard::admit))
        .with_state(admin))
}

async fn unknown_path() -> ApiError {
    let error = "there is nothing here; GET / lists the endpoints";
    ApiError::new(ApiReason::NotFound, error)
}

async fn wrong_method() -> ApiError {
    let error = "this endpoint has another method; GET / lists the endpoints";
    ApiError::new(ApiReason::MethodNotAllowed, error)
}

async fn scrape<S: Supervisor>(State(admin): State<Admin<S>>, headers: HeaderMap) -> Response {
    // Several `Accept` lines mean the same as one with commas (RFC 9110, 5.3).
    let accept: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let format = Format::negotiate(&accept.join(","));
    let (families, exemplars) = (admin.metrics.gather(), admin.metrics.exemplars());
    match format.encode(&families, &exemplars) {
        Ok(text) => ([(CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => ApiError::new(
            ApiReason::Internal,
            format!("metrics could not be written: {error}"),
        )
        .into_response(),
    }
}

async fn status<S: Supervisor>(State(admin): State<Admin<S>>) -> Json<model::Status> {
    Json(admin.supervisor.status())
}

#[derive(Deserialize)]
struct WorkersQuery {
    #[serde(default = "yes")]
    processes: bool,
}

async fn workers<S: Supervisor>(
    State(admin): State<Admin<S>>,
    query: Result<Query<WorkersQuery>, QueryRejection>,
) -> Result<Json<Vec<WorkerRow>>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_query(&error))?;
    Ok(Json(admin.supervisor.workers(query.processes)))
}

async fn sessions<S: Supervisor>(State(admin): State<Admin<S>>) -> Json<Vec<model::SessionRow>> {
    Json(admin.supervisor.sessions())
}

async fn servers<S: Supervisor>(State(admin): State<Admin<S>>) -> Json<Vec<model::ServerRow>> {
    Json(admin.supervisor.servers())
}

async fn rules<S: Supervisor>(State(admin): State<Admin<S>>) -> Json<model::RuleCheck> {
    Json(admin.supervisor.rules())
}

async fn tenants<S: Supervisor>(State(admin): State<Admin<S>>) -> Json<Vec<model::TenantRow>> {
    Json(admin.supervisor.tenants())
}

async fn templates<S: Supervisor>(State(admin): State<Admin<S>>) -> Json<model::PrimedStarts> {
    Json(admin.supervisor.templates())
}

#[derive(Deserialize)]
struct UsageQuery {
    tenant: Option<String>,
    user: Option<String>,
    server: Option<String>,
    since: Option<String>,
    per: Option<String>,
}

async fn used<S: Supervisor>(
    State(admin): State<Admin<S>>,
    query: Result<Query<UsageQuery>, QueryRejection>,
) -> Result<Json<UsageReport>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_query(&error))?;
    let since = query.since.as_deref().map(since_ms).transpose()?;
    let per = query.per.as_deref().unwrap_or("day");
    let span = usage::span(per).ok_or_else(|| {
        let error = format!("`per` is hour, day, month or all, not `{per}`");
        ApiError::new(ApiReason::InvalidRequest, error)
    })?;
    let filter = UsageFilter {
        tenant: query.tenant,
        user: query.user,
        server: query.server,
        since: since.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms))),
        span,
    };
    match admin.supervisor.usage(filter).await {
        Ok(report) => Ok(Json(report)),
        Err(error) => Err(ApiError::new(ApiReason::Internal, error.to_string())),
    }
}

#[derive(Deserialize)]
struct RequestsQuery {
    tenant: Option<String>,
    server: Option<String>,
    state: Option<String>,
    limit: Option<usize>,
}

async fn requests<S: Supervisor>(
    State(admin): State<Admin<S>>,
    query: Result<Query<RequestsQuery>, QueryRejection>,
) -> Result<Json<Vec<RequestRow>>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_query(&error))?;
    let state = |text: &str| {
        RequestState::of(text).ok_or_else(|| {
            let error = format!("`state` is open, failed or slow, not `{text}`");
            ApiError::new(ApiReason::InvalidRequest, error)
        })
    };
    let filter = RequestFilter {
        state: query.state.as_deref().map(state).transpose()?,
        tenant: query.tenant,
        server: query.server,
        limit: query.limit.unwrap_or(DEFAULT_ROWS).min(MAX_ROWS),
    };
    Ok(Json(admin.supervisor.requests(&filter)))
}

async fn request<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(id): Path<String>,
) -> Result<Json<RequestRow>, ApiError> {
    let id = id.parse().map_err(|error: InvalidRequestId| {
        let reason = match error {
            InvalidRequestId::Form(_) => ApiReason::InvalidRequest,
            InvalidRequestId::OtherRun(_) => ApiReason::NotFound,
        };
        ApiError::new(reason, error.to_string())
    })?;
    admin.supervisor.request(id).map(Json).ok_or_else(|| {
        let error = format!(
            "nothing is known any more of the request `{id}`: the last {RECENT} requests are remembered, and {NOTABLE} open, failed or slow ones before those; the log has its lines (`request{{id={id} …}}`)"
        );
        ApiError::new(ApiReason::NotFound, error)
    })
}

async fn log_filter<S: Supervisor>(
    State(admin): State<Admin<S>>,
) -> Result<Json<LogFilterRow>, ApiError> {
    let filter = admin.supervisor.log_filter();
    filter.map(Json).map_err(|error| of_log_filter(&error))
}

async fn set_log_filter<S: Supervisor>(
    State(admin): State<Admin<S>>,
    body: Result<axum::Json<NewLogFilter>, JsonRejection>,
) -> Result<Json<LogFilterRow>, ApiError> {
    let axum::Json(new) =
        body.map_err(|error| ApiError::new(ApiReason::InvalidRequest, error.body_text()))?;
    if new
        .seconds
        .is_some_and(|seconds| !(1..=MAX_LOG_SECONDS).contains(&seconds))
    {
        let error = format!(
            "`seconds` must be 1 to {MAX_LOG_SECONDS}, a year; without it the filter stays"
        );
        return Err(ApiError::new(ApiReason::InvalidRequest, error));
    }
    let filter = admin.supervisor.set_log_filter(&new);
    filter.map(Json).map_err(|error| of_log_filter(&error))
}

fn of_log_filter(error: &FilterError) -> ApiError {
    let reason = match error {
        FilterError::Form { .. } => ApiReason::InvalidRequest,
        FilterError::NoLog | FilterError::Apply(_) => ApiReason::Internal,
    };
    ApiError::new(reason, error.to_string())
}

fn worker_id(text: &str) -> Result<WorkerId, ApiError> {
    text.parse().map_err(|error: crate::ids::InvalidWorkerId| {
        ApiError::new(ApiReason::InvalidRequest, error.to_string())
    })
}

async fn worker<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(id): Path<String>,
) -> Result<Json<WorkerRow>, ApiError> {
    let id = worker_id(&id)?;
    let row = admin.supervisor.worker(id);
    row.map(Json)
        .ok_or_else(|| ApiError::no_worker(&*admin.supervisor, id))
}

#[derive(Deserialize)]
struct LogQuery {
    lines: Option<usize>,
    #[serde(default)]
    follow: bool,
}

async fn logs<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(id): Path<String>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let id = worker_id(&id)?;
    let Query(query) = query.map_err(|error| ApiError::bad_query(&error))?;
    let gone = || ApiError::no_worker(&*admin.supervisor, id);
    let lines = query.lines.unwrap_or(DEFAULT_LOG_LINES);
    if !query.follow {
        let lines = admin.supervisor.logs(id, lines);
        let lines = lines.ok_or_else(gone)?;
        return Ok(Json(json!({ "worker": id.to_string(), "lines": lines })).into_response());
    }
    let follow = admin.supervisor.follow_logs(id, lines);
    let follow = follow.ok_or_else(gone)?;
    Ok(stream::events(
        follow.past,
        follow.next,
        |line| LogLine { line },
        admin.open_stream(),
    ))
}

#[derive(Deserialize)]
struct EndedQuery {
    server: Option<String>,
    tenant: Option<String>,
    worker: Option<String>,
}

async fn ended<S: Supervisor>(
    State(admin): State<Admin<S>>,
    query: Result<Query<EndedQuery>, QueryRejection>,
) -> Result<Json<Vec<EndedRow>>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_query(&error))?;
    let is_meant = |row: &EndedRow| {
        let tenant = row.tenant.as_ref().map(TenantId::as_str);
        query
            .server
            .as_deref()
            .is_none_or(|it| it == row.server.as_str())
            && query.tenant.as_deref().is_none_or(|it| tenant == Some(it))
    };
    let rows = match query.worker.as_deref().map(worker_id).transpose()? {
        None => admin.supervisor.ended(),
        Some(id) => admin.supervisor.ended_worker(id).into_iter().collect(),
    };
    Ok(Json(rows.into_iter().filter(is_meant).collect()))
}

#[derive(Deserialize)]
struct EventQuery {
    since: Option<String>,
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

async fn events<S: Supervisor>(
    State(admin): State<Admin<S>>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_query(&error))?;
    let since = query.since.as_deref().map(since_ms).transpose()?;
    if !query.follow {
        let past = admin.supervisor.events(Some(since.unwrap_or(0))).past;
        return Ok(Json(past).into_response());
    }
    let follow = admin.supervisor.events(since);
    Ok(stream::events(
        follow.past,
        follow.next,
        |e| e,
        admin.open_stream(),
    ))
}

/// A time: so long ago (`10m`), or milliseconds since 1970.
fn since_ms(text: &str) -> Result<u64, ApiError> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let ago = humantime::parse_duration(text).map_err(|_| {
        let error = format!(
            "`since` is a span of time such as 10m, or milliseconds since 1970, not `{text}`"
        );
        ApiError::new(ApiReason::InvalidRequest, error)
    })?;
    let then = SystemTime::now().checked_sub(ago);
    let then = then.and_then(|then| then.duration_since(UNIX_EPOCH).ok());
    Ok(then.map_or(0, |then| {
        u64::try_from(then.as_millis()).unwrap_or(u64::MAX)
    }))
}

impl<S> Admin<S> {
    pub(super) fn open_stream(&self) -> OpenStream {
        self.streams.open(&self.shutdown)
    }
}

/// The answer to an action.
#[derive(Serialize)]
struct Done {
    message: String,
}

fn accepted(message: String) -> (StatusCode, Json<Done>) {
    (StatusCode::ACCEPTED, Json(Done { message }))
}

async fn stop<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let id = worker_id(&id)?;
    if !admin.supervisor.stop_worker(id) {
        return Err(ApiError::no_worker(&*admin.supervisor, id));
    }
    tracing::info!(worker = %id, "stopping a worker, asked for through the admin API");
    Ok(accepted(format!("stopping {id}")))
}

async fn restart<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let id = worker_id(&id)?;
    if !admin.supervisor.restart_worker(id) {
        return Err(ApiError::no_worker(&*admin.supervisor, id));
    }
    tracing::info!(worker = %id, "restarting a worker, asked for through the admin API");
    Ok(accepted(format!(
        "restarting {id}: it takes no new requests and ends with those it has; the next request starts another"
    )))
}

async fn hibernate<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let id = worker_id(&id)?;
    match admin.supervisor.hibernate_worker(id) {
        Ok(()) => {}
        Err(NotHibernated::NoSuchWorker) => {
            return Err(ApiError::no_worker(&*admin.supervisor, id));
        }
        Err(NotHibernated::Unavailable(why)) => {
            return Err(ApiError::new(ApiReason::Unavailable, why));
        }
    }
    tracing::info!(worker = %id, "hibernating a worker, asked for through the admin API");
    Ok(accepted(format!(
        "hibernating {id}: its memory is paged out until the next request wakes it"
    )))
}

async fn drain<S: Supervisor>(State(admin): State<Admin<S>>) -> (StatusCode, Json<Done>) {
    tracing::info!("draining, asked for through the admin API");
    admin.supervisor.drain();
    accepted("draining; it ends when nothing is in flight".to_owned())
}

async fn reload<S: Supervisor>(State(admin): State<Admin<S>>) -> Result<Json<Done>, ApiError> {
    // A task of its own: a caller that hangs up must not leave the config half applied.
    match tokio::spawn(admin.supervisor.reload()).await {
        Ok(Ok(message)) => Ok(Json(Done { message })),
        Ok(Err(error)) => Err(ApiError::new(ApiReason::ConfigInvalid, error.to_string())),
        Err(error) => Err(ApiError::new(
            ApiReason::Internal,
            format!("the reload did not finish: {error}"),
        )),
    }
}
