//! What names a session or a stored config on disk, in place of the credential that names it to clients.

use sha2::{Digest, Sha256};

/// SHA-256 of a session id, or of another credential that names something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IdHash([u8; 32]);

impl IdHash {
    /// The hash of that id.
    pub fn of(id: &str) -> Self {
        Self(Sha256::digest(id.as_bytes()).into())
    }

    /// Names what the id names, without giving the credential away.
    pub fn fingerprint(self) -> String {
        data_encoding::HEXLOWER.encode(&self.0[..6])
    }

    pub(super) fn bytes(self) -> [u8; 32] {
        self.0
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}
