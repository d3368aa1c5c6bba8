//! Lists of several servers as one, and how all of them introduce themselves together.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::names::Alias;
use super::renaming::Replacements;
use crate::bridge::Listing;
use crate::protocol::Revision;

/// Where a list says which servers are missing in it, and why.
const MISSING: &str = "dev.stdiopool/missing";

/// A server whose things a list does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// Its name.
    pub server: String,
    /// Why, for people.
    pub why: String,
}

fn member(listing: Listing) -> &'static str {
    match listing {
        Listing::Tools => "tools",
        Listing::Prompts => "prompts",
        Listing::Resources => "resources",
        Listing::ResourceTemplates => "resourceTemplates",
    }
}

/// The items of one page of a server's list, as they are called where several are offered as one,
/// each as raw JSON; and where the next page begins. A page that is none has no items.
pub fn items(listing: Listing, page: &str, alias: &Alias) -> (Vec<String>, Option<String>) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Page<'a> {
        #[serde(borrow, default)]
        tools: Vec<&'a RawValue>,
        #[serde(borrow, default)]
        prompts: Vec<&'a RawValue>,
        #[serde(borrow, default)]
        resources: Vec<&'a RawValue>,
        #[serde(borrow, default)]
        resource_templates: Vec<&'a RawValue>,
        next_cursor: Option<String>,
    }
    let Ok(page) = serde_json::from_str::<Page<'_>>(page) else {
        return (vec![], None);
    };
    let list = match listing {
        Listing::Tools => page.tools,
        Listing::Prompts => page.prompts,
        Listing::Resources => page.resources,
        Listing::ResourceTemplates => page.resource_templates,
    };
    let renamed = list.into_iter().map(|item| renamed(listing, item, alias));
    (renamed.collect(), page.next_cursor)
}

/// An item under the names that it has here.
fn renamed(listing: Listing, item: &RawValue, alias: &Alias) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Item<'a> {
        #[serde(borrow)]
        name: Option<&'a RawValue>,
        #[serde(borrow)]
        uri: Option<&'a RawValue>,
        #[serde(borrow)]
        uri_template: Option<&'a RawValue>,
        #[serde(borrow, rename = "_meta")]
        meta: Option<Meta<'a>>,
    }
    // The page that shows a tool, of the extension for apps (SEP-1865), in either of its spellings.
    #[derive(Deserialize)]
    struct Meta<'a> {
        #[serde(borrow, rename = "ui/resourceUri")]
        page: Option<&'a RawValue>,
        #[serde(borrow)]
        ui: Option<Ui<'a>>,
    }
    #[derive(Deserialize)]
    struct Ui<'a> {
        #[serde(borrow, rename = "resourceUri")]
        page: Option<&'a RawValue>,
    }
    let whole = item.get();
    let Ok(found) = serde_json::from_str::<Item<'_>>(whole) else {
        return whole.to_owned();
    };
    let pages = found
        .meta
        .map(|meta| [meta.page, meta.ui.and_then(|ui| ui.page)]);
    let uris = [found.uri, found.uri_template];
    let uris = uris
        .into_iter()
        .chain(pages.into_iter().flatten())
        .flatten()
        .filter(|_| listing != Listing::Prompts);
    let mut replacements = Replacements::default();
    let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).ok();
    if let Some((raw, name)) = found.name.and_then(|raw| Some((raw, text(raw)?))) {
        replacements.replace(whole.as_bytes(), raw, &alias.name(&name));
    }
    for (raw, uri) in uris.filter_map(|raw| Some((raw, text(raw)?))) {
        replacements.replace(whole.as_bytes(), raw, &alias.uri(&uri));
    }
    let bytes = replacements.apply(whole.as_bytes());
    String::from_utf8(bytes).unwrap_or_else(|_| whole.to_owned())
}

/// The result of a list request: all of these items, and who is missing.
pub fn merged(listing: Listing, items: &[String], missing: &[Missing]) -> String {
    let mut text = format!("{{\"{}\":[{}]", member(listing), items.join(","));
    if !missing.is_empty() {
        let missing: Vec<_> = missing
            .iter()
            .map(|missing| json!({ "server": missing.server, "why": missing.why }))
            .collect();
        let meta = json!({ MISSING: missing });
        write!(text, ",\"_meta\":{meta}").expect("a String takes everything");
    }
    text.push('}');
    text
}

/// The `initialize` result of all servers together. It says what any of them may be able to do: none
/// of them is started to find out.
pub fn introduction(servers: &[Alias]) -> Value {
    let mut instructions = String::from(
        "These servers are offered as one; the names of their tools and prompts begin so:\n",
    );
    for server in servers {
        writeln!(instructions, "- {}", server.name("")).expect("a String takes everything");
    }
    json!({
        "protocolVersion": Revision::LATEST.as_str(),
        "capabilities": {
            "tools": { "listChanged": true },
            "prompts": { "listChanged": true },
            "resources": { "listChanged": true, "subscribe": true },
            "logging": {},
            "completions": {},
        },
        "serverInfo": { "name": "stdiopool", "version": env!("CARGO_PKG_VERSION") },
        "instructions": instructions.trim_end(),
    })
}
