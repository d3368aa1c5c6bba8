//! What is told of an install to those who wait for it.

use std::fs;

use http::StatusCode;
use serde_json::{Value, json};

use super::npm_script::{Npm, version_of};
use super::support::stateless::{ask, params, send};
use super::support::{BINARY, Events, Stdiopool, eventually, until};

/// Two steps of the install of `thing`, told under the token `t`.
async fn hears_of_the_install(events: &mut Events) {
    // What a wait is told begins below what its server may say, which is 0 or more.
    let mut last = f64::NEG_INFINITY;
    for _ in 0..2 {
        let progress = events.next().await.expect("progress");
        assert_eq!(progress["method"], "notifications/progress", "{progress}");
        assert_eq!(progress["params"]["progressToken"], "t", "{progress}");
        let message = progress["params"]["message"].as_str().expect("words");
        assert!(message.contains("thing@1.0.0"), "{message}");
        let step = progress["params"]["progress"].as_f64().expect("a number");
        assert!(step > last && step < 0.0, "{progress}");
        last = step;
    }
}

/// The response to the request of that id.
async fn answer_of(events: &mut Events, id: Value) -> Value {
    loop {
        let message = events.next().await.expect("an answer");
        if message["id"] == id {
            return message;
        }
    }
}

#[tokio::test]
async fn who_waits_for_an_install_is_told_how_far_it_is_or_to_come_again() {
    let npm = Npm::new();
    npm.put("hold", "");
    let server = npm.server("thing", &["-y", "thing@1.0.0"], "start_timeout = \"20s\"");
    let pool = Stdiopool::serve(&format!("[pool]\nqueue_timeout = \"500ms\"\n{server}"));
    let refused = pool
        .client("thing")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert_eq!(refused.status, StatusCode::OK, "{refused:?}");
    assert_eq!(refused.reason(), "installing");
    assert!(refused.message().contains("thing@1.0.0"), "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"));
    npm.remove("hold");
    let client = pool.client("thing");
    eventually("it is installed", async || {
        let opened = client.try_initialize("2025-11-25", json!({})).await;
        opened.response().get("result").is_some()
    })
    .await;
    let client = client.connect().await;
    // As at the first start after a restart: a session, and no package.
    let cache = pool.dir.path().join("state/packages");
    fs::remove_dir_all(cache.join("refs")).expect("removed");
    fs::create_dir(cache.join("refs")).expect("made");
    npm.put("hold", "");
    npm.put("version", "1.0.1");
    let pool = pool.restarted_after(nix::sys::signal::Signal::SIGTERM);
    let mut client = client;
    client.url = format!("{}/thing/mcp", pool.url);
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {
        "name": "whoami", "arguments": {}, "_meta": {"progressToken": "t"},
    }});
    let mut events = client.stream(&call).await;
    hears_of_the_install(&mut events).await;
    npm.remove("hold");
    let answer = answer_of(&mut events, json!(7)).await;
    let text = answer["result"]["content"][0]["text"].as_str();
    assert!(text.unwrap_or_default().contains("1.0.1"), "{answer}");
}

#[tokio::test]
async fn slow_installs_of_one_tenant_keep_no_other_waiting() {
    let (slow, quick) = (Npm::new(), Npm::new());
    slow.put("hold", "");
    let names = ["a", "b", "c"];
    let held: String = names
        .iter()
        .map(|name| slow.server(name, &["-y", &format!("thing@1.0.0-{name}")], ""))
        .collect();
    let other = quick.server("other", &["-y", "thing@1.0.0"], "");
    let pool = Stdiopool::serve(&format!("{held}{other}"));
    let waiting: Vec<_> = names
        .map(|name| tokio::spawn(pool.client_of("anna", name).connect()))
        .into();
    eventually(
        "hers are under way, as many as there are places",
        async || slow.asked("install") == 2,
    )
    .await;
    let bob = pool.client_of("bob", "other").connect().await;
    assert_eq!(version_of(&bob).await, "1.0.0");
    assert_eq!(slow.asked("install"), 2, "her third waits");
    slow.remove("hold");
    for client in waiting {
        assert_eq!(version_of(&client.await.expect("connects")).await, "1.0.0");
    }
}

#[tokio::test]
async fn at_the_address_of_all_servers_an_install_is_told_of_too() {
    let npm = Npm::new();
    npm.put("hold", "");
    let server = npm.server("thing", &["-y", "thing@1.0.0"], "start_timeout = \"20s\"");
    let pool = Stdiopool::serve(&server);
    let mut client = pool.client("thing");
    client.url = format!("{}/mcp", pool.url);
    let client = client.connect().await;
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {
        "name": "thing__whoami", "arguments": {}, "_meta": {"progressToken": "t"},
    }});
    let mut events = client.stream(&call).await;
    let progress = events.next().await.expect("progress");
    assert_eq!(progress["params"]["progressToken"], "t", "{progress}");
    let message = progress["params"]["message"].as_str().expect("words");
    assert!(message.contains("thing@1.0.0"), "{message}");
    npm.remove("hold");
    let answer = answer_of(&mut events, json!(7)).await;
    assert!(answer["result"]["content"].is_array(), "{answer}");
}

