//! Servers that tenants authorise upstream, against a provider on loopback.

use http::StatusCode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::browser::{Browser, Page};
use super::support::provider::{CLIENT_SECRET, Mood, Provider};
use super::support::{Client, Process, Stdiopool, alive, demo, eventually, in_tree_of};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn toml(provider: &Provider, more: &str) -> String {
    let demo = demo(
        "hub",
        "env = { TOKEN = \"${oauth.access_token}\", TOKEN_FILE = \"${oauth.access_token | file}\" }",
    );
    let url = &provider.url;
    format!(
        "key = {{ file = \"state.key\" }}\n[audit]\nfile = \"audit.jsonl\"\n{demo}\n[servers.hub.oauth]\nauthorization_url = \"{url}/authorize\"\ntoken_url = \"{url}/token\"\nrevocation_url = \"{url}/revoke\"\nissuer = \"https://issuer.example\"\nclient_id = \"pool\"\nclient_secret = {{ file = \"client.secret\" }}\nscopes = [\"repo\", \"offline_access\"]\nparameters = {{ prompt = \"consent\" }}\n{more}\n"
    )
}

fn serve(provider: &Provider, more: &str) -> Stdiopool {
    let dir = crate::support::open_folder().expect("a folder");
    super::support::private_file(&dir.path().join("state.key"), KEY);
    std::fs::write(dir.path().join("client.secret"), CLIENT_SECRET).expect("written");
    let auth = "[auth]\nmode = \"none\"\n";
    Stdiopool::write_config(dir.path(), auth, &toml(provider, more));
    let config = dir.path().join("pool.toml").display().to_string();
    let env = [("STDIOPOOL_LOG", "debug")];
    Stdiopool::run(dir, &["--config".to_owned(), config], &env)
}

fn api(pool: &Stdiopool, tenant: &str) -> Client {
    Client::new(format!("{}/t/{tenant}/v1/oauth/hub", pool.url))
}

async fn link(pool: &Stdiopool, tenant: &str) -> String {
    let request = api(pool, tenant).request(http::Method::POST);
    let response = request.send().await.expect("answers");
    assert_eq!(response.status(), StatusCode::CREATED);
    let body: Value = response.json().await.expect("JSON");
    assert!(body["expires"].is_u64(), "{body}");
    body["authorize_url"].as_str().expect("a link").to_owned()
}

async fn status(pool: &Stdiopool, tenant: &str) -> Value {
    let request = api(pool, tenant).request(http::Method::GET);
    request
        .send()
        .await
        .expect("answers")
        .json()
        .await
        .expect("JSON")
}

async fn authorise(pool: &Stdiopool, tenant: &str) {
    let page = Browser::authorise(&link(pool, tenant).await).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    assert!(
        page.text.contains(tenant) && page.text.contains("hub"),
        "{}",
        page.text
    );
}

/// The token that the server was started with, and that in its file.
async fn token(client: &Client) -> String {
    let answer = client.call("whoami", json!({})).await;
    let who: Value = serde_json::from_str(answer.text()).expect("JSON");
    let environment = &who["environment"];
    let token = environment["TOKEN"].as_str().expect("a token").to_owned();
    if let Ok(in_file) =
        std::fs::read_to_string(environment["TOKEN_FILE"].as_str().expect("a path"))
    {
        assert_eq!(in_file, token);
    }
    token
}

fn workers_of(pool: &Stdiopool) -> Vec<Process> {
    let tree = in_tree_of(pool.pid()).into_iter();
    tree.filter(|it| super::support::command_line_of(*it).contains("demo-server"))
        .collect()
}

