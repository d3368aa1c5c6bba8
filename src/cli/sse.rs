//! Event streams of the admin API, as commands read them.

use std::ops::ControlFlow;

use serde::de::DeserializeOwned;

use super::client::AdminClient;
use super::error::CliError;
use super::output;
use crate::protocol::sse;

/// Largest event, in bytes; lines of logs are cut far below by whoever keeps them.
const MAX_EVENT: usize = 16 << 20;

/// Gives each event of the stream at `path` to `show`, until the stream ends or `show` breaks. Of those that came
/// too fast it says how many `things` are missing.
///
/// # Errors
/// When nobody answers, what comes is no event stream of such rows, or `show` fails.
pub(super) async fn each<T: DeserializeOwned>(
    client: &AdminClient,
    path: &str,
    things: &str,
    mut show: impl FnMut(T) -> Result<ControlFlow<()>, CliError>,
) -> Result<(), CliError> {
    let mut response = client.stream(path).await?;
    let (mut parser, mut events) = (sse::Parser::new(MAX_EVENT), Vec::new());
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|error| CliError::transport(client.target(), &error))?
    {
        parser
            .push(&piece, &mut events)
            .map_err(|error| CliError::Protocol(error.to_string()))?;
        for event in events.drain(..) {
            if event.event.as_deref() == Some("lagged") {
                let missed = String::from_utf8_lossy(&event.data);
                output::notice(&format!(
                    "({missed} {things} came too fast and were left out)"
                ));
                continue;
            }
            let row = serde_json::from_slice(&event.data)
                .map_err(|error| CliError::Protocol(error.to_string()))?;
            if show(row)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}
