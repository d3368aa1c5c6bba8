//! Paths: whatever stands in one, it leads to a server of the caller's own tenant or to nothing, and never
//! to a file.

use std::collections::BTreeSet;
use std::path::Path;

use crate::beside::Beside;
use crate::support::{Stdiopool, demo};
use crate::wire::{INITIALIZE, exchange, status, tenants};

/// Written into files beside and below the configuration.
const MARK: &str = "mark-of-a-file-that-nobody-is-shown";

/// Paths that mean another tenant, a server that is not granted, or a file, in some reading of them.
const ELSEWHERE: &[&str] = &[
    // Another tenant.
    "/t/globex/good/mcp",
    "/t/%67lobex/good/mcp",
    "/t/acme/../globex/good/mcp",
    "/t/acme/%2e%2e/globex/good/mcp",
    "/t/acme%2f..%2fglobex/good/mcp",
    "/t/acme/..%2fglobex/good/mcp",
    "/t/acme/%2e%2e%2fglobex%2fgood/mcp",
    "/t/acme;globex/good/mcp",
    "/t/globex;acme/good/mcp",
    "/t/globex%00/good/mcp",
    "/t/acme%00globex/good/mcp",
    "/t/globex%20/good/mcp",
    "/t/GLOBEX/good/mcp",
    "/t/%EF%BD%87lobex/good/mcp",
    "/t/globex./good/mcp",
    "/t//globex/good/mcp",
    "//t/globex/good/mcp",
    "/./t/globex/good/mcp",
    "/t/./globex/good/mcp",
    "/good/mcp/../../t/globex/good/mcp",
    "/t\\globex\\good\\mcp",
    "/t/globex/mcp",
    "/t/globex/good/sse",
    "/t/globex/good/messages?session_id=1",
    "/t/globex/v1/config",
    "/t/globex/v1/config/cfg_00000000000000000000000000000000",
    "/t/acme/v1/config/..%2f..%2f..%2fglobex%2fv1%2fconfig",
    // A server that is not there for this tenant.
    "/private/mcp",
    "/%70rivate/mcp",
    "/private%00/mcp",
    "/t/acme/private/mcp",
    "/good/../private/mcp",
    "/good%2f..%2fprivate/mcp",
    "/good/%2e%2e/private/mcp",
    "/good%252f..%252fprivate/mcp",
    "/good/mcp/../../private/mcp",
    "/good/mcp/mcp",
    "/*/mcp",
    "/%2a/mcp",
    "/Good/mcp",
    "/good%20/mcp",
    "/good%0d%0aHost:%20evil/mcp",
    "/./mcp",
    "/../mcp",
    "/%2e%2e/mcp",
    // A file.
    "/pool.toml",
    "/%2e/pool.toml",
    "/state/state.db",
    "/good/mcp/../../pool.toml",
    "/good/..%2f..%2fpool.toml/mcp",
    "/healthz/../pool.toml",
    "/healthz/%2e%2e/pool.toml",
    "/../../../../../../etc/passwd",
    "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/..%c0%af..%c0%afetc/passwd",
    "/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd",
    "/..%5c..%5cetc%5cpasswd",
    "/etc/passwd/mcp",
    "/%2fetc%2fpasswd/mcp",
    "/file:%2f%2f%2fetc%2fpasswd/mcp",
    "/.well-known/oauth-protected-resource/../../../../etc/passwd",
    "/.well-known/oauth-protected-resource/%2e%2e%2fpool.toml",
    "/oauth/authorize/..%2f..%2fpool.toml",
    "/v1/oauth/..%2f..%2fpool.toml",
    "/v1/config/..%2f..%2fpool.toml",
    // No name at all.
    "/%/mcp",
    "/%zz/mcp",
    "/%ff/mcp",
    "/%00/mcp",
    "/t/%ff/good/mcp",
    "/t/%00/good/mcp",
    "/t/%2e%2e/good/mcp",
    "/t/.hidden/good/mcp",
    "/t/-/good/mcp",
    // As a proxy would be asked.
    "http://127.0.0.1/private/mcp",
    "http://127.0.0.1/t/globex/good/mcp",
    "*",
];

fn serve() -> Stdiopool {
    let rules = "[policy.own]\ntenants = [\"acme\"]\nservers = [\"good\"]\n[policy.all]\ntenants = [\"globex\"]\n";
    let names = tenants(&["acme", "globex"]);
    let toml = demo("good", "") + &demo("private", "") + rules + &names;
    let dir = crate::support::open_folder().expect("a folder");
    let marked = format!("# {MARK}\n{toml}");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"token\"\n", &marked);
    std::fs::create_dir(dir.path().join("state")).expect("made");
    std::fs::write(dir.path().join("state/note"), MARK).expect("written");
    let config = dir.path().join("pool.toml").display().to_string();
    Stdiopool::run(dir, &["--config".to_owned(), config], &[])
}

