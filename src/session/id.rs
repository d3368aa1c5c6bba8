//! Names of sessions to their clients.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// The value of `Mcp-Session-Id`: a credential, 128 random bits as hexadecimal digits
/// (basic/transports, "Session Management": globally unique and cryptographically secure).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// The text, to be kept where it is not shown.
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }

    /// A new one.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bits = [0_u8; 16];
        getrandom::fill(&mut bits)?;
        Ok(Self(hex(&bits).into()))
    }

    /// As it stands in the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Names the session in logs and tables, and to its process, without giving the credential away.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes())[..6])
    }
}

impl From<&str> for SessionId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// Found by what a client presents.
impl Borrow<str> for SessionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId#{}", self.fingerprint())
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
