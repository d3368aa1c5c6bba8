//! The official SDKs as clients: Python `mcp`, TypeScript `@modelcontextprotocol/sdk`, Rust `rmcp`,
//! each on the built-in demo server, an npm server and a PyPI server.
//!
//! `tests/peers/setup.sh`, which `scripts/test` runs, installs the first two.

use std::path::{Path, PathBuf};
use std::process::Command;

use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt};
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::{Value, json};

use super::lifecycle::{EVERYTHING, TIME};
use super::support::{Stdiopool, demo, eventually};

const SERVERS: [&str; 3] = ["demo", "everything", "time"];

fn serve() -> Stdiopool {
    let toml = format!(
        "{}[servers.everything]\n{EVERYTHING}[servers.time]\n{TIME}",
        demo("demo", "")
    );
    Stdiopool::serve(&toml)
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers")
}

/// Runs a client program on every server; it checks for itself and says so.
async fn run(program: &Path, script: &Path, endpoint: &str) {
    for file in [program, script] {
        assert!(
            file.exists(),
            "{} is missing: run tests/peers/setup.sh",
            file.display()
        );
    }
    let pool = serve();
    for server in SERVERS {
        let mut command = Command::new(program);
        command
            .arg(script)
            .arg(format!("{}/{server}/{endpoint}", pool.url))
            .arg(server)
            .env("NO_PROXY", "127.0.0.1");
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.expect("no panic").expect("runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{server}: {said}\n{complaint}");
        let summary: Value = serde_json::from_str(said.lines().last().unwrap_or_default())
            .unwrap_or_else(|_| panic!("{server}: {said}\n{complaint}"));
        assert!(summary["tools"].as_u64().expect("a count") > 0, "{summary}");
    }
    // Clients that ended their sessions have left none behind. The end of a stream is seen soon.
    let none_left = async || pool.admin_json("sessions").await == json!([]);
    eventually("no session is left", none_left).await;
}

#[tokio::test]
async fn python() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/client.py");
    run(&peers().join("venv/bin/python"), &script, "mcp").await;
}

#[tokio::test]
async fn typescript() {
    run(&on_path("node"), &peers().join("node/client.mjs"), "mcp").await;
}

/// Over the transport of 2024-11-05.
#[tokio::test]
async fn typescript_over_http_with_sse() {
    run(&on_path("node"), &peers().join("node/client.mjs"), "sse").await;
}

fn on_path(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(program));
    places
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("{program} is not on the PATH: run scripts/test"))
}

#[tokio::test]
async fn rust() {
    rust_as(ClientLifecycleMode::Initialize).await;
}

/// Speaks the stateless revision.
#[tokio::test]
async fn rust_modern_first() {
    rust_as(ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: None,
    })
    .await;
}

async fn rust_as(lifecycle: ClientLifecycleMode) {
    let pool = serve();
    for (server, tool, arguments, expected) in [
        ("demo", "echo", json!({"message": "hello"}), "hello"),
        ("everything", "echo", json!({"message": "hello"}), "hello"),
        (
            "time",
            "get_current_time",
            json!({"timezone": "Europe/Berlin"}),
            "Europe/Berlin",
        ),
    ] {
        let url = format!("{}/{server}/mcp", pool.url);
        let transport = StreamableHttpClientTransport::from_uri(url);
        let client = ().serve_with_lifecycle(transport, lifecycle.clone()).await;
        let client = client.expect("connects");
        let tools = client.list_all_tools().await.expect("lists");
        assert!(
            tools.iter().any(|known| known.name == tool),
            "{server}: {tools:?}"
        );
        let mut params = CallToolRequestParams::new(tool);
        params.arguments = arguments.as_object().cloned();
        let result = client.call_tool(params).await.expect("calls");
        let text = serde_json::to_string(&result).expect("JSON");
        assert!(text.contains(expected), "{server}: {text}");
        client.cancel().await.expect("ends");
    }
}
