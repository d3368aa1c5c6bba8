//! The issuer's keys: fetched when first needed, again after a while, and at once when a token
//! names one that is not there, but not oftener than every few seconds.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::bounded::{BodyError, read_up_to};
use super::cause::innermost;
use crate::config::KeySource;

/// Largest set of keys, in bytes.
const MAX_LEN: usize = 1 << 20;
/// How long the issuer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How soon after the last time they are fetched again, whatever tokens name: anyone can make a
/// token that names a key which is not there.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
struct Fetched {
    keys: Arc<JwkSet>,
    at: Instant,
}

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    source: KeySource,
    refresh: Duration,
    now: Mutex<Option<Fetched>>,
    /// One fetch at a time; when the last one began.
    fetching: tokio::sync::Mutex<Option<Instant>>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysError {
    /// The keys could not be fetched a moment ago.
    #[error("the last attempt was a moment ago")]
    TooSoon,
    /// The keys' file cannot be read.
    #[error("{from}: {source}")]
    File {
        /// The file.
        from: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address serves something else.
    #[error("{from} is not a JWK Set: {source}")]
    NoSet {
        /// The file or the address.
        from: String,
        /// What is wrong in the text.
        source: serde_json::Error,
    },
    /// The keys' address cannot be reached.
    #[error("{url}: {cause}")]
    Fetch {
        /// The address.
        url: url::Url,
        /// The innermost cause.
        cause: String,
    },
    /// Another status than 200.
    #[error("{url} answered {status}")]
    Answered {
        /// The address.
        url: url::Url,
        /// The status of its answer.
        status: reqwest::StatusCode,
    },
    /// The address sends more than keys take.
    #[error("{0} answered with more than {MAX_LEN} bytes")]
    TooLong(url::Url),
}

impl Keys {
    pub(super) fn new(source: KeySource, refresh: Duration) -> Self {
        Self {
            source,
            refresh,
            now: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    /// The keys, not older than they may be; older ones when no others are to be had.
    ///
    /// # Errors
    /// Why there are none at all.
    ///
    /// # Cancel-Safety
    /// A dropped call may have fetched them in vain.
    pub(super) async fn get(&self) -> Result<Arc<JwkSet>, KeysError> {
        let known = self.now.lock().clone();
        match known {
            Some(known) if known.at.elapsed() < self.refresh => Ok(known.keys),
            known => self.fetch(known.as_ref().map(|known| known.at)).await,
        }
    }

    /// The keys after another look, because one is missing among those of `seen`; those known
    /// if it is too soon.
    ///
    /// # Errors
    /// As for [`Keys::get`].
    pub(super) async fn look_again(&self, seen: &Arc<JwkSet>) -> Result<Arc<JwkSet>, KeysError> {
        let known = self.now.lock().clone();
        match known {
            // Someone else has looked meanwhile.
            Some(known) if !Arc::ptr_eq(&known.keys, seen) => Ok(known.keys),
            known => self.fetch(known.as_ref().map(|known| known.at)).await,
        }
    }

    async fn fetch(&self, known_at: Option<Instant>) -> Result<Arc<JwkSet>, KeysError> {
        let mut began = self.fetching.lock().await;
        let known = self.now.lock().clone();
        if let Some(known) = &known {
            let is_newer = known_at.is_none_or(|at| at < known.at);
            let is_too_soon = began.is_some_and(|at| at.elapsed() < SHORTEST_PAUSE);
            if is_newer || is_too_soon {
                return Ok(Arc::clone(&known.keys));
            }
        } else if began.is_some_and(|at| at.elapsed() < SHORTEST_PAUSE) {
            return Err(KeysError::TooSoon);
        }
        *began = Some(Instant::now());
        match read(&self.source).await {
            Ok(keys) => {
                tracing::debug!(keys = keys.keys.len(), "the issuer's keys were fetched");
                let (keys, at) = (Arc::new(keys), Instant::now());
                let kept = Arc::clone(&keys);
                *self.now.lock() = Some(Fetched { keys: kept, at });
                Ok(keys)
            }
            Err(why) => {
                tracing::warn!("the issuer's keys cannot be fetched: {why}");
                // An issuer that is away must not lock out those it let in.
                known.map(|known| known.keys).ok_or(why)
            }
        }
    }
}

async fn read(source: &KeySource) -> Result<JwkSet, KeysError> {
    let (bytes, from) = match source {
        KeySource::File(path) => {
            let from = path.display().to_string();
            let read = tokio::fs::read(path).await;
            let read = read.map_err(|source| KeysError::File {
                from: from.clone(),
                source,
            });
            (read?, from)
        }
        KeySource::Url(url) => (download(url).await?, url.to_string()),
    };
    parsed(&bytes, &from)
}

fn parsed(bytes: &[u8], from: &str) -> Result<JwkSet, KeysError> {
    serde_json::from_slice(bytes).map_err(|source| KeysError::NoSet {
        from: from.to_owned(),
        source,
    })
}

/// Why there are no keys of signatures in a file; of those at an address nothing is said. May block.
pub fn keys_problem(source: &KeySource) -> Option<String> {
    let KeySource::File(path) = source else {
        return None;
    };
    let from = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => parsed(&bytes, &from).err().map(|why| why.to_string()),
        Err(source) => Some(KeysError::File { from, source }.to_string()),
    }
}

async fn download(url: &url::Url) -> Result<Vec<u8>, KeysError> {
    let told = |error: reqwest::Error| KeysError::Fetch {
        url: url.clone(),
        cause: innermost(&error),
    };
    let client = reqwest::Client::builder().timeout(TIMEOUT);
    // Keys that someone is sent elsewhere for are not the issuer's.
    let client = client.redirect(reqwest::redirect::Policy::none());
    let client = client.build().map_err(told)?;
    let answer = client.get(url.clone()).send().await.map_err(told)?;
    if answer.status() != reqwest::StatusCode::OK {
        let (url, status) = (url.clone(), answer.status());
        return Err(KeysError::Answered { url, status });
    }
    let read = read_up_to(MAX_LEN, answer).await;
    read.map_err(|error| match error {
        BodyError::Transport(error) => told(error),
        BodyError::TooLong => KeysError::TooLong(url.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::jwt::tests::Issuer;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keys_are_looked_at_again_but_not_all_the_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("keys.json");
        let write = |ids: &[&str]| {
            let issuers: Vec<_> = ids.iter().map(|id| Issuer::new(id)).collect();
            let set = Issuer::set(&issuers.iter().collect::<Vec<_>>());
            std::fs::write(&file, set.to_string()).expect("written");
        };
        let keys = Keys::new(KeySource::File(file.clone()), Duration::from_secs(600));
        let error = keys.get().await.expect_err("no file").to_string();
        assert!(error.contains("keys.json"), "{error}");
        tokio::time::advance(SHORTEST_PAUSE).await;
        write(&["a"]);
        let first = keys.get().await.expect("read");
        assert!(first.find("a").is_some());

        write(&["a", "b"]);
        // Kept; and whoever asks for `b` at once does not get another look either.
        assert!(keys.get().await.expect("kept").find("b").is_none());
        let soon = keys.look_again(&first).await.expect("kept");
        assert!(Arc::ptr_eq(&soon, &first));
        tokio::time::advance(SHORTEST_PAUSE).await;
        let second = keys.look_again(&first).await.expect("read");
        assert!(second.find("b").is_some());
        // Others who missed it have it now.
        assert!(Arc::ptr_eq(
            &keys.look_again(&first).await.expect("kept"),
            &second
        ));

        // Too old, but better than none.
        std::fs::write(&file, "{").expect("written");
        tokio::time::advance(Duration::from_secs(601)).await;
        assert!(Arc::ptr_eq(&keys.get().await.expect("old"), &second));
        tokio::time::advance(SHORTEST_PAUSE).await;
        write(&["c"]);
        assert!(keys.get().await.expect("read").find("c").is_some());
    }
}
