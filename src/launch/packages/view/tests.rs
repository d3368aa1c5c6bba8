use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::super::manifest::{self, Manifest};
use super::*;

/// An entry of that name with a package `a` that has these files, and a dependency.
fn entry(dir: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let entry = dir.join("entries").join(name);
    let own = files
        .iter()
        .map(|(path, text)| (format!("node_modules/a/{path}"), *text));
    let dep = ("node_modules/dep/index.js".to_owned(), "dep");
    for (path, text) in own.chain([dep]) {
        let path = entry.join(path);
        fs::create_dir_all(path.parent().expect("below")).expect("made");
        fs::write(path, text).expect("written");
    }
    fs::create_dir_all(entry.join("node_modules/.bin")).expect("made");
    symlink("../a/x.js", entry.join("node_modules/.bin/a")).expect("linked");
    let digest = Manifest::of(&entry).expect("readable").write(&entry);
    let about = json!({ "manifest": digest.expect("written") });
    fs::write(entry.join(manifest::ABOUT), about.to_string()).expect("written");
    entry
}

fn prepare_when(
    root: &Path,
    entry: &Path,
    still_running: StillRunning,
) -> Result<Arc<View>, ViewError> {
    let wanted = Wanted {
        package: "a",
        version: "1",
        entry,
        program: Path::new("node_modules/.bin/a"),
        writable: &[],
        user: None,
    };
    Views::default().prepare(root, &wanted, still_running)
}

fn prepare(root: &Path, entry: &Path) -> Result<PathBuf, ViewError> {
    let view = prepare_when(root, entry, StillRunning::Refuse)?;
    Ok(view.folder().to_owned())
}

fn read(view: &Path, path: &str) -> String {
    fs::read_to_string(view.join("node_modules").join(path))
        .unwrap_or_else(|error| error.to_string())
}

#[test]
fn each_has_its_own_files_and_shares_the_rest() {
    let dir = tempfile::tempdir().expect("a folder");
    let entry = entry(dir.path(), "1", &[("x.js", "x"), ("data/y.json", "y")]);
    let [anna, bob] =
        ["anna", "bob"].map(|name| prepare(&dir.path().join(name), &entry).expect("made"));
    fs::write(anna.join("node_modules/a/memory.json"), "anna's").expect("written");
    fs::write(anna.join("node_modules/a/x.js"), "changed").expect("written");
    assert_eq!(read(&bob, "a/x.js"), "x");
    assert!(!bob.join("node_modules/a/memory.json").exists());
    assert_eq!(
        fs::read(entry.join("node_modules/a/x.js")).expect("there"),
        b"x"
    );
    for view in [&anna, &bob] {
        assert_eq!(read(view, "dep/index.js"), "dep");
        let dep = view.join("node_modules/dep").canonicalize().expect("there");
        assert_eq!(
            dep,
            entry
                .canonicalize()
                .expect("there")
                .join("node_modules/dep")
        );
        let program = view
            .join("node_modules/.bin/a")
            .canonicalize()
            .expect("there");
        assert_eq!(
            program,
            view.canonicalize()
                .expect("there")
                .join("node_modules/a/x.js")
        );
    }
    let again = prepare(&dir.path().join("anna"), &entry).expect("there");
    assert_eq!(again, anna);
    assert_eq!(read(&again, "a/memory.json"), "anna's");
}

#[test]
fn another_version_finds_what_was_written_and_has_its_own_code() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = [
        ("x.js", "1"),
        ("same.json", "s"),
        ("both.db", "1"),
        ("gone.js", "g"),
    ];
    let old = entry(dir.path(), "1", &first);
    let new = entry(
        dir.path(),
        "2",
        &[("x.js", "2"), ("same.json", "s"), ("both.db", "2")],
    );
    let root = dir.path().join("views");
    let running = prepare_when(&root, &old, StillRunning::Refuse).expect("made");
    let before = running.folder().to_owned();
    let own = before.join("node_modules/a");
    for (name, text) in [
        ("memory.json", "m"),
        ("deep/er.json", "d"),
        ("same.json", "mine"),
        ("both.db", "mine"),
    ] {
        let path = own.join(name);
        fs::create_dir_all(path.parent().expect("below")).expect("made");
        fs::write(path, text).expect("written");
    }
    // What a hostile server may put there to have another's files copied.
    fs::write(dir.path().join("secret"), "secret").expect("written");
    symlink(dir.path().join("secret"), own.join("link.json")).expect("linked");
    symlink(dir.path(), own.join("folder")).expect("linked");

    let refused = prepare(&root, &new).expect_err("a worker runs from it");
    assert!(matches!(refused, ViewError::InUse { .. }), "{refused}");
    let after = prepare_when(&root, &new, StillRunning::GoOn).expect("made");
    let after = after.folder().to_owned();
    assert_ne!(after, before);
    let seen = [
        "x.js",
        "same.json",
        "both.db",
        "memory.json",
        "deep/er.json",
    ];
    let seen = seen.map(|name| read(&after, &format!("a/{name}")));
    assert_eq!(seen, ["2", "mine", "2", "m", "d"]);
    for name in ["gone.js", "link.json", "folder"] {
        let path = after.join("node_modules/a").join(name);
        assert!(path.symlink_metadata().is_err(), "{name}");
    }
    let left = fs::read_to_string(root.join("left-behind/node_modules/a/both.db"));
    assert_eq!(left.expect("kept"), "mine");
    prepare(&root, &new).expect("there");
    assert!(before.exists(), "a worker runs from it");
    // The old version's worker writes something, and ends.
    fs::write(own.join("late.json"), "late").expect("written");
    drop(running);
    prepare(&root, &new).expect("there");
    assert!(!before.exists(), "none does any more");
    assert!(after.exists());
    let left = |name: &str| fs::read_to_string(root.join("left-behind/node_modules/a").join(name));
    assert_eq!(left("late.json").expect("kept"), "late");
    assert!(left("memory.json").is_err(), "it was carried over");
}

