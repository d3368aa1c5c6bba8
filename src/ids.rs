//! Identities of the domain, each a type of its own so that one cannot stand in for another.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Longest accepted tenant or server name, in bytes. Names appear in URLs, metric labels and folder names.
pub const MAX_NAME_LEN: usize = 64;

/// Whether `name` may be a tenant or server name: 1 to [`MAX_NAME_LEN`] of `A-Z a-z 0-9 . _ -`,
/// starting with a letter or digit (so that it is a safe folder name and URL segment).
pub fn is_valid_name(name: &str) -> bool {
    name.len() <= MAX_NAME_LEN
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a string that the caller has validated, or that comes from a validated source.
            pub fn new(value: impl Into<Arc<str>>) -> Self {
                Self(value.into())
            }

            /// The string itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type! {
    /// An account that owns config and secrets for servers.
    TenantId
}
name_type! {
    /// The name of a server on offer, the key under `[servers]`.
    ServerName
}

impl ServerName {
    /// Stands for all servers at once. No server can be called so.
    pub fn all() -> Self {
        static ALL: std::sync::LazyLock<ServerName> =
            std::sync::LazyLock::new(|| ServerName::new("*"));
        ALL.clone()
    }
}

/// One live child process with its descendants. Never reused while the supervisor runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WorkerId(pub u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.0)
    }
}

impl std::str::FromStr for WorkerId {
    type Err = InvalidWorkerId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix('w')
            .unwrap_or(text)
            .parse()
            .map(Self)
            .map_err(|_| InvalidWorkerId(text.to_owned()))
    }
}

/// A text that is not a worker id.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a worker id; they look like `w12` (see `stdiopool ps`)")]
pub struct InvalidWorkerId(String);

/// One HTTP request at the front door: what its log lines have in common, and what a caller may tell the operator of an
/// error (`error.data.requestId`). Never used again while the supervisor runs, and hardly ever by another run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestId(u64);

impl RequestId {
    /// The next one.
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Tells the requests of this run from those of others. Nothing depends on nobody guessing it.
static RUN: LazyLock<String> = LazyLock::new(|| {
    let mut bytes = [0; 4];
    if getrandom::fill(&mut bytes).is_err() {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        bytes = since.unwrap_or_default().subsec_nanos().to_be_bytes();
    }
    data_encoding::HEXLOWER.encode(&bytes)
});

/// Tells this run from others: the first part of the id of each of its requests.
pub fn run() -> &'static str {
    &RUN
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", *RUN, self.0)
    }
}

impl std::str::FromStr for RequestId {
    type Err = InvalidRequestId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || InvalidRequestId::Form(text.to_owned());
        let (run, number) = text.trim().split_once('-').ok_or_else(form)?;
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if run.len() != RUN.len() || !is_hex(run) || !is_hex(number) {
            return Err(form());
        }
        let number = u64::from_str_radix(number, 16).map_err(|_| form())?;
        if !run.eq_ignore_ascii_case(&RUN) {
            return Err(InvalidRequestId::OtherRun(text.to_owned()));
        }
        Ok(Self(number))
    }
}

/// A text that is not the id of a request of this run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequestId {
    /// The text looks otherwise.
    #[error(
        "`{0}` is not the id of a request; they look like `1f0c22ab-3e` (`data.requestId` of an error, `request{{id=…}}` in the log)"
    )]
    Form(String),
    /// The id was given by an earlier run.
    #[error(
        "`{0}` is a request of another run of stdiopool: what is known of single requests ends with its run"
    )]
    OtherRun(String),
}

/// What a session is called where its id must not stand, as in logs: the first four bytes of the id's SHA-256, in hex.
pub fn session_fingerprint(session_id: &str) -> String {
    let digest = Sha256::digest(session_id.as_bytes());
    data_encoding::HEXLOWER.encode(&digest[..4])
}

/// Identity of interchangeable processes: a stable digest of server, tenant, launch spec,
/// client-capability class and, where processes are not shared, the session or request.
///
/// Stable across restarts and machines for equal inputs; reveals nothing of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey(pub [u8; 16]);

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        data_encoding::HEXLOWER.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolKey({self})")
    }
}

/// What a pool key has in common with those that follow it when its processes are started otherwise: a digest of
/// server, tenant, what the caller sets, and whose processes they are, whatever pool.toml, the tenant's config, its secrets
/// and its tokens say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Lineage(pub [u8; 16]);

impl From<PoolKey> for Lineage {
    /// The lineage of a key without successors.
    fn from(key: PoolKey) -> Self {
        Self(key.0)
    }
}

/// Names what a server runs, whoever it runs for: a digest of its name and its command line as the
/// operator wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProgramId(pub [u8; 16]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_urls_and_folders() {
        for good in ["a", "acme", "a.b-c_d", "7up"] {
            assert!(is_valid_name(good), "{good}");
        }
        let long = "x".repeat(MAX_NAME_LEN + 1);
        for bad in ["", ".", "..", "-a", "a/b", "a b", "é", long.as_str()] {
            assert!(!is_valid_name(bad), "{bad}");
        }
    }

    #[test]
    fn requests_have_ids_of_their_own() {
        let (one, other) = (RequestId::next(), RequestId::next());
        assert_ne!(one, other);
        let run = |id: RequestId| {
            id.to_string()
                .split_once('-')
                .map(|(run, _)| run.to_owned())
        };
        assert_eq!(run(one), run(other));
        assert_eq!(run(one).map(|run| run.len()), Some(8));
    }

    #[test]
    fn a_request_id_reads_back_what_it_prints_and_of_this_run_alone() {
        let id = RequestId::next();
        assert_eq!(id.to_string().parse(), Ok(id));
        let (run, number) = id
            .to_string()
            .split_once('-')
            .map(|(run, number)| (run.to_owned(), number.to_owned()))
            .expect("two parts");
        let other = if run == "00000000" {
            "00000001"
        } else {
            "00000000"
        };
        let parsed = |text: String| text.parse::<RequestId>();
        assert!(matches!(
            parsed(format!("{other}-{number}")),
            Err(InvalidRequestId::OtherRun(_))
        ));
        for wrong in [
            String::new(),
            run.clone(),
            format!("{run}-"),
            format!("{run}-+1"),
            format!("{run}-1-2"),
        ] {
            assert!(
                matches!(parsed(wrong.clone()), Err(InvalidRequestId::Form(_))),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_worker_id_reads_back_what_it_prints() {
        let id = WorkerId(12);
        assert_eq!(id.to_string().parse::<WorkerId>().expect("parses"), id);
        assert!("x12".parse::<WorkerId>().is_err());
    }
}
