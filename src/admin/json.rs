//! Answers in JSON.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::escape;

/// A value as the JSON of an answer. Answers are read on terminals too, as with curl, and hold what workers have written: the
/// strings are harmless there.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let json = match serde_json::to_string(&self.0) {
            Ok(json) => escape::in_json(&json).into_owned(),
            Err(error) => {
                return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
            }
        };
        let content_type = HeaderValue::from_static("application/json");
        ([(CONTENT_TYPE, content_type)], json).into_response()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn what_a_worker_wrote_cannot_drive_the_terminal_of_whoever_reads_it() {
        let said = "a\u{1b}[2Jb\u{9b}31mc\u{202e}d\n";
        let response = Json(said).into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let body = to_bytes(response.into_body(), 1024).await.expect("whole");
        let text = String::from_utf8(body.to_vec()).expect("UTF-8");
        assert_eq!(text, r#""a\u001b[2Jb\u009b31mc\u202ed\n""#);
        let read: String = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read, said);
    }
}
