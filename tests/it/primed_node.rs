//! Node workers of processes that have waited: as they would be if each had been started, and what comes of processes that fail.

use std::collections::BTreeMap;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::primed::{
    ROUNDS, can_be_primed, descriptors_of, differences, ends_while_it_primes, pids_of, primed,
    templates, told,
};
use super::support::registry::Registry;
use super::support::{Client, Stdiopool, eventually, in_tree_of};

/// Both programs of the registry's package.
const PROGRAMS: [&str; 2] = ["primed-node", "primed-cjs"];

/// Servers of the registry's package: `aaaa` is started ordinarily, `bbbb` is primed. Their names are as long as each other.
fn servers(registry: &Registry, program: &str, more: &str) -> String {
    let server = |name: &str, keys: &str| {
        format!(
            r#"
[servers.{name}]
command = "npx"
args = ["-y", "--package=primed-node@1.0.0", "{program}", "--of", "two words", ""]
share = "session"
start_timeout = "120s"
limits = {{ open_files = 777, cpu_seconds = 500 }}
{keys}
[servers.{name}.env]
npm_config_registry = "{url}"
PRIMED_VALUE = "of a launch"
{more}
"#,
            url = registry.url
        )
    };
    format!(
        "[pool]\nqueue_timeout = \"120s\"\ncatalog_age = \"never\"\n{}{}",
        server("aaaa", "prime = \"off\""),
        server("bbbb", "prime = \"auto\"")
    )
}

/// Waits until a process waits for a start; its pid.
async fn waiting(pool: &Stdiopool) -> u32 {
    eventually("a process waits", async || {
        templates(pool).await["templates"][0]["state"] == "ready"
    })
    .await;
    let pid = templates(pool).await["templates"][0]["pid"].as_u64();
    u32::try_from(pid.expect("it runs")).expect("a pid")
}

async fn is_primed(client: &Client) -> bool {
    told(client, "is_primed").await == true
}

