//! Puts values into templates. Pure: every value is at hand before it begins.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::principal::Principal;
use crate::config::Arg;
use crate::config::template::{Piece, Reference, Template};
use crate::launch::SecretFiles;
use crate::protocol::{Failure, Reason, step_to};

/// The file of an access token; no secret can be called so.
pub(super) const TOKEN_FILE: &str = "oauth:access_token";

/// The values that templates may refer to.
#[derive(Debug)]
pub(super) struct Values<'a> {
    pub(super) config: &'a Map<String, Value>,
    pub(super) secrets: &'a BTreeMap<String, SecretString>,
    /// The access token upstream, where the server has one.
    pub(super) token: Option<&'a SecretString>,
    pub(super) secret_root: &'a Path,
    pub(super) tenant: &'a str,
    pub(super) user: Option<&'a Principal>,
    pub(super) session: &'a str,
    pub(super) data: &'a str,
    pub(super) tmp: &'a str,
}

impl Values<'_> {
    /// The arguments, in order. A list that is a whole argument becomes one for each item; what
    /// stands under `when` is there only if the value is set and not `false`.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] naming the value that is missing or cannot be an argument.
    pub(super) fn args(&self, args: &[Arg]) -> Result<Vec<SecretString>, Failure> {
        let mut rendered = Vec::new();
        for arg in args {
            match arg {
                Arg::Always(template) => self.arg(template, &mut rendered)?,
                Arg::When { key, args } => {
                    if self
                        .config(key)
                        .is_some_and(|value| *value != Value::Bool(false))
                    {
                        for template in args {
                            self.arg(template, &mut rendered)?;
                        }
                    }
                }
            }
        }
        Ok(rendered)
    }

    fn arg(&self, template: &Template, out: &mut Vec<SecretString>) -> Result<(), Failure> {
        if let Some(Reference::Config(key)) = template.whole_value()
            && let Some(Value::Array(items)) = self.config(key)
        {
            for item in items {
                out.push(without_nul(text_of(item).unwrap_or_default(), key)?.into());
            }
            return Ok(());
        }
        out.push(self.text(template)?);
        Ok(())
    }

    /// One text. A list or object in it is written as JSON.
    ///
    /// # Errors
    /// As for [`Values::args`].
    pub(super) fn text(&self, template: &Template) -> Result<SecretString, Failure> {
        let mut text = String::new();
        for piece in template.pieces() {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Value { reference, default } => match self.value(reference)? {
                    Some(value) => text.push_str(&value),
                    None => text.push_str(default.as_deref().ok_or_else(|| missing(reference))?),
                },
            }
        }
        Ok(text.into())
    }

    /// A value: of its own type if it is the whole template, else a text.
    ///
    /// # Errors
    /// As for [`Values::args`].
    pub(super) fn json(&self, template: &Template) -> Result<Value, Failure> {
        let own = match template.whole_value() {
            Some(Reference::Config(key)) => self.config(key),
            Some(Reference::UserClaim(name)) => self.claim(name),
            _ => None,
        };
        match own {
            Some(own) => Ok(own.clone()),
            None => Ok(Value::from(self.text(template)?.expose_secret())),
        }
    }

    fn value(&self, reference: &Reference) -> Result<Option<String>, Failure> {
        let value = match reference {
            Reference::Config(key) => self.config(key).and_then(text_of),
            Reference::Secret(name) => {
                let secret = self.secrets.get(name);
                secret.map(|secret| secret.expose_secret().to_owned())
            }
            Reference::SecretFile(name) => {
                let is_there = self.secrets.contains_key(name);
                is_there.then(|| SecretFiles::path_of(self.secret_root, name))
            }
            Reference::OAuthToken => self.token.map(|token| token.expose_secret().to_owned()),
            Reference::OAuthTokenFile => self
                .token
                .map(|_| SecretFiles::path_of(self.secret_root, TOKEN_FILE)),
            Reference::TenantId => Some(self.tenant.to_owned()),
            Reference::UserSub => self.user.and_then(|user| user.subject.clone()),
            Reference::UserEmail => self.user.and_then(|user| user.email.clone()),
            Reference::UserClaim(name) => self.claim(name).and_then(text_of),
            Reference::SessionId => Some(self.session.to_owned()),
            Reference::DirData => Some(self.data.to_owned()),
            Reference::DirTmp => Some(self.tmp.to_owned()),
        };
        value
            .map(|value| without_nul(value, &reference.to_string()))
            .transpose()
    }

    /// A value of the config.
    fn config(&self, key: &str) -> Option<&Value> {
        found(|step| self.config.get(step), key)
    }

    /// What the user's credentials say.
    fn claim(&self, name: &str) -> Option<&Value> {
        let claims = &self.user?.claims;
        found(|step| claims.get(step), name)
    }
}

/// A value: a key as written, else dots lead into objects. `null` is none.
fn found<'v>(top: impl Fn(&str) -> Option<&'v Value>, key: &str) -> Option<&'v Value> {
    let value = top(key).or_else(|| {
        let mut steps = key.split('.');
        let first = top(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    });
    value.filter(|value| !value.is_null())
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(value.to_string())
        }
    }
}

