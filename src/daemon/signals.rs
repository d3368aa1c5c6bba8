//! What is acted on while everything runs: signals, and what is due from time to time.

use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::assemble::ServeError;
use super::service::{EXPIRY_PERIOD, Service};

/// How often old packages are looked for at the most; newer ones are at the same time, if it is time
/// for that.
const PACKAGES_PERIOD: Duration = Duration::from_secs(60);

/// The signals that are acted on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, ServeError> {
        let listen = |kind| signal(kind).map_err(ServeError::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }
}

impl Service {
    /// Runs until it is time to go.
    pub(super) async fn until_drain(&self, signals: &mut Signals) {
        let mut expiry = tokio::time::interval(EXPIRY_PERIOD);
        let refresh = self.gateway.runtime_config().config.packages.refresh;
        let period = refresh.unwrap_or(PACKAGES_PERIOD);
        let period = period.clamp(Duration::from_secs(1), PACKAGES_PERIOD);
        let mut packages = tokio::time::interval(period);
        enum Woken {
            Drain,
            Reload,
            Expire,
            Packages,
        }
        loop {
            let woken = tokio::select! {
                () = self.drain.cancelled() => Woken::Drain,
                _ = signals.terminate.recv() => Woken::Drain,
                _ = signals.interrupt.recv() => Woken::Drain,
                _ = signals.hang_up.recv() => Woken::Reload,
                _ = expiry.tick() => Woken::Expire,
                _ = packages.tick() => Woken::Packages,
            };
            match woken {
                Woken::Drain => {
                    self.drain.cancel();
                    return;
                }
                Woken::Reload => {
                    // What is wrong is logged and told as an event.
                    let told = self.reloader.reload().await;
                    self.running.reloaded(told.is_ok());
                }
                Woken::Packages => self.gateway.look_after_packages(),
                Woken::Expire => self.expire().await,
            }
        }
    }

    /// Ends sessions that nobody has used for long, forgets configs of callers whose time is over, and writes down what was used.
    async fn expire(&self) {
        // Twice the period: what was used just after the last look counts too.
        self.gateway.sessions().note_uses(2 * EXPIRY_PERIOD).await;
        self.reloader.note_token_uses();
        self.handles.expire(SystemTime::now());
        self.reloader.forget_handles();
        let timeout = self.gateway.runtime_config().config.pool.session_timeout;
        let ended = self.gateway.sessions().expire(timeout);
        if ended > 0 {
            tracing::info!(ended, "sessions expired");
        }
    }
}
