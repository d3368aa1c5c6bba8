//! What a tenant's server tries against another tenant's, the guardian, the supervisor and what they keep: each attempt
//! is made for real, from inside a worker, and what it is after is there.

#[path = "../it/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the other integration tests, which use more of it"
)]
mod support;

mod egress;
mod files;
mod identity;
mod installs;
mod limits;
mod planted;
mod primed;
mod prober;
mod processes;
mod rootless;
mod sockets;
mod strict;
mod user;
