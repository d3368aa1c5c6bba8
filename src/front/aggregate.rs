//! POST of the stateless revision to all servers at once.

use std::borrow::Cow;

use http::{Response, StatusCode};

use super::body::Body;
use super::conversation::Final;
use super::post::{Post, Tally};
use super::reply;
use super::stateless::{LISTS_LAST, wants, with_advert};
use crate::bridge::Listing;
use crate::bridge::stateless::{Dress, Fault, StatelessRequest, discovered};
use crate::protocol::{Envelope, Failure, FaultKind, Reason};
use crate::session::Lister;

impl Post<'_> {
    /// Serves a request of that revision: by all servers, or by the one of which it names something.
    pub(super) async fn serve_of_all(
        &self,
        envelope: &Envelope<'_>,
        request: &StatelessRequest<'_>,
        mut tally: Tally,
    ) -> Response<Body> {
        let sessions = &self.front.sessions;
        if let Some(config) = &self.config
            && let Err(failure) = sessions.check_parts(self.principal, config).await
        {
            return tally.refuse(&failure, request.id);
        }
        let served = match &*request.method {
            "server/discover" => sessions.hello_of_all(self.principal).and_then(|hello| {
                tally.answered(false);
                let body = discovered(request.id, hello.text(), LISTS_LAST);
                let schema = sessions.advert_of_all(self.principal);
                let body = self.hold(with_advert(body, schema))?;
                Ok(reply::json(StatusCode::OK, body))
            }),
            "subscriptions/listen" => self.listen(request, &mut tally).await,
            method => match Listing::of(method) {
                Some(listing) => {
                    let lister = Lister::of_caller(self.principal.clone(), self.config.clone());
                    let listed = sessions.list_of_all(lister, listing);
                    let list = self.in_time(None, listed).await;
                    tally.answered(false);
                    let dress = Dress {
                        id: request.id,
                        method,
                        uri: None,
                        server_info: None,
                        lists_last: LISTS_LAST,
                    };
                    self.hold(dress.result(&list))
                        .map(|list| reply::json(StatusCode::OK, list))
                }
                None => return Box::pin(self.call_of_one(envelope, request, tally)).await,
            },
        };
        served.unwrap_or_else(|failure| tally.refuse(&failure, request.id))
    }

    /// The request goes to the server of which it names something, in that server's own words.
    async fn call_of_one(
        &self,
        envelope: &Envelope<'_>,
        request: &StatelessRequest<'_>,
        mut tally: Tally,
    ) -> Response<Body> {
        let sessions = &self.front.sessions;
        let found = sessions.addressed(self.principal, self.body, envelope);
        let Some((server, own)) = found else {
            tally.answered(true);
            return Final::from((&unaddressed(&request.method), request.id)).into();
        };
        tally.is_of(&server);
        let post = Post {
            front: self.front,
            principal: self.principal,
            server,
            headers: self.headers,
            body: &own.message,
            account: self.account,
            config: None,
            misfit: None,
            arrived: self.arrived,
            late: self.late,
        };
        let internal = |why: String| Failure::new(Reason::Internal, why);
        let envelope = match Envelope::parse(&own.message) {
            Ok(envelope) => envelope,
            Err(error) => return tally.refuse(&internal(error.to_string()), request.id),
        };
        let own = match StatelessRequest::read_again(&envelope) {
            Ok(own) => own,
            Err(fault) => return tally.refuse(&internal(fault.message), request.id),
        };
        let (user, config) = (post.principal, self.config.as_ref());
        let caller = {
            let wants = wants(&own, sessions, (&user.tenant, &post.server));
            sessions.caller_through_all(user, &post.server, wants, config)
        };
        match caller.await {
            Ok(caller) => post.call(&own, caller, tally).await,
            Err(failure) => tally.refuse(&failure, request.id),
        }
    }
}

/// What is wrong with a request that names nothing of any server.
fn unaddressed(method: &str) -> Fault {
    let named = |what: &str| {
        let why: Cow<'_, str> =
            format!("no such {what}: it names none of the servers on offer").into();
        Fault::new(FaultKind::Unaddressed, why)
    };
    match method {
        "tools/call" => named("tool"),
        "prompts/get" => named("prompt"),
        "resources/read" => named("resource"),
        "completion/complete" => named("prompt or template"),
        method => Fault::no_method(method),
    }
}
