//! Tenants, tokens and secrets of the state store, managed while stdiopool runs and while not.

use std::io::Write;
use std::process::Stdio;

use http::StatusCode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::{BINARY, Client, Stdiopool, demo, environment_of, eventually};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const TOKEN_MODE: &str = "[auth]\nmode = \"token\"\n";

fn toml() -> String {
    let demo = demo(
        "demo",
        "env = { GREETING = \"${config.greeting:-none}\", KEY = \"${secret.key:-none}\" }",
    );
    format!("key = {{ file = \"state.key\" }}\n{demo}\n[tenants.filed]\n")
}

fn serve() -> Stdiopool {
    let dir = crate::support::open_folder().expect("a folder");
    super::support::private_file(&dir.path().join("state.key"), KEY);
    Stdiopool::write_config(dir.path(), TOKEN_MODE, &toml());
    let config = dir.path().join("pool.toml").display().to_string();
    Stdiopool::run(dir, &["--config".to_owned(), config], &[])
}

/// Runs a command on the folder of that stdiopool; `input` goes to its standard input.
fn run_in(
    dir: &std::path::Path,
    admin: Option<&str>,
    args: &[&str],
    input: &str,
) -> (bool, String, String) {
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let mut command = std::process::Command::new(BINARY);
    command
        .args(args)
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .env_remove("STDIOPOOL_ADMIN")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(admin) = admin {
        command.env("STDIOPOOL_ADMIN", admin);
    }
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let mut child = command.spawn().expect("runs");
    let mut stdin = child.stdin.take().expect("piped");
    // One that asks for no input may have closed it.
    let _written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn run(pool: &Stdiopool, args: &[&str], input: &str) -> (bool, String, String) {
    run_in(pool.dir.path(), Some(&pool.admin), args, input)
}

fn done(pool: &Stdiopool, args: &[&str], input: &str) -> String {
    let (ok, out, err) = run(pool, args, input);
    assert!(ok, "{args:?}: {err}");
    out
}

async fn environment(client: &Client, pool: &Stdiopool) -> Vec<String> {
    client.call("echo", json!({"message": "x"})).await.text();
    let mut all = vec![];
    for worker in pool.workers().await {
        if worker["state"] != "draining" && worker["state"] != "stopping" {
            let pid = worker["pid"].as_u64().expect("a pid");
            all.extend(environment_of(u32::try_from(pid).expect("fits")));
        }
    }
    all
}

#[tokio::test]
async fn a_tenant_a_token_and_a_secret_are_there_at_once_and_gone_at_once() {
    let mut pool = serve();
    let set = [
        "tenant",
        "add",
        "globex",
        "--set",
        "demo={\"greeting\":\"hi\"}",
    ];
    assert_eq!(done(&pool, &set, ""), "tenant globex added\n");
    let make = [
        "token",
        "create",
        "globex",
        "ci",
        "--subject",
        "bot",
        "--expires",
        "1h",
    ];
    let token = done(&pool, &make, "").trim().to_owned();
    assert!(token.starts_with("spt_") && token.len() > 40, "{token}");
    done(&pool, &["secret", "set", "globex", "key"], "hunter22\n");

    let client = pool
        .client_of("globex", "demo")
        .with_token(&token)
        .connect()
        .await;
    let env = environment(&client, &pool).await;
    assert!(env.contains(&"KEY=hunter22".to_owned()), "{env:?}");
    assert!(env.contains(&"GREETING=hi".to_owned()), "{env:?}");

    // A new value: the worker with the old one is replaced; the session goes on.
    done(&pool, &["secret", "set", "globex", "key"], "correct horse");
    let env = environment(&client, &pool).await;
    assert!(env.contains(&"KEY=correct horse".to_owned()), "{env:?}");
    done(
        &pool,
        &[
            "tenant",
            "set",
            "globex",
            "--set",
            "demo={\"greeting\":\"ho\"}",
        ],
        "",
    );
    let env = environment(&client, &pool).await;
    assert!(env.contains(&"GREETING=ho".to_owned()), "{env:?}");

    let tokens: Value =
        serde_json::from_str(&done(&pool, &["token", "list", "--json"], "")).expect("JSON");
    assert_eq!(
        (&tokens[0]["name"], &tokens[0]["subject"]),
        (&json!("ci"), &json!("bot"))
    );
    assert!(
        tokens[0]["last_used"].is_u64() && tokens[0]["expires"].is_u64(),
        "{tokens}"
    );
    let list = done(&pool, &["tenant", "list"], "");
    assert!(list.contains("globex") && list.contains("filed"), "{list}");
    let secrets = done(&pool, &["secret", "list"], "");
    assert!(
        secrets.contains("key") && !secrets.contains("horse"),
        "{secrets}"
    );

    // Everything is there after a kill.
    pool = pool.restarted_after(Signal::SIGKILL);
    let again = pool
        .client_of("globex", "demo")
        .with_token(&token)
        .connect()
        .await;
    let env = environment(&again, &pool).await;
    assert!(env.contains(&"KEY=correct horse".to_owned()), "{env:?}");

    done(&pool, &["token", "create", "globex", "other"], "");
    done(&pool, &["token", "revoke", "globex", "ci"], "");
    let refused = again.ask("tools/list", json!({})).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    done(&pool, &["tenant", "remove", "globex"], "");
    eventually("its worker is gone", async || {
        pool.workers().await.is_empty()
    })
    .await;
    let tokens = done(&pool, &["token", "list", "--json"], "");
    assert_eq!(tokens.trim(), "[]");
    for word in ["hunter22", "correct horse", &token] {
        assert!(!pool.log().contains(word));
        for entry in std::fs::read_dir(pool.dir.path().join("state")).expect("the state folder") {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).unwrap_or_default();
            let found = memchr::memmem::find(&bytes, word.as_bytes());
            assert!(found.is_none(), "{word} in {path:?}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_told() {
    let pool = serve();
    for (args, word) in [
        (&["tenant", "add", "filed"][..], "is in pool.toml already"),
        (&["tenant", "add", "../x"], "cannot be the name"),
        (&["tenant", "remove", "filed"], "remove it there"),
        (
            &["tenant", "set", "nobody", "--weight", "2"],
            "no tenant `nobody`",
        ),
        (
            &["tenant", "add", "x", "--set", "nothing={}"],
            "there are demo",
        ),
        (&["token", "create", "nobody", "ci"], "no tenant `nobody`"),
        (&["token", "list", "nobody"], "no tenant `nobody`"),
        (&["secret", "list", "nobody"], "no tenant `nobody`"),
        (&["oauth", "list", "nobody"], "no tenant `nobody`"),
        (&["token", "revoke", "filed", "ci"], "no token `ci`"),
        (&["secret", "remove", "filed", "key"], "no secret `key`"),
        (&["secret", "set", "filed", "key"], "1 to 65536 bytes"),
    ] {
        let (ok, _, err) = run(&pool, args, "");
        assert!(!ok && err.contains(word), "{args:?}: {err}");
    }
    // No tokens are no mistake.
    let (ok, out, err) = run(&pool, &["token", "list", "filed"], "");
    assert!(ok && out.is_empty() && err.contains("no tokens"), "{err}");
    // A tenant of pool.toml may have tokens and secrets of the store.
    let token = done(&pool, &["token", "create", "filed", "ci"], "");
    done(&pool, &["secret", "set", "filed", "key"], "s3cr3t-value");
    let client = pool.client("demo").with_token(token.trim()).connect().await;
    let env = environment(&client, &pool).await;
    assert!(env.contains(&"KEY=s3cr3t-value".to_owned()), "{env:?}");
    // In both: told when the file is read.
    done(&pool, &["tenant", "add", "twice"], "");
    let file = pool.dir.path().join("pool.toml");
    let text = std::fs::read_to_string(&file).expect("read") + "[tenants.twice]\n";
    std::fs::write(&file, text).expect("written");
    for (ok, _, err) in [
        run(&pool, &["reload"], ""),
        run_in(pool.dir.path(), None, &["check"], ""),
    ] {
        assert!(
            !ok && err.contains("`twice` is in pool.toml and in the state store"),
            "{err}"
        );
    }
}

#[tokio::test]
async fn without_a_running_stdiopool_the_folder_is_changed() {
    let mut pool = serve();
    // While it runs it is found, if no flag tells where it is, whatever port the system gave it.
    let found = run_in(pool.dir.path(), None, &["tenant", "list"], "");
    assert!(found.0 && found.1.contains("filed"), "{found:?}");
    assert!(pool.terminate().success());
    let dir = pool.dir.path().to_owned();
    let offline = |args: &[&str], input: &str| {
        let (ok, out, err) = run_in(&dir, None, args, input);
        assert!(ok, "{args:?}: {err}");
        out
    };
    offline(&["tenant", "add", "globex"], "");
    offline(&["secret", "set", "globex", "key"], "hunter22\n");
    let token = offline(&["token", "create", "globex", "ci"], "");
    offline(&["backup", "saved.db"], "");
    offline(&["tenant", "remove", "globex"], "");
    assert!(!offline(&["tenant", "list"], "").contains("globex"));
    offline(&["restore", "saved.db"], "");

    // Another key, with everything sealed anew.
    super::support::private_file(&dir.join("new.key"), "ff".repeat(32));
    assert!(offline(&["secret", "rekey", "--new-key", "new.key"], "").starts_with("1 secret "));
    let (ok, _, err) = run_in(&dir, None, &["serve"], "");
    assert!(!ok && err.contains("another key"), "{err}");
    std::fs::rename(dir.join("new.key"), dir.join("state.key")).expect("renamed");
    pool = pool.started_again();
    let client = pool
        .client_of("globex", "demo")
        .with_token(token.trim())
        .connect()
        .await;
    let env = environment(&client, &pool).await;
    assert!(env.contains(&"KEY=hunter22".to_owned()), "{env:?}");
    let (ok, _, err) = run(&pool, &["restore", "saved.db"], "");
    assert!(!ok && err.contains("in use by another stdiopool"), "{err}");
    // A backup of a running one is whole.
    done(&pool, &["backup", "again.db"], "");
}

#[tokio::test]
async fn a_decision_is_explained_for_tenants_and_tokens_of_the_state_store() {
    let dir = crate::support::open_folder().expect("a folder");
    super::support::private_file(&dir.path().join("state.key"), KEY);
    let policy = "[policy.admins]\nscopes = [\"admin\"]\ntools = { allow = [\"add\"] }\n";
    let toml = format!("{}[policy]\ndefault = \"deny\"\n{policy}", toml());
    Stdiopool::write_config(dir.path(), TOKEN_MODE, &toml);
    let ask = ["explain", "--server", "demo", "--tool", "add", "--tenant"];
    let offline = |args: &[&str]| {
        let (ok, out, err) = run_in(dir.path(), None, &[&ask, args].concat(), "");
        assert_eq!(err, "");
        (ok, out)
    };
    let (ok, text) = offline(&["globex"]);
    assert!(
        !ok && text.contains("no tenant `globex` in this file, nor"),
        "{text}"
    );
    assert!(
        !dir.path().join("state").exists(),
        "looking makes no folder"
    );
    for args in [
        &["tenant", "add", "globex"][..],
        &[
            "token",
            "create",
            "globex",
            "ci",
            "--scope",
            "admin",
            "--subject",
            "bot",
        ],
        &[
            "token",
            "create",
            "filed",
            "short",
            "--expires",
            "1s",
            "--scope",
            "admin",
        ],
    ] {
        let (ok, _, err) = run_in(dir.path(), None, args, "");
        assert!(ok, "{args:?}: {err}");
    }
    assert!(!offline(&["globex"]).0, "without a scope");
    let (ok, by_token) = offline(&["globex", "--token", "ci"]);
    assert!(ok, "{by_token}");
    let lines: Vec<_> = by_token.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "allowed: tool `add` of server `demo` for user `bot` of tenant `globex` with `admin`",
            "  state store: token `ci` is valid until it is revoked, stands for user `bot`, has `admin`",
        ]
    );
    let (ok, text) = offline(&["filed", "--token", "none"]);
    assert!(
        !ok && text.contains("`filed` has no token `none`"),
        "{text}"
    );
    eventually("its second is over", async || {
        let (ok, text) = offline(&["filed", "--token", "short"]);
        !ok && text.contains("token `short` has expired at")
    })
    .await;

    // The same from the one that runs.
    let config = dir.path().join("pool.toml").display().to_string();
    let pool = Stdiopool::run(dir, &["--config".to_owned(), config], &[]);
    assert_eq!(
        done(
            &pool,
            &[&ask[..], &["globex", "--token", "ci"]].concat(),
            ""
        ),
        by_token
    );
    let (ok, text, _) = run(&pool, &[&ask[..], &["stranger"]].concat(), "");
    assert!(!ok && text.contains("no tenant `stranger`"), "{text}");
    let (ok, _, err) = run(
        &pool,
        &[&ask[..], &["globex", "--token", "ci", "--scope", "x"]].concat(),
        "",
    );
    assert!(!ok && err.contains("cannot be used with"), "{err}");
}

#[tokio::test]
async fn without_a_key_no_secret_is_kept() {
    let pool = Stdiopool::serve(&(demo("demo", "") + "[tenants.acme]\n"));
    let (ok, _, err) = run(&pool, &["secret", "set", "acme", "key"], "value");
    assert!(!ok && err.contains("set `state.key`"), "{err}");
}

#[tokio::test]
async fn a_secret_can_be_a_private_file_that_goes_with_its_worker() {
    let demo = demo("demo", "env = { KEY_FILE = \"${secret.key | file}\" }").replace(
        "[\"demo-server\"]",
        "[\"demo-server\", \"--greeting\", \"${secret.key | file}\"]",
    );
    let pool = Stdiopool::serve(&format!(
        "{demo}[tenants.default]\nsecrets.key = {{ command = [\"echo\", \"hunter22\"] }}\n"
    ));
    let client = pool.client("demo").connect().await;
    client.call("echo", json!({"message": "x"})).await.text();
    let worker = pool.workers().await.remove(0);
    let pid = u32::try_from(worker["pid"].as_u64().expect("a pid")).expect("fits");
    let env = environment_of(pid);
    let path = env
        .iter()
        .find_map(|entry| entry.strip_prefix("KEY_FILE="))
        .unwrap_or_else(|| panic!("{env:?}"))
        .to_owned();
    assert!(!env.join(" ").contains("hunter22"));
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).expect("it lives");
    assert!(memchr::memmem::find(&line, path.as_bytes()).is_some());
    assert!(memchr::memmem::find(&line, b"hunter22").is_none());
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "hunter22");
    let mode = |path: &std::path::Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    };
    let file = std::path::Path::new(&path);
    let folder = file.parent().expect("a folder");
    assert_eq!((mode(file), mode(folder)), (0o600, 0o700));
    done(&pool, &["stop", worker["id"].as_str().expect("an id")], "");
    eventually("it goes with its worker", async || !folder.exists()).await;

    // Another worker, killed with its stdiopool: the next start removes what is left.
    client.call("echo", json!({"message": "x"})).await.text();
    let root = folder.parent().expect("a root").to_owned();
    assert!(root.read_dir().expect("there").next().is_some());
    let pool = pool.restarted_after(Signal::SIGKILL);
    assert!(!root.exists());
    drop(pool);
}
