//! Answers that take long: the client gets headers and a comment soon, and the answer as an event of that stream when it
//! is there. Clients that wait for the first byte of an answer for a few seconds only would give up otherwise, and
//! proxies too.
//!
//! The handler of a request says what may be waited for. Its future goes on as it is, as part of the body. A handler
//! also says when a long piece of work is next, which is then offloaded to a blocking thread.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::body::Body;
use super::reply::{self, SESSION_HEADER};
use super::sse::{FIRST_WORDS, KEEP_ALIVE, QUIET_CALL};
use crate::fair::{Flow, Offloaded, Permit, lost, poll_offloaded};
use crate::protocol::sse::{DATA, EVENT_END};

/// A request that is being served.
pub(in crate::front) type Serving = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// An interim message for the client on what is waited for, made anew each time.
struct Interim(Box<dyn Fn() -> Option<Bytes> + Send>);

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interim").finish_non_exhaustive()
    }
}

/// Sends the headers of a late answer to whoever waits for it.
#[derive(Debug)]
struct HeadSender {
    tell: oneshot::Sender<HeaderMap>,
    /// The headers of the answer that are known before it is there.
    headers: HeaderMap,
}

/// Signals of a request's handler to whoever polls it.
#[derive(Debug, Default)]
struct Signals {
    sender: Option<HeadSender>,
    /// There is a poller that reads what follows.
    is_heard: bool,
    /// The next poll is a piece of work that takes long.
    offload: Option<Permit>,
    interim: Option<Interim>,
}

/// Says of one request that its answer is late. Without a listener nothing comes of that.
#[derive(Clone, Debug, Default)]
pub(in crate::front) struct Late(Arc<Mutex<Signals>>);

impl Late {
    /// The answer has those headers, late or not.
    pub(in crate::front) fn with_headers(&self, headers: HeaderMap) {
        if let Some(sender) = &mut self.0.lock().sender {
            sender.headers.extend(headers);
        }
    }

    /// Whoever waits for the answer is told that meanwhile, as long as there is something to tell.
    pub(in crate::front) fn tells(&self, interim: impl Fn() -> Option<Bytes> + Send + 'static) {
        self.0.lock().interim = Some(Interim(Box::new(interim)));
    }

    /// Returns on a blocking thread, where what is done until the next `await` holds nobody up.
    ///
    /// # Cancel-Safety
    /// Dropped, it is as if it had not been called.
    pub(in crate::front) async fn offload(&self, flow: &Flow) {
        let is_heard = self.0.lock().is_heard;
        if !is_heard {
            return;
        }
        let permit = flow.large_permit().await;
        self.0.lock().offload = Some(permit);
        let mut is_asked = false;
        poll_fn(|_| match std::mem::replace(&mut is_asked, true) {
            // Whoever polls sees what was asked for, and polls again there.
            false => Poll::Pending,
            true => Poll::Ready(()),
        })
        .await;
    }

    /// Waits for something that may take long. Once it does, the client gets the beginning of a stream. `session` names
    /// the session that the answer opens.
    ///
    /// # Cancel-Safety
    /// As that of what is waited for.
    pub(in crate::front) async fn unless_soon<F: Future>(
        &self,
        session: Option<HeaderValue>,
        future: F,
    ) -> F::Output {
        let mut future = pin!(future);
        if let Ok(soon) = timeout(FIRST_WORDS, &mut future).await {
            return soon;
        }
        let sender = self.0.lock().sender.take();
        if let Some(HeadSender { tell, mut headers }) = sender {
            headers.extend(session.map(|session| (SESSION_HEADER.clone(), session)));
            // Whoever is gone need not be told.
            let _told = tell.send(headers);
        }
        future.await
    }
}

/// Where the future of a request is polled: by its connection's task, or on a blocking thread.
enum Polling {
    Inline(Serving),
    Offloaded(Offloaded<dyn Future<Output = Response<Body>> + Send>),
    Done,
}

/// The answer to a request, or the beginning of it.
pub(in crate::front) struct Answer {
    polling: Polling,
    late: Late,
    is_late: Option<oneshot::Receiver<HeaderMap>>,
}

impl Answer {
    /// The answer to a request that is served in that way.
    pub(in crate::front) fn of(serve: impl FnOnce(Late) -> Serving) -> Self {
        let (tell, told) = oneshot::channel();
        let headers = HeaderMap::new();
        let late = Late(Arc::new(Mutex::new(Signals {
            sender: Some(HeadSender { tell, headers }),
            is_heard: true,
            offload: None,
            interim: None,
        })));
        Self {
            polling: Polling::Inline(serve(late.clone())),
            late,
            is_late: Some(told),
        }
    }

