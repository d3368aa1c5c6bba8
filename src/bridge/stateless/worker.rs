//! A session's requests in the words of the stateless revision, and what comes back in its own:
//! the client speaks the legacy era, the server the modern one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{RawMembers, STATELESS, meta};
use crate::bridge::Level;
use crate::protocol::{RawJson, bare_notification, code, notification, one_line, request};

/// Members of a result that only this revision has.
const OWN_MEMBERS: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];

/// The members of `_meta` that say who sends a request, without the braces (basic, "_meta").
pub fn identity(client_info: &Value, capabilities: &Map<String, Value>) -> String {
    let mut members = format!(
        r#""{}":"{STATELESS}","{}":{}"#,
        meta::VERSION,
        meta::CAPABILITIES,
        Value::Object(capabilities.clone())
    );
    if client_info.is_object() {
        members.push_str(&format!(r#","{}":{client_info}"#, meta::CLIENT_INFO));
    }
    members
}

/// A request that can be sent again with more input.
#[derive(Clone, Debug)]
pub struct Template {
    method: Box<str>,
    /// The parameters, `_meta` included, without the closing brace.
    params: Box<str>,
}

impl Template {
    /// From a session's request; `None` if its parameters are no object. `token` stands for the
    /// client's progress token.
    pub fn read(
        method: &str,
        params: Option<RawJson<'_>>,
        identity: &str,
        level: Option<Level>,
        token: Option<u64>,
    ) -> Option<Self> {
        let members: RawMembers<'_> = match params {
            Some(params) => serde_json::from_str(params.get()).ok()?,
            None => RawMembers::new(),
        };
        let own: RawMembers<'_> = match members.get("_meta") {
            Some(own) => serde_json::from_str(own.get()).ok()?,
            None => RawMembers::new(),
        };
        let mut text = String::from("{");
        for (name, value) in &members {
            if ["_meta", "inputResponses", "requestState"].contains(&&**name) {
                continue;
            }
            put_member(&mut text, name, value.get());
        }
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str("\"_meta\":{");
        text.push_str(identity);
        if let Some(level) = level {
            put_member(
                &mut text,
                meta::LOG_LEVEL,
                &Value::from(level.as_str()).to_string(),
            );
        }
        for (name, value) in &own {
            if name.starts_with(meta::PREFIX) {
                continue;
            }
            match token.filter(|_| name == "progressToken") {
                Some(token) => put_member(&mut text, name, &token.to_string()),
                None => put_member(&mut text, name, value.get()),
            }
        }
        text.push('}');
        Some(Self {
            method: method.into(),
            params: text.into(),
        })
    }

    /// The request under that id, with what an earlier round asked for.
    pub fn line(&self, id: u64, responses: &BTreeMap<String, Bytes>, state: Option<&str>) -> Bytes {
        let mut params = self.params.to_string();
        if !responses.is_empty() {
            params.push_str(r#","inputResponses":{"#);
            for (key, given) in responses {
                // Raw JSON, of which nothing but text was ever kept.
                put_member(&mut params, key, &String::from_utf8_lossy(given));
            }
            params.push('}');
        }
        if let Some(state) = state {
            params.push_str(&format!(r#","requestState":{state}"#));
        }
        params.push('}');
        // A client may have put line breaks between its tokens.
        let mut line = request(id, &self.method, params).into_bytes();
        one_line(&mut line);
        line.into()
    }

    /// Bytes that it takes.
    pub fn kept(&self) -> usize {
        self.method.len() + self.params.len()
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }
}

fn put_member(text: &mut String, name: &str, value: &str) {
    if !text.ends_with('{') {
        text.push(',');
    }
    text.push_str(&Value::from(name).to_string());
    text.push(':');
    text.push_str(value);
}

/// Something that a server wants to know before it answers.
#[derive(Clone, PartialEq, Debug)]
pub struct InputRequest {
    /// The name of the question in the answer.
    pub key: String,
    /// What is asked, as a client of the legacy era is asked.
    pub method: String,
    /// The question's parameters as raw JSON, an object.
    pub params: Box<str>,
}

/// The kind of a result.
#[derive(Debug)]
pub enum Outcome {
    /// The answer.
    Complete,
    /// The request is to be sent again, with these and that state, as raw JSON
    /// (basic/patterns/mrtr).
    InputRequired {
        /// What is asked; nothing: it can be sent at once.
        requests: Vec<InputRequest>,
        /// To be brought back untouched.
        state: Option<Box<str>>,
    },
    /// A kind that clients of the legacy era do not know.
    Unknown(String),
}

impl Outcome {
    /// Reads a result.
    pub fn of(result: &str) -> Self {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct View<'a> {
            result_type: Option<String>,
            #[serde(default)]
            #[serde(borrow)]
            input_requests: BTreeMap<String, InputView<'a>>,
            #[serde(borrow)]
            request_state: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct InputView<'a> {
            method: String,
            #[serde(borrow)]
            params: Option<&'a RawValue>,
        }
        let Ok(view) = serde_json::from_str::<View<'_>>(result) else {
            // A result whose own members are not what they must be is passed on like any other.
            return Self::Complete;
        };
        match view.result_type.as_deref() {
            // Absent means complete (basic, "Responses").
            None | Some("complete") => Self::Complete,
            Some("input_required") => Self::InputRequired {
                requests: view
                    .input_requests
                    .into_iter()
                    .map(|(key, asked)| InputRequest {
                        key,
                        method: asked.method,
                        params: object_or_empty(asked.params).into(),
                    })
                    .collect(),
                state: view.request_state.map(|state| state.get().into()),
            },
            Some(other) => Self::Unknown(other.to_owned()),
        }
    }
}

impl InputRequest {
    /// The request to a client of the legacy era, under that id.
    pub fn message(&self, id: &str) -> Bytes {
        match self.method == "elicitation/create" && lacks_elicitation_id(&self.params) {
            false => request(id, &self.method, &self.params).into(),
            // Required there, and named by nobody afterwards.
            true => {
                let rest = &self.params[1..];
                let params = format!(r#"{{"elicitationId":{id},{}"#, rest.trim_start());
                request(id, &self.method, params).into()
            }
        }
    }
}

/// Parameters as they were written; those that are no object say nothing.
fn object_or_empty(params: Option<&RawValue>) -> &str {
    let text = params.map_or("{}", RawValue::get);
    match text.starts_with('{') {
        true => text,
        false => "{}",
    }
}

/// Whether a question is asked at an address, without an id that names it.
fn lacks_elicitation_id(params: &str) -> bool {
    let members: RawMembers<'_> = serde_json::from_str(params).unwrap_or_default();
    let mode = members
        .get("mode")
        .map(|mode| serde_json::from_str::<String>(mode.get()));
    let is_by_url = mode.and_then(Result::ok).as_deref() == Some("url");
    is_by_url && !members.contains_key("elicitationId")
}

/// A result without what only this revision has.
pub fn plain_result(result: &str) -> Cow<'_, str> {
    let Ok(members) = serde_json::from_str::<RawMembers<'_>>(result) else {
        return Cow::Borrowed(result);
    };
    let mut text = String::with_capacity(result.len());
    text.push('{');
    for (name, value) in &members {
        if OWN_MEMBERS.contains(&&**name) {
            continue;
        }
        if name == "_meta" {
            if let Some(rest) = plain_meta(value.get()) {
                put_member(&mut text, name, &rest);
            }
        } else {
            put_member(&mut text, name, value.get());
        }
    }
    text.push('}');
    Cow::Owned(text)
}

