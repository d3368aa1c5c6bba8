//! What of an entry is the package's own: what a private view holds copies of.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::manifest::{Item, Manifest};
use super::ViewError;

/// Paths of the files and folders of the packages that are run, from the entry's folder.
pub(super) fn own_files(
    entry: &Path,
    manifest: &Manifest,
    program: &str,
    package: &str,
) -> Result<BTreeSet<String>, ViewError> {
    if program.starts_with("venv/") {
        of_python(entry, manifest, program, package)
    } else {
        Ok(of_node(manifest, program, package))
    }
}

/// Of npm: the folder of the package that is named, and of the one that has the program; without the packages
/// installed in them.
fn of_node(manifest: &Manifest, program: &str, package: &str) -> BTreeSet<String> {
    let named = format!("node_modules/{package}");
    let of_program = match manifest.item(program) {
        Some(Item::Link(target)) => package_of(target),
        _ => None,
    };
    let folders: Vec<String> = [Some(named), of_program].into_iter().flatten().collect();
    let is_own = |path: &str| {
        folders.iter().any(|folder| {
            let inside = path.strip_prefix(folder.as_str());
            let inside = inside.and_then(|rest| rest.strip_prefix('/'));
            inside.is_some_and(|rest| rest != "node_modules" && !rest.starts_with("node_modules/"))
        })
    };
    // An empty folder may be meant for what the server writes.
    let is_own_item = |(path, item): &(&str, &Item)| !matches!(item, Item::Link(_)) && is_own(path);
    let own = manifest.items().filter(is_own_item);
    own.map(|(path, _)| path.to_owned()).collect()
}

/// The folder of a package, of a link in `node_modules/.bin`: `../name/x.js`, `../@scope/name/x.js`.
fn package_of(target: &str) -> Option<String> {
    let mut parts = target.strip_prefix("../")?.split('/');
    let first = parts.next()?;
    Some(if first.starts_with('@') {
        format!("node_modules/{first}/{}", parts.next()?)
    } else {
        format!("node_modules/{first}")
    })
}

/// Of PyPI: what the records (packaging.python.org, recording installed projects) of the package that is named, and
/// of the one that has the program, list; and the bytecode of it.
fn of_python(
    entry: &Path,
    manifest: &Manifest,
    program: &str,
    package: &str,
) -> Result<BTreeSet<String>, ViewError> {
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
        if normal(name) == normal(package) || listed.contains(program) {
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

/// A name as it is compared (PEP 503).
fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let own = own_files(folder.path(), &manifest, program, "meta").expect("readable");
        let own: Vec<_> = own.into_iter().collect();
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
        let own = own_files(folder.path(), &manifest, "venv/bin/tool", "My.Tool");
        let own: Vec<_> = own.expect("readable").into_iter().collect();
        let expected = [
            "venv/bin/tool".to_owned(),
            path("my_tool/__init__.py"),
            path("my_tool/__pycache__/__init__.cpython-311.pyc"),
            path("my_tool/a,b.py"),
        ];
        assert_eq!(own, expected);
    }
}
