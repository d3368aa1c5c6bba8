//! The pool.toml that comes along, as `scripts/run` serves it: demo, npm and PyPI servers for two
//! tenants.

use std::path::Path;

use http::StatusCode;
use serde_json::{Value, json};

use super::support::{BINARY, Stdiopool};

#[tokio::test]
async fn two_tenants_use_every_server_of_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::copy(root.join("pool.toml"), dir.path().join("pool.toml")).expect("copied");
    let config = dir.path().join("pool.toml");
    let mut prefetch = assert_cmd::Command::new(BINARY);
    prefetch.arg("prefetch").arg("--config").arg(config);
    prefetch.assert().success();
    let args = ["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"].map(ToOwned::to_owned);
    let pool = Stdiopool::run(dir, &args, &[]);
    for (tenant, greeting, timezone) in [
        ("acme", "Good morning", "Europe/Berlin"),
        ("globex", "Howdy", "America/Chicago"),
    ] {
        let token = format!("demo-{tenant}-token");
        let connect = |server: &str| pool.client(server).with_token(&token).connect();

        let demo = connect("demo").await;
        let shown = demo.call("whoami", json!({})).await;
        let shown: Value = serde_json::from_str(shown.text()).expect("JSON");
        assert_eq!(shown["arguments"][1], greeting);
        assert_eq!(shown["environment"]["DEMO_TENANT"], tenant);
        assert_eq!(shown["environment"]["DEMO_KEY"], format!("{tenant}'s key"));

        let time = connect("time").await;
        let tools = time.ask("tools/list", json!({})).await;
        assert!(tools.result().to_string().contains(timezone), "{tools:?}");

        let everything = connect("everything").await;
        let echoed = everything.call("echo", json!({"message": tenant})).await;
        assert!(echoed.text().contains(tenant));

        // Each writes a file of the same name, and reads its own back.
        let files = connect("files").await;
        let folder = files.call("list_allowed_directories", json!({})).await;
        let folder = folder.text().lines().last().expect("a folder").to_owned();
        assert!(
            folder.ends_with(&format!("data/{tenant}/files")),
            "{folder}"
        );
        let path = format!("{folder}/note.txt");
        let written = json!({"path": path, "content": greeting});
        files.call("write_file", written).await.result();
        let read = files.call("read_text_file", json!({"path": path})).await;
        assert_eq!(read.text(), greeting);
        let others = path.replace(tenant, if tenant == "acme" { "globex" } else { "acme" });
        let denied = files.call("read_text_file", json!({"path": others})).await;
        assert_eq!(denied.result()["isError"], true, "{denied:?}");
    }
    let stranger = pool.client("demo").with_token("demo-initech-token");
    let refused = stranger.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(pool.workers().await.len(), 8);
}
