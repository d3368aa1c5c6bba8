//! What README.md shows can be pasted: each client, each fragment of pool.toml, curl.

use std::path::{Path, PathBuf};
use std::process::Command;

use rmcp::ServiceExt;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use super::support::{BINARY, Stdiopool, demo};

const README: &str = include_str!("../../README.md");
const URL: &str = "http://127.0.0.1:8080/github/mcp";
const TOKEN: &str = "let-me-in-please";

/// The blocks of that language, in their order.
fn blocks(language: &str) -> Vec<&'static str> {
    let begin = format!("\n```{language}\n");
    let parts = README.split(&begin).skip(1);
    let blocks: Vec<_> = parts.filter_map(|part| part.split_once("\n```")).collect();
    assert!(!blocks.is_empty(), "README has no {language}");
    blocks.into_iter().map(|(block, _)| block).collect()
}

fn serve() -> Stdiopool {
    let output = Command::new("sh")
        .args(["-c", &format!("printf %s {TOKEN} | sha256sum")])
        .output();
    let output = output.expect("runs").stdout;
    let hash = String::from_utf8_lossy(&output[..64]).into_owned();
    let tenant = format!("[tenants.acme]\ntokens = [\"sha256:{hash}\"]\n");
    Stdiopool::serve_with("[auth]\nmode = \"token\"\n", &(demo("demo", "") + &tenant))
}

/// The block for a server that runs here.
fn here(block: &str, pool: &Stdiopool) -> String {
    assert!(block.contains("TOKEN"), "{block}");
    let block = block.replace(URL, &format!("{}/demo/mcp", pool.url));
    block.replace("TOKEN", TOKEN)
}

fn ran(program: &Path, args: &[&str]) -> String {
    let node = peers().join("node/node_modules/node/bin");
    let path = std::env::var("PATH").expect("a PATH");
    let output = Command::new(program)
        .args(args)
        .env("PATH", format!("{}:{path}", node.display()))
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}{why}");
    said
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers")
}

#[test]
fn python_of_both_generations() {
    let pool = serve();
    for venv in ["venv", "venv2"] {
        let python = peers().join(venv).join("bin/python");
        for block in blocks("python") {
            let said = ran(&python, &["-c", &here(block, &pool)]);
            assert!(said.contains("'whoami'"), "{venv}: {said}");
        }
    }
}

#[test]
fn typescript_of_both_generations() {
    let pool = serve();
    let all = blocks("js");
    assert_eq!(all.len(), 2, "one of each generation");
    for block in all {
        // Modules are found beside the script that imports them.
        let folder = peers().join("node");
        let script = tempfile::Builder::new().suffix(".mjs").tempfile_in(folder);
        let script = script.expect("a file");
        std::fs::write(script.path(), here(block, &pool)).expect("written");
        let said = ran(Path::new("node"), &[&script.path().display().to_string()]);
        assert!(said.contains("whoami"), "{said}");
    }
}

#[tokio::test]
async fn rust() {
    let pool = serve();
    let [block] = blocks("rust")[..] else {
        panic!("one block");
    };
    // What runs here is what is written there.
    let source = include_str!("readme.rs").replace(
        "client.list_all_tools().await.expect(\"tools\")",
        "client.list_all_tools().await?",
    );
    let source = source.replace(
        "serve(transport).await.expect(\"a session\")",
        "serve(transport).await?",
    );
    for line in block.lines().skip(1) {
        let line = line
            .replace("TOKEN", "{}")
            .replace("config.auth_header(\"{}\")", "config.auth_header(TOKEN)");
        let needed = line
            .trim()
            .replace("println!(\"{:?}\", ", "")
            .replace(");", "");
        assert!(source.contains(&needed), "{needed}");
    }
    assert!(block.contains("StreamableHttpClientTransportConfig::with_uri(\"http"));
    let url = format!("{}/demo/mcp", pool.url);
    let config = StreamableHttpClientTransportConfig::with_uri(url);
    let transport = StreamableHttpClientTransport::from_config(config.auth_header(TOKEN));
    let client = ().serve(transport).await.expect("a session");
    let tools = client.list_all_tools().await.expect("tools");
    assert!(tools.iter().any(|tool| tool.name == "whoami"), "{tools:?}");
    client.cancel().await.expect("ends");
}

#[test]
fn curl() {
    let pool = serve();
    for block in blocks("sh") {
        let said = ran(Path::new("sh"), &["-c", &here(block, &pool)]);
        assert!(said.to_lowercase().contains("mcp-session-id: "), "{said}");
        assert!(
            said.contains("\"protocolVersion\":\"2025-11-25\""),
            "{said}"
        );
    }
}

#[test]
fn fragments_of_pool_toml_pasted_in_their_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut text = String::new();
    for block in blocks("toml") {
        text.push_str(block);
        text.push_str("\n\n");
        std::fs::write(dir.path().join("pool.toml"), &text).expect("written");
        let output = Command::new(BINARY)
            .args(["check", "--file-only"])
            .current_dir(dir.path())
            .output()
            .expect("runs");
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{why}");
    }
    // The line that README quotes is the one that decides.
    let output = Command::new(BINARY)
        .args(["explain", "--tenant", "acme", "--scope", "github:read"])
        .args(["--server", "github", "--tool", "delete_repo"])
        .current_dir(dir.path())
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let quoted = said.lines().last().expect("a reason");
    assert!(README.contains(quoted), "{said}");
}
