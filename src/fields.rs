//! Fields one after the other, for digests and for what ciphertext is bound to. Each stands behind its length, so that no
//! two sequences of fields run together into the same bytes.

/// Puts one field: its length as eight bytes, the least first, then its bytes.
pub(crate) fn put(field: impl AsRef<[u8]>, mut write: impl FnMut(&[u8])) {
    let field = field.as_ref();
    write(&(field.len() as u64).to_le_bytes());
    write(field);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(fields: &[&str]) -> Vec<u8> {
        let mut all = Vec::new();
        for field in fields {
            put(field, |part| all.extend_from_slice(part));
        }
        all
    }

    #[test]
    fn no_two_sequences_run_together() {
        assert_eq!(bytes(&["ab"]), b"\x02\0\0\0\0\0\0\0ab");
        assert_ne!(bytes(&["ab", "c"]), bytes(&["a", "bc"]));
        assert_ne!(bytes(&["ab", ""]), bytes(&["ab"]));
    }
}
