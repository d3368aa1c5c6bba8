//! Load over HTTP: as little client as possible, so that the server is what is measured.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::pipe_load::INITIALIZE;
use super::process::{Process, stdiopool as binary};
use super::report::Measured;

/// Calls of each session before the clock starts.
const WARM_UP: usize = 50;

pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// `stdiopool serve` with the demo server behind it.
pub(crate) fn stdiopool(sessions: usize, period: Duration, bytes: usize) -> Measured {
    let server = format!(
        "command = \"stdiopool\"\nargs = [\"demo-server\"]\nmax_in_flight = {}\n",
        sessions.max(32)
    );
    let (mut process, _dir) = serve(&server);
    load(&mut process, sessions, period, bytes)
}

/// `stdiopool serve` with that server named `demo`, and the folder it runs in.
pub(crate) fn serve(server: &str) -> (Process, tempfile::TempDir) {
    serve_with("", server)
}

/// The same with a `[pool]` table that holds `pool`.
pub(crate) fn serve_with(pool: &str, server: &str) -> (Process, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let toml = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[pool]\n{pool}\n[servers.demo]\n{server}"
    );
    std::fs::write(dir.path().join("pool.toml"), toml).expect("written");
    let mut command = binary();
    command
        .arg("serve")
        .current_dir(dir.path())
        .env("NO_COLOR", "1");
    (Process::start(&mut command), dir)
}

/// The floor of the HTTP side.
pub(crate) fn bare(sessions: usize, period: Duration, bytes: usize) -> Measured {
    let this = std::env::current_exe().expect("it has a path");
    let mut command = Command::new(this);
    command
        .arg("bare-http")
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    load(&mut Process::start(&mut command), sessions, period, bytes)
}

/// How a client speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// In a session.
    Initialize,
    /// With everything in each request (2026-07-28).
    Stateless,
}

fn load(server: &mut Process, sessions: usize, period: Duration, bytes: usize) -> Measured {
    load_as(Era::Initialize, "echo", server, sessions, period, bytes)
}

/// Calls that tool in the words of that era.
#[tokio::main]
pub(crate) async fn load_as(
    era: Era,
    tool: &'static str,
    server: &mut Process,
    sessions: usize,
    period: Duration,
    bytes: usize,
) -> Measured {
    let url = server.announced("MCP at http://");
    let address = url.split('/').next().expect("an address").to_owned();
    let mut connections = Vec::new();
    for _ in 0..sessions {
        let mut connection = Connection::open(&address).await;
        connection.tool = tool;
        connection.era = era;
        if era == Era::Initialize {
            connection.session = connection.post(INITIALIZE).await;
            connection.post(INITIALIZED).await;
        }
        for _ in 0..WARM_UP {
            connection.call(0, bytes).await;
        }
        connections.push(connection);
    }
    let (cpu, since) = (server.cpu(), Instant::now());
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while since.elapsed() < period {
                    let sent = Instant::now();
                    connection.call(latencies.len(), bytes).await;
                    latencies.push(sent.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("no panic"));
    }
    Measured {
        latencies,
        took: since.elapsed(),
        cpu: server.cpu() - cpu,
        memory: server.memory(),
    }
}

/// One HTTP/1.1 connection, kept alive.
pub(crate) struct Connection {
    stream: TcpStream,
    host: String,
    pub(crate) path: String,
    pub(crate) session: Option<String>,
    tool: &'static str,
    era: Era,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        Self {
            stream,
            host: address.to_owned(),
            path: "/demo/mcp".to_owned(),
            session: None,
            tool: "echo",
            era: Era::Initialize,
            buffer: Vec::new(),
        }
    }

    /// Connects anew: an idle connection is closed by the other side in the end.
    pub(crate) async fn reopen(&mut self) {
        let fresh = Self::open(&self.host).await;
        self.stream = fresh.stream;
    }

    pub(crate) async fn call(&mut self, id: usize, bytes: usize) {
        let (tool, text) = (self.tool, "x".repeat(bytes));
        let meta = match self.era {
            Era::Initialize => "",
            Era::Stateless => {
                r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"}}"#
            }
        };
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"message":"{text}"}}{meta}}}}}"#
        );
        self.post(&body).await;
    }

    /// Posts, reads the answer, and returns the session id if it has one.
    pub(crate) async fn post(&mut self, body: &str) -> Option<String> {
        self.send("POST", body).await
    }

    /// Ends the session.
    pub(crate) async fn delete(&mut self) {
        self.send("DELETE", "").await;
    }

    async fn send(&mut self, method: &str, body: &str) -> Option<String> {
        let session = self
            .session
            .as_deref()
            .map_or(String::new(), |id| format!("Mcp-Session-Id: {id}\r\n"));
        let standard = match self.era {
            Era::Initialize => String::new(),
            Era::Stateless => format!(
                "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {}\r\n",
                self.tool
            ),
        };
        let request = format!(
            "{method} {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n{session}{standard}Content-Length: {}\r\n\r\n{body}",
            self.path,
            self.host,
            body.len()
        );
        self.stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        self.buffer.clear();
        loop {
            let read = self
                .stream
                .read_buf(&mut self.buffer)
                .await
                .expect("it answers");
            assert!(
                read > 0,
                "closed: {}",
                String::from_utf8_lossy(&self.buffer)
            );
            if let Some(head) = self.whole() {
                assert!(
                    head.starts_with("HTTP/1.1 20"),
                    "{}",
                    String::from_utf8_lossy(&self.buffer)
                );
                return header(&head, "mcp-session-id").map(ToOwned::to_owned);
            }
        }
    }

    /// The head of the answer, once all of its body is there.
    fn whole(&self) -> Option<String> {
        let end = memchr::memmem::find(&self.buffer, b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.buffer[..end]).expect("ASCII");
        let length: usize =
            header(head, "content-length").map_or(0, |text| text.parse().expect("a number"));
        (self.buffer.len() >= end + length).then(|| head.to_owned())
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
