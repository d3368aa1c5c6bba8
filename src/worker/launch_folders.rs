//! The folders of a launch, made before its process is started.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::guardian::can_hide_from_users;
use super::spawn_error::SpawnError;
use crate::folders;
use crate::launch::{LAUNCHER_FOLDERS, LaunchSpec};

/// Makes the folders of a launch, those of its user's own.
///
/// # Errors
/// A folder cannot be made, or not given to its user.
pub(super) fn make_folders(spec: &LaunchSpec, user: Option<u32>) -> Result<(), SpawnError> {
    let is_root = nix::unistd::geteuid().is_root();
    for folder in &spec.folders {
        make_private(folder).map_err(SpawnError::io(format!(
            "create folder `{}`",
            folder.display()
        )))?;
        if is_root {
            let given = folders::give(folder, user.unwrap_or(0));
            let given = given.map_err(|error| SpawnError::Folder(error.to_string()))?;
            if given.kept > 0 {
                tracing::warn!(
                    folder = %folder.display(), files = given.kept,
                    "files that have names outside of the folder too stay whose they are: the server cannot write to them"
                );
            }
        }
    }
    if spec.sandbox.is_some() {
        make_launcher_folders(&spec.packages, user)?;
    }
    if let (Some(_), Some(sandbox)) = (user, &spec.sandbox)
        && !can_hide_from_users()
    {
        // No mount leads there: the folders above have to let it pass.
        let own = spec.folders.iter().map(PathBuf::as_path);
        let own = own.chain([spec.packages.as_path()]);
        for folder in own.chain(spec.secret_files.folder()) {
            let above = folder.ancestors().skip(1);
            let above = above.take_while(|it| sandbox.hidden.iter().any(|top| it.starts_with(top)));
            above.for_each(let_pass);
        }
    }
    Ok(())
}

/// Makes what launchers write to that a line as written runs: the folder they are in is stdiopool's. A folder that is not there
/// when the worker starts is not shown to it, and what it wrote would go with it.
fn make_launcher_folders(packages: &Path, user: Option<u32>) -> Result<(), SpawnError> {
    if packages.as_os_str().is_empty() {
        return Ok(());
    }
    let make = |folder: &Path| {
        make_private(folder).map_err(SpawnError::io(format!(
            "create folder `{}`",
            folder.display()
        )))
    };
    make(packages)?;
    let Some(user) = user else { return Ok(()) };
    let_pass(packages);
    for name in LAUNCHER_FOLDERS {
        let folder = packages.join(name);
        make(&folder)?;
        let given = folders::give(&folder, user);
        given.map_err(|error| SpawnError::Folder(error.to_string()))?;
    }
    Ok(())
}

/// Lets everybody pass a folder, who cannot list it. A failure is told when something in the folder is not reached.
fn let_pass(folder: &Path) {
    let Ok(meta) = folder.metadata() else { return };
    let mode = meta.permissions().mode();
    if mode & 0o111 != 0o111 {
        let mode = std::fs::Permissions::from_mode(mode | 0o111);
        let _told_later = std::fs::set_permissions(folder, mode);
    }
}

fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)
}
