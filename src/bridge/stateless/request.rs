//! Requests: what they must say of themselves, and what is left of them for the worker.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{RawMembers, STATELESS, meta};
use crate::bridge::Level;
use crate::ids::RequestId;
use crate::protocol::{
    Envelope, FaultKind, Method, RawJson, Since, Unlisted, error_response, request,
};

/// The fault of a request, as this revision wants it said.
#[derive(Clone, PartialEq, Debug)]
pub struct Fault {
    /// HTTP status.
    pub status: u16,
    /// JSON-RPC code.
    pub code: i32,
    /// The reason, for people.
    pub message: String,
    /// `data` of the error.
    pub data: Option<Value>,
}

impl Fault {
    /// A fault without data.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            status: kind.http_status(),
            code: kind.rpc_code(),
            message: message.into(),
            data: None,
        }
    }

    /// The client did not declare what the server needs (basic, "Capabilities").
    pub fn missing(capabilities: Value) -> Self {
        let names = capabilities.as_object().map_or(String::new(), |object| {
            object.keys().cloned().collect::<Vec<_>>().join("`, `")
        });
        Self {
            data: Some(json!({ "requiredCapabilities": capabilities })),
            ..Self::new(
                FaultKind::MissingCapability,
                format!(
                    "the server needs a client that declares `{names}` in `_meta[\"{}\"]`",
                    meta::CAPABILITIES
                ),
            )
        }
    }

    /// The method is unknown, or the server has not got what it belongs to.
    pub fn no_method(method: &str) -> Self {
        Self::new(FaultKind::NoMethod, format!("no method `{method}`"))
    }

    /// Says which request of the front door it is.
    #[must_use]
    pub fn of_request(mut self, request: RequestId) -> Self {
        let data = self.data.get_or_insert_with(|| json!({}));
        data["requestId"] = Value::from(request.to_string());
        self
    }

    /// The JSON-RPC response. `id` is raw JSON.
    pub fn to_response(&self, id: &str) -> String {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        error_response(id, &error)
    }
}

/// Whether a message is of this revision or a later one: its metadata says so, or its header does
/// (basic/versioning).
pub fn is_stateless(version_header: Option<&str>, envelope: &Envelope<'_>) -> bool {
    // Revisions are dates, and sort like them.
    let is_later = |version: &str| version.len() == STATELESS.len() && version >= STATELESS;
    let says_so = || match envelope.plain_meta(meta::VERSION) {
        Ok(version) => version.is_some(),
        Err(Unlisted) => {
            let params = envelope.params.and_then(|params| Params::read(params).ok());
            params.is_some_and(|(_, meta)| meta.contains_key(meta::VERSION))
        }
    };
    version_header.is_some_and(is_later) || says_so()
}

struct Params;

impl Params {
    /// The members of params, and those of `_meta`.
    fn read(params: RawJson<'_>) -> Result<(RawMembers<'_>, RawMembers<'_>), serde_json::Error> {
        let members: RawMembers<'_> = serde_json::from_str(params.get())?;
        let meta = match members.get("_meta") {
            Some(meta) => serde_json::from_str(meta.get())?,
            None => RawMembers::new(),
        };
        Ok((members, meta))
    }
}

/// A request whose metadata is complete and agrees with its headers.
#[derive(Debug)]
pub struct StatelessRequest<'a> {
    /// The method.
    pub method: Cow<'a, str>,
    /// The id, as raw JSON.
    pub id: &'a str,
    /// What the client can do, for this request.
    pub capabilities: Map<String, Value>,
    /// Log lines it wants, from that level on; none without.
    pub level: Option<Level>,
    /// The request's progress token, as raw JSON.
    pub token: Option<&'a str>,
    /// Answers to what an earlier result asked for, by key.
    pub responses: Map<String, Value>,
    /// What that result gave it to bring back.
    pub state: Option<String>,
    params: RawMembers<'a>,
    meta: RawMembers<'a>,
}

