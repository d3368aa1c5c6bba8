//! A hostile client's connection: it says what it is told to, and counts what it is answered.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::super::answer::Answer;
use super::super::connection::Endpoint;
use super::answers::Answers;

/// How long an answer is waited for, or a request takes to be sent.
const PATIENCE: Duration = Duration::from_secs(60);
/// After a connection that could not be made or broke.
const PAUSE: Duration = Duration::from_millis(50);

/// Whom the flood comes from: a hostile client has another address than those it is to hurt.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A connection of the hostile client's to that address and port.
///
/// # Errors
/// If it is no address, or takes no connection.
pub(crate) async fn connect(to: &str) -> io::Result<TcpStream> {
    let to: SocketAddr = to.parse().map_err(io::Error::other)?;
    let socket = TcpSocket::new_v4()?;
    socket.bind((FROM, 0).into())?;
    socket.connect(to).await
}

/// Headers of a tool call as a client of 2026-07-28 makes it.
pub(crate) fn stateless_headers(tool: &str) -> String {
    format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\n")
}

/// `_meta` of such a call, without its braces.
pub(crate) const STATELESS_META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"hostile","version":"1"}"#;

/// The begin of a session, with more in `params`.
pub(crate) fn initialize(more: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{{}},"clientInfo":{{"name":"hostile","version":"1"}}{more}}}}}"#
    )
}

/// One connection, made anew when it is closed, and the session it is used for.
#[derive(Debug)]
pub(crate) struct Wire {
    endpoint: Endpoint,
    answers: Answers,
    stream: Option<TcpStream>,
    pub(crate) session: Option<String>,
    buffer: Vec<u8>,
    answer: Answer,
}

/// Why there is no answer.
enum Nothing {
    Unreachable,
    Closed,
    Late,
}

impl Wire {
    pub(crate) fn new(endpoint: Endpoint, answers: Answers) -> Self {
        Self {
            endpoint,
            answers,
            stream: None,
            session: None,
            buffer: Vec::new(),
            answer: Answer::default(),
        }
    }

    /// The head of a POST with so many bytes of body.
    pub(crate) fn head(&self, headers: &str, length: usize) -> Vec<u8> {
        let Endpoint {
            address,
            path,
            token,
        } = &self.endpoint;
        let token = token.as_deref().unwrap_or_default();
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nAuthorization: Bearer {token}\r\n{headers}"
        );
        if let Some(session) = &self.session {
            head.push_str(&format!("Mcp-Session-Id: {session}\r\n"));
        }
        head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
        head.into_bytes()
    }

    /// Posts a body that is in parts and reads the answer; its status, if there is one. Whatever comes is counted.
    pub(crate) async fn post(&mut self, headers: &str, body: &[&[u8]]) -> Option<u16> {
        let length = body.iter().map(|part| part.len()).sum();
        let head = self.head(headers, length);
        let asked = timeout(PATIENCE, self.exchange(&head, body)).await;
        let nothing = match asked.unwrap_or(Err(Nothing::Late)) {
            Ok(status) => {
                self.answers.count(&self.kind(status));
                return Some(status);
            }
            Err(nothing) => nothing,
        };
        self.stream = None;
        self.answers.count(match nothing {
            Nothing::Unreachable => "not connected",
            Nothing::Closed => "closed without an answer",
            Nothing::Late => "no answer in time",
        });
        sleep(PAUSE).await;
        None
    }

    /// Begins a session, with more in `params` of `initialize`; false if there is none.
    pub(crate) async fn open(&mut self, more: &str) -> bool {
        self.session = None;
        let status = self.post("", &[initialize(more).as_bytes()]).await;
        let head = self.answer.head();
        self.session = head.and_then(|head| head.session.clone());
        if status != Some(200) || self.session.is_none() {
            return false;
        }
        let begun = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        self.post("", &[begun.as_bytes()]).await == Some(202)
    }

    /// Connects if need be, and sends what it is given; the stream, of which nothing has been read.
    pub(crate) async fn send(&mut self, parts: &[&[u8]]) -> Option<TcpStream> {
        let stream = connect(&self.endpoint.address).await;
        let Ok(mut stream) = stream else {
            self.answers.count("not connected");
            sleep(PAUSE).await;
            return None;
        };
        for part in parts {
            if stream.write_all(part).await.is_err() {
                self.answers.count("closed while sending");
                sleep(PAUSE).await;
                return None;
            }
        }
        Some(stream)
    }

    async fn exchange(&mut self, head: &[u8], body: &[&[u8]]) -> Result<u16, Nothing> {
        if self.stream.is_none() {
            let stream = connect(&self.endpoint.address).await;
            self.stream = Some(stream.map_err(|_| Nothing::Unreachable)?);
        }
        let stream = self.stream.as_mut().ok_or(Nothing::Unreachable)?;
        self.buffer.clear();
        self.answer.clear();
        // A body that is refused before it has been read breaks the sending; the answer may be there all the same.
        let mut sent = stream.write_all(head).await.is_ok();
        for part in body {
            sent = sent && stream.write_all(part).await.is_ok();
        }
        loop {
            let read = stream.read_buf(&mut self.buffer).await;
            let read = read.map_err(|_| Nothing::Closed)?;
            let whole = self.answer.advance(&self.buffer, read == 0);
            if whole.map_err(|_| Nothing::Closed)? {
                let head = self.answer.head().ok_or(Nothing::Closed)?;
                let status = head.status;
                if head.closes || !sent {
                    self.stream = None;
                }
                return Ok(status);
            }
            if let Some(missing) = self.answer.missing(&self.buffer) {
                self.buffer.reserve(missing);
            }
        }
    }

    /// The status, and the reason that an error gives.
    fn kind(&self, status: u16) -> String {
        const MARK: &[u8] = b"\"reason\":\"";
        // A reason is in a short answer, a large result has none.
        let body = self.answer.body(&self.buffer);
        let body = &body[..body.len().min(16 * 1024)];
        let reason = memchr::memmem::find(body, MARK).map(|at| &body[at + MARK.len()..]);
        let reason = reason.and_then(|rest| rest.split(|&byte| byte == b'"').next());
        match reason {
            Some(reason) => format!("{status} {}", String::from_utf8_lossy(reason)),
            None => status.to_string(),
        }
    }
}