fn run(pool: &Stdiopool, args: &[&str]) -> (bool, String, String) {
    let output = pool.command(args).current_dir(pool.dir.path()).output();
    let output = output.expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Nothing that the provider gave or was given is anywhere but in memory.
fn check_nothing_is_told(pool: &Stdiopool, provider: &Provider) {
    let secrets = provider.books(|books| books.secrets.clone());
    assert!(secrets.len() > 4, "{secrets:?}");
    let mut places = vec![("log".to_owned(), pool.log().into_bytes())];
    let files = ["audit.jsonl", "state/state.db", "state/state.db-wal"];
    for file in files {
        let bytes = std::fs::read(pool.dir.path().join(file)).unwrap_or_default();
        places.push((file.to_owned(), bytes));
    }
    assert!(!places[1].1.is_empty() && !places[2].1.is_empty());
    for (place, bytes) in &places {
        for secret in &secrets {
            let is_there = memchr::memmem::find(bytes, secret.as_bytes()).is_some();
            assert!(!is_there, "`{secret}` is in {place}");
        }
    }
}

#[tokio::test]
async fn a_server_is_authorised_once_and_its_workers_follow_the_token() {
    let provider = Provider::start(8).await;
    let pool = serve(&provider, "");
    let refused = pool
        .client_of("acme", "hub")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(refused.status, StatusCode::OK);
    assert_eq!(refused.reason(), "config_invalid");
    assert!(refused.message().contains("`hub`"), "{}", refused.message());
    let place = &refused.response()["error"]["data"]["authorize"];
    assert_eq!(*place, json!(api(&pool, "acme").url));
    assert!(pool.workers().await.is_empty(), "nothing was started");
    assert_eq!(status(&pool, "acme").await, json!({"authorised": false}));

    authorise(&pool, "acme").await;
    assert_eq!(status(&pool, "acme").await["authorised"], true);
    let client = pool.client_of("acme", "hub").connect().await;
    let first = token(&client).await;
    assert!(first.starts_with("access-"), "{first}");
    let old = workers_of(&pool);
    assert_eq!(old.len(), 1);

    // Fetched ahead of the end, and the worker is replaced when it is needed: what it said of itself is
    // still known.
    provider.books(|books| books.expires_in = 3600);
    let series = "stdiopool_oauth_refreshes_total{outcome=\"refreshed\",server=\"hub\"}";
    eventually("another token", async || pool.metric(series).await == 1.0).await;
    let starts = "stdiopool_worker_starts_total{outcome=\"ok\",server=\"hub\"}";
    pool.client_of("acme", "hub").connect().await;
    assert_eq!(pool.metric(starts).await, 1.0);
    let second = token(&client).await;
    assert!(second.starts_with("access-") && second != first, "{second}");
    assert_eq!(pool.metric(starts).await, 2.0);
    eventually("the old worker is gone", async || !alive(old[0])).await;
    eventually("one worker", async || workers_of(&pool).len() == 1).await;
    assert_eq!(token(&client).await, second, "the session goes on");
    assert_eq!(
        provider.books(|books| (books.refreshes, books.misused)),
        (1, 0)
    );

    // Another tenant has nothing of it.
    let other = pool
        .client_of("globex", "hub")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(other.reason(), "config_invalid");
    check_nothing_is_told(&pool, &provider);
    let audit = std::fs::read_to_string(pool.dir.path().join("audit.jsonl")).expect("a log");
    assert!(audit.contains("oauth authorise"), "{audit}");
}

#[tokio::test]
async fn a_callback_that_fits_to_no_link_changes_nothing() {
    let provider = Provider::start(3600).await;
    let pool = serve(&provider, "");
    let is_refused = |page: Page| {
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{}", page.text);
        assert!(page.text.contains("Nothing has changed"), "{}", page.text);
    };
    let mut browser = Browser::new();
    let url = format!("{}/oauth/callback?code=x&state=made-up", pool.url);
    is_refused(browser.open(&url).await);
    let unknown = format!("{}/oauth/authorize/made-up", pool.url);
    assert_eq!(browser.open(&unknown).await.status, StatusCode::NOT_FOUND);

    // Somebody else's browser, and then the right one with a state that was used up.
    let callback = browser.until_callback(&link(&pool, "acme").await).await;
    is_refused(Browser::new().open(&callback).await);
    is_refused(browser.open(&callback).await);

    // Another issuer's answer (RFC 9207).
    let callback = browser.until_callback(&link(&pool, "acme").await).await;
    let mixed_up = callback.replace("issuer.example", "other.example");
    assert_ne!(mixed_up, callback);
    is_refused(browser.open(&mixed_up).await);

    // The user says no.
    let callback = browser.until_callback(&link(&pool, "acme").await).await;
    let (denied, _) = callback.split_once("code=").expect("a code");
    let state = callback.split('&').find(|pair| pair.starts_with("state="));
    let denied = format!("{denied}error=access_denied&{}", state.expect("a state"));
    let page = browser.open(&denied).await;
    assert!(page.text.contains("access_denied"), "{}", page.text);
    is_refused(page);

    // A code of one's own for the link of another.
    let of_acme = browser.until_callback(&link(&pool, "acme").await).await;
    let of_globex = Browser::new()
        .until_callback(&link(&pool, "globex").await)
        .await;
    let code = |url: &str| {
        let pair = url.split(['?', '&']).find(|pair| pair.starts_with("code="));
        pair.expect("a code").to_owned()
    };
    is_refused(
        browser
            .open(&of_acme.replace(&code(&of_acme), &code(&of_globex)))
            .await,
    );
    for tenant in ["acme", "globex"] {
        assert_eq!(status(&pool, tenant).await, json!({"authorised": false}));
    }

    // And what fits, once.
    let callback = browser.until_callback(&link(&pool, "acme").await).await;
    assert_eq!(browser.open(&callback).await.status, StatusCode::OK);
    is_refused(browser.open(&callback).await);
    assert_eq!(status(&pool, "acme").await["authorised"], true);
    assert_eq!(status(&pool, "globex").await["authorised"], false);
    check_nothing_is_told(&pool, &provider);
}

#[tokio::test]
async fn a_provider_that_is_away_is_borne_while_the_token_is_good() {
    let provider = Provider::start(8).await;
    let pool = serve(&provider, "");
    authorise(&pool, "acme").await;
    provider.books(|books| books.mood = Mood::Away);
    let client = pool.client_of("acme", "hub").connect().await;
    let first = token(&client).await;
    let failed = "stdiopool_oauth_refreshes_total{outcome=\"refresh_failed\",server=\"hub\"}";
    eventually("a refresh failed", async || {
        pool.metric(failed).await >= 1.0
    })
    .await;

    // In the end there is no token; the worker with the one that has expired is gone.
    eventually("it is told", async || {
        let answer = client.call("whoami", json!({})).await;
        if answer.response().get("result").is_some() {
            assert_eq!(
                serde_json::from_str::<Value>(answer.text()).expect("JSON")["environment"]["TOKEN"],
                json!(first)
            );
            return false;
        }
        assert_eq!(answer.reason(), "auth_unavailable", "{answer:?}");
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.headers.contains_key("retry-after"));
        true
    })
    .await;
    eventually("no worker", async || workers_of(&pool).is_empty()).await;
    assert_eq!(
        status(&pool, "acme").await["authorised"],
        true,
        "it is not over"
    );

    provider.books(|books| {
        books.mood = Mood::Well;
        books.expires_in = 3600;
    });
    eventually("another token", async || {
        let answer = client.call("whoami", json!({})).await;
        answer.response().get("result").is_some()
    })
    .await;
    assert_ne!(token(&client).await, first);
    check_nothing_is_told(&pool, &provider);
}

