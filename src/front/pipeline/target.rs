//! What a path names: a tenant, a server or all of them, and the transport that is spoken there.

use crate::ids::ServerName;
use crate::protocol::Failure;
use crate::routing::RuntimeConfig;
use crate::telemetry::RequestSpan;
use crate::tenancy::Principal;

/// The target of an MCP endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::front) enum Target<'a> {
    /// One server.
    Server(&'a str),
    /// All of them, as one.
    All,
}

/// The tenant and the target that the path of an endpoint names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::front) struct PathNames<'a> {
    /// `None`: the caller's own tenant.
    pub(in crate::front) tenant: Option<&'a str>,
    pub(in crate::front) target: Target<'a>,
}

impl<'a> PathNames<'a> {
    /// A path that names no tenant.
    pub(in crate::front) fn of_caller(target: Target<'a>) -> Self {
        Self {
            tenant: None,
            target,
        }
    }

    /// A path below `/t/{tenant}`.
    pub(in crate::front) fn of_tenant(tenant: &'a str, target: Target<'a>) -> Self {
        Self {
            tenant: Some(tenant),
            target,
        }
    }
}

impl Target<'_> {
    /// The server that is meant, for that caller.
    ///
    /// # Errors
    /// [`Reason::NotFound`](crate::protocol::Reason::NotFound) where there is none for the caller.
    pub(in crate::front) fn server(
        self,
        runtime: &RuntimeConfig,
        principal: &Principal,
    ) -> Result<ServerName, Failure> {
        let server = match self {
            Self::All => ServerName::all(),
            Self::Server(name) => runtime.server_for(principal, name)?,
        };
        RequestSpan::with_current(|span| span.is_for(&server));
        Ok(server)
    }
}

/// The transport of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::front) enum Transport {
    /// `…/mcp`: Streamable HTTP, and its stateless revision.
    StreamableHttp,
    /// `…/sse`: the stream of HTTP+SSE.
    SseStream,
    /// `…/messages`: what a client of HTTP+SSE sends.
    SseMessages,
}

impl Transport {
    /// At an endpoint with that path.
    pub(in crate::front) fn at(path: &str) -> Self {
        if path.ends_with("/sse") {
            Self::SseStream
        } else if path.ends_with("/messages") {
            Self::SseMessages
        } else {
            Self::StreamableHttp
        }
    }
}

/// The endpoint of the front door at that path, if its names need no decoding. `only_server` is at `/mcp`.
pub(in crate::front) fn endpoint_at<'a>(
    only_server: Option<&'a ServerName>,
    path: &'a str,
) -> Option<PathNames<'a>> {
    let found = endpoint_of(path)?;
    match (found.tenant, found.target, only_server) {
        (None, Target::All, Some(only)) => {
            Some(PathNames::of_caller(Target::Server(only.as_str())))
        }
        (Some(_), Target::All, Some(_)) => None,
        (_, Target::Server(_), _) | (_, Target::All, None) => Some(found),
    }
}

/// The tenant and what is offered at an MCP endpoint of Streamable HTTP. `None` for other paths, and
/// for names that have to be decoded first.
fn endpoint_of(path: &str) -> Option<PathNames<'_>> {
    let names = path.strip_suffix("/mcp")?;
    if names.is_empty() {
        return Some(PathNames::of_caller(Target::All));
    }
    let names = names.strip_prefix('/')?;
    let is_name = |name: &&str| !name.is_empty() && !name.contains(['%', '/']);
    match names.split_once('/') {
        None => Some(names)
            .filter(is_name)
            .map(|server| PathNames::of_caller(Target::Server(server))),
        Some(("t", names)) => {
            let (tenant, server) = match names.split_once('/') {
                None => (names, None),
                Some((tenant, server)) => (tenant, Some(server)),
            };
            let target = match server {
                None => Target::All,
                Some(server) => Target::Server(Some(server).filter(is_name)?),
            };
            let tenant = Some(tenant).filter(is_name)?;
            Some(PathNames::of_tenant(tenant, target))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_told_from_other_paths() {
        let server = Target::Server;
        for (path, expected) in [
            ("/mcp", Some((None, Target::All))),
            ("/demo/mcp", Some((None, server("demo")))),
            ("/mcp/mcp", Some((None, server("mcp")))),
            ("/t/mcp", Some((None, server("t")))),
            ("/t/acme/mcp", Some((Some("acme"), Target::All))),
            ("/t/acme/demo/mcp", Some((Some("acme"), server("demo")))),
            ("/t/t/t/mcp", Some((Some("t"), server("t")))),
            ("//mcp", None),
            ("/t//mcp", None),
            ("/t//demo/mcp", None),
            ("/t/acme//mcp", None),
            ("/x/demo/mcp", None),
            ("/t/acme/demo/more/mcp", None),
            ("/d%65mo/mcp", None),
            ("/t/%61cme/mcp", None),
            ("/demo/mcp/", None),
            ("/demo/sse", None),
            ("mcp", None),
            ("/", None),
        ] {
            let found = endpoint_of(path).map(|found| (found.tenant, found.target));
            assert_eq!(found, expected, "{path}");
        }
    }
}
