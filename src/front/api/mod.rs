//! What the front door offers beside MCP: configs under handles (`/v1/config`), authorisation upstream (`/v1/oauth`,
//! `/oauth`), and metadata for clients that look for an authorization server (`/.well-known`).
//!
//! Invariants: a secret that was stored is never told again; an answer that names a handle or a link is not cached.
//!
//! This module deliberately opens no session and wakes no worker.

pub(super) mod config_handles;
pub(super) mod oauth;
pub(super) mod well_known;
