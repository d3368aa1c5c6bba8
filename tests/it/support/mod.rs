//! A stdiopool to test against, a client that shows what is on the wire, and the process table.

pub(crate) mod browser;
mod client;
pub(crate) mod collector;
mod processes;
pub(crate) mod provider;
pub(crate) mod proxy;
pub(crate) mod registry;
mod server;
pub(crate) mod stateless;
pub(crate) mod terminal;

pub(crate) use client::{Answer, Client, Events};
pub(crate) use processes::{
    Process, alive, command_line_of, environment_of, group_of, in_tree_of, until_gone,
};
pub(crate) use server::{
    BINARY, Stdiopool, demo, faulty, fixture, open_folder, open_to_servers, until,
};

/// Writes a file that nobody else may read, such as a key.
pub(crate) fn private_file(path: &std::path::Path, text: impl AsRef<[u8]>) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("changed");
}

/// Asks again until the condition holds, for what no event tells of; panics when it never does.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    eventually_within(PATIENCE, what, condition).await;
}

/// [`eventually`], of what takes longer.
pub(crate) async fn eventually_within(
    patience: std::time::Duration,
    what: &str,
    condition: impl AsyncFn() -> bool,
) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let held = tokio::time::timeout(patience, poll).await;
    held.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The longest any condition is waited for. Generous, because machines are shared.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
