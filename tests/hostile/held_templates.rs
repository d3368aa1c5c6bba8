//! Templates: what a caller sets is one value in the place that the operator gave it, whatever it looks like.

use std::path::Path;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::beside::Beside;
use crate::support::stateless::{params, send};
use crate::support::{BINARY, Client, PATIENCE, Stdiopool, demo, open_folder, private_file};

/// A secret of the tenant's, which no value of a caller's comes to.
const KEY: &str = "hunter22";

/// Values that mean something to a shell, a template, a parser of arguments, of JSON, of URLs or of paths, or to a terminal.
const VALUES: &[&str] = &[
    "plain",
    "",
    " before and after ",
    r#""twice" 'once' `back` \ $(id) $HOME ; | & > < * ? ~ ! #"#,
    "${secret.key}",
    "${config.w}",
    "$${config.w}",
    "${config.v:-${secret.key}}",
    "${",
    "}${dir.data}",
    "first\nSECOND=1\r\nthird\tfourth",
    "--flag",
    "--config=/etc/passwd --other",
    "--",
    "-",
    "@/etc/passwd",
    "name=value",
    "null",
    "false",
    r#"["a","b"]"#,
    r#"","admin":true,"x":""#,
    "a b&key=other#end?x=y",
    "a%00b%0d%0aX: y",
    "//other.example/x",
    "../../../etc/passwd",
    "\u{1b}[31mred\u{7}\u{8}\u{7f}",
    "\u{feff}\u{202e}backwards\u{2028}\u{10ffff}",
];

/// A value of which a part is of each kind.
const WORST: &str = "--x=\"${secret.key}\"\nSECOND=1 '$(id)'\t}${config.w}#?&%00\u{1b}[31m\u{2028}";

fn serve() -> Stdiopool {
    let dir = open_folder().expect("a folder");
    private_file(&dir.path().join("key"), KEY);
    let schema = |name: &str| {
        format!(
            "[servers.{name}.config]\ntype = \"object\"\nadditionalProperties = false\nproperties.v = {{ type = \"string\" }}\nproperties.w = {{ type = \"string\", default = \"-\" }}\n"
        )
    };
    let rooted = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/roots_server.py"
    );
    let mut toml = format!(
        r#"
[servers.templated]
command = "{BINARY}"
args = ["demo-server", "--before", "${{config.v}}", "--joined=${{config.v}}", {{ when = "config.v", args = ["--when", "${{config.v}}"] }}, "${{config.w}}", "--after"]
env = {{ PLAIN = "${{config.v}}", URL = "https://api.example/${{config.v}}?key=${{secret.key}}#end", BROUGHT = "${{secret.brought:-none}}" }}
client_config = ["v", "w"]
client_secrets = ["brought"]
bind.echo = {{ message = "${{config.v}}" }}
[servers.rooted]
command = "python3"
args = ["{rooted}"]
roots = ["folders/${{config.v}}"]
client_config = ["v"]
[servers.tripled]
command = "{BINARY}"
args = ["demo-server", "${{config.v}}${{config.v}}${{config.v}}"]
client_config = ["v"]
[tenants.default]
secrets.key = {{ file = "key" }}
[tenants.owner]
secrets.key = {{ file = "key" }}
config.templated = {{ v = {} }}
"#,
        json!(WORST),
    );
    for name in ["templated", "rooted", "tripled"] {
        toml += &schema(name);
    }
    let toml = demo("good", "") + &toml;
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &toml);
    let config = dir.path().join("pool.toml").display().to_string();
    Stdiopool::run(dir, &["--config".to_owned(), config], &[])
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// A call of `tool` with that config.
async fn called(client: &Client, tool: &str, config: &Value) -> String {
    let asked = json!({ "name": tool, "arguments": {}, "clientConfig": config });
    let answer = client.ask("tools/call", asked).await;
    answer.text().to_owned()
}

/// The environment of a server, without what templates set.
fn environment(told: &Value) -> Map<String, Value> {
    let mut all = told["environment"].as_object().expect("an object").clone();
    all.retain(|name, _| !["PLAIN", "URL", "BROUGHT"].contains(&name.as_str()));
    all
}

/// The server was started with that value in each of its places, and nowhere else.
fn assert_in_place(told: &Value, value: &str, usual: &Map<String, Value>) {
    let joined = format!("--joined={value}");
    assert_eq!(
        told["arguments"],
        json!(["--before", value, joined, "--when", value, "-", "--after"]),
        "{value:?}"
    );
    let set = &told["environment"];
    assert_eq!(set["PLAIN"], value);
    let url = format!("https://api.example/{value}?key={KEY}#end");
    assert_eq!(set["URL"], json!(url), "{value:?}");
    assert_eq!(environment(told), *usual, "{value:?}");
}

