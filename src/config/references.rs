//! What a server's templates refer to, and whether they may.

use super::downloads::Word;
use super::model::{Arg, Server};
use super::reader::Reader;
use super::template::{Reference, Template};

impl Server {
    /// Whether the schema of its config calls that value `writeOnly` (JSON Schema 2020-12, validation,
    /// 9.4) or `sensitive`: it is to be shown to nobody.
    pub fn is_confidential(&self, key: &str) -> bool {
        let properties = self.schema.as_ref().map(|schema| &schema["properties"]);
        let property = properties.and_then(|properties| properties.get(key));
        let is_set = |word: &str| property.is_some_and(|property| property[word] == true);
        is_set("writeOnly") || is_set("sensitive")
    }

    /// Its arguments as they are written, those that are there only for some included.
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

    /// What its templates refer to, each with the key it stands under.
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

    /// Whether it is started with an access token upstream.
    pub fn needs_token(&self) -> bool {
        self.oauth.is_some() && self.references().any(|(_, what)| what.is_upstream())
    }
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

pub(super) fn check(reader: &mut Reader<'_, '_>, server: &Server) {
    check_schema(reader, server);
    check_spares(reader, server);
    check_upstream(reader, server);
}

/// What templates refer to must be in the schema, where the schema says what there is.
fn check_schema(reader: &mut Reader<'_, '_>, server: &Server) {
    let Some(properties) = server
        .schema
        .as_deref()
        .and_then(|schema| schema.get("properties"))
    else {
        return;
    };
    let known: Vec<_> = properties
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect();
    for (place, reference) in server.references() {
        let Reference::Config(key) = reference else {
            continue;
        };
        let top = key.split('.').next().unwrap_or_default();
        if properties.get(top).is_none() {
            let name = reader.name(place);
            let message = format!(
                "`{name}` refers to `config.{key}`, which the schema does not have (it has {})",
                known.join(", ")
            );
            reader.wrong(place, message);
        }
    }
}

/// An access token comes from somewhere, and goes somewhere.
fn check_upstream(reader: &mut Reader<'_, '_>, server: &Server) {
    let uses = server
        .references()
        .find(|(_, reference)| reference.is_upstream());
    let name = reader.name("oauth");
    match (&server.oauth, uses) {
        // That the table itself has mistakes is said there.
        (None, Some((place, reference))) if !reader.has("oauth") => {
            let message = format!(
                "`{}` refers to `{reference}`, which needs `{name}`: where the token comes from",
                reader.name(place)
            );
            reader.wrong(place, message);
        }
        (Some(_), None) => {
            let message = format!(
                "`{name}` has no effect: no template of the server refers to `oauth.access_token`"
            );
            reader.warn("oauth", message);
        }
        _ => {}
    }
}

/// A spare is started before anyone is known.
fn check_spares(reader: &mut Reader<'_, '_>, server: &Server) {
    if server.min_idle == 0 {
        return;
    }
    if let Some((place, reference)) = server.references().next() {
        let name = reader.name("min_idle");
        let message = format!(
            "`{name}` needs a launch that is the same for every tenant, but `{place}` refers to `{reference}`"
        );
        reader.wrong("min_idle", message);
    }
}
