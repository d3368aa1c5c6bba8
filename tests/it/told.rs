//! What real clients tell their user of a request that fails, and whether their session goes on: the table in docs/clients.md.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use serde_json::{Value, json};

use super::support::{Client, Stdiopool, demo, faulty, stateless};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/clients.md");
const BEGIN: &str = "<!-- from a test -->\n";
const END: &str = "<!-- until here -->\n";
const PATIENCE: Duration = Duration::from_secs(150);

/// What became of a failure at a client.
struct Told {
    /// What its user sees.
    text: String,
    lives: bool,
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers")
}

/// Of a program that prints it as a line of JSON.
async fn of_program(
    program: PathBuf,
    script: PathBuf,
    client: &str,
    url: &str,
    tool: &str,
) -> Told {
    assert!(
        program.exists(),
        "{} is missing: run tests/peers/setup.sh",
        program.display()
    );
    let newer_node = peers().join("node/node_modules/node/bin");
    let path = std::env::var("PATH").expect("a PATH");
    let output = tokio::process::Command::new(program)
        .arg(script)
        .args([url, client, tool])
        .env("PATH", format!("{}:{path}", newer_node.display()))
        .env("NO_PROXY", "127.0.0.1")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await;
    let output = output.expect("in time").expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let told: Value =
        serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap_or_else(|_| {
            panic!(
                "{client}: {said}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
    let lives = told["lives"] == true;
    if !lives {
        // What became of the next call, for who reads a failed test.
        eprintln!("{client}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Told {
        text: told["told"].as_str().unwrap_or_default().to_owned(),
        lives,
    }
}

/// Of rmcp over that transport, by itself or in front of mcp-remote.
macro_rules! of_rmcp {
    ($transport:expr, $tool:expr) => {{
        let connected = tokio::time::timeout(PATIENCE, ().serve($transport)).await;
        match connected.map_err(|_| "nothing for a minute".to_owned()).and_then(|it| it.map_err(|error| format!("{error:?}"))) {
            Err(text) => Told { text, lives: false },
            Ok(client) => {
                let (name, letters) = $tool.split_once(':').unwrap_or(($tool, ""));
                let mut params = CallToolRequestParams::new(name.to_owned());
                if let Ok(letters) = letters.parse() {
                    let message = "x".repeat(letters);
                    params.arguments = serde_json::json!({ "message": message }).as_object().cloned();
                }
                let call = client.call_tool(params);
                let text = match tokio::time::timeout(PATIENCE, call).await {
                    Ok(Ok(result)) => format!("{result:?}"),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "nothing for a minute".to_owned(),
                };
                let mut again = CallToolRequestParams::new("echo");
                again.arguments = serde_json::json!({"message": "on"}).as_object().cloned();
                let mut lives = false;
                // A server that has just died may be started again a moment later only.
                for _ in 0..10 {
                    let called = client.call_tool(again.clone());
                    let called = tokio::time::timeout(PATIENCE, called).await;
                    lives = matches!(called, Ok(Ok(_)));
                    if lives || called.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Told { text, lives }
            }
        }
    }};
}

async fn told(client: &str, url: &str, tool: &'static str) -> Told {
    let python = |venv: &str| peers().join(venv).join("bin/python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/told.py");
    let node = peers().join("node/node_modules/node/bin/node");
    let module = peers().join("node/told.mjs");
    match client {
        "Python 1.30" => of_program(python("venv"), script, "1", url, tool).await,
        "Python 1.30 over SSE" => of_program(python("venv"), script, "1-sse", url, tool).await,
        "Python 2.3" => of_program(python("venv2"), script, "2", url, tool).await,
        "Python 2.3, stateless first" => {
            of_program(python("venv2"), script, "2-auto", url, tool).await
        }
        "fastmcp 4.2" => of_program(python("venv3"), script, "fastmcp", url, tool).await,
        "TypeScript 1.32" => of_program(node, module, "1", url, tool).await,
        "TypeScript 1.32 over SSE" => of_program(node, module, "1-sse", url, tool).await,
        "TypeScript 2.4" => of_program(node, module, "2", url, tool).await,
        "TypeScript 2.4, stateless first" => of_program(node, module, "2-auto", url, tool).await,
        "rmcp 3" => of_rmcp!(
            StreamableHttpClientTransport::from_uri(url.to_owned()),
            tool
        ),
        "mcp-remote 0.15" => {
            let home = crate::support::open_folder().expect("a temporary folder");
            let mut command =
                tokio::process::Command::new(peers().join("node/node_modules/.bin/mcp-remote"));
            command
                .args([url, "--allow-http"])
                .env("HOME", home.path())
                .env("NO_PROXY", "127.0.0.1");
            let quiet = TokioChildProcess::builder(command).stderr(Stdio::null());
            let (transport, _) = quiet.spawn().expect("runs");
            of_rmcp!(transport, tool)
        }
        other => panic!("no client {other}"),
    }
}

const CLIENTS: [&str; 9] = [
    "Python 1.30",
    "Python 2.3",
    "Python 2.3, stateless first",
    "fastmcp 4.2",
    "TypeScript 1.32",
    "TypeScript 2.4",
    "TypeScript 2.4, stateless first",
    "rmcp 3",
    "mcp-remote 0.15",
];

/// The SDKs over the transport of 2024-11-05.
const OVER_SSE: [&str; 2] = ["Python 1.30 over SSE", "TypeScript 1.32 over SSE"];

fn cell(told: &Told, expected: &str, goes_on: bool) -> String {
    let is_told = match told.text.contains(expected) {
        true if told.text.contains("POST") || told.text.contains("HTTP") => {
            "as text of an HTTP error"
        }
        true => "told",
        false => "not told",
    };
    match (goes_on, told.lives) {
        (false, _) => is_told.to_owned(),
        (true, true) => format!("{is_told}; goes on"),
        (true, false) => format!("{is_told}; **session over**"),
    }
}

/// A client's row of the table; panics if it does not tell its user what it should by default.
async fn row(n: usize, auto: &Stdiopool, http: &Stdiopool) -> String {
    let client = CLIENTS[n];
    let mut row = format!("| {client} |");
    for (pool, is_default) in [(auto, true), (http, false)] {
        let url = |server: &str| format!("{}/{server}{n}/mcp", pool.url);
        let failed = told(client, &url("dies"), "die").await;
        let refused = told(client, &url("broken"), "echo").await;
        if is_default {
            let is_told = failed.text.contains("status 3") && failed.lives;
            assert!(is_told, "{client}: {}", failed.text);
            // It ends when it cannot connect, whatever it was told.
            let is_told = refused.text.contains("could not be started");
            assert!(
                is_told || client.starts_with("mcp-remote"),
                "{client}: {}",
                refused.text
            );
        }
        let cells = [
            cell(&failed, "status 3", true),
            cell(&refused, "could not be started", false),
        ];
        write!(row, " {} |", cells.join(" | ")).expect("in memory");
    }
    row + "\n"
}

/// What is refused though it is well formed ends no session either: with 400, that of Python 1.30 was over.
#[tokio::test]
async fn a_call_that_is_refused_for_its_binding_is_told_and_the_session_goes_on() {
    let pool = Stdiopool::serve(&demo("demo", "bind.sleep = { secnods = \"1\" }"));
    let url = format!("{}/demo/mcp", pool.url);
    for client in ["Python 1.30", "Python 2.3", "TypeScript 1.32", "rmcp 3"] {
        let refused = told(client, &url, "sleep").await;
        let is_told = refused.text.contains("`servers.demo.bind.sleep.secnods`");
        assert!(is_told && refused.lives, "{client}: {}", refused.text);
    }
}

/// A body that is larger than it may be: with 413, the session of Python 1.30 was over.
#[tokio::test]
async fn a_call_that_is_too_large_is_told_and_the_session_goes_on() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    for client in CLIENTS.into_iter().chain(OVER_SSE) {
        let endpoint = if OVER_SSE.contains(&client) {
            "sse"
        } else {
            "mcp"
        };
        let url = format!("{}/demo/{endpoint}", pool.url);
        // What is far more than the limit too, as long as it comes soon; others take minutes to send so much.
        let is_python = client.starts_with("Python") || client.starts_with("fastmcp");
        for call in ["echo:3000000", "echo:30000000"] {
            if !is_python && call == "echo:30000000" {
                continue;
            }
            let refused = told(client, &url, call).await;
            let is_told = refused.text.contains("`http.max_body`");
            let shown: String = refused.text.chars().take(500).collect();
            assert!(is_told && refused.lives, "{client} {call}: {shown}");
        }
    }
}

/// With `BLESS=1` it writes the table.
#[tokio::test]
async fn the_table_of_clients_is_what_they_do() {
    // Each has its own: what one client's call ends, another's does not notice.
    let of_client = |n: usize| {
        faulty(&format!("dies{n}"), &["--mode", "die-mid-call"], "")
            + &faulty(&format!("broken{n}"), &["--mode", "exit-at-once"], "")
    };
    let servers: String = (0..CLIENTS.len()).map(of_client).collect();
    let serve = |statuses: &str| {
        let dir = crate::support::open_folder().expect("a temporary folder");
        let config = dir.path().join("pool.toml");
        let text = format!(
            "[http]\nlisten = \"127.0.0.1:0\"\nfailure_status = \"{statuses}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"none\"\n[state]\ndir = \"state\"\n{servers}"
        );
        std::fs::write(&config, text).expect("written");
        let args = ["--config".to_owned(), config.display().to_string()];
        Stdiopool::run(dir, &args, &[])
    };
    let (auto, http) = (serve("auto"), serve("http"));
    let mut table = String::from(
        "| client | `\"auto\"`: a call fails | a start fails | `\"http\"`: a call fails (502) | a start fails (502) |\n| --- | --- | --- | --- | --- |\n",
    );
    let rows = (0..CLIENTS.len()).map(|n| row(n, &auto, &http));
    for row in stream::iter(rows).buffered(1).collect::<Vec<_>>().await {
        table.push_str(&row);
    }
    let document = std::fs::read_to_string(DOCUMENT).expect("docs/clients.md is there");
    let (before, rest) = document.split_once(BEGIN).expect("the table's place");
    let (_, after) = rest.split_once(END).expect("the table's end");
    let expected = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(DOCUMENT, &expected).expect("written");
    }
    assert_eq!(document, expected, "run it with BLESS=1");
}

/// A server that takes so many seconds to start, and says what it does.
fn slow(name: &str, seconds: u32) -> String {
    let binary = env!("CARGO_BIN_EXE_stdiopool");
    let script = format!("echo loading the model >&2; sleep {seconds}; exec {binary} demo-server");
    let args = serde_json::json!(["-c", script]);
    format!("[servers.{name}]\ncommand = \"sh\"\nargs = {args}\n")
}

/// Whoever waits for a start hears what it waits for, and no client minds.
#[tokio::test]
async fn what_the_opening_of_a_session_waits_for_is_told_meanwhile() {
    let clients: Vec<_> = CLIENTS.into_iter().chain(OVER_SSE).collect();
    let mut servers = slow("log", 9) + &slow("progress", 9);
    for n in 0..clients.len() {
        servers += &slow(&format!("slow{n}"), 7);
    }
    let pool = Stdiopool::serve(&servers);
    let open = |meta: Value| {
        serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" }, "_meta": meta } })
    };
    for (server, meta, method) in [
        ("log", serde_json::json!({}), "notifications/message"),
        (
            "progress",
            serde_json::json!({"progressToken": "p"}),
            "notifications/progress",
        ),
    ] {
        let mut events = pool.client(server).stream(&open(meta)).await;
        let mut steps = Vec::new();
        loop {
            let event = events.next().await.expect("an answer");
            if event["id"] == 1 {
                assert!(event["result"]["serverInfo"].is_object(), "{event}");
                break;
            }
            assert_eq!(event["method"], method, "{event}");
            let params = &event["params"];
            let said = params["data"].as_str().or(params["message"].as_str());
            let said = said.expect("words");
            assert!(
                said.contains(&format!("`{server}`")) && said.contains("loading the model"),
                "{said}"
            );
            steps.push(params["progress"].as_f64());
        }
        assert!(steps.len() >= 2, "{steps:?}");
        let grows = steps.windows(2).all(|two| two[0] < two[1]);
        assert!(grows || method == "notifications/message", "{steps:?}");
    }
    let told = clients.iter().enumerate().map(async |(n, client)| {
        let endpoint = if OVER_SSE.contains(client) {
            "sse"
        } else {
            "mcp"
        };
        let url = format!("{}/slow{n}/{endpoint}", pool.url);
        let told = told(client, &url, "echo").await;
        assert!(told.lives, "{client}: {}", told.text);
    });
    stream::iter(told).buffered(3).collect::<Vec<_>>().await;
}

/// What came before the answer to a request, which has to be a result.
fn before_the_result(messages: &[Value]) -> &[Value] {
    let (last, before) = messages.split_last().expect("an answer");
    assert!(last["result"].is_object(), "{messages:?}");
    before
}

/// The words of notifications of that method, which name the server and what it has said.
fn words_of(told: &[Value], method: &str) -> Vec<String> {
    let mut words = Vec::new();
    for one in told {
        assert_eq!(one["method"], method, "{told:?}");
        let params = &one["params"];
        let text = params["data"].as_str().or(params["message"].as_str());
        let text = text.expect("words").to_owned();
        assert!(
            text.contains("`slow`") && text.contains("loading the model"),
            "{text}"
        );
        words.push(text);
    }
    words
}

/// Each call of a session of its own has to wait for a process; what is listed is remembered.
#[tokio::test]
async fn what_a_later_request_waits_for_is_told_meanwhile() {
    const LOG: &str = "notifications/message";
    const PROGRESS: &str = "notifications/progress";
    let servers = slow("slow", 5)
        + "share = \"session\"\n[pool]\nmax_starting = 8\nmax_workers_per_tenant = 32\n";
    let pool = Stdiopool::serve(&servers);
    // From here on it is known what it says of itself, and what its tools are.
    let first = pool.client("slow").connect().await;
    first.ask("tools/list", json!({})).await.result();

    let call = |meta: Value| json!({"name": "echo", "arguments": {"message": "hi"}, "_meta": meta});
    let legacy = async || {
        let client = pool.client("slow").connect().await;
        let answer = client.ask("tools/call", call(json!({}))).await;
        assert!(!words_of(before_the_result(&answer.messages), LOG).is_empty());
        // Nothing is told of one that does not wait.
        let answer = client
            .ask("tools/call", call(json!({"progressToken": 7})))
            .await;
        assert_eq!(before_the_result(&answer.messages), [] as [Value; 0]);
    };
    let with_token = async || {
        let client = pool.client("slow").connect().await;
        let answer = client
            .ask("tools/call", call(json!({"progressToken": 7})))
            .await;
        let told = before_the_result(&answer.messages);
        assert!(!words_of(told, PROGRESS).is_empty(), "{answer:?}");
        for one in told {
            assert_eq!(one["params"]["progressToken"], 7, "{told:?}");
            // Those of the server, which begin at 0, have to be more.
            assert!(
                one["params"]["progress"].as_f64().expect("a number") < 0.0,
                "{told:?}"
            );
        }
    };
    let with_level = async || {
        let client = pool.client("slow").connect().await;
        client
            .ask("logging/setLevel", json!({"level": "warning"}))
            .await
            .result();
        let answer = client.ask("tools/call", call(json!({}))).await;
        assert_eq!(before_the_result(&answer.messages), [] as [Value; 0]);
    };
    let through_all = async || {
        let client = pool.client("slow").connect().await;
        let url = client.url.replace("/slow/mcp", "/mcp");
        let client = Client::new(url).connect().await;
        let asked = json!({"name": "slow__echo", "arguments": {"message": "hi"}, "_meta": {"progressToken": "all"}});
        let answer = client.ask("tools/call", asked).await;
        assert!(
            !words_of(before_the_result(&answer.messages), PROGRESS).is_empty(),
            "{answer:?}"
        );
    };
    // Callers without sessions share a process here: the first of them waits for it.
    let stateless = async || {
        let client = pool.client("slow");
        let told = stateless_call(&client, json!({"progressToken": 9})).await;
        assert!(
            !words_of(before_the_result(&told), PROGRESS).is_empty(),
            "{told:?}"
        );
    };
    tokio::join!(
        legacy(),
        with_token(),
        with_level(),
        through_all(),
        stateless()
    );

    // No client minds.
    let clients: Vec<_> = CLIENTS.into_iter().chain(OVER_SSE).collect();
    let told = clients.iter().map(async |client| {
        let endpoint = if OVER_SSE.contains(client) {
            "sse"
        } else {
            "mcp"
        };
        let told = told(client, &format!("{}/slow/{endpoint}", pool.url), "echo").await;
        assert!(told.lives, "{client}: {}", told.text);
    });
    stream::iter(told).buffered(4).collect::<Vec<_>>().await;
}

/// A call of the stateless revision, and all that came for it.
async fn stateless_call(client: &Client, meta: Value) -> Vec<Value> {
    let mut params = stateless::params(
        json!({"name": "echo", "arguments": {"message": "hi"}}),
        &json!({}),
    );
    for (name, value) in meta.as_object().expect("members") {
        params["_meta"][name] = value.clone();
    }
    let (_, mut all, last) = stateless::ask(client, "tools/call", params).await;
    all.push(last);
    all
}

/// The stateless revision has messages of the log for who asks for them.
#[tokio::test]
async fn who_asks_for_no_log_is_told_nothing_of_a_start_in_the_stateless_revision() {
    let servers = slow("slow", 4) + &slow("slower", 4) + "[pool]\nmax_starting = 4\n";
    let pool = Stdiopool::serve(&servers);
    let quiet = stateless_call(&pool.client("slower"), json!({})).await;
    assert_eq!(before_the_result(&quiet), [] as [Value; 0]);
    let level = json!({"io.modelcontextprotocol/logLevel": "info"});
    let told = stateless_call(&pool.client("slow"), level).await;
    assert!(!words_of(before_the_result(&told), "notifications/message").is_empty());
}
