//! The secrets that are read again from files and commands, and what follows from what was read.
//!
//! ```text
//!  running workers ─▶ sources ─▶ (read, each once) ─▶ Readings ─▶ workers and routes with an old secret
//!                                        └──────────▶ Unreadable ─▶ what is logged
//! ```
//!
//! Pure: what is read, and when, is `daemon`'s business. A secret that cannot be read makes nothing
//! outdated.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Config, SecretSource};
use crate::ids::TenantId;

/// A secret by its tenant and name.
pub type SecretOf = (TenantId, String);

/// Where the secret is under that config, if there may be another one there by now.
fn source<'a>(config: &'a Config, tenant: &TenantId, name: &str) -> Option<&'a SecretSource> {
    let source = config.tenants.get(tenant)?.secrets.get(name)?;
    source.may_change().then_some(source)
}

/// What has to be read again so that every one of `used` is known: each source once, with those
/// that use it.
pub fn sources<'a>(
    config: &Config,
    used: impl IntoIterator<Item = (&'a TenantId, &'a str)>,
) -> BTreeMap<SecretSource, BTreeSet<SecretOf>> {
    let mut sources = BTreeMap::<_, BTreeSet<_>>::new();
    for (tenant, name) in used {
        if let Some(source) = source(config, tenant, name) {
            let users = sources.entry(source.clone()).or_default();
            users.insert((tenant.clone(), name.to_owned()));
        }
    }
    sources
}

/// The readings of one round.
#[derive(Default, Debug)]
pub struct Readings(BTreeMap<SecretSource, [u8; 32]>);

impl Readings {
    /// Takes in the digest of the secret that is there now.
    pub fn add(&mut self, source: SecretSource, digest: [u8; 32]) {
        self.0.insert(source, digest);
    }

    /// Whether one of the secrets with which something was started, by name and digest, is another
    /// one now. A secret that was not read, or is no longer there under that config, is not.
    pub fn is_outdated(
        &self,
        config: &Config,
        tenant: &TenantId,
        started_with: &BTreeMap<String, [u8; 32]>,
    ) -> bool {
        started_with.iter().any(|(name, digest)| {
            let read = source(config, tenant, name).and_then(|source| self.0.get(source));
            read.is_some_and(|read| read != digest)
        })
    }
}

/// How the readability of a source has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readability {
    /// The source cannot be read any more.
    Lost,
    /// The source can be read again.
    Regained,
}

/// The sources that could not be read when they were last looked at.
#[derive(Default, Debug)]
pub struct Unreadable(BTreeSet<SecretSource>);

impl Unreadable {
    /// Notes how reading went, and what is to be said of that: once per change.
    pub fn note(&mut self, source: &SecretSource, could_be_read: bool) -> Option<Readability> {
        if could_be_read {
            self.0.remove(source).then_some(Readability::Regained)
        } else {
            self.0.insert(source.clone()).then_some(Readability::Lost)
        }
    }

    /// Forgets those that nobody uses any more.
    pub fn keep(&mut self, is_used: impl Fn(&SecretSource) -> bool) {
        self.0.retain(is_used);
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::*;
    use crate::config;

    fn acme() -> TenantId {
        TenantId::new("acme")
    }

    fn config() -> Config {
        let text = r#"
[servers.s]
command = "s"
[tenants.acme]
secrets.key = { file = "key" }
secrets.same = { file = "key" }
secrets.other = { command = ["vault", "read"] }
secrets.fixed = { env = "FIXED" }
[tenants.globex]
secrets.key = { file = "key" }
"#;
        config::parse(text, "pool.toml", Path::new("/pool")).expect("valid")
    }

    fn file() -> SecretSource {
        SecretSource::File(PathBuf::from("/pool/key"))
    }

    #[test]
    fn each_source_is_read_once_for_all_who_use_it() {
        let (acme, globex) = (acme(), TenantId::new("globex"));
        let used = [
            (&acme, "key"),
            (&globex, "key"),
            (&acme, "same"),
            (&acme, "key"),
            (&acme, "fixed"),
            (&acme, "unknown"),
        ];
        let sources = sources(&config(), used);
        assert_eq!(sources.keys().collect::<Vec<_>>(), [&file()]);
        assert_eq!(sources[&file()].len(), 3);
    }

    #[test]
    fn only_another_secret_makes_outdated() {
        let mut readings = Readings::default();
        readings.add(file(), [1; 32]);
        let is_outdated = |name: &str, digest| {
            let started_with = BTreeMap::from([(name.to_owned(), digest)]);
            readings.is_outdated(&config(), &acme(), &started_with)
        };
        assert!(is_outdated("key", [2; 32]));
        assert!(!is_outdated("key", [1; 32]), "it is the same");
        assert!(!is_outdated("other", [2; 32]), "it was not read");
        assert!(!is_outdated("gone", [2; 32]), "pool.toml has it no more");
    }

    #[test]
    fn a_source_is_spoken_of_when_it_turns() {
        let mut unreadable = Unreadable::default();
        let said = [true, false, false, true, true, false].map(|ok| unreadable.note(&file(), ok));
        let lost = Some(Readability::Lost);
        assert_eq!(
            said,
            [None, lost, None, Some(Readability::Regained), None, lost]
        );
        unreadable.keep(|_| false);
        assert_eq!(unreadable.note(&file(), false), lost, "it was forgotten");
    }

    proptest! {
        /// Started with any of two values of three secrets, any of which can be read or not.
        #[test]
        fn outdated_is_who_has_what_was_read_otherwise(
            started in proptest::collection::btree_map("key|same|other|fixed", 0_u8..2, 0..4),
            of_file in proptest::option::of(0_u8..2),
            of_command in proptest::option::of(0_u8..2),
        ) {
            let command = SecretSource::Command(vec!["vault".to_owned(), "read".to_owned()]);
            let mut readings = Readings::default();
            for (source, read) in [(file(), of_file), (command, of_command)] {
                if let Some(read) = read {
                    readings.add(source, [read; 32]);
                }
            }
            let expected = started.iter().any(|(name, value)| match name.as_str() {
                "key" | "same" => of_file.is_some_and(|read| read != *value),
                "other" => of_command.is_some_and(|read| read != *value),
                _ => false,
            });
            let started = started.into_iter().map(|(name, value)| (name, [value; 32])).collect();
            prop_assert_eq!(readings.is_outdated(&config(), &acme(), &started), expected);
        }
    }
}