/// The usual environment of the server, by a process that is started with a harmless value.
async fn usual(client: &Client) -> Map<String, Value> {
    let told = parsed(&called(client, "whoami", &json!({ "v": "harmless" })).await);
    let usual = environment(&told);
    assert_in_place(&told, "harmless", &usual);
    usual
}

/// Nothing that a caller has set begins a line of the log or speaks to the terminal in which it is read.
fn assert_log_is_stdiopools(pool: &Stdiopool) {
    let log = pool.log();
    assert!(!log.lines().any(|line| line.starts_with("SECOND")), "{log}");
    for text in ["\u{1b}[31m", KEY] {
        assert!(!log.contains(text), "{log}");
    }
}

#[tokio::test]
async fn a_value_of_a_callers_stays_one_value_in_one_place() {
    let pool = serve();
    let client = pool.client("templated").connect().await;
    let rooted = pool.client("rooted").connect().await;
    let usual = usual(&client).await;
    let long = ["x", "${secret.key}"].map(|part| part.repeat(60_000 / part.len()));
    let long = long.iter().map(String::as_str);
    for value in VALUES.iter().copied().chain([WORST]).chain(long) {
        let config = json!({ "v": value });
        let told = parsed(&called(&client, "whoami", &config).await);
        assert_in_place(&told, value, &usual);
        // An argument of a tool.
        assert_eq!(called(&client, "echo", &config).await, value);
        // What leads elsewhere in a path is the operator's to exclude, by the schema.
        if !value.contains("..") {
            let folders = pool.dir.path().join("folders");
            let roots = roots(&rooted, &config).await;
            assert_root(&roots, &folders.join(value.trim_start_matches('/')));
        }
    }
    assert_log_is_stdiopools(&pool);
}

/// The roots that a server knows, from when it has been told of them.
async fn roots(client: &Client, config: &Value) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = parsed(&called(client, "where", config).await);
        if told["roots"].is_array() {
            return told["roots"].clone();
        }
        assert!(Instant::now() < deadline, "it is never told of roots");
    }
}

/// There is one root: that path, and nothing else in its URI.
fn assert_root(roots: &Value, path: &Path) {
    let [root] = roots.as_array().map(Vec::as_slice).expect("a list") else {
        panic!("not one: {roots}");
    };
    let uri = url::Url::parse(root.as_str().expect("a text")).expect("a URI");
    assert_eq!((uri.query(), uri.fragment()), (None, None), "{uri}");
    assert_eq!(uri.to_file_path().as_deref(), Ok(path), "{uri}");
}

#[tokio::test]
async fn a_value_is_one_whichever_way_it_comes() {
    let pool = serve();
    let usual = usual(&pool.client("templated").connect().await).await;
    let config = json!({ "v": WORST });
    let encoded = URL_SAFE_NO_PAD.encode(config.to_string());
    let whoami = json!({ "name": "whoami", "arguments": {} });
    let mut ways = vec![];
    for n in 0..3 {
        let mut client = pool.client("templated");
        let mut asked = whoami.clone();
        match n {
            0 => client.config = Some(encoded.clone()),
            1 => client.url += &format!("?config={encoded}"),
            _ => asked["_meta"] = json!({ "dev.stdiopool/config": config }),
        }
        let client = client.connect().await;
        ways.push(client.ask("tools/call", asked).await.text().to_owned());
    }
    let mut stateless = params(whoami.clone(), &json!({}));
    stateless["_meta"]["dev.stdiopool/config"] = config.clone();
    let answer = send(&pool.client("templated"), "tools/call", stateless).await;
    let answer = answer.text().await.expect("whole");
    let message = answer
        .lines()
        .rev()
        .find_map(|it| it.strip_prefix("data: "));
    let answer = parsed(message.unwrap_or(&answer));
    let text = answer["result"]["content"][0]["text"].as_str();
    ways.push(text.unwrap_or_else(|| panic!("{answer}")).to_owned());
    // Of its tenant, by pool.toml.
    let owner = pool.client_of("owner", "templated").connect().await;
    let of_tenant = parsed(owner.call("whoami", json!({})).await.text());
    // Its folders are its own.
    let names = |all: &Map<String, Value>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&environment(&of_tenant)), names(&usual));
    assert_in_place(&of_tenant, WORST, &environment(&of_tenant));
    // Stored, with a secret that is as bad.
    let (status, stored) = store(
        &pool,
        &json!({ "server": "templated", "config": config, "secrets": { "brought": WORST } }),
    )
    .await;
    assert_eq!(status, StatusCode::CREATED, "{stored}");
    let mut client = pool.client("templated");
    client.config = stored["id"].as_str().map(ToOwned::to_owned);
    let answer = client.connect().await.call("whoami", json!({})).await;
    assert_eq!(parsed(answer.text())["environment"]["BROUGHT"], WORST);
    ways.push(answer.text().to_owned());
    for told in ways {
        assert_in_place(&parsed(&told), WORST, &usual);
    }
    assert_log_is_stdiopools(&pool);
}

