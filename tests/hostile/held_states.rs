//! Request states and handles of stored configs: good for whom they were given to, and for what they were
//! given for; altered, stolen, guessed or used ones are as unknown as none.

use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::stateless::{ask, call, elicitation, params, text};
use crate::support::{Client, Stdiopool, demo};

/// Of `secret`.
const PROXY_SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

/// Serves two tenants whose users a proxy names.
fn serve(servers: &str) -> Stdiopool {
    let auth = format!(
        "[auth]\nmode = \"header\"\ntrusted_proxies = [\"127.0.0.0/8\"]\nproxy_secrets = [\"sha256:{PROXY_SECRET}\"]\n"
    );
    let tenants = "[tenants.acme]\n[tenants.globex]\n";
    Stdiopool::serve_with(&auth, &(servers.to_owned() + tenants))
}

#[derive(Clone, Copy, Debug)]
struct User {
    tenant: &'static str,
    name: &'static str,
}

/// A user of a tenant, as the proxy passes its requests on.
fn user(pool: &Stdiopool, server: &str, who: User) -> Client {
    let mut client = pool.client(server);
    for (name, value) in [
        ("x-tenant", who.tenant),
        ("x-user", who.name),
        ("x-proxy-secret", "secret"),
    ] {
        let value = value.parse().expect("may stand in a head");
        client.headers.insert(name, value);
    }
    client
}

const ANNA: User = User {
    tenant: "acme",
    name: "anna",
};
const BOB: User = User {
    tenant: "acme",
    name: "bob",
};
const EVE: User = User {
    tenant: "globex",
    name: "anna",
};

fn arguments() -> Value {
    json!({ "kind": "elicitation" })
}

/// The call once more, with that state and an answer.
async fn bring_back(client: &Client, asked: &Value, state: &Value, name: &str) -> Value {
    let mut again = json!({ "name": "ask", "arguments": arguments(), "requestState": state });
    let questions = asked["result"]["inputRequests"].as_object();
    for key in questions.expect("questions").keys() {
        again["inputResponses"][key] = json!({ "action": "accept", "content": { "name": name } });
    }
    let (_, _, told) = ask(client, "tools/call", params(again, &elicitation())).await;
    told
}

#[tokio::test]
async fn a_request_state_is_good_for_its_caller_and_as_it_was_given() {
    let pool = serve(&(demo("good", "") + &demo("other", "")));
    let anna = user(&pool, "good", ANNA);
    let asked = call(&anna, "ask", arguments(), &elicitation()).await;
    let state = asked["result"]["requestState"].as_str().expect("a state");
    let own = json!(state);
    // Whoever else has it, by whatever way.
    for (who, server) in [(BOB, "good"), (EVE, "good"), (ANNA, "other")] {
        let thief = user(&pool, server, who);
        let told = bring_back(&thief, &asked, &own, "Mallory").await;
        assert_eq!(told["error"]["code"], -32602, "{who:?} {server}: {told}");
    }
    // Altered, in each of its parts: the nonce, what is sealed, the seal.
    let mut altered = vec![];
    for at in (0..state.len()).step_by(3) {
        let mut bytes = state.to_owned().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        altered.push(json!(String::from_utf8(bytes).expect("ASCII")));
    }
    for len in [0, 1, 31, 32, 33, state.len() / 2, state.len() - 1] {
        altered.push(json!(&state[..len]));
    }
    altered.extend([
        json!(format!("{state}A")),
        json!(format!("{state}{state}")),
        json!(format!("{state}=")),
        json!(format!(" {state}")),
        json!("A".repeat(state.len())),
        json!("A".repeat(100_000)),
        json!("../../state.db"),
        json!("\u{0}\u{fffd}"),
        json!(17),
        json!({ "requestState": state }),
        json!([state]),
        json!(true),
    ]);
    for state in &altered {
        let told = bring_back(&anna, &asked, state, "Mallory").await;
        assert_eq!(told["error"]["code"], -32602, "{state}: {told}");
    }
    // Through all of this it was not used up; once used, it is.
    let answered = bring_back(&anna, &asked, &own, "Anna").await;
    assert!(text(&answered).contains("Anna"), "{answered}");
    let replayed = bring_back(&anna, &asked, &own, "Anna").await;
    assert_eq!(replayed["error"]["code"], -32602, "{replayed}");
}

