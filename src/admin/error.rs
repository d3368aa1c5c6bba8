//! Errors of the endpoints.

use std::fmt;

use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::json::Json;
use super::supervisor::Supervisor;
use crate::ids::WorkerId;
use crate::protocol::ApiReason;

/// Lines of a worker that has ended that an error quotes.
const QUOTED_LINES: usize = 8;

/// An error on its way out.
#[derive(Debug)]
pub(super) struct ApiError {
    reason: ApiReason,
    error: String,
}

impl ApiError {
    pub(super) fn new(reason: ApiReason, error: impl Into<String>) -> Self {
        Self {
            reason,
            error: error.into(),
        }
    }

    pub(super) fn bad_query(error: &QueryRejection) -> Self {
        let error = error.body_text();
        Self::new(ApiReason::InvalidRequest, error)
    }

    /// Says what is known of a worker that does not run.
    pub(super) fn no_worker(supervisor: &impl Supervisor, id: WorkerId) -> Self {
        let ended = supervisor.ended().into_iter().rfind(|row| row.id == id);
        let error = match ended {
            Some(row) => {
                let lines = supervisor.logs(id, QUOTED_LINES).unwrap_or_default();
                let said = match lines.as_slice() {
                    [] => "it wrote nothing to stderr".to_owned(),
                    lines => format!("its last lines:\n{}", lines.join("\n")),
                };
                format!("{}; {said}", row.sentence())
            }
            None => format!(
                "there is no worker `{id}`, and nothing is known of one (GET /api/v1/workers lists those that run, /api/v1/ended those that have ended)"
            ),
        };
        Self::new(ApiReason::NotFound, error)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "reason": self.reason.as_str() });
        let status = StatusCode::from_u16(self.reason.http_status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(body)).into_response()
    }
}
