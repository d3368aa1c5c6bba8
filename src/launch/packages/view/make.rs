//! Makes a view in a folder of its own, which is then moved to its place as a whole.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::manifest::Manifest;
use super::error::ViewError;
use super::layout::{ABOUT, About, ExistingView, PRIVATE, SHIPPED, UNFINISHED, unused_number};
use super::successor::carry_over;
use super::wanted::Wanted;
use super::{build, own};
use crate::folders;

/// Makes a view, with what the server wrote into the one before.
pub(super) fn make(
    root: &Path,
    wanted: &Wanted<'_>,
    before: Option<&ExistingView>,
) -> Result<PathBuf, ViewError> {
    let began = std::time::Instant::now();
    remove_unfinished(root);
    let manifest = Manifest::read(wanted.entry)?;
    let program = wanted.program.to_string_lossy();
    let own = own::own_files(&manifest, &program, wanted)?;
    let number = unused_number(root)?;
    let home = root.join(number.to_string());
    let at = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(root)
        .map_err(ViewError::io("make a folder in", root))?;
    let plan = build::Plan {
        entry: wanted.entry,
        manifest: &manifest,
        own: &own,
        at: at.path(),
        home: &home,
    };
    let shipped = build::build(&plan)?;
    if let Some(before) = before {
        carry_over(root, before, wanted, at.path(), &shipped)?;
    }
    let about = About {
        package: wanted.package.to_owned(),
        version: wanted.version.to_owned(),
        entry: wanted.entry.to_owned(),
        home: home.clone(),
        writable: wanted.writable.to_vec(),
    };
    let write = || {
        std::fs::write(at.path().join(SHIPPED), serde_json::to_vec(&shipped)?)?;
        std::fs::write(at.path().join(ABOUT), serde_json::to_vec(&about)?)?;
        let at = at.keep();
        give(&at, wanted.user).map_err(io::Error::other)?;
        std::fs::rename(&at, &home)
    };
    write().map_err(ViewError::io("write", &home))?;
    tracing::debug!(
        view = %home.display(), files = own.len(), took_ms = began.elapsed().as_millis(),
        "a private copy of package {} was made", wanted.package
    );
    Ok(home)
}

/// Mode of folders that a server's user passes and has no other right to.
pub(super) const PASSED: u32 = 0o711;

pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Gives the folders of a view to the user that its server runs as. The view itself, and what is written down in it, stays
/// stdiopool's, which goes by it.
pub(super) fn give(view: &Path, user: Option<u32>) -> Result<(), ViewError> {
    let Some(user) = user else { return Ok(()) };
    let items = std::fs::read_dir(view).map_err(ViewError::io("read", view))?;
    for item in items {
        let item = item.map_err(ViewError::io("read", view))?;
        let (path, name) = (item.path(), item.file_name());
        let is_ours = name.to_str().is_none_or(|name| PRIVATE.contains(&name));
        let kind = item.file_type().map_err(ViewError::io("look at", &path))?;
        if is_ours || kind.is_symlink() {
            continue;
        }
        if kind.is_dir() {
            let given = folders::give(&path, user).map_err(io::Error::other);
            given.map_err(ViewError::io("give away", &path))?;
        } else if kind.is_file() {
            let given = std::os::unix::fs::lchown(&path, Some(user), Some(user));
            given.map_err(ViewError::io("give away", &path))?;
        }
    }
    set_mode(view, PASSED).map_err(ViewError::io("open", view))
}

/// How old one is that nobody is making any more: where one command is hosted, another process may be.
pub(super) const UNFINISHED_AGE: Duration = Duration::from_secs(3600);

/// Removes what was being made when an earlier stdiopool was killed.
pub(super) fn remove_unfinished(root: &Path) {
    let items = std::fs::read_dir(root).into_iter().flatten().flatten();
    for item in items {
        let name = item.file_name();
        let age = item.metadata().and_then(|meta| meta.modified());
        let is_old = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > UNFINISHED_AGE));
        if is_old
            && name
                .to_str()
                .is_some_and(|name| name.starts_with(UNFINISHED))
            && let Err(error) = folders::remove(&item.path())
        {
            tracing::warn!("an unfinished private copy of a package stays: {error}");
        }
    }
}
