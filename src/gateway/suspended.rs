//! Calls whose worker waits for its client's next request: it was asked something and brings the
//! answer with a new request (2026-07-28, basic/patterns/mrtr).
//!
//! The state that such a client brings back is sealed: it names the call, and only the caller to whom it was
//! given can use it, for an equal request, once, and in time.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::response_stream::ResponseStream;
use crate::bridge::stateless::Question;
use crate::fields;
use crate::held::{Bounds, Charge, TenantTable};
use crate::ids::ServerName;
use crate::protocol::{Failure, Reason};
use crate::session::Session;
use crate::tenancy::Principal;

/// Calls that wait so. Each is in use until it is taken up or its time is over.
const CALLS: Bounds = Bounds {
    of_tenant: 64,
    of_all: 10_000,
};

/// A call that waits for its client's next request.
#[derive(Debug)]
pub struct Suspended {
    /// The call.
    pub response_stream: ResponseStream,
    /// The questions that the call's client was asked.
    pub questions: Vec<Question>,
    /// The session that stands for its caller, which is kept as long as the call waits.
    pub caller: Arc<Session>,
    /// Capabilities that the worker needed and the client does not have.
    pub lacking: Option<Value>,
}

/// A call that waits, and what ends it when its time is over.
#[derive(Debug)]
pub(super) struct Waits {
    pub(super) call: Suspended,
    pub(super) ends: AbortOnDropHandle<()>,
    pub(super) _charge: Charge,
}

/// The caller of a suspended call, and which call.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    /// The caller.
    pub principal: &'a Principal,
    /// The server that was called.
    pub server: &'a ServerName,
    /// The part of the request that has to be equal when it comes again.
    pub substance: &'a str,
}

impl Purpose<'_> {
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let subject = self.principal.subject.as_deref().unwrap_or_default();
        let has_subject = u8::from(self.principal.subject.is_some());
        hash.update([has_subject]);
        for field in [
            self.principal.tenant.as_str(),
            subject,
            self.server.as_str(),
            self.substance,
        ] {
            fields::put(field, |part| hash.update(part));
        }
        hash.finalize().into()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct CallNo(pub(super) [u8; 16]);

/// The calls that wait.
pub(super) struct SuspendedCalls {
    pub(super) calls: Mutex<TenantTable<CallNo, Waits>>,
    cipher: XChaCha20Poly1305,
    /// What times are counted from: the clock on the wall may jump, and a call must not be lost by that.
    began: Instant,
}

impl std::fmt::Debug for SuspendedCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SuspendedCalls").finish_non_exhaustive()
    }
}

impl SuspendedCalls {
    /// None yet, under a key that is gone with the process: so are the workers.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0_u8; 32];
        getrandom::fill(&mut key)?;
        Ok(Self {
            calls: Mutex::new(TenantTable::new(CALLS)),
            cipher: XChaCha20Poly1305::new(&key.into()),
            began: Instant::now(),
        })
    }

    pub(super) fn seal(
        &self,
        no: CallNo,
        expires: u64,
        digest: [u8; 32],
    ) -> Result<String, Failure> {
        let failed = |why: String| Failure::new(Reason::Internal, why);
        let mut nonce = [0_u8; 24];
        getrandom::fill(&mut nonce).map_err(|error| failed(format!("no randomness: {error}")))?;
        let mut plain = no.0.to_vec();
        plain.extend(expires.to_le_bytes());
        let payload = Payload {
            msg: &plain,
            aad: &digest,
        };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|error| failed(format!("cannot be sealed: {error}")))?;
        let whole = [nonce.as_slice(), &sealed].concat();
        Ok(URL_SAFE_NO_PAD.encode(whole))
    }

    pub(super) fn open(&self, state: &str, digest: [u8; 32], now: u64) -> Option<CallNo> {
        let whole = URL_SAFE_NO_PAD.decode(state).ok()?;
        let (nonce, sealed) = whole.split_first_chunk::<24>()?;
        let payload = Payload {
            msg: sealed,
            aad: &digest,
        };
        let plain = self.cipher.decrypt(&XNonce::from(*nonce), payload).ok()?;
        let (no, expires) = plain.split_first_chunk::<16>()?;
        let expires = u64::from_le_bytes(expires.try_into().ok()?);
        (now < expires).then_some(CallNo(*no))
    }

    /// Seconds since the beginning.
    pub(super) fn now(&self) -> u64 {
        self.began.elapsed().as_secs()
    }

    /// Ends those of the callers that are meant.
    pub(super) fn forget(&self, is_meant: impl Fn(&Session) -> bool) {
        let is_meant = |waits: &Waits| is_meant(&waits.call.caller);
        let calls = self.calls.lock().take_where(is_meant);
        drop(calls);
    }

    /// Ends all of them.
    pub(super) fn clear(&self) {
        let calls = self.calls.lock().take_where(|_| true);
        drop(calls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TenantId;

    #[test]
    fn a_seal_opens_for_its_purpose_in_time_and_unchanged() {
        let suspended_calls = SuspendedCalls::new().expect("randomness");
        let principal = |tenant: &str, subject: Option<&str>| {
            Principal::new(TenantId::new(tenant), subject.map(ToOwned::to_owned))
        };
        let server = ServerName::new("s");
        let digest = |principal: &Principal, substance: &str| {
            let server = &server;
            Purpose {
                principal,
                server,
                substance,
            }
            .digest()
        };
        let anna = principal("t", Some("anna"));
        let own = digest(&anna, "tools/call {}");
        let no = CallNo([7; 16]);
        let state = suspended_calls.seal(no, 100, own).expect("sealed");
        assert_eq!(suspended_calls.open(&state, own, 99), Some(no));
        assert_eq!(suspended_calls.open(&state, own, 100), None, "too late");
        assert_eq!(
            suspended_calls.open(&state, digest(&anna, "tools/call {1}"), 0),
            None
        );
        let bob = principal("t", Some("bob"));
        assert_eq!(
            suspended_calls.open(&state, digest(&bob, "tools/call {}"), 0),
            None
        );
        let nobody = principal("t", None);
        assert_eq!(
            suspended_calls.open(&state, digest(&nobody, "tools/call {}"), 0),
            None
        );
        for at in 0..state.len() {
            let mut changed = state.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(suspended_calls.open(&changed, own, 0), None, "byte {at}");
        }
        let other = SuspendedCalls::new().expect("randomness");
        assert_eq!(other.open(&state, own, 0), None);
    }
}
