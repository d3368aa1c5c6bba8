//! The `readable` and `writable` that cover what was done to files: as few and as narrow ones as go on being right when the server does the same
//! with other files of the same folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::record::FileUse;
use super::seen::Use;

/// With more files of one folder than this, the folder is proposed.
const MANY: usize = 8;
/// Folders that are never proposed for the files in them: too much else is there.
const BROAD: [&str; 18] = [
    "/", "/boot", "/etc", "/home", "/lib", "/media", "/mnt", "/nix", "/opt", "/root", "/run",
    "/srv", "/tmp", "/usr", "/var", "/var/lib", "/var/run", "/var/tmp",
];

/// Folders of the system that are not proposed where they were merely listed, as libraries do that find out what they run on: with such a
/// folder goes all that is in it.
const OF_SYSTEM: [&str; 11] = [
    "/", "/boot", "/etc", "/home", "/lib", "/nix", "/opt", "/run", "/usr", "/var", "/var/lib",
];

/// A path to be listed, and what it covers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Covering {
    pub(super) path: PathBuf,
    /// What was done to the folder, or below it.
    pub(super) uses: Vec<(PathBuf, FileUse)>,
}

/// Paths to be listed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Folders {
    pub(super) readable: Vec<Covering>,
    pub(super) writable: Vec<Covering>,
    /// Folders that would have to be writable and cannot be listed.
    pub(super) impossible: Vec<PathBuf>,
    /// Folders that were listed, and are not proposed since too much is in them.
    pub(super) too_broad: Vec<PathBuf>,
}

/// What covers all of it.
pub(super) fn covering(files: &BTreeMap<PathBuf, FileUse>) -> Folders {
    let written = files.iter().filter(|(_, it)| it.usage == Use::Write);
    let (possible, impossible): (Vec<_>, Vec<_>) = written
        .map(|(path, _)| whole(path))
        .partition(|path| is_listable(path));
    let writable = outermost(possible);
    let is_written = |path: &Path| writable.iter().any(|it| path.starts_with(it));
    let read: Vec<_> = files
        .iter()
        .filter(|(path, it)| is_needed(it) && is_listable(path) && !is_written(path))
        .collect();
    let listed = files.iter().filter(|(_, it)| it.usage == Use::List);
    let listed = listed.map(|(path, _)| whole(path));
    let (too_broad, listed): (Vec<_>, Vec<_>) = listed
        .filter(|path| !is_written(path))
        .partition(|path| OF_SYSTEM.iter().any(|it| path == Path::new(it)));
    let listed = outermost(listed);
    let others = read.iter().map(|(path, _)| whole(path));
    let others = others
        .filter(|path| !too_broad.contains(path) && !listed.iter().any(|it| path.starts_with(it)));
    let mut readable = gathered(others.collect());
    readable.extend(listed);
    let readable = outermost(readable);
    let with_uses = |paths: Vec<PathBuf>, fits: &dyn Fn(&FileUse) -> bool| {
        let uses = |path: &Path| {
            let below = files
                .iter()
                .filter(|(it, usage)| it.starts_with(path) && fits(usage));
            below.map(|(path, it)| (path.clone(), *it)).collect()
        };
        let covering = paths.into_iter().map(|path| Covering {
            uses: uses(&path),
            path,
        });
        covering.collect()
    };
    Folders {
        readable: with_uses(readable, &is_needed),
        writable: with_uses(writable, &|it| it.usage == Use::Write),
        impossible,
        too_broad,
    }
}

/// Whether something has to be listed for what was done. Programs ask of many folders on the way to a file
/// whether they are there; those above a listed path are.
fn is_needed(it: &FileUse) -> bool {
    match it.usage {
        Use::Look => !it.is_folder,
        Use::Read | Use::List => true,
        Use::Write => false,
    }
}

/// Whether pool.toml takes the path.
fn is_listable(path: &Path) -> bool {
    path.is_absolute() && path.parent().is_some()
}

/// Of what is in the folder of a git repository, that folder: its files are spread over folders by their contents, so that the next commit has others.
fn whole(path: &Path) -> PathBuf {
    let above = path.ancestors();
    let repository = above.filter(|it| it.file_name().is_some_and(|name| name == ".git"));
    repository.last().unwrap_or(path).to_owned()
}

/// Without those that lie in another one.
fn outermost(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    // In this order a folder comes before what is in it.
    paths.sort();
    paths.dedup();
    let mut outer: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !outer.iter().any(|it| path.starts_with(it)) {
            outer.push(path);
        }
    }
    outer
}

