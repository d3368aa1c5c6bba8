//! What the things of a server are called where several are offered as one.

use std::borrow::Cow;
use std::sync::Arc;

use crate::ids::ServerName;

/// What a resource's URI begins with, before the name of its server. Templates keep their braces, so
/// that what they are filled with still begins so.
const RESOURCES: &str = "stdiopool://";

/// The scheme of pages that hosts show for tools, who take no other (SEP-1865, MCP Apps): it is kept, and the
/// name of the server stands inside the address.
const PAGES: &str = "ui://";

/// The form in which a name says of which server a tool, prompt or resource is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    separator: Arc<str>,
}

impl Names {
    /// Names with `separator` between a server's name and the name that a thing has there.
    pub fn new(separator: &str) -> Self {
        Self {
            separator: separator.into(),
        }
    }

    /// The server and its own name of a tool or prompt. A server whose name runs into the separator
    /// cannot be told apart; the config sees to it that none is offered.
    pub fn split<'n>(&self, name: &'n str) -> Option<(&'n str, &'n str)> {
        name.split_once(&*self.separator)
    }

    /// The server and its own URI of a resource, or template.
    pub fn split_uri(uri: &str) -> Option<(&str, Cow<'_, str>)> {
        if let Some(page) = uri.strip_prefix(PAGES) {
            let (server, rest) = page.split_once('/')?;
            return Some((server, Cow::Owned(format!("{PAGES}{rest}"))));
        }
        let (server, own) = uri.strip_prefix(RESOURCES)?.split_once('/')?;
        Some((server, Cow::Borrowed(own)))
    }

    /// The names of that server's things.
    pub fn of(&self, server: &ServerName) -> Alias {
        Alias {
            server: server.clone(),
            prefix: format!("{server}{}", self.separator).into(),
        }
    }
}

/// The names that the things of one server have among those of all servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alias {
    /// The server.
    pub server: ServerName,
    prefix: Arc<str>,
}

impl Alias {
    /// A tool or prompt, or the name of a resource.
    pub fn name(&self, own: &str) -> String {
        format!("{}{own}", self.prefix)
    }

    /// A resource or template.
    pub fn uri(&self, own: &str) -> String {
        match own.strip_prefix(PAGES) {
            Some(rest) => format!("{PAGES}{}/{rest}", self.server),
            None => format!("{RESOURCES}{}/{own}", self.server),
        }
    }

    /// The server's own URI of one of its resources.
    pub fn own_uri<'u>(&self, uri: &'u str) -> Option<Cow<'u, str>> {
        let (server, own) = Names::split_uri(uri)?;
        (server == self.server.as_str()).then_some(own)
    }
}
