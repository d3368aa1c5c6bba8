//! What is over is still told: workers that have ended, what happened, why a server does not run.

use serde_json::{Value, json};

use super::support::{Stdiopool, demo, eventually, eventually_within, faulty};

/// What a command prints, on stdout and on stderr, and whether it succeeds.
pub(crate) fn ran(pool: &Stdiopool, args: &[&str]) -> (bool, String, String) {
    let output = pool.command(args).output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

async fn ended(pool: &Stdiopool, enough: usize) -> Vec<Value> {
    let all = async || pool.admin_json("ended").await.as_array().cloned();
    eventually("workers have ended", async || {
        all().await.is_some_and(|rows| rows.len() >= enough)
    })
    .await;
    all().await.expect("rows")
}

#[tokio::test]
async fn a_crash_loop_is_seen_in_ps_in_logs_in_servers_and_in_events() {
    let more = "env = { KEY = \"${secret.key}\" }";
    let toml = faulty("bad", &["--mode", "exit-at-once", "--status", "7"], more)
        + "[tenants.default]\nsecrets.key = { command = [\"echo\", \"s3cr3t-value\"] }\n";
    let pool = Stdiopool::serve(&toml);
    let client = pool.client("bad");
    client.try_initialize("2025-11-25", json!({})).await;
    let rows = ended(&pool, 1).await;
    let (id, reason) = (rows[0]["id"].as_str().expect("an id"), &rows[0]["reason"]);
    assert_eq!(
        (reason, &rows[0]["exit"]),
        (&json!("start_failed"), &json!("exit 7"))
    );

    // Nothing runs, and yet there is something to see.
    let (ok, table, said) = ran(&pool, &["ps"]);
    assert!(ok && said.contains("no workers now"), "{said}");
    for part in ["ENDED", id, "bad", "start_failed", "exit 7", "cannot start"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let (_, all, _) = ran(&pool, &["ps", "--all", "--json"]);
    let all: Vec<Value> = serde_json::from_str(&all).expect("JSON");
    assert_eq!(
        (&all[0]["state"], &all[0]["id"]),
        (&json!("ended"), &json!(id))
    );

    for args in [
        vec!["logs", id],
        vec!["logs", "--server", "bad", "--previous"],
    ] {
        let (ok, lines, said) = ran(&pool, &args);
        assert!(
            ok && lines.contains("cannot start"),
            "{args:?}: {lines}{said}"
        );
        assert!(
            lines.contains("[redacted]") && !lines.contains("s3cr3t"),
            "{lines}"
        );
        assert!(
            said.contains(&format!("{id} ended at ")) && said.contains("(exit 7)"),
            "{said}"
        );
    }
    let (ok, lines, _) = ran(&pool, &["logs", id, "--follow"]);
    assert!(ok && lines.contains("cannot start"), "{lines}");
    let (ok, _, why) = ran(&pool, &["logs", "--server", "bad"]);
    assert!(
        !ok && why.contains("no worker runs of server `bad`"),
        "{why}"
    );
    assert!(why.contains("--previous"), "{why}");
    let (ok, _, why) = ran(&pool, &["stop", id]);
    assert!(!ok && why.contains(&format!("{id} ended at ")), "{why}");
    assert!(why.contains("(exit 7); its last lines:"), "{why}");
    assert!(why.contains("cannot start"), "{why}");
    let (ok, _, why) = ran(&pool, &["logs", "w99"]);
    assert!(!ok && why.contains("no worker `w99`"), "{why}");

    let server = &pool.admin_json("servers").await[0];
    let error = &server["last_error"];
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|it| it.contains("status 7")),
        "{server}"
    );
    assert_eq!(error["worker"], *id);
    assert!(
        server["retry_in_seconds"]
            .as_f64()
            .is_some_and(|wait| wait > 0.0),
        "{server}"
    );
    assert_eq!(server["circuit"], "closed");

    let (ok, lines, said) = ran(&pool, &["events", "--since", "10m", "--server", "bad"]);
    assert!(ok, "{said}");
    let kinds = ["worker_starting", "worker_start_failed"].map(|kind| lines.find(kind));
    assert!(kinds[0].is_some() && kinds[0] < kinds[1], "{lines}");
    assert!(!lines.contains("s3cr3t"), "{lines}");
    let (_, none, _) = ran(&pool, &["events", "--server", "other"]);
    assert_eq!(none, "");
    let (_, rows, _) = ran(&pool, &["events", "--json"]);
    assert!(
        rows.lines()
            .all(|row| serde_json::from_str::<Value>(row).is_ok()),
        "{rows}"
    );
}