fn missing(reference: &Reference) -> Failure {
    let message = match reference {
        Reference::UserSub | Reference::UserEmail | Reference::UserClaim(_) => format!(
            "`{reference}` has no value: the credentials do not say it (give the template a default, `${{{reference}:-…}}`)"
        ),
        _ => format!("`{reference}` has no value, and the server cannot be started without it"),
    };
    let failure = Failure::new(Reason::ConfigInvalid, message);
    match reference {
        Reference::Config(key) => {
            let steps = key.split('.').map(|step| format!("/{}", step_to(step)));
            let pointer: String = steps.collect();
            let error = json!({ "pointer": pointer, "message": failure.message });
            failure.detail("errors", json!([error]))
        }
        _ => failure,
    }
}

fn without_nul(text: String, name: &str) -> Result<String, Failure> {
    if text.contains('\0') {
        let why =
            format!("`{name}` has a NUL character in it, which no argument or variable can hold");
        return Err(Failure::new(Reason::ConfigInvalid, why));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with<R>(config: &Value, check: impl FnOnce(&Values<'_>) -> R) -> R {
        let secrets = BTreeMap::from([("key".to_owned(), "s3cr3t".into())]);
        check(&Values {
            config: config.as_object().expect("an object"),
            secrets: &secrets,
            token: Some(&"t0ken".into()),
            secret_root: Path::new("/run/x"),
            tenant: "acme",
            user: None,
            session: "5e55",
            data: "/data",
            tmp: "/tmp",
        })
    }

    /// The error is a text: what a user reads of it is compared.
    fn args(config: &Value, args: &[Arg]) -> Result<Vec<String>, String> {
        let rendered = with(config, |values| values.args(args));
        let shown = |args: Vec<SecretString>| {
            args.iter()
                .map(|arg| arg.expose_secret().to_owned())
                .collect()
        };
        rendered.map(shown).map_err(|failure| failure.message)
    }

    fn template(text: &str) -> Template {
        Template::parse(text).expect("valid")
    }

    fn always(text: &str) -> Arg {
        Arg::Always(template(text))
    }

    #[test]
    fn what_is_missing_has_its_pointer() {
        let failure = with(&json!({}), |values| {
            values.args(&[always("${config.deep.key}")])
        });
        let shown = failure.expect_err("missing").to_response(None);
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown["error"]["data"]["errors"][0]["pointer"], "/deep/key");
    }

    #[test]
    fn values_of_every_kind() {
        let config = json!({ "repo": "a/b", "n": 3, "on": true, "list": ["x", 1], "deep": { "k": "v" }, "a.b": "dotted", "null": null });
        let text = |text: &str| args(&config, &[always(text)]).expect("rendered").remove(0);
        assert_eq!(text("--repo=${config.repo}"), "--repo=a/b");
        assert_eq!(text("${config.n}/${config.on}"), "3/true");
        assert_eq!(text("x${config.list}"), "x[\"x\",1]");
        assert_eq!(text("${config.deep.k} ${config.a.b}"), "v dotted");
        assert_eq!(text("${config.null:-none}"), "none");
        assert_eq!(
            text("${secret.key} ${tenant.id} ${session.id}"),
            "s3cr3t acme 5e55"
        );
        assert_eq!(text("${secret.key | file}"), "/run/x/:worker:/key");
        assert_eq!(text("Bearer ${oauth.access_token}"), "Bearer t0ken");
        assert_eq!(
            text("${oauth.access_token | file}"),
            "/run/x/:worker:/oauth:access_token"
        );
        assert_eq!(text("${dir.data} ${dir.tmp}"), "/data /tmp");
    }

    #[test]
    fn a_list_that_is_a_whole_argument_becomes_several() {
        let config = json!({ "dirs": ["/a", "/b c"], "none": [] });
        let all = [
            always("-x"),
            always("${config.dirs}"),
            always("${config.none}"),
        ];
        assert_eq!(args(&config, &all).expect("rendered"), ["-x", "/a", "/b c"]);
    }

    #[test]
    fn arguments_under_when_need_their_value() {
        let when = [Arg::When {
            key: "v".into(),
            args: vec![template("--v"), template("${config.v}")],
        }];
        assert_eq!(
            args(&json!({ "v": 1 }), &when).expect("rendered"),
            ["--v", "1"]
        );
        for unset in [json!({}), json!({ "v": null }), json!({ "v": false })] {
            assert!(args(&unset, &when).expect("rendered").is_empty(), "{unset}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |text: &str| args(&json!({}), &[always(text)]).expect_err("misses");
        assert!(error("${config.repo}").starts_with("`config.repo` has no value"));
        assert!(error("${secret.other}").starts_with("`secret.other` has no value"));
        assert!(error("${user.sub}").contains("do not say it"));
        let nul = args(&json!({ "x": "a\0b" }), &[always("${config.x}")]).expect_err("refused");
        assert!(nul.contains("`config.x` has a NUL"), "{nul}");
    }

    proptest! {
        /// No value, however it looks, is read as a template or spills into another argument.
        #[test]
        fn a_value_stays_a_value(value in "[^\0]*") {
            let rendered = args(&json!({ "v": value }), &[always("${config.v}"), always("end")]);
            prop_assert_eq!(rendered.expect("rendered"), [value, "end".to_owned()]);
        }
    }
}
