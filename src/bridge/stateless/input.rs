//! What a worker asks its client during a call, as this revision's clients are asked: by a result
//! that requires input, after which they send the request again (basic/patterns/mrtr).

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::protocol::{Envelope, code, error_response, result_response};

/// A worker's request to the client of a call.
#[derive(Clone, PartialEq, Debug)]
pub struct Question {
    /// What the worker's request is called between stdiopool and whoever answers, as raw JSON.
    pub ask: Box<str>,
    /// The name of the question to the client.
    pub key: String,
    method: String,
    params: Value,
}

impl Question {
    /// Reads a worker's request; `key` names it to the client. `None` if this revision's clients
    /// cannot be asked such a thing.
    pub fn read(envelope: &Envelope<'_>, key: String) -> Option<Self> {
        let method = envelope.method.as_deref()?;
        if !["elicitation/create", "sampling/createMessage", "roots/list"].contains(&method) {
            return None;
        }
        let params = envelope.params.map_or("{}", |params| params.get());
        Some(Self {
            ask: envelope.id?.get().into(),
            key,
            method: method.to_owned(),
            params: serde_json::from_str(params).ok()?,
        })
    }

    /// The length of the question, in bytes of JSON.
    pub fn bytes(&self) -> usize {
        self.params.to_string().len() + self.ask.len() + self.key.len()
    }

    /// The capability that the client must have declared.
    pub fn needs(&self) -> Value {
        match &*self.method {
            "elicitation/create" if self.params["mode"] == "url" => {
                json!({ "elicitation": { "url": {} } })
            }
            "elicitation/create" => json!({ "elicitation": { "form": {} } }),
            "sampling/createMessage" if self.params.get("tools").is_some() => {
                json!({ "sampling": { "tools": {} } })
            }
            "sampling/createMessage" => json!({ "sampling": {} }),
            _ => json!({ "roots": {} }),
        }
    }

    /// Whether the client declared it. An empty `elicitation` means forms (client/elicitation).
    pub fn is_declared(&self, capabilities: &Map<String, Value>) -> bool {
        let elicitation = capabilities.get("elicitation");
        match &*self.method {
            "elicitation/create" if self.params["mode"] == "url" => {
                elicitation.is_some_and(|modes| modes.get("url").is_some())
            }
            "elicitation/create" => elicitation
                .is_some_and(|modes| modes.get("form").is_some() || modes.get("url").is_none()),
            "sampling/createMessage" => capabilities.get("sampling").is_some_and(|sampling| {
                self.params.get("tools").is_none() || sampling.get("tools").is_some()
            }),
            _ => capabilities.contains_key("roots"),
        }
    }

    /// The entry of `inputRequests`.
    pub fn request(&self) -> Value {
        let mut params = self.params.clone();
        if let Some(params) = params.as_object_mut() {
            for own_to_the_older_era in ["elicitationId", "task", "_meta"] {
                params.remove(own_to_the_older_era);
            }
        }
        json!({ "method": self.method, "params": params })
    }

    /// Whether that can be an answer to it.
    pub fn is_answered_by(&self, response: &Value) -> bool {
        match &*self.method {
            "elicitation/create" => {
                let content = response.get("content");
                ["accept", "decline", "cancel"]
                    .iter()
                    .any(|a| response["action"] == *a)
                    && content.is_none_or(Value::is_object)
            }
            "sampling/createMessage" => {
                let content = &response["content"];
                response["role"].is_string() && (content.is_object() || content.is_array())
            }
            _ => response["roots"].is_array(),
        }
    }

    /// The client's answer, as the worker is told.
    pub fn answer(&self, response: &Value) -> Bytes {
        result_response(&self.ask, response.to_string().as_bytes())
    }

    /// The refusal for a worker whose client cannot be asked.
    pub fn refusal(&self) -> String {
        let why = format!("the client does not support `{}`", self.method);
        let error = json!({ "code": code::INVALID_REQUEST, "message": why });
        error_response(&self.ask, &error)
    }
}

/// The response that asks the client of request `id` for all of that. `state` is what it is to
/// bring back.
pub fn input_required<'q>(
    id: &str,
    questions: impl IntoIterator<Item = &'q Question>,
    state: &str,
) -> Bytes {
    let requests: Map<_, _> = questions
        .into_iter()
        .map(|question| (question.key.clone(), question.request()))
        .collect();
    let result = json!({
        "resultType": "input_required",
        "inputRequests": requests,
        "requestState": state,
    });
    result_response(id, result.to_string().as_bytes())
}

/// What a client is asked for by a worker's error that names pages to visit first (2025-11-25,
/// client/elicitation, "URL Elicitation Required"): the call is over, and is made anew afterwards.
/// `None` for other errors, and where the client cannot be shown pages.
pub fn pages_required(
    id: &str,
    error: &str,
    capabilities: &Map<String, Value>,
) -> Option<Result<Bytes, Value>> {
    let error: Value = serde_json::from_str(error).ok()?;
    if error["code"] != code::URL_ELICITATION_REQUIRED {
        return None;
    }
    let questions: Vec<_> = error["data"]["elicitations"]
        .as_array()?
        .iter()
        .enumerate()
        .map(|(n, params)| Question {
            ask: "null".into(),
            key: format!("page-{n}"),
            method: "elicitation/create".to_owned(),
            params: params.clone(),
        })
        .collect();
    if let Some(question) = questions.iter().find(|q| !q.is_declared(capabilities)) {
        return Some(Err(question.needs()));
    }
    let requests: Map<_, _> = questions
        .iter()
        .map(|question| (question.key.clone(), question.request()))
        .collect();
    let result = json!({ "resultType": "input_required", "inputRequests": requests });
    Some(Ok(result_response(id, result.to_string().as_bytes())))
}