#[tokio::test]
async fn an_open_circuit_is_told_with_its_server_and_when_it_is_tried_next() {
    let toml = faulty("bad", &["--mode", "exit-at-once"], "");
    let pool = Stdiopool::serve(&toml);
    // Each tenant has keys of its own, and several fail: that is the server's fault.
    for tenant in ["a", "b", "c", "d"] {
        let client = pool.client_of(tenant, "bad");
        client.try_initialize("2025-11-25", json!({})).await;
    }
    let server = pool.admin_json("servers").await[0].clone();
    assert_eq!(server["circuit"], "open", "{server}");
    assert_eq!(server["circuit_tenants"], json!([]));
    assert!(
        server["retry_in_seconds"]
            .as_f64()
            .is_some_and(|wait| wait > 1.0),
        "{server}"
    );
}

#[tokio::test]
async fn an_open_circuit_of_one_configuration_is_told_with_whose_it_is_and_its_error() {
    let toml = faulty("bad", &["--mode", "exit-at-once"], "") + &demo("good", "");
    let pool = Stdiopool::serve(&toml);
    let client = pool.client_of("acme", "bad");
    let row = async |name: &str| {
        let servers = pool.admin_json("servers").await;
        let all = servers.as_array().expect("rows");
        let found = all.iter().find(|row| row["name"] == name);
        found.expect("a row").clone()
    };
    // Each try waits for the one before, a second first, then two, four, and eight.
    eventually_within(std::time::Duration::from_secs(60), "it opens", async || {
        let answer = client.try_initialize("2025-11-25", json!({})).await;
        answer.reason() == "circuit_open"
    })
    .await;
    let server = row("bad").await;
    assert_eq!(server["circuit"], "open", "{server}");
    assert_eq!(server["circuit_tenants"], json!([]), "{server}");
    assert_eq!(server["circuit_configurations_total"], 1, "{server}");
    let open = &server["circuit_configurations"][0];
    assert_eq!(
        (&open["tenant"], &open["failures_in_a_row"]),
        (&json!("acme"), &json!(5))
    );
    assert!(
        open["retry_in_seconds"].as_f64().is_some_and(|it| it > 1.0),
        "{server}"
    );
    let error = open["last_error"].as_str().unwrap_or_default();
    assert!(error.contains("could not be started"), "{server}");
    let status = pool.admin_json("status").await;
    let circuit = &status["circuits"][0];
    assert_eq!(
        (
            &circuit["server"],
            &circuit["tenant"],
            &circuit["configuration"]
        ),
        (&json!("bad"), &json!("acme"), &json!(true))
    );
    assert_eq!(row("good").await["circuit"], "closed");
    let metrics = pool.metrics().await;
    assert!(
        metrics.contains("stdiopool_circuits_open{server=\"bad\"} 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("stdiopool_circuits_open{server=\"good\"} 0\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn an_eviction_says_why_and_for_whom() {
    let toml = "[pool]\nmax_workers = 1\n".to_owned() + &demo("demo", "");
    let pool = Stdiopool::serve(&toml);
    for tenant in ["first", "third"] {
        let client = pool.client_of(tenant, "demo").connect().await;
        client.call("echo", json!({"message": "x"})).await.text();
    }
    let rows = ended(&pool, 1).await;
    let why = "evicted: max_workers, to make room for tenant `third`";
    assert_eq!(
        (&rows[0]["reason"], &rows[0]["message"], &rows[0]["tenant"]),
        (&json!("evicted"), &json!(why), &json!("first"))
    );
    let log = pool.log();
    let line = log.lines().find(|line| line.contains(why)).expect("logged");
    assert!(
        line.contains("tenant=\"first\"") || line.contains("tenant=first"),
        "{line}"
    );
    let (_, events, _) = ran(&pool, &["events", "--tenant", "first"]);
    let exited = events.lines().find(|line| line.contains("worker_exited"));
    assert!(exited.is_some_and(|line| line.ends_with(why)), "{events}");
    // What an operator asked for is no failure, and so not shown unasked.
    let (_, table, _) = ran(&pool, &["ps"]);
    assert!(
        !table.contains("ENDED") && table.contains("third"),
        "{table}"
    );
    let (_, table, _) = ran(&pool, &["ps", "--all"]);
    assert!(table.contains(why), "{table}");
}

#[tokio::test]
async fn one_tenants_workers_do_not_push_out_what_is_known_of_anothers() {
    let pool = Stdiopool::serve(&demo("good", ""));
    let quiet = pool.client_of("quiet", "good").connect().await;
    quiet.call("echo", json!({"message": "x"})).await.text();
    let (ok, ..) = ran(&pool, &["stop", "w1"]);
    assert!(ok);
    ended(&pool, 1).await;
    let loud = pool.client_of("loud", "good").connect().await;
    // Each stop is an ended worker of the loud tenant.
    for _ in 0..40 {
        loud.call("echo", json!({"message": "x"})).await.text();
        let workers = pool.workers().await;
        let id = workers[0]["id"].as_str().expect("an id").to_owned();
        ran(&pool, &["stop", &id]);
        eventually("it has ended", async || pool.workers().await.is_empty()).await;
    }
    let rows = ended(&pool, 33).await;
    let of = |tenant: &str| rows.iter().filter(|row| row["tenant"] == *tenant).count();
    assert_eq!((of("quiet"), of("loud")), (1, 32));
}

#[tokio::test]
async fn commands_find_the_one_that_runs_when_its_address_has_changed() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let file = pool.dir.path().join("pool.toml");
    let before = std::fs::read_to_string(&file).expect("written");
    // Nobody listens there.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = unused.local_addr().expect("bound").port();
    drop(unused);
    let changed = before.replacen(
        "[admin]\nlisten = \"127.0.0.1:0\"",
        &format!("[admin]\nlisten = \"127.0.0.1:{port}\""),
        1,
    );
    let changed = changed + "[audit]\nfile = \"audit.jsonl\"\n";
    std::fs::write(&file, changed).expect("written");
    let run = |args: &[&str]| {
        let mut command = pool.command(args);
        command
            .env_remove("STDIOPOOL_ADMIN")
            .current_dir(pool.dir.path());
        let output = command.output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (ok, said, notice) = run(&["reload"]);
    assert!(ok, "{said}{notice}");
    let at = pool.admin.trim_start_matches("http://");
    let told =
        format!("pool.toml says 127.0.0.1:{port}; one runs at {at} (takes effect after a restart)");
    assert!(notice.contains(&told), "{notice}");
    // What a reload does not put in force is named.
    for key in ["`admin.listen`", "`audit.file`"] {
        assert!(said.contains(key), "{said}");
    }
    let (ok, accounts, notice) = run(&["tenant", "list"]);
    assert!(ok && notice.contains(&told), "{accounts}{notice}");
}

#[tokio::test]
async fn call_finds_the_one_that_runs_when_its_address_has_changed() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let file = pool.dir.path().join("pool.toml");
    let before = std::fs::read_to_string(&file).expect("written");
    // Nobody listens there.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = unused.local_addr().expect("bound").port();
    drop(unused);
    let changed = before.replacen(
        "[http]\nlisten = \"127.0.0.1:0\"",
        &format!("[http]\nlisten = \"127.0.0.1:{port}\""),
        1,
    );
    assert_ne!(changed, before);
    let call = || {
        let mut command = pool.command(&["call", "demo", "add", "{\"a\":1,\"b\":2}"]);
        command
            .env_remove("STDIOPOOL_URL")
            .current_dir(pool.dir.path());
        let output = command.output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let at = pool.url.trim_start_matches("http://").trim_end_matches('/');
    let told =
        format!("pool.toml says 127.0.0.1:{port}; one runs at {at} (takes effect after a restart)");
    // Also where the state folder is another by now.
    let moved = changed.replacen("dir = \"state\"", "dir = \"elsewhere\"", 1);
    assert_ne!(moved, changed);
    for text in [&changed, &moved] {
        std::fs::write(&file, text).expect("written");
        let (answer, notice) = call();
        assert_eq!(answer.trim(), "3", "{notice}");
        assert!(notice.contains(&told), "{notice}");
    }
    std::fs::write(&file, before).expect("written");
    let (answer, notice) = call();
    assert_eq!(
        (answer.trim(), notice.as_str()),
        ("3", ""),
        "nothing has changed"
    );
}

#[tokio::test]
async fn commands_find_the_one_that_runs_when_its_state_folder_has_changed_too() {
    let pool = Stdiopool::serve(&demo("demo", "[tenants.acme]"));
    let file = pool.dir.path().join("pool.toml");
    let before = std::fs::read_to_string(&file).expect("written");
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = unused.local_addr().expect("bound").port();
    drop(unused);
    let changed = before.replacen(
        "[admin]\nlisten = \"127.0.0.1:0\"",
        &format!("[admin]\nlisten = \"127.0.0.1:{port}\""),
        1,
    );
    let changed = changed.replacen("dir = \"state\"", "dir = \"elsewhere\"", 1);
    assert!(changed != before && changed.contains("elsewhere"));
    std::fs::write(&file, changed).expect("written");
    let run = |args: &[&str]| {
        let mut command = pool.command(args);
        command
            .env_remove("STDIOPOOL_ADMIN")
            .current_dir(pool.dir.path());
        let output = command.output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let at = pool.admin.trim_start_matches("http://");
    let (ok, said) = run(&["reload"]);
    for told in [
        format!("pool.toml says 127.0.0.1:{port}; one runs at {at} (takes effect after a restart)"),
        "`admin.listen` and `state.dir` take effect after a restart".to_owned(),
    ] {
        assert!(ok && said.contains(&told), "{told}: {said}");
    }
    let (ok, said) = run(&["ps"]);
    assert!(ok && said.contains("no workers now"), "{said}");
    // Accounts are those of the one that runs, not of the folder that it will have.
    let (ok, said) = run(&["tenant", "add", "globex"]);
    assert!(ok && said.contains("another state folder"), "{said}");
    let rows = pool.admin_json("accounts").await;
    assert!(rows.to_string().contains("globex"), "{rows}");
    assert!(!pool.dir.path().join("elsewhere").exists());
    // Nobody serves another file.
    let other = crate::support::open_folder().expect("a folder");
    let copy = other.path().join("pool.toml");
    std::fs::copy(&file, &copy).expect("copied");
    let (ok, said) = run(&["ps", "--config", &copy.display().to_string()]);
    assert!(!ok && said.contains("no stdiopool answers"), "{said}");
}

#[tokio::test]
async fn a_process_that_dies_of_the_first_question_is_told_as_what_it_is() {
    let script = "import sys, json\nfor line in sys.stdin:\n    asked = json.loads(line)\n    if asked['method'] == 'server/discover': sys.exit('boom of the probe')\n    if 'id' not in asked: continue\n    told = {'protocolVersion': '2025-06-18', 'capabilities': {'tools': {}}, 'serverInfo': {'name': 'x', 'version': '1'}, 'tools': []}\n    print(json.dumps({'jsonrpc': '2.0', 'id': asked['id'], 'result': told}), flush=True)\n";
    let toml = format!(
        "[servers.dies]\ncommand = \"python3\"\nargs = [\"-c\", {}]\n",
        json!(script)
    );
    let pool = Stdiopool::serve(&toml);
    let params = super::support::stateless::params(json!({}), &json!({}));
    let client = pool.client("dies");
    let (_, _, list) = super::support::stateless::ask(&client, "tools/list", params).await;
    assert!(list["result"]["tools"].is_array(), "{list}");
    let rows = ended(&pool, 1).await;
    assert_eq!(rows[0]["reason"], "declined", "{rows:?}");
    let message = rows[0]["message"].as_str().unwrap_or_default();
    for part in [
        "exited with status 1",
        "`server/discover`",
        "boom of the probe",
        "other era is tried",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn logs_of_a_server_that_is_not_there_say_which_are() {
    let pool = Stdiopool::serve(&(demo("one", "") + &demo("two", "")));
    let (ok, _, said) = ran(&pool, &["logs", "--server", "nope"]);
    assert!(!ok);
    assert!(said.contains("no server `nope`"), "{said}");
    assert!(said.contains("there are `one` and `two`"), "{said}");
    let (ok, _, said) = ran(&pool, &["logs", "--server", "one"]);
    assert!(
        !ok && said.contains("no worker runs of server `one`"),
        "{said}"
    );
}
