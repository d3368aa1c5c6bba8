//! The closed sets of label values. A metric's cardinality is the product of what stands here and
//! the number of configured servers, whatever traffic does. The admin API uses these words too.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `reason` of `worker_exits_total`.
pub use crate::protocol::ExitReason;

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($(#[$value_doc])* $variant,)* }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it stands in the exposition.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let known = Self::ALL.iter().copied().find(|value| value.as_str() == text);
                known.ok_or_else(|| D::Error::custom(format_args!(
                    concat!("`{}` is not a ", stringify!($name)), text
                )))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
    };
}

label! {
    /// `state` of `workers`: what a worker is doing now.
    WorkerState {
        /// Spawned, not yet initialised.
        Starting = "starting",
        /// Ready, and no tenant's yet.
        Spare = "spare",
        /// Ready, nothing in flight.
        Idle = "idle",
        /// Ready, nothing in flight, its memory paged out.
        Hibernated = "hibernated",
        /// Ready, with requests in flight.
        Busy = "busy",
        /// Finishes what is in flight and takes nothing new.
        Draining = "draining",
        /// Being stopped: stdin closed, then signals.
        Stopping = "stopping",
    }
}

label! {
    /// `outcome` of `worker_starts_total`.
    StartOutcome {
        /// The process completed its handshake.
        Ok = "ok",
        /// The process could not be created: command not found, no permission, no descriptors left.
        SpawnFailed = "spawn_failed",
        /// The process ended before it was ready.
        Exited = "exited",
        /// The process did not answer within `start_timeout`.
        Timeout = "timeout",
        /// The process answered `initialize` with an error, or with something that is no answer to it.
        Refused = "refused",
        /// Stopped by stdiopool while starting: drain, reload, or nobody waits any more.
        Cancelled = "cancelled",
        /// The process does not speak the protocol's era of its client: one that is spoken to in the other is started instead.
        Declined = "declined",
    }
}

label! {
    /// `outcome` of `package_installs_total`.
    InstallOutcome {
        /// The package was put into the package cache.
        Installed = "installed",
        /// The package was in the cache, or no newer version was found.
        Unchanged = "unchanged",
        /// The package cannot be had: the command is run as written, or in the version that is there.
        Failed = "install_failed",
    }
}

label! {
    /// `reason` of `trace_requests_dropped_total`.
    SpanDrop {
        /// As many as may wait to be exported did.
        QueueFull = "queue_full",
        /// The collector did not take them.
        ExportFailed = "export_failed",
    }
}

label! {
    /// `outcome` of `oauth_refreshes_total`.
    RefreshOutcome {
        /// Another access token is there.
        Refreshed = "refreshed",
        /// None could be had; it is tried again.
        Failed = "refresh_failed",
        /// The authorisation is over.
        Ended = "authorisation_ended",
    }
}

label! {
    /// `state` of `circuit_changes_total`: what the circuit of a server is from then on, for everyone, a tenant, or one
    /// configuration of a tenant.
    CircuitState {
        /// The server's starts fail: requests are refused until one is tried again.
        Open = "open",
        /// The server is started as usual.
        Closed = "closed",
    }
}

label! {
    /// `reason` of `evictions_total`: the limit that needed the room.
    EvictionReason {
        /// `pool.max_workers`.
        MaxWorkers = "max_workers",
        /// `pool.max_workers_per_tenant`, or the tenant's own `max_workers`.
        MaxWorkersPerTenant = "max_workers_per_tenant",
        /// A limit of the server.
        MaxWorkersPerServer = "max_workers_per_server",
        /// `pool.max_memory`.
        MaxMemory = "max_memory",
    }
}

label! {
    /// `era` of `sessions`.
    Era {
        /// Opened by `initialize`.
        Legacy = "legacy",
        /// Stateless revisions (2026-07-28 and later).
        Modern = "modern",
    }
}

label! {
    /// `outcome` of `requests_total`.
    Outcome {
        /// A result (a tool's own `isError` is a result).
        Ok = "ok",
        /// The worker answered with a JSON-RPC error.
        Error = "error",
        /// stdiopool answered with a failure of its own; `rejections_total` says which.
        Failed = "failed",
        /// The client cancelled, or went away before the answer.
        Cancelled = "cancelled",
    }
}

label! {
    /// `kind` of `worker_anomalies_total`: JSON a worker wrote that it should not have.
    Anomaly {
        /// An answer to a request nobody made.
        UnknownId = "unknown_id",
        /// Progress for a token that is not, or no longer, in use.
        UnknownToken = "unknown_token",
        /// A request or notification that no single session can have caused.
        Unattributable = "unattributable",
        /// A second answer to a request.
        DuplicateAnswer = "duplicate_answer",
        /// A message over the size limit; skipped.
        Oversized = "oversized",
    }
}

label! {
    /// `limit` of `worker_limits_reached_total`: what of its `limits` a worker reached.
    Limit {
        /// `limits.memory`.
        Memory = "limit_memory",
        /// `limits.pids`.
        Pids = "limit_pids",
        /// `limits.disk`.
        Disk = "limit_disk",
    }
}

