//! Reads signed tokens (RFC 7519, with RFC 8725 on what must be checked). Pure: the keys are at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

use super::principal::Principal;
use crate::config::Jwt;
use crate::ids::{TenantId, is_valid_name};

/// Longest token, in bytes: one is parsed before anything of it is proven.
const MAX_LEN: usize = 16 * 1024;

/// Why a token is no credential. The text told of it tells nothing of keys or tenants.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum JwtError {
    /// None of the known keys has the id that it names; another look at them may help.
    #[error("the bearer token is signed with a key that is not known")]
    UnknownKey,
    /// The token will not do, whatever keys there are.
    #[error("the bearer token is not valid: {0}")]
    Invalid(String),
}

fn invalid(why: impl ToString) -> JwtError {
    JwtError::Invalid(why.to_string())
}

/// What the library finds, in words for whoever sent the token.
fn refused(error: Error) -> JwtError {
    invalid(match error.kind() {
        ErrorKind::ExpiredSignature => "it has expired (`exp`)".to_owned(),
        ErrorKind::ImmatureSignature => "it is not valid yet (`nbf`)".to_owned(),
        ErrorKind::InvalidIssuer => "its `iss` is not `auth.issuer`".to_owned(),
        ErrorKind::InvalidAudience => "its `aud` has nothing of `auth.audience`".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("its claim `{claim}` is missing"),
        ErrorKind::InvalidClaimFormat(claim) => format!("its claim `{claim}` has the wrong type"),
        ErrorKind::InvalidSignature => "its signature is not that of the key it names".to_owned(),
        ErrorKind::InvalidAlgorithm
        | ErrorKind::InvalidKeyFormat
        | ErrorKind::UnsupportedAlgorithm => {
            "its algorithm does not go with the key it names".to_owned()
        }
        ErrorKind::Base64(_) | ErrorKind::Json(_) | ErrorKind::Utf8(_) => {
            "its claims are not a JSON object in base64url".to_owned()
        }
        _ => error.to_string(),
    })
}

/// Whom the token names, if it is signed with one of the keys and meant for here.
///
/// # Errors
/// [`JwtError`].
pub(super) fn read(token: &str, settings: &Jwt, keys: &JwkSet) -> Result<Principal, JwtError> {
    if token.len() > MAX_LEN {
        return Err(invalid(format!("it is longer than {MAX_LEN} bytes")));
    }
    let header = decode_header(token).map_err(|_| {
        invalid("its header cannot be read (is it a JWT?), or names no algorithm of signatures")
    })?;
    // None is known here, and one that is not understood must not be passed over (RFC 7515, 4.1.11).
    if header.crit.is_some() {
        return Err(invalid(
            "it has critical extensions (`crit`), none of which is known",
        ));
    }
    // Pinned by the operator, never chosen by the token (RFC 8725, 3.1).
    if !settings.algorithms.contains(&header.alg) {
        let names: Vec<_> = settings
            .algorithms
            .iter()
            .map(|name| format!("{name:?}"))
            .collect();
        return Err(invalid(format!(
            "its algorithm is {:?}, allowed are {}",
            header.alg,
            names.join(", ")
        )));
    }
    let key = match &header.kid {
        Some(kid) => keys.find(kid),
        // Without an id there must be nothing to choose between.
        None => match keys.keys.as_slice() {
            [only] => Some(only),
            _ => return Err(invalid("it names no key (`kid`), and there are several")),
        },
    };
    let key = key.ok_or(JwtError::UnknownKey)?;
    let key = DecodingKey::from_jwk(key).map_err(refused)?;
    let mut validation = Validation::new(header.alg);
    validation.leeway = settings.leeway.as_secs();
    validation.validate_nbf = true;
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&settings.audience);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    let claims: BTreeMap<String, Value> = decode(token, &key, &validation).map_err(refused)?.claims;
    principal(claims, settings)
}

