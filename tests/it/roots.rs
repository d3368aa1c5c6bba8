//! A server that asks for roots when it has started gets those of the client it works for, before the client's first
//! call, however the worker came to be; and no other client's.

use std::time::Instant;

use serde_json::{Value, json};

use super::support::{Client, PATIENCE, Stdiopool, eventually};

fn server(share: &str, more: &str) -> String {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/roots_server.py"
    );
    format!(
        "[servers.roots]\ncommand = \"python3\"\nargs = [\"{script}\"]\nshare = \"{share}\"\n{more}\n"
    )
}

const UNREMEMBERED: &str = "[pool]\ncatalog_age = \"never\"\n";

/// A client that answers `roots/list` on whichever stream it comes.
struct Rooted {
    client: Client,
    roots: Vec<String>,
    asked: usize,
}

impl Rooted {
    async fn connect(client: Client, roots: &[&str]) -> Self {
        let capabilities = json!({"roots": {"listChanged": true}});
        Self {
            client: client.connect_as("2025-11-25", capabilities).await,
            roots: roots.iter().map(ToString::to_string).collect(),
            asked: 0,
        }
    }

    async fn request(&mut self, method: &str, params: Value) -> Value {
        let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        let response = self.client.send_raw(message.to_string()).await;
        let media = response.headers()["content-type"].clone();
        if media == "application/json" {
            return response.json().await.expect("JSON");
        }
        let mut events = self.client.stream_of(response);
        loop {
            let next = events.next().await.expect("an answer");
            if next["method"] == "roots/list" {
                self.asked += 1;
                let roots = self.roots.iter().map(|uri| json!({"uri": uri}));
                let roots = roots.collect::<Vec<_>>();
                let answer =
                    json!({"jsonrpc": "2.0", "id": next["id"], "result": {"roots": roots}});
                self.client.post(&answer).await;
            } else if next["id"] == 7 {
                return next;
            }
        }
    }

    async fn call(&mut self, tool: &str) -> Value {
        let params = json!({"name": tool, "arguments": {}});
        let answer = self.request("tools/call", params).await;
        let text = answer["result"]["content"][0]["text"].as_str();
        serde_json::from_str(text.unwrap_or_else(|| panic!("{answer}"))).expect("JSON")
    }

    async fn place(&mut self) -> Value {
        self.call("where").await["roots"].clone()
    }

    async fn move_to(&mut self, roots: &[&str]) {
        self.roots = roots.iter().map(ToString::to_string).collect();
        let changed = "notifications/roots/list_changed";
        self.client.tell(changed, json!({})).await;
    }
}