label! {
    /// `kind` of `observed_total`: what a worker with `sandbox = "observe"` would be refused with "strict".
    Observed {
        /// Reading, listing or looking for what it would not find.
        Read = "read",
        /// Writing where it may not.
        Write = "write",
        /// A system call.
        Call = "call",
        /// Something of the host that no key gives it.
        Unavailable = "unavailable",
        /// Something of the worker that could not be looked at.
        Unread = "unread",
    }
}

label! {
    /// `outcome` of `worker_malformed_total`: what became of a worker's message that was off.
    Malformed {
        /// The message was clear in spite of its flaw.
        Taken = "taken",
        /// The request that it answers failed.
        Failed = "failed",
        /// The message may answer one of several requests, which were given a little longer.
        Suspected = "suspected",
        /// Nobody waited for it.
        Dropped = "dropped",
    }
}

label! {
    /// `reason` of `connections_closed_total`: why a client's connection could not stay.
    ConnectionEnd {
        /// The peer had as many connections as it may.
        Refused = "refused",
        /// The connection's slot was needed.
        Evicted = "evicted",
        /// The connection was idle, its head took too long, or its peer took nothing of what was written.
        TimedOut = "timed_out",
    }
}

label! {
    /// `reason` of `notifications_dropped_total`: why a client did not get one.
    DropReason {
        /// The session's queue is full: the client reads too slowly, or has no stream open.
        QueueFull = "queue_full",
        /// The session ended while it was on its way.
        SessionGone = "session_gone",
        /// The notification names no request and no session can be told to own it.
        Unroutable = "unroutable",
    }
}

label! {
    /// `outcome` of `egress_total`: what became of a worker's attempt to reach a host, where `network` has a list.
    EgressOutcome {
        /// The host was connected, until one of both ended that.
        Connected = "connected",
        /// A name that is not listed was looked up.
        RefusedName = "refused_name",
        /// A host that is listed, with other ports.
        RefusedPort = "refused_port",
        /// An address that is not listed.
        RefusedAddress = "refused_address",
        /// A name that leads to an internal address alone, or what stdiopool listens on.
        RefusedInternal = "refused_internal",
        /// By UDP.
        RefusedUdp = "refused_udp",
        /// The worker has as many connections, or names, as it may.
        Limited = "limited",
        /// The host's resolver knows no such name.
        Unresolved = "unresolved",
        /// The host did not take the connection.
        Unreachable = "unreachable",
    }
}

label! {
    /// `method` of the request metrics: the requests of MCP that a client makes.
    Method {
        /// `initialize`
        Initialize = "initialize",
        /// `ping`
        Ping = "ping",
        /// `tools/list`
        ToolsList = "tools/list",
        /// `tools/call`
        ToolsCall = "tools/call",
        /// `prompts/list`
        PromptsList = "prompts/list",
        /// `prompts/get`
        PromptsGet = "prompts/get",
        /// `resources/list`
        ResourcesList = "resources/list",
        /// `resources/templates/list`
        ResourcesTemplatesList = "resources/templates/list",
        /// `resources/read`
        ResourcesRead = "resources/read",
        /// `resources/subscribe`
        ResourcesSubscribe = "resources/subscribe",
        /// `resources/unsubscribe`
        ResourcesUnsubscribe = "resources/unsubscribe",
        /// `completion/complete`
        CompletionComplete = "completion/complete",
        /// `logging/setLevel`
        LoggingSetLevel = "logging/setLevel",
        /// `tasks/get`
        TasksGet = "tasks/get",
        /// `tasks/result`
        TasksResult = "tasks/result",
        /// `tasks/list`
        TasksList = "tasks/list",
        /// `tasks/cancel`
        TasksCancel = "tasks/cancel",
        /// `server/discover`
        ServerDiscover = "server/discover",
        /// `subscriptions/listen`
        SubscriptionsListen = "subscriptions/listen",
        /// Everything else, so that no text of a client becomes a label value.
        Other = "other",
    }
}

impl Method {
    /// The label of a method as it stands on the wire.
    pub fn of(method: &str) -> Self {
        Self::ALL
            .iter()
            .copied()
            .find(|known| known.as_str() == method)
            .unwrap_or(Self::Other)
    }

    /// Whether a server works for it, rather than telling what there is: what counts as a call for what a tenant uses.
    pub fn is_call(self) -> bool {
        matches!(
            self,
            Self::ToolsCall | Self::PromptsGet | Self::ResourcesRead | Self::CompletionComplete
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_known_by_its_wire_name_and_nothing_else_is_a_label() {
        for &method in Method::ALL {
            assert_eq!(Method::of(method.as_str()), method);
        }
        for strange in ["", "tools/call ", "TOOLS/CALL", "x\"y\n", "tools"] {
            assert_eq!(Method::of(strange), Method::Other, "{strange}");
        }
    }

    #[test]
    fn values_are_their_own_index() {
        for (at, &value) in Method::ALL.iter().enumerate() {
            assert_eq!(value as usize, at);
        }
        for (at, &value) in ExitReason::ALL.iter().enumerate() {
            assert_eq!(value as usize, at);
        }
    }
}