fn principal(claims: BTreeMap<String, Value>, settings: &Jwt) -> Result<Principal, JwtError> {
    let text = |name: &str| {
        let value = claims.get(name).and_then(Value::as_str);
        value.map(str::to_owned).filter(|text| !text.is_empty())
    };
    let tenant = at(&claims, &settings.tenant_claim).and_then(Value::as_str);
    let tenant = tenant.filter(|name| is_valid_name(name)).ok_or_else(|| {
        invalid(format!(
            "its claim `{}` names no tenant",
            settings.tenant_claim
        ))
    })?;
    Ok(Principal {
        tenant: TenantId::new(tenant),
        subject: text("sub"),
        email: text("email"),
        scopes: Arc::new(scopes(at(&claims, &settings.scope_claim))),
        token: None,
        claims: Arc::new(claims),
    })
}

/// A claim: a name as written, else dots lead into objects.
fn at<'c>(claims: &'c BTreeMap<String, Value>, name: &str) -> Option<&'c Value> {
    claims.get(name).or_else(|| {
        let mut steps = name.split('.');
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    })
}

/// A text with blanks between them (RFC 8693, 4.2), or a list as some servers make it.
fn scopes(value: Option<&Value>) -> BTreeSet<String> {
    let texts: Vec<&str> = match value {
        Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    texts.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use jsonwebtoken::jwk::{Jwk, JwkSet};
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::config::KeySource;

    /// A key pair, and what it signs.
    pub(crate) struct Issuer {
        key: EncodingKey,
        jwk: Value,
        kid: String,
    }

    impl Issuer {
        pub(crate) fn new(kid: &str) -> Self {
            let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("made");
            let key = EncodingKey::from_ec_der(&pair.serialize_der());
            let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a key");
            let mut jwk = serde_json::to_value(jwk).expect("JSON");
            jwk["kid"] = json!(kid);
            let kid = kid.to_owned();
            Self { key, jwk, kid }
        }

        pub(crate) fn sign(&self, claims: &Value) -> String {
            let mut header = Header::new(Algorithm::ES256);
            header.kid = Some(self.kid.clone());
            encode(&header, claims, &self.key).expect("signed")
        }

        pub(crate) fn set(issuers: &[&Self]) -> Value {
            let keys: Vec<_> = issuers.iter().map(|issuer| &issuer.jwk).collect();
            json!({ "keys": keys })
        }
    }

    pub(crate) fn settings(keys: KeySource) -> Jwt {
        Jwt {
            keys,
            issuer: "https://id.example.com".to_owned(),
            audience: vec!["https://mcp.example.com".to_owned()],
            algorithms: vec![Algorithm::ES256],
            tenant_claim: "org.name".to_owned(),
            scope_claim: "scope".to_owned(),
            leeway: Duration::from_secs(60),
            refresh: Duration::from_secs(600),
            authorization_servers: vec![],
        }
    }

    pub(crate) fn claims() -> Value {
        json!({
            "iss": "https://id.example.com", "aud": "https://mcp.example.com", "exp": now() + 300,
            "sub": "anna", "email": "anna@acme.example", "scope": "tools:read tools:call",
            "org": { "name": "acme" },
        })
    }

    fn now() -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        since.as_secs()
    }

    fn read_with(token: &str, keys: &Value) -> Result<Principal, JwtError> {
        let keys: JwkSet = serde_json::from_value(keys.clone()).expect("keys");
        read(token, &settings(KeySource::File("".into())), &keys)
    }

    #[test]
    fn a_token_that_is_meant_for_here_names_a_user() {
        let issuer = Issuer::new("k1");
        let who = read_with(&issuer.sign(&claims()), &Issuer::set(&[&issuer])).expect("valid");
        assert_eq!(who.tenant.as_str(), "acme");
        assert_eq!(who.subject.as_deref(), Some("anna"));
        assert_eq!(who.email.as_deref(), Some("anna@acme.example"));
        assert!(who.scopes.contains("tools:call") && who.scopes.len() == 2);
        assert_eq!(who.claims["org"]["name"], "acme");
    }

    #[test]
    fn what_is_for_others_or_over_or_forged_is_refused() {
        let (issuer, thief) = (Issuer::new("k1"), Issuer::new("k1"));
        let keys = Issuer::set(&[&issuer]);
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            read_with(&issuer.sign(&claims), &keys)
        };
        // Within what clocks may be apart.
        assert!(with("exp", json!(now() - 30)).is_ok());
        assert!(with("nbf", json!(now() + 30)).is_ok());
        assert!(with("aud", json!(["x", "https://mcp.example.com"])).is_ok());
        for (name, value) in [
            ("exp", json!(now() - 90)),
            ("exp", json!("soon")),
            ("exp", Value::Null),
            ("nbf", json!(now() + 90)),
            ("nbf", json!("soon")),
            ("iss", json!("https://evil.example")),
            ("iss", Value::Null),
            ("aud", json!("https://other.example.com")),
            ("aud", json!([])),
            ("org", json!({ "name": "../acme" })),
            ("org", json!("acme")),
        ] {
            let error = with(name, value.clone()).expect_err("refused");
            assert!(matches!(error, JwtError::Invalid(_)), "{name}={value}");
        }
        let forged = read_with(&thief.sign(&claims()), &keys);
        assert!(matches!(forged, Err(JwtError::Invalid(_))), "{forged:?}");
        let other = read_with(&Issuer::new("k2").sign(&claims()), &keys);
        assert_eq!(other, Err(JwtError::UnknownKey));
    }

    #[test]
    fn the_token_does_not_choose_its_algorithm() {
        let issuer = Issuer::new("k1");
        let keys = Issuer::set(&[&issuer]);
        // Signed with the public key as a shared secret.
        let secret = EncodingKey::from_secret(issuer.jwk["x"].as_str().expect("x").as_bytes());
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("k1".to_owned());
        let confused = encode(&header, &claims(), &secret).expect("signed");
        let error = read_with(&confused, &keys).expect_err("refused");
        assert!(error.to_string().contains("HS256"), "{error}");
        let unsigned = issuer.sign(&claims());
        let unsigned = unsigned
            .rsplit_once('.')
            .map(|(rest, _)| format!("{rest}."));
        assert!(read_with(&unsigned.expect("three parts"), &keys).is_err());
        // eyJhbGciOiJub25lIn0: {"alg":"none"}
        let none = read_with("eyJhbGciOiJub25lIn0.e30.", &keys).expect_err("refused");
        assert!(
            none.to_string().contains("names no algorithm") && !none.to_string().contains("HS"),
            "{none}"
        );
    }

    #[test]
    fn an_extension_that_must_be_understood_is_refused() {
        let issuer = Issuer::new("k1");
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("k1".to_owned());
        header.crit = Some(vec!["b64".to_owned()]);
        let token = encode(&header, &claims(), &issuer.key).expect("signed");
        let error = read_with(&token, &Issuer::set(&[&issuer])).expect_err("refused");
        assert!(error.to_string().contains("`crit`"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_said_in_words_and_without_its_values() {
        let issuer = Issuer::new("k1");
        let keys = Issuer::set(&[&issuer]);
        for (name, value, words) in [
            ("exp", json!(now() - 90), "it has expired"),
            ("exp", Value::Null, "its claim `exp`"),
            ("nbf", json!(now() + 90), "it is not valid yet"),
            (
                "iss",
                json!("https://evil.example"),
                "its `iss` is not `auth.issuer`",
            ),
            (
                "aud",
                json!("https://evil.example"),
                "its `aud` has nothing of `auth.audience`",
            ),
        ] {
            let mut claims = claims();
            claims[name] = value;
            let error = read_with(&issuer.sign(&claims), &keys).expect_err("refused");
            let error = error.to_string();
            assert!(error.contains(words) && !error.contains("evil"), "{error}");
        }
        let error = read_with("garbage", &keys).expect_err("refused");
        assert!(error.to_string().contains("is it a JWT?"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_panics(token in "[A-Za-z0-9_.=-]{0,200}") {
            let keys = json!({ "keys": [] });
            prop_assert!(read_with(&token, &keys).is_err());
        }
    }
}