#[tokio::test]
async fn an_authorisation_that_the_provider_ends_is_over() {
    let provider = Provider::start(4).await;
    let pool = serve(&provider, "");
    authorise(&pool, "acme").await;
    let client = pool.client_of("acme", "hub").connect().await;
    token(&client).await;
    provider.books(|books| books.mood = Mood::Refusing);
    eventually("it is over", async || {
        let answer = client.call("whoami", json!({})).await;
        let is_over = answer.reason() == "config_invalid";
        assert!(
            is_over || answer.response().get("result").is_some(),
            "{answer:?}"
        );
        is_over
    })
    .await;
    eventually("no worker", async || workers_of(&pool).is_empty()).await;
    assert_eq!(status(&pool, "acme").await, json!({"authorised": false}));
    let ended = "stdiopool_oauth_refreshes_total{outcome=\"authorisation_ended\",server=\"hub\"}";
    assert_eq!(pool.metric(ended).await, 1.0);
    assert!(pool.log().contains("invalid_grant"), "{}", pool.log());

    // Given again, the session goes on.
    provider.books(|books| {
        books.mood = Mood::Well;
        books.expires_in = 3600;
    });
    authorise(&pool, "acme").await;
    assert!(token(&client).await.starts_with("access-"));
    check_nothing_is_told(&pool, &provider);
}

