//! What a caller sets for one server, or for several, over what its tenant has set. Where it may come
//! from is the front's business (`front::pipeline::client_config`); what it may hold is decided by `may_set` in
//! `caller_config`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::values::merge;
use crate::fields;
use crate::ids::ServerName;
use crate::protocol::{Failure, Reason};

/// What handles begin with.
pub const HANDLE_PREFIX: &str = "cfg_";

/// Longest config of a caller that is taken, in bytes, wherever it stands and altogether.
pub const MAX_CONFIG: usize = 64 << 10;

/// The alphabet of URLs (RFC 4648, 5), padded or not.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A caller's values and secrets for a server; or, where all servers are offered as one, such a
/// config for each of some of them, and nothing else. `Debug` shows names only: values may be
/// confidential too.
#[derive(Clone, Default)]
pub struct ClientConfig {
    values: Map<String, Value>,
    secrets: BTreeMap<String, SecretString>,
    parts: BTreeMap<ServerName, ClientConfig>,
}

impl ClientConfig {
    /// A config of these values and secrets, by name.
    pub fn new(values: Map<String, Value>, secrets: BTreeMap<String, SecretString>) -> Self {
        Self {
            values,
            secrets,
            parts: BTreeMap::new(),
        }
    }

    /// A config for several servers, each of which has its part.
    pub fn of_servers(parts: BTreeMap<ServerName, Self>) -> Self {
        Self {
            parts,
            ..Self::default()
        }
    }

    /// The config with `over` over it: objects member by member, anything else whole; server by server.
    #[must_use]
    pub fn with(mut self, over: &Self) -> Self {
        merge(&mut self.values, &over.values);
        let secrets = over.secrets.iter();
        self.secrets
            .extend(secrets.map(|(name, secret)| (name.clone(), secret.clone())));
        for (server, over) in &over.parts {
            let under = self.parts.remove(server).unwrap_or_default();
            self.parts.insert(server.clone(), under.with(over));
        }
        self
    }

    /// The values, by key.
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// The secrets, by name.
    pub fn secrets(&self) -> &BTreeMap<String, SecretString> {
        &self.secrets
    }

    /// What the config sets for each server, if it is for several.
    pub fn parts(&self) -> &BTreeMap<ServerName, Self> {
        &self.parts
    }

    /// What the config sets for that one of several; `None` for nothing.
    pub fn part(&self, server: &ServerName) -> Option<&Self> {
        self.parts.get(server).filter(|part| !part.is_empty())
    }

    /// Whether the config sets nothing.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.secrets.is_empty() && self.parts.values().all(Self::is_empty)
    }

    /// The length of the config, in bytes of JSON; secrets as they are.
    pub fn bytes(&self) -> usize {
        let values = Value::Object(self.values.clone()).to_string().len();
        let secrets = self.secrets.iter();
        let secrets: usize = secrets
            .map(|(name, secret)| name.len() + secret.expose_secret().len())
            .sum();
        let parts = self.parts.iter();
        let parts: usize = parts
            .map(|(server, part)| server.as_str().len() + part.bytes())
            .sum();
        values + secrets + parts
    }

    /// Checks that it is no longer than [`MAX_CONFIG`].
    ///
    /// # Errors
    /// [`Reason::MessageTooLarge`] when it is.
    pub fn fits(self) -> Result<Self, Failure> {
        fits("what the caller sets altogether", self.bytes())?;
        Ok(self)
    }

    /// The values without the secrets, as JSON; by server, if it is for several.
    pub fn plain(&self) -> Value {
        if self.parts.is_empty() {
            return Value::Object(self.values.clone());
        }
        let parts = self.parts.iter();
        parts
            .map(|(server, part)| (server.to_string(), part.plain()))
            .collect()
    }

    /// What [`ClientConfig::plain`] shows of one for that server, or for [all](ServerName::all).
    pub fn of_plain(server: &ServerName, values: Map<String, Value>) -> Self {
        if *server != ServerName::all() {
            return Self::new(values, BTreeMap::new());
        }
        let parts = values.into_iter().filter_map(|(name, part)| match part {
            Value::Object(values) => {
                Some((ServerName::new(name), Self::new(values, BTreeMap::new())))
            }
            _ => None,
        });
        Self::of_servers(parts.collect())
    }

    /// A digest that is equal for equal contents. Made of secrets: never to be shown or kept.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let put = |hash: &mut Sha256, text: &str| {
            fields::put(text, |part| hash.update(part));
        };
        put(&mut hash, &Value::Object(self.values.clone()).to_string());
        for (name, secret) in &self.secrets {
            put(&mut hash, name);
            put(&mut hash, secret.expose_secret());
        }
        for (server, part) in &self.parts {
            put(&mut hash, server.as_str());
            hash.update(part.fingerprint());
        }
        hash.finalize().into()
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<_> = self.values.keys().collect();
        let secrets: Vec<_> = self.secrets.keys().collect();
        f.debug_struct("ClientConfig")
            .field("values", &values)
            .field("secrets", &secrets)
            .field("parts", &self.parts)
            .finish()
    }
}