async fn store(pool: &Stdiopool, body: &Value) -> (StatusCode, Value) {
    let sent = reqwest::Client::new()
        .post(format!("{}/v1/config", pool.url))
        .header("content-type", "application/json")
        .body(body.to_string())
        .send();
    let answer = sent.await.expect("answers");
    (answer.status(), answer.json().await.expect("JSON"))
}

/// However values are cut, two that differ are two launches.
#[tokio::test]
async fn values_that_look_alike_side_by_side_are_told_apart() {
    let pool = serve();
    let client = pool.client("templated").connect().await;
    let mut pids = vec![];
    for (v, w) in [
        ("a", "b\nc"),
        ("a\nb", "c"),
        ("a b", "c"),
        ("a", "b c"),
        ("a\",\"b", "c"),
        ("a", "b\",\"c"),
        ("", "a"),
        ("a", ""),
    ] {
        let told = parsed(&called(&client, "whoami", &json!({ "v": v, "w": w })).await);
        let (first, last) = (&told["arguments"][1], &told["arguments"][5]);
        assert_eq!((first, last), (&json!(v), &json!(w)));
        pids.push(told["pid"].clone());
    }
    let count = pids.len();
    pids.sort_by_key(|pid| pid.as_u64());
    pids.dedup();
    assert_eq!(pids.len(), count, "a process for each");
}

#[tokio::test]
async fn a_value_that_no_place_can_hold_is_refused_in_words() {
    let pool = serve();
    let beside = Beside::open(&pool, "bystander", "good").await;
    let client = pool.client("templated").connect().await;
    let refused = async |client: &Client, config: Value| {
        let asked = json!({ "name": "whoami", "arguments": {}, "clientConfig": config });
        client.ask("tools/call", asked).await
    };
    for (config, part) in [
        (json!({ "v": "NUL\0SECOND=1" }), "a NUL character"),
        (json!({ "v": "x", "w": "\0" }), "a NUL character"),
        (json!({ "v": ["--list", "--of"] }), "/v"),
        (json!({ "v": { "an": "object" } }), "/v"),
        (json!({ "v": 7 }), "/v"),
        (json!({ "v": "x", "command": "sh" }), "cannot set `command`"),
        (json!({ "v": "x", "v\n": "y" }), "cannot set"),
    ] {
        let answer = refused(&client, config).await;
        assert_eq!(answer.reason(), "config_invalid", "{answer:?}");
        assert!(answer.message().contains(part), "{answer:?}");
        for value in ["SECOND", "--list", "object"] {
            assert!(!answer.message().contains(value), "{answer:?}");
        }
    }
    let long = json!({ "v": "x".repeat(70_000) });
    let answer = refused(&client, long).await;
    assert_eq!(answer.reason(), "message_too_large", "{answer:?}");
    let (status, answer) = store(
        &pool,
        &json!({ "server": "templated", "config": { "v": "x" }, "secrets": { "brought": "a\0b" } }),
    )
    .await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let mut client = pool.client("templated");
    client.config = answer["id"].as_str().map(ToOwned::to_owned);
    let client = client.connect().await;
    let answer = client.call("whoami", json!({})).await;
    assert_eq!(answer.reason(), "config_invalid", "{answer:?}");
    assert!(answer.message().contains("a NUL character"), "{answer:?}");
    assert!(
        !pool
            .workers()
            .await
            .iter()
            .any(|it| it["server"] == "templated"),
        "nothing was started"
    );
    // Each part of it fits, and all of it is longer than the kernel takes (MAX_ARG_STRLEN).
    let tripled = pool.client("tripled").connect().await;
    let answer = refused(&tripled, json!({ "v": "x".repeat(60_000) })).await;
    assert_eq!(answer.reason(), "config_invalid", "{answer:?}");
    let why = answer.message();
    assert!(why.contains("longer than the system takes"), "{answer:?}");
    assert!(!why.contains("xxx"), "{answer:?}");
    assert_log_is_stdiopools(&pool);
    beside.goes_on(3).await;
}
