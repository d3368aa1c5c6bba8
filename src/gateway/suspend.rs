//! Lets calls wait for their clients' next requests, and takes them up again.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::session_table::SessionTable;
use super::suspended::{CallNo, Purpose, Suspended, Waits};
use crate::bridge::stateless::Question;
use crate::held::{Kind, TableFull, charged};
use crate::protocol::{Failure, Reason};

/// What such a call takes beside its questions, in bytes.
const CALL_BYTES: usize = 4 << 10;

impl SessionTable {
    /// Lets a call wait for its client's next request; what that must bring. The call waits as long as
    /// the server may take over a request, and is cancelled then.
    ///
    /// # Errors
    /// [`Reason::TenantLimit`] when too many calls of the tenant wait already,
    /// [`Reason::PoolExhausted`] when too many of all tenants do.
    pub fn suspend(
        self: &Arc<Self>,
        purpose: Purpose<'_>,
        call: Suspended,
    ) -> Result<String, Failure> {
        let mut no = [0_u8; 16];
        getrandom::fill(&mut no)
            .map_err(|error| Failure::new(Reason::Internal, format!("no randomness: {error}")))?;
        let no = CallNo(no);
        let waits = call.response_stream.longest_wait();
        let suspended_calls = &self.suspended_calls;
        let expires = suspended_calls.now().saturating_add(waits.as_secs().max(1));
        let state = suspended_calls.seal(no, expires, purpose.digest())?;
        let tenant = purpose.principal.tenant.clone();
        let questions: usize = call.questions.iter().map(Question::bytes).sum();
        let account = self.ledger.account(&tenant);
        let make_room = || self.end_oldest_caller(&tenant);
        let charge = charged(&account, Kind::Suspended, CALL_BYTES + questions, make_room);
        let charge = charge.map_err(Failure::from)?;
        let table = Arc::downgrade(self);
        let whose = tenant.clone();
        let ends = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(waits).await;
            let late = table.upgrade().and_then(|table| {
                let mut calls = table.suspended_calls.calls.lock();
                calls.take(&whose, &no)
            });
            if let Some(Waits { call, ends, .. }) = late {
                // The task is this one itself, which is not to be ended before the call is.
                let _ended = ends.detach();
                drop(call);
            }
        }));
        let waits = Waits {
            call,
            ends,
            _charge: charge,
        };
        let taken_in = suspended_calls
            .calls
            .lock()
            .insert(&tenant, no, waits, |_| true);
        match taken_in {
            Ok(_) => Ok(state),
            Err(crowded) => {
                let reason = match crowded {
                    TableFull::OfTenant(_) => Reason::TenantLimit,
                    TableFull::OfAll(_) => Reason::PoolExhausted,
                };
                let why =
                    format!("no room for a call that waits for its client's answer: {crowded}");
                Err(Failure::new(reason, why).retry_after(Duration::from_secs(5)))
            }
        }
    }

    /// The call that waits for this request, if what it brings is genuine, in time, for this
    /// purpose, and was not used before.
    pub fn resume(&self, purpose: Purpose<'_>, state: &str) -> Option<Suspended> {
        let suspended_calls = &self.suspended_calls;
        let no = suspended_calls.open(state, purpose.digest(), suspended_calls.now())?;
        let found = suspended_calls
            .calls
            .lock()
            .take(&purpose.principal.tenant, &no);
        Some(found?.call)
    }
}
