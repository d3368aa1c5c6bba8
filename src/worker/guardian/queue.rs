//! The supervisor's side of a launch that is recorded: a thread waits for what the leader hands out, and takes the queue of its calls before
//! its program is executed, which is the first call that waits.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::recording::QUEUE;
use crate::process::receive_packet;

/// Takes the queue of a worker's calls, and records until nothing of the worker is left.
pub(crate) type TakesQueue = Arc<dyn Fn(OwnedFd) + Send + Sync>;

/// What else the leader has handed out.
pub(super) struct Awaited(Receiver<Vec<OwnedFd>>);

impl Awaited {
    /// The sockets of its network, which come before the queue.
    ///
    /// # Errors
    /// When they have not come, though its program was executed.
    pub(super) fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        self.0.try_recv().map_err(io::Error::other)
    }
}

/// Waits on a thread for what is handed out at `from`, until the other end is closed.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn take(from: &OwnedFd, recorder: TakesQueue) -> io::Result<Awaited> {
    let from = from.try_clone()?;
    let (others, awaited) = sync_channel(1);
    std::thread::Builder::new()
        .name("sp-recorder".to_owned())
        .spawn(move || {
            if let Some(queue) = queue(&from, &others) {
                drop((from, others));
                recorder(queue);
            }
        })?;
    Ok(Awaited(awaited))
}

/// The queue; `None` when it does not come.
fn queue(from: &OwnedFd, others: &SyncSender<Vec<OwnedFd>>) -> Option<OwnedFd> {
    loop {
        let mut polled = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
        let mut said = [0];
        match receive_packet(from.as_fd(), &mut said) {
            // Closed.
            Ok((0, _)) => return None,
            Ok((_, fds)) if said == [QUEUE] => return fds.into_iter().next(),
            // Nobody waits for them any more.
            Ok((_, fds)) => drop(others.try_send(fds)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}
