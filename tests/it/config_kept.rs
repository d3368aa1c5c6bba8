//! Stored configs with secrets, where there is a key to seal them with.

use std::path::Path;
use std::process::Output;

use http::StatusCode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::config::{folder, servers};
use super::support::{BINARY, Stdiopool};

const AUTH: &str = "[auth]\nmode = \"token\"\n";

fn serve(wire: &Path) -> Stdiopool {
    let dir = crate::support::open_folder().expect("a folder");
    super::support::private_file(&dir.path().join("state.key"), "07".repeat(32));
    let toml = format!(
        "key = {{ file = \"state.key\" }}\n{}[tenants.filed]\n",
        servers(wire)
    );
    Stdiopool::write_config(dir.path(), AUTH, &toml);
    let config = dir.path().join("pool.toml").display().to_string();
    Stdiopool::run(dir, &["--config".to_owned(), config], &[])
}

/// Runs a command in the folder, by the address of that one if it runs.
fn run(dir: &Path, pool: Option<&Stdiopool>, args: &[&str]) -> Output {
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let mut command = match pool {
        Some(pool) => pool.command(args),
        None => {
            let mut command = std::process::Command::new(BINARY);
            command.args(args).env_remove("STDIOPOOL_ADMIN");
            command
        }
    };
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let output = command.current_dir(dir).output();
    output.expect("runs")
}

fn done(dir: &Path, pool: Option<&Stdiopool>, args: &[&str]) -> String {
    let output = run(dir, pool, args);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {err}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn token(pool: &Stdiopool, tenant: &str, name: &str) -> String {
    let made = done(
        pool.dir.path(),
        Some(pool),
        &["token", "create", tenant, name],
    );
    made.trim().to_owned()
}

async fn store(pool: &Stdiopool, token: &str, secret: &str) -> String {
    let github =
        json!({ "config": { "repo": "of/handle" }, "secrets": { "github_token": secret } });
    let body = json!({ "servers": { "github": github } });
    let sent = reqwest::Client::new()
        .post(format!("{}/v1/config", pool.url))
        .bearer_auth(token)
        .json(&body)
        .send();
    let stored: Value = sent.await.expect("answers").json().await.expect("JSON");
    assert_eq!(stored["survivesRestart"], true, "{stored}");
    stored["id"].as_str().expect("an id").to_owned()
}

async fn status(pool: &Stdiopool, token: &str, id: &str) -> StatusCode {
    let url = format!("{}/v1/config/{id}", pool.url);
    let sent = reqwest::Client::new().get(url).bearer_auth(token).send();
    sent.await.expect("answers").status()
}

/// The token that the server got which is started by the handle.
async fn used(pool: &Stdiopool, token: &str, id: &str) -> Value {
    let mut client = pool.client("github").with_token(token);
    client.config = Some(id.to_owned());
    let client = client.connect().await;
    let answer = client.call("whoami", json!({})).await;
    let told: Value = serde_json::from_str(answer.text()).expect("JSON");
    assert_eq!(told["repo"], "of/handle");
    told["token"].clone()
}

fn on_disk(dir: &Path, text: &str) -> bool {
    ["state.db", "state.db-wal", "saved.db"].iter().any(|file| {
        let bytes = std::fs::read(dir.join("state").join(file))
            .or_else(|_| std::fs::read(dir.join(file)))
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(text)
    })
}

#[tokio::test]
async fn they_survive_a_kill_a_backup_and_another_key_and_go_with_their_tenant() {
    let wire = folder();
    let pool = serve(wire.path());
    let dir = pool.dir.path().to_owned();
    done(&dir, Some(&pool), &["tenant", "add", "globex"]);
    let (globex, filed) = (token(&pool, "globex", "ci"), token(&pool, "filed", "ci"));
    let theirs = store(&pool, &globex, "hunter22-of-globex").await;
    let kept = store(&pool, &filed, "hunter22-of-filed").await;
    assert!(!on_disk(&dir, "hunter22") && !on_disk(&dir, "of/handle") && !on_disk(&dir, "cfg_"));

    let mut pool = pool.restarted_after(Signal::SIGKILL);
    assert_eq!(used(&pool, &filed, &kept).await, "hunter22-of-filed");
    assert_eq!(used(&pool, &globex, &theirs).await, "hunter22-of-globex");
    assert_eq!(status(&pool, &globex, &kept).await, StatusCode::NOT_FOUND);
    done(&dir, Some(&pool), &["backup", "saved.db"]);
    assert!(!on_disk(&dir, "hunter22"));

    // With their tenant they are gone, and do not come back with one of its name.
    done(&dir, Some(&pool), &["tenant", "remove", "globex"]);
    done(&dir, Some(&pool), &["tenant", "add", "globex"]);
    let again = token(&pool, "globex", "ci");
    assert_eq!(status(&pool, &again, &theirs).await, StatusCode::NOT_FOUND);
    pool = pool.restarted_after(Signal::SIGKILL);
    assert_eq!(status(&pool, &again, &theirs).await, StatusCode::NOT_FOUND);
    assert_eq!(status(&pool, &filed, &kept).await, StatusCode::OK);

    // A backup has them; another key seals them anew.
    assert!(pool.terminate().success());
    done(&dir, None, &["restore", "saved.db"]);
    super::support::private_file(&dir.join("new.key"), "ff".repeat(32));
    let said = done(&dir, None, &["secret", "rekey", "--new-key", "new.key"]);
    assert!(said.starts_with("0 secrets and 2 stored configs"), "{said}");
    let refused = run(&dir, None, &["serve"]);
    let err = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && err.contains("another key"),
        "{err}"
    );
    std::fs::rename(dir.join("new.key"), dir.join("state.key")).expect("renamed");
    pool = pool.started_again();
    assert_eq!(used(&pool, &globex, &theirs).await, "hunter22-of-globex");
    assert_eq!(used(&pool, &filed, &kept).await, "hunter22-of-filed");

    // One that the disk has changed is dropped, and said so without what it held.
    assert!(pool.terminate().success());
    let db = rusqlite::Connection::open(dir.join("state/state.db")).expect("opens");
    let swapped = "UPDATE handles SET sealed = (SELECT sealed FROM handles AS other WHERE other.tenant <> handles.tenant) WHERE tenant = 'filed'";
    assert_eq!(db.execute(swapped, []).expect("changed"), 1);
    drop(db);
    pool = pool.started_again();
    assert_eq!(status(&pool, &filed, &kept).await, StatusCode::NOT_FOUND);
    assert_eq!(status(&pool, &globex, &theirs).await, StatusCode::OK);
    let log = pool.log();
    assert!(log.contains("a stored config is dropped"), "{log}");
    assert!(!log.contains("hunter22") && !log.contains("cfg_"), "{log}");
}
