//! What a server plants in its own folders for stdiopool, which is root, to follow.

use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
use std::path::Path;

use nix::sys::signal::Signal;

use super::prober::{World, assert_denied, is_root, told};
use super::support::private_file;

fn owner(path: &Path) -> u32 {
    path.symlink_metadata().expect("there").uid()
}

/// Makes a folder and all in it root's, as an earlier version left them; links as links.
fn as_of_earlier_version(folder: &Path) {
    for item in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = item.path();
        if item.file_type().expect("a type").is_dir() {
            as_of_earlier_version(&path);
        }
        lchown(&path, Some(0), Some(0)).expect("given");
    }
    chown(folder, Some(0), Some(0)).expect("given");
}

#[tokio::test]
async fn folders_of_an_earlier_version_are_given_to_their_tenant_and_nothing_that_was_planted() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let home = world.state().join("data/anna/probe");
    let code = "os.makedirs('deep/er')\nopen('deep/er/own', 'w').write('x')\nos.symlink('/etc/passwd', 'deep/link')\nresult = os.getuid()";
    let user = told(&world.anna, code).await;
    let user = u32::try_from(user.as_u64().expect("a number")).expect("a user");
    let target = world.pool.dir.path().join("precious");
    private_file(&target, "x");
    let World { pool, .. } = world;
    // A server that ran as root may have made both.
    std::fs::hard_link(&target, home.join("deep/hard")).expect("linked");
    symlink(&target, home.join("deep/soft")).expect("linked");
    symlink(pool.dir.path(), home.join("up")).expect("linked");
    as_of_earlier_version(&home);
    let pool = pool.restarted_after(Signal::SIGTERM);
    let anna = pool.client_of("anna", "probe").connect().await;
    let again = told(
        &anna,
        "open('deep/er/own', 'a').write('y')\nresult = os.getuid()",
    )
    .await;
    assert_eq!(again, user, "the same user, to whom the folder is given");
    assert_eq!(owner(&home.join("deep/er/own")), user);
    assert_eq!(owner(&home.join("deep/soft")), user, "the link itself");
    for untouched in [
        target.as_path(),
        &home.join("deep/hard"),
        Path::new("/etc/passwd"),
    ] {
        assert_eq!(owner(untouched), 0, "{}", untouched.display());
    }
    assert_eq!(owner(pool.dir.path()), 0);
    assert_denied(&anna, "result = open('deep/hard').read()").await;
    assert!(
        pool.log().contains("names outside of the folder"),
        "it is said"
    );
}

#[tokio::test]
async fn links_and_pipes_in_its_folders_lead_stdiopool_nowhere() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let target = world.pool.dir.path().join("precious");
    private_file(&target, "x");
    let folder = world.pool.dir.path().join("folder");
    std::fs::create_dir(&folder).expect("made");
    std::fs::write(folder.join("file"), "x").expect("written");
    let code = format!(
        "os.symlink({target:?}, os.environ['TMPDIR'] + '/soft')\nos.symlink({folder:?}, os.environ['TMPDIR'] + '/up')\nos.mkfifo('.npmrc')\nos.makedirs(os.environ['npm_config_cache'] + '/_npx/x/node_modules')\nos.mkfifo(os.environ['npm_config_cache'] + '/_npx/x/node_modules/.package-lock.json')\nresult = 1"
    );
    told(&world.anna, &code).await;
    for code in [
        // Folders that stdiopool made are not its to move or replace.
        "os.rename(os.environ['HOME'], os.environ['HOME'] + 'x')",
        "os.symlink('/etc', os.path.dirname(os.environ['TMPDIR']) + '/other')",
        "os.rename(os.environ['npm_config_cache'], os.environ['npm_config_cache'] + 'x')",
    ] {
        assert_denied(&world.anna, code).await;
    }
    let code = format!("os.link({target:?}, 'hard')");
    assert_denied(&world.anna, &code).await;
    // What is temporary is removed, as root, when stdiopool starts.
    let World { pool, .. } = world;
    let pool = pool.restarted_after(Signal::SIGKILL);
    let anna = pool.client_of("anna", "probe").connect().await;
    let left = told(&anna, "result = os.listdir(os.environ['TMPDIR'])").await;
    assert_eq!(left, serde_json::json!([]));
    assert_eq!(std::fs::read_to_string(&target).expect("there"), "x");
    assert!(folder.join("file").exists());
    assert_eq!(owner(&target), 0);
}
