//! Seals secrets for the disk: XChaCha20-Poly1305 with a random nonce.
//!
//! What is sealed for one tenant under one name opens for no other: both are part of what is
//! authenticated, so that rows cannot be swapped in the file. Nor does a config under a handle open
//! as a secret, or the other way round.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::HEXLOWER_PERMISSIVE;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::id_hash::IdHash;
use crate::fields;

/// Length of a nonce, in bytes; it stands before the ciphertext.
const NONCE_LEN: usize = 24;
/// What is sealed to tell one key from another. No tenant's name is empty.
const CHECK: (&str, &str, &str) = ("", "", "stdiopool");

/// What is sealed: part of what is authenticated.
const SECRET: &[u8] = b"stdiopool secret 1";
const CONFIG: &[u8] = b"stdiopool config 1";

/// Why a secret cannot be sealed or opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VaultError {
    /// No key is configured.
    #[error(
        "there is no key to seal secrets with: set `state.key`, for example {{ file = \"state.key\" }} (make one with: openssl rand -hex 32), or give systemd's unit a credential `stdiopool-key`"
    )]
    NoKey,
    /// The key is not one.
    #[error(
        "the key of `state.key` is not 32 bytes in hexadecimal or base64 (make one with: openssl rand -hex 32)"
    )]
    BadKey,
    /// The sealed text does not open: another key, another owner, or a damaged disk.
    #[error(
        "it does not open with the key of `state.key`: it was sealed with another key, or the file was changed"
    )]
    DoesNotOpen,
    /// No random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
}

/// Seals and opens, if it has a key.
pub struct Vault {
    cipher: Option<XChaCha20Poly1305>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_key = self.cipher.is_some();
        f.debug_struct("Vault").field("has_key", &has_key).finish()
    }
}

impl Vault {
    /// A vault without a key, which neither seals nor opens.
    pub fn without_key() -> Self {
        Self { cipher: None }
    }

    /// A vault with a key of 32 bytes, as hexadecimal digits or base64.
    ///
    /// # Errors
    /// [`VaultError::BadKey`].
    pub fn new(key: &SecretString) -> Result<Self, VaultError> {
        let text = key.expose_secret().trim();
        let bytes = Zeroizing::new(of_hex(text).or_else(|| STANDARD.decode(text).ok()));
        let bytes = bytes.as_deref().ok_or(VaultError::BadKey)?;
        let cipher = XChaCha20Poly1305::new_from_slice(bytes).map_err(|_| VaultError::BadKey)?;
        Ok(Self {
            cipher: Some(cipher),
        })
    }

    /// Whether the vault has a key.
    pub fn has_key(&self) -> bool {
        self.cipher.is_some()
    }

    /// Seals a secret of that tenant and name.
    ///
    /// # Errors
    /// Without a key, or without random numbers.
    pub fn seal(
        &self,
        tenant: &str,
        name: &str,
        secret: &SecretString,
    ) -> Result<Vec<u8>, VaultError> {
        let bound = bound_to(SECRET, tenant, name.as_bytes());
        self.seal_text(&bound, secret.expose_secret())
    }

    /// Seals a config that a tenant's caller has stored under the handle of that hash.
    ///
    /// # Errors
    /// Without a key, or without random numbers.
    pub fn seal_config(
        &self,
        tenant: &str,
        id: IdHash,
        config: &SecretString,
    ) -> Result<Vec<u8>, VaultError> {
        let bound = bound_to(CONFIG, tenant, &id.bytes());
        self.seal_text(&bound, config.expose_secret())
    }

    fn seal_text(&self, bound: &[u8], text: &str) -> Result<Vec<u8>, VaultError> {
        let cipher = self.cipher.as_ref().ok_or(VaultError::NoKey)?;
        // Long enough that random ones do not meet (draft-irtf-cfrg-xchacha, 2.1).
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| VaultError::NoRandom)?;
        let payload = Payload {
            msg: text.as_bytes(),
            aad: bound,
        };
        let sealed = cipher.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| VaultError::NoRandom)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what was sealed for that tenant and name.
    ///
    /// # Errors
    /// Without a key, or when it does not open.
    pub fn open(
        &self,
        tenant: &str,
        name: &str,
        sealed: &[u8],
    ) -> Result<SecretString, VaultError> {
        self.open_text(&bound_to(SECRET, tenant, name.as_bytes()), sealed)
    }

    /// Opens a config that was sealed for that tenant and handle.
    ///
    /// # Errors
    /// Without a key, or when it does not open.
    pub fn open_config(
        &self,
        tenant: &str,
        id: IdHash,
        sealed: &[u8],
    ) -> Result<SecretString, VaultError> {
        self.open_text(&bound_to(CONFIG, tenant, &id.bytes()), sealed)
    }

    fn open_text(&self, bound: &[u8], sealed: &[u8]) -> Result<SecretString, VaultError> {
        let cipher = self.cipher.as_ref().ok_or(VaultError::NoKey)?;
        let (nonce, sealed) = sealed
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(VaultError::DoesNotOpen)?;
        let payload = Payload {
            msg: sealed,
            aad: bound,
        };
        let opened = cipher.decrypt(&XNonce::from(*nonce), payload);
        let opened = opened.map_err(|_| VaultError::DoesNotOpen)?;
        let text = String::from_utf8(opened).map_err(|_| VaultError::DoesNotOpen)?;
        Ok(text.into())
    }

    /// What another key can be told by.
    ///
    /// # Errors
    /// As for [`Vault::seal`].
    pub fn key_check(&self) -> Result<Vec<u8>, VaultError> {
        let (tenant, name, text) = CHECK;
        self.seal_text(&bound_to(SECRET, tenant, name.as_bytes()), text)
    }

    /// Whether this is the key that the check was made with.
    pub fn fits(&self, key_check: &[u8]) -> bool {
        let (tenant, name, text) = CHECK;
        self.open(tenant, name, key_check)
            .is_ok_and(|opened| opened.expose_secret() == text)
    }
}