/// `_meta` without the protocol's own members; `None` if nothing is left.
fn plain_meta(own: &str) -> Option<String> {
    let Ok(members) = serde_json::from_str::<RawMembers<'_>>(own) else {
        return Some(own.to_owned());
    };
    let mut text = String::from("{");
    for (name, value) in &members {
        if !name.starts_with(meta::PREFIX) {
            put_member(&mut text, name, value.get());
        }
    }
    text.push('}');
    (text != "{}" || members.is_empty()).then_some(text)
}

/// A notification without what only this revision has, and the subscription it belongs to.
pub fn plain_notification(method: &str, params: &str) -> (Bytes, Option<u64>) {
    let members: RawMembers<'_> = serde_json::from_str(params).unwrap_or_default();
    let subscription = members.get("_meta").and_then(|own| {
        let own: RawMembers<'_> = serde_json::from_str(own.get()).ok()?;
        let id = own.get(meta::SUBSCRIPTION)?.get();
        id.trim_matches('"').parse().ok()
    });
    let message = match &*plain_result(params) {
        "{}" => bare_notification(method),
        params => notification(method, params),
    };
    (message.into(), subscription)
}

/// The revisions that a server names because it was asked in another (basic/versioning,
/// "UnsupportedProtocolVersionError"); `None` for any other error.
pub fn refused_revisions(error: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct View {
        code: i64,
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        supported: Vec<String>,
    }
    let view: View = serde_json::from_str(error).ok()?;
    (view.code == i64::from(code::UNSUPPORTED_VERSION)).then_some(view.data.supported)
}

/// An error in the words of the legacy era.
pub fn plain_error(method: &str, error: &str) -> String {
    let mut told: Value = serde_json::from_str(error).unwrap_or(Value::Null);
    let code = told["code"]
        .as_i64()
        .and_then(|code| i32::try_from(code).ok());
    match code {
        // Faults of the request that stdiopool wrote; its client has nothing to mend.
        Some(code::HEADER_MISMATCH | code::UNSUPPORTED_VERSION) => {
            told["code"] = json!(code::INTERNAL_ERROR);
        }
        // Resources that are not there had a code of their own.
        Some(code::INVALID_PARAMS)
            if method == "resources/read" && told["data"].get("uri").is_some() =>
        {
            told["code"] = json!(code::RESOURCE_NOT_FOUND);
        }
        _ => return error.to_owned(),
    }
    told.to_string()
}
