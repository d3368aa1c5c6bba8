//! What a token endpoint answers (RFC 6749, 5). Pure.

use std::time::Duration;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::Value;

/// Longest token, in bytes: it has to fit into an environment.
const MAX_TOKEN: usize = 32 * 1024;
/// Longest lifetime that is believed.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Longest error code that is repeated, in bytes.
const MAX_CODE: usize = 64;

/// The tokens that were given.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) access: SecretString,
    /// Takes the place of the one before, if there is one.
    pub(super) refresh: Option<SecretString>,
    pub(super) lifetime: Option<Duration>,
    /// If it is not what was asked for.
    pub(super) scope: Option<String>,
}

/// Why nothing was given.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum TokenRefusal {
    /// The token or code presented is not valid any more.
    #[error("the provider refuses it with `invalid_grant`")]
    InvalidGrant,
    /// Another error of RFC 6749, 5.2.
    #[error("the provider answers with the error `{0}`")]
    Code(String),
    /// The provider does not answer, or not with tokens.
    #[error("{0}")]
    Unusable(String),
}

#[derive(Deserialize)]
struct Answer {
    error: Option<Value>,
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<Value>,
    refresh_token: Option<String>,
    scope: Option<Value>,
}

/// Reads an answer. Nothing of its text but an error code gets into what is told.
///
/// # Errors
/// [`TokenRefusal`].
pub(super) fn read(status: u16, body: &[u8]) -> Result<Tokens, TokenRefusal> {
    let unusable = |why: &str| {
        Err(TokenRefusal::Unusable(format!(
            "the provider's answer {why}"
        )))
    };
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else {
        return unusable(&format!("(status {status}) is no JSON object of tokens"));
    };
    if let Some(error) = &answer.error {
        let code = error.as_str().filter(|code| is_code(code));
        return Err(match code {
            // From one that is in trouble it would not mean what it says.
            Some("invalid_grant") if status < 500 => TokenRefusal::InvalidGrant,
            Some(code) => TokenRefusal::Code(code.to_owned()),
            None => TokenRefusal::Code("(not readable)".to_owned()),
        });
    }
    if status != 200 {
        return unusable(&format!("has the status {status}"));
    }
    let access = Zeroizing::new(answer.access_token.unwrap_or_default());
    let refresh = answer.refresh_token.filter(|token| !token.is_empty());
    let refresh = refresh.map(Zeroizing::new);
    if !is_token(&access) || !refresh.as_deref().is_none_or(|token| is_token(token)) {
        return unusable("has no usable `access_token`, or an unusable `refresh_token`");
    }
    let bound = ["dpop", "mac", "pop"];
    if let Some(kind) = answer.token_type
        && bound.contains(&kind.to_ascii_lowercase().as_str())
    {
        return unusable("has a token that only its holder can use, not a bearer token");
    }
    let lifetime = match answer.expires_in {
        None | Some(Value::Null) => None,
        Some(value) => match seconds(&value) {
            Some(lifetime) => Some(lifetime),
            None => return unusable("has an `expires_in` that is no number of seconds above 0"),
        },
    };
    let scope = answer.scope.as_ref().and_then(Value::as_str);
    let scope = scope.filter(|scope| scope.len() <= 4096 && !scope.chars().any(char::is_control));
    Ok(Tokens {
        access: access.as_str().into(),
        refresh: refresh.map(|token| token.as_str().into()),
        lifetime,
        scope: scope.map(str::to_owned),
    })
}

/// Seconds as a number; some providers write it as a text.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }?;
    let lifetime = Duration::try_from_secs_f64(seconds).unwrap_or(MAX_LIFETIME);
    (seconds >= 1.0).then(|| lifetime.min(MAX_LIFETIME))
}