/// What stands where a config may stand.
#[derive(Clone, PartialEq)]
pub enum ConfigInput {
    /// The values themselves.
    Values(Map<String, Value>),
    /// The name of a config that was stored before.
    Handle(String),
}

impl fmt::Debug for ConfigInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Values(_) => "Values",
            Self::Handle(_) => "Handle",
        })
    }
}

impl ConfigInput {
    /// Reads a member of a message; `place` names it in errors.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] for what is neither an object nor a handle.
    /// [`Reason::MessageTooLarge`] for one that is longer than [`MAX_CONFIG`].
    pub fn of_json(place: &str, json: &str) -> Result<Self, Failure> {
        fits(place, json.len())?;
        // What cannot be read is no object either.
        Self::of_value(place, serde_json::from_str(json).unwrap_or_default())
    }

    /// Takes a member of a message that has been read already; `place` names it in errors.
    ///
    /// # Errors
    /// As [`ConfigInput::of_json`].
    pub fn of_value(place: &str, value: Value) -> Result<Self, Failure> {
        match value {
            Value::Object(values) => Ok(Self::Values(values)),
            Value::String(text) if text.starts_with(HANDLE_PREFIX) => Ok(Self::Handle(text)),
            _ => Err(not_given(
                place,
                "neither a JSON object nor a handle (`cfg_…`)",
            )),
        }
    }

    /// Reads a header or query parameter: a handle as it is, or JSON as base64url.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] for what is neither.
    pub fn of_text(place: &str, text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        // Four characters for three bytes.
        fits(place, text.len() / 4 * 3)?;
        if text.starts_with(HANDLE_PREFIX) {
            return Ok(Self::Handle(text.to_owned()));
        }
        let bytes = URL_SAFE
            .decode(text)
            // Many callers send standard base64 instead.
            .or_else(|_| general_purpose::STANDARD.decode(text))
            .map_err(|_| not_given(place, "neither base64url nor a handle (`cfg_…`)"))?;
        let json = String::from_utf8(bytes)
            .map_err(|_| not_given(place, "base64url of something other than JSON"))?;
        Self::of_json(place, &json)
    }
}

fn fits(place: &str, bytes: usize) -> Result<(), Failure> {
    if bytes <= MAX_CONFIG {
        return Ok(());
    }
    let why = format!("{place} is a config of {bytes} bytes; {MAX_CONFIG} are taken");
    Err(Failure::new(Reason::MessageTooLarge, why))
}

