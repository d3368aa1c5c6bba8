//! The dashboard in a real browser: of a real pool, and of one that does not exist, as large as it may be.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use super::support::{BINARY, Stdiopool, demo};

/// All of a script's steps, the start of its browser included, on a machine that is busy.
const BOUND: Duration = Duration::from_secs(600);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a script of `web/tests/browser`, and fails with what it says.
async fn script(name: &str, args: &[&str]) {
    let node = root().join("target/peers/node/node_modules/node/bin/node");
    let script = root().join("web/tests/browser").join(name);
    let packages = root().join("web/node_modules/playwright-core");
    assert!(packages.exists(), "run scripts/web --check");
    let run = tokio::process::Command::new(node)
        .arg(script)
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(BOUND, run).await;
    let output = output.expect("in time").expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{why}");
}

/// A server that says something on stderr first, with markup in it, and dies when its tool `die` is called.
fn dies() -> String {
    let binary = env!("CARGO_BIN_EXE_faulty-server");
    let script = "echo '<b>first words</b>' >&2; exec \"$0\" --mode die-mid-call";
    format!("[servers.dies]\ncommand = \"sh\"\nargs = [\"-c\", {script:?}, {binary:?}]\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_of_a_pool_is_live_and_its_buttons_act() {
    let broken = "[servers.broken]\ncommand = \"sh\"\nargs = [\"-c\", \"echo could not read the certificate >&2; exit 3\"]\n";
    let pool = Stdiopool::serve(&(demo("demo", "") + &dies() + broken));
    script("real.mjs", &[&pool.admin, &pool.url, BINARY]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_asks_for_the_admin_token() {
    let admin = "token = \"open-sesame-0123456789\"\n[auth]\nmode = \"none\"\n";
    let dir = super::support::open_folder().expect("a temporary folder");
    Stdiopool::write_config(dir.path(), admin, &demo("demo", ""));
    let config = dir.path().join("pool.toml").display().to_string();
    let token = "open-sesame-0123456789";
    let pool = Stdiopool::run(dir, &["--config".to_owned(), config], &[]);
    let args = [&pool.admin, &pool.url, BINARY, token];
    script("real.mjs", &args).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_of_two_thousand_workers_and_ten_thousand_tenants_is_small() {
    script("mock.mjs", &[]).await;
}
