//! Event streams of the admin API, as commands read them.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::ControlFlow;

use reqwest::Response;
use serde::de::DeserializeOwned;

use super::client::AdminClient;
use super::error::CliError;
use super::output;
use crate::protocol::sse;

/// Largest event, in bytes; lines of logs are cut far below by whoever keeps them.
const MAX_EVENT: usize = 16 << 20;

/// What a stream brings.
#[derive(Debug)]
pub(super) enum Streamed<T> {
    /// A row.
    Row(T),
    /// So many rows came too fast and are missing.
    Missed(String),
}

/// A stream of rows that is open.
#[derive(Debug)]
pub(super) struct EventReader<'c, T> {
    client: &'c AdminClient,
    response: Response,
    parser: sse::Parser,
    /// Events that were read and not given on yet.
    read: VecDeque<sse::Event>,
    of: PhantomData<T>,
}

impl<'c, T: DeserializeOwned> EventReader<'c, T> {
    /// Opens the stream at `path`.
    ///
    /// # Errors
    /// When nobody answers.
    pub(super) async fn open(client: &'c AdminClient, path: &str) -> Result<Self, CliError> {
        Ok(Self {
            client,
            response: client.stream(path).await?,
            parser: sse::Parser::new(MAX_EVENT),
            read: VecDeque::new(),
            of: PhantomData,
        })
    }

    /// What comes next; `None` when the stream has ended.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no event stream of such rows.
    ///
    /// # Cancel-Safety
    /// A call that is cancelled loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Streamed<T>>, CliError> {
        loop {
            if let Some(event) = self.read.pop_front() {
                if event.event.as_deref() == Some("lagged") {
                    let missed = String::from_utf8_lossy(&event.data).into_owned();
                    return Ok(Some(Streamed::Missed(missed)));
                }
                let row = serde_json::from_slice(&event.data);
                let row = row.map_err(|error| CliError::Protocol(error.to_string()))?;
                return Ok(Some(Streamed::Row(row)));
            }
            let piece = self.response.chunk().await;
            let piece = piece.map_err(|error| CliError::transport(self.client.target(), &error))?;
            let Some(piece) = piece else {
                return Ok(None);
            };
            let mut events = Vec::new();
            self.parser
                .push(&piece, &mut events)
                .map_err(|error| CliError::Protocol(error.to_string()))?;
            self.read.extend(events);
        }
    }
}

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
    let mut reader = EventReader::open(client, path).await?;
    while let Some(streamed) = reader.next().await? {
        match streamed {
            Streamed::Missed(missed) => output::notice(&format!(
                "({missed} {things} came too fast and were left out)"
            )),
            Streamed::Row(row) => {
                if show(row)?.is_break() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
