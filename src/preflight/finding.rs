//! Something that was found out about a config, and how much it matters.

/// How much something that was found matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// Nothing is served, and a reload changes nothing.
    Fatal,
    /// Calls of one server or one tenant are refused until it is mended; others go on.
    Failing,
    /// Calls are served, otherwise than may be meant.
    Odd,
}

/// Something that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// How much the finding matters.
    pub weight: Weight,
    /// The keys that lead to it in pool.toml.
    pub key: Vec<String>,
    /// Further keys on which it rests, below its server: it says nothing while one of them has a mistake.
    pub(super) rests_on: Vec<Vec<String>>,
    /// What was found and what to do.
    pub message: String,
}

impl Finding {
    pub(super) fn new<const N: usize>(weight: Weight, key: [&str; N], message: String) -> Self {
        Self::at(weight, path(key), message)
    }

    pub(super) fn at(weight: Weight, key: Vec<String>, message: String) -> Self {
        Self {
            weight,
            key,
            rests_on: vec![],
            message,
        }
    }

    /// The keys on which it rests: while one of them has a mistake, it says nothing.
    pub fn rests_on(&self) -> Vec<Vec<String>> {
        let mut keys = self.rests_on.clone();
        keys.push(self.key.clone());
        keys
    }
}

/// Keys as a [`Finding`] has them.
pub(super) fn path<const N: usize>(keys: [&str; N]) -> Vec<String> {
    keys.map(ToOwned::to_owned).to_vec()
}
