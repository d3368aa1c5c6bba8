//! What is odd in a pool.toml, and where.

/// An oddity, with the keys that lead to it.
pub(super) type Odd = (Vec<String>, String);

/// The keys that lead to something.
pub(super) fn path<const N: usize>(keys: [&str; N]) -> Vec<String> {
    keys.map(ToOwned::to_owned).to_vec()
}
