//! What servers reach where stdiopool is another user than root and has subordinate users (subuid(5)): no more than under root.

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::prober::{World, assert_denied, attempt, is_root, quoted, told, user_of};
use super::support::{BINARY, Stdiopool};
use super::user::USER;

/// The first subordinate user, of as many as `sandbox.uids` has numbers: nobody's here.
const FIRST: u32 = 2_101_000_000;
const COUNT: u32 = 65_536;

/// Lets `$1` lie over /etc in a mount namespace of its own, and runs the rest as user `$2`.
const AS_USER: &str = "from=$1 user=$2; shift 2
for file in passwd subuid subgid; do mount --bind \"$from/$file\" \"/etc/$file\" || exit; done
exec setpriv --reuid=\"$user\" --regid=\"$user\" --clear-groups \"$@\"";

/// A host on which that user has subordinate users.
fn give_users(folder: &Path) {
    let passwd = std::fs::read_to_string("/etc/passwd").expect("there");
    let own = format!("{passwd}stdiopool-test:x:{USER}:{USER}::/:/bin/sh\n");
    let given = format!("stdiopool-test:{FIRST}:{COUNT}\n");
    for (name, text) in [("passwd", &own), ("subuid", &given), ("subgid", &given)] {
        std::fs::write(folder.join(name), text).expect("written");
    }
}

/// Whether this host can do what the test is about.
fn can_map() -> bool {
    let has = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    let has_program = has("newuidmap") && has("newgidmap");
    if !has_program {
        eprintln!("SKIPPED: newuidmap is not installed; `scripts/install uidmap` does that");
    }
    has_program
}

async fn world(more: &str) -> World {
    let etc = super::support::open_folder().expect("a folder");
    give_users(etc.path());
    let dir = tempfile::tempdir().expect("a temporary folder");
    chown(dir.path(), Some(USER), Some(USER)).expect("given");
    let run = |dir: tempfile::TempDir, args: &[String], env: &[(&str, &str)]| {
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                AS_USER,
                "sh",
            ])
            .arg(etc.path())
            .args([&USER.to_string(), BINARY])
            .env("HOME", dir.path());
        Stdiopool::start(command, dir, args, env)
    };
    World::in_folder(dir, more, run).await
}

#[tokio::test]
async fn tenants_have_users_of_their_own_also_without_root() {
    if !is_root() || !can_map() {
        return;
    }
    for more in ["", "sandbox = \"strict\""] {
        let world = world(more).await;
        let log = world.pool.log();
        assert!(log.contains("run as a user of their own"), "{log}");
        let workers = world.pool.workers().await;
        let user_of_tenant = |tenant: &str| {
            let worker = workers.iter().find(|worker| worker["tenant"] == tenant);
            user_of(worker.expect("it runs")["pid"].as_u64().expect("a number"))
        };
        let (anna, bob) = (user_of_tenant("anna"), user_of_tenant("bob"));
        assert_eq!(user_of(world.pool.pid().into()), USER);
        for user in [anna, bob] {
            assert!((FIRST..FIRST + COUNT).contains(&user), "{user}");
        }
        assert_ne!(anna, bob);
        let bobs = workers.iter().find(|worker| worker["tenant"] == "bob");
        let bobs = bobs.expect("it runs")["pid"].clone();
        for pid in [bobs, world.pool.pid().into()] {
            for file in ["environ", "mem", "maps"] {
                let code = format!("result = open('/proc/{pid}/{file}', 'rb').read(64).hex()");
                assert_denied(&world.anna, &code).await;
            }
            // "strict" has no such process: ESRCH.
            let said = attempt(&world.anna, &format!("os.kill({pid}, 0)")).await;
            assert!(
                [1, 3].contains(&said["errno"].as_i64().unwrap_or(0)),
                "{said}"
            );
        }
        for code in [
            "os.setuid(0)",
            "os.setgroups([])",
            "os.chown('.', 0, 0)",
            "os.seteuid(os.getuid() + 1)",
        ] {
            assert_denied(&world.anna, code).await;
        }
        let home = told(
            &world.bob,
            "open('mine', 'w').write('x')\nresult = os.getcwd()",
        )
        .await;
        let home = home.as_str().expect("a path");
        assert_denied(&world.anna, &format!("result = os.listdir({home:?})")).await;
        let database = quoted(&world.state().join("state.db"));
        assert_denied(
            &world.anna,
            &format!("result = open({database}, 'rb').read(1).hex()"),
        )
        .await;
        let status = attempt(
            &world.anna,
            "result = [line.split()[1] for line in open('/proc/self/status') if line.startswith('Cap')]",
        )
        .await;
        let none = "0000000000000000";
        assert_eq!(
            status["ok"],
            json!(vec![none; 5]),
            "no capability in any set"
        );
    }
}

#[tokio::test]
async fn who_wants_no_users_of_tenants_has_none() {
    if !is_root() || !can_map() {
        return;
    }
    let world = world("[sandbox]\nuids = \"none\"").await;
    let log = world.pool.log();
    assert!(log.contains("as `sandbox.uids` says"), "{log}");
    let workers = world.pool.workers().await;
    for worker in &workers {
        assert_eq!(user_of(worker["pid"].as_u64().expect("a number")), USER);
    }
}
