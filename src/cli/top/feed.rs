//! What is asked of the admin API.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout};

use super::counters::Counters;
use super::model::{Act, Event, Watched};
use crate::admin::{EndedRow, LogLine, Status, WorkerRow};
use crate::cli::client::AdminClient;
use crate::cli::error::CliError;
use crate::cli::sse::{EventReader, Streamed};
use crate::ids::WorkerId;

/// Time between an answer and the next question, at least.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause before it is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The pause is so many times what the answer took: a supervisor with thousands of workers is not kept busy by who looks at it.
const PAUSE_TO_ANSWER: u32 = 30;
/// How long an answer is waited for before it is said that there is none.
const PATIENCE: Duration = Duration::from_secs(5);
/// Every so many times the metrics are read too.
const METRICS_EVERY: u64 = 5;
/// Lines of stderr that are there when a worker is first looked at.
const PAST_LINES: usize = 500;

/// Asks again and again, and at once when `refresh` says so, until nobody listens.
pub(super) async fn poll(client: Arc<AdminClient>, events: Sender<Event>, refresh: Arc<Notify>) {
    for round in 0_u64.. {
        let begun = Instant::now();
        let event = match within(pool(&client)).await {
            Ok((status, workers)) => Event::Polled(Box::new(status), workers),
            Err(error) => Event::Unanswered(in_words(&error)),
        };
        let is_answered = matches!(event, Event::Polled(..));
        if events.send(event).await.is_err() {
            return;
        }
        if is_answered && round % METRICS_EVERY == 0 {
            // Without them the rest is shown all the same.
            let counted = within(client.text("metrics")).await;
            if let Ok(text) = counted
                && events
                    .send(Event::Counted(Counters::read(&text)))
                    .await
                    .is_err()
            {
                return;
            }
        }
        let pause = (begun.elapsed() * PAUSE_TO_ANSWER).clamp(PAUSE, LONGEST_PAUSE);
        let pause = if is_answered { pause } else { PAUSE };
        tokio::select! {
            () = sleep(pause) => {}
            () = refresh.notified() => {}
        }
    }
}

/// The pool, and its workers.
///
/// # Errors
/// When nobody answers.
pub(super) async fn pool(client: &AdminClient) -> Result<(Status, Vec<WorkerRow>), CliError> {
    let status = client.get("api/v1/status").await?;
    // Process ids are not shown, and cost the most to find out.
    let workers = client.get("api/v1/workers?processes=false").await?;
    Ok((status, workers))
}

async fn within<T>(answer: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    match timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(CliError::TimedOut { after: PATIENCE }),
    }
}

/// Carries an act out, and tells how that went.
pub(super) async fn act(
    client: Arc<AdminClient>,
    act: Act,
    worker: WorkerId,
    events: Sender<Event>,
) {
    let path = format!("api/v1/workers/{worker}/{}", act.name());
    let said = within(client.act(&path)).await;
    // Whoever does not listen any more has ended.
    let _gone = events
        .send(Event::Acted(said.map_err(|error| in_words(&error))))
        .await;
}

/// Tells what that worker was started with and what it writes, until it is gone or nobody listens.
pub(super) async fn watch(
    client: Arc<AdminClient>,
    worker: WorkerId,
    serial: u64,
    events: Sender<Event>,
) {
    let tell = |watched| events.send(Event::Watched(serial, watched));
    let row: Result<WorkerRow, _> = within(client.get(&format!("api/v1/workers/{worker}"))).await;
    // One that has ended has its lines still.
    if let Ok(row) = row
        && let Some(start) = row.start
        && tell(Watched::Start(start)).await.is_err()
    {
        return;
    }
    let last = match follow(&client, worker, &events, serial).await {
        Ok(Listens::No) => return,
        Ok(Listens::Yes) => match how_it_ended(&client, worker).await {
            Ok(Some(how)) => Watched::Over(Some(how)),
            Ok(None) => gone_or_lost(&client, worker).await,
            Err(error) => Watched::Lost(in_words(&error)),
        },
        Err(error) => Watched::Lost(in_words(&error)),
    };
    let _gone = tell(last).await;
}

/// Whether anybody is there to be told.
enum Listens {
    Yes,
    No,
}

/// Tells each line that the worker writes, until the stream ends.
async fn follow(
    client: &AdminClient,
    worker: WorkerId,
    events: &Sender<Event>,
    serial: u64,
) -> Result<Listens, CliError> {
    let path = format!("api/v1/workers/{worker}/logs?follow=true&lines={PAST_LINES}");
    let mut reader = EventReader::<LogLine>::open(client, &path).await?;
    while let Some(streamed) = reader.next().await? {
        let watched = match streamed {
            Streamed::Row(row) => Watched::Line(row.line),
            Streamed::Missed(lines) => Watched::Missed(lines),
        };
        if events.send(Event::Watched(serial, watched)).await.is_err() {
            return Ok(Listens::No);
        }
    }
    Ok(Listens::Yes)
}

async fn how_it_ended(client: &AdminClient, worker: WorkerId) -> Result<Option<String>, CliError> {
    let ended: Vec<EndedRow> = within(client.get("api/v1/ended")).await?;
    let row = ended.iter().rfind(|row| row.id == worker);
    Ok(row.map(EndedRow::sentence))
}

/// A stream can end before its worker: stdiopool closes the oldest of too many.
async fn gone_or_lost(client: &AdminClient, worker: WorkerId) -> Watched {
    let workers: Result<Vec<WorkerRow>, _> =
        within(client.get("api/v1/workers?processes=false")).await;
    match workers {
        Ok(rows) if !rows.iter().any(|row| row.id == worker) => Watched::Over(None),
        Ok(_) => Watched::Lost("the stream ended".to_owned()),
        Err(error) => Watched::Lost(in_words(&error)),
    }
}

fn in_words(error: &CliError) -> String {
    error.to_string()
}
