//! The template language of args, env and cwd: `${config.k}`, `${config.k:-default}`,
//! `${secret.k}`, `${secret.k | file}` (the path of a private file with it), `${tenant.id}`,
//! `${oauth.access_token}` (also `| file`), `${user.sub}`, `${user.email}`, `${user.CLAIM}`,
//! `${session.id}`, `${dir.data}`, `${dir.tmp}`; `$${` is a literal `${`.

use std::fmt;

/// A reference of a template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reference {
    /// A value of the server's config; dots lead into objects.
    Config(String),
    /// A secret of the tenant.
    Secret(String),
    /// The path of a private file with a secret of the tenant in it.
    SecretFile(String),
    /// The access token of the tenant's authorisation upstream.
    OAuthToken,
    /// The path of a private file with that in it.
    OAuthTokenFile,
    /// The tenant's name.
    TenantId,
    /// The user who calls.
    UserSub,
    /// The mail address of the user who calls.
    UserEmail,
    /// A further claim of the caller's credentials; dots lead into objects.
    UserClaim(String),
    /// Names the session, without being the credential that `Mcp-Session-Id` is.
    SessionId,
    /// A folder private to tenant and server, kept.
    DirData,
    /// A folder private to tenant and server, emptied when stdiopool starts.
    DirTmp,
}

impl Reference {
    /// Whether the reference needs the tenant's authorisation upstream.
    pub fn is_upstream(&self) -> bool {
        matches!(self, Self::OAuthToken | Self::OAuthTokenFile)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(key) => write!(f, "config.{key}"),
            Self::Secret(name) => write!(f, "secret.{name}"),
            Self::SecretFile(name) => write!(f, "secret.{name} | file"),
            Self::OAuthToken => f.write_str("oauth.access_token"),
            Self::OAuthTokenFile => f.write_str("oauth.access_token | file"),
            Self::TenantId => f.write_str("tenant.id"),
            Self::UserSub => f.write_str("user.sub"),
            Self::UserEmail => f.write_str("user.email"),
            Self::UserClaim(name) => write!(f, "user.{name}"),
            Self::SessionId => f.write_str("session.id"),
            Self::DirData => f.write_str("dir.data"),
            Self::DirTmp => f.write_str("dir.tmp"),
        }
    }
}

/// A piece of a template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Text that stands as it is.
    Literal(String),
    /// A value, or the default if there is none.
    Value {
        /// What is meant.
        reference: Reference,
        /// The text that stands in where the config has no value.
        default: Option<String>,
    },
}

/// A parsed template.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Template {
    pieces: Vec<Piece>,
}

/// Why a text is not a template.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TemplateError {
    /// `${` without `}`.
    #[error("`${{` without a closing `}}` (write `$${{` for a literal `${{`)")]
    Unclosed,
    /// Not one of the references there are.
    #[error(
        "`${{{0}}}` refers to nothing known; there are config.KEY, secret.NAME, secret.NAME | file, oauth.access_token, oauth.access_token | file, tenant.id, user.sub, user.email, user.CLAIM, session.id, dir.data and dir.tmp"
    )]
    Unknown(String),
    /// A NUL byte, which no argument can hold.
    #[error("a NUL character cannot be part of an argument, variable or path")]
    Nul,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.contains('\0') {
            return Err(TemplateError::Nul);
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                literal.push_str(&rest[..at - 1]);
                literal.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            literal.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let end = inner.find('}').ok_or(TemplateError::Unclosed)?;
            let (name, default) = match inner[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (&inner[..end], None),
            };
            let reference = reference(name.trim())
                .ok_or_else(|| TemplateError::Unknown(name.trim().to_owned()))?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Value { reference, default });
            rest = &inner[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }

    /// A template that stands for exactly that text.
    pub fn literal(text: impl Into<String>) -> Self {
        let text = text.into();
        let pieces = if text.is_empty() {
            vec![]
        } else {
            vec![Piece::Literal(text)]
        };
        Self { pieces }
    }

    /// The template's pieces, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The value that is the whole template, if it is one: a list there becomes several arguments.
    pub fn whole_value(&self) -> Option<&Reference> {
        match self.pieces.as_slice() {
            [Piece::Value { reference, .. }] => Some(reference),
            _ => None,
        }
    }

    /// The template's text, if that is always alike.
    pub fn as_literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The references of the template.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Value { reference, .. } => Some(reference),
        })
    }
}

