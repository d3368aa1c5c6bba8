//! What of an entry is the package's own: what a private view holds copies of.

use std::collections::BTreeSet;

use super::super::manifest::{Item, Manifest};
use super::super::python_name::normalized;
use super::error::ViewError;
use super::own_node;
use super::wanted::Wanted;

/// Stands in place of names of dependencies for all of them.
const ALL: &str = "*";
/// Folders of an entry that no package is in: what install scripts have left.
const LEFT_BY_SCRIPTS: [&str; 2] = ["downloads", "home"];

/// Paths of the files and folders of the packages that are run, and of dependencies that are written, from the entry's folder.
pub(super) fn own_files(
    manifest: &Manifest,
    program: &str,
    wanted: &Wanted<'_>,
) -> Result<BTreeSet<String>, ViewError> {
    if wanted.writable.iter().any(|name| name == ALL) {
        return Ok(everything(manifest));
    }
    if program.starts_with("venv/") {
        of_python(manifest, program, wanted)
    } else {
        let lock = wanted.entry.join("package-lock.json");
        let lock = std::fs::read(&lock)
            .ok()
            .filter(|_| !wanted.writable.is_empty());
        let lock = lock.and_then(|text| serde_json::from_slice(&text).ok());
        let folders = own_node::folders(manifest, program, wanted, lock.as_ref());
        Ok(own_node::files(manifest, &folders))
    }
}

fn everything(manifest: &Manifest) -> BTreeSet<String> {
    let is_package = |path: &str| {
        let first = path.split('/').next().unwrap_or_default();
        !LEFT_BY_SCRIPTS.contains(&first)
    };
    let items = manifest.items();
    let own = items.filter(|(path, item)| !matches!(item, Item::Link(_)) && is_package(path));
    own.map(|(path, _)| path.to_owned()).collect()
}

/// Of PyPI: what the records (packaging.python.org, recording installed projects) of the packages that are named, and
/// of the one that has the program, list; and the bytecode of it.
fn of_python(
    manifest: &Manifest,
    program: &str,
    wanted: &Wanted<'_>,
) -> Result<BTreeSet<String>, ViewError> {
    let entry = wanted.entry;
    let is_meant = |name: &str| {
        let mut meant = wanted.writable.iter().map(String::as_str);
        normalized(name) == normalized(wanted.package)
            || meant.any(|one| normalized(one) == normalized(name))
    };
    let mut own = BTreeSet::new();
    let records: Vec<&str> = manifest
        .items()
        .map(|(path, _)| path)
        .filter(|path| path.ends_with(".dist-info/RECORD"))
        .collect();
    for record in records {
        let path = entry.join(record);
        let text = std::fs::read_to_string(&path).map_err(ViewError::io("read", &path))?;
        let Some((site, info)) = record.trim_end_matches("/RECORD").rsplit_once('/') else {
            continue;
        };
        let name = info.split('-').next().unwrap_or_default();
        let listed: BTreeSet<String> = text
            .lines()
            .filter_map(|line| resolved(site, first_field(line).as_ref()))
            .collect();
        if is_meant(name) || listed.contains(program) {
            own.extend(listed);
        }
    }
    let is_own =
        |path: &str| own.contains(path) || source_of(path).is_some_and(|of| own.contains(&of));
    let is_own_file =
        |(path, item): &(&str, &Item)| matches!(item, Item::File { .. }) && is_own(path);
    let own = manifest.items().filter(is_own_file);
    Ok(own.map(|(path, _)| path.to_owned()).collect())
}

/// The first field of a line of CSV.
fn first_field(line: &str) -> std::borrow::Cow<'_, str> {
    match line.strip_prefix('"') {
        Some(quoted) => {
            let end = quoted.find("\",").unwrap_or(quoted.len());
            quoted[..end].replace("\"\"", "\"").into()
        }
        None => line.split(',').next().unwrap_or_default().into(),
    }
}

/// A path in a record, from the entry's folder; `None` for one that leads out of it.
fn resolved(site: &str, path: &str) -> Option<String> {
    if path.is_empty() || path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = site.split('/').collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()?),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The source of a file of bytecode: `a/__pycache__/b.cpython-311.pyc` is of `a/b.py`.