#[tokio::test]
async fn an_authorisation_survives_a_kill_with_the_token_that_was_rotated_last() {
    let provider = Provider::start(4).await;
    let pool = serve(&provider, "");
    authorise(&pool, "acme").await;
    let client = pool.client_of("acme", "hub").connect().await;
    let first = token(&client).await;
    provider.books(|books| books.expires_in = 3600);
    eventually("it was rotated", async || token(&client).await != first).await;

    let pool = pool.restarted_after(Signal::SIGKILL);
    assert_eq!(status(&pool, "acme").await["authorised"], true);
    let mut again = client;
    again.url = pool.client_of("acme", "hub").url;
    // All at once, and one refresh token for all of them.
    let others = (0..8).map(|_| pool.client_of("acme", "hub").connect());
    let others = futures_util::future::join_all(others).await;
    let third = token(&again).await;
    assert_eq!(token(&others[7]).await, third);
    assert!(third.starts_with("access-") && third != first, "{third}");
    assert_eq!(
        provider.books(|books| (books.refreshes, books.misused)),
        (2, 0)
    );
    check_nothing_is_told(&pool, &provider);
}

#[tokio::test]
async fn a_token_that_cannot_be_refreshed_is_kept_as_a_secret() {
    let provider = Provider::start(3600).await;
    provider.books(|books| books.is_plain = true);
    let pool = serve(&provider, "");
    authorise(&pool, "acme").await;
    let client = pool.client_of("acme", "hub").connect().await;
    let first = token(&client).await;
    let pool = pool.restarted_after(Signal::SIGTERM);
    let mut again = client;
    again.url = pool.client_of("acme", "hub").url;
    assert_eq!(token(&again).await, first);
    check_nothing_is_told(&pool, &provider);
}

// The provider answers while a command of the operator waits.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_links_lists_and_revokes() {
    let provider = Provider::start(3600).await;
    let pool = serve(&provider, "");
    let (ok, out, err) = run(&pool, &["oauth", "link", "acme", "hub"]);
    assert!(ok, "{err}");
    assert!(err.contains("for tenant acme"), "{err}");
    let page = Browser::authorise(out.trim()).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let client = pool.client_of("acme", "hub").connect().await;
    token(&client).await;

    let (_, out, _) = run(&pool, &["oauth", "list", "--json"]);
    let rows: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&rows[0]["tenant"], &rows[0]["server"]),
        (&json!("acme"), &json!("hub"))
    );
    assert_eq!(rows.as_array().map(Vec::len), Some(1));
    // It is no secret of the tenant's.
    let (_, out, _) = run(&pool, &["secret", "list", "--json"]);
    assert!(!out.contains("oauth"), "{out}");

    let good = provider.books(|books| books.good.clone());
    let (ok, out, err) = run(&pool, &["oauth", "revoke", "acme", "hub"]);
    assert!(ok && out.contains("is revoked"), "{out}{err}");
    assert_eq!(provider.books(|books| books.revoked.clone()), good);
    let answer = client.call("whoami", json!({})).await;
    assert_eq!(answer.reason(), "config_invalid");
    eventually("no worker", async || workers_of(&pool).is_empty()).await;
    let (ok, _, err) = run(&pool, &["oauth", "revoke", "acme", "hub"]);
    assert!(!ok && err.contains("has not authorised"), "{err}");
    for (args, told) in [
        (["oauth", "link", "acme", "nothing"], "no server `nothing`"),
        (["oauth", "link", "a b", "hub"], "no tenant `a b`"),
    ] {
        let (ok, _, err) = run(&pool, &args);
        assert!(!ok && err.contains(told), "{err}");
    }
    check_nothing_is_told(&pool, &provider);
}

#[tokio::test]
async fn a_tenant_revokes_what_it_has_authorised_if_it_may() {
    let provider = Provider::start(3600).await;
    let pool = serve(&provider, "");
    authorise(&pool, "acme").await;
    let delete = async || {
        let request = api(&pool, "acme").request(http::Method::DELETE);
        request.send().await.expect("answers").status()
    };
    assert_eq!(delete().await, StatusCode::NO_CONTENT);
    assert_eq!(delete().await, StatusCode::NOT_FOUND);
    assert_eq!(provider.books(|books| books.revoked.len()), 1);
    drop(pool);

    let pool = serve(&provider, "link_scope = \"admin\"");
    let request = api(&pool, "acme").request(http::Method::POST);
    let response = request.send().await.expect("answers");
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(status(&pool, "acme").await, json!({"authorised": false}));
}

