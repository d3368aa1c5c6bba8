//! Of npm: which folders of an entry are the package's own, and those of dependencies that it may write.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::manifest::{Item, Manifest};
use super::super::node::provider;
use super::wanted::Wanted;

/// The folder of the package that is named, and of the one that has the program. Of dependencies that are written, also of
/// all packages that lead to them, by the entry's lock file: node finds what a package needs beside where that really is.
pub(super) fn folders(
    manifest: &Manifest,
    program: &str,
    wanted: &Wanted<'_>,
    lock: Option<&Value>,
) -> BTreeSet<String> {
    let named = format!("node_modules/{}", wanted.package);
    let of_program = match manifest.item(program) {
        Some(Item::Link(target)) => package_of(target),
        _ => None,
    };
    let mut own: BTreeSet<String> = [Some(named), of_program].into_iter().flatten().collect();
    if let Some(packages) = lock.and_then(|lock| lock["packages"].as_object()) {
        let is_written = |place: &&String| {
            let mut written = wanted.writable.iter();
            let name = place.rsplit("node_modules/").next();
            written.any(|one| name == Some(one))
        };
        own.extend(packages.keys().filter(is_written).cloned());
        while add_dependents(packages, &mut own) {}
    }
    own
}

/// Adds packages that need one of those; whether there were any.
fn add_dependents(packages: &Map<String, Value>, own: &mut BTreeSet<String>) -> bool {
    let needs_own = |(place, package): &(&String, &Value)| {
        let kinds = ["dependencies", "optionalDependencies", "peerDependencies"];
        let needed = kinds.iter().filter_map(|kind| package[*kind].as_object());
        let mut providers = needed
            .flat_map(Map::keys)
            .filter_map(|name| provider(packages, place, name));
        providers.any(|provider| own.contains(&provider))
    };
    let dependents = packages
        .iter()
        .filter(|(place, _)| !place.is_empty() && !own.contains(*place));
    let found: Vec<String> = dependents
        .filter(needs_own)
        .map(|(place, _)| place.clone())
        .collect();
    let is_more = !found.is_empty();
    own.extend(found);
    is_more
}

/// What is in those folders, without packages that are installed in them and are none of those.
pub(super) fn files(manifest: &Manifest, folders: &BTreeSet<String>) -> BTreeSet<String> {
    let is_own = |path: &str| {
        folders.iter().any(|folder| {
            let inside = path.strip_prefix(folder.as_str());
            let inside = inside.and_then(|rest| rest.strip_prefix('/'));
            inside.is_some_and(|rest| rest != "node_modules" && !rest.starts_with("node_modules/"))
        })
    };
    // An empty folder may be meant for what the server writes.
    let is_own_item = |(path, item): &(&str, &Item)| !matches!(item, Item::Link(_)) && is_own(path);
    let own = manifest.items().filter(is_own_item);
    own.map(|(path, _)| path.to_owned()).collect()
}

/// The folder of a package, of a link in `node_modules/.bin`: `../name/x.js`, `../@scope/name/x.js`.
fn package_of(target: &str) -> Option<String> {
    let mut parts = target.strip_prefix("../")?.split('/');
    let first = parts.next()?;
    Some(if first.starts_with('@') {
        format!("node_modules/{first}/{}", parts.next()?)
    } else {
        format!("node_modules/{first}")
    })
}
