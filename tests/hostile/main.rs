//! What one tenant sends, or one server does, must not hurt another: hostile clients, tenants and
//! servers against the real binary, with another tenant's calls beside them.

#[path = "../it/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the other integration tests, which use more of it"
)]
mod support;

mod ambiguous_requests;
mod beside;
mod blame;
mod bodies;
mod bound;
mod bounds_table;
mod bytes;
mod ceiling;
mod connection_places;
mod connections;
mod endings;
mod ends;
mod envelope;
mod fairness;
mod fault_table;
mod fault_tests;
mod guardian;
mod held;
mod held_clock;
mod held_disk;
mod held_http2;
mod held_json;
mod held_jwt;
mod held_kills;
mod held_paths;
mod held_sessions;
mod held_states;
mod held_templates;
mod kept;
mod leftovers;
mod lines;
mod noise;
mod odd_pages;
mod ownership;
mod package_registries;
mod packages;
mod precedence;
mod raw_connections;
mod refusals;
mod request_ids;
mod requests;
mod side_by_side;
mod succession;
mod tables;
mod terminals;
mod untaken_bodies;
mod uploads;
mod wire;
