//! How the front door is reached: behind a prefix, with a slash at the end, from pages of other origins, and with a header
//! that names a revision of later.

use std::process::Command;

use http::{Method, StatusCode};
use serde_json::json;

use super::support::{BINARY, Client, Stdiopool, demo, eventually};

/// Serves a demo server with those keys of `[http]`, and those of `[auth]`.
fn serve(http: &str, auth: &str) -> Stdiopool {
    let dir = crate::support::open_folder().expect("a temporary folder");
    let config = dir.path().join("pool.toml");
    std::fs::write(&config, config_of(http, auth)).expect("written");
    let args = ["--config".to_owned(), config.display().to_string()];
    Stdiopool::run(dir, &args, &[])
}

fn config_of(http: &str, auth: &str) -> String {
    let demo = demo("demo", "");
    format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n{http}\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\n{auth}\n[state]\ndir = \"state\"\n{demo}"
    )
}

const NONE: &str = "mode = \"none\"";

#[tokio::test]
async fn a_slash_at_the_end_changes_nothing() {
    let pool = serve("", NONE);
    for path in ["demo/mcp/", "t/default/demo/mcp/", "mcp/"] {
        let client = Client::new(format!("{}/{path}", pool.url)).connect().await;
        let listed = client.ask("tools/list", json!({})).await;
        assert!(listed.result()["tools"].is_array(), "{path}");
        assert_eq!(client.delete().await, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn addresses_that_clients_are_told_have_the_path_of_the_public_url() {
    let pool = serve("public_url = \"https://mcp.example.com/pool/\"", NONE);
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    // The proxy has taken the prefix off, or has not; with a slash at the end as well.
    for path in ["demo/sse", "pool/demo/sse", "demo/sse/"] {
        let mut stream = http
            .get(format!("{}/{path}", pool.url))
            .send()
            .await
            .expect("answers");
        let told = stream.chunk().await.expect("reads").expect("some");
        let told = String::from_utf8_lossy(&told).into_owned();
        let endpoint = told.lines().find_map(|line| line.strip_prefix("data: "));
        let endpoint = endpoint.expect("an address").to_owned();
        assert!(
            endpoint.starts_with("/pool/demo/messages?session_id="),
            "{told}"
        );
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
        for endpoint in [endpoint.as_str(), endpoint.trim_start_matches("/pool")] {
            let posted = http
                .post(format!("{}{endpoint}", pool.url))
                .header("content-type", "application/json")
                .body(ping.clone());
            let posted = posted.send().await.expect("answers");
            assert_eq!(posted.status(), StatusCode::ACCEPTED, "{endpoint}");
        }
    }
}

#[tokio::test]
async fn whoever_opens_a_session_agrees_on_the_revision_in_the_message() {
    let pool = serve("", NONE);
    for header in ["2027-01-01", "2026-07-28", "1999-01-01", "draft"] {
        let mut client = pool.client("demo");
        client.version = Some(header.to_owned());
        let opened = client.try_initialize(header, json!({})).await;
        assert_eq!(opened.status, StatusCode::OK, "{header}: {opened:?}");
        assert_eq!(opened.result()["protocolVersion"], "2025-11-25", "{header}");
        client.session = opened.headers.get("mcp-session-id").map(|id| {
            let id = id.to_str().expect("text");
            id.to_owned()
        });
        // From then on it is known.
        client.version = Some("1999-01-01".to_owned());
        let refused = client.ask("tools/list", json!({})).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert_eq!(refused.reason(), "unsupported_version");
        // Of later revisions than there are sessions of, too, whatever is asked.
        for sent in ["1999-01-01", "2099-01-01", "2026-07-28"] {
            client.version = Some(sent.to_owned());
            let pinged = client.ask("ping", json!({})).await;
            let listens = client.request(http::Method::GET).send().await;
            let listens = listens.expect("answers");
            let mut told = vec![(pinged.status, pinged.response().clone())];
            told.push((listens.status(), listens.json().await.expect("JSON")));
            for (status, told) in told {
                assert_eq!(status, StatusCode::BAD_REQUEST, "{sent}");
                let error = &told["error"];
                assert_eq!(error["data"]["reason"], "unsupported_version", "{told}");
                let message = error["message"].as_str().unwrap_or_default();
                let expected = format!(
                    "this session speaks revision 2025-11-25, as was agreed on in `initialize`, but `MCP-Protocol-Version` says `{sent}` (send `MCP-Protocol-Version: 2025-11-25`"
                );
                assert!(message.starts_with(&expected), "{message}");
            }
        }
    }
}

fn checked(http: &str, auth: &str) -> (bool, String) {
    let dir = crate::support::open_folder().expect("a temporary folder");
    let config = dir.path().join("pool.toml");
    std::fs::write(&config, config_of(http, auth)).expect("written");
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let output = Command::new(BINARY)
        .arg("check")
        .arg("--config")
        .arg(&config)
        .env("NO_COLOR", "1")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    (output.status.success(), said)
}

const TOKEN: &str = "mode = \"token\"\n[tenants.acme]\ntokens = [\"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"]";

#[test]
fn what_would_never_match_does_not_pass_check() {
    for origin in [
        "http://localhost:*",
        "localhost:3000",
        "https://*.x",
        "https://x.example/path",
        "",
        "null",
    ] {
        let http = format!("allowed_origins = [\"{origin}\"]");
        let (passed, said) = checked(&http, NONE);
        assert!(!passed, "{origin} passes");
        let what = said.contains("allowed_origins") && said.contains("https://app.example.com");
        assert!(what && said.contains("pool.toml:3"), "{origin}: {said}");
    }
    let any = "allowed_origins = [\"*\"]";
    let (passed, said) = checked(any, NONE);
    assert!(!passed && said.contains("auth.mode"), "{said}");
    let (passed, said) = checked(any, TOKEN);
    assert!(passed, "{said}");
}

async fn status_for(pool: &Stdiopool, origin: &str) -> (StatusCode, Option<String>) {
    let client = pool.client("demo").with_token("test");
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    let request = client.request(Method::POST).header("origin", origin);
    let request = request
        .header("content-type", "application/json")
        .body(ping);
    let response = request.send().await.expect("answers");
    let allowed = response.headers().get("access-control-allow-origin");
    let allowed = allowed.map(|it| it.to_str().expect("text").to_owned());
    (response.status(), allowed)
}

/// What passes `check` matches, and a reload puts it in force.
#[tokio::test]
async fn pages_of_allowed_origins_are_served() {
    let pool = serve("allowed_origins = [\"*\"]", TOKEN);
    let page = "https://any.example";
    // Without a session: the guard has let it in.
    let (status, allowed) = status_for(&pool, page).await;
    assert_eq!(
        (status, allowed.as_deref()),
        (StatusCode::BAD_REQUEST, Some(page))
    );
    let listed = "allowed_origins = [\"https://App.example:443/\"]";
    let config = pool.dir.path().join("pool.toml");
    std::fs::write(config, config_of(listed, TOKEN)).expect("written");
    pool.signal(nix::sys::signal::Signal::SIGHUP);
    let reloaded = async || status_for(&pool, page).await == (StatusCode::FORBIDDEN, None);
    eventually("the other origins are refused", reloaded).await;
    let (status, allowed) = status_for(&pool, "https://app.example").await;
    let expected = (StatusCode::BAD_REQUEST, Some("https://app.example"));
    assert_eq!((status, allowed.as_deref()), expected);
    let preflight = pool
        .client("demo")
        .request(Method::OPTIONS)
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "last-event-id,mcp-param-region",
        );
    let told = preflight.send().await.expect("answers");
    assert_eq!(told.status(), StatusCode::NO_CONTENT);
    let names = &told.headers()["access-control-allow-headers"];
    let names = names.to_str().expect("text");
    assert!(names.contains("last-event-id") && names.contains("mcp-param-region"));
}