#[tokio::test]
async fn a_request_state_ends_with_the_process_that_sealed_it() {
    let pool = serve(&demo("good", ""));
    let anna = user(&pool, "good", ANNA);
    let asked = call(&anna, "ask", arguments(), &elicitation()).await;
    let state = asked["result"]["requestState"].clone();
    let again = pool.restarted_after(Signal::SIGKILL);
    let anna = user(&again, "good", ANNA);
    let told = bring_back(&anna, &asked, &state, "Anna").await;
    assert_eq!(told["error"]["code"], -32602, "{told}");
    let echoed = call(&anna, "echo", json!({ "message": "still" }), &json!({})).await;
    assert_eq!(text(&echoed), "still");
}

/// A server whose callers set `a`, which its process is started with.
fn configurable(name: &str) -> String {
    let tables = format!(
        "client_config = [\"a\"]\nenv = {{ GIVEN = \"${{config.a}}\" }}\n[servers.{name}.config]\ntype = \"object\"\nadditionalProperties = false\nproperties.a = {{ type = \"string\", default = \"none\" }}\n"
    );
    demo(name, &tables)
}

/// Asks for something of a stored config by its URL; status and message.
async fn at_handle(client: &Client, method: Method, url: &str) -> (StatusCode, Value) {
    let mut client = client.clone();
    client.url = url.to_owned();
    let answer = client.request(method).send().await.expect("answers");
    let status = answer.status();
    let body = answer.text().await.expect("text");
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    (status, body["error"]["message"].clone())
}

/// Uses a handle for a call; the reason why not, or what the process was started with.
async fn used(client: &Client, handle: &str) -> String {
    let asked =
        json!({ "name": "whoami", "arguments": {}, "_meta": { "dev.stdiopool/config": handle } });
    let (_, _, told) = ask(client, "tools/call", params(asked, &json!({}))).await;
    if let Some(reason) = told["error"]["data"]["reason"].as_str() {
        return reason.to_owned();
    }
    let shown: Value = serde_json::from_str(text(&told)).expect("JSON");
    let given = shown["environment"]["GIVEN"].as_str();
    given.expect("set").to_owned()
}

#[tokio::test]
async fn a_handle_is_good_for_its_user_and_server_alone() {
    let pool = serve(&(configurable("good") + &configurable("other")));
    let anna = user(&pool, "good", ANNA);
    let mut store = anna.clone();
    store.url = format!("{}/v1/config", pool.url);
    let body = json!({ "server": "good", "config": { "a": "annas-value" } });
    let stored = store.request(Method::POST).json(&body).send().await;
    let stored: Value = stored.expect("answers").json().await.expect("JSON");
    let handle = stored["id"].as_str().expect("an id");
    let at = |handle: &str| format!("{}/v1/config/{handle}", pool.url);
    let unknown = "cfg_00000000000000000000000000000000";
    let absent = at_handle(&anna, Method::GET, &at(unknown)).await;
    assert_eq!(absent.0, StatusCode::NOT_FOUND);
    let (of_bob, of_eve) = (user(&pool, "good", BOB), user(&pool, "good", EVE));
    for thief in [&of_bob, &of_eve] {
        for method in [Method::GET, Method::DELETE] {
            let told = at_handle(thief, method, &at(handle)).await;
            assert_eq!(told, absent, "as if it were not there");
        }
        assert_eq!(used(thief, handle).await, used(thief, unknown).await);
        assert_eq!(used(thief, handle).await, "config_invalid");
    }
    // Its own user, at a server that it is not for.
    let elsewhere = user(&pool, "other", ANNA);
    assert_eq!(used(&elsewhere, handle).await, "config_invalid");
    // Nearly it, and no handle at all.
    for nearly in [
        &handle[..handle.len() - 1],
        &handle.to_uppercase(),
        &handle.replacen("cfg_", "", 1),
        &handle.replacen("cfg_", "cfg_%30", 1),
        "cfg_",
        "cfg_..%2f..%2fpool.toml",
        &format!("cfg_{}", "0".repeat(6000)),
    ] {
        let (status, _) = at_handle(&anna, Method::GET, &at(nearly)).await;
        assert!(status.is_client_error(), "{nearly}: {status}");
        assert_eq!(used(&anna, nearly).await, "config_invalid", "{nearly}");
    }
    assert_eq!(used(&anna, handle).await, "annas-value");
    let (status, _) = at_handle(&anna, Method::DELETE, &at(handle)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(used(&anna, handle).await, "config_invalid", "it is gone");
}
