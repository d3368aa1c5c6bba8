//! Names of packages: those that a registry is asked for. Whatever else a name can mean (a folder, a
//! file, a repository, a URL) is left to the launcher.

use std::fmt;

use super::not_understood::NotUnderstood;

/// Longest name of a package with its version, in bytes. npm allows 214 for a name.
const MAX_LEN: usize = 512;

/// A package of an npm registry: `name`, `@scope/name`, each with `@version`, `@range` or `@tag`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NpmSpec {
    name: String,
    version: Option<String>,
}

impl NpmSpec {
    /// Reads one.
    ///
    /// # Errors
    /// When it is not, or may not be, a package of a registry.
    pub fn parse(text: &str) -> Result<Self, NotUnderstood> {
        let not = || NotUnderstood::NotOfRegistry(text.to_owned());
        if text.len() > MAX_LEN {
            return Err(not());
        }
        // The `@` of a scope is part of the name.
        let version_at = text.char_indices().skip(1).find(|(_, c)| *c == '@');
        let (name, version) = match version_at {
            Some((at, _)) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        let is_name = match name.strip_prefix('@') {
            Some(scoped) => {
                let parts = scoped.split_once('/');
                parts.is_some_and(|(scope, name)| is_npm_word(scope) && is_npm_word(name))
            }
            None => is_npm_word(name),
        };
        // npm takes these for files.
        let is_file = [".tgz", ".tar", ".tar.gz"]
            .iter()
            .any(|end| text.ends_with(end));
        let is_version = version.is_none_or(|version| {
            version
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".^~<>=|*+- _".contains(c))
                && !version.starts_with('-')
        });
        if !is_name || is_file || !is_version {
            return Err(not());
        }
        Ok(Self {
            name: name.to_owned(),
            version: version
                .filter(|version| !version.is_empty())
                .map(ToOwned::to_owned),
        })
    }

    /// The package's name with its scope, without a version.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the specifier says nothing of a version.
    pub(super) fn is_bare(&self) -> bool {
        self.version.is_none()
    }

    /// Whether only one version can be meant (semver 2.0, `X.Y.Z` with a pre-release or build).
    pub fn is_exact(&self) -> bool {
        let Some(version) = &self.version else {
            return false;
        };
        let core = version.split(['-', '+']).next().unwrap_or_default();
        let numbers: Vec<_> = core.split('.').collect();
        let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        numbers.len() == 3 && numbers.iter().all(is_number) && !version.contains(' ')
    }
}

impl fmt::Display for NpmSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.version {
            Some(version) => write!(f, "@{version}"),
            None => Ok(()),
        }
    }
}

fn is_npm_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '~' || c == '_')
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._~-".contains(c))
}

/// A package of a Python index (PEP 508): name, extras, and version specifiers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Requirement {
    name: String,
    /// The extras with their brackets.
    extras: String,
    /// Version specifiers such as `==1.2` or `>=1,<2`, without blanks.
    specifiers: String,
}

impl Requirement {
    /// Reads one as pip does: `name[extra]>=1,<2`.
    ///
    /// # Errors
    /// When it is not, or may not be, a package of an index.
    pub fn parse(text: &str) -> Result<Self, NotUnderstood> {
        let not = || NotUnderstood::NotOfIndex(text.to_owned());
        let is_file = [".whl", ".zip", ".tar.gz", ".py"]
            .iter()
            .any(|end| text.ends_with(end));
        if text.len() > MAX_LEN || is_file {
            return Err(not());
        }
        let text = text.trim();
        let name_len = text
            .find(|c: char| !is_python_char(c))
            .unwrap_or(text.len());
        let (name, rest) = text.split_at(name_len);
        let ends_well = |c: char| c.is_ascii_alphanumeric();
        if !name.starts_with(ends_well) || !name.ends_with(ends_well) {
            return Err(not());
        }
        let (extras, rest) = match (rest.starts_with('['), rest.find(']')) {
            (true, Some(end)) => rest.split_at(end + 1),
            (true, None) => return Err(not()),
            (false, _) => ("", rest),
        };
        let inner = extras.trim_start_matches('[').trim_end_matches(']');
        let are_extras = inner
            .chars()
            .all(|c| is_python_char(c) || c == ',' || c == ' ');
        let specifiers: String = rest.chars().filter(|c| *c != ' ').collect();
        let are_specifiers = specifiers.is_empty() || specifiers.split(',').all(is_specifier);
        if !are_extras || !are_specifiers {
            return Err(not());
        }
        Ok(Self {
            name: name.to_owned(),
            extras: extras.chars().filter(|c| *c != ' ').collect(),
            specifiers,
        })
    }

    /// Reads one as uvx does, which also knows `name@1.2` and `name@latest`.
    ///
    /// # Errors
    /// As [`Requirement::parse`].
    pub(super) fn parse_of_tool(text: &str) -> Result<Self, NotUnderstood> {
        let Some((package, version)) = text.split_once('@') else {
            return Self::parse(text);
        };
        if version == "latest" {
            return Self::parse(package);
        }
        Self::parse(&format!("{package}=={version}"))
            .ok()
            .filter(Self::is_exact)
            .ok_or_else(|| NotUnderstood::NotOfIndex(text.to_owned()))
    }

    /// Without extras and version.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether only one version can be meant.
    pub fn is_exact(&self) -> bool {
        let version = self.specifiers.strip_prefix("==");
        version.is_some_and(|version| !version.contains(['*', ',']))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.name, self.extras, self.specifiers)
    }
}

fn is_python_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

fn is_specifier(text: &str) -> bool {
    let operators = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];
    let version = operators
        .iter()
        .find_map(|operator| text.strip_prefix(operator));
    version.is_some_and(|version| {
        !version.is_empty()
            && version
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".*+!_-".contains(c))
    })
}
