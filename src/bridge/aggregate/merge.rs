//! Lists of several servers as one, and how all of them introduce themselves together.

use std::fmt::Write as _;
use std::ops::Range;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::names::Alias;
use super::renaming::Replacements;
use crate::bridge::Listing;
use crate::bridge::member_names::WrittenMembers;
use crate::bridge::members::Members;
use crate::protocol::{Revision, span_of};

/// Where a list says which servers are missing in it, and why.
const MISSING: &str = "dev.stdiopool/missing";

/// A server whose things a list does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// The server's name.
    pub server: String,
    /// Why the server's part is missing, for people.
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

/// The items of one page of a server's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Items {
    /// Each as raw JSON, as it is called where several servers are offered as one, with what tells it from
    /// others there.
    pub items: Vec<(String, String)>,
    /// Where the next page begins.
    pub next: Option<String>,
    /// Number of items of the page that are left out because they have no name.
    pub unnamed: usize,
    /// What the server says of the next page, if that is no place where one could begin.
    pub odd_cursor: Option<String>,
}

/// Why a list's result is no page of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("its answer to `{method}` has no list of `{member}`")]
pub struct NotAPage {
    method: &'static str,
    member: &'static str,
}

/// Reads one page of a server's list.
///
/// # Errors
/// [`NotAPage`] when it is none.
pub fn items(listing: Listing, page: &str, alias: &Alias) -> Result<Items, NotAPage> {
    let member = member(listing);
    let method = listing.method();
    let not_a_page = NotAPage { method, member };
    let page = Members::read(page).ok_or_else(|| not_a_page.clone())?;
    let list = page.get(member).map(serde_json::from_str::<Vec<&RawValue>>);
    let Some(Ok(list)) = list else {
        return Err(not_a_page);
    };
    let mut found = Items {
        items: Vec::with_capacity(list.len()),
        next: None,
        unnamed: 0,
        odd_cursor: None,
    };
    for item in list {
        match renamed(listing, item, alias) {
            Some(item) => found.items.push(item),
            None => found.unnamed += 1,
        }
    }
    match page.get("nextCursor").map(serde_json::from_str::<Value>) {
        None | Some(Ok(Value::Null)) => {}
        // Some servers end their lists with an empty cursor.
        Some(Ok(Value::String(cursor))) if cursor.is_empty() => {}
        Some(Ok(Value::String(cursor))) => found.next = Some(cursor),
        Some(other) => {
            let other = other.map_or("no JSON".to_owned(), |other| other.to_string());
            found.odd_cursor = Some(other.chars().take(40).collect());
        }
    }
    Ok(found)
}

/// An item under the names that it has here, and what tells it from others; `None` for one that has not what
/// it is called by.
fn renamed(listing: Listing, item: &RawValue, alias: &Alias) -> Option<(String, String)> {
    let whole = item.get();
    let members = WrittenMembers::read(whole)?;
    let last = |members: &WrittenMembers<'_>, name: &str| {
        let mut members = members.0.iter().rev();
        let member = members.find(|member| member.name == name)?;
        Some(at(whole, member.value))
    };
    let text = |span: &Range<usize>| serde_json::from_str::<String>(&whole[span.clone()]).ok();
    let key = match listing {
        Listing::Tools | Listing::Prompts => "name",
        Listing::Resources => "uri",
        Listing::ResourceTemplates => "uriTemplate",
    };
    let named = text(&last(&members, key)?).filter(|named| !named.is_empty())?;
    let mut replacements = Replacements::default();
    if let Some(span) = last(&members, "name")
        && let Some(name) = text(&span)
    {
        replacements.replace_span(span, &alias.name(&name));
    }
    let mut uris = vec![last(&members, "uri"), last(&members, "uriTemplate")];
    // The page that shows a tool, of the extension for apps (SEP-1865), in either of its spellings.
    let inner = |span: Option<Range<usize>>| WrittenMembers::read(&whole[span?]);
    if let Some(meta) = inner(last(&members, "_meta")) {
        uris.push(last(&meta, "ui/resourceUri"));
        if let Some(ui) = inner(last(&meta, "ui")) {
            uris.push(last(&ui, "resourceUri"));
        }
    }
    let uris = uris.into_iter().flatten();
    for span in uris.filter(|_| listing != Listing::Prompts) {
        if let Some(uri) = text(&span) {
            replacements.replace_span(span, &alias.uri(&uri));
        }
    }
    let bytes = replacements.apply(whole.as_bytes());
    Some((named, String::from_utf8(bytes).ok()?))
}

fn at(whole: &str, part: &str) -> Range<usize> {
    span_of(whole.as_bytes(), part)
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

/// The `initialize` result of all servers together. The result says what any of them may be able to do: none
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
