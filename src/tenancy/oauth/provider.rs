//! Speaks to a provider's token and revocation endpoints.

use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::super::bounded::{BodyError, read_up_to};
use super::super::cause::innermost;
use super::super::secret_error::SecretError;
use super::super::secrets::Secrets;
use super::answer::{self, TokenRefusal, Tokens};
use super::request::Form;
use crate::config::OAuth;

/// How long a provider may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer, in bytes.
const MAX_LEN: usize = 64 * 1024;

/// Why a provider was not told something, or has not taken it. Nothing of it is secret.
#[derive(Debug, thiserror::Error)]
pub enum NotTold {
    /// The client's secret.
    #[error("the client's secret is not to be had: {0}")]
    NoSecret(SecretError),
    /// The client's id or secret has characters that no header can have.
    #[error("the client's credentials fit no header")]
    NoHeader,
    /// The provider does not answer.
    #[error("{url}: {why}")]
    Unreachable {
        /// The address that was asked.
        url: Url,
        /// What the system or the library says.
        why: String,
    },
    /// The provider answers something else than it should.
    #[error("{url} answered {what}")]
    Answered {
        /// The address that was asked.
        url: Url,
        /// The answer's status, and what was wrong.
        what: String,
    },
    /// There is no address for that.
    #[error("`revocation_url` is not set")]
    NoAddress,
    /// There is no provider for that.
    #[error("the server has no `oauth` in pool.toml")]
    NoProvider,
}

/// A client of providers.
#[derive(Debug, Default)]
pub(super) struct Provider(OnceLock<reqwest::Client>);

impl Provider {
    /// Asks the token endpoint.
    ///
    /// # Errors
    /// [`TokenRefusal`], without anything secret.
    pub(super) async fn tokens(
        &self,
        oauth: &OAuth,
        parameters: Vec<(&'static str, SecretString)>,
    ) -> Result<Tokens, TokenRefusal> {
        let (status, body) = self
            .post(&oauth.token_url, oauth, parameters)
            .await
            .map_err(|why| TokenRefusal::Unusable(why.to_string()))?;
        answer::read(status.as_u16(), body.expose_secret().as_bytes())
    }

    /// Asks the revocation endpoint (RFC 7009, 2.2: a token that is not valid is no error).
    ///
    /// # Errors
    /// Why the provider has not taken it.
    pub(super) async fn revoke(
        &self,
        url: &Url,
        oauth: &OAuth,
        parameters: Vec<(&'static str, SecretString)>,
    ) -> Result<(), NotTold> {
        let (status, _) = self.post(url, oauth, parameters).await?;
        match status.is_success() {
            true => Ok(()),
            false => Err(NotTold::Answered {
                url: url.clone(),
                what: status.to_string(),
            }),
        }
    }

    async fn post(
        &self,
        url: &Url,
        oauth: &OAuth,
        parameters: Vec<(&'static str, SecretString)>,
    ) -> Result<(StatusCode, SecretString), NotTold> {
        let secret = match &oauth.client_secret {
            Some(source) => {
                let fetched = Secrets::of_operator(source).await;
                Some(fetched.map_err(NotTold::NoSecret)?)
            }
            None => None,
        };
        let form = Form::with_client(parameters, oauth, secret.as_ref());
        let told = |error: reqwest::Error| NotTold::Unreachable {
            url: url.clone(),
            why: innermost(&error),
        };
        let answered = |what: String| NotTold::Answered {
            url: url.clone(),
            what,
        };
        let mut request = self
            .client()
            .map_err(told)?
            .post(url.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.body.expose_secret().to_owned());
        if let Some(authorization) = &form.authorization {
            let value = HeaderValue::from_str(authorization.expose_secret());
            let mut value = value.map_err(|_| NotTold::NoHeader)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let answer = request.send().await.map_err(told)?;
        let status = answer.status();
        let read = read_up_to(MAX_LEN, answer).await;
        let bytes = read.map_err(|error| match error {
            BodyError::Transport(error) => told(error),
            BodyError::TooLong => answered(format!("with more than {MAX_LEN} bytes")),
        })?;
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| answered(format!("{status} with no text")))?;
        Ok((status, text.into()))
    }

    fn client(&self) -> Result<&reqwest::Client, reqwest::Error> {
        if let Some(client) = self.0.get() {
            return Ok(client);
        }
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // A token is for the address in the config, and nobody else.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(self.0.get_or_init(|| client))
    }
}
