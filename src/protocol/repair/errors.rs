//! Errors of servers, as clients look for them.

use std::borrow::Cow;

use serde_json::Value;

use crate::protocol::code;

/// Whether an error object has what every client looks for.
pub fn is_usual_error(error: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct View {
        #[allow(dead_code, reason = "only its type is looked at")]
        code: i64,
        #[allow(dead_code, reason = "only its type is looked at")]
        message: Cow<'static, str>,
    }
    serde_json::from_str::<View>(error).is_ok()
}

/// An error with the code and message that clients look for.
pub(super) fn usual_error(error: &str) -> Cow<'_, str> {
    if is_usual_error(error) {
        return Cow::Borrowed(error);
    }
    let told: Value = serde_json::from_str(error).unwrap_or_default();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let code = told["code"].as_f64().filter(|code| code.fract() == 0.0);
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a whole number, cut to what a code can be"
    )]
    let code = code.map_or(code::INTERNAL_ERROR, |code| code as i32);
    let message = match &told {
        Value::Object(members) => members.get("message").map_or("unknown error".into(), text),
        other => text(other),
    };
    let mut usual = serde_json::json!({ "code": code, "message": message });
    if let Some(data) = told.get("data") {
        usual["data"] = data.clone();
    }
    Cow::Owned(usual.to_string())
}