    /// Polls what serves the request, here or on a blocking thread as it asks for.
    fn poll_serving(&mut self, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        loop {
            match &mut self.polling {
                Polling::Inline(serving) => {
                    if let Poll::Ready(response) = serving.as_mut().poll(cx) {
                        return Poll::Ready(response);
                    }
                    let Some(permit) = self.late.0.lock().offload.take() else {
                        return Poll::Pending;
                    };
                    if let Polling::Inline(serving) =
                        std::mem::replace(&mut self.polling, Polling::Done)
                    {
                        let offloaded = poll_offloaded(permit, serving, cx.waker().clone());
                        self.polling = Polling::Offloaded(offloaded);
                    }
                }
                Polling::Offloaded(offloaded) => match ready!(Pin::new(offloaded).poll(cx)) {
                    Ok((_, Poll::Ready(response))) => return Poll::Ready(response),
                    // A wake meanwhile may have been for nothing.
                    Ok((serving, Poll::Pending)) => self.polling = Polling::Inline(serving),
                    Err(error) => self.polling = Polling::Inline(Box::pin(lost(error))),
                },
                Polling::Done => return Poll::Pending,
            }
        }
    }
}

impl Future for Answer {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        if let Poll::Ready(response) = self.poll_serving(cx) {
            self.polling = Polling::Done;
            return Poll::Ready(response);
        }
        let this = &mut *self;
        let (Polling::Inline(_), Some(told)) = (&this.polling, &mut this.is_late) else {
            return Poll::Pending;
        };
        let told = ready!(Pin::new(told).poll(cx));
        self.is_late = None;
        match (told, std::mem::replace(&mut self.polling, Polling::Done)) {
            (Ok(headers), Polling::Inline(serving)) => {
                let mut signals = self.late.0.lock();
                signals.is_heard = false;
                Poll::Ready(begun(headers, serving, signals.interim.take()))
            }
            // Nobody will tell any more.
            (_, polling) => {
                self.polling = polling;
                Poll::Pending
            }
        }
    }
}

/// How far the body of a late answer is.
enum Stage {
    /// The client has heard nothing.
    New(Serving, Option<Interim>),
    Waits(Serving, Option<Interim>),
    /// The answer is a stream itself.
    Stream(Body),
    /// The answer is one message, which the event that has been begun carries.
    Message(Body),
    Over,
}

impl Stage {
    fn of(response: Response<Body>) -> (Option<Bytes>, Self) {
        let (parts, body) = response.into_parts();
        let media = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        match media {
            Some(b"text/event-stream") => (None, Self::Stream(body)),
            Some(_) => (Some(Bytes::from_static(DATA)), Self::Message(body)),
            // Nothing to say.
            None => (None, Self::Over),
        }
    }

    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            match self {
                Self::New(serving, interim) => {
                    return Some((meanwhile(interim.as_ref()), Self::Waits(serving, interim)));
                }
                Self::Waits(mut serving, interim) => {
                    match timeout(QUIET_CALL, &mut serving).await {
                        Err(_elapsed) => {
                            return Some((
                                meanwhile(interim.as_ref()),
                                Self::Waits(serving, interim),
                            ));
                        }
                        Ok(response) => {
                            let (piece, next) = Self::of(response);
                            if let Some(piece) = piece {
                                return Some((piece, next));
                            }
                            self = next;
                        }
                    }
                }
                Self::Stream(mut body) => {
                    let piece = next_of(&mut body).await?;
                    return Some((piece, Self::Stream(body)));
                }
                Self::Message(mut body) => {
                    return Some(match next_of(&mut body).await {
                        Some(piece) => (piece, Self::Message(body)),
                        None => (Bytes::from_static(EVENT_END), Self::Over),
                    });
                }
                Self::Over => return None,
            }
        }
    }
}

/// What is said to whoever waits: what is known, or that it is not over.
fn meanwhile(interim: Option<&Interim>) -> Bytes {
    match interim.and_then(|interim| (interim.0)()) {
        Some(message) => [DATA, &message, EVENT_END].concat().into(),
        None => Bytes::from_static(KEEP_ALIVE),
    }
}

