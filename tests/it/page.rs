//! A page in a real browser, with the official TypeScript SDK of either generation, that uses a server of another origin.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::support::proxy::Proxy;
use super::support::{PATIENCE, Stdiopool};

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/node")
}

fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    let mut found = std::env::split_paths(&path).map(|folder| folder.join("chromium"));
    found
        .find(|file| file.exists())
        .expect("chromium is on the PATH: run scripts/install chromium")
}

/// The script of the page and the SDK in one file.
async fn bundled(into: &Path) {
    let bundle = tokio::process::Command::new(peers().join("node_modules/node/bin/node"))
        .arg(peers().join("node_modules/rolldown/bin/cli.mjs"))
        .arg(peers().join("page.mjs"))
        .args(["--platform", "browser", "--format", "esm", "--file"])
        .arg(into)
        .current_dir(peers())
        .stdout(Stdio::null())
        .output();
    let bundle = bundle.await.expect("runs");
    let complaint = String::from_utf8_lossy(&bundle.stderr);
    assert!(
        bundle.status.success(),
        "run tests/peers/setup.sh: {complaint}"
    );
}

/// Serves the page, and hands on what it reports.
async fn serve_page(script: Vec<u8>, reports: mpsc::Sender<String>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let (script, reports) = (script.clone(), reports.clone());
        connections.spawn(async move {
            let asked = request(&mut stream).await;
            let page = b"<!doctype html><script type=module src=/page.js></script>".to_vec();
            let (media, body) = match asked.split_once("\r\n\r\n") {
                Some((head, report)) if head.starts_with("POST /report ") => {
                    let _done = reports.send(report.to_owned()).await;
                    ("text/plain", vec![])
                }
                Some((head, _)) if head.starts_with("GET /page.js ") => ("text/javascript", script),
                _ => ("text/html", page),
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _head = stream.write_all(head.as_bytes()).await;
            let _body = stream.write_all(&body).await;
        });
    }
}

/// A request, with its body.
async fn request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut piece).await {
        read.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().expect("a number"));
        if body.len() >= length {
            break;
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// What one page reports, which uses the SDK of that generation.
async fn page_with(sdk: u8) {
    let chromium = chromium();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let origin = format!("http://{}", listener.local_addr().expect("bound"));
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/recording.py");
    let dir = crate::support::open_folder().expect("a temporary folder");
    let config = dir.path().join("pool.toml");
    let toml = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\nallowed_origins = [\"{origin}\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"none\"\n[state]\ndir = \"state\"\n[servers.slow]\ncommand = \"python3\"\nargs = [\"{fixture}\", \"${{dir.data}}/heard\"]\n"
    );
    std::fs::write(&config, toml).expect("written");
    let args = ["--config".to_owned(), config.display().to_string()];
    let pool = Stdiopool::run(dir, &args, &[]);
    let proxy = Proxy::before(&pool.url).await;
    let script = pool.dir.path().join("page.js");
    bundled(&script).await;
    let script = std::fs::read(script).expect("bundled");
    let (reports, mut reported) = mpsc::channel(8);
    let _page = JoinSet::from_iter([serve_page(script, reports, listener)]);
    let mut browser = tokio::process::Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args(["--disable-dev-shm-usage", "--no-proxy-server"])
        .arg(format!(
            "--user-data-dir={}",
            pool.dir.path().join("browser").display()
        ))
        .args([
            "--remote-debugging-port=0".to_owned(),
            format!("{origin}/?sdk={sdk}&url={}/slow/mcp", proxy.url),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("runs");
    let mut report = async || {
        let report = tokio::time::timeout(PATIENCE, reported.recv()).await;
        report.expect("in time").expect("reports")
    };
    assert_eq!(report().await, "called");
    let first = proxy.preflights();
    let asks_to_post = |head: &String| {
        head.contains("access-control-request-method: post")
            && head.contains(&format!("origin: {origin}"))
    };
    // One is enough: the browser remembers what headers its answer allows.
    assert!(first.iter().any(asks_to_post), "{first:?}");
    assert_eq!(report().await, "begun");
    assert_eq!(proxy.resumptions(), 0);
    proxy.cut();
    assert_eq!(report().await, "waited");
    assert!(proxy.resumptions() > 0, "the call was resumed");
    let heard = pool.dir.path().join("state/data/default/slow/heard");
    let heard = std::fs::read_to_string(heard).expect("written");
    let calls = heard.matches("tools/call wait").count();
    assert_eq!(calls, 2, "each once: {heard}");
    browser.kill().await.expect("ends");
}

#[tokio::test]
async fn a_page_calls_and_comes_back_to_a_call_whose_connection_broke() {
    page_with(2).await;
}

#[tokio::test]
async fn a_page_with_the_sdk_of_before_calls_and_comes_back_too() {
    page_with(1).await;
}
