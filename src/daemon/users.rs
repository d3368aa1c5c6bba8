//! As whom servers run here: each tenant's as a user of its own, where stdiopool may start processes as others.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use super::assemble::ServeError;
use crate::config::Config;
use crate::process::NoUsers;
use crate::store::{OpenedState, StateDir, Users};
use crate::tenancy::users_of_host;
use crate::worker::can_hide_from_users;

/// As whom each tenant's servers run from now on; says what it means where none has a user of its own.
///
/// # Errors
/// When pool.toml names users that cannot be had.
pub(super) fn separate(
    config: &Config,
    state: &StateDir,
    kept: Option<&OpenedState>,
) -> Result<Option<Arc<Users>>, ServeError> {
    // One command is hosted for whoever runs stdiopool.
    let Some(kept) = kept else { return Ok(None) };
    match users_of_host(config) {
        Ok(range) => {
            if !can_hide_from_users() {
                close_state(state.path());
            }
            tracing::info!(
                "each tenant's servers run as a user of their own ({}-{})",
                range.start(),
                range.end()
            );
            Ok(Some(Arc::new(kept.users(state, &range)?)))
        }
        Err(why @ NoUsers::NotRoot(_)) => {
            tracing::warn!(
                "all tenants' servers run as one Unix user: {why}; what keeps them from each other's files is their mount namespaces where there are some, and nothing else (docs/guarantees.md, `stdiopool doctor`)"
            );
            Ok(None)
        }
        Err(NoUsers::NotWanted) => {
            tracing::warn!(
                "all tenants' servers run as the user that stdiopool runs as, as `sandbox.uids` says: what keeps them from each other's files is their mount namespaces where there are some, and nothing else (docs/guarantees.md)"
            );
            Ok(None)
        }
        Err(why) if config.sandbox.is_given => Err(ServeError::Host(format!(
            "`sandbox.uids`: {why}; give stdiopool what it lacks, or choose other users"
        ))),
        Err(why) => {
            tracing::warn!(
                "all tenants' servers run as root: {why}, so that each can read what any other has; give stdiopool what it lacks, or run it as another user (docs/guarantees.md)"
            );
            Ok(None)
        }
    }
}

/// Where no mount hides the state folder, servers pass it on the way to their own: what is beside them is closed by its
/// own mode, also what is made from now on.
fn close_state(dir: &Path) {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    for item in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = item.path();
        let close = || {
            let meta = path.symlink_metadata()?;
            if meta.is_symlink() {
                return Ok(());
            }
            let mode = meta.permissions().mode() & !0o066;
            let mode = if meta.is_dir() {
                mode | 0o011
            } else {
                mode & !0o011
            };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
        };
        let closed: std::io::Result<()> = close();
        if let Err(error) = closed {
            tracing::warn!(path = %path.display(), %error, "it cannot be closed to servers");
        }
    }
}
