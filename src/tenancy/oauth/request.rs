//! What is said to a provider. Pure, but for random numbers.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use url::Url;
use url::form_urlencoded::byte_serialize;

use crate::config::{ClientAuth, OAuth};

/// 256 random bits as 43 letters: a `state`, or a code verifier (RFC 7636, 4.1).
///
/// # Errors
/// When the system gives none.
pub(super) fn random() -> Result<SecretString, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes).into())
}

/// From 0 to 1, to spread what would happen at once. Without random numbers nothing is spread.
pub(super) fn jitter() -> f64 {
    getrandom::u32().map_or(1.0, |n| f64::from(n) / f64::from(u32::MAX))
}

/// RFC 7636, 4.2: S256.
fn challenge(verifier: &SecretString) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose_secret().as_bytes()))
}

/// Where the browser goes (RFC 6749, 4.1.1; RFC 7636, 4.3).
pub(super) fn authorization_url(
    oauth: &OAuth,
    redirect_uri: &str,
    state: &SecretString,
    verifier: &SecretString,
) -> Url {
    let mut url = oauth.authorization_url.clone();
    {
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &oauth.client_id)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("state", state.expose_secret())
            .append_pair("code_challenge", &challenge(verifier))
            .append_pair("code_challenge_method", "S256");
        if !oauth.scopes.is_empty() {
            query.append_pair("scope", &oauth.scopes.join(" "));
        }
        query.extend_pairs(&oauth.parameters);
    }
    url
}

/// A form for the token or revocation endpoint, and the header that goes with it. `Debug` shows
/// nothing of it.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) body: SecretString,
    pub(super) authorization: Option<SecretString>,
}

impl Form {
    /// Exchanges a code (RFC 6749, 4.1.3; RFC 7636, 4.5).
    pub(super) fn code(
        code: &SecretString,
        verifier: &SecretString,
        redirect_uri: &str,
    ) -> Vec<(&'static str, SecretString)> {
        vec![
            ("grant_type", "authorization_code".into()),
            ("code", code.clone()),
            ("redirect_uri", redirect_uri.into()),
            ("code_verifier", verifier.clone()),
        ]
    }

    /// Exchanges a refresh token (RFC 6749, 6).
    pub(super) fn refresh(token: &SecretString) -> Vec<(&'static str, SecretString)> {
        vec![
            ("grant_type", "refresh_token".into()),
            ("refresh_token", token.clone()),
        ]
    }

    /// Revokes a token (RFC 7009, 2.1).
    pub(super) fn revocation(
        token: &SecretString,
        hint: &'static str,
    ) -> Vec<(&'static str, SecretString)> {
        vec![("token", token.clone()), ("token_type_hint", hint.into())]
    }

    /// The parameters, with the client's credentials (RFC 6749, 2.3.1).
    pub(super) fn with_client(
        mut parameters: Vec<(&'static str, SecretString)>,
        oauth: &OAuth,
        secret: Option<&SecretString>,
    ) -> Self {
        let id = oauth.client_id.as_str();
        let authorization = match (secret, oauth.client_auth) {
            (Some(secret), ClientAuth::Basic) => {
                let (id, secret) = (encoded(id), encoded(secret.expose_secret()));
                let both = STANDARD.encode(format!("{id}:{secret}"));
                Some(SecretString::from(format!("Basic {both}")))
            }
            (Some(secret), ClientAuth::Post) => {
                parameters.push(("client_id", id.into()));
                parameters.push(("client_secret", secret.clone()));
                None
            }
            (None, _) => {
                parameters.push(("client_id", id.into()));
                None
            }
        };
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in &parameters {
            body.append_pair(name, value.expose_secret());
        }
        Self {
            body: body.finish().into(),
            authorization,
        }
    }
}

fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    pub(crate) fn oauth(token_url: &str) -> OAuth {
        OAuth {
            authorization_url: Url::parse("https://id.example.com/authorize?tenant=x")
                .expect("valid"),
            token_url: Url::parse(token_url).expect("valid"),
            revocation_url: None,
            issuer: None,
            client_id: "pool&co".to_owned(),
            client_secret: None,
            client_auth: ClientAuth::Basic,
            scopes: vec!["repo".to_owned(), "user:email".to_owned()],
            parameters: BTreeMap::from([("prompt".to_owned(), "consent".to_owned())]),
            default_lifetime: Duration::from_secs(3600),
            link_scope: None,
        }
    }

    #[test]
    fn the_challenge_is_that_of_rfc_7636() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into();
        let expected = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert_eq!(challenge(&verifier), expected, "RFC 7636, appendix B");
    }

    #[test]
    fn credentials_go_where_the_config_says() {
        let mut oauth = oauth("https://id.example.com/token");
        let token = SecretString::from("r/1");
        let form = |oauth: &OAuth, secret: Option<&str>| {
            let secret = secret.map(SecretString::from);
            let form = Form::with_client(Form::refresh(&token), oauth, secret.as_ref());
            let header = form.authorization.map(|h| h.expose_secret().to_owned());
            (form.body.expose_secret().to_owned(), header)
        };
        let plain = "grant_type=refresh_token&refresh_token=r%2F1";
        let (body, header) = form(&oauth, Some("s:3"));
        let expected = format!("Basic {}", STANDARD.encode("pool%26co:s%3A3"));
        assert_eq!((body.as_str(), header), (plain, Some(expected)));
        oauth.client_auth = ClientAuth::Post;
        let (body, header) = form(&oauth, Some("s:3"));
        assert_eq!(
            body,
            format!("{plain}&client_id=pool%26co&client_secret=s%3A3")
        );
        assert_eq!(header, None);
        let (body, header) = form(&oauth, None);
        assert_eq!(body, format!("{plain}&client_id=pool%26co"));
        assert_eq!(header, None);
    }

    proptest! {
        /// Whatever the config holds, the query says exactly that, once.
        #[test]
        fn the_address_says_what_was_meant(id in ".{1,40}", scope in "[!#-\\[\\]-~]{1,20}", value in ".{0,40}") {
            let mut oauth = oauth("https://id.example.com/token");
            oauth.client_id = id.clone();
            oauth.scopes = vec![scope.clone(), "x".to_owned()];
            oauth.parameters = BTreeMap::from([("audience".to_owned(), value.clone())]);
            let (state, verifier) = (random().expect("random"), random().expect("random"));
            let url = authorization_url(&oauth, "http://127.0.0.1:8080/oauth/callback", &state, &verifier);
            prop_assert_eq!(url.host_str(), Some("id.example.com"));
            let pairs: Vec<_> = url.query_pairs().into_owned().collect();
            let found: BTreeMap<_, _> = pairs.iter().cloned().collect();
            prop_assert_eq!(found.len(), pairs.len(), "each once");
            prop_assert_eq!(&found["tenant"], "x");
            prop_assert_eq!(&found["client_id"], &id);
            prop_assert_eq!(&found["scope"], &format!("{scope} x"));
            prop_assert_eq!(&found["audience"], &value);
            prop_assert_eq!(&found["state"], state.expose_secret());
            prop_assert_eq!(&found["code_challenge"], &challenge(&verifier));
            prop_assert_eq!(&found["redirect_uri"], "http://127.0.0.1:8080/oauth/callback");
            prop_assert!(!url.as_str().contains(verifier.expose_secret()));
        }
    }
}