async fn next_of(body: &mut Body) -> Option<Bytes> {
    loop {
        // None of our bodies fails.
        let frame = body.frame().await?.ok()?;
        if let Ok(piece) = frame.into_data() {
            return Some(piece);
        }
    }
}

fn begun(headers: HeaderMap, serving: Serving, interim: Option<Interim>) -> Response<Body> {
    let pieces = stream::unfold(Stage::New(serving, interim), |stage| async move {
        let (piece, stage) = stage.next().await?;
        Some((Ok::<_, Infallible>(piece), stage))
    });
    let mut response = reply::event_stream(Body::from_stream(pieces));
    response.headers_mut().extend(headers);
    response
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tokio::time::{Duration, Instant, sleep};

    use super::*;
    use crate::fair::Scheduler;

    /// An answer that takes so long.
    async fn answered(takes: Duration, response: Response<Body>) -> (Duration, Response<Body>) {
        let began = Instant::now();
        let answer = Answer::of(|late| {
            Box::pin(async move {
                let session = HeaderValue::from_static("s");
                late.unless_soon(Some(session), sleep(takes)).await;
                response
            })
        });
        let response = answer.await;
        (began.elapsed(), response)
    }

    async fn text_of(response: Response<Body>) -> String {
        let whole = response.into_body().collect().await.expect("whole");
        String::from_utf8(whole.to_bytes().to_vec()).expect("UTF-8")
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_soon_is_answered_as_it_is() {
        let soon = reply::json(StatusCode::BAD_GATEWAY, "{}");
        let (_, response) = answered(Duration::from_millis(1900), soon).await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(text_of(response).await, "{}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_meanwhile_is_told_in_place_of_comments() {
        let answer = Answer::of(|late| {
            Box::pin(async move {
                let began = Instant::now();
                late.tells(move || match began.elapsed().as_secs() {
                    passed @ ..8 => Some(format!("{passed}").into()),
                    _ => None,
                });
                late.unless_soon(None, sleep(Duration::from_secs(11))).await;
                reply::json(StatusCode::OK, "{}")
            })
        });
        let text = text_of(answer.await).await;
        assert_eq!(text, "data: 2\n\ndata: 6\n\n: keep-alive\n\ndata: {}\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_comes_as_an_event_after_comments() {
        let late = reply::json(StatusCode::BAD_GATEWAY, "{\"id\":1}");
        let (after, response) = answered(Duration::from_secs(11), late).await;
        assert!(after < Duration::from_secs(3), "{after:?}");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[&SESSION_HEADER], "s");
        let text = text_of(response).await;
        let expected = ": keep-alive\n\n".repeat(3) + "data: {\"id\":1}\n\n";
        assert_eq!(text, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_late_goes_on_as_it_is() {
        let events = reply::event_stream(Body::whole("id: 1\ndata: x\n\n"));
        let (_, response) = answered(Duration::from_secs(3), events).await;
        assert_eq!(
            text_of(response).await,
            ": keep-alive\n\nid: 1\ndata: x\n\n"
        );
        let nothing = reply::empty(StatusCode::ACCEPTED);
        let (_, response) = answered(Duration::from_secs(3), nothing).await;
        assert_eq!(text_of(response).await, ": keep-alive\n\n");
    }

    #[tokio::test]
    async fn a_long_piece_of_work_is_done_beside_the_runtime() {
        let here = std::thread::current().id();
        let answer = Answer::of(|late| {
            Box::pin(async move {
                let flow = Scheduler::default().flow();
                late.offload(&flow).await;
                let there = std::thread::current().id();
                // Woken, it goes on where it is polled.
                tokio::task::yield_now().await;
                let back = std::thread::current().id();
                reply::json(
                    StatusCode::OK,
                    format!("{} {}", there != here, back == here),
                )
            })
        });
        assert_eq!(text_of(answer.await).await, "true true");
    }

    #[tokio::test]
    async fn nothing_is_done_beside_a_stream_that_has_begun() {
        let flow = Scheduler::default().flow();
        let answer = Answer::of(|late| {
            Box::pin(async move {
                let nothing = tokio::time::sleep(Duration::from_millis(2100));
                late.unless_soon(None, nothing).await;
                late.offload(&flow).await;
                reply::json(StatusCode::OK, "{}")
            })
        });
        let text = text_of(answer.await).await;
        assert!(text.ends_with("data: {}\n\n"), "{text}");
    }
}
