//! Two tenants, one server definition: each sees its own config and nothing of the other.

use http::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::support::{Client, Stdiopool, demo, environment_of, in_tree_of};

fn hash(token: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

fn two_tenants() -> String {
    let demo = demo(
        "demo",
        "env = { GREETING = \"${config.greeting}\", KEY = \"${secret.key}\" }",
    )
    .replace(
        "[\"demo-server\"]",
        "[\"demo-server\", \"--greeting\", \"${config.greeting}\"]",
    );
    format!(
        "{demo}
[servers.demo.config]
type = \"object\"
required = [\"greeting\"]
properties.greeting = {{ type = \"string\" }}

[tenants.acme]
tokens = [\"{}\"]
config.demo = {{ greeting = \"hello from acme\" }}
secrets.key = {{ file = \"acme.key\" }}

[tenants.globex]
tokens = [\"{}\"]
config.demo = {{ greeting = \"good day from globex\" }}
secrets.key = {{ file = \"globex.key\" }}
",
        hash("token-of-acme"),
        hash("token-of-globex")
    )
}

fn serve() -> Stdiopool {
    let dir = crate::support::open_folder().expect("a folder");
    for tenant in ["acme", "globex"] {
        std::fs::write(
            dir.path().join(format!("{tenant}.key")),
            format!("key-{tenant}-12345\n"),
        )
        .expect("written");
    }
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"token\"\n", &two_tenants());
    let config = dir.path().join("pool.toml").display().to_string();
    // What the supervisor itself knows must not reach its workers.
    Stdiopool::run(
        dir,
        &["--config".to_owned(), config],
        &[("OPERATOR_SECRET", "do-not-leak")],
    )
}

async fn whoami(client: &Client) -> Value {
    serde_json::from_str(client.call("whoami", json!({})).await.text()).expect("JSON")
}

#[tokio::test]
async fn each_tenant_has_its_own_process_with_its_own_config() {
    let pool = serve();
    let acme = pool
        .client("demo")
        .with_token("token-of-acme")
        .connect()
        .await;
    let globex = pool
        .client_of("globex", "demo")
        .with_token("token-of-globex")
        .connect()
        .await;
    let (of_acme, of_globex) = (whoami(&acme).await, whoami(&globex).await);
    assert_eq!(
        of_acme["arguments"],
        json!(["--greeting", "hello from acme"])
    );
    assert_eq!(
        of_globex["arguments"],
        json!(["--greeting", "good day from globex"])
    );
    assert_eq!(of_acme["environment"]["KEY"], "key-acme-12345");
    assert_eq!(of_globex["environment"]["KEY"], "key-globex-12345");
    assert_ne!(of_acme["pid"], of_globex["pid"]);
    assert_ne!(
        of_acme["environment"]["TMPDIR"],
        of_globex["environment"]["TMPDIR"]
    );
    assert_ne!(
        of_acme["environment"]["HOME"],
        of_globex["environment"]["HOME"]
    );

    // The process table says the same as the servers.
    let workers = pool.workers().await;
    assert_eq!(workers.len(), 2);
    for worker in &workers {
        let pid = u32::try_from(worker["pid"].as_u64().expect("a pid")).expect("fits");
        let tenant = worker["tenant"].as_str().expect("a tenant");
        let other = if tenant == "acme" { "globex" } else { "acme" };
        let environment = environment_of(pid).join("\n");
        assert!(
            environment.contains(&format!("KEY=key-{tenant}-12345")),
            "{environment}"
        );
        assert!(!environment.contains(other), "{environment}");
        assert!(!environment.contains("do-not-leak"), "{environment}");
        let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).expect("alive");
        assert!(String::from_utf8_lossy(&cmdline).contains(&format!("from {tenant}")));
    }
    for name in of_acme["environment"]
        .as_object()
        .expect("an object")
        .keys()
    {
        let allowed = [
            "PATH",
            "HOME",
            "LANG",
            "TMPDIR",
            "GREETING",
            "KEY",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "NODE_EXTRA_CA_CERTS",
            "TZ",
            "npm_config_cache",
            "npm_config_userconfig",
            "UV_CACHE_DIR",
            "UV_TOOL_DIR",
            "UV_PYTHON_INSTALL_DIR",
            "UV_CONFIG_FILE",
        ];
        assert!(
            allowed.contains(&name.as_str()),
            "{name} reached the worker"
        );
    }
    assert!(!pool.log().contains("key-acme"), "a secret was logged");
    assert!(!in_tree_of(pool.pid()).is_empty());
}

#[tokio::test]
async fn nobody_reaches_anothers_session() {
    let pool = serve();
    let acme = pool
        .client("demo")
        .with_token("token-of-acme")
        .connect()
        .await;
    let mut thief = pool.client("demo").with_token("token-of-globex");
    thief.session.clone_from(&acme.session);
    let stolen = thief.ask("tools/list", json!({})).await;
    let mut nobody = pool.client("demo").with_token("token-of-globex");
    nobody.session = Some("0".repeat(32));
    let unknown = nobody.ask("tools/list", json!({})).await;
    assert_eq!(stolen.status, StatusCode::NOT_FOUND);
    assert_eq!(
        stolen.message(),
        unknown.message(),
        "someone else's is as unknown as none"
    );
    assert_eq!(thief.delete().await, StatusCode::NOT_FOUND);
    let get = thief
        .request(http::Method::GET)
        .send()
        .await
        .expect("answers");
    assert_eq!(get.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        acme.ask("tools/list", json!({})).await.status,
        StatusCode::OK,
        "and it is still there"
    );
}

#[tokio::test]
async fn only_the_right_token_opens_the_door() {
    let pool = serve();
    for token in [None, Some("wrong"), Some(""), Some("token-of-acme2")] {
        let mut client = pool.client("demo");
        client.token = token.map(str::to_owned);
        let refused = client.try_initialize("2025-11-25", json!({})).await;
        assert_eq!(
            (refused.status, refused.reason()),
            (StatusCode::UNAUTHORIZED, "unauthorized")
        );
        // Who sent a token is told that it is the token, who sent none is not (RFC 6750, 3.1).
        let challenge = refused.headers["www-authenticate"].to_str().expect("text");
        let is_sent = token.is_some_and(|token| !token.is_empty());
        assert_eq!(
            challenge.contains("error=\"invalid_token\""),
            is_sent,
            "{challenge}"
        );
    }
    let elsewhere = pool.client_of("globex", "demo").with_token("token-of-acme");
    let refused = elsewhere.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::NOT_FOUND, "not_found")
    );
    assert!(
        !refused.message().contains("globex"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn a_missing_value_is_the_callers_error_and_starts_nothing() {
    let toml = demo("demo", "")
        .replace("[\"demo-server\"]", "[\"demo-server\", \"${config.repo}\"]")
        + "[servers.demo.config]\ntype = \"object\"\nproperties.repo = { type = \"string\" }\n";
    let pool = Stdiopool::serve(&toml);
    let refused = pool
        .client("demo")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "config_invalid")
    );
    assert!(
        refused.message().contains("config.repo"),
        "{}",
        refused.message()
    );
    assert!(pool.workers().await.is_empty());
}
