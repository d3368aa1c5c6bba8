//! What a worker sees of the file system: folders that are hidden, and the exceptions that are shown.
//!
//! A path has to be reached by whoever runs as another user, though the folders above it let only their owner pass, as
//! `/root` does. Such a folder is hidden too: an empty one that lets everybody pass lies over it, with what is shown in its
//! place, so that the permissions of the host stay as they are.

use std::path::{Path, PathBuf};

use super::guardian::Mount;
use super::own_folders::own_folders;
use crate::launch::{Confinement, Inaccessible, LaunchSpec, inaccessible, unreadable};

/// Where services of the host that look up names, or ask others to, have their sockets.
const RESOLVERS: [&str; 4] = [
    "/run/avahi-daemon",
    "/run/dbus",
    "/run/nscd",
    "/run/systemd/resolve",
];

/// The mounts of a worker, in order.
#[derive(Default, Debug)]
pub(super) struct MountPlan {
    hidden: Vec<PathBuf>,
    /// The worker's own folders.
    own: Vec<PathBuf>,
    /// What the worker reads, as far as it is there.
    shared: Vec<PathBuf>,
    /// What the worker must not write to.
    read_only: Vec<PathBuf>,
}

impl MountPlan {
    /// What is mounted for a launch whose process runs as `user`, or as stdiopool's own. Looks at the folders that lead to what is shown.
    pub(super) fn of(spec: &LaunchSpec, user: Option<u32>) -> Self {
        let Some(sandbox) = &spec.sandbox else {
            return Self {
                read_only: spec.read_only.clone(),
                ..Self::default()
            };
        };
        let mut hidden = sandbox.hidden.clone();
        if !sandbox.network.is_host() {
            // Services of the host would look names up by its network.
            hidden.extend(RESOLVERS.map(PathBuf::from));
        }
        Self {
            hidden,
            own: own_folders(spec),
            shared: sandbox.shared.clone(),
            read_only: spec.read_only.clone(),
        }
        .closed_to(user)
    }

    /// What is mounted for a command of stdiopool's own. Looks at the folders that lead to what is shown.
    pub(super) fn of_command(confinement: &Confinement) -> Self {
        Self {
            hidden: confinement.hidden.clone(),
            own: confinement.own.clone(),
            shared: confinement.shared.clone(),
            read_only: vec![],
        }
        .closed_to(confinement.user)
    }

    /// With folders hidden that the user does not pass on the way to what is shown, and shown what is in a hidden one alone.
    fn closed_to(self, user: Option<u32>) -> Self {
        let Self {
            mut hidden,
            mut own,
            shared: wanted,
            read_only,
        } = self;
        let mut shared = Vec::new();
        for path in wanted.iter().filter(|path| path.exists()) {
            shared.push(path.clone());
            shared.extend(path.canonicalize().ok().filter(|real| real != path));
        }
        if let Some(user) = user {
            let shown = own.iter().chain(&shared).chain(&read_only);
            let closed = shown.filter_map(|path| inaccessible(path, user));
            hidden.extend(closed.map(|closed| closed.at().to_owned()));
        }
        hidden.sort();
        hidden.dedup();
        let is_hidden = |path: &Path| hidden.iter().any(|it| path.starts_with(it));
        own.retain(|path| is_hidden(path));
        shared.retain(|path| is_hidden(path));
        without_inner(&mut shared, &hidden);
        Self {
            own,
            shared,
            read_only,
            hidden,
        }
    }

    /// The plan of a launch on a host where nothing can be mounted for its worker: nothing is shown but what permissions show.
    pub(super) fn of_permissions() -> Self {
        Self::default()
    }

    /// The mounts, what is above first.
    pub(super) fn mounts(&self) -> Vec<Mount> {
        let text = |path: &PathBuf| path.clone().into_os_string();
        let hide = self.hidden.iter().map(|path| (path, 0));
        let own = self.own.iter().map(|path| (path, 1));
        let read_only = self.shared.iter().chain(&self.read_only);
        let read_only = read_only.map(|path| (path, 2));
        let mut all: Vec<_> = hide.chain(own).chain(read_only).collect();
        all.sort_by_key(|(path, kind)| (path.components().count(), *kind));
        all.dedup();
        let mounts = all.into_iter().map(|(path, kind)| match kind {
            0 => Mount::Hide(text(path)),
            1 => Mount::Show(text(path)),
            _ => Mount::ShowReadOnly(text(path)),
        });
        mounts.collect()
    }

    /// Why a user cannot read what is at a path, within this.
    pub(super) fn unreadable(&self, path: &Path, user: u32) -> Option<Inaccessible> {
        match self.shows(path) {
            // Above it, the way is free.
            true => None,
            false => unreadable(path, user),
        }
    }

    /// Why a user does not come to a path, within this.
    pub(super) fn closed(&self, path: &Path, user: u32) -> Option<Inaccessible> {
        match self.shows(path) {
            true => None,
            false => inaccessible(path, user),
        }
    }

    fn shows(&self, path: &Path) -> bool {
        let real = path.canonicalize();
        let real = real.as_deref().unwrap_or(path);
        let mut shown = self.own.iter().chain(&self.shared).chain(&self.read_only);
        shown.any(|it| real.starts_with(it) || path.starts_with(it))
    }
}

/// Takes out what is shown with a folder above it anyway.
fn without_inner(shown: &mut Vec<PathBuf>, hidden: &[PathBuf]) {
    // In this order a folder comes before what is in it.
    shown.sort();
    shown.dedup();
    let mut outer: Vec<PathBuf> = Vec::new();
    for path in std::mem::take(shown) {
        let is_shown = outer.iter().any(|above| {
            let is_hidden_again = |it: &&PathBuf| it.starts_with(above) && path.starts_with(it);
            path.starts_with(above) && !hidden.iter().any(|it| is_hidden_again(&it))
        });
        if !is_shown {
            outer.push(path);
        }
    }
    *shown = outer;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_with_a_folder_above_it_is_not_shown_twice() {
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        let mut shown = paths(&["/r/a/b", "/r/a", "/r/ab", "/r/a/state/in"]);
        without_inner(&mut shown, &paths(&["/r", "/r/a/state"]));
        assert_eq!(shown, paths(&["/r/a", "/r/a/state/in", "/r/ab"]));
    }

    #[test]
    fn what_is_above_is_mounted_first_and_hidden_before_it_is_shown() {
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect();
        let mount_plan = MountPlan {
            hidden: paths(&["/r/state", "/r"]),
            own: paths(&["/r/state/data/a"]),
            shared: paths(&["/r"]),
            read_only: paths(&["/r/state/packages"]),
        };
        let shown: Vec<_> = mount_plan
            .mounts()
            .iter()
            .map(|m| format!("{m:?}"))
            .collect();
        assert_eq!(
            shown,
            [
                r#"Hide("/r")"#,
                r#"ShowReadOnly("/r")"#,
                r#"Hide("/r/state")"#,
                r#"ShowReadOnly("/r/state/packages")"#,
                r#"Show("/r/state/data/a")"#,
            ]
        );
    }
}