/// Files, or the folder where many of them are in one, and so on upwards.
fn gathered(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    loop {
        let mut folders: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for folder in paths.iter().filter_map(|path| path.parent()) {
            *folders.entry(folder.to_owned()).or_default() += 1;
        }
        let is_broad = |folder: &Path| {
            let is_home = folder.parent() == Some(Path::new("/home"));
            is_home || BROAD.iter().any(|it| folder == Path::new(it))
        };
        let full = folders
            .into_iter()
            .filter(|(folder, count)| *count > MANY && !is_broad(folder));
        let full: Vec<PathBuf> = full.map(|(folder, _)| folder).collect();
        if full.is_empty() {
            return paths;
        }
        paths.extend(full);
        paths = outermost(paths);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files(all: &[(&str, Use, bool)]) -> BTreeMap<PathBuf, FileUse> {
        let one = |(path, usage, is_folder): &(&str, Use, bool)| {
            let it = FileUse {
                usage: *usage,
                is_folder: *is_folder,
                count: 1,
            };
            (PathBuf::from(path), it)
        };
        all.iter().map(one).collect()
    }

    fn paths(covering: &[Covering]) -> Vec<String> {
        let shown = covering.iter().map(|it| it.path.display().to_string());
        shown.collect()
    }

    #[test]
    fn files_stay_files_and_what_was_listed_is_a_folder() {
        let folders = covering(&files(&[
            ("/srv/a/one.txt", Use::Read, false),
            ("/srv/b", Use::List, true),
            ("/srv/b/deep/two.txt", Use::Read, false),
            ("/srv", Use::Look, true),
            ("/opt/there", Use::Look, false),
            ("/srv/out", Use::Write, true),
            ("/srv/out/x", Use::Write, true),
            ("/srv/out/read.txt", Use::Read, false),
        ]));
        assert_eq!(
            paths(&folders.readable),
            ["/opt/there", "/srv/a/one.txt", "/srv/b"]
        );
        assert_eq!(paths(&folders.writable), ["/srv/out"]);
        assert_eq!(folders.writable[0].uses.len(), 2);
    }

    #[test]
    fn many_files_of_a_folder_are_the_folder_but_never_a_broad_one() {
        let names: Vec<String> = (0..20).map(|n| format!("/opt/app/lib{n}.so")).collect();
        let broad: Vec<String> = (0..20).map(|n| format!("/etc/f{n}")).collect();
        let all = names.iter().chain(&broad);
        let all: Vec<_> = all.map(|it| (it.as_str(), Use::Read, false)).collect();
        let folders = covering(&files(&all));
        let shown = paths(&folders.readable);
        assert_eq!(shown.last().map(String::as_str), Some("/opt/app"));
        assert_eq!(shown.len(), 21);
    }

    #[test]
    fn the_root_cannot_be_listed() {
        let folders = covering(&files(&[("/", Use::Write, true)]));
        assert_eq!(folders.impossible, [PathBuf::from("/")]);
        assert!(folders.writable.is_empty());
    }

    #[test]
    fn a_git_repository_is_proposed_as_one_folder() {
        let folders = covering(&files(&[
            ("/srv/a/.git/HEAD", Use::Read, false),
            ("/srv/a/.git/objects/dc/01", Use::Read, false),
            ("/srv/a/.git/refs", Use::List, true),
            ("/srv/a/x.txt", Use::Read, false),
            ("/srv/b/.git/objects/ab", Use::Write, true),
            ("/srv/b/.git/refs/heads", Use::Write, true),
            ("/srv/c/.gitignore", Use::Read, false),
        ]));
        let readable = ["/srv/a/.git", "/srv/a/x.txt", "/srv/c/.gitignore"];
        assert_eq!(paths(&folders.readable), readable);
        assert_eq!(paths(&folders.writable), ["/srv/b/.git"]);
    }

    /// As libraries do that find out what they run on.
    #[test]
    fn a_folder_of_the_system_is_not_proposed_for_being_listed() {
        let folders = covering(&files(&[
            ("/", Use::List, true),
            ("/etc", Use::List, true),
            ("/etc/foo.conf", Use::Read, false),
            ("/opt", Use::List, true),
            ("/opt/data", Use::List, true),
            ("/home/anna", Use::List, true),
        ]));
        assert_eq!(
            paths(&folders.readable),
            ["/etc/foo.conf", "/home/anna", "/opt/data"]
        );
        assert_eq!(folders.too_broad, ["/", "/etc", "/opt"].map(PathBuf::from));
    }

    fn any_files() -> impl Strategy<Value = BTreeMap<PathBuf, FileUse>> {
        let usage = prop_oneof![
            Just(Use::Look),
            Just(Use::Read),
            Just(Use::List),
            Just(Use::Write)
        ];
        let path = proptest::collection::vec("[ab]{1,2}", 0..5);
        let one = (path, usage, any::<bool>()).prop_map(|(parts, usage, is_folder)| {
            let it = FileUse {
                usage,
                is_folder,
                count: 1,
            };
            (PathBuf::from(format!("/{}", parts.join("/"))), it)
        });
        proptest::collection::vec(one, 0..60).prop_map(|all| all.into_iter().collect())
    }

    proptest! {
        #[test]
        fn everything_that_was_done_is_covered(files in any_files()) {
            let folders = covering(&files);
            let covers = |all: &[Covering], path: &Path| {
                all.iter().any(|it| path.starts_with(&it.path))
            };
            for (path, it) in &files {
                let is_written = covers(&folders.writable, path);
                match it.usage {
                    Use::Write => prop_assert!(is_written || folders.impossible.contains(path)),
                    Use::Look if it.is_folder => {}
                    _ => prop_assert!(
                        path == Path::new("/") || is_written || covers(&folders.readable, path)
                    ),
                }
            }
            // And none of it is there for nothing.
            for it in folders.readable.iter().chain(&folders.writable) {
                prop_assert!(!it.uses.is_empty());
            }
        }
    }
}