/// What ciphertext is bound to.
fn bound_to(what: &[u8], tenant: &str, name: &[u8]) -> Vec<u8> {
    let mut bound = what.to_vec();
    for part in [tenant.as_bytes(), name] {
        fields::put(part, |bytes| bound.extend_from_slice(bytes));
    }
    bound
}

fn of_hex(text: &str) -> Option<Vec<u8>> {
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
    (bytes.len() == 32).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vault(byte: &str) -> Vault {
        Vault::new(&byte.repeat(32).into()).expect("a key")
    }

    #[test]
    fn keys_are_hexadecimal_or_base64() {
        let base64 = STANDARD.encode([0xab; 32]);
        let sealed = vault("ab").seal("t", "n", &"x".into()).expect("sealed");
        let same = Vault::new(&format!("{base64}\n").into()).expect("a key");
        assert!(same.open("t", "n", &sealed).is_ok());
        for bad in [
            "",
            "ab",
            &"ab".repeat(31),
            &"zz".repeat(32),
            &"+f".repeat(32),
            "c2hvcnQ=",
        ] {
            assert_eq!(Vault::new(&bad.into()).err(), Some(VaultError::BadKey));
        }
    }

    #[test]
    fn another_key_name_or_tenant_does_not_open_it() {
        let sealed = vault("01")
            .seal("acme", "key", &"hunter22".into())
            .expect("sealed");
        assert!(memchr::memmem::find(&sealed, b"hunter22").is_none());
        let open = |byte, tenant, name| {
            let opened = vault(byte).open(tenant, name, &sealed);
            opened.map(|secret| secret.expose_secret().to_owned())
        };
        assert_eq!(open("01", "acme", "key"), Ok("hunter22".to_owned()));
        for (byte, tenant, name) in [
            ("02", "acme", "key"),
            ("01", "globex", "key"),
            ("01", "acme", "other"),
            ("01", "acmek", "ey"),
        ] {
            assert_eq!(open(byte, tenant, name), Err(VaultError::DoesNotOpen));
        }
        let check = vault("01").key_check().expect("made");
        assert!(vault("01").fits(&check) && !vault("02").fits(&check));
        let none = Vault::without_key();
        assert_eq!(
            none.seal("acme", "key", &"x".into()),
            Err(VaultError::NoKey)
        );
    }

    #[test]
    fn a_config_opens_under_its_own_handle_and_as_nothing_else() {
        let (own, other) = (IdHash::of("cfg_1"), IdHash::of("cfg_2"));
        let vault = vault("01");
        let sealed = vault
            .seal_config("acme", own, &"hunter22".into())
            .expect("sealed");
        let opened = vault.open_config("acme", own, &sealed).expect("opens");
        assert_eq!(opened.expose_secret(), "hunter22");
        for (tenant, id) in [("globex", own), ("acme", other)] {
            let opened = vault.open_config(tenant, id, &sealed);
            assert_eq!(opened.err(), Some(VaultError::DoesNotOpen));
        }
        let name = String::from_utf8_lossy(&own.bytes()).into_owned();
        assert!(vault.open("acme", &name, &sealed).is_err());
    }

    proptest! {
        /// Whatever the disk gives back, it is the secret or an error.
        #[test]
        fn what_was_changed_does_not_open(secret in ".{0,40}", at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut sealed = vault("01").seal("t", "n", &secret.as_str().into()).expect("sealed");
            let opened = vault("01").open("t", "n", &sealed).expect("opens");
            prop_assert_eq!(opened.expose_secret(), secret.as_str());
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(vault("01").open("t", "n", &sealed).is_err());
            sealed.truncate(at);
            prop_assert!(vault("01").open("t", "n", &sealed).is_err());
        }
    }
}
