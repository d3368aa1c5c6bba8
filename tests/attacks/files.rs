//! Files of other tenants, of stdiopool, and those that all run.

use std::os::unix::fs::PermissionsExt;

use super::prober::{World, assert_denied, is_root, quoted, told};

#[tokio::test]
async fn folders_of_other_tenants_are_out_of_reach() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let code = "open(os.environ['HOME'] + '/mine', 'w').write('bobs')\nopen(os.environ['TMPDIR'] + '/mine', 'w').write('bobs')\nresult = [os.environ['HOME'], os.environ['TMPDIR'], os.environ['npm_config_cache'], os.environ['KEY_FILE']]";
    let of_bob = told(&world.bob, code).await;
    let of_anna = told(&world.anna, code).await;
    assert_ne!(of_bob, of_anna);
    let all = of_bob.as_array().expect("paths").iter();
    for path in all.filter_map(|path| path.as_str()) {
        assert!(std::path::Path::new(path).exists(), "{path} is there");
        assert_denied(&world.anna, &format!("result = os.listdir({path:?})")).await;
        let code = format!("result = open({path:?}).read()");
        assert_denied(&world.anna, &code).await;
        for file in ["mine", "new"] {
            let code = format!("open({path:?} + '/{file}', 'a').write('x')");
            assert_denied(&world.anna, &code).await;
        }
    }
    // By way of where it stands, and of what it may still hold open.
    for way in [
        "../../bob/probe/mine",
        "/proc/self/cwd/../../bob/probe/mine",
    ] {
        assert_denied(&world.anna, &format!("result = open({way:?}).read()")).await;
    }
    let mode = std::path::Path::new(of_bob[0].as_str().expect("a path"));
    let mode = mode.metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn the_state_folder_is_out_of_reach_but_for_its_own_folders() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let state = world.state();
    let found = std::fs::read_dir(&state).expect("there").flatten();
    let found: Vec<_> = found.map(|item| item.path()).collect();
    assert!(found.iter().any(|path| path.ends_with("state.db")));
    for path in &found {
        let path = quoted(path);
        for code in [
            format!(
                "result = os.listdir({path}) if os.path.isdir({path}) else open({path}, 'rb').read(16).hex()"
            ),
            format!(
                "os.mkdir({path} + '/new') if os.path.isdir({path}) else open({path}, 'ab').close()"
            ),
            format!("os.rename({path}, {path} + 'x')"),
            format!("os.chmod({path}, 0o777)"),
        ] {
            assert_denied(&world.anna, &code).await;
        }
    }
    let state = quoted(&state);
    assert_denied(&world.anna, &format!("result = os.listdir({state})")).await;
    assert_denied(&world.anna, &format!("os.mkdir({state} + '/new')")).await;
    // The key of another's secret, which only stdiopool reads.
    let key = quoted(&world.pool.dir.path().join("bob"));
    assert_denied(&world.anna, &format!("result = open({key}).read()")).await;
}

#[tokio::test]
async fn what_all_tenants_run_cannot_be_written() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let packages = world.state().join("packages");
    // As an install leaves it.
    let entry = packages.join("entries/pypi-x");
    std::fs::create_dir_all(&entry).expect("made");
    std::fs::write(entry.join("code.py"), "x").expect("written");
    let read = format!("result = open({}).read()", quoted(&entry.join("code.py")));
    assert_eq!(told(&world.anna, &read).await, "x", "it is read");
    for path in [
        "entries/pypi-x/code.py",
        "entries/pypi-x/new",
        "entries/new",
        "_npx/new",
        "refs/new",
        "tmp/new",
        "downloads/new",
    ] {
        let path = quoted(&packages.join(path));
        assert_denied(&world.anna, &format!("open({path}, 'a').write('x')")).await;
    }
    let entry = quoted(&entry);
    for code in [
        format!("os.chmod({entry}, 0o777)"),
        format!("os.rename({entry}, {entry} + 'x')"),
        format!("import shutil\nshutil.rmtree({entry})"),
    ] {
        assert_denied(&world.anna, &code).await;
    }
}
