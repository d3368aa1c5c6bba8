//! What the methods and tools take, read once at the edge.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::Refusal;
use crate::protocol::RawJson;

/// Longest `sleep`, in seconds: a day.
const MAX_SECONDS: f64 = 86_400.0;
/// Most progress notifications of one `sleep`.
const MAX_STEPS: u32 = 1000;
/// Largest text of `big`, in bytes.
const MAX_BIG: usize = 64 * 1024 * 1024;

/// `params` as a `T`; absent ones count as `{}`.
///
/// # Errors
/// -32602 naming what does not fit.
pub(super) fn read<T: DeserializeOwned>(params: Option<RawJson<'_>>) -> Result<T, Refusal> {
    serde_json::from_str(params.map_or("{}", RawJson::get))
        .map_err(|error| Refusal::params(error.to_string()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Initialize {
    pub(super) protocol_version: String,
    pub(super) capabilities: Value,
    pub(super) client_info: Value,
}

#[derive(Deserialize)]
pub(super) struct Call {
    pub(super) name: String,
    #[serde(default = "nothing")]
    pub(super) arguments: Box<RawValue>,
    #[serde(default, rename = "_meta")]
    pub(super) meta: Meta,
}

fn nothing() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("{} is JSON")
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    /// The progress token as written, quotes included.
    #[serde(default)]
    pub(super) progress_token: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cancelled {
    /// The request's id as written, quotes included.
    pub(super) request_id: Box<RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    pub(super) cursor: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Uri {
    pub(super) uri: String,
}

#[derive(Deserialize)]
pub(super) struct SetLevel {
    pub(super) level: Level,
}

#[derive(Deserialize)]
pub(super) struct GetPrompt {
    pub(super) name: String,
    #[serde(default)]
    pub(super) arguments: Greet,
}

#[derive(Deserialize, Default)]
pub(super) struct Greet {
    pub(super) name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Complete {
    #[serde(rename = "ref")]
    pub(super) of: Reference,
    pub(super) argument: Argument,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
pub(super) enum Reference {
    #[serde(rename = "ref/prompt")]
    Prompt { name: String },
    #[serde(rename = "ref/resource")]
    Resource { uri: String },
}

#[derive(Deserialize)]
pub(super) struct Argument {
    pub(super) name: String,
    pub(super) value: String,
}

/// The severities of RFC 5424, least severe first.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl Level {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Echo {
    pub(super) message: String,
}

#[derive(Deserialize)]
pub(super) struct Add {
    pub(super) a: f64,
    pub(super) b: f64,
}

#[derive(Deserialize)]
pub(super) struct Sleep {
    #[serde(deserialize_with = "seconds")]
    pub(super) seconds: f64,
    #[serde(default = "one", deserialize_with = "steps")]
    pub(super) steps: u32,
}

#[derive(Deserialize)]
pub(super) struct Log {
    pub(super) level: Level,
    pub(super) message: String,
}

#[derive(Deserialize)]
pub(super) struct Notify {
    pub(super) kind: NotifyKind,
    pub(super) uri: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(super) enum NotifyKind {
    Tools,
    Prompts,
    Resources,
    Resource,
}

#[derive(Deserialize)]
pub(super) struct Ask {
    pub(super) kind: AskKind,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(super) enum AskKind {
    Sampling,
    Elicitation,
    Roots,
}

#[derive(Deserialize)]
pub(super) struct Big {
    #[serde(deserialize_with = "big")]
    pub(super) bytes: usize,
}

#[derive(Deserialize)]
pub(super) struct Exit {
    #[serde(default)]
    pub(super) code: u8,
}

/// Arguments of the tools that take none; members that are given are ignored.
#[derive(Deserialize)]
pub(super) struct Nothing {}

const fn one() -> u32 {
    1
}

fn seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let seconds = f64::deserialize(from)?;
    if (0.0..=MAX_SECONDS).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(D::Error::custom(format!(
            "`seconds` is {seconds}, must be 0 to {MAX_SECONDS}"
        )))
    }
}

fn steps<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let steps = u32::deserialize(from)?;
    if (1..=MAX_STEPS).contains(&steps) {
        Ok(steps)
    } else {
        Err(D::Error::custom(format!(
            "`steps` is {steps}, must be 1 to {MAX_STEPS}"
        )))
    }
}

fn big<'de, D: serde::Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let bytes = usize::deserialize(from)?;
    if bytes <= MAX_BIG {
        Ok(bytes)
    } else {
        Err(D::Error::custom(format!(
            "`bytes` is {bytes}, must be at most {MAX_BIG}"
        )))
    }
}
