//! Whether a user comes to a path, by the permissions of the folders that lead there (path_resolution(7)).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why a user does not come to a path.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Inaccessible {
    /// A folder above the path lets others not pass.
    #[error("{} lets only its owner pass (mode {mode:04o})", folder.display())]
    Folder {
        /// The first such folder.
        folder: PathBuf,
        /// Mode of the file or folder.
        mode: u32,
    },
    /// The folders above may be passed, but the thing itself may not be read.
    #[error("{} may not be read by others (mode {mode:04o})", path.display())]
    Itself {
        /// What was named.
        path: PathBuf,
        /// Mode of the file or folder.
        mode: u32,
    },
}

impl Inaccessible {
    /// The folder, or the thing itself.
    pub fn at(&self) -> &Path {
        match self {
            Self::Folder { folder, .. } => folder,
            Self::Itself { path, .. } => path,
        }
    }
}

/// The topmost folder above `path` that a user, with the group of its own number and no other, may not pass. A link
/// counts with what it leads to. `None`: all may be passed, or nothing is there.
pub fn inaccessible(path: &Path, user: u32) -> Option<Inaccessible> {
    let real = path.canonicalize().ok();
    let paths = [Some(path), real.as_deref()];
    paths
        .into_iter()
        .flatten()
        .find_map(|path| inaccessible_above(path, user))
}

fn inaccessible_above(path: &Path, user: u32) -> Option<Inaccessible> {
    let mut above: Vec<_> = path.ancestors().skip(1).collect();
    above.reverse();
    above.into_iter().find_map(|folder| {
        let meta = folder.metadata().ok()?;
        let mode = meta.mode() & 0o7777;
        (!allows(&meta, user, 0o1)).then(|| Inaccessible::Folder {
            folder: folder.to_owned(),
            mode,
        })
    })
}

/// Why a user cannot read a file or folder: a folder above it, or its own mode. `None` where there is nothing.
pub fn unreadable(path: &Path, user: u32) -> Option<Inaccessible> {
    path.metadata().ok()?;
    inaccessible(path, user).or_else(|| unreadable_itself(path, user))
}

/// Why a user cannot read a file or folder that it comes to: its own mode. `None` where there is nothing.
pub fn unreadable_itself(path: &Path, user: u32) -> Option<Inaccessible> {
    let meta = path.metadata().ok()?;
    let wanted = if meta.is_dir() { 0o5 } else { 0o4 };
    (!allows(&meta, user, wanted)).then(|| Inaccessible::Itself {
        path: path.to_owned(),
        mode: meta.mode() & 0o7777,
    })
}

/// Whether the permissions `wanted` (read 4, write 2, execute 1) are a user's.
fn allows(meta: &std::fs::Metadata, user: u32, wanted: u32) -> bool {
    let shift = if meta.uid() == user {
        6
    } else if meta.gid() == user {
        3
    } else {
        0
    };
    (meta.mode() >> shift) & wanted == wanted
}

/// The parts of an installation that a folder of programs belongs to: that folder, and what programs in it need.
/// Version managers keep everything below one folder (`~/.pyenv/shims`, `~/.nvm/versions/node/v22/bin`); `~/.local/bin` and
/// `~/bin` are in folders that hold other things too. `home` is the operator's.
pub fn installation_of(programs: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let name_of = |folder: &Path| folder.file_name().map(|name| name.to_owned());
    let is_bin = name_of(programs).is_some_and(|name| {
        ["bin", "sbin", "shims"]
            .iter()
            .any(|usual| name.as_os_str() == *usual)
    });
    let Some(parent) = programs.parent().filter(|_| is_bin) else {
        return vec![programs.to_owned()];
    };
    if parent.parent().is_none() || Some(parent) == home || parent == Path::new("/root") {
        return vec![programs.to_owned()];
    }
    // Programs that cargo installs need nothing beside them, where its tokens are.
    if name_of(parent).is_some_and(|name| name == ".cargo") {
        return vec![programs.to_owned()];
    }
    if name_of(parent).is_some_and(|name| name == ".local") {
        let beside = ["lib", "pipx", "share/pipx", "share/pnpm", "share/uv"];
        let beside = beside.iter().map(|name| parent.join(name));
        return std::iter::once(programs.to_owned()).chain(beside).collect();
    }
    vec![parent.to_owned()]
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const USER: u32 = 2_100_000_000;

    #[test]
    fn the_topmost_closed_folder_is_named() {
        let base = tempfile::tempdir().expect("a folder");
        let at = |name: &str| base.path().join(name);
        std::fs::create_dir_all(at("a/b")).expect("made");
        std::fs::write(at("a/b/file"), "x").expect("written");
        let set = |name: &str, mode| {
            set_permissions(at(name), Permissions::from_mode(mode)).expect("set");
        };
        let closed = |name: &str| inaccessible(&at(name), USER).map(|it| it.at().to_owned());
        set(".", 0o700);
        assert_eq!(closed("a/b/file"), Some(base.path().to_owned()));
        set(".", 0o711);
        set("a", 0o755);
        set("a/b", 0o700);
        assert_eq!(closed("a/b/file"), Some(at("a/b")));
        assert_eq!(closed("a/b"), None, "what is there is not asked");
        assert_eq!(unreadable(&at("a"), USER), None);
        set("a/b", 0o755);
        set("a/b/file", 0o640);
        let why = unreadable(&at("a/b/file"), USER).expect("closed");
        assert_eq!(why.at(), at("a/b/file"));
        assert!(why.to_string().ends_with("(mode 0640)"), "{why}");
        assert_eq!(unreadable(&at("none"), USER), None);
    }

    #[test]
    fn a_link_leads_nowhere_where_its_target_is_closed() {
        let base = tempfile::tempdir().expect("a folder");
        let at = |name: &str| base.path().join(name);
        set_permissions(base.path(), Permissions::from_mode(0o755)).expect("set");
        std::fs::create_dir_all(at("closed/in")).expect("made");
        set_permissions(at("closed"), Permissions::from_mode(0o700)).expect("set");
        std::os::unix::fs::symlink(at("closed/in"), at("link")).expect("linked");
        let why = inaccessible(&at("link"), USER).expect("closed");
        assert_eq!(why.at(), at("closed").canonicalize().expect("there"));
    }

    #[test]
    fn an_installation_is_no_more_than_it_needs() {
        let home = Path::new("/home/me");
        let shown = |programs: &str| {
            let all = installation_of(Path::new(programs), Some(home));
            let all = all.iter().map(|it| it.display().to_string());
            all.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("/root/.pyenv/shims"), "/root/.pyenv");
        assert_eq!(
            shown("/root/.nvm/versions/node/v22/bin"),
            "/root/.nvm/versions/node/v22"
        );
        assert_eq!(shown("/home/me/bin"), "/home/me/bin");
        assert_eq!(shown("/root/bin"), "/root/bin");
        assert_eq!(shown("/root/tools"), "/root/tools");
        let local = shown("/root/.local/bin");
        assert!(local.starts_with("/root/.local/bin /root/.local/lib "));
        assert!(!local.split(' ').any(|it| it == "/root/.local/share"));
    }
}
