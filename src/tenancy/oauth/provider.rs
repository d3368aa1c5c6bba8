//! Speaks to a provider's token and revocation endpoints.

use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::super::secrets::Secrets;
use super::answer::{self, Refusal, Tokens};
use super::request::Form;
use crate::config::OAuth;

/// How long a provider may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer, in bytes.
const MAX_LEN: usize = 64 * 1024;

/// A client of providers.
#[derive(Debug, Default)]
pub(super) struct Provider(OnceLock<reqwest::Client>);

impl Provider {
    /// Asks the token endpoint.
    ///
    /// # Errors
    /// [`Refusal`], without anything secret.
    pub(super) async fn tokens(
        &self,
        oauth: &OAuth,
        parameters: Vec<(&'static str, SecretString)>,
    ) -> Result<Tokens, Refusal> {
        let (status, body) = self
            .post(&oauth.token_url, oauth, parameters)
            .await
            .map_err(Refusal::Unusable)?;
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
    ) -> Result<(), String> {
        let (status, _) = self.post(url, oauth, parameters).await?;
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("{url} answered {status}"))
        }
    }

    async fn post(
        &self,
        url: &Url,
        oauth: &OAuth,
        parameters: Vec<(&'static str, SecretString)>,
    ) -> Result<(StatusCode, SecretString), String> {
        let secret = match &oauth.client_secret {
            Some(source) => Some(
                Secrets::of_operator(source)
                    .await
                    .map_err(|why| format!("the client's secret is not to be had: {why}"))?,
            ),
            None => None,
        };
        let form = Form::with_client(parameters, oauth, secret.as_ref());
        let told = |error: reqwest::Error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            format!("{url}: {cause}")
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
            let mut value = value.map_err(|_| "the client's credentials fit no header")?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let mut answer = request.send().await.map_err(told)?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(told)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_LEN {
                return Err(format!("{url} answered with more than {MAX_LEN} bytes"));
            }
        }
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| format!("{url} answered {status} with no text"))?;
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
