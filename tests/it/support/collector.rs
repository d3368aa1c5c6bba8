//! A collector of spans, which is a program of its own: what it says of them was read by OpenTelemetry's own code.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{PATIENCE, until};

/// Its code is of this version of PyPI's `opentelemetry-proto`.
const PROTO: &str = "opentelemetry-proto==1.45.2";

/// A running collector; dropping it ends it.
pub(crate) struct Collector {
    child: Child,
    port: u16,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    /// A collector at a port of the system's choice.
    pub(crate) fn start() -> Self {
        Self::at(0)
    }

    /// A collector at that port.
    pub(crate) fn at(port: u16) -> Self {
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/otlp_receiver.py"
        );
        let mut command = Command::new("uv");
        command.args(["run", "--quiet", "--no-project", "--with", PROTO]);
        command.args(["python", script, &port.to_string()]);
        #[allow(
            clippy::disallowed_methods,
            reason = "a peer of the program under test"
        )]
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("uv runs");
        let stdout = child.stdout.take().expect("piped");
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&spans);
        let (tell, ports) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let told: Value = serde_json::from_str(&line).expect("a line of JSON");
                match told["port"].as_u64() {
                    Some(port) => {
                        let _gone = tell.send(u16::try_from(port).expect("a port"));
                    }
                    None => kept.lock().expect("not poisoned").push(told),
                }
            }
        });
        let port = ports.recv_timeout(PATIENCE).expect("it listens");
        Self { child, port, spans }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `[tracing]` for a stdiopool that exports to it; `more` is added.
    pub(crate) fn tracing(&self, more: &str) -> String {
        let port = self.port;
        format!("[tracing]\nendpoint = \"http://127.0.0.1:{port}\"\n{more}\n")
    }

    /// The spans that have come.
    pub(crate) fn spans(&self) -> Vec<Value> {
        self.spans.lock().expect("not poisoned").clone()
    }

    /// The spans of that trace, once its request's own is among them. All of a request come together.
    pub(crate) fn trace(&self, id: &str) -> Vec<Value> {
        let of = |span: &Value| span["trace"] == id;
        until("the trace has come", || {
            let spans = self.spans();
            let is_whole = spans
                .iter()
                .any(|span| of(span) && span["kind"] == "SPAN_KIND_SERVER");
            is_whole.then(|| spans.into_iter().filter(of).collect())
        })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}
