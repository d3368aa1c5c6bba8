//! Sockets of other tenants' servers.

use super::prober::{World, assert_denied, is_root, told};
use super::support::Stdiopool;

/// Listens at an address, until the process ends.
fn listen(address: &str) -> String {
    format!(
        "import socket, builtins\ns = socket.socket(socket.AF_UNIX)\ns.bind({address})\ns.listen()\nbuiltins.kept = getattr(builtins, 'kept', []) + [s]\nresult = s.getsockname().decode('latin1') if isinstance(s.getsockname(), bytes) else s.getsockname()"
    )
}

fn connect(address: &str) -> String {
    format!("import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({address})")
}

#[tokio::test]
async fn nobody_connects_to_the_sockets_of_another_tenant() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let in_tmp = format!("'/tmp/stdiopool-attacks-{}'", world.pool.pid());
    for address in ["os.environ['HOME'] + '/s'", &in_tmp] {
        let path = told(&world.bob, &listen(address)).await;
        let path = path.as_str().expect("a path");
        told(
            &world.bob,
            &format!("{}\nresult = 1", connect(&format!("{path:?}"))),
        )
        .await;
        assert_denied(&world.anna, &connect(&format!("{path:?}"))).await;
        std::fs::remove_file(path).expect("it is there");
    }
    if !has_scopes(&world.pool) {
        eprintln!("SKIPPED: abstract sockets are not kept apart before Linux 6.12");
        return;
    }
    let address = format!("'\\0stdiopool-attacks-{}'", world.pool.pid());
    told(&world.bob, &listen(&address)).await;
    told(&world.bob, &format!("{}\nresult = 1", connect(&address))).await;
    assert_denied(&world.anna, &connect(&address)).await;
}

/// Whether `stdiopool doctor` says that Landlock keeps abstract sockets apart.
fn has_scopes(pool: &Stdiopool) -> bool {
    let doctor = pool.command(&["doctor", "--json"]).output().expect("runs");
    let checks: serde_json::Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let mut checks = checks.as_array().expect("a list").iter();
    checks.any(|check| check["what"] == "Landlock" && check["ok"] == true)
}
