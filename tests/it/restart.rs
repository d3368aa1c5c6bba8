//! Sessions go on when stdiopool is stopped and started, or killed.

use http::StatusCode;
use nix::sys::signal::Signal;
use serde_json::json;

use super::support::{Client, Stdiopool, demo};

/// A client of the session after a restart, which has changed the port.
fn back(client: &Client, pool: &Stdiopool) -> Client {
    let (_, path) = client.url.split_at(client.url.find("/t/").unwrap_or(0));
    let mut client = client.clone();
    client.url = format!("{}{path}", pool.url);
    client
}

async fn echoes(client: &Client) {
    let answer = client.call("echo", json!({"message": "still here"})).await;
    assert_eq!(answer.text(), "still here");
}

#[tokio::test]
async fn sessions_go_on_after_a_restart_and_after_a_kill() {
    let toml = demo("demo", "") + &demo("stateful", "stateful = true");
    let mut pool = Stdiopool::serve(&toml);
    let mut anna = pool.client_of("anna", "demo").connect().await;
    let mut bob = pool.client_of("bob", "demo").connect().await;
    let carl = pool.client_of("carl", "stateful").connect().await;
    let ended = pool.client_of("anna", "demo").connect().await;
    let subscribed = anna.ask("resources/subscribe", json!({"uri": "demo://counter"}));
    assert_eq!(subscribed.await.result(), &json!({}));
    // Answered when it is safe, with everything before it.
    assert_eq!(ended.delete().await, StatusCode::NO_CONTENT);

    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        pool = pool.restarted_after(signal);
        anna = back(&anna, &pool);
        bob = back(&bob, &pool);
        echoes(&anna).await;
        echoes(&bob).await;
        let mut events = anna.listen().await;
        let params = json!({"kind": "resource", "uri": "demo://counter"});
        anna.call("notify", params).await;
        let update = events.next().await.expect("open");
        assert_eq!(update["method"], "notifications/resources/updated");

        // Nobody else's by the way, and what is over or had state in its process stays over.
        let mut thief = pool.client_of("bob", "demo");
        thief.session = anna.session.clone();
        for gone in [&thief, &back(&carl, &pool), &back(&ended, &pool)] {
            let answer = gone.ask("tools/list", json!({})).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{answer:?}");
        }
        echoes(&anna).await;
    }
    assert_eq!(anna.delete().await, StatusCode::NO_CONTENT);
    pool = pool.restarted_after(Signal::SIGTERM);
    let over = back(&anna, &pool).ask("tools/list", json!({})).await;
    assert_eq!(over.status, StatusCode::NOT_FOUND);
    echoes(&back(&bob, &pool)).await;
}

#[tokio::test]
async fn a_session_id_is_not_written_down() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client_of("anna", "demo").connect().await;
    let id = client.session.clone().expect("a session");
    let mut seen = 0;
    for entry in std::fs::read_dir(pool.dir.path().join("state")).expect("the state folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let content = std::fs::read(&path).expect("read");
            assert!(
                memchr::memmem::find(&content, id.as_bytes()).is_none(),
                "{path:?}"
            );
            seen += usize::from(memchr::memmem::find(&content, b"anna").is_some());
        }
    }
    assert!(seen > 0, "the session itself is there");
}

#[tokio::test]
async fn a_damaged_state_is_refused_and_left_alone() {
    let dir = crate::support::open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &demo("demo", ""));
    let state = dir.path().join("state");
    std::fs::create_dir(&state).expect("made");
    let damaged = "no database at all, but long enough to look like one\n".repeat(100);
    std::fs::write(state.join("state.db"), &damaged).expect("written");
    let mut command = assert_cmd::Command::new(super::support::BINARY);
    let run = command.arg("serve").current_dir(dir.path()).assert();
    let run = run.failure().code(1);
    let said = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(said.contains("is damaged"), "{said}");
    let after = std::fs::read_to_string(state.join("state.db")).expect("read");
    assert_eq!(after, damaged);
}
