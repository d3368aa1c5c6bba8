//! What becomes of a view when the next version of its package has one: what its server wrote is taken over, and it goes.

use std::path::Path;

use super::carry;
use super::error::ViewError;
use super::hold::is_in_use;
use super::layout::{About, CARRIED, ExistingView, LEFT, Shipped, shipped};
use super::wanted::Wanted;
use crate::folders;

/// Names of files left behind that are named in the log.
const NAMED: usize = 5;

/// Takes over what the server wrote into the view of the version before.
pub(super) fn carry_over(
    root: &Path,
    before: &ExistingView,
    wanted: &Wanted<'_>,
    new: &Path,
    new_shipped: &Shipped,
) -> Result<(), ViewError> {
    let old = root.join(before.number.to_string());
    let left = root.join(LEFT);
    if let Err(error) = folders::remove(&left) {
        tracing::warn!("what an earlier version left behind stays: {error}");
    }
    let is_running = is_in_use(&old);
    let carry = carry::Carry {
        old: &old,
        known: &shipped(&old),
        to: Some((new, new_shipped)),
        left: &left,
    };
    let carried = carry.run()?;
    if is_running {
        let path = old.join(CARRIED);
        let write = || std::fs::write(&path, serde_json::to_vec(&carried.files)?);
        write().map_err(ViewError::io("write", &path))?;
        // Old workers that have written nothing so far are let run beside the new view without a wait.
        tracing::debug!(
            view = %old.display(),
            "package {}: workers of version {} still run; what they write beside their code from now on is not seen by version {}",
            wanted.package, before.about.version, wanted.version
        );
    }
    if !carried.files.is_empty() {
        tracing::info!(
            view = %root.display(), files = carried.files.len(),
            "package {}: what the server wrote beside its code under {} was carried over to {}",
            wanted.package, before.about.version, wanted.version
        );
    }
    say_what_is_not_carried(&carried, &left, &before.about, wanted);
    Ok(())
}

fn say_what_is_not_carried(
    carried: &carry::Carried,
    left: &Path,
    old: &About,
    wanted: &Wanted<'_>,
) {
    let named = |paths: &[String]| paths[..paths.len().min(NAMED)].join(", ");
    if !carried.left.is_empty() {
        tracing::warn!(
            folder = %left.display(), files = carried.left.len(),
            "package {}: what the server wrote under {} does not fit beside the files of {} and was put aside: {} (kept in the folder until the version changes again)",
            wanted.package, old.version, wanted.version, named(&carried.left)
        );
    }
    if !carried.lost.is_empty() {
        tracing::warn!(
            files = carried.lost.len(),
            "package {}: lost with version {}, as they are links, no plain files, or cannot be read: {}",
            wanted.package,
            old.version,
            named(&carried.lost)
        );
    }
}

/// Puts aside what workers wrote into a view after the next version had taken over what was there.
fn keep_what_came_later(
    root: &Path,
    view: &Path,
    about: &About,
    wanted: &Wanted<'_>,
) -> Result<(), ViewError> {
    let Ok(text) = folders::read_plain(&view.join(CARRIED)) else {
        return Ok(());
    };
    let mut known = shipped(view);
    let carried: Shipped = serde_json::from_slice(&text).unwrap_or_default();
    known.extend(carried);
    let left = root.join(LEFT);
    let carry = carry::Carry {
        old: view,
        known: &known,
        to: None,
        left: &left,
    };
    say_what_is_not_carried(&carry.run()?, &left, about, wanted);
    Ok(())
}

/// Removes views of the package that a newer one has replaced and no worker runs from.
pub(super) fn remove_old(root: &Path, wanted: &Wanted<'_>, views: &[ExistingView]) {
    let of_package = views
        .iter()
        .filter(|view| view.about.package == wanted.package);
    for view in of_package {
        let path = root.join(view.number.to_string());
        if is_in_use(&path) {
            continue;
        }
        if let Err(error) = keep_what_came_later(root, &path, &view.about, wanted) {
            tracing::warn!(
                "an old private copy of a package stays, as there may be files in it: {error}"
            );
        } else if let Err(error) = folders::remove(&path) {
            tracing::warn!("an old private copy of a package stays: {error}");
        }
    }
}
