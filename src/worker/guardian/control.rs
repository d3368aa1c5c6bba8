//! Acts on one worker, and tells its processes from those of others.

use std::io;
use std::sync::Arc;

use super::connection::Connection;
use super::wire::Request;
use crate::ids::WorkerId;
use crate::process::{Process, ProcessTable};

/// Acts on one worker.
#[derive(Clone)]
pub(crate) struct Control {
    connection: Arc<Connection>,
    id: u64,
    /// The init process: everything of the worker descends from it.
    init: u32,
}

impl Control {
    /// For the worker of that id, below that init process.
    pub(super) fn new(connection: Arc<Connection>, id: WorkerId, init: u32) -> Self {
        let id = id.0;
        Self {
            connection,
            id,
            init,
        }
    }

    /// The init process's pid.
    pub(crate) fn init(&self) -> u32 {
        self.init
    }

    /// The connection to the guardian that the worker is of.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Sends a signal to the leader's process group.
    pub(crate) async fn signal(&self, signal: nix::sys::signal::Signal) {
        let signal = signal as i32;
        let id = self.id;
        self.connection
            .request(id, &Request::Signal { id, signal })
            .await;
    }

    /// Kills the whole tree.
    pub(crate) async fn kill_tree(&self) {
        self.connection.kill_tree(self.id).await;
    }

    /// All processes of the worker whose leader is `leader`, which starts the list while it lives.
    /// Scans `/proc`.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub(crate) fn tree(&self, leader: u32) -> io::Result<Vec<u32>> {
        let mut trees = Self::trees(&[(self, leader)])?;
        Ok(trees.pop().unwrap_or_default())
    }

    /// All processes of each of many workers, from one scan: what descends from its init process, that
    /// excluded.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub(crate) fn trees(workers: &[(&Self, u32)]) -> io::Result<Vec<Vec<u32>>> {
        let table = ProcessTable::scan()?;
        let tree = |(control, leader): &(&Self, u32)| {
            let init = control.init;
            let is_there = match table.get(init) {
                // One that has ended is no child of the guardian, whatever its pid means now.
                Some(init) => init.parent == control.connection.guardian,
                // The host hides it (`hidepid`), as it is not dumpable: its leader stands for it, which it alone waits for.
                None => table
                    .get(*leader)
                    .is_some_and(|it| it.parent == init && it.session == *leader),
            };
            if !is_there {
                return Vec::new();
            }
            let mut children: Vec<Process> = table.children(init).collect();
            children.sort_by_key(|child| child.pid != *leader);
            let tree = table.descent(children);
            tree.into_iter().map(|process| process.pid).collect()
        };
        Ok(workers.iter().map(tree).collect())
    }
}
