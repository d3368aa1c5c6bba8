//! What installs of packages are kept apart with on this host.

use std::path::PathBuf;

use crate::config::Config;
use crate::launch::packages::InstallSandbox;
use crate::store::users_of_installs;
use crate::tenancy::users_of_host;
use crate::worker::{
    Domains, MAX_PROCESSES, can_hide_from_users, can_make_read_only, domains, install_group,
    most_memory,
};

/// What installs of packages are kept apart with, which see nothing of those folders. The first call starts a process, and blocks until it has ended.
pub fn install_sandbox(config: &Config, hidden: Vec<PathBuf>) -> InstallSandbox {
    let of_profile = config.sandbox.of_installs.clone();
    let of_host = || users_of_installs(&users_of_host(config).ok()?);
    // One command is hosted for whoever runs stdiopool.
    let users = of_profile.or_else(of_host);
    let users = users.filter(|_| config.only_server.is_none());
    let can_mount = match users {
        Some(_) => can_hide_from_users(),
        None => can_make_read_only(),
    };
    InstallSandbox {
        hidden,
        users,
        can_mount,
        max_processes: MAX_PROCESSES,
        max_memory: most_memory(),
        make_group: install_group,
    }
}

/// What this host lacks of the sandbox of installs, in words; each with what installs may do without it.
pub fn lacking_of_installs(sandbox: &InstallSandbox) -> Vec<(&'static str, &'static str)> {
    let mut lacking = Vec::new();
    if sandbox.users.is_none() {
        let may = "read and signal what stdiopool's own user may";
        lacking.push(("a user of their own", may));
    }
    if !sandbox.can_mount {
        let may = match domains() {
            Domains::None => "see of the state folder what permissions let them",
            Domains::Memory | Domains::Signals => "see the names of what is in the state folder",
        };
        lacking.push(("mount namespaces", may));
    }
    if domains() == Domains::None {
        let may = "write to whatever permissions let them";
        lacking.push(("Landlock", may));
    }
    lacking
}

/// Says what this host lacks, beside users, of which is told elsewhere.
pub(super) fn warn_of_lacking(sandbox: &InstallSandbox) {
    let lacking = lacking_of_installs(sandbox).into_iter();
    for (what, may) in lacking.filter(|(what, _)| *what != "a user of their own") {
        tracing::warn!(
            "install scripts and builds of packages run without {what}: they may {may} (docs/sandbox.md, `stdiopool doctor`)"
        );
    }
}
