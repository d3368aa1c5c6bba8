//! stdiopool killed while tenants, tokens, secrets and stored configs change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::{BINARY, Stdiopool, demo};

/// Kills; each at another moment of a stream of changes.
const ROUNDS: u64 = 12;

/// What was promised: answered with success.
#[derive(Default)]
struct Promised {
    tenants: BTreeSet<String>,
    /// By tenant.
    tokens: BTreeMap<String, String>,
    secrets: BTreeSet<String>,
    /// Handles of stored configs, by tenant.
    configs: BTreeMap<String, String>,
    removed: BTreeSet<String>,
    /// Asked for, and perhaps done.
    removing: BTreeSet<String>,
}

/// The admin API of a stdiopool.
#[derive(Clone, Copy)]
struct AdminApi<'a> {
    client: &'a reqwest::Client,
    url: &'a str,
}

/// Asks the admin API; `None` once it is dead.
async fn ask(admin: AdminApi<'_>, method: Method, path: &str, body: &Value) -> Option<Value> {
    let url = format!("{}/api/v1/tenants/{path}", admin.url);
    let answer = admin
        .client
        .request(method, url)
        .json(body)
        .send()
        .await
        .ok()?;
    let status = answer.status();
    let body = answer.text().await.ok()?;
    assert!(status.is_success(), "{path}: {status} {body}");
    Some(serde_json::from_str(&body).expect("JSON"))
}

/// Stores a config with a secret in it, as a caller with that token; `None` once it is dead.
async fn store(client: &reqwest::Client, front: &str, token: &str, name: &str) -> Option<String> {
    let secrets = json!({"key": format!("secret of a caller of {name}")});
    let body = json!({"server": "demo", "secrets": secrets});
    let request = client.post(format!("{front}/v1/config")).bearer_auth(token);
    let answer = request.json(&body).send().await.ok()?;
    let status = answer.status();
    let told: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
    assert!(
        status.is_success() && told["survivesRestart"] == true,
        "{told}"
    );
    Some(told["id"].as_str().expect("an id").to_owned())
}

