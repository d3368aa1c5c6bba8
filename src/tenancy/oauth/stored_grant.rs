//! What is kept of an authorisation, sealed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::answer::Tokens;

/// An authorisation, as it survives a restart.
#[derive(Clone, Debug)]
pub(super) struct StoredGrant {
    pub(super) refresh: Option<SecretString>,
    /// Only where there is no refresh token: then it is all there is.
    pub(super) access: Option<SecretString>,
    /// When that expires.
    pub(super) access_expires: Option<SystemTime>,
    /// What was granted, where the provider says.
    pub(super) scope: Option<String>,
    /// The user who authorised it.
    pub(super) subject: Option<String>,
    /// When the tenant authorised.
    pub(super) authorised: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct SerializedGrant {
    refresh: Option<String>,
    access: Option<String>,
    access_expires: Option<u64>,
    scope: Option<String>,
    subject: Option<String>,
    authorised: u64,
}

impl StoredGrant {
    /// What was just authorised.
    pub(super) fn new(tokens: &Tokens, subject: Option<String>, now: SystemTime) -> Self {
        let mut kept = Self {
            refresh: None,
            access: None,
            access_expires: None,
            scope: None,
            subject,
            authorised: now,
        };
        kept.take(tokens, now);
        kept
    }

    /// Takes in what a provider gave. Says whether that has to be written down.
    pub(super) fn take(&mut self, tokens: &Tokens, now: SystemTime) -> bool {
        let mut has_changed = false;
        if let Some(refresh) = &tokens.refresh {
            let known = self.refresh.as_ref().map(ExposeSecret::expose_secret);
            has_changed = known != Some(refresh.expose_secret());
            self.refresh = Some(refresh.clone());
        }
        if tokens.scope.is_some() && tokens.scope != self.scope {
            has_changed = true;
            self.scope.clone_from(&tokens.scope);
        }
        let has_had_access = self.access.is_some();
        let is_all = self.refresh.is_none();
        self.access = is_all.then(|| tokens.access.clone());
        let lives = tokens.lifetime.filter(|_| is_all);
        self.access_expires = lives.and_then(|lives| now.checked_add(lives));
        has_changed || is_all || has_had_access
    }

    /// What of the kept access token's lifetime is left; `None` if it has no end.
    pub(super) fn access_left(&self, now: SystemTime) -> Option<Duration> {
        let left = |end: SystemTime| end.duration_since(now).unwrap_or_default();
        self.access_expires.map(left)
    }

    /// As text to be sealed.
    pub(super) fn write(&self) -> SecretString {
        let text =
            |secret: &Option<SecretString>| secret.as_ref().map(|it| it.expose_secret().to_owned());
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let written = SerializedGrant {
            refresh: text(&self.refresh),
            access: text(&self.access),
            access_expires: self.access_expires.map(seconds),
            scope: self.scope.clone(),
            subject: self.subject.clone(),
            authorised: seconds(self.authorised),
        };
        let json = serde_json::json!(written).to_string();
        json.into()
    }

    /// What was sealed; `None` if it is nothing that this program wrote.
    pub(super) fn read(text: &SecretString) -> Option<Self> {
        let written: SerializedGrant = serde_json::from_str(text.expose_secret()).ok()?;
        let secret =
            |text: Option<String>| text.map(Zeroizing::new).map(|text| text.as_str().into());
        let at = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        Some(Self {
            refresh: secret(written.refresh),
            access: secret(written.access),
            access_expires: written.access_expires.and_then(at),
            scope: written.scope,
            subject: written.subject,
            authorised: at(written.authorised)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(access: &str, refresh: Option<&str>) -> Tokens {
        Tokens {
            access: access.into(),
            refresh: refresh.map(Into::into),
            lifetime: Some(Duration::from_secs(100)),
            scope: None,
        }
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn the_access_token_is_written_only_where_it_is_all_there_is() {
        let kept = StoredGrant::new(&tokens("acc", Some("ref")), Some("anna".into()), now());
        let text = kept.write();
        assert!(text.expose_secret().contains("ref") && !text.expose_secret().contains("acc\""));
        let back = StoredGrant::read(&text).expect("reads");
        assert_eq!(
            (back.subject.as_deref(), back.authorised),
            (Some("anna"), now())
        );
        assert!(back.access.is_none() && back.access_left(now()).is_none());

        let kept = StoredGrant::new(&tokens("acc", None), None, now());
        let back = StoredGrant::read(&kept.write()).expect("reads");
        assert_eq!(back.access.expect("kept").expose_secret(), "acc");
        let later = now() + Duration::from_secs(40);
        assert_eq!(kept.access_left(later), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_rotated_token_takes_the_place_of_the_old_one_and_is_written() {
        let mut kept = StoredGrant::new(&tokens("a1", Some("r1")), None, now());
        assert!(
            !kept.take(&tokens("a2", None), now()),
            "nothing new to keep"
        );
        assert!(!kept.take(&tokens("a2", Some("r1")), now()));
        assert!(kept.take(&tokens("a3", Some("r2")), now()));
        assert_eq!(kept.refresh.expect("kept").expose_secret(), "r2");
    }
}
