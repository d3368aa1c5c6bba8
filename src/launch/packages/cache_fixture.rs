//! A package cache with made-up entries, for tests.

use super::cache::{Cache, Reference};

pub(super) fn cache() -> (Cache, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (
        Cache::open(&folder.path().join("packages")).expect("opens"),
        folder,
    )
}

pub(super) fn entry(cache: &Cache, name: &str) {
    let path = cache.entry(name);
    std::fs::create_dir_all(path.join("node_modules")).expect("made");
    std::fs::write(path.join("node_modules/x.js"), "1").expect("written");
    std::fs::write(path.join("entry.json"), "{}").expect("written");
    cache.seal(name).expect("sealed");
}

pub(super) fn reference(entry: &str) -> Reference {
    Reference {
        request: "npm a".to_owned(),
        entry: entry.to_owned(),
        version: "1".to_owned(),
        checked: 0,
    }
}
