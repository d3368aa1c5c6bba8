//! Failures as messages: the one place of the front door where a failure becomes an error response. From there on its
//! caller knows the request's id, and so does the log.

use crate::bridge::stateless::Fault;
use crate::protocol::Failure;
use crate::telemetry::{RequestSpan, request_failed};

/// The JSON-RPC error response that tells `failure` to whoever sent the current request. `id` is that of the message, as
/// raw JSON; `None` becomes `null`.
pub(in crate::front) fn message(failure: &Failure, id: Option<&str>) -> String {
    if failure.request.is_some() {
        return failure.to_response(id);
    }
    of_current_request(failure.clone()).to_response(id)
}

/// The failure as one of the current request, which the log has then. Of one that is told by another request, as by an
/// event stream, this says so where it is found out.
pub(in crate::front) fn of_current_request(failure: Failure) -> Failure {
    let Some(request) = RequestSpan::current_id() else {
        return failure;
    };
    let why = match failure.reason.may_be_logged() {
        true => &*failure.message,
        false => "why is told to its caller alone, as it may quote what that has set",
    };
    request_failed(failure.reason.as_str(), why);
    failure.of_request(request)
}

/// The JSON-RPC error response that says what is wrong with the current request, in the words of 2026-07-28. `id` is that
/// of the message, as raw JSON.
pub(in crate::front) fn fault(fault: &Fault, id: &str) -> String {
    let Some(request) = RequestSpan::current_id() else {
        return fault.to_response(id);
    };
    request_failed("fault", &fault.message);
    fault.clone().of_request(request).to_response(id)
}
