//! The task that sends spans of requests that are over: in batches, again where that may help, and never so that anybody waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::settings::Settings;
use super::spans::Encoder;
use crate::telemetry::Warnings;
use crate::telemetry::labels::SpanDrop;
use crate::telemetry::request_span::RequestSpan;

/// Sampled requests that may wait to be exported. One more is dropped, and counted.
pub(super) const MAX_QUEUED: usize = 2048;
/// Requests whose spans are sent together, at the most.
const MAX_BATCH: usize = 128;
/// How long the first of a batch waits for others.
const GATHERED_FOR: Duration = Duration::from_secs(1);
/// How often a batch is sent, at the most, where the collector cannot be reached or says that it may be sent again.
const MAX_TRIES: u32 = 5;
/// How long the exporter waits after the first try; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long it waits at the most, whatever the collector asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a shutdown waits for what is still to be sent.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// What of a collector's answer is read, in bytes.
const MAX_ANSWER: usize = 64 << 10;
/// What of its reason is logged, in characters.
const MAX_REASON: usize = 200;

/// Why no spans can be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// The client for HTTP cannot be made.
    #[error("{0}")]
    Client(#[from] reqwest::Error),
    /// There is one exporter in a process.
    #[error("spans are exported already")]
    Twice,
}

/// What became of sampled requests.
#[derive(Debug, Default)]
pub(super) struct Counts {
    exported: AtomicU64,
    dropped: [AtomicU64; SpanDrop::ALL.len()],
}

impl Counts {
    /// There was no room for one in the queue.
    pub(super) fn dropped_full(&self) {
        self.dropped(SpanDrop::QueueFull, 1);
    }