impl<'a> StatelessRequest<'a> {
    /// Reads a request and checks what can be checked without the server, in the order in which
    /// faults have precedence. `header` looks a header up by its lower-case name.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn read(
        envelope: &Envelope<'a>,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, Fault> {
        Self::read_and(envelope, |name, value| same_header(&header, name, value))
    }

    /// Reads a request whose headers were compared before stdiopool changed what it names.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn read_again(envelope: &Envelope<'a>) -> Result<Self, Fault> {
        Self::read_and(envelope, |_, _| Ok(()))
    }

    fn read_and(
        envelope: &Envelope<'a>,
        agrees: impl Fn(&str, &str) -> Result<(), Fault>,
    ) -> Result<Self, Fault> {
        let invalid = |why: String| Fault::new(FaultKind::InvalidParams, why);
        let read = envelope.params.map(Params::read).transpose();
        let (params, meta) = read
            .map_err(|error| {
                invalid(format!(
                    "`params` are no object with an object `_meta`: {error}"
                ))
            })?
            .unwrap_or_default();
        let method = envelope.method.clone().unwrap_or_default();
        let needed = |name: &str| {
            meta.get(name)
                .ok_or_else(|| invalid(format!("`_meta[\"{name}\"]` is missing")))
        };
        let version: String = serde_json::from_str(needed(meta::VERSION)?.get())
            .map_err(|_| invalid(format!("`_meta[\"{}\"]` is no string", meta::VERSION)))?;
        let capabilities = serde_json::from_str(needed(meta::CAPABILITIES)?.get())
            .map_err(|_| invalid(format!("`_meta[\"{}\"]` is no object", meta::CAPABILITIES)))?;
        agrees("mcp-protocol-version", &version)?;
        if version != STATELESS {
            return Err(Fault {
                data: Some(json!({ "supported": [STATELESS], "requested": version })),
                ..Fault::new(
                    FaultKind::UnsupportedVersion,
                    format!(
                        "revision `{version}` is not served in this way (served: {STATELESS}; older ones begin with `initialize`)"
                    ),
                )
            });
        }
        agrees("mcp-method", &method)?;
        let text = |name: &str| {
            let text: Option<String> = serde_json::from_str(params.get(name)?.get()).ok();
            text
        };
        let known = Method::of(&method);
        if let Some(named) = known.and_then(|known| text(known.named_by?)) {
            agrees("mcp-name", &named)?;
        }
        if known.is_some_and(|known| known.since == Since::UntilStateless) {
            return Err(Fault::no_method(&method));
        }
        let level = match meta.get(meta::LOG_LEVEL) {
            None => None,
            Some(level) => {
                let name: Option<String> = serde_json::from_str(level.get()).ok();
                let known = name.as_deref().and_then(Level::parse);
                Some(known.ok_or_else(|| {
                    invalid(format!("`_meta[\"{}\"]` is no log level", meta::LOG_LEVEL))
                })?)
            }
        };
        let responses = optional(&params, "inputResponses")
            .map_err(|_| invalid("`inputResponses` is no object".to_owned()))?;
        let state = optional(&params, "requestState")
            .map_err(|_| invalid("`requestState` is no string".to_owned()))?;
        Ok(Self {
            method,
            id: envelope.id.map_or("null", |id| id.get()),
            capabilities,
            level,
            token: meta.get("progressToken").map(|token| token.get()),
            responses: responses.unwrap_or_default(),
            state,
            params,
            meta,
        })
    }

    /// Whether the client can be asked anything.
    pub fn can_be_asked(&self) -> bool {
        ["elicitation", "sampling", "roots"]
            .iter()
            .any(|name| self.capabilities.contains_key(*name))
    }

    /// A member of the parameters, as raw JSON.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.params.get(name).map(|value| value.get())
    }

    /// The request in the words of the legacy era: its parameters, without what only this
    /// revision has. Members of others in `_meta` (trace context, vendors) stay.
    pub fn for_worker(&self) -> String {
        let meta = self
            .meta
            .iter()
            .filter(|(name, _)| !name.starts_with(meta::PREFIX));
        let meta = object(meta);
        let mut params = self
            .params
            .iter()
            .filter(|(name, _)| !["_meta", "inputResponses", "requestState"].contains(&&***name));
        let mut params = object(&mut params);
        if meta != "{}" {
            params.pop();
            if params.len() > 1 {
                params.push(',');
            }
            params.push_str("\"_meta\":");
            params.push_str(&meta);
            params.push('}');
        }
        request(self.id, &self.method, params)
    }

    /// The part of a request by which two are equal, whatever their ids and the answers they bring.
    pub fn substance(&self) -> String {
        let params = self
            .params
            .iter()
            .filter(|(name, _)| !["_meta", "inputResponses", "requestState"].contains(&&***name));
        format!("{} {}", self.method, object(params))
    }
}

