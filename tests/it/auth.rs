//! Credentials of every kind at the front door, TLS, and how much may be asked.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use http::header::WWW_AUTHENTICATE;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::support::{Answer, Stdiopool, demo, eventually};

/// An authorization server, as far as stdiopool sees one: a set of keys at an address.
struct Authority {
    url: String,
    keys: Arc<Mutex<Vec<(String, EncodingKey)>>>,
}

fn key() -> EncodingKey {
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("made");
    EncodingKey::from_ec_der(&pair.serialize_der())
}

impl Authority {
    async fn start() -> Self {
        let keys = Arc::new(Mutex::new(vec![("one".to_owned(), key())]));
        let served = Arc::clone(&keys);
        let set = move || {
            let keys = served.lock();
            let keys = keys
                .iter()
                .map(|(kid, key)| public(kid, key))
                .collect::<Vec<_>>();
            async move { axum::Json(json!({ "keys": keys })) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let app = Router::new().route("/jwks", get(set));
        // Ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, keys }
    }

    /// A token signed with the newest key; `more` in place of its claims.
    fn token(&self, more: &Value) -> String {
        let keys = self.keys.lock();
        let (kid, key) = keys.last().expect("a key");
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(kid.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut claims = json!({
            "iss": "https://id.example.com", "aud": "https://mcp.example.com", "sub": "anna",
            "exp": now.expect("after 1970").as_secs() + 300, "tenant": "acme", "scope": "mcp other",
        });
        for (name, value) in more.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        encode(&header, &claims, key).expect("signed")
    }
}

fn public(kid: &str, key: &EncodingKey) -> Value {
    let jwk = Jwk::from_encoding_key(key, Algorithm::ES256).expect("a key");
    let mut jwk = serde_json::to_value(jwk).expect("JSON");
    jwk["kid"] = json!(kid);
    jwk
}

#[tokio::test]
async fn a_client_without_credentials_finds_the_authorization_server_and_comes_back_with_a_token() {
    let authority = Authority::start().await;
    let auth = format!(
        "[auth]\nmode = \"jwt\"\nissuer = \"https://id.example.com\"\naudience = [\"https://mcp.example.com\"]\njwks_url = \"{}/jwks\"\nalgorithms = [\"ES256\"]\nrequired_scopes = [\"mcp\"]\n",
        authority.url
    );
    let toml =
        demo("demo", "env = { USER_SUB = \"${user.sub}\" }") + "[tenants.acme]\n[tenants.globex]\n";
    let pool = Stdiopool::serve_with(&auth, &toml);
    let bare = pool.client("demo");
    let refused = bare.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let challenge = refused.headers[WWW_AUTHENTICATE]
        .to_str()
        .expect("text")
        .to_owned();
    let (_, rest) = challenge
        .split_once("resource_metadata=\"")
        .expect("names the metadata");
    let metadata = rest.split('"').next().expect("quoted");
    assert_eq!(
        metadata,
        format!("{}/.well-known/oauth-protected-resource/demo/mcp", pool.url)
    );
    assert!(challenge.contains("scope=\"mcp\""), "{challenge}");
    for (url, resource) in [
        (metadata.to_owned(), format!("{}/demo/mcp", pool.url)),
        (
            format!("{}/.well-known/oauth-protected-resource", pool.url),
            pool.url.clone(),
        ),
    ] {
        let document: Value = reqwest::get(url)
            .await
            .expect("answers")
            .json()
            .await
            .expect("JSON");
        assert_eq!(document["resource"], resource);
        assert_eq!(
            document["authorization_servers"],
            json!(["https://id.example.com"])
        );
        assert_eq!(document["scopes_supported"], json!(["mcp"]));
    }

    // Where configs are stored, the same is said, and nothing of the handle.
    for path in [
        "/v1/config",
        "/v1/config/cfg_00000000000000000000000000000000",
    ] {
        let refused = reqwest::get(format!("{}{path}", pool.url)).await;
        let refused = refused.expect("answers");
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        let challenge = refused.headers()[WWW_AUTHENTICATE].to_str().expect("text");
        let metadata = format!(
            "{}/.well-known/oauth-protected-resource/v1/config",
            pool.url
        );
        assert!(
            challenge.contains(&format!("resource_metadata=\"{metadata}\"")),
            "{challenge}"
        );
        let document = reqwest::get(metadata).await.expect("answers");
        let document: Value = document.json().await.expect("JSON");
        assert_eq!(document["resource"], format!("{}/v1/config", pool.url));
    }

    let with = |more: Value| pool.client("demo").with_token(&authority.token(&more));
    let anna = with(json!({})).connect().await;
    let who: Value =
        serde_json::from_str(anna.call("whoami", json!({})).await.text()).expect("JSON");
    assert!(who.to_string().contains("anna"), "{who}");

    let lacking = with(json!({ "scope": "other" }))
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(
        (lacking.status, lacking.reason()),
        (StatusCode::FORBIDDEN, "insufficient_scope")
    );
    let challenge = lacking.headers[WWW_AUTHENTICATE].to_str().expect("text");
    for part in [
        "error=\"insufficient_scope\"",
        "scope=\"mcp\"",
        "resource_metadata=",
    ] {
        assert!(challenge.contains(part), "{challenge}");
    }
    for (what, more) in [
        ("expired", json!({ "exp": 1_700_000_000 })),
        (
            "of another issuer",
            json!({ "iss": "https://evil.example" }),
        ),
        (
            "for someone else",
            json!({ "aud": "https://other.example.com" }),
        ),
        ("of no tenant", json!({ "tenant": "nobody" })),
    ] {
        let refused = with(more).try_initialize("2025-11-25", json!({})).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{what}");
    }
    // Another tenant's path, another user's session: as if they were not there.
    let elsewhere = pool
        .client_of("globex", "demo")
        .with_token(&authority.token(&json!({})));
    let absent = elsewhere.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    let mut bob = with(json!({ "sub": "bob" }));
    bob.session = anna.session.clone();
    assert_eq!(
        bob.ask("tools/list", json!({})).await.status,
        StatusCode::NOT_FOUND
    );

    // The issuer's keys change; a token with the new one is good as soon as keys are looked at again.
    authority.keys.lock().push(("two".to_owned(), key()));
    let renewed = authority.token(&json!({}));
    let mut anna = anna.clone();
    anna.token = Some(renewed);
    eventually("the new key is known", async || {
        anna.ask("tools/list", json!({})).await.status == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn headers_count_from_a_trusted_proxy_only() {
    let serve = |trusted: &str| {
        // Of `secret`.
        let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let auth = format!(
            "[auth]\nmode = \"header\"\ntrusted_proxies = [\"{trusted}\"]\nproxy_secrets = [\"sha256:{hash}\"]\n"
        );
        Stdiopool::serve_with(&auth, &(demo("demo", "") + "[tenants.acme]\n"))
    };
    let ask_with = async |pool: &Stdiopool, tenant: Option<&str>, secret: Option<&str>| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        let mut request = pool.client("demo").request(http::Method::POST).json(&body);
        if let Some(tenant) = tenant {
            request = request.header("x-tenant", tenant).header("x-user", "anna");
        }
        if let Some(secret) = secret {
            request = request.header("x-proxy-secret", secret);
        }
        request.send().await.expect("answers").status()
    };
    let ask = async |pool: &Stdiopool, tenant| ask_with(pool, tenant, Some("secret")).await;
    let pool = serve("127.0.0.0/8");
    // A server on this host knows the headers, but not the secret.
    for secret in [None, Some("guessed")] {
        let status = ask_with(&pool, Some("acme"), secret).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{secret:?}");
    }
    assert_eq!(ask(&pool, Some("acme")).await, StatusCode::OK);
    for tenant in [None, Some("nobody")] {
        assert_eq!(
            ask(&pool, tenant).await,
            StatusCode::UNAUTHORIZED,
            "{tenant:?}"
        );
    }
    let sessions = pool.admin_json("sessions").await;
    assert_eq!(sessions[0]["tenant"], "acme");
    let far = serve("10.0.0.0/8");
    assert_eq!(ask(&far, Some("acme")).await, StatusCode::UNAUTHORIZED);
}

/// Makes an authority, and what it signs: a server's and a client's certificate.
fn certificates(dir: &Path) -> (String, String) {
    let mut params = CertificateParams::new(vec![]).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().expect("a key");
    let root = params.self_signed(&root_key).expect("signed");
    let issuer = Issuer::new(params, root_key);
    let issue = |names: Vec<String>, usage| {
        let mut params = CertificateParams::new(names).expect("params");
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &issuer).expect("signed");
        (cert.pem(), key.serialize_pem())
    };
    let (cert, key) = issue(
        vec!["127.0.0.1".to_owned()],
        ExtendedKeyUsagePurpose::ServerAuth,
    );
    std::fs::write(dir.join("cert.pem"), cert).expect("written");
    std::fs::write(dir.join("key.pem"), key).expect("written");
    std::fs::write(dir.join("ca.pem"), root.pem()).expect("written");
    let (cert, key) = issue(
        vec!["client".to_owned()],
        ExtendedKeyUsagePurpose::ClientAuth,
    );
    (root.pem(), cert + &key)
}

fn https(root: &str, identity: Option<&str>) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(root.as_bytes()).expect("PEM");
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
    let builder = match identity {
        Some(pem) => builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).expect("PEM")),
        None => builder,
    };
    builder.build().expect("a client")
}

#[tokio::test]
async fn over_tls_with_certificates_of_clients_and_new_ones_on_reload() {
    let dir = crate::support::open_folder().expect("a folder");
    let (root, identity) = certificates(dir.path());
    let tls = "[auth]\nmode = \"none\"\n[http.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\nclient_ca = \"ca.pem\"\n";
    Stdiopool::write_config(dir.path(), tls, &demo("demo", ""));
    let config = dir.path().join("pool.toml").display().to_string();
    let pool = Stdiopool::run(dir, &["--config".to_owned(), config], &[]);
    assert!(pool.url.starts_with("https://"), "{}", pool.url);
    let url = format!("{}/healthz", pool.url);
    let asked = async |client: reqwest::Client| client.get(&url).send().await;
    let good = asked(https(&root, Some(&identity))).await.expect("answers");
    assert_eq!(good.status(), StatusCode::OK);
    assert!(
        asked(https(&root, None)).await.is_err(),
        "without a certificate"
    );
    let (_, foreign) = certificates(crate::support::open_folder().expect("a folder").path());
    assert!(
        asked(https(&root, Some(&foreign))).await.is_err(),
        "of another authority"
    );
    let plain = url.replace("https", "http");
    assert!(reqwest::get(plain).await.is_err(), "not over TLS");

    let (new_root, new_identity) = certificates(pool.dir.path());
    pool.signal(Signal::SIGHUP);
    eventually("the new certificate is in force", async || {
        asked(https(&new_root, Some(&new_identity))).await.is_ok()
    })
    .await;
    assert!(
        asked(https(&root, Some(&identity))).await.is_err(),
        "the old one"
    );
    // A file with mistakes changes nothing.
    std::fs::write(pool.dir.path().join("key.pem"), "nothing").expect("written");
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let reload = pool.command(&["reload"]).output().expect("runs");
    let said = String::from_utf8_lossy(&reload.stderr).into_owned();
    assert!(
        !reload.status.success() && said.contains("http.tls.key"),
        "{said}"
    );
    assert!(asked(https(&new_root, Some(&new_identity))).await.is_ok());
}

/// The wait in milliseconds that a refusal by a rate tells.
fn told_wait(refused: &Answer) -> u64 {
    let wait = &refused.response()["error"]["data"]["retryAfterMs"];
    wait.as_u64().expect("a wait")
}

#[tokio::test]
async fn a_tenant_that_asks_too_much_is_told_when_to_come_again() {
    let limits = "[limits]\ntenant = { requests_per_minute = 600, burst = 6 }\n[tenants.busy.limits]\nconcurrent = 1\nrequests_per_minute = 0\n";
    let pool = Stdiopool::serve(&(limits.to_owned() + &demo("demo", "")));
    let client = pool.client_of("acme", "demo").connect().await;
    // All at once: it would take them more than five seconds to be within the rate.
    let asked = (0..60).map(|_| client.ask("tools/list", json!({})));
    let answers = futures_util::future::join_all(asked).await;
    let refused = answers
        .into_iter()
        .rfind(|answer| answer.response().get("error").is_some());
    let refused = refused.expect("six at once, and ten a second");
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::OK, "tenant_limit")
    );
    assert_eq!(refused.headers["retry-after"], "1");
    assert!((1..=100).contains(&told_wait(&refused)), "{refused:?}");
    // Answers come in the order of the questions, refusals were made in another: only who asks alone is told of the next
    // place, for nobody takes it meanwhile.
    let again = client.ask("tools/list", json!({})).await;
    if again.response().get("error").is_some() {
        tokio::time::sleep(Duration::from_millis(told_wait(&again))).await;
        client.ask("tools/list", json!({})).await.result();
    }
    assert!(
        pool.metric("stdiopool_rejections_total{reason=\"tenant_limit\"}")
            .await
            >= 1.0
    );

    // One at a time, and the next as soon as the first is answered; others do not wait for it.
    let busy = pool.client_of("busy", "demo").connect().await;
    let slow = busy.clone();
    let slow = tokio::spawn(async move { slow.call("sleep", json!({"seconds": 1.5})).await });
    eventually("one is under way", async || {
        pool.workers()
            .await
            .iter()
            .any(|worker| worker["tenant"] == "busy" && worker["in_flight"] == 1)
    })
    .await;
    let refused = busy.call("echo", json!({"message": "x"})).await;
    assert_eq!(refused.reason(), "tenant_limit");
    let other = pool.client_of("other", "demo").connect().await;
    other.call("echo", json!({"message": "x"})).await.text();
    slow.await.expect("runs").result();
    busy.call("echo", json!({"message": "x"})).await.text();
}