fn not_given(place: &str, what: &str) -> Failure {
    Failure::new(Reason::ConfigInvalid, format!("{place} is {what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    /// The error is a text: what a user reads of it is compared.
    fn given(text: &str) -> Result<ConfigInput, String> {
        ConfigInput::of_text("the header", text).map_err(|failure| failure.message)
    }

    #[test]
    fn an_object_or_a_handle_in_every_usual_spelling() {
        let object = json!({ "q": "a?b>c~" });
        let expected = ConfigInput::Values(values(object.clone()));
        let json = object.to_string();
        for engine in [
            general_purpose::URL_SAFE,
            general_purpose::URL_SAFE_NO_PAD,
            general_purpose::STANDARD,
        ] {
            assert!(given(&engine.encode(&json)) == Ok(expected.clone()));
        }
        assert!(given(" cfg_12 ") == Ok(ConfigInput::Handle("cfg_12".into())));
        let quoted = general_purpose::URL_SAFE.encode("\"cfg_12\"");
        assert!(given(&quoted) == Ok(ConfigInput::Handle("cfg_12".into())));
    }

    #[test]
    fn what_is_too_long_is_refused_in_every_spelling_and_altogether() {
        let long = json!({ "a": "x".repeat(MAX_CONFIG) });
        let fits = json!({ "a": "x".repeat(MAX_CONFIG / 2 + 1) });
        let too_long = |result: Result<ConfigInput, Failure>| {
            result.is_err_and(|failure| failure.reason == Reason::MessageTooLarge)
        };
        let encoded = general_purpose::URL_SAFE.encode(long.to_string());
        assert!(too_long(ConfigInput::of_text("the header", &encoded)));
        assert!(too_long(ConfigInput::of_json("`x`", &long.to_string())));
        assert!(ConfigInput::of_json("`x`", &fits.to_string()).is_ok());
        let half = |name: &str| {
            let values = json!({ name: fits["a"] });
            ClientConfig::new(
                values.as_object().cloned().expect("an object"),
                BTreeMap::new(),
            )
        };
        assert!(half("a").fits().is_ok());
        let whole = half("a").with(&half("b"));
        assert!(
            whole
                .fits()
                .is_err_and(|failure| failure.reason == Reason::MessageTooLarge)
        );
    }

    #[test]
    fn what_is_neither_is_told_without_its_value() {
        for text in ["{\"repo\":\"hunter22\"}", "hunter22", "W10", "_w"] {
            let Err(why) = given(text) else {
                panic!("{text} was taken");
            };
            assert!(
                why.starts_with("the header is ") && !why.contains("hunter22"),
                "{why}"
            );
        }
        assert!(ConfigInput::of_json("`x`", "[1]").is_err());
        assert!(ConfigInput::of_json("`x`", "\"text\"").is_err());
    }

    #[test]
    fn later_values_win_member_by_member_and_count_in_the_fingerprint() {
        let config = |value, secret: Option<&str>| {
            let secrets = secret.map(|secret| ("k".to_owned(), secret.into()));
            ClientConfig::new(values(value), secrets.into_iter().collect())
        };
        let under = config(json!({ "a": 1, "o": { "x": 1, "y": 1 } }), Some("one"));
        let over = config(json!({ "o": { "y": 2 }, "b": 3 }), Some("two"));
        let both = under.clone().with(&over);
        let expected = json!({ "a": 1, "b": 3, "o": { "x": 1, "y": 2 } });
        assert_eq!(Value::Object(both.values().clone()), expected);
        assert_eq!(both.secrets()["k"].expose_secret(), "two");
        assert_eq!(
            both.fingerprint(),
            config(expected.clone(), Some("two")).fingerprint()
        );
        assert_ne!(
            both.fingerprint(),
            config(expected, Some("one")).fingerprint()
        );
        let shown = format!("{both:?}");
        assert!(
            shown.contains("\"k\"") && !shown.contains("two") && !shown.contains('3'),
            "{shown}"
        );
    }

    #[test]
    fn parts_are_merged_server_by_server_and_count_in_the_fingerprint() {
        let one = |value| ClientConfig::new(values(value), BTreeMap::new());
        let of = |parts: Vec<(&str, Value)>| {
            let parts = parts.into_iter();
            let parts = parts.map(|(name, value)| (ServerName::new(name), one(value)));
            ClientConfig::of_servers(parts.collect())
        };
        let under = of(vec![
            ("a", json!({ "x": 1, "y": 1 })),
            ("b", json!({ "x": 1 })),
        ]);
        let swapped = of(vec![
            ("a", json!({ "x": 1 })),
            ("b", json!({ "x": 1, "y": 1 })),
        ]);
        assert_ne!(swapped.fingerprint(), under.fingerprint());
        let over = of(vec![("a", json!({ "y": 2 })), ("c", json!({ "x": 3 }))]);
        let both = under.with(&over);
        let expected = json!({ "a": { "x": 1, "y": 2 }, "b": { "x": 1 }, "c": { "x": 3 } });
        assert_eq!(both.plain(), expected);
        let again = ClientConfig::of_plain(&ServerName::all(), values(expected));
        assert_eq!(again.fingerprint(), both.fingerprint());
        assert!(of(vec![("a", json!({}))]).is_empty());
        assert!(both.part(&ServerName::new("d")).is_none());
    }
}