/// A member of the parameters that may be left out, or be `null`, as some clients write that.
fn optional<T: DeserializeOwned>(
    params: &RawMembers<'_>,
    name: &str,
) -> Result<Option<T>, serde_json::Error> {
    let given = params.get(name);
    given.map_or(Ok(None), |given| serde_json::from_str(given.get()))
}

fn object<'m>(members: impl Iterator<Item = (&'m Cow<'m, str>, &'m &'m RawValue)>) -> String {
    let mut text = String::from("{");
    for (name, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&Value::from(&**name).to_string());
        text.push(':');
        text.push_str(value.get());
    }
    text.push('}');
    text
}

/// A header that must repeat what the body says (basic/transports/streamable-http, "Server
/// Validation").
fn same_header<'h>(
    header: &impl Fn(&str) -> Option<&'h str>,
    name: &str,
    value: &str,
) -> Result<(), Fault> {
    let mismatch = |why: String| Err(Fault::new(FaultKind::HeaderMismatch, why));
    match header(name).map(str::trim) {
        None => mismatch(format!(
            "header `{name}` is missing (the body says `{value}`)"
        )),
        Some(found) if decoded(found).as_deref() == Some(value) => Ok(()),
        Some(found) => mismatch(format!(
            "header `{name}` is `{found}`, but the body says `{value}`"
        )),
    }
}

/// A header's value, of which some cannot be written as they are ("Value Encoding"). `None` if it
/// looks encoded and is not.
pub(super) fn decoded(text: &str) -> Option<Cow<'_, str>> {
    let encoded = text
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="));
    match encoded {
        None => Some(Cow::Borrowed(text)),
        Some(encoded) => {
            let bytes = STANDARD.decode(encoded).ok()?;
            String::from_utf8(bytes).ok().map(Cow::Owned)
        }
    }
}

/// Whether the params' tool arguments and the `Mcp-Param-*` headers agree, for a tool whose schema
/// asks for such headers ("Custom Headers from Tool Parameters").
///
/// # Errors
/// The first header that is missing, or says something else.
pub fn check_param_headers<'h>(
    schema: &Value,
    arguments: Option<&str>,
    header: &impl Fn(&str) -> Option<&'h str>,
) -> Result<(), Fault> {
    let arguments: Value = arguments
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null);
    check_properties(schema, &arguments, header)
}

fn check_properties<'h>(
    schema: &Value,
    arguments: &Value,
    header: &impl Fn(&str) -> Option<&'h str>,
) -> Result<(), Fault> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Ok(());
    };
    for (name, property) in properties {
        let value = arguments.get(name).filter(|value| !value.is_null());
        if let Some(suffix) = property.get("x-mcp-header").and_then(Value::as_str) {
            check_param(suffix, value, header)?;
        }
        check_properties(property, value.unwrap_or(&Value::Null), header)?;
    }
    Ok(())
}

fn check_param<'h>(
    suffix: &str,
    value: Option<&Value>,
    header: &impl Fn(&str) -> Option<&'h str>,
) -> Result<(), Fault> {
    let name = format!("mcp-param-{}", suffix.to_ascii_lowercase());
    let found = header(&name).map(str::trim);
    let agrees = match (value, found) {
        (None, None) => true,
        (Some(value), Some(found)) => decoded(found).is_some_and(|found| match value {
            Value::String(text) => *text == found,
            Value::Bool(value) => found == value.to_string(),
            Value::Number(number) => {
                found == number.to_string()
                    || found.parse().ok().zip(number.as_f64()).is_some_and(
                        #[allow(clippy::float_cmp, reason = "integers within 2^53, by the rule")]
                        |(found, number): (f64, f64)| found == number,
                    )
            }
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        }),
        (None, Some(_)) | (Some(_), None) => false,
    };
    if agrees {
        return Ok(());
    }
    let argument = value.map_or("nothing".to_owned(), Value::to_string);
    Err(Fault::new(
        FaultKind::HeaderMismatch,
        format!(
            "header `{name}` is {}, but the argument is {argument}",
            found.map_or("missing".to_owned(), |found| format!("`{found}`"))
        ),
    ))
}