/// A stream of the transport of 2024-11-05, and where its client sends.
struct OldClient {
    stream: reqwest::Response,
    told: String,
    url: String,
}

impl OldClient {
    async fn open(base: &str) -> Self {
        let stream = reqwest::get(format!("{base}/demo/sse"))
            .await
            .expect("answers");
        let (told, url) = (String::new(), String::new());
        let mut client = Self { stream, told, url };
        client.read_until("\n\n").await;
        let path = client
            .told
            .lines()
            .find_map(|line| line.strip_prefix("data: "));
        let origin: String = base.split('/').take(3).collect::<Vec<_>>().join("/");
        client.url = origin + path.expect("where to POST");
        let info = json!({ "name": "old", "version": "1" });
        let hello =
            json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": info });
        assert_eq!(
            client.ask(1, "initialize", hello).await,
            StatusCode::ACCEPTED
        );
        client.read_until("serverInfo").await;
        client
    }

    async fn read_until(&mut self, what: &str) {
        while !self.told.contains(what) {
            let chunk = self.stream.chunk().await.expect("reads").expect("more");
            self.told.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// The answer to the request of that id, as the stream has it.
    async fn answer(&mut self, id: u32) -> Value {
        loop {
            let whole = self.told.rfind('\n').map_or("", |end| &self.told[..end]);
            let data = whole
                .lines()
                .filter_map(|line| line.strip_prefix("data: {"));
            let mut messages =
                data.map(|rest| serde_json::from_str::<Value>(&format!("{{{rest}")).expect("JSON"));
            if let Some(answer) = messages.find(|message| message["id"] == id) {
                return answer;
            }
            let chunk = self.stream.chunk().await.expect("reads").expect("more");
            self.told.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// Whether a call that is answered at once was within the limits; it is told on the stream, either way.
    async fn is_served(&mut self, id: u32) -> bool {
        let asked = self.call(id, "echo", json!({ "message": "x" })).await;
        assert_eq!(asked, StatusCode::ACCEPTED);
        let answer = self.answer(id).await;
        answer["error"]["data"]["reason"] != "tenant_limit"
    }

    /// Begins a call that takes long, with the first id from there on that is within the limits; every other is for a call
    /// that is not.
    async fn begin_sleep(&mut self, first: u32, seconds: f64) -> u32 {
        for id in (first..first + 200).step_by(2) {
            let asked = self.call(id, "sleep", json!({ "seconds": seconds })).await;
            assert_eq!(asked, StatusCode::ACCEPTED);
            let is_alone = !self.is_served(id + 1).await;
            if is_alone && !self.told.contains(&format!("\"id\":{id},")) {
                return id;
            }
        }
        panic!("there is never room");
    }

    async fn ask(&self, id: u32, method: &str, params: Value) -> StatusCode {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let sent = reqwest::Client::new().post(&self.url).json(&body).send();
        sent.await.expect("answers").status()
    }

    async fn call(&self, id: u32, tool: &str, arguments: Value) -> StatusCode {
        let params = json!({ "name": tool, "arguments": arguments });
        self.ask(id, "tools/call", params).await
    }
}

#[tokio::test]
async fn over_the_old_transport_a_request_is_under_way_until_it_is_answered() {
    let limits = "[tenants.busy.limits]\nconcurrent = 1\n";
    let pool = Stdiopool::serve(&(limits.to_owned() + &demo("demo", "")));
    let base = format!("{}/t/busy", pool.url);
    let mut old = OldClient::open(&base).await;
    let slow = old.begin_sleep(100, 4.0).await;
    // What is over the limit is told on the stream, where its client waits for it.
    assert!(!old.is_served(50).await);
    // Another transport, another stream: the limit is the tenant's.
    let other = pool
        .client_of("busy", "demo")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(other.reason(), "tenant_limit");
    assert!(old.answer(slow).await.get("result").is_some());
    // With its stream, everything on it ends.
    old.begin_sleep(400, 60.0).await;
    drop(old);
    eventually("there is room again", async || {
        let client = pool.client_of("busy", "demo");
        let opened = client.try_initialize("2025-11-25", json!({})).await;
        opened.response().get("result").is_some()
    })
    .await;
}

#[tokio::test]
async fn storing_configs_counts_like_any_request() {
    let limits = "[limits]\ntenant = { requests_per_minute = 1, burst = 3 }\n";
    let config =
        "client_config = [\"x\"]\n[servers.demo.config]\nproperties.x = { type = \"string\" }";
    let pool = Stdiopool::serve(&(limits.to_owned() + &demo("demo", config)));
    let url = format!("{}/v1/config", pool.url);
    let http = reqwest::Client::new();
    let body = json!({ "server": "demo", "config": { "x": "y" } });
    let create = || http.post(&url).json(&body).send();
    let stored = create().await.expect("answers");
    assert_eq!(stored.status(), StatusCode::CREATED);
    let stored: Value = stored.json().await.expect("JSON");
    let one = format!("{url}/{}", stored["id"].as_str().expect("an id"));
    assert_eq!(
        http.get(&one).send().await.expect("answers").status(),
        StatusCode::OK
    );
    let deleted = http.delete(&one).send().await.expect("answers");
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    for refused in [
        create().await,
        http.get(&one).send().await,
        http.delete(&one).send().await,
    ] {
        let refused = refused.expect("answers");
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.headers().contains_key("retry-after"));
    }
    let other = pool.client_of("other", "demo").connect().await;
    other.call("echo", json!({ "message": "x" })).await.text();
}
