//! The official SDKs as clients: Python `mcp` and TypeScript of both generations, Rust `rmcp`, and the
//! inspector and `mcp-remote`, which are made of them; each on the built-in demo server or on
//! servers of both eras, an npm server and a PyPI server.
//!
//! `tests/peers/setup.sh`, which `scripts/test` runs, installs all but the Rust one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rmcp::ServiceExt;
use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt};
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use serde_json::{Value, json};
use tokio::io::AsyncBufReadExt;

use super::lifecycle::{everything, time};
use super::support::proxy::Proxy;
use super::support::{PATIENCE, Stdiopool, demo, eventually, fixture};

const SERVERS: [&str; 3] = ["demo", "everything", "time"];

fn serve() -> Stdiopool {
    let toml = format!("{}{}{}", demo("demo", ""), everything(), time());
    Stdiopool::serve(&toml)
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers")
}

/// Runs a client program; what it says.
async fn output_of(program: &Path, args: &[&str]) -> String {
    assert!(
        program.exists(),
        "{} is missing: run tests/peers/setup.sh",
        program.display()
    );
    let mut command = Command::new(program);
    let newer_node = peers().join("node/node_modules/node/bin");
    let path = std::env::var("PATH").expect("a PATH");
    command
        .args(args)
        .env("PATH", format!("{}:{path}", newer_node.display()))
        .env("NO_PROXY", "127.0.0.1");
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("no panic").expect("runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}\n{complaint}");
    said
}

/// What a client that checks for itself prints last: a summary, as JSON.
async fn summary_of(program: &Path, args: &[&str]) -> Value {
    let said = output_of(program, args).await;
    let summary: Value = serde_json::from_str(said.lines().last().unwrap_or_default())
        .unwrap_or_else(|_| panic!("{args:?}: {said}"));
    assert!(summary["tools"].as_u64().expect("a count") > 0, "{summary}");
    summary
}

/// Runs a client program on every server.
async fn run(program: &Path, script: &Path, endpoint: &str) {
    let pool = serve();
    let script = script.display().to_string();
    for server in SERVERS {
        let url = format!("{}/{server}/{endpoint}", pool.url);
        summary_of(program, &[&script, &url, server]).await;
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

/// Servers of both eras, and two real ones.
fn serve_both_eras() -> Stdiopool {
    let toml = format!(
        "{}{}{}{}",
        fixture("old", "initialize", ""),
        fixture("new", "stateless", ""),
        everything(),
        time()
    );
    Stdiopool::serve(&toml)
}

/// Runs a client program of the second generation on all of them, in both of its modes.
async fn run_second_generation(program: &Path, script: &Path) {
    let pool = serve_both_eras();
    let script = script.display().to_string();
    for mode in ["auto", "legacy"] {
        for (server, suite) in [
            ("old", "fixture"),
            ("new", "fixture"),
            ("everything", "everything"),
            ("time", "time"),
        ] {
            let url = format!("{}/{server}/mcp", pool.url);
            let summary = summary_of(program, &[&script, &url, suite, mode]).await;
            if suite == "fixture" {
                let checks = summary["checks"].as_array().expect("a list");
                assert!(checks.len() >= 6, "{summary}");
            }
        }
    }
}

#[tokio::test]
async fn python_of_the_second_generation() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/client2.py");
    run_second_generation(&peers().join("venv2/bin/python"), &script).await;
}

#[tokio::test]
async fn typescript_of_the_second_generation() {
    run_second_generation(&on_path("node"), &peers().join("node/client2.mjs")).await;
}

/// A call whose connection breaks is answered all the same, and calls that end otherwise leave no client asking for
/// their streams for ever.
async fn goes_on_and_comes_to_rest(program: &Path, script: &str, generation: &str) {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/recording.py");
    let pool = Stdiopool::serve(&format!(
        "[servers.slow]\ncommand = \"python3\"\nargs = [\"{fixture}\", \"${{dir.data}}/heard\"]\n"
    ));
    let heard = pool.dir.path().join("state/data/default/slow/heard");
    let proxy = Proxy::before(&pool.url).await;
    let is_javascript = script.ends_with(".mjs");
    let script = match is_javascript {
        true => peers().join("node").join(script),
        false => Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/peers")
            .join(script),
    };
    let newer_node = peers().join("node/node_modules/node/bin");
    let path = std::env::var("PATH").expect("a PATH");
    let mut client = tokio::process::Command::new(program)
        .arg(script)
        .args([format!("{}/slow/mcp", proxy.url).as_str(), generation])
        .env("PATH", format!("{}:{path}", newer_node.display()))
        .env("NO_PROXY", "127.0.0.1")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("runs");
    let out = client.stdout.take().expect("piped");
    #[allow(
        clippy::disallowed_methods,
        reason = "the client is a program of these tests"
    )]
    let mut lines = tokio::io::BufReader::new(out).lines();
    let mut says = async |what: &str| {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let line = line.expect("in time").expect("reads");
        assert_eq!(line.as_deref(), Some(what), "generation {generation}");
    };
    match is_javascript {
        true => says("begun").await,
        false => eventually("its stream has begun", async || proxy.has_begun("\"wait\"")).await,
    }
    proxy.cut();
    says("waited").await;
    says("quiet").await;
    let asked = proxy.gets();
    says("done").await;
    assert_eq!(proxy.gets(), asked, "it does not come to rest");
    let heard = std::fs::read_to_string(&heard).expect("written");
    assert_eq!(
        heard.matches("cancelled").count(),
        1,
        "the one that was given up: {heard}"
    );
    client.wait().await.expect("ends");
}

