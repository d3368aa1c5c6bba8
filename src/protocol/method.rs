//! The requests that clients make, in which revisions they are, and what may be done with them.

/// In which revisions a method is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// In all of them.
    Always,
    /// Up to 2025-11-25.
    UntilStateless,
    /// From 2026-07-28 on.
    Stateless,
}

/// The method of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Method {
    /// The method's name.
    pub name: &'static str,
    /// The revisions that have the method.
    pub since: Since,
    /// The parameter that the `Mcp-Name` header repeats (2026-07-28,
    /// basic/transports/streamable-http, "Standard Request Headers").
    pub named_by: Option<&'static str>,
    /// Whether the result says how long it may be kept (2026-07-28, server/utilities/caching).
    pub is_cacheable: bool,
    /// Whether the method only asks, or sets something to a value: after the death of the worker that had it, it can
    /// be sent to another. `tools/call` is not so by itself: a tool may do anything.
    pub may_repeat: bool,
}

const fn method(name: &'static str, since: Since) -> Method {
    Method {
        name,
        since,
        named_by: None,
        is_cacheable: false,
        may_repeat: false,
    }
}

impl Method {
    const fn named_by(mut self, parameter: &'static str) -> Self {
        self.named_by = Some(parameter);
        self
    }

    const fn cacheable(mut self) -> Self {
        self.is_cacheable = true;
        self
    }

    const fn repeatable(mut self) -> Self {
        self.may_repeat = true;
        self
    }

    /// Every method that a revision has, extensions aside.
    pub const ALL: &'static [Self] = &[
        method("initialize", Since::UntilStateless),
        method("ping", Since::UntilStateless),
        method("logging/setLevel", Since::UntilStateless).repeatable(),
        method("resources/subscribe", Since::UntilStateless).repeatable(),
        method("resources/unsubscribe", Since::UntilStateless).repeatable(),
        // Servers ask it; it was never for clients to ask.
        method("roots/list", Since::UntilStateless),
        method("server/discover", Since::Stateless),
        method("subscriptions/listen", Since::Stateless),
        method("tools/list", Since::Always).cacheable().repeatable(),
        method("tools/call", Since::Always).named_by("name"),
        method("prompts/list", Since::Always)
            .cacheable()
            .repeatable(),
        method("prompts/get", Since::Always)
            .named_by("name")
            .repeatable(),
        method("resources/list", Since::Always)
            .cacheable()
            .repeatable(),
        method("resources/templates/list", Since::Always)
            .cacheable()
            .repeatable(),
        method("resources/read", Since::Always)
            .named_by("uri")
            .cacheable()
            .repeatable(),
        method("completion/complete", Since::Always).repeatable(),
    ];

    /// What is known of the method of that name; `None` for one of an extension, or of nobody.
    pub fn of(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|method| method.name == name)
    }
}
