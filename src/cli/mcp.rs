//! A small MCP client over Streamable HTTP (basic/transports, 2025-11-25), enough to try a server.
//!
//! The client declares no capabilities, so a server may ask it for nothing but `ping`; what it is asked
//! beyond that is refused. The client does not resume broken streams and opens no GET stream.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{http_client, read_body};
use super::error::{CliError, Target};
use super::output;
use super::wait::Wait;
use crate::protocol::{
    self, Envelope, Kind, RawJson, Revision, bare_notification, code, error_response,
    result_response, sse,
};

/// Largest answer or event, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// How long the goodbye may take: the user has the answer already.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// An MCP client with one session at one server.
#[derive(Debug)]
pub(super) struct McpClient {
    http: Client,
    target: Target,
    token: Option<SecretString>,
    session: Option<String>,
    revision: Option<String>,
    last_id: u64,
}

/// The meaning of a message for the one who waits for `id`.
enum Received {
    /// The answer: the result as it was written.
    Result(String),
    /// How far the call is, in words.
    Progress(String),
    /// Something that wants a reply of its own.
    Reply(Bytes),
    /// Nothing to do.
    Nothing,
}

impl McpClient {
    /// A client of the endpoint `target`; nothing is sent yet.
    pub(super) fn new(target: Target, token: Option<SecretString>) -> Self {
        Self {
            http: http_client(&target.url),
            target,
            token,
            session: None,
            revision: None,
            last_id: 0,
        }
    }

    /// The handshake.
    pub(super) async fn initialize(&mut self) -> Result<(), CliError> {
        let params = json!({
            "protocolVersion": Revision::LATEST.as_str(),
            "capabilities": {},
            "clientInfo": { "name": "stdiopool-call", "version": env!("CARGO_PKG_VERSION") },
        });
        let result = self.request("initialize", params).await?;
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Initialized {
            protocol_version: String,
        }
        let Initialized { protocol_version } = serde_json::from_str(&result)
            .map_err(|error| CliError::Protocol(format!("`initialize`: {error}")))?;
        if Revision::parse(&protocol_version).is_none() {
            return Err(CliError::Protocol(format!(
                "the server speaks MCP `{protocol_version}`, which this client does not"
            )));
        }
        self.revision = Some(protocol_version);
        self.tell(bare_notification("notifications/initialized"))
            .await
    }

    /// Sends a request and gives the result, as it was written.
    pub(super) async fn request(
        &mut self,
        method: &str,
        mut params: Value,
    ) -> Result<String, CliError> {
        self.last_id += 1;
        let id = self.last_id;
        params["_meta"] = json!({ "progressToken": id });
        let message = protocol::request(id, method, params);
        let mut wait = Wait::for_answer_to(method);
        let response = wait.patiently(self.post(message)).await?;
        if let Some(session) = response.headers().get("mcp-session-id") {
            // A text that is not ASCII is no session id (transports, "Session Management").
            self.session = session.to_str().ok().map(str::to_owned);
        }
        let media = response.headers().get(CONTENT_TYPE);
        let media = media.and_then(|m| m.to_str().ok()).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("text/event-stream") {
            return self.answer_in_stream(response, id, &mut wait).await;
        }
        let status = response.status();
        if !media.eq_ignore_ascii_case("application/json") {
            return Err(self.stranger(status));
        }
        let body = read_body(&self.target, response, MAX_ANSWER).await?;
        match hear(&body, id)? {
            Received::Result(result) => Ok(result),
            Received::Progress(_) | Received::Reply(_) | Received::Nothing => {
                Err(CliError::Protocol(format!(
                    "`{method}` was answered with something else than its answer"
                )))
            }
        }
    }

    /// Ends the session, if there is one. A failure does not matter to the user, whose session then
    /// ends by its timeout.
    pub(super) async fn close(self) {
        if self.session.is_some() {
            let request = self.build(Method::DELETE).timeout(CLOSE_TIMEOUT);
            drop(request.send().await);
        }
    }

    async fn answer_in_stream(
        &self,
        mut response: Response,
        id: u64,
        wait: &mut Wait<'_>,
    ) -> Result<String, CliError> {
        let (mut parser, mut events) = (sse::Parser::new(MAX_ANSWER), Vec::new());
        while let Some(piece) = wait
            .patiently(response.chunk())
            .await
            .map_err(|error| CliError::transport(&self.target, &error))?
        {
            parser
                .push(&piece, &mut events)
                .map_err(|error| CliError::Protocol(error.to_string()))?;
            for event in events.drain(..) {
                // An empty event only carries an id to resume from.
                if event.data.is_empty() {
                    continue;
                }
                match hear(&event.data, id)? {
                    Received::Result(result) => return Ok(result),
                    Received::Progress(how_far) => wait.heard(how_far),
                    Received::Reply(reply) => self.tell(reply).await?,
                    Received::Nothing => {}
                }
            }
        }
        Err(CliError::Protocol(
            "the stream ended without the answer".to_owned(),
        ))
    }

