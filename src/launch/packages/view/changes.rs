//! What a server has done, or tried to do, beside its own code.

use std::io;
use std::path::{Path, PathBuf};

use super::super::manifest::digest;
use super::layout::{LINK, shipped};
use super::walk;

/// The package's own files in a view that are not as it was made with: changed or removed. Blocks.
pub(in super::super) fn changes(view: &Path) -> Vec<String> {
    let shipped = shipped(view);
    let is_changed = |path: &str, was: &str| match was.strip_prefix(LINK) {
        Some(target) => {
            std::fs::read_link(view.join(path)).map_or(true, |now| now != Path::new(target))
        }
        None => {
            let now = walk::open_file(&view.join(path)).and_then(|file| match file.metadata() {
                Ok(kind) if kind.is_file() => digest(file),
                _ => Err(io::ErrorKind::InvalidInput.into()),
            });
            now.map_or(true, |now| now != was)
        }
    };
    let changed = shipped.iter().filter(|(path, was)| is_changed(path, was));
    changed.map(|(path, _)| path.clone()).collect()
}

/// The dependency that lines of stderr say could not write beside its own code, in one of those folders: the package cache, or a
/// view, whose links lead there. Node and Python both put the path of the file between single quotes, and those of calls not.
pub fn read_only_dependency(lines: &str, folders: &[&Path]) -> Option<String> {
    let said = ["EROFS", "Read-only file system", "read-only file system"];
    if !said.iter().any(|said| lines.contains(said)) {
        return None;
    }
    let find = |folder: &&Path| Some(lines.find(&format!("'{}", folder.display()))? + 1);
    let at = folders.iter().find_map(find)?;
    let path = lines[at..].split('\'').next()?;
    if let Some((_, inside)) = path.rsplit_once("node_modules/") {
        let mut parts = inside.split('/');
        let first = parts.next()?;
        return Some(match first.strip_prefix('@') {
            Some(_) => format!("{first}/{}", parts.next()?),
            None => first.to_owned(),
        });
    }
    let (site, inside) = path.split_once("site-packages/")?;
    let site = PathBuf::from(format!("{site}site-packages"));
    let folder = inside.split('/').next()?;
    let infos = std::fs::read_dir(&site).ok()?.flatten();
    let mut owners = infos.filter_map(|info| {
        let name = info
            .file_name()
            .to_str()?
            .strip_suffix(".dist-info")?
            .to_owned();
        let record = std::fs::read_to_string(info.path().join("RECORD")).ok()?;
        let is_owner = record
            .lines()
            .any(|line| line.starts_with(&format!("{folder}/")));
        is_owner.then(|| name.split('-').next().unwrap_or_default().to_owned())
    });
    owners.next()
}
