//! What a worker that is primed tries: to be again who it was before it was its tenant's, and against the template or the process that waits, and
//! against another tenant's worker of the same version.

use super::prober::{attempt, is_root, user_of};
use super::support::registry::Registry;
use super::support::{Client, Stdiopool, eventually};

/// Names of errors (errno(3)): EPERM, ENOENT, EACCES; EINVAL for users that are not in the worker's namespace.
const REFUSED: [i64; 4] = [1, 2, 13, 22];

/// How a package is launched, and how its server's language puts attempts.
struct Attacker {
    line: &'static str,
    become_user: fn(u64) -> Vec<String>,
    signal: fn(u64) -> String,
    read: fn(&str) -> String,
    list: fn(&str) -> String,
}

const PYTHON: Attacker = Attacker {
    line: "command = \"uvx\"\nargs = [\"primed-py@1.0.0\"]",
    become_user: |user| {
        let call = |name: &str, argument: &str| format!("os.{name}({argument})");
        let user = user.to_string();
        vec![
            call("setuid", &user),
            call("setgid", &user),
            call("setgroups", &format!("[{user}]")),
        ]
    },
    signal: |pid| format!("os.kill({pid}, 9)"),
    read: |path| format!("result = open({path:?}, 'rb').read(8).hex()"),
    list: |path| format!("result = os.listdir({path:?})"),
};

const NODE: Attacker = Attacker {
    line: "command = \"npx\"\nargs = [\"-y\", \"--package=primed-node@1.0.0\", \"primed-node\"]",
    become_user: |user| {
        let call = |name: &str, argument: &str| format!("process.{name}({argument})");
        let user = user.to_string();
        vec![
            call("setuid", &user),
            call("setgid", &user),
            call("setgroups", &format!("[{user}]")),
        ]
    },
    signal: |pid| format!("process.kill({pid}, 9)"),
    read: |path| format!("fs.readSync(fs.openSync({path:?}), Buffer.alloc(8))"),
    list: |path| format!("fs.readdirSync({path:?})"),
};

async fn assert_refused(client: &Client, code: &str) {
    let said = attempt(client, code).await;
    let errno = said["errno"].as_i64();
    assert!(
        errno.is_some_and(|errno| REFUSED.contains(&errno)),
        "{code}: {said}"
    );
}

/// Waits until a template, or a process that waits, is ready; its pid.
async fn ready(pool: &Stdiopool) -> u64 {
    eventually("the next start is primed", async || {
        pool.admin_json("templates").await["templates"][0]["state"] == "ready"
    })
    .await;
    let all = pool.admin_json("templates").await;
    all["templates"][0]["pid"].as_u64().expect("it runs")
}

async fn pid_of(pool: &Stdiopool, tenant: &str) -> u64 {
    let workers = pool.workers().await;
    let own = workers.iter().find(|worker| worker["tenant"] == tenant);
    own.and_then(|it| it["pid"].as_u64()).expect("it runs")
}

async fn attack(attacker: &Attacker) {
    let registry = Registry::start();
    let pool = Stdiopool::serve(&format!(
        "[pool]\nqueue_timeout = \"120s\"\ncatalog_age = \"never\"\n[servers.probe]\n{}\nshare = \"session\"\nprime = \"auto\"\nstart_timeout = \"120s\"\n[servers.probe.env]\nnpm_config_registry = \"{url}\"\nUV_DEFAULT_INDEX = \"{url}/simple\"\n[tenants.anna]\n[tenants.bob]\n",
        attacker.line,
        url = registry.url
    ));
    let first = pool.client_of("anna", "probe").connect().await;
    first.delete().await;
    ready(&pool).await;
    let anna = pool.client_of("anna", "probe").connect().await;
    ready(&pool).await;
    let _bobs = pool.client_of("bob", "probe").connect().await;
    let next = ready(&pool).await;
    let metric = "stdiopool_worker_primed_starts_total{outcome=\"ok\",server=\"probe\"}";
    assert!(pool.metric(metric).await >= 2.0, "both are primed");
    let (own, bobs) = (pid_of(&pool, "anna").await, pid_of(&pool, "bob").await);
    assert_ne!(user_of(own), user_of(bobs));
    for user in [0, user_of(next), user_of(bobs)] {
        for code in (attacker.become_user)(user.into()) {
            assert_refused(&anna, &code).await;
        }
    }
    for pid in [next, bobs] {
        assert_ne!(user_of(own), user_of(pid));
        assert_refused(&anna, &(attacker.signal)(pid)).await;
        for file in ["environ", "mem", "maps", "cmdline"] {
            let code = (attacker.read)(&format!("/proc/{pid}/{file}"));
            assert_refused(&anna, &code).await;
        }
        for folder in ["fd", "cwd", "root", "map_files"] {
            let code = (attacker.list)(&format!("/proc/{pid}/{folder}"));
            assert_refused(&anna, &code).await;
        }
    }
    let bobs = pool.dir.path().join("state/data/bob");
    assert!(bobs.is_dir(), "what is tried to be read is there");
    let code = (attacker.list)(&bobs.display().to_string());
    assert_refused(&anna, &code).await;
}

#[tokio::test]
async fn a_worker_of_a_template_reaches_neither_that_nor_another_tenants() {
    if is_root() {
        attack(&PYTHON).await;
    }
}

#[tokio::test]
async fn a_worker_that_has_waited_reaches_neither_the_next_one_nor_another_tenants() {
    if is_root() {
        attack(&NODE).await;
    }
}