/// Reads a dotted name.
pub(super) fn reference(name: &str) -> Option<Reference> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.split('.').all(|part| {
                !part.is_empty()
                    && part
                        .chars()
                        .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
            })
    };
    if let Some((value, filter)) = name.split_once('|') {
        if filter.trim() != "file" {
            return None;
        }
        if value.trim() == "oauth.access_token" {
            return Some(Reference::OAuthTokenFile);
        }
        let secret = value.trim().strip_prefix("secret.")?;
        // A file's name: it must not lead elsewhere.
        return is_name(secret).then(|| Reference::SecretFile(secret.to_owned()));
    }
    match name.split_once('.')? {
        ("config", key) if is_name(key) => Some(Reference::Config(key.to_owned())),
        ("secret", key) if is_name(key) => Some(Reference::Secret(key.to_owned())),
        ("oauth", "access_token") => Some(Reference::OAuthToken),
        ("tenant", "id") => Some(Reference::TenantId),
        ("user", "sub") => Some(Reference::UserSub),
        ("user", "email") => Some(Reference::UserEmail),
        ("user", claim) if is_name(claim) => Some(Reference::UserClaim(claim.to_owned())),
        ("session", "id") => Some(Reference::SessionId),
        ("dir", "data") => Some(Reference::DirData),
        ("dir", "tmp") => Some(Reference::DirTmp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(reference: Reference, default: Option<&str>) -> Piece {
        Piece::Value {
            reference,
            default: default.map(str::to_owned),
        }
    }

    #[test]
    fn references_defaults_and_escapes() {
        let pieces = |text: &str| Template::parse(text).expect("valid").pieces;
        let literal = |text: &str| Piece::Literal(text.to_owned());
        assert_eq!(
            pieces("--repo=${config.repo}!"),
            [
                literal("--repo="),
                value(Reference::Config("repo".into()), None),
                literal("!")
            ]
        );
        assert_eq!(
            pieces("${config.a.b:-x y}"),
            [value(Reference::Config("a.b".into()), Some("x y"))]
        );
        assert_eq!(
            pieces("${secret.k:-}"),
            [value(Reference::Secret("k".into()), Some(""))]
        );
        assert_eq!(pieces("$${config.a} $5 $"), [literal("${config.a} $5 $")]);
        assert_eq!(pieces("a$$${dir.tmp}"), [literal("a$${dir.tmp}")]);
        let file = Reference::SecretFile("k".into());
        for text in ["${secret.k | file}", "${secret.k|file}"] {
            assert_eq!(pieces(text), [value(file.clone(), None)]);
        }
        let token = [value(Reference::OAuthToken, None)];
        assert_eq!(pieces("${oauth.access_token}"), token);
        let token = [value(Reference::OAuthTokenFile, None)];
        assert_eq!(pieces("${oauth.access_token | file}"), token);
        assert!(pieces("").is_empty());
    }

    #[test]
    fn what_is_not_a_template_is_told() {
        assert_eq!(Template::parse("${config.a"), Err(TemplateError::Unclosed));
        assert_eq!(Template::parse("a\0b"), Err(TemplateError::Nul));
        for bad in [
            "${}",
            "${config}",
            "${config.}",
            "${env.HOME}",
            "${tenant.name}",
            "${config.a b}",
            "${config.a..b}",
            "${secret.a | base64}",
            "${config.a | file}",
            "${secret. | file}",
            "${oauth.refresh_token}",
            "${oauth.access_token | base64}",
        ] {
            assert!(
                matches!(Template::parse(bad), Err(TemplateError::Unknown(_))),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _any = Template::parse(&text);
        }

        #[test]
        fn a_text_without_references_stands_for_itself(text in "[^\0]*") {
            prop_assume!(!text.contains("${"));
            let template = Template::parse(&text).expect("no reference");
            let expected = if text.is_empty() { vec![] } else { vec![Piece::Literal(text)] };
            prop_assert_eq!(template.pieces(), expected);
        }
    }
}