#[tokio::test]
async fn a_worker_that_has_waited_is_as_one_that_was_started() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    for program in PROGRAMS {
        let pool = Stdiopool::serve(&servers(&registry, program, ""));
        let pid = primed(&pool, "bbbb").await;
        let (started, waited) = (
            pool.client("aaaa").connect().await,
            pool.client("bbbb").connect().await,
        );
        assert!(!is_primed(&started).await, "{program}");
        assert!(is_primed(&waited).await, "{program}");
        assert_eq!(pids_of(&pool, "bbbb").await, [pid], "{program}");
        for tool in ["about", "child"] {
            let as_one = |value: Value| {
                let text = value.to_string().replace("bbbb", "aaaa");
                serde_json::from_str::<Value>(&text).expect("JSON")
            };
            let one = as_one(told(&started, tool).await);
            let other = as_one(told(&waited, tool).await);
            let mut found = BTreeMap::new();
            differences(tool, &one, &other, &mut found);
            assert!(found.is_empty(), "{program}: {found:#?}");
        }
        let list = started.ask("tools/list", json!({})).await;
        let other = waited.ask("tools/list", json!({})).await;
        assert_eq!(list.result(), other.result());
        // No thread of it has a right, or can get one.
        let threads = told(&waited, "threads").await;
        for thread in threads.as_array().expect("a list") {
            for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(thread[set], "0000000000000000", "{set} of {program}");
            }
        }
        // Each has a process of its own, and the next one waits already.
        let next = waiting(&pool).await;
        assert_ne!(next, pid);
        let second = pool.client("bbbb").connect().await;
        assert!(is_primed(&second).await);
        let metric = "stdiopool_worker_primed_starts_total{outcome=\"ok\",server=\"bbbb\"}";
        eventually("primed starts are counted", async || {
            pool.metric(metric).await >= 2.0
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_dependency_reads_or_does_while_it_is_imported_keeps_it_from_being_imported_ahead() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    for (program, kind) in PROGRAMS.into_iter().zip(["mjs", "cjs"]) {
        let pool = Stdiopool::serve(&servers(&registry, program, ""));
        primed(&pool, "bbbb").await;
        let all = templates(&pool).await;
        let template = &all["templates"][0];
        let ahead = template["modules"].as_array().expect("a list");
        let name = |name: &str| format!("primed-deps/{name}.{kind}");
        assert!(ahead.contains(&name("quiet").into()), "{template}");
        for (module, why) in [
            ("reads", "read PRIMED_VALUE"),
            ("needs", &*format!("needs {}", name("reads"))),
            ("prints", "printed"),
            ("children", "started a process"),
            ("threads", "started a thread"),
            ("timers", "left a timer or a connection"),
            ("looks", "looked for a file by the working directory"),
            ("asks", "read the arguments"),
        ] {
            assert_eq!(template["left_out"][name(module)], why, "{module}");
        }
        let own = &template["left_out"]["primed-node"];
        assert_eq!(own, "is the worker's own copy");
        // The process knows nothing of a tenant, and has no right over what is not its own.
        let file = |name: &str| {
            let path = format!("/proc/{}/{name}", template["pid"]);
            fs::read_to_string(path).expect("it runs")
        };
        assert!(!file("environ").contains("PRIMED_VALUE"));
        assert_eq!(file("uid_map"), "", "nobody is in its namespace of users");
        let shown = pool.command(&["prime", "bbbb"]).output().expect("it runs");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let line = format!("{}: printed", name("prints"));
        assert!(shown.contains(&line), "{shown}");
    }
}

#[tokio::test]
async fn a_worker_that_has_waited_sees_and_writes_what_is_its_tenants() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, PROGRAMS[1], ""));
    primed(&pool, "bbbb").await;
    let [started, waited] = ["aaaa", "bbbb"].map(|server| pool.client(server));
    let (started, waited) = (started.connect().await, waited.connect().await);
    assert!(is_primed(&waited).await);
    let code = async |client: &Client| {
        let code = told(client, "code").await;
        code.as_str().expect("a path").to_owned()
    };
    let (one, other) = (code(&started).await, code(&waited).await);
    let attempt = async |client: &Client, tool: &str, path: &str| {
        let answer = client.call(tool, json!({ "path": path })).await;
        answer.text().to_owned()
    };
    for (client, own, others) in [(&started, &one, &other), (&waited, &other, &one)] {
        let file = format!("{own}/beside.txt");
        assert_eq!(attempt(client, "write", &file).await, "\"done\"");
        let closed = attempt(client, "write", &format!("{others}/beside.txt")).await;
        assert!(
            ["\"ENOENT\"", "\"EACCES\""].contains(&closed.as_str()),
            "{closed}"
        );
        let entry = attempt(client, "write", &format!("{own}/../primed-deps/x")).await;
        assert!(
            ["\"EROFS\"", "\"EACCES\""].contains(&entry.as_str()),
            "{entry}"
        );
        assert_eq!(attempt(client, "read", "/etc/shadow").await, "\"EACCES\"");
    }
    let owner = |path: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).expect("it was written").uid()
    };
    let file = |folder: &str| owner(&format!("{folder}/beside.txt"));
    assert_eq!(file(&one), file(&other), "both are one tenant's");
}

#[tokio::test]
async fn a_worker_that_has_waited_ends_as_any_other() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, PROGRAMS[0], ""));
    primed(&pool, "bbbb").await;
    for (tool, arguments) in [("leave", json!({"status": 7})), ("end", json!({}))] {
        let mut ends = vec![];
        for server in ["aaaa", "bbbb"] {
            waiting(&pool).await;
            let client = pool.client(server).connect().await;
            assert_eq!(is_primed(&client).await, server == "bbbb");
            let answer = client.call(tool, arguments.clone()).await;
            ends.push(answer.message().replace(server, "SERVER"));
        }
        assert_eq!(ends[0], ends[1]);
    }
    // Processes that the worker has started end with it, wherever they have moved to.
    waiting(&pool).await;
    let client = pool.client("bbbb").connect().await;
    let orphan = told(&client, "orphan").await;
    let orphan = orphan.as_str().expect("a pid").to_owned();
    let pids = pids_of(&pool, "bbbb").await;
    assert_eq!(pids.len(), 1);
    client.delete().await;
    eventually("nothing of it is left", async || {
        !fs::exists(format!("/proc/{orphan}")).unwrap_or(true)
            && !fs::exists(format!("/proc/{}", pids[0])).unwrap_or(true)
    })
    .await;
}