#[tokio::test]
async fn python_comes_back_and_comes_to_rest() {
    let python = peers().join("venv/bin/python");
    goes_on_and_comes_to_rest(&python, "broken.py", "1").await;
}

#[tokio::test]
async fn python_of_the_second_generation_comes_back_and_comes_to_rest() {
    let python = peers().join("venv2/bin/python");
    goes_on_and_comes_to_rest(&python, "broken.py", "2").await;
}

#[tokio::test]
async fn typescript_comes_back_and_comes_to_rest() {
    goes_on_and_comes_to_rest(&on_path("node"), "broken.mjs", "1").await;
}

#[tokio::test]
async fn typescript_of_the_second_generation_comes_back_and_comes_to_rest() {
    goes_on_and_comes_to_rest(&on_path("node"), "broken.mjs", "2").await;
}

#[tokio::test]
async fn the_inspector() {
    let pool = serve_both_eras();
    let inspector = peers().join("node/node_modules/.bin/mcp-inspector");
    for (server, tool, argument, expected) in [
        ("old", "test_simple_text", None, "simple text response"),
        ("new", "test_simple_text", None, "simple text response"),
        ("everything", "echo", Some("message=hello"), "hello"),
        (
            "time",
            "get_current_time",
            Some("timezone=Europe/Berlin"),
            "Europe/Berlin",
        ),
    ] {
        for era in ["legacy", "auto"] {
            let url = format!("{}/{server}/mcp", pool.url);
            let mut args = vec!["--cli", &url, "--transport", "http", "--protocol-era", era];
            args.extend(["--method", "tools/call", "--tool-name", tool]);
            args.extend(
                argument
                    .iter()
                    .flat_map(|argument| ["--tool-arg", argument]),
            );
            let said = output_of(&inspector, &args).await;
            assert!(said.contains(expected), "{server} {era}: {said}");
        }
    }
}

/// A bridge from stdio, in front of servers of both eras.
#[tokio::test]
async fn mcp_remote() {
    let pool = serve_both_eras();
    for server in ["old", "new"] {
        let program = peers().join("node/node_modules/.bin/mcp-remote");
        assert!(program.exists(), "run tests/peers/setup.sh");
        let mut command = tokio::process::Command::new(program);
        command
            .arg(format!("{}/{server}/mcp", pool.url))
            .arg("--allow-http")
            .env("HOME", pool.dir.path())
            .env("NO_PROXY", "127.0.0.1");
        let quiet = TokioChildProcess::builder(command).stderr(Stdio::null());
        let (transport, _) = quiet.spawn().expect("runs");
        let client = ().serve(transport).await.expect("connects");
        let call = CallToolRequestParams::new("test_simple_text");
        let result = client.call_tool(call).await.expect("calls");
        let text = serde_json::to_string(&result).expect("JSON");
        assert!(text.contains("simple text response"), "{server}: {text}");
        client.cancel().await.expect("ends");
    }
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
    let pool = serve_both_eras();
    for (server, tool, arguments, expected) in [
        ("old", "test_simple_text", json!({}), "simple text response"),
        ("new", "test_simple_text", json!({}), "simple text response"),
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
