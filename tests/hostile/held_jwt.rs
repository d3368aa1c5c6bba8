//! Signed tokens: none but those of the issuer's keys, for this audience and in their time, let anyone in,
//! whatever a token says of itself.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::support::{Client, Stdiopool, demo};

/// A key pair, and what is told of it.
struct Key {
    secret: EncodingKey,
    public: Value,
}

impl Key {
    fn new(kid: &str) -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("made");
        let secret = EncodingKey::from_ec_der(&pair.serialize_der());
        let jwk = Jwk::from_encoding_key(&secret, Algorithm::ES256).expect("a key");
        let mut public = serde_json::to_value(jwk).expect("JSON");
        public["kid"] = json!(kid);
        Self { secret, public }
    }

    /// A token whose head is `head`, signed with this key.
    fn sign(&self, head: &Value, claims: &str) -> String {
        let message = format!("{}.{}", encoded(head.to_string()), encoded(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.secret, Algorithm::ES256);
        format!("{message}.{}", signature.expect("signed"))
    }
}

fn encoded(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example.com", "aud": "https://mcp.example.com", "sub": "anna",
        "exp": now() + 300, "tenant": "acme",
    })
}

fn with(name: &str, value: Value) -> String {
    let mut claims = claims();
    claims[name] = value;
    claims.to_string()
}

fn without(name: &str) -> String {
    let mut claims = claims();
    claims.as_object_mut().expect("an object").remove(name);
    claims.to_string()
}

fn serve(keys: &[&Key]) -> Stdiopool {
    let dir = crate::support::open_folder().expect("a folder");
    let public: Vec<_> = keys.iter().map(|key| &key.public).collect();
    let set = json!({ "keys": public });
    std::fs::write(dir.path().join("keys.json"), set.to_string()).expect("written");
    let auth = "[auth]\nmode = \"jwt\"\nissuer = \"https://id.example.com\"\naudience = [\"https://mcp.example.com\"]\njwks_file = \"keys.json\"\nalgorithms = [\"ES256\"]\n";
    let toml = demo("good", "") + "[tenants.acme]\n[tenants.globex]\n";
    Stdiopool::write_config(dir.path(), auth, &toml);
    let config = dir.path().join("pool.toml").display().to_string();
    Stdiopool::run(dir, &["--config".to_owned(), config], &[])
}

fn es256(kid: impl Into<Value>) -> Value {
    json!({ "alg": "ES256", "typ": "JWT", "kid": kid.into() })
}

/// What that token is told; it must not be let in.
async fn refused(client: &Client, what: &str, token: &str) {
    let client = client.clone().with_token(token);
    let answer = client.try_initialize("2025-11-25", json!({})).await;
    let shown: String = token.chars().take(80).collect();
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}: {shown}");
    assert!(answer.headers.contains_key("www-authenticate"), "{what}");
    let told = answer.response().to_string();
    for hidden in ["globex", "\"one\"", "\"two\"", "keys.json"] {
        assert!(!told.contains(hidden), "{what}: {told}");
    }
}