fn request(method: &str, path: &str) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer acme\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{INITIALIZE}",
        INITIALIZE.len()
    );
    head.into_bytes()
}

/// What is in a folder, and in those below it.
fn names_in(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        names.insert(entry.expect("an entry").path().display().to_string());
    }
    names
}

async fn assert_nothing_there(pool: &Stdiopool, method: &str, path: &str) {
    let shown: String = path.chars().take(100).collect();
    let answer = exchange(pool, &request(method, path)).await;
    let status = status(&answer).unwrap_or_else(|| panic!("{method} {shown}: {answer:?}"));
    assert!(
        (400..500).contains(&status),
        "{method} {shown}: {status}: {answer}"
    );
    for text in [
        MARK,
        "root:",
        "SQLite format",
        "serverInfo",
        "mcp-session-id",
    ] {
        assert!(!answer.contains(text), "{method} {shown}: {answer}");
    }
}

#[tokio::test]
async fn no_path_leads_to_another_tenant_or_to_a_file() {
    let pool = serve();
    let client = pool.client("good").with_token("globex").connect().await;
    let beside = Beside::of(client);
    beside.goes_on(1).await;
    let before = names_in(pool.dir.path());
    for path in ELSEWHERE {
        for method in ["POST", "GET", "DELETE"] {
            assert_nothing_there(&pool, method, path).await;
        }
    }
    // Long ones: a name, a thousand names, and more than a head may be.
    for path in [
        format!("/t/{}/good/mcp", "a".repeat(30_000)),
        format!("/{}/mcp", "b".repeat(30_000)),
        format!("{}/mcp", "/..".repeat(10_000)),
        format!("/{}good/mcp", "x/../".repeat(5_000)),
        format!("/{}/mcp", "%2e%2e%2f".repeat(3_000)),
        format!("/{}", "a".repeat(2 << 20)),
    ] {
        let answer = exchange(&pool, &request("POST", &path)).await;
        // What is longer than any head may be refused without a word.
        let refused = status(&answer).is_none_or(|status| (400..500).contains(&status));
        assert!(refused && !answer.contains(MARK), "{answer}");
    }
    // Bytes that are no text, in a path and around it.
    for raw in [
        &b"POST /\xff\xfe/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"[..],
        b"POST /good\x00/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /good/mcp\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST good/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /good /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ] {
        let answer = exchange(&pool, raw).await;
        let refused = status(&answer).is_none_or(|status| (400..500).contains(&status));
        assert!(refused, "{raw:?}: {answer}");
    }
    // Escapes of names are read, so that none of all this was refused for its escapes alone.
    for path in ["/g%6fod/mcp", "/t/%61cme/good/mcp", "/good/mcp"] {
        let answer = exchange(&pool, &request("POST", path)).await;
        assert_eq!(status(&answer), Some(200), "{path}: {answer}");
    }
    beside.goes_on(3).await;
    for worker in pool.workers().await {
        assert_eq!(worker["server"], "good", "{worker}");
    }
    assert_eq!(names_in(pool.dir.path()), before);
}

/// Where the path alone says which tenant it is, it is a name or nothing: it becomes a folder's.
#[tokio::test]
async fn a_tenant_that_a_path_names_makes_no_folder_elsewhere() {
    let pool = Stdiopool::serve(&demo("good", "start = \"on-connect\""));
    Beside::open(&pool, "acme", "good").await.goes_on(1).await;
    let state = pool.dir.path().join("state");
    let before = (names_in(pool.dir.path()), names_in(&state));
    for tenant in [
        "..",
        "%2e%2e",
        "..%2f..%2foutside",
        ".",
        "%2e",
        "%2fetc",
        "a%2fb",
        "a%5cb",
        "a%00",
        "%00",
        ".hidden",
        "-rf",
        "_x",
        "a%20b",
        "a%0ab",
        "%c3%a4",
        "a~b",
        "$HOME",
        "%24%7BHOME%7D",
        "*",
    ] {
        let path = format!("/t/{tenant}/good/mcp");
        assert_nothing_there(&pool, "POST", &path).await;
    }
    let long = format!("/t/{}/good/mcp", "a".repeat(65));
    assert_nothing_there(&pool, "POST", &long).await;
    assert_eq!((names_in(pool.dir.path()), names_in(&state)), before);
    assert_eq!(pool.workers().await.len(), 1);
}
