//! What servers reach where stdiopool runs as another user than root, and all servers as that: what mount namespaces and Landlock keep apart.

use std::os::unix::fs::chown;

use super::prober::{World, assert_denied, is_root, quoted, told};
use super::support::Stdiopool;

/// A user that nobody is here.
pub(crate) const USER: u32 = 2_100_900_000;

#[tokio::test]
async fn servers_of_one_user_do_not_look_into_each_other() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    chown(dir.path(), Some(USER), Some(USER)).expect("given");
    let run = |dir, args: &[String], _env: &[(&str, &str)]| Stdiopool::run_as(USER, dir, args);
    let world = World::in_folder(dir, "", run).await;
    let log = world.pool.log();
    assert!(log.contains("run as one Unix user"), "it is said: {log}");
    let pid = told(&world.bob, "result = os.getpid()").await;
    for pid in [pid, world.pool.pid().into()] {
        for file in ["environ", "mem", "maps"] {
            let code = format!("result = open('/proc/{pid}/{file}', 'rb').read(64).hex()");
            assert_denied(&world.anna, &code).await;
        }
        assert_denied(
            &world.anna,
            &format!("result = os.readlink('/proc/{pid}/fd/0')"),
        )
        .await;
        assert_denied(&world.anna, &format!("os.kill({pid}, 0)")).await;
    }
    if log.contains("no mount namespaces") {
        eprintln!("SKIPPED: no mount namespaces for other users than root here");
        return;
    }
    let home = told(
        &world.bob,
        "open('mine', 'w').write('x')\nresult = os.getcwd()",
    )
    .await;
    let home = home.as_str().expect("a path");
    assert!(std::path::Path::new(home).join("mine").exists());
    assert_denied(&world.anna, &format!("result = os.listdir({home:?})")).await;
    for way in [
        "../../bob/probe/mine",
        "/proc/self/cwd/../../bob/probe/mine",
    ] {
        assert_denied(&world.anna, &format!("result = open({way:?}).read()")).await;
    }
    let state = world.state();
    assert_denied(
        &world.anna,
        &format!(
            "result = open({}, 'rb').read(1).hex()",
            quoted(&state.join("state.db"))
        ),
    )
    .await;
    let own = told(
        &world.anna,
        "open('mine', 'w').write('x')\nresult = os.listdir('.')",
    )
    .await;
    assert_eq!(own, serde_json::json!(["mine"]));
}
