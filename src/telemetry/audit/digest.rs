//! Digests of arguments.

use std::fmt;

use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretBox};
use sha2::Sha256;

use crate::fields;

/// Makes digests with a key that only this installation has, so that nobody can find out what was
/// asked by trying likely arguments, nor compare with another installation's log.
pub struct Digester {
    key: SecretBox<[u8; 32]>,
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digester").finish_non_exhaustive()
    }
}

impl Digester {
    /// Digests by that key.
    pub fn new(key: SecretBox<[u8; 32]>) -> Self {
        Self { key }
    }

    /// The digest of a tenant's arguments: 32 hexadecimal digits. Equal arguments of two tenants
    /// have different ones.
    pub fn of(&self, tenant: &str, arguments: &[u8]) -> String {
        // A key of any length will do for HMAC.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.key.expose_secret()) else {
            return String::new();
        };
        fields::put(tenant, |part| mac.update(part));
        mac.update(arguments);
        let digest = mac.finalize().into_bytes();
        data_encoding::HEXLOWER.encode(&digest[..16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_only_for_one_tenant_in_one_installation() {
        let digester = |byte| Digester::new(SecretBox::new(Box::new([byte; 32])));
        let one = digester(1).of("acme", b"{}");
        assert_eq!(one.len(), 32);
        assert_eq!(digester(1).of("acme", b"{}"), one);
        for other in [
            digester(2).of("acme", b"{}"),
            digester(1).of("globex", b"{}"),
            digester(1).of("acme", b"{ }"),
            digester(1).of("acme{", b"}"),
        ] {
            assert_ne!(other, one);
        }
    }
}