#[tokio::test]
async fn a_process_that_waits_and_is_killed_is_replaced() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, PROGRAMS[0], ""));
    let pid = primed(&pool, "bbbb").await;
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("it is there");
    eventually("it is gone", async || {
        templates(&pool).await["templates"] == json!([])
    })
    .await;
    let next = pool.client("bbbb").connect().await;
    assert!(!is_primed(&next).await);
    waiting(&pool).await;
    let next = pool.client("bbbb").connect().await;
    assert!(is_primed(&next).await);
    assert_eq!(templates(&pool).await["barred"], json!([]));
}

#[tokio::test]
async fn a_process_that_waits_and_is_stopped_costs_a_start_some_seconds() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, PROGRAMS[0], ""));
    let pid = primed(&pool, "bbbb").await;
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGSTOP).expect("it is there");
    let client = pool.client("bbbb").connect().await;
    assert!(!is_primed(&client).await, "it was started ordinarily");
    eventually("nothing is left of it", async || {
        !fs::exists(format!("/proc/{pid}")).unwrap_or(true)
    })
    .await;
}

#[tokio::test]
async fn a_node_program_that_does_not_bear_it_is_started_ordinarily_from_then_on() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let more = "FAIL_WHEN_PRIMED = \"1\"\n";
    let pool = Stdiopool::serve(&servers(&registry, PROGRAMS[0], more));
    primed(&pool, "bbbb").await;
    for _ in 0..2 {
        let client = pool.client("bbbb").connect().await;
        assert!(!is_primed(&client).await);
    }
    let all = templates(&pool).await;
    let why = all["barred"][0]["why"].as_str().expect("it is barred");
    assert!(why.contains("it does not like to be primed"), "{why}");
}

#[tokio::test]
async fn processes_that_wait_and_have_waited_end_with_the_supervisor_that_is_killed() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let mut pool = Stdiopool::serve(&servers(&registry, PROGRAMS[0], ""));
    primed(&pool, "bbbb").await;
    let client = pool.client("bbbb").connect().await;
    let orphan = told(&client, "orphan").await;
    let orphan = orphan.as_str().expect("a pid").parse().expect("a pid");
    let mut pids = pids_of(&pool, "bbbb").await;
    pids.extend([waiting(&pool).await, orphan]);
    pool.signal(Signal::SIGKILL);
    pool.wait();
    eventually("nothing is left", async || {
        pids.iter()
            .all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true))
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_has_waited_dies_with_its_init_process() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, PROGRAMS[0], ""));
    let pid = primed(&pool, "bbbb").await;
    let client = pool.client("bbbb").connect().await;
    assert!(is_primed(&client).await);
    let parent_of = |pid: u32| -> u32 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let (_, rest) = stat.rsplit_once(')').expect("a name");
        let parent = rest.split(' ').nth(2).and_then(|it| it.parse().ok());
        parent.expect("its parent")
    };
    let init = parent_of(pid);
    let guardian = parent_of(init);
    // Nobody is left but the kernel to end it: the guardian does nothing while it is stopped.
    for (process, signal) in [(guardian, Signal::SIGSTOP), (init, Signal::SIGKILL)] {
        kill(Pid::from_raw(process.cast_signed()), signal).expect("it is there");
    }
    eventually("it is dead", async || {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
    // The guardian reaps what is left.
    kill(Pid::from_raw(guardian.cast_signed()), Signal::SIGCONT).expect("it is there");
}

#[tokio::test]
async fn many_starts_of_processes_that_waited_leave_nothing_behind() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, PROGRAMS[0], ""));
    let pid = primed(&pool, "bbbb").await;
    let parent_of = |pid: u32| -> u32 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let (_, rest) = stat.rsplit_once(')').expect("a name");
        let parent = rest.split(' ').nth(2).and_then(|it| it.parse().ok());
        parent.expect("its parent")
    };
    let guardian = parent_of(parent_of(pid));
    // The guardian, an init process, the process that waits.
    let count = || in_tree_of(guardian).len();
    eventually("the first ones are gone", async || count() == 3).await;
    let before = descriptors_of(guardian);
    let rounds = ROUNDS / 4;
    for _ in 0..rounds {
        waiting(&pool).await;
        let client = pool.client("bbbb").connect().await;
        client.delete().await;
    }
    waiting(&pool).await;
    eventually("all are gone, zombies too", async || count() == 3).await;
    // The guardian closes what it had of a process after that has gone.
    eventually("no descriptor is left", async || {
        descriptors_of(guardian) <= before
    })
    .await;
    let started = templates(&pool).await["templates"][0]["forked"].as_u64();
    assert!(
        started.is_some_and(|started| started >= rounds as u64),
        "{started:?}"
    );
}

