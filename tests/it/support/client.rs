//! A plain client that shows what is on the wire. Official SDKs are tested beside it.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use stdiopool::protocol::sse;

use super::PATIENCE;

/// One endpoint, and the session with it once there is one.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) version: Option<String>,
    /// Sent as `Mcp-Client-Config`.
    pub(crate) config: Option<String>,
    /// Sent besides, as a proxy before stdiopool does.
    pub(crate) headers: HeaderMap,
}

/// The answer to a POST.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Every message, in order; one for a JSON answer.
    pub(crate) messages: Vec<Value>,
    pub(crate) is_stream: bool,
}

impl Answer {
    /// The response: the last message.
    pub(crate) fn response(&self) -> &Value {
        self.messages.last().unwrap_or(&Value::Null)
    }

    /// `result` of the response; panics with what came instead.
    pub(crate) fn result(&self) -> &Value {
        let response = self.response();
        response
            .get("result")
            .unwrap_or_else(|| panic!("no result: {self:?}"))
    }

    /// The text of a tool's result.
    pub(crate) fn text(&self) -> &str {
        let text = self.result()["content"][0]["text"].as_str();
        text.unwrap_or_else(|| panic!("no text: {self:?}"))
    }

    /// `error.data.reason` of the response.
    pub(crate) fn reason(&self) -> &str {
        self.response()["error"]["data"]["reason"]
            .as_str()
            .unwrap_or("none")
    }

    /// `error.message` of the response.
    pub(crate) fn message(&self) -> &str {
        self.response()["error"]["message"]
            .as_str()
            .unwrap_or("none")
    }
}

/// A client without TLS: reading the host's roots takes longer than most calls do.
pub(crate) fn plain_http() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    builder.build().expect("a client")
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Client {
    pub(crate) fn new(url: String) -> Self {
        Self {
            http: plain_http(),
            url,
            token: None,
            session: None,
            version: None,
            config: None,
            headers: HeaderMap::new(),
        }
    }

    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    pub(crate) fn request(&self, method: http::Method) -> RequestBuilder {
        let mut request = self
            .http
            .request(method, &self.url)
            .header(ACCEPT, "application/json, text/event-stream")
            .headers(self.headers.clone());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(session) = &self.session {
            request = request.header("Mcp-Session-Id", session);
        }
        if let Some(config) = &self.config {
            request = request.header("Mcp-Client-Config", config);
        }
        if let Some(version) = &self.version {
            request = request.header("MCP-Protocol-Version", version);
        }
        request
    }

    pub(crate) async fn send_raw(&self, body: impl Into<reqwest::Body>) -> Response {
        let request = self
            .request(http::Method::POST)
            .header(CONTENT_TYPE, "application/json");
        let sent = request.body(body).send();
        tokio::time::timeout(PATIENCE, sent)
            .await
            .expect("in time")
            .expect("answers")
    }

    pub(crate) async fn post(&self, message: &Value) -> Answer {
        read(self.send_raw(message.to_string()).await).await
    }

    pub(crate) async fn ask(&self, method: &str, params: Value) -> Answer {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        self.post(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await
    }

    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Answer {
        self.ask("tools/call", json!({"name": tool, "arguments": arguments}))
            .await
    }

    pub(crate) async fn tell(&self, method: &str, params: Value) -> StatusCode {
        self.post(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
            .await
            .status
    }

    /// Opens a session; panics if it cannot.
    pub(crate) async fn connect(self) -> Self {
        self.connect_as("2025-11-25", json!({})).await
    }

    pub(crate) async fn connect_as(mut self, version: &str, capabilities: Value) -> Self {
        let answer = self.try_initialize(version, capabilities).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let session = answer.headers.get("mcp-session-id").expect("a session id");
        self.session = Some(session.to_str().expect("visible ASCII").to_owned());
        let version = answer.result()["protocolVersion"]
            .as_str()
            .expect("a version");
        self.version = Some(version.to_owned());
        assert_eq!(
            self.tell("notifications/initialized", json!({})).await,
            StatusCode::ACCEPTED
        );
        self
    }

    pub(crate) async fn try_initialize(&self, version: &str, capabilities: Value) -> Answer {
        let client_info = json!({"name": "test", "version": "1"});
        let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": client_info});
        self.ask("initialize", params).await
    }

    /// The session's own stream.
    pub(crate) async fn listen(&self) -> Events {
        let response = self
            .request(http::Method::GET)
            .send()
            .await
            .expect("answers");
        assert_eq!(response.status(), StatusCode::OK);
        let mut events = Events::of(response);
        // The first comment says that the stream is open.
        events.chunk().await;
        events
    }

    pub(crate) async fn delete(&self) -> StatusCode {
        self.request(http::Method::DELETE)
            .send()
            .await
            .expect("answers")
            .status()
    }

    /// The events of a response.
    #[allow(clippy::unused_self, reason = "reads like the others")]
    pub(crate) fn stream_of(&self, response: Response) -> Events {
        Events::of(response)
    }

    /// Posts and gives the events as they come.
    pub(crate) async fn stream(&self, message: &Value) -> Events {
        Events::of(self.send_raw(message.to_string()).await)
    }
}

fn parser() -> sse::Parser {
    sse::Parser::new(64 << 20)
}

async fn read(response: Response) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    let media = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let is_stream = media.is_some_and(|media| media.starts_with("text/event-stream"));
    let body = tokio::time::timeout(PATIENCE, response.bytes())
        .await
        .expect("in time");
    let body = body.expect("a whole body");
    let messages = if is_stream {
        let mut events = vec![];
        parser().push(&body, &mut events).expect("within bounds");
        let events = events.into_iter().map(|event| event.data);
        // Streams begin with an event that says nothing but where they are.
        let events = events.filter(|data| !data.is_empty());
        events
            .map(|data| serde_json::from_slice(&data).expect("JSON"))
            .collect()
    } else if body.is_empty() {
        vec![]
    } else {
        let text = String::from_utf8_lossy(&body);
        vec![serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{status}: {text}"))]
    };
    Answer {
        status,
        headers,
        messages,
        is_stream,
    }
}

/// An open event stream.
pub(crate) struct Events {
    body: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    parser: sse::Parser,
    ready: std::collections::VecDeque<Value>,
}

impl Events {
    fn of(response: Response) -> Self {
        let body = Box::pin(response.bytes_stream());
        Self {
            body,
            parser: parser(),
            ready: Default::default(),
        }
    }

    /// Reads one piece of the body; false at its end.
    pub(crate) async fn chunk(&mut self) -> bool {
        let next = tokio::time::timeout(PATIENCE, self.body.next())
            .await
            .expect("in time");
        let Some(Ok(chunk)) = next else { return false };
        self.take_in(&chunk);
        true
    }

    fn take_in(&mut self, chunk: &[u8]) {
        let mut events = vec![];
        self.parser.push(chunk, &mut events).expect("within bounds");
        let data = events.into_iter().map(|event| event.data);
        // Streams begin with an event that says nothing but where they are.
        let data = data.filter(|data| !data.is_empty());
        self.ready
            .extend(data.map(|data| -> Value { serde_json::from_slice(&data).expect("JSON") }));
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        while self.ready.is_empty() {
            if !self.chunk().await {
                return None;
            }
        }
        self.ready.pop_front()
    }
}