#[test]
fn nothing_is_copied_that_is_not_as_installed() {
    let dir = tempfile::tempdir().expect("a folder");
    let entry = entry(dir.path(), "1", &[("x.js", "x")]);
    fs::write(entry.join("node_modules/a/x.js"), "evil").expect("written");
    let root = dir.path().join("views");
    let error = prepare(&root, &entry).expect_err("damaged");
    assert!(error.is_damage(), "{error}");
    assert_eq!(
        fs::read_dir(&root).expect("there").count(),
        0,
        "nothing half made is left"
    );
}

#[test]
fn what_a_server_changed_of_its_package_is_known() {
    let dir = tempfile::tempdir().expect("a folder");
    let entry = entry(dir.path(), "1", &[("x.js", "x"), ("y.js", "y")]);
    let view = prepare(&dir.path().join("views"), &entry).expect("made");
    fs::write(view.join("node_modules/a/memory.json"), "m").expect("written");
    assert_eq!(changes(&view), Vec::<String>::new());
    fs::write(view.join("node_modules/a/x.js"), "broken").expect("written");
    fs::remove_file(view.join("node_modules/dep")).expect("a link");
    assert_eq!(changes(&view), ["node_modules/a/x.js", "node_modules/dep"]);
}

#[test]
fn workers_of_another_version_that_wrote_nothing_are_not_waited_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let [old, new] = ["1", "2"].map(|name| entry(dir.path(), name, &[("x.js", name)]));
    let root = dir.path().join("views");
    let running = prepare_when(&root, &old, StillRunning::Refuse).expect("made");
    let next =
        prepare_when(&root, &new, StillRunning::Refuse).expect("nothing is to be waited for");
    fs::write(running.folder().join("node_modules/a/late.json"), "late").expect("written");
    drop(running);
    prepare(&root, &new).expect("there");
    let late = fs::read_to_string(root.join("left-behind/node_modules/a/late.json"));
    assert_eq!(late.expect("kept"), "late");
    fs::write(next.folder().join("node_modules/a/x.js"), "changed").expect("written");
    let refused = prepare(&root, &old).expect_err("that may be half written");
    assert!(matches!(refused, ViewError::InUse { .. }), "{refused}");
}

#[test]
fn a_dependency_that_could_not_write_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let site = dir.path().join("venv/lib/python3/site-packages");
    fs::create_dir_all(site.join("my_dep-1.0.dist-info")).expect("made");
    fs::write(site.join("my_dep-1.0.dist-info/RECORD"), "dep/x.py,,\n").expect("written");
    let shown = dir.path().display();
    let of = |lines: &str| read_only_dependency(lines, &[Path::new("/packages"), dir.path()]);
    let node = "    at f (/packages/a/node_modules/other/x.js:1)\n  code: 'EROFS',\n  path: '/packages/a/node_modules/@x/dep/c.json'\n";
    assert_eq!(of(node).as_deref(), Some("@x/dep"));
    let python = format!(
        "  File \"{shown}/venv/x.py\"\nOSError: [Errno 30] Read-only file system: '{shown}/venv/lib/python3/site-packages/dep/c.json'"
    );
    assert_eq!(of(&python).as_deref(), Some("my_dep"));
    assert_eq!(of("EROFS: '/elsewhere/node_modules/x/c'"), None);
    assert_eq!(of(&node.replace("EROFS", "ENOENT")), None);
}
