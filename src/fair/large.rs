//! Pieces of work that cannot give way: a message of megabytes is read in one go.

use std::future::poll_fn;

use futures_util::FutureExt;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::OwnedSemaphorePermit;

use super::scheduler::Flow;

/// From how many bytes on a message is worked on beside the runtime: reading it takes some hundred microseconds.
pub const LARGE: usize = 256 << 10;

/// Does a piece of work for that flow while the runtime's other tasks go on. Each flow does one at a time, and all
/// together no more than there are processors, in the order in which they came.
///
/// # Cancel-Safety
/// Dropped before the work began, it does nothing.
pub async fn large<T>(flow: &Flow, work: impl FnOnce() -> T) -> T {
    let _permits = permits(flow).await;
    aside(work)
}

/// Its own first: whoever waits for that holds none of all.
async fn permits(flow: &Flow) -> [Option<OwnedSemaphorePermit>; 2] {
    let [own, all] = flow.large();
    // They are never closed.
    [
        own.acquire_owned().await.ok(),
        all.acquire_owned().await.ok(),
    ]
}

/// Runs a future whose first poll is a piece of work that takes long, as of [`large`]; later ones are not.
///
/// # Cancel-Safety
/// As of `work`.
pub async fn large_at_first<F: Future + Unpin>(flow: &Flow, mut work: F) -> F::Output {
    let mut permits = Some(permits(flow).await);
    poll_fn(|cx| match permits.take() {
        Some(_held) => aside(|| work.poll_unpin(cx)),
        None => work.poll_unpin(cx),
    })
    .await
}

#[allow(
    clippy::disallowed_methods,
    reason = "the work borrows what its task owns; another thread goes on with the rest, and permits bound how many there are"
)]
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // There is no other thread that could go on with the rest.
        _ => work(),
    }
}
