//! What the dashboard looks at: the overview, once or again and again, and the last day.

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;

use super::error::ApiError;
use super::json::Json;
use super::minutes::{History, MINUTES};
use super::overview::{OverviewQuery, Parameters};
use super::state::Admin;
use super::stream;
use super::supervisor::Supervisor;
use crate::protocol::ApiReason;

/// How often a stream tells.
pub(super) const EVERY: Duration = Duration::from_secs(2);
/// Points of a history when `points` is not given.
const DEFAULT_POINTS: usize = 360;

/// The overview that is asked for, as JSON. Looking at thousands of workers takes some milliseconds, for which no other request waits.
async fn render<S: Supervisor>(admin: Admin<S>, query: OverviewQuery) -> Result<Bytes, ApiError> {
    let looked = tokio::task::spawn_blocking(move || {
        let frame = admin.supervisor.overview();
        admin.rendered.get(&frame, &query)
    });
    let failed = |why: String| ApiError::new(ApiReason::Internal, why);
    match looked.await {
        Ok(Ok(json)) => Ok(json),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(error) => Err(failed(format!("the overview was not made: {error}"))),
    }
}

pub(super) async fn overview<S: Supervisor>(
    State(admin): State<Admin<S>>,
    query: Result<Query<Parameters>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(given) = query.map_err(|error| ApiError::bad_query(&error))?;
    let follow = given.follow;
    let query = OverviewQuery::try_from(given);
    let query = query.map_err(|why| ApiError::new(ApiReason::InvalidRequest, why))?;
    if !follow {
        let json = render(admin, query).await?;
        let content_type = HeaderValue::from_static("application/json");
        return Ok(([(CONTENT_TYPE, content_type)], json).into_response());
    }
    let open = admin.open_stream();
    let next = move || {
        let rendered = render(admin.clone(), query.clone());
        async { rendered.await.inspect_err(say_failed).ok() }
    };
    Ok(stream::each(EVERY, next, open))
}

fn say_failed(error: &ApiError) {
    tracing::error!("an overview could not be told: {error}");
}

#[derive(Deserialize)]
pub(super) struct HistoryQuery {
    points: Option<usize>,
}

pub(super) async fn history<S: Supervisor>(
    State(admin): State<Admin<S>>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<History>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_query(&error))?;
    let points = query.points.unwrap_or(DEFAULT_POINTS);
    if !(1..=MINUTES).contains(&points) {
        let error = format!("`points` is 1 to {MINUTES}, not {points}");
        return Err(ApiError::new(ApiReason::InvalidRequest, error));
    }
    Ok(Json(admin.supervisor.history(points)))
}