#[tokio::test]
async fn a_token_that_says_how_it_is_to_be_checked_is_not_heard() {
    let (one, two, own) = (Key::new("one"), Key::new("two"), Key::new("one"));
    let pool = serve(&[&one, &two]);
    let client = pool.client("good");
    let good = one.sign(&es256("one"), &claims().to_string());
    let beside = Beside::of(client.clone().with_token(&good).connect().await);
    let plain = claims().to_string();
    // Nothing is signed.
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    for name in [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "ES256 ",
        "es256",
        "HS256\u{0}",
        "ECDH-ES",
        "dir",
    ] {
        let head = encoded(json!({ "alg": name, "kid": "one" }).to_string());
        for signature in ["", signature] {
            let token = format!("{head}.{}.{signature}", encoded(&plain));
            refused(&client, name, &token).await;
        }
    }
    for (what, token) in [
        ("no signature", format!("{message}.")),
        ("no third part", message.to_owned()),
        ("a signature twice", format!("{good}.{signature}")),
        ("five parts, as if encrypted", format!("{good}.a.b")),
        (
            "no head",
            format!(".{}", good.split_once('.').expect("parts").1),
        ),
        ("another's claims", {
            let head = encoded(es256("one").to_string());
            format!(
                "{head}.{}.{signature}",
                encoded(with("tenant", json!("globex")))
            )
        }),
        (
            "a signature of zeros",
            format!("{message}.{}", encoded([0; 64])),
        ),
        (
            "half of a signature",
            format!("{message}.{}", &signature[..40]),
        ),
        ("spaces", good.replace('.', " . ")),
    ] {
        refused(&client, what, &token).await;
    }
    // Signed with what everyone knows.
    let public = |name: &str| one.public[name].as_str().expect("text").to_owned();
    for secret in [public("x"), one.public.to_string(), String::new()] {
        let mut head = Header::new(Algorithm::HS256);
        head.kid = Some("one".to_owned());
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = encode(&head, &claims(), &key).expect("signed");
        refused(&client, "a public key as a secret", &token).await;
    }
    // Signed with a key of one's own, which the token brings or names.
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    elsewhere.set_nonblocking(true).expect("settable");
    let url = format!("http://{}/keys", elsewhere.local_addr().expect("bound"));
    for (name, value) in [
        ("jwk", own.public.clone()),
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("x5c", json!([encoded("a certificate")])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
    ] {
        let mut head = es256("one");
        head[name] = value;
        refused(&client, name, &own.sign(&head, &plain)).await;
    }
    let asked = elsewhere.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(
        asked,
        Err(std::io::ErrorKind::WouldBlock),
        "it was asked for keys"
    );
    // Key ids that mean something elsewhere, and the id of the other key.
    for kid in [
        json!("two"),
        json!("three"),
        json!(""),
        json!("../../../../../dev/null"),
        json!("/dev/null"),
        json!("keys.json"),
        json!("' UNION SELECT 'key"),
        json!("one' OR '1'='1"),
        json!("one\u{0}"),
        json!("ONE"),
        json!("| sleep 5"),
        json!("${secret.key}"),
        json!(url),
        json!("k".repeat(9000)),
        json!(1),
        json!(null),
        json!(["one"]),
        json!({ "one": 1 }),
    ] {
        let what = kid.to_string();
        refused(&client, &what, &own.sign(&es256(kid), &plain)).await;
    }
    let asked = elsewhere.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(asked, Err(std::io::ErrorKind::WouldBlock));
    refused(&client, "the other key", &two.sign(&es256("one"), &plain)).await;
    beside.goes_on(3).await;
}

#[tokio::test]
async fn a_token_is_good_for_its_audience_time_and_tenant_alone() {
    let key = Key::new("one");
    let pool = serve(&[&key]);
    let client = pool.client("good");
    let good = key.sign(&es256("one"), &claims().to_string());
    let beside = Beside::of(client.clone().with_token(&good).connect().await);
    let deep = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
    let mut list = vec![
        "".to_owned(),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "17".to_owned(),
        format!("{{\"a\":{deep}}}"),
        claims().to_string() + "{}",
        // The first of two may be read by one, the second by another.
        claims().to_string().replacen('{', "{\"exp\":1,", 1),
    ];
    for name in ["iss", "aud", "exp", "tenant"] {
        list.push(without(name));
        for value in [
            json!(null),
            json!(""),
            json!([]),
            json!({}),
            json!(true),
            json!(-1),
            json!([null]),
            json!({ "a": "https://mcp.example.com" }),
        ] {
            list.push(with(name, value));
        }
    }
    for (name, value) in [
        ("iss", json!("https://id.example.com/")),
        ("iss", json!("https://id.example.com.evil.example")),
        ("iss", json!(["https://evil.example"])),
        ("aud", json!("https://mcp.example.com/")),
        ("aud", json!("https://MCP.example.com")),
        ("aud", json!(["https://other.example.com"])),
        ("aud", json!([["https://mcp.example.com"]])),
        ("exp", json!(now() - 3600)),
        ("exp", json!(format!("{}", now() + 300))),
        ("exp", json!(f64::MIN_POSITIVE)),
        ("nbf", json!(now() + 3600)),
        ("nbf", json!("1")),
        ("tenant", json!("nobody")),
        ("tenant", json!("ACME")),
        ("tenant", json!("acme ")),
        ("tenant", json!("acme/../globex")),
        ("tenant", json!("acme\u{0}")),
        ("tenant", json!(["acme"])),
        ("tenant", json!({ "acme": true })),
        ("tenant", json!("a".repeat(5000))),
    ] {
        list.push(with(name, value));
    }
    for claims in &list {
        let token = key.sign(&es256("one"), claims);
        refused(&client, claims, &token).await;
    }
    // Large ones: refused for their length, before anything of them is read.
    for len in [16 << 10, 40 << 10] {
        let long = with("more", json!("x".repeat(len)));
        refused(&client, "a long one", &key.sign(&es256("one"), &long)).await;
        refused(&client, "a long text", &"a.".repeat(len / 2)).await;
    }
    // Right, and for another's path.
    let elsewhere = pool.client_of("globex", "good").with_token(&good);
    let answer = elsewhere.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    beside.goes_on(3).await;
    let again = client.with_token(&good).connect().await;
    Beside::of(again).goes_on(1).await;
}
