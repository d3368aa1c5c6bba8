//! Bodies of answers from elsewhere, of which no more is read than is wanted.

use reqwest::Response;

/// Why a body was not read.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// The connection failed, or the answer is none of HTTP.
    Transport(reqwest::Error),
    /// The body is longer than wanted; the rest of it was not read.
    TooLong,
}

/// Reads the body of an answer, of `limit` bytes at the most.
///
/// # Errors
/// [`BodyError`].
///
/// # Cancel-Safety
/// A dropped call has closed the connection.
pub(crate) async fn read_up_to(limit: usize, mut answer: Response) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(BodyError::Transport)? {
        if piece.len() > limit - body.len() {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
