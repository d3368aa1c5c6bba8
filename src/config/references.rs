//! Whether a server's templates may refer to what they refer to.

use super::model::Server;
use super::reader::Reader;
use super::template::Reference;

pub(super) fn check(reader: &mut Reader<'_, '_>, server: &Server) {
    check_schema(reader, server);
    check_spares(reader, server);
    check_upstream(reader, server);
}

/// The keys that templates refer to must be in the schema, where the schema says what there is.
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
        // Mistakes of the table itself are told where the table is read.
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
