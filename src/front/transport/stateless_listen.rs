//! `subscriptions/listen` of the stateless revision: a stream of what changes.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::Response;

use super::stateless_call::Final;
use crate::bridge::stateless::{Fault, Filter, StatelessRequest};
use crate::front::pipeline::context::RequestContext;
use crate::front::pipeline::inbound::Inbound;
use crate::front::pipeline::limits::Counted;
use crate::front::response::body::Body;
use crate::front::response::reply;
use crate::front::response::sse::{Frames, KEEP_ALIVE, QUIET_PERIOD};
use crate::gateway::ChangeListener;
use crate::held;
use crate::protocol::{Failure, FaultKind};
use crate::session::InUse;
use crate::upstream::{OutboundMessage, Reader};

/// Answers `subscriptions/listen`, of one server or of all.
pub(in crate::front) async fn listen(
    inbound: &Inbound<'_>,
    request: &StatelessRequest<'_>,
    context: &mut RequestContext,
) -> Result<Response<Body>, Failure> {
    let Some(asked) = Filter::asked(request.param("notifications")) else {
        context.answered(true);
        let why = "`params.notifications` must say what to listen for";
        let fault = Fault::new(FaultKind::InvalidParams, why);
        return Ok(Final::fault(&fault, request.id).into());
    };
    // The stream may stay open for ever: a request that is under way so long would be one that its tenant has no more.
    let permit = inbound.admit(Counted::Listening)?;
    let gateway = &inbound.front.gateway;
    let config = inbound.config().cloned();
    let listening_to = gateway.listen_with(inbound.principal(), &inbound.server, asked, config);
    let listener = inbound.in_time(None, listening_to).await?;
    context.answered(false);
    let stream = listening(listener, request.id.to_owned());
    Ok(permit.kept_instead_by(reply::event_stream(stream)))
}

/// The stream of a listener, as far as it has not been told.
struct ListenerStream {
    /// Until the end was told.
    listener: Option<(ChangeListener, InUse)>,
    reader: Reader,
    id: String,
    frames: Frames,
}

/// The stream of a listener.
fn listening(listener: ChangeListener, id: String) -> Body {
    let session = listener.session();
    let mut frames = Frames::new(session.account());
    frames.put_event(&listener.filter().acknowledgement(&id));
    let stream = ListenerStream {
        reader: session.outbox.read(None),
        listener: None,
        id,
        frames,
    };
    let in_use = session.in_use();
    let stream = ListenerStream {
        listener: Some((listener, in_use)),
        ..stream
    };
    Body::from_stream(stream::unfold(stream, |mut stream| async move {
        let piece = stream.next_piece().await?;
        Some((Ok::<_, Infallible>(piece), stream))
    }))
}

impl ListenerStream {
    async fn next_piece(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.frames.next_piece() {
            return Some(piece);
        }
        loop {
            let (listener, _) = self.listener.as_ref()?;
            let next = tokio::time::timeout(QUIET_PERIOD, self.reader.next());
            match next.await {
                Err(_quiet) => return Some(Bytes::from_static(KEEP_ALIVE)),
                Ok(None) => {
                    self.frames.put_event(&Filter::farewell(&self.id));
                    self.listener = None;
                    return self.frames.next_piece();
                }
                Ok(Some(OutboundMessage::Message(message))) => {
                    let told = listener.filter().passes(&message, &self.id);
                    if let Some(told) = told {
                        let account = listener.session().account();
                        // Another text of what was let in already, which goes here.
                        let told = account.hold_anyway(held::Kind::Message, told);
                        self.frames.put_event(&told);
                        return self.frames.next_piece();
                    }
                }
                Ok(Some(OutboundMessage::Answer { .. } | OutboundMessage::Failed { .. })) => {}
            }
        }
    }
}
