//! What a server's templates refer to.

use super::server::{Arg, Server};
use crate::config::downloads::Word;
use crate::config::template::{Piece, Reference, Template};

impl Server {
    /// Whether the schema of its config calls that value `writeOnly` (JSON Schema 2020-12, validation,
    /// 9.4) or `sensitive`: it is to be shown to nobody.
    pub fn is_confidential(&self, key: &str) -> bool {
        let properties = self.schema.as_ref().map(|schema| &schema["properties"]);
        let property = properties.and_then(|properties| properties.get(key));
        let is_set = |word: &str| property.is_some_and(|property| property[word] == true);
        is_set("writeOnly") || is_set("sensitive")
    }

    /// The server's arguments as they are written, those that are there only for some included.
    pub fn words(&self) -> Vec<Word> {
        let words = self.args.iter().flat_map(|arg| {
            let (templates, is_conditional) = match arg {
                Arg::Always(template) => (std::slice::from_ref(template), false),
                Arg::When { args, .. } => (args.as_slice(), true),
            };
            templates
                .iter()
                .map(move |template| Word::written(template, is_conditional))
        });
        words.collect()
    }

    /// What the server's templates refer to, each with the key under which it stands.
    pub fn references(&self) -> impl Iterator<Item = (&'static str, Reference)> {
        let args = self.args.iter().flat_map(|arg| match arg {
            Arg::Always(template) => of("args", [template]),
            Arg::When { key, args } => {
                let mut all = of("args", args);
                all.push(("args", Reference::Config(key.clone())));
                all
            }
        });
        args.chain(of("env", self.env.values()))
            .chain(of("cwd", &self.cwd))
            .chain(of("roots", &self.roots))
    }

    /// Every template that it is started from.
    fn templates(&self) -> impl Iterator<Item = &Template> {
        let args = self.args.iter().flat_map(|arg| match arg {
            Arg::Always(template) => std::slice::from_ref(template),
            Arg::When { args, .. } => args,
        });
        args.chain(self.env.values())
            .chain(&self.cwd)
            .chain(&self.roots)
    }

    /// How the server uses a secret of its tenants.
    pub fn use_of_secret(&self, name: &str) -> SecretUse {
        let pieces = self.templates().flat_map(Template::pieces);
        let uses = pieces.filter_map(|piece| match piece {
            Piece::Value {
                reference: Reference::Secret(it) | Reference::SecretFile(it),
                default,
            } if it == name => Some(match default {
                Some(_) => SecretUse::HasDefault,
                None => SecretUse::Needed,
            }),
            Piece::Value { .. } | Piece::Literal(_) => None,
        });
        uses.max().unwrap_or(SecretUse::None)
    }

    /// Whether the server is started with an access token upstream.
    pub fn needs_token(&self) -> bool {
        self.oauth.is_some() && self.references().any(|(_, what)| what.is_upstream())
    }
}

/// How a server uses a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SecretUse {
    /// The server does not name the secret.
    None,
    /// Wherever it names it there is a default.
    HasDefault,
    /// The server is not started without the secret.
    Needed,
}

fn of<'t>(
    place: &'static str,
    templates: impl IntoIterator<Item = &'t Template>,
) -> Vec<(&'static str, Reference)> {
    let references = templates.into_iter().flat_map(Template::references);
    references
        .map(|reference| (place, reference.clone()))
        .collect()
}
