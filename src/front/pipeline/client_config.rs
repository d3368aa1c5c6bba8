//! The config that a request sets for its server, from each place where it may stand. Whether a caller may set it is decided in `tenancy::caller_config`.
//!
//! | place | |
//! | --- | --- |
//! | `?config=` | JSON as base64url, or a handle |
//! | `Mcp-Client-Config` | JSON as base64url, or a handle |
//! | `params.clientConfig` | an object, or a handle |
//! | `params._meta["dev.stdiopool/config"]` | an object, or a handle |
//!
//! Where all servers are offered as one, each of these holds such a config for each of some servers,
//! by name: an object of objects and handles; or a handle, of one server or of several.
//!
//! Of these, a lower row of the table wins over a higher one. Of `initialize`, it holds for the whole session. Nothing of it reaches a worker
//! but through the arguments and environment of its process.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Uri};
use serde_json::json;

use crate::bridge::{CLIENT_CONFIG, CONFIG, addressed};
use crate::front::state::Front;
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, Reason, step_to};
use crate::tenancy::{ClientConfig, ConfigInput, Principal};

/// The header that holds a config or a handle.
pub(in crate::front) static CONFIG_HEADER: HeaderName =
    HeaderName::from_static("mcp-client-config");

/// Turns what is given into a config: who may use which handle is decided here.
pub(in crate::front) struct Configs<'a> {
    pub(in crate::front) front: &'a Front,
    pub(in crate::front) principal: &'a Principal,
    pub(in crate::front) server: &'a ServerName,
}

impl Configs<'_> {
    /// What the request line and headers set; `None`: nothing.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] for what is no config, or an unknown handle.
    pub(in crate::front) fn of_request(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<ClientConfig>, Failure> {
        let mut whole = None;
        if let Some(query) = uri.query() {
            for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
                if name == "config" {
                    // `+` of the other base64 alphabet reads as a blank in a query.
                    let value = value.replace(' ', "+");
                    let given = ConfigInput::of_text("query parameter `config`", &value)?;
                    self.put(&mut whole, given)?;
                }
            }
        }
        for value in headers.get_all(&CONFIG_HEADER) {
            let text = value.to_str().map_err(|_| {
                let why = "header `Mcp-Client-Config` is neither base64url nor a handle (`cfg_…`)";
                Failure::new(Reason::ConfigInvalid, why)
            })?;
            let given = ConfigInput::of_text("header `Mcp-Client-Config`", text)?;
            self.put(&mut whole, given)?;
        }
        Ok(whole)
    }

    /// What a message sets, and the message without it. Both are `None` for nearly every message.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] for what is no config, or an unknown handle;
    /// [`Reason::InvalidParams`] for a message that its worker might read otherwise, or drop.
    pub(in crate::front) fn of_message(
        &self,
        envelope: &Envelope<'_>,
    ) -> Result<(Option<ClientConfig>, Option<Bytes>), Failure> {
        let Some(found) = addressed(envelope)? else {
            return Ok((None, None));
        };
        let mut whole = None;
        if let Some(json) = &found.client_config {
            let given = ConfigInput::of_json(&format!("`params.{CLIENT_CONFIG}`"), json)?;
            self.put(&mut whole, given)?;
        }
        if let Some(json) = &found.meta_config {
            let given = ConfigInput::of_json(&format!("`params._meta[\"{CONFIG}\"]`"), json)?;
            self.put(&mut whole, given)?;
        }
        Ok((whole, Some(found.message)))
    }

    fn put(&self, whole: &mut Option<ClientConfig>, given: ConfigInput) -> Result<(), Failure> {
        let over = if *self.server == ServerName::all() {
            self.of_all(given)?
        } else {
            self.of_one(given, self.server)?
        };
        *whole = Some(whole.take().unwrap_or_default().with(&over).fits()?);
        Ok(())
    }

    fn of_one(&self, given: ConfigInput, server: &ServerName) -> Result<ClientConfig, Failure> {
        match given {
            ConfigInput::Values(values) => Ok(ClientConfig::new(values, BTreeMap::new())),
            ConfigInput::Handle(id) => self.front.handles.resolve(&id, self.principal, server),
        }
    }

    /// What is given for each of the servers that are offered to the caller as one.
    fn of_all(&self, given: ConfigInput) -> Result<ClientConfig, Failure> {
        let offered = self
            .front
            .gateway
            .aggregate_view()
            .offered_to(self.principal);
        let values = match given {
            ConfigInput::Values(values) => values,
            ConfigInput::Handle(id) => {
                let handles = &self.front.handles;
                return handles.resolve_for_all(&id, self.principal, &offered);
            }
        };
        let mut parts = BTreeMap::new();
        for (name, value) in values {
            let server = offered.iter().find(|server| server.as_str() == name);
            let server = server.ok_or_else(|| not_offered(&name, &offered))?;
            let part = ConfigInput::of_value(&format!("the config of server `{name}`"), value)
                .and_then(|given| self.of_one(given, server))
                .map_err(|failure| at(&name, failure))?;
            parts.insert(server.clone(), part);
        }
        Ok(ClientConfig::of_servers(parts))
    }
}

/// Nothing is said of servers that are there for others.
fn not_offered(name: &str, offered: &[ServerName]) -> Failure {
    let offered: Vec<_> = offered.iter().map(|server| format!("`{server}`")).collect();
    let offered = match offered.is_empty() {
        true => "none".to_owned(),
        false => offered.join(", "),
    };
    let why = format!(
        "configs are given by server here, and there is no server `{name}` (on offer: {offered})"
    );
    at(name, Failure::new(Reason::ConfigInvalid, why))
}

/// Says with a failure which member of a config by server it is about.
fn at(name: &str, failure: Failure) -> Failure {
    let step = step_to(name);
    let error = json!({ "pointer": format!("/{step}"), "message": failure.message });
    failure.detail("errors", json!([error]))
}

/// `over` over `under`.
///
/// # Errors
/// [`Reason::MessageTooLarge`] when the two are too long together.
pub(in crate::front) fn together(
    under: Option<ClientConfig>,
    over: Option<ClientConfig>,
) -> Result<Option<ClientConfig>, Failure> {
    match (under, over) {
        (Some(under), Some(over)) => under.with(&over).fits().map(Some),
        (under, over) => Ok(over.or(under)),
    }
}