#[tokio::test]
async fn at_the_address_of_all_servers_who_connects_during_an_install_hears_of_it_at_once() {
    let npm = Npm::new();
    npm.put("hold", "");
    let server = npm.server("thing", &["-y", "thing@1.0.0"], "start_timeout = \"20s\"");
    // Shorter than the install: whoever asks for the server itself has long been told to come again.
    let pool =
        format!("[pool]\nqueue_timeout = \"500ms\"\n[aggregate]\nlist_timeout = \"60s\"\n{server}");
    let pool = Stdiopool::serve(&pool);
    let mut client = pool.client("thing");
    client.url = format!("{}/mcp", pool.url);
    let client = client.connect().await;
    let mut events = client.listen().await;
    let listed = client.ask("tools/list", json!({})).await;
    let missing = &listed.result()["_meta"]["dev.stdiopool/missing"][0];
    assert_eq!(missing["server"], "thing", "{listed:?}");
    let why = missing["why"].as_str().unwrap_or_default();
    assert!(why.contains("`thing@1.0.0` is being installed"), "{why}");
    // A minute is not waited for, nor is the half second that a request has.
    let again = std::time::Instant::now();
    client.ask("tools/list", json!({})).await.result();
    assert!(again.elapsed() < std::time::Duration::from_secs(10));
    npm.remove("hold");
    let told = events.next().await.expect("a message");
    assert_eq!(told["method"], "notifications/tools/list_changed");
    let listed = client.ask("tools/list", json!({})).await;
    assert!(
        listed.result().to_string().contains("thing__whoami"),
        "{listed:?}"
    );
}

#[tokio::test]
async fn clients_without_sessions_are_told_of_an_install_too() {
    for (path, tool) in [("thing/mcp", "whoami"), ("mcp", "thing__whoami")] {
        let npm = Npm::new();
        npm.put("hold", "");
        let server = npm.server("thing", &["-y", "thing@1.0.0"], "start_timeout = \"20s\"");
        let pool = Stdiopool::serve(&format!("[pool]\nqueue_timeout = \"500ms\"\n{server}"));
        let mut client = pool.client("thing");
        client.url = format!("{}/{path}", pool.url);
        let mut call = params(json!({"name": tool, "arguments": {}}), &json!({}));
        let (status, _, refused) = ask(&client, "tools/call", call.clone()).await;
        assert_eq!(status, StatusCode::OK, "{refused}");

        call["_meta"]["progressToken"] = json!("t");
        let mut events = client.stream_of(send(&client, "tools/call", call).await);
        hears_of_the_install(&mut events).await;
        npm.remove("hold");
        let answer = answer_of(&mut events, json!("r1")).await;
        assert!(answer["result"]["content"].is_array(), "{answer}");
        for (outcome, count) in [("ok", 1.0), ("failed", 1.0)] {
            let labels = format!("method=\"tools/call\",outcome=\"{outcome}\",server=\"thing\"");
            let counter = format!("stdiopool_requests_total{{{labels}}}");
            assert_eq!(pool.metric(&counter).await, count, "{outcome}");
        }
    }
}

#[tokio::test]
async fn a_start_that_fails_after_an_install_is_told_in_the_same_stream() {
    let npm = Npm::new();
    npm.put("hold", "");
    npm.put("broken", "");
    npm.put("npx", "#!/bin/sh\nexit 3\n");
    let pool = Stdiopool::serve(&npm.server("thing", &["-y", "thing@1.0.0"], ""));
    let client = pool.client("thing");
    let mut call = params(json!({"name": "whoami", "arguments": {}}), &json!({}));
    call["_meta"]["progressToken"] = json!("t");
    let mut events = client.stream_of(send(&client, "tools/call", call).await);
    events.next().await.expect("progress");
    npm.remove("hold");
    let last = answer_of(&mut events, json!("r1")).await;
    assert_eq!(last["error"]["data"]["reason"], "start_failed", "{last}");
    assert!(events.next().await.is_none(), "nothing follows");
}

/// Who calls from a shell hears on standard error why nothing comes yet; what is printed is the answer alone.
#[tokio::test]
async fn call_says_what_it_waits_for() {
    let npm = Npm::new();
    npm.put("hold", "");
    let pool = Stdiopool::serve(&npm.server("thing", &["-y", "thing@1.0.0"], ""));
    let said = pool.dir.path().join("said");
    #[allow(clippy::disallowed_methods, reason = "the command under test")]
    let mut call = std::process::Command::new(BINARY)
        .args(["call", "thing", "whoami", "--url", &pool.url])
        .stdout(std::process::Stdio::piped())
        .stderr(fs::File::create(&said).expect("made"))
        .spawn()
        .expect("runs");
    until("it says what it waits for", || {
        let said = fs::read_to_string(&said).expect("there");
        said.contains("waiting for the answer to `initialize`")
            .then_some(())
    });
    npm.remove("hold");
    let ended = call.wait().expect("waited for");
    assert!(ended.success(), "{:?}", fs::read_to_string(&said));
    let mut printed = String::new();
    std::io::Read::read_to_string(&mut call.stdout.take().expect("a pipe"), &mut printed)
        .expect("read");
    assert!(
        printed.contains("1.0.0") && !printed.contains("waiting"),
        "{printed}"
    );
}
