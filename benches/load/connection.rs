//! A client of any Streamable HTTP server, as cheap as can be: it runs on the CPUs of what it
//! measures.

use std::io::{self, Write};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Result;
use super::answer::Answer;
use super::reply::{self, Reply};

/// What every session begins with.
pub(crate) const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// In a session.
    Initialize,
    /// With everything in each request (2026-07-28).
    Stateless,
}

/// Where a server listens, and as whom it is asked.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Host and port.
    pub(crate) address: String,
    pub(crate) path: String,
    /// The bearer token.
    pub(crate) token: Option<String>,
}

/// A tool call, written but for its id.
#[derive(Debug)]
pub(crate) struct Call {
    tool: String,
    era: Era,
    /// What follows the id.
    rest: String,
}

impl Call {
    /// With that object of arguments.
    pub(crate) fn new(era: Era, tool: &str, arguments: &serde_json::Value) -> Arc<Self> {
        let meta = match era {
            Era::Initialize => "",
            Era::Stateless => {
                r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"}}"#
            }
        };
        Arc::new(Self {
            tool: tool.to_owned(),
            era,
            rest: format!(
                r#","method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}{meta}}}}}"#
            ),
        })
    }

    /// With a text of so many bytes as that argument.
    pub(crate) fn text(era: Era, tool: &str, argument: &str, bytes: usize) -> Arc<Self> {
        Self::new(
            era,
            tool,
            &serde_json::json!({ argument: "x".repeat(bytes) }),
        )
    }

    /// `echo` of the demo server.
    pub(crate) fn echo(bytes: usize) -> Arc<Self> {
        Self::text(Era::Initialize, "echo", "message", bytes)
    }

    pub(crate) fn is_stateless(&self) -> bool {
        self.era == Era::Stateless
    }

    /// Appends the request with that id.
    pub(crate) fn write(&self, id: usize, into: &mut Vec<u8>) {
        let to_memory = write!(into, r#"{{"jsonrpc":"2.0","id":{id}{}"#, self.rest);
        to_memory.expect("a vector takes all that is written");
    }
}

/// One HTTP/1.1 connection, kept alive, and the session it is used for.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) endpoint: Endpoint,
    /// `Mcp-Session-Id`, if the server has given one.
    pub(crate) session: Option<Arc<str>>,
    /// `MCP-Protocol-Version`, once the server has chosen it.
    pub(crate) revision: Option<Arc<str>>,
    /// The other side closes it, or may have done so since the last answer.
    is_spent: bool,
    is_used: bool,
    body: Vec<u8>,
    request: Vec<u8>,
    buffer: Vec<u8>,
    answer: Answer,
}