#[tokio::test]
async fn without_a_key_no_link_is_made() {
    let provider = Provider::start(3600).await;
    let toml = toml(&provider, "");
    let toml = toml.trim_start_matches("key = { file = \"state.key\" }\n");
    let pool = Stdiopool::serve(toml);
    let request = api(&pool, "acme").request(http::Method::POST);
    let response = request.send().await.expect("answers");
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    eventually("the log says why", async || {
        pool.log().contains("state.key")
    })
    .await;
    let (ok, _, err) = run(&pool, &["oauth", "link", "acme", "hub"]);
    assert!(!ok && err.contains("state.key"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn authorisations_are_there_while_stdiopool_does_not_run() {
    let provider = Provider::start(3600).await;
    let mut pool = serve(&provider, "");
    authorise(&pool, "acme").await;
    assert!(pool.terminate().success());

    let offline = |args: &[&str]| {
        let mut command = pool.command(args);
        command
            .env_remove("STDIOPOOL_ADMIN")
            .current_dir(pool.dir.path());
        let output = command.output().expect("runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (
            output.status.success(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (ok, out, err) = offline(&["oauth", "list"]);
    assert!(
        ok && out.contains("acme") && out.contains("hub"),
        "{out}{err}"
    );
    let (ok, _, err) = offline(&["oauth", "link", "acme", "hub"]);
    assert!(!ok && err.contains("no stdiopool runs"), "{err}");

    // Sealed anew with another key like every secret.
    let new_key = KEY.replace("00", "ff");
    super::support::private_file(&pool.dir.path().join("new.key"), &new_key);
    let (ok, out, err) = offline(&["secret", "rekey", "--new-key", "new.key"]);
    assert!(ok && out.contains("1 secret "), "{out}{err}");
    super::support::private_file(&pool.dir.path().join("state.key"), &new_key);
    let mut pool = pool.started_again();
    let client = pool.client_of("acme", "hub").connect().await;
    assert!(token(&client).await.starts_with("access-"));

    assert!(pool.terminate().success());
    let good = provider.books(|books| books.good.clone());
    let mut command = pool.command(&["oauth", "revoke", "acme", "hub"]);
    command
        .env_remove("STDIOPOOL_ADMIN")
        .current_dir(pool.dir.path());
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(provider.books(|books| books.revoked.clone()), good);
    let audit = std::fs::read_to_string(pool.dir.path().join("audit.jsonl")).expect("a log");
    assert!(audit.contains("oauth revoke"), "{audit}");
}

#[tokio::test]
async fn what_a_tenant_has_authorised_goes_with_it() {
    let provider = Provider::start(3600).await;
    let dir = crate::support::open_folder().expect("a folder");
    super::support::private_file(&dir.path().join("state.key"), KEY);
    std::fs::write(dir.path().join("client.secret"), CLIENT_SECRET).expect("written");
    let auth = "[auth]\nmode = \"token\"\n";
    Stdiopool::write_config(dir.path(), auth, &toml(&provider, ""));
    let config = dir.path().join("pool.toml").display().to_string();
    let pool = Stdiopool::run(dir, &["--config".to_owned(), config], &[]);
    let done = |args: &[&str]| {
        let (ok, out, err) = run(&pool, args);
        assert!(ok, "{args:?}: {err}");
        out.trim().to_owned()
    };
    done(&["tenant", "add", "acme"]);
    let credentials = done(&["token", "create", "acme", "ci", "--subject", "anna"]);
    let front = Client::new(format!("{}/v1/oauth/hub", pool.url));
    let anonymous = front.request(http::Method::POST).send().await;
    assert_eq!(
        anonymous.expect("answers").status(),
        StatusCode::UNAUTHORIZED
    );
    let front = front.with_token(&credentials);
    let made = front
        .request(http::Method::POST)
        .send()
        .await
        .expect("answers");
    let body: Value = made.json().await.expect("JSON");
    let page = Browser::authorise(body["authorize_url"].as_str().expect("a link")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let list: Value = serde_json::from_str(&done(&["oauth", "list", "--json"])).expect("JSON");
    assert_eq!(list[0]["subject"], "anna");
    let tenants: Value = serde_json::from_str(&done(&["tenant", "list", "--json"])).expect("JSON");
    assert_eq!(tenants[0]["secrets"], 0);

    done(&["tenant", "remove", "acme"]);
    assert_eq!(done(&["oauth", "list", "--json"]), "[]");
    done(&["tenant", "add", "acme"]);
    let credentials = done(&["token", "create", "acme", "ci"]);
    let client = pool.client("hub").with_token(&credentials);
    let answer = client.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(answer.reason(), "config_invalid");
}
