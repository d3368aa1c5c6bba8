//! Passes bytes between a worker and a host, as fast as both take them.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, interval_at};

/// Bytes that are under way in each direction of a connection, beside what the kernel holds.
const BUFFER: usize = 8 << 10;
/// How long a connection may pass nothing in either direction.
const IDLE: Duration = Duration::from_secs(3600);
/// Between two looks at that.
const LOOK: Duration = Duration::from_secs(60);

/// Bytes that went each way.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

impl Passed {
    fn sum(&self) -> u64 {
        let [sent, received] = [&self.sent, &self.received];
        sent.load(Ordering::Relaxed)
            .wrapping_add(received.load(Ordering::Relaxed))
    }
}

/// Passes bytes until both directions have ended, one has failed, or nothing has passed for an hour.
///
/// # Cancel-Safety
/// What was counted has passed; both connections are to be dropped.
pub(super) async fn pass(mut worker: TcpStream, mut host: TcpStream, passed: &Passed) {
    let (from_worker, to_worker) = worker.split();
    let (from_host, to_host) = host.split();
    let sending = one_way(from_worker, to_host, &passed.sent);
    let receiving = one_way(from_host, to_worker, &passed.received);
    let both = async {
        // One that fails ends the other; one that ends leaves it.
        let _one_has_failed = tokio::try_join!(sending, receiving);
    };
    tokio::select! {
        () = both => {}
        () = idle(passed) => {}
    }
}

async fn one_way(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    counter: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await? {
            0 => return to.shutdown().await,
            len => {
                to.write_all(&buffer[..len]).await?;
                counter.fetch_add(len as u64, Ordering::Relaxed);
            }
        }
    }
}

/// Ends when nothing has passed for too long.
async fn idle(passed: &Passed) {
    let mut looks = interval_at(Instant::now() + LOOK, LOOK);
    let (mut last, mut since) = (passed.sum(), Instant::now());
    loop {
        looks.tick().await;
        let now = passed.sum();
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() >= IDLE {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connected"), far.expect("accepted").0)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_one_may_end_before_the_other() {
        let ((mut worker, near), (far, mut host)) = (pair().await, pair().await);
        let passed = Passed::default();
        let talking = async {
            worker.write_all(b"question").await.expect("taken");
            worker.shutdown().await.expect("ended");
            let mut question = String::new();
            host.read_to_string(&mut question).await.expect("read");
            assert_eq!(question, "question");
            let answer = vec![7; 100_000];
            host.write_all(&answer).await.expect("taken");
            drop(host);
            let mut got = Vec::new();
            worker.read_to_end(&mut got).await.expect("read");
            assert_eq!(got.len(), 100_000);
        };
        tokio::join!(pass(near, far, &passed), talking);
        assert_eq!(passed.sent.load(Ordering::Relaxed), 8);
        assert_eq!(passed.received.load(Ordering::Relaxed), 100_000);
    }
}