/// RFC 6749, appendix A.12 and A.17.
fn is_token(token: &str) -> bool {
    let is_visible = |b: u8| (0x20..=0x7e).contains(&b);
    (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(is_visible)
}

/// An error code fit to be shown: names, as RFC 6749 and its extensions have them.
pub(super) fn is_code(code: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;

    fn of(status: u16, body: &Value) -> Result<Tokens, TokenRefusal> {
        read(status, body.to_string().as_bytes())
    }

    #[test]
    fn an_answer_as_in_the_rfc() {
        let body = json!({"access_token": "2YotnFZFEjr1zCsicMWpAA", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "tGzv3JOkF0XG5Qx2TlKWIA", "example_parameter": "x"});
        let tokens = of(200, &body).expect("tokens");
        assert_eq!(tokens.access.expose_secret(), "2YotnFZFEjr1zCsicMWpAA");
        let refresh = tokens.refresh.as_ref().map(ExposeSecret::expose_secret);
        assert_eq!(refresh, Some("tGzv3JOkF0XG5Qx2TlKWIA"));
        assert_eq!(tokens.lifetime, Some(Duration::from_secs(3600)));
        assert!(!format!("{tokens:?}").contains("2Yotn"));
    }

    #[test]
    fn what_providers_do_differently() {
        let text =
            json!({"access_token": "a", "expires_in": "7200", "refresh_token": "", "scope": ["x"]});
        let tokens = of(200, &text).expect("tokens");
        assert_eq!(tokens.lifetime, Some(Duration::from_secs(7200)));
        assert!(tokens.refresh.is_none() && tokens.scope.is_none());
        // An error with the status of a success.
        let error = of(
            200,
            &json!({"error": "bad_verification_code", "access_token": "a"}),
        );
        assert_eq!(
            error.expect_err("an error"),
            TokenRefusal::Code("bad_verification_code".into())
        );
        let endless = of(200, &json!({"access_token": "a", "expires_in": 1e300})).expect("tokens");
        assert_eq!(endless.lifetime, Some(MAX_LIFETIME));
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        for (status, body) in [
            (200, json!({"access_token": ""})),
            (200, json!({"token_type": "bearer"})),
            (200, json!({"access_token": "hunter\n22"})),
            (200, json!({"access_token": "hunter22", "expires_in": 0})),
            (200, json!({"access_token": "hunter22", "expires_in": -5})),
            (
                200,
                json!({"access_token": "hunter22", "token_type": "DPoP"}),
            ),
            (
                200,
                json!({"access_token": "hunter22", "refresh_token": "hunter\u{0}22"}),
            ),
            (200, json!({"access_token": "hunter22".repeat(5000)})),
            (201, json!({"access_token": "hunter22"})),
            (400, json!({"error": "hunter22 is wrong"})),
            (503, json!("hunter22")),
        ] {
            let refusal = of(status, &body).expect_err("refused");
            assert!(!refusal.to_string().contains("hunter"), "{refusal}");
        }
    }

    #[test]
    fn only_a_clear_no_ends_an_authorisation() {
        let no = json!({"error": "invalid_grant", "error_description": "revoked"});
        assert_eq!(of(400, &no).expect_err("no"), TokenRefusal::InvalidGrant);
        assert_eq!(of(401, &no).expect_err("no"), TokenRefusal::InvalidGrant);
        assert_ne!(of(503, &no).expect_err("no"), TokenRefusal::InvalidGrant);
        let client = of(401, &json!({"error": "invalid_client"})).expect_err("no");
        assert_eq!(client, TokenRefusal::Code("invalid_client".into()));
    }

    proptest! {
        #[test]
        fn nothing_panics(status in 100_u16..600, body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _any = read(status, &body);
        }

        /// The token that comes out can be put into an environment and a header.
        #[test]
        fn tokens_are_visible(token in ".{0,60}", expires in any::<f64>()) {
            if let Ok(tokens) = of(200, &json!({"access_token": token, "expires_in": expires})) {
                prop_assert_eq!(tokens.access.expose_secret(), &token);
                prop_assert!(token.bytes().all(|b| (0x20..0x7f).contains(&b)));
                prop_assert!(tokens.lifetime.is_none_or(|l| l >= Duration::from_secs(1) && l <= MAX_LIFETIME));
            }
        }
    }
}
