//! Reads digests of tokens and of proxies' secrets, which stand in pool.toml in their place.

use data_encoding::HEXLOWER_PERMISSIVE;

/// Reads "sha256:" and 64 hexadecimal digits, of either case.
pub(super) fn sha256(text: &str) -> Option<[u8; 32]> {
    let digits = text
        .strip_prefix("sha256:")
        .filter(|digits| digits.len() == 64)?;
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
    bytes.try_into().ok()
}
