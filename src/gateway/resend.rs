//! Requests that are sent later than they came: once their package is installed, once their client's roots are known, or
//! once more after their worker died.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::packages::told_until_settled;
use super::response_stream::{PendingResend, Repeat, Resend, ResponseStream, StoredRequest};
use super::state::{Gateway, GatewayState};
use crate::launch::packages::Slot;
use crate::protocol::{Envelope, Failure, RawId, Reason};
use crate::session::Session;

impl ResponseStream {
    /// Keeps the request, the only one of its POST, so that it can be sent once more if its worker
    /// dies.
    pub(super) fn keep(&mut self, gateway: Gateway, session: Arc<Session>, message: Bytes) {
        self.repeat = Some(Repeat {
            by: gateway.state,
            session,
            message,
        });
    }

    /// Sends the request that was [kept](Self::keep) once that package is installed, and tells its
    /// client how far that is, by the progress token (raw JSON).
    pub(super) fn wait_for(&mut self, slot: Arc<Slot>, token: &str, envelope: &Envelope<'_>) {
        let Some(repeat) = self.repeat.take() else {
            return;
        };
        let id = envelope.id.map_or("null", |id| id.get()).into();
        // The outbox is open until the answer is in that of the request itself.
        self.outbox.expect_answer();
        let (outbox, token) = (Arc::clone(&self.outbox), token.to_owned());
        let steps = self.steps.get_or_insert_default().clone();
        let again = self.again();
        let sent = async move {
            let since = Instant::now();
            let settled = async {
                told_until_settled(&slot, &token, &steps, &outbox).await;
                Ok(())
            };
            let session = Arc::clone(&repeat.session);
            session.unless_ended(settled).await?;
            let mut response_stream = repeat.send(again).await?;
            response_stream.waited += since.elapsed();
            Ok(response_stream)
        };
        self.repeating = Some(PendingResend::begin(id, sent));
    }

    /// Sends the only request of a POST in its own time. Whatever keeps a worker from being had comes out of
    /// [`ResponseStream::next`].
    pub(super) fn send_later(
        &mut self,
        gateway: &Gateway,
        session: &Arc<Session>,
        message: &Bytes,
        id: RawId,
    ) {
        let (gateway, session) = (gateway.clone(), Arc::clone(session));
        self.steps.get_or_insert_default();
        let (message, mut response_stream) = (message.clone(), self.again());
        let sent = async move {
            let envelope = Envelope::parse(&message)
                .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
            let sent = gateway.request_once(&session, &message, &envelope, &mut response_stream);
            session.unless_ended(sent).await?;
            Ok(response_stream)
        };
        self.repeating = Some(PendingResend::begin(id, sent));
    }

    /// Sends the request that was [kept](Self::keep) once the roots of the session's client are known; false if none
    /// was.
    pub(super) fn wait_for_roots(
        &mut self,
        gateway: &Gateway,
        session: &Arc<Session>,
        envelope: &Envelope<'_>,
    ) -> bool {
        let Some(repeat) = self.repeat.take() else {
            return false;
        };
        let id = envelope.id.map_or("null", |id| id.get()).into();
        // The outbox is open until the answer is in that of the request itself.
        self.outbox.expect_answer();
        let mut again = self.again();
        again.repeat = Some(Repeat {
            by: Arc::clone(&repeat.by),
            session: Arc::clone(&repeat.session),
            message: repeat.message.clone(),
        });
        let (gateway, session) = (gateway.clone(), Arc::clone(session));
        let outbox = Arc::clone(&self.outbox);
        let sent = async move {
            let learnt = async {
                gateway.learn_roots(&session, Some(&outbox)).await;
                Ok(())
            };
            session.unless_ended(learnt).await?;
            repeat.send(again).await
        };
        self.repeating = Some(PendingResend::begin(id, sent));
        true
    }
}

impl Resend for GatewayState {
    fn may_resend(self: Arc<Self>, session: &Session, message: &[u8]) -> bool {
        let gateway = Gateway { state: self };
        Envelope::parse(message)
            .is_ok_and(|envelope| gateway.may_repeat(session, message, &envelope))
    }

    fn resend(
        self: Arc<Self>,
        kept: StoredRequest,
        mut again: ResponseStream,
    ) -> BoxFuture<'static, Result<ResponseStream, Failure>> {
        let gateway = Gateway { state: self };
        Box::pin(async move {
            let StoredRequest { session, message } = kept;
            let envelope = Envelope::parse(&message)
                .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
            tracing::debug!(server = %session.server, method = envelope.method.as_deref(), "the request that was kept is sent");
            let request = gateway.request(&session, &message, &envelope, &mut again);
            request.await?;
            Ok(again)
        })
    }
}
