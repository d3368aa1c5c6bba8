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

/// A folder with all fragments of pool.toml, each pasted after an empty line.
fn pasted() -> tempfile::TempDir {
    let dir = crate::support::open_folder().expect("a folder");
    let text: String = blocks("toml")
        .iter()
        .map(|block| format!("{block}\n\n"))
        .collect();
    std::fs::write(dir.path().join("pool.toml"), text).expect("written");
    dir
}

#[test]
fn fragments_of_pool_toml_pasted_in_their_order() {
    let dir = crate::support::open_folder().expect("a folder");
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
}

/// Commands of README that show what they print, each with that.
fn shown() -> Vec<(String, String)> {
    let mut shown = Vec::new();
    for block in blocks("console") {
        // A command may go on in the next line.
        let block = block.replace("\\\n", " ");
        for part in block.split("$ ").filter(|part| !part.trim().is_empty()) {
            let (command, printed) = part.split_once('\n').unwrap_or((part, ""));
            if !printed.trim().is_empty() {
                shown.push((command.to_owned(), format!("{}\n", printed.trim_end())));
            }
        }
    }
    shown
}

#[tokio::test]
async fn what_commands_print_is_what_readme_shows() {
    let (mut explained, mut stored) = (0, 0);
    for (command, printed) in shown() {
        if let Some(args) = command.strip_prefix("stdiopool explain ") {
            let dir = pasted();
            let output = Command::new(BINARY)
                .arg("explain")
                .args(args.split(' '))
                .current_dir(dir.path())
                .output()
                .expect("runs");
            assert_eq!(String::from_utf8_lossy(&output.stdout), printed);
            explained += 1;
        } else if command.contains("/v1/config") {
            let fragment = blocks("toml")[0];
            let (_, fragment) = fragment.split_once("\n\n").expect("auth goes first");
            let hash = fragment.split('"').find(|text| text.starts_with("sha256:"));
            let own = format!("sha256:{}", "ab".repeat(32));
            let fragment = fragment.replace(hash.expect("a token"), &own);
            let pool = Stdiopool::serve_with("[auth]\nmode = \"token\"\n", &fragment);
            let (ok, token, why) = super::ended::ran(
                &pool,
                &[
                    "token",
                    "create",
                    "acme",
                    "ci",
                    "--config",
                    &pool.dir.path().join("pool.toml").display().to_string(),
                ],
            );
            assert!(ok, "{why}");
            let command = command
                .replace("http://127.0.0.1:8080", &pool.url)
                .replace("$token", token.trim());
            let said = ran(Path::new("sh"), &["-c", &command]);
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
            let (said, shown) = (read(&said), read(&printed));
            let keys = |value: &serde_json::Value| {
                value
                    .as_object()
                    .map(|it| it.keys().cloned().collect::<Vec<_>>())
            };
            assert_eq!(keys(&said), keys(&shown));
            for key in ["keys", "secrets", "server"] {
                assert_eq!(said[key], shown[key], "{said}");
            }
            let ttl = |value: &serde_json::Value| {
                value["expires"]
                    .as_u64()
                    .zip(value["created"].as_u64())
                    .map(|(end, begin)| end - begin)
            };
            assert_eq!(ttl(&said), ttl(&shown));
            stored += 1;
        } else {
            panic!("what `{command}` prints is shown and not compared");
        }
    }
    assert_eq!((explained, stored), (1, 1));
}