#[tokio::test]
async fn a_process_that_is_to_wait_holds_up_no_shutdown() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    ends_while_it_primes(&servers(&registry, PROGRAMS[0], "")).await;
}

#[tokio::test]
async fn what_waits_goes_when_its_server_is_not_primed_any_more() {
    if !can_be_primed() {
        return;
    }
    let registry = Registry::start();
    let pool = Stdiopool::serve(&servers(&registry, PROGRAMS[0], ""));
    let pid = primed(&pool, "bbbb").await;
    let file = pool.dir.path().join("pool.toml");
    let config = fs::read_to_string(&file).expect("it is there");
    fs::write(&file, config.replace("prime = \"auto\"", "prime = \"off\"")).expect("written");
    pool.signal(Signal::SIGHUP);
    eventually("nothing waits", async || {
        templates(&pool).await["templates"] == json!([])
            && !fs::exists(format!("/proc/{pid}")).unwrap_or(true)
    })
    .await;
}

#[tokio::test]
async fn real_node_servers_answer_the_same_whether_they_have_waited() {
    if !can_be_primed() {
        return;
    }
    let packages = [
        (
            "@modelcontextprotocol/server-everything@2026.8.31",
            "",
            "echo",
            json!({"message": "hello"}),
        ),
        (
            "@modelcontextprotocol/server-filesystem@2026.8.31",
            "/tmp",
            "list_allowed_directories",
            json!({}),
        ),
    ];
    for (package, argument, tool, arguments) in packages {
        let more = match argument {
            "" => String::new(),
            argument => format!(", \"{argument}\""),
        };
        let server = |name: &str, prime: &str| {
            format!(
                "[servers.{name}]\ncommand = \"npx\"\nargs = [\"-y\", \"{package}\"{more}]\nshare = \"session\"\nstart_timeout = \"120s\"\nprime = \"{prime}\"\n"
            )
        };
        let pool = Stdiopool::serve(&format!(
            "[pool]\nqueue_timeout = \"120s\"\ncatalog_age = \"never\"\n{}{}",
            server("aaaa", "off"),
            server("bbbb", "auto")
        ));
        let pid = primed(&pool, "bbbb").await;
        let mut answers = vec![];
        for name in ["aaaa", "bbbb"] {
            let client = pool.client(name);
            let began = client.try_initialize("2025-06-18", json!({})).await;
            if name == "bbbb" {
                assert_eq!(pids_of(&pool, name).await, [pid], "{package}");
            }
            let client = pool.client(name).connect().await;
            let list = client.ask("tools/list", json!({})).await;
            let call = client.call(tool, arguments.clone()).await;
            answers.push([
                began.result().to_string(),
                list.result().to_string(),
                call.text().replace(name, "SERVER"),
            ]);
        }
        assert_eq!(answers[0], answers[1], "{package}");
    }
}