/// Adds tenants with a token, a secret and a stored config each, and removes every third, until it is dead.
async fn change(admin: String, front: String, round: u64) -> Promised {
    let mut promised = Promised::default();
    // Without reading roots, which takes longer than a change does.
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    let client = client.build().expect("a client");
    let admin = AdminApi {
        client: &client,
        url: &admin,
    };
    for n in 0.. {
        let name = format!("t{round}-{n}");
        if ask(admin, Method::POST, &name, &json!({"weight": 2}))
            .await
            .is_none()
        {
            break;
        }
        promised.tenants.insert(name.clone());
        let path = format!("{name}/tokens");
        let Some(made) = ask(admin, Method::POST, &path, &json!({"name": "ci"})).await else {
            break;
        };
        let token = made["token"].as_str().expect("a token").to_owned();
        promised.tokens.insert(name.clone(), token.clone());
        let path = format!("{name}/secrets/key");
        let value = json!({"value": format!("secret of {name}")});
        if ask(admin, Method::PUT, &path, &value).await.is_none() {
            break;
        }
        promised.secrets.insert(name.clone());
        let Some(handle) = store(&client, &front, &token, &name).await else {
            break;
        };
        promised.configs.insert(name.clone(), handle);
        if n % 3 == 2 {
            promised.removing.insert(name.clone());
            if ask(admin, Method::DELETE, &name, &json!(null))
                .await
                .is_none()
            {
                break;
            }
            promised.removed.insert(name);
        }
    }
    promised
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_loses_nothing_that_was_promised_and_halves_nothing() {
    let dir = crate::support::open_folder().expect("a folder");
    super::support::private_file(&dir.path().join("state.key"), "3c".repeat(32));
    let toml = format!(
        "key = {{ file = \"state.key\" }}\n{}",
        demo("demo", "client_secrets = [\"key\"]")
    );
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"token\"\n", &toml);
    let config = dir.path().join("pool.toml").display().to_string();
    let mut pool = Stdiopool::run(dir, &["--config".to_owned(), config], &[]);
    let (mut kept, mut configs) = (0, 0);
    for round in 0..ROUNDS {
        let changing = tokio::spawn(change(pool.admin.clone(), pool.url.clone(), round));
        // Spread over the time that a few changes take, so that each kill falls elsewhere.
        tokio::time::sleep(Duration::from_micros(40_000 + round * 9_370)).await;
        pool = tokio::task::spawn_blocking(|| pool.restarted_after(Signal::SIGKILL))
            .await
            .expect("restarts");
        let promised = changing.await.expect("ends when it is dead");
        let rows = async |what: &str| {
            let rows = pool.admin_json(what).await;
            let rows = rows.as_array().expect("rows").clone();
            let key = if what == "accounts" { "name" } else { "tenant" };
            let names = rows
                .iter()
                .map(|row| row[key].as_str().expect("a name").to_owned());
            names.collect::<BTreeSet<_>>()
        };
        let (tenants, tokens, secrets) = (
            rows("accounts").await,
            rows("tokens").await,
            rows("secrets").await,
        );
        for name in &promised.tenants {
            if promised.removed.contains(name) {
                let left = [&tenants, &tokens, &secrets].map(|rows| rows.contains(name));
                assert_eq!(left, [false; 3], "{name} was removed");
                continue;
            }
            if promised.removing.contains(name) {
                // Undone or done; never a token without its tenant.
                let left = [&tenants, &tokens, &secrets].map(|rows| rows.contains(name));
                assert!(left == [true; 3] || left == [false; 3], "{name}: {left:?}");
                continue;
            }
            assert!(tenants.contains(name), "{name} is lost");
            if let Some(token) = promised.tokens.get(name) {
                let client = pool.client_of(name, "demo").with_token(token);
                let answer = client.try_initialize("2025-11-25", json!({})).await;
                assert_eq!(answer.status, StatusCode::OK, "the token of {name}");
                kept += 1;
                if let Some(handle) = promised.configs.get(name) {
                    let url = format!("{}/v1/config/{handle}", pool.url);
                    let told = reqwest::Client::new().get(url).bearer_auth(token).send();
                    let status = told.await.expect("answers").status();
                    assert_eq!(status, StatusCode::OK, "the stored config of {name}");
                    configs += 1;
                }
            }
            assert!(
                !promised.secrets.contains(name) || secrets.contains(name),
                "{name}'s secret"
            );
        }
        for name in tokens.union(&secrets) {
            assert!(tenants.contains(name), "something of {name} without it");
        }
    }
    assert!(
        kept >= 2 * ROUNDS,
        "only {kept} tokens were promised in all"
    );
    assert!(configs >= ROUNDS, "only {configs} stored configs");
    // Every secret opens: they can all be sealed anew.
    assert!(pool.terminate().success());
    let db = rusqlite::Connection::open(pool.dir.path().join("state/state.db")).expect("opens");
    let count = |sql| db.query_row(sql, [], |row| row.get::<_, u32>(0));
    let orphans = "SELECT count(*) FROM handles WHERE tenant NOT IN (SELECT name FROM tenants)";
    assert_eq!(count(orphans), Ok(0), "a stored config without its tenant");
    let sealed = count("SELECT count(*) FROM handles WHERE sealed IS NOT NULL").expect("counts");
    assert!(u64::from(sealed) >= configs, "{sealed} of {configs}");
    drop(db);
    super::support::private_file(&pool.dir.path().join("new.key"), "4d".repeat(32));
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let rekeyed = std::process::Command::new(BINARY)
        .args(["secret", "rekey", "--new-key", "new.key"])
        .current_dir(pool.dir.path())
        .env_remove("STDIOPOOL_ADMIN")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&rekeyed.stderr).into_owned();
    assert!(rekeyed.status.success(), "{said}");
    let told = String::from_utf8_lossy(&rekeyed.stdout).into_owned();
    assert!(
        told.contains(&format!("and {sealed} stored configs")),
        "{told}"
    );
}