impl Connection {
    /// # Errors
    /// If nobody listens.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self> {
        Ok(Self {
            stream: connect(&endpoint.address).await?,
            endpoint: endpoint.clone(),
            session: None,
            revision: None,
            is_spent: false,
            is_used: false,
            body: Vec::new(),
            request: Vec::new(),
            buffer: Vec::with_capacity(16 * 1024),
            answer: Answer::default(),
        })
    }

    /// Begins a session, as far as the server has such.
    ///
    /// # Errors
    /// As for [`Self::call`].
    pub(crate) async fn initialize(&mut self) -> Result<()> {
        (self.session, self.revision) = (None, None);
        let reply = self.request(INITIALIZE).await?;
        self.revision = reply.revision.map(Into::into);
        let head = self.answer.head();
        self.session = head.and_then(|head| head.session.as_deref().map(Into::into));
        Ok(())
    }

    /// Says that the session has begun.
    ///
    /// # Errors
    /// As for [`Self::call`], but that no reply is needed.
    pub(crate) async fn initialized(&mut self) -> Result<()> {
        self.set_body(INITIALIZED);
        self.exchange("POST", None).await
    }

    /// Calls the tool and reads the whole answer.
    ///
    /// # Errors
    /// What broke, a status other than 2xx, an error as the reply, or a result that is one.
    pub(crate) async fn call(&mut self, call: &Call, id: usize) -> Result<()> {
        self.body.clear();
        call.write(id, &mut self.body);
        let standard = (call.era == Era::Stateless).then_some(call.tool.as_str());
        self.exchange("POST", standard).await?;
        self.reply()?;
        Ok(())
    }

    /// Posts a request that is written already.
    ///
    /// # Errors
    /// As for [`Self::call`].
    pub(crate) async fn request(&mut self, body: &str) -> Result<Reply> {
        self.set_body(body);
        self.exchange("POST", None).await?;
        self.reply()
    }

    /// Posts a request that is written already and reads the whole answer, whatever it says.
    ///
    /// # Errors
    /// What broke, or a status other than 2xx.
    pub(crate) async fn post(&mut self, body: &str, stateless_tool: Option<&str>) -> Result<()> {
        // What is known of an answer is then of this one.
        self.answer.clear();
        self.set_body(body);
        self.exchange("POST", stateless_tool).await
    }

    /// The status of the last answer, if its head has come.
    pub(crate) fn status(&self) -> Option<u16> {
        self.answer.head().map(|head| head.status)
    }

    /// Whether the last answer is a stream of events.
    pub(crate) fn is_events(&self) -> bool {
        self.answer.head().is_some_and(|head| head.is_events)
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        self.answer.body(&self.buffer)
    }

    /// Ends the session, if there is one.
    ///
    /// # Errors
    /// As for [`Self::call`], but that no reply is needed.
    pub(crate) async fn delete(&mut self) -> Result<()> {
        if self.session.is_none() {
            return Ok(());
        }
        self.set_body("");
        self.exchange("DELETE", None).await
    }

    fn set_body(&mut self, body: &str) {
        self.body.clear();
        self.body.extend_from_slice(body.as_bytes());
    }

    fn reply(&self) -> Result<Reply> {
        Ok(reply::read(
            self.answer.body(&self.buffer),
            self.is_events(),
        )?)
    }

    /// Sends what is in `body`. An idle connection may have been closed by the other side: then
    /// once more, on another.
    async fn exchange(&mut self, method: &str, stateless_tool: Option<&str>) -> Result<()> {
        self.write_request(method, stateless_tool)?;
        if self.is_spent {
            self.reopen().await?;
        }
        if let Err(error) = self.send_and_read().await {
            if !(self.is_used && self.buffer.is_empty()) {
                return Err(error);
            }
            self.reopen().await?;
            self.send_and_read().await?;
        }
        self.is_used = true;
        let head = self.answer.head().ok_or("no head")?;
        self.is_spent = head.closes;
        if !(200..300).contains(&head.status) {
            let body = self.answer.body(&self.buffer);
            let body = String::from_utf8_lossy(&body[..body.len().min(300)]);
            return Err(format!("status {}: {body}", head.status).into());
        }
        Ok(())
    }

    /// Connects anew.
    ///
    /// # Errors
    /// If nobody listens any more.
    pub(crate) async fn reopen(&mut self) -> Result<()> {
        self.stream = connect(&self.endpoint.address).await?;
        (self.is_spent, self.is_used) = (false, false);
        Ok(())
    }

    fn write_request(&mut self, method: &str, stateless_tool: Option<&str>) -> io::Result<()> {
        let (to, endpoint) = (&mut self.request, &self.endpoint);
        to.clear();
        write!(
            to,
            "{method} {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n",
            endpoint.path, endpoint.address
        )?;
        if let Some(token) = &endpoint.token {
            write!(to, "Authorization: Bearer {token}\r\n")?;
        }
        if let Some(session) = &self.session {
            write!(to, "Mcp-Session-Id: {session}\r\n")?;
        }
        if let Some(tool) = stateless_tool {
            write!(
                to,
                "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\n"
            )?;
        } else if let Some(revision) = &self.revision {
            write!(to, "MCP-Protocol-Version: {revision}\r\n")?;
        }
        write!(to, "Content-Length: {}\r\n\r\n", self.body.len())?;
        to.extend_from_slice(&self.body);
        Ok(())
    }

    async fn send_and_read(&mut self) -> Result<()> {
        self.buffer.clear();
        self.answer.clear();
        self.stream.write_all(&self.request).await?;
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            if self.answer.advance(&self.buffer, read == 0)? {
                return Ok(());
            }
            if let Some(missing) = self.answer.missing(&self.buffer) {
                self.buffer.reserve(missing);
            }
        }
    }
}

async fn connect(address: &str) -> Result<TcpStream> {
    let connected = TcpStream::connect(address).await;
    let stream = connected.map_err(|error| format!("{address}: {error}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