    /// Sends what wants no answer.
    async fn tell(&self, message: impl Into<Bytes>) -> Result<(), CliError> {
        self.post(message).await.map(drop)
    }

    async fn post(&self, message: impl Into<Bytes>) -> Result<Response, CliError> {
        let request = self.build(Method::POST);
        let response = request
            .header(CONTENT_TYPE, "application/json")
            .body(message.into())
            .send()
            .await
            .map_err(|error| CliError::transport(&self.target, &error))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.refusal(response).await)
        }
    }

    fn build(&self, method: Method) -> RequestBuilder {
        let mut request = self
            .http
            .request(method, self.target.url.clone())
            .header(ACCEPT, "application/json, text/event-stream");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        if let Some(revision) = &self.revision {
            request = request.header("mcp-protocol-version", revision);
        }
        request
    }

    async fn refusal(&self, response: Response) -> CliError {
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return CliError::Unauthorized {
                target: Box::new(self.target.clone()),
                given: self.token.is_some(),
            };
        }
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = match read_body(&self.target, response, MAX_ANSWER).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        match Envelope::parse(&body) {
            Ok(Envelope {
                error: Some(error), ..
            }) => rpc_error(error, retry_after.map(Duration::from_secs)),
            _ => self.stranger(status),
        }
    }

    fn stranger(&self, status: StatusCode) -> CliError {
        CliError::Stranger {
            target: Box::new(self.target.clone()),
            what: "an MCP endpoint",
            status: status.as_u16(),
        }
    }
}

fn hear(message: &[u8], id: u64) -> Result<Received, CliError> {
    let envelope =
        Envelope::parse(message).map_err(|error| CliError::Protocol(error.to_string()))?;
    match envelope.kind() {
        Kind::Response => {
            let about = envelope.id.map_or("null", RawJson::get);
            match (envelope.result, envelope.error) {
                (Some(result), _) if about == id.to_string() => {
                    Ok(Received::Result(result.get().to_owned()))
                }
                // An error about a request that could not be read has no id; there is only this one.
                (_, Some(error)) if about == id.to_string() || about == "null" => {
                    Err(rpc_error(error, None))
                }
                _ => Ok(Received::Nothing),
            }
        }
        Kind::Request => Ok(Received::Reply(reply_to(&envelope))),
        Kind::Notification => Ok(heard_of(&envelope, id)),
    }
}

/// What a notification tells who waits for `id`.
fn heard_of(told: &Envelope<'_>, id: u64) -> Received {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Progress {
        progress_token: Value,
        message: Option<String>,
    }
    let Some(params) = told.params else {
        return Received::Nothing;
    };
    match told.method.as_deref() {
        Some("notifications/message") => {
            output::notice(&format!("log: {}", params.get()));
            Received::Nothing
        }
        Some("notifications/progress") => match serde_json::from_str(params.get()) {
            Ok(Progress {
                progress_token,
                message: Some(message),
            }) if progress_token == id => Received::Progress(message),
            _ => Received::Nothing,
        },
        _ => Received::Nothing,
    }
}

/// A server may ask anyone whether they live; anything else was not offered to it.
fn reply_to(request: &Envelope<'_>) -> Bytes {
    let id = request.id.map_or("null", RawJson::get);
    if request.method.as_deref() == Some("ping") {
        return result_response(id, b"{}");
    }
    let error = json!({ "code": code::METHOD_NOT_FOUND, "message": "this client offers nothing" });
    error_response(id, &error).into()
}

/// The error of a response, with what its data says about trying again.
fn rpc_error(error: RawJson<'_>, retry_after: Option<Duration>) -> CliError {
    #[derive(Deserialize)]
    struct RpcError {
        code: i64,
        message: String,
        #[serde(default)]
        data: Value,
    }
    let RpcError {
        code,
        message,
        data,
    } = match serde_json::from_str(error.get()) {
        Ok(error) => error,
        Err(why) => return CliError::Protocol(format!("error without code and message: {why}")),
    };
    let millis = data["retryAfterMs"].as_u64().map(Duration::from_millis);
    let reason = match data["reason"].as_str() {
        Some(reason) => reason.to_owned(),
        None => format!("JSON-RPC {code}"),
    };
    let help = millis.or(retry_after).map(|wait| {
        let wait = humantime::format_duration(wait);
        format!("it may work in {wait}")
    });
    CliError::Refused {
        error: message,
        reason,
        help,
    }
}