#[tokio::test]
async fn the_first_call_is_made_in_the_clients_roots_whatever_is_shared_and_remembered() {
    for share in ["tenant", "session", "request"] {
        for pool in ["", UNREMEMBERED] {
            let pool = Stdiopool::serve(&format!("{pool}{}", server(share, "")));
            for name in ["a", "b", "a"] {
                let root = format!("file:///{name}");
                let mut client = Rooted::connect(pool.client("roots"), &[&root]).await;
                assert_eq!(client.place().await, json!([root]), "{share}");
                assert_eq!(client.place().await, json!([root]), "{share}");
                assert_eq!(client.asked, 1, "{share}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_remembered_of_a_server_does_not_cost_the_first_call_its_roots() {
    let pool = Stdiopool::serve(&server("tenant", ""));
    let mut first = Rooted::connect(pool.client("roots"), &["file:///a"]).await;
    first.request("tools/list", json!({})).await;
    for worker in pool.workers().await {
        let id = worker["id"].as_str().expect("an id").to_owned();
        let stopped = pool.command(&["stop", &id]).status().expect("runs");
        assert!(stopped.success());
    }
    eventually("all are gone", async || pool.workers().await.is_empty()).await;
    let mut second = Rooted::connect(pool.client("roots"), &["file:///b"]).await;
    assert!(pool.workers().await.is_empty(), "the catalog answered");
    assert_eq!(second.place().await, json!(["file:///b"]));
}

#[tokio::test]
async fn sessions_share_a_worker_where_their_roots_are_the_same() {
    let pool = Stdiopool::serve(&server("tenant", ""));
    let mut pids = vec![];
    for root in ["file:///a", "file:///b", "file:///a", "file:///b"] {
        let mut client = Rooted::connect(pool.client("roots"), &[root]).await;
        let told = client.call("where").await;
        assert_eq!(told["roots"], json!([root]));
        pids.push(told["pid"].clone());
    }
    assert_eq!((&pids[0], &pids[1]), (&pids[2], &pids[3]));
    assert_ne!(pids[0], pids[1]);
    assert_eq!(pool.workers().await.len(), 2, "none was started in vain");

    // Of another tenant, and of a client that has none to tell.
    let mut other = Rooted::connect(pool.client_of("bob", "roots"), &["file:///a"]).await;
    let told = other.call("where").await;
    assert_eq!(told["roots"], json!(["file:///a"]));
    assert!(!pids.contains(&told["pid"]));
    let plain = pool.client("roots").connect().await;
    let told: Value = serde_json::from_str(plain.call("where", json!({})).await.text()).unwrap();
    assert!(!pids.contains(&told["pid"]), "{told}");
}

#[tokio::test]
async fn roots_that_change_hold_from_the_next_call_on_for_their_session_only() {
    for (share, more) in [("tenant", ""), ("session", ""), ("request", "")] {
        let pool = Stdiopool::serve(&server(share, more));
        let mut anna = Rooted::connect(pool.client("roots"), &["file:///a"]).await;
        let mut bob = Rooted::connect(pool.client("roots"), &["file:///a"]).await;
        assert_eq!(anna.place().await, bob.place().await);
        anna.move_to(&["file:///x", "file:///y"]).await;
        let moved = json!(["file:///x", "file:///y"]);
        assert_eq!(anna.place().await, moved, "{share}");
        assert_eq!(bob.place().await, json!(["file:///a"]), "{share}");
        assert_eq!((anna.asked, bob.asked), (2, 1), "{share}");
        if share == "session" {
            // Its process lives, and was told.
            let seen = anna.call("seen").await;
            assert_eq!(seen, json!({"asked": 2, "changed": 1}));
        }
    }
}

#[tokio::test]
async fn a_client_that_answers_with_an_error_has_no_roots_and_is_served() {
    let pool = Stdiopool::serve(&server("tenant", ""));
    let capabilities = json!({"roots": {}});
    let client = pool.client("roots");
    let client = client.connect_as("2025-11-25", capabilities).await;
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "where", "arguments": {}}});
    let mut events = client.stream(&call).await;
    let question = events.next().await.expect("a question");
    assert_eq!(question["method"], "roots/list");
    let refused =
        json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -32601, "message": "no"}});
    client.post(&refused).await;
    let answer = events.next().await.expect("an answer");
    let text = answer["result"]["content"][0]["text"].as_str();
    assert!(
        text.is_some_and(|text| text.contains(r#""roots": []"#)),
        "{answer}"
    );
}

#[tokio::test]
async fn through_all_servers_at_once_each_works_in_the_clients_roots() {
    let pool = Stdiopool::serve(&server("tenant", ""));
    for root in ["file:///a", "file:///b"] {
        let all = Client::new(format!("{}/mcp", pool.url));
        let mut client = Rooted::connect(all, &[root]).await;
        let listed = client.request("tools/list", json!({})).await;
        assert!(listed["result"]["tools"].as_array().is_some(), "{listed}");
        let told = client.call("roots__where").await;
        assert_eq!(told["roots"], json!([root]));
    }
}

#[tokio::test]
async fn the_official_file_server_works_in_its_clients_folder() {
    const SERVER: &str = "command = \"npx\"\nargs = [\"-y\", \"@modelcontextprotocol/server-filesystem@2026.8.31\"]\nstart_timeout = \"120s\"\n";
    for (share, pool) in [
        ("tenant", ""),
        ("tenant", UNREMEMBERED),
        ("session", UNREMEMBERED),
    ] {
        // Its package has to be installed first.
        let pool = match pool {
            "" => "[pool]\nqueue_timeout = \"3m\"\n".to_owned(),
            pool => format!("{pool}queue_timeout = \"3m\"\n"),
        };
        let toml = format!("{pool}[servers.files]\n{SERVER}share = \"{share}\"\n");
        let pool = Stdiopool::serve(&toml);
        for name in ["one", "two"] {
            let folder = pool.dir.path().join(name);
            std::fs::create_dir(&folder).expect("a folder");
            std::fs::write(folder.join("note.txt"), name).expect("a file");
            let root = format!("file://{}", folder.display());
            let mut client = Rooted::connect(pool.client("files"), &[&root]).await;
            let path = folder.join("note.txt").display().to_string();
            let params = json!({"name": "read_text_file", "arguments": {"path": path}});
            let began = Instant::now();
            loop {
                let answer = client.request("tools/call", params.clone()).await;
                let text = answer["result"]["content"][0]["text"].as_str();
                if text == Some(name) {
                    break;
                }
                // It looks its roots up in the file system before it takes them, and serves calls meanwhile.
                let is_early = text.is_some_and(|text| text.ends_with(" not in "));
                let in_time = began.elapsed() < PATIENCE;
                assert!(is_early && in_time, "{share}: {answer}");
            }
        }
    }
}