fn source_of(path: &str) -> Option<String> {
    let (folder, name) = path.strip_suffix(".pyc")?.rsplit_once('/')?;
    let stem = name.split('.').next()?;
    let folder = folder.strip_suffix("__pycache__")?;
    Some(format!("{folder}{stem}.py"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn entry(files: &[(&str, &str)]) -> (tempfile::TempDir, Manifest) {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("below")).expect("made");
            match text.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, &path).expect("linked"),
                None => fs::write(&path, text).expect("written"),
            }
        }
        let manifest = Manifest::of(folder.path()).expect("readable");
        (folder, manifest)
    }

    fn own_of(
        entry: &Path,
        manifest: &Manifest,
        program: &str,
        package: &str,
        writable: &[&str],
    ) -> Vec<String> {
        let writable: Vec<String> = writable.iter().map(|name| (*name).to_owned()).collect();
        let wanted = Wanted {
            package,
            version: "1",
            entry,
            program: Path::new(program),
            writable: &writable,
            user: None,
        };
        let own = own_files(manifest, program, &wanted).expect("readable");
        own.into_iter().collect()
    }

    #[test]
    fn a_dependency_that_is_written_comes_with_whatever_leads_to_it() {
        let lock = r#"{"packages": {
            "": {"dependencies": {"tool": "1"}},
            "node_modules/tool": {"dependencies": {"mid": "1", "other": "1"}},
            "node_modules/mid": {"dependencies": {"dep": "2"}},
            "node_modules/mid/node_modules/dep": {},
            "node_modules/other": {"dependencies": {"dep": "1"}},
            "node_modules/dep": {},
            "node_modules/rest": {}}}"#;
        let (folder, manifest) = entry(&[
            ("package-lock.json", lock),
            ("node_modules/.bin/tool", "-> ../tool/x.js"),
            ("node_modules/tool/x.js", ""),
            ("node_modules/mid/x.js", ""),
            ("node_modules/mid/node_modules/dep/x.js", ""),
            ("node_modules/other/x.js", ""),
            ("node_modules/dep/x.js", ""),
            ("node_modules/rest/x.js", ""),
        ]);
        let of = |writable: &[&str]| {
            let own = own_of(
                folder.path(),
                &manifest,
                "node_modules/.bin/tool",
                "tool",
                writable,
            );
            own.into_iter()
                .filter(|path| path.ends_with("x.js"))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), ["node_modules/tool/x.js"]);
        assert_eq!(
            of(&["dep"]),
            [
                "node_modules/dep/x.js",
                "node_modules/mid/node_modules/dep/x.js",
                "node_modules/mid/x.js",
                "node_modules/other/x.js",
                "node_modules/tool/x.js"
            ]
        );
        assert_eq!(of(&["*"]).len(), 6);
    }

    #[test]
    fn a_package_of_npm_owns_its_folder_and_not_what_is_installed_in_it() {
        let (folder, manifest) = entry(&[
            ("node_modules/.bin/tool", "-> ../@a/tool/dist/x.js"),
            ("node_modules/@a/tool/dist/x.js", ""),
            ("node_modules/@a/tool/node_modules/dep/x.js", ""),
            ("node_modules/@a/toolbox/x.js", ""),
            ("node_modules/meta/package.json", "{}"),
            ("node_modules/dep/x.js", ""),
        ]);
        let program = "node_modules/.bin/tool";
        let own = own_of(folder.path(), &manifest, program, "meta", &[]);
        assert_eq!(
            own,
            [
                "node_modules/@a/tool/dist",
                "node_modules/@a/tool/dist/x.js",
                "node_modules/meta/package.json"
            ]
        );
    }

    #[test]
    fn a_package_of_pypi_owns_what_its_record_lists_and_the_bytecode_of_it() {
        let site = "venv/lib/python3.11/site-packages";
        let path = |name: &str| format!("{site}/{name}");
        let record = "my_tool/__init__.py,sha256=x,1\n\"my_tool/a,b.py\",,\n../../../bin/tool,,\n/etc/passwd,,\n../../../../../../x,,\n";
        let files = [
            (path("my_tool-1.0.dist-info/RECORD"), record),
            (path("my_tool/__init__.py"), ""),
            (path("my_tool/a,b.py"), ""),
            (path("my_tool/__pycache__/__init__.cpython-311.pyc"), ""),
            (path("dep/__init__.py"), ""),
            (path("dep-2.dist-info/RECORD"), "dep/__init__.py,,\n"),
            ("venv/bin/tool".to_owned(), ""),
        ];
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (path.as_str(), *text))
            .collect();
        let (folder, manifest) = entry(&files);
        let of = |writable: &[&str]| {
            own_of(
                folder.path(),
                &manifest,
                "venv/bin/tool",
                "My.Tool",
                writable,
            )
        };
        let with = of(&["Dep"]);
        assert!(with.contains(&path("dep/__init__.py")), "{with:?}");
        assert!(of(&["*"]).contains(&path("dep-2.dist-info/RECORD")));
        let own = of(&[]);
        let expected = [
            "venv/bin/tool".to_owned(),
            path("my_tool/__init__.py"),
            path("my_tool/__pycache__/__init__.cpython-311.pyc"),
            path("my_tool/a,b.py"),
        ];
        assert_eq!(own, expected);
    }
}