    fn dropped(&self, why: SpanDrop, requests: usize) {
        self.dropped[why as usize].fetch_add(requests as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> (u64, [u64; SpanDrop::ALL.len()]) {
        let dropped = self.dropped.each_ref();
        let dropped = dropped.map(|count| count.load(Ordering::Relaxed));
        (self.exported.load(Ordering::Relaxed), dropped)
    }
}

/// Sends spans until it is shut down.
#[derive(Debug)]
pub struct Exporter {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Exporter {
    pub(super) fn start(
        settings: Settings,
        waiting: mpsc::Receiver<Arc<RequestSpan>>,
        counts: Arc<Counts>,
    ) -> Result<Self, ExporterError> {
        let client = reqwest::Client::builder().timeout(settings.timeout);
        let client = client.user_agent(concat!("stdiopool/", env!("CARGO_PKG_VERSION")));
        // What is recorded of requests, and the headers, are for the collector that is named, and no other.
        let client = client.redirect(reqwest::redirect::Policy::none());
        let stop = CancellationToken::new();
        let sending = Sending {
            client: client.build()?,
            encoder: Encoder::new(settings.service_name, settings.attributes),
            endpoint: settings.endpoint,
            headers: settings.headers,
            counts,
            stop: stop.clone(),
            is_failing: false,
            rejected: Warnings::default(),
        };
        let task = tokio::spawn(sending.run(waiting));
        Ok(Self { stop, task })
    }

    /// Sends what is still there, for 5 seconds at the most.
    ///
    /// # Cancel-Safety
    /// A dropped call leaves the exporter to send what is there.
    pub async fn shut_down(self) {
        self.stop.cancel();
        match timeout(FLUSH_LIMIT, self.task).await {
            // A panic was logged where it happened.
            Ok(_ended) => {}
            Err(_elapsed) => tracing::warn!(
                "not all spans were exported within {} of the shutdown",
                humantime::format_duration(FLUSH_LIMIT)
            ),
        }
    }
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("{}", with_causes(.0))]
    Unreachable(reqwest::Error),
    #[error("it answers {status}")]
    Refused {
        status: StatusCode,
        /// How long the collector wants to be left alone.
        pause: Option<Duration>,
    },
}

impl NotTaken {
    /// Whether the batch may be sent again (OTLP 1.x, "OTLP/HTTP Response", "Retryable Response Codes").
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }

    fn pause(&self) -> Option<Duration> {
        match self {
            Self::Unreachable(_) => None,
            Self::Refused { pause, .. } => *pause,
        }
    }
}

/// What a client says, and what lies behind that, without the address, whose query may hold a secret.
fn with_causes(error: &reqwest::Error) -> String {
    use std::error::Error;
    let mut text = match error.is_timeout() {
        true => "no answer in time".to_owned(),
        false => "it cannot be reached".to_owned(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The exporter's task.
struct Sending {
    client: reqwest::Client,
    encoder: Encoder,
    endpoint: Url,
    headers: HeaderMap,
    counts: Arc<Counts>,
    stop: CancellationToken,
    /// The last batch was not taken, and that was said.
    is_failing: bool,
    /// How often it was said that a collector took spans in part only.
    rejected: Warnings,
}

impl Sending {
    async fn run(mut self, mut waiting: mpsc::Receiver<Arc<RequestSpan>>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while !self.stop.is_cancelled() {
            self.gather(&mut waiting, &mut batch).await;
            self.export(&mut batch).await;
        }
        // Nobody may add to it any more, so that this has an end.
        waiting.close();
        while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
            self.export(&mut batch).await;
        }
    }

    /// Waits for a batch: until there is one request, and then a little for more.
    async fn gather(
        &self,
        waiting: &mut mpsc::Receiver<Arc<RequestSpan>>,
        batch: &mut Vec<Arc<RequestSpan>>,
    ) {
        let mut until: Option<Instant> = None;
        while batch.len() < MAX_BATCH {
            let elapsed = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let room = MAX_BATCH - batch.len();
            let came = tokio::select! {
                () = self.stop.cancelled() => 0,
                came = waiting.recv_many(batch, room) => came,
                () = elapsed => 0,
            };
            if came == 0 {
                return;
            }
            until.get_or_insert_with(|| Instant::now() + GATHERED_FOR);
        }
    }

    /// Sends the batch, and leaves it empty. During a shutdown each is sent once.
    async fn export(&mut self, batch: &mut Vec<Arc<RequestSpan>>) {
        if batch.is_empty() {
            return;
        }
        let body = self.encoder.encode(batch).encode_to_vec();
        let requests = batch.len();
        // Before anything is waited for: what is sent is in the body.
        batch.clear();
        let body = bytes::Bytes::from(body);
        let mut pause = FIRST_PAUSE;
        for _ in 0..MAX_TRIES {
            let is_last = self.stop.is_cancelled();
            let error = match self.post(body.clone()).await {
                Ok(answer) => {
                    self.took(answer, requests).await;
                    return;
                }
                Err(error) => error,
            };
            self.say_once(&error);
            if is_last || !error.is_passing() {
                break;
            }
            let wanted = error.pause().unwrap_or(pause).min(LONGEST_PAUSE);
            // A shutdown ends the pause, and the next try is the last.
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = sleep(wanted) => {}
            }
            pause *= 2;
        }
        self.counts.dropped(SpanDrop::ExportFailed, requests);
    }

    async fn post(&self, body: bytes::Bytes) -> Result<Response, NotTaken> {
        let request = self.client.post(self.endpoint.clone());
        let request = request.headers(self.headers.clone());
        let request = request
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(body);
        let answer = request.send().await;
        let answer = answer.map_err(|error| NotTaken::Unreachable(error.without_url()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let pause = answer.headers().get(RETRY_AFTER);
        let pause = pause.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let pause = pause.map(Duration::from_secs);
        Err(NotTaken::Refused { status, pause })
    }

    /// A collector has taken a batch, or what of it it says.
    async fn took(&mut self, answer: Response, requests: usize) {
        self.counts
            .exported
            .fetch_add(requests as u64, Ordering::Relaxed);
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(endpoint = %self.place(), "spans are exported again");
        }
        let rejected = rejected_by(answer).await;
        if let Some(rejected) = rejected
            && self.rejected.next(Instant::now()).is_some()
        {
            let (spans, why) = rejected;
            let why: String = crate::escape::for_log(&why)
                .chars()
                .take(MAX_REASON)
                .collect();
            tracing::warn!(endpoint = %self.place(), spans, "the collector rejected spans: {why}");
        }
    }

    /// Says why spans are not taken, the first time since they were.
    fn say_once(&mut self, error: &NotTaken) {
        if std::mem::replace(&mut self.is_failing, true) {
            tracing::debug!(endpoint = %self.place(), "spans are not exported: {error}");
            return;
        }
        tracing::warn!(
            endpoint = %self.place(),
            "spans are not exported: {error}; requests are served all the same, and what is dropped is counted (`tracing.endpoint`)"
        );
    }

    /// The collector as the log names it.
    fn place(&self) -> String {
        let (host, port) = (
            self.endpoint.host_str(),
            self.endpoint.port_or_known_default(),
        );
        format!("{}:{}", host.unwrap_or_default(), port.unwrap_or_default())
    }
}

/// How many spans an answer says were rejected, and why; `None` if all were taken (OTLP 1.x, "Partial Success").
async fn rejected_by(mut answer: Response) -> Option<(i64, String)> {
    let mut read = Vec::new();
    // Of an answer that breaks off nothing is known; the spans were taken all the same.
    while let Ok(Some(piece)) = answer.chunk().await {
        if read.len() + piece.len() > MAX_ANSWER {
            return None;
        }
        read.extend_from_slice(&piece);
    }
    let told = ExportTraceServiceResponse::decode(read.as_slice()).ok()?;
    let partial = told.partial_success?;
    (partial.rejected_spans > 0).then_some((partial.rejected_spans, partial.error_message))
}
